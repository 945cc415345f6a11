//! Segments of the new task (SDM vol. 3, table 7-1; APM vol. 2, 8.2.11 to 8.2.13).

use super::cause::Faults;
use super::{TRIES, Task, TaskMemory, filled, read_descriptor};
use crate::hvm::state::{Segment, SegmentName};
use crate::hvm::{Access, Result, Stop};
use x86_defs::control::Vector;
use x86_defs::descriptor::{Descriptor, selector};

/// Type of a local descriptor table.
const LDT: u8 = 2;
/// Bits of the type of code and data: code; of code that it is conforming; of code that it can be read, of data that it can be
/// written.
const CODE: u8 = 8;
const CONFORMING: u8 = 4;
const ACCESSIBLE: u8 = 2;

/// Changes a descriptor, in one step as far as other CPUs can see; what it has become.
pub fn update(
    memory: &mut impl TaskMemory,
    at: u32,
    change: impl Fn(Descriptor) -> Result<Descriptor>,
) -> Result<Descriptor> {
    for _ in 0..TRIES {
        let old = read_descriptor(memory, at, Access::Read)?;
        let new = change(old)?;
        if new == old || memory.compare_exchange(at, old.0, new.0)? {
            return Ok(new);
        }
    }
    Err(Stop::Crash)
}

/// Loads LDTR and all segments by the selectors that the registers have, up to the first that cannot be. Virtual-8086 mode has
/// nothing to load but the former.
pub fn segments(task: &mut Task, faults: Faults, memory: &mut impl TaskMemory) -> Result<()> {
    use SegmentName::{Cs, Ds, Es, Fs, Gs, Ss};
    local_table(task, faults, memory)?;
    if task.state.is_virtual_8086() {
        return Ok(());
    }
    let level = (task.state.segment(Cs).selector & selector::RPL_MASK) as u8;
    for name in [Cs, Ss, Ds, Es, Fs, Gs] {
        let found = segment(task, name, level, faults, memory)?;
        task.state.segments[name as usize] = found;
        if name == Ss {
            task.state.level = level;
        }
    }
    Ok(())
}

/// Where the descriptor of a selector is, which is not null.
fn place(task: &Task, wanted: u16, invalid: Stop) -> Result<u32> {
    // Without a local table its limit is 0.
    let (base, limit) = if wanted & selector::TABLE_LDT == 0 {
        (task.gdtr.base, task.gdtr.limit.into())
    } else {
        (task.ldtr.base, task.ldtr.limit)
    };
    let offset = u32::from(wanted & !7);
    if offset + 7 > limit { Err(invalid) } else { Ok((base as u32).wrapping_add(offset)) }
}

fn local_table(task: &mut Task, faults: Faults, memory: &mut impl TaskMemory) -> Result<()> {
    let wanted = task.ldtr.selector;
    if selector::is_null(wanted) {
        return Ok(());
    }
    let invalid = faults.descriptor(Vector::INVALID_TSS, wanted);
    // A selector of a local table finds none yet.
    let descriptor = read_descriptor(memory, place(task, wanted, invalid)?, Access::Read)?;
    let is_table = !descriptor.has(Descriptor::CODE_OR_DATA) && descriptor.kind() == LDT;
    if !is_table || !descriptor.has(Descriptor::PRESENT) {
        return Err(invalid);
    }
    task.ldtr = filled(wanted, descriptor);
    Ok(())
}

fn segment(task: &Task, name: SegmentName, level: u8, faults: Faults, memory: &mut impl TaskMemory) -> Result<Segment> {
    let wanted = task.state.segment(name).selector;
    let invalid = faults.descriptor(Vector::INVALID_TSS, wanted);
    if selector::is_null(wanted) {
        let is_needed = matches!(name, SegmentName::Cs | SegmentName::Ss);
        return if is_needed { Err(invalid) } else { Ok(Segment { selector: wanted, ..Segment::default() }) };
    }
    let missing = if name == SegmentName::Ss { Vector::STACK_FAULT } else { Vector::SEGMENT_NOT_PRESENT };
    let descriptor = update(memory, place(task, wanted, invalid)?, |found| {
        if !is_fit(found, name, level, (wanted & selector::RPL_MASK) as u8) {
            Err(invalid)
        } else if !found.has(Descriptor::PRESENT) {
            Err(faults.descriptor(missing, wanted))
        } else {
            Ok(Descriptor(found.0 | Descriptor::ACCESSED))
        }
    })?;
    Ok(filled(wanted, descriptor))
}

/// Whether a segment register of code of `level` can have a descriptor, by a selector of level `requested`.
fn is_fit(descriptor: Descriptor, name: SegmentName, level: u8, requested: u8) -> bool {
    let (kind, dpl) = (descriptor.kind(), descriptor.dpl());
    let is_code = kind & CODE != 0;
    let is_conforming = is_code && kind & CONFORMING != 0;
    let is_accessible = kind & ACCESSIBLE != 0;
    descriptor.has(Descriptor::CODE_OR_DATA)
        && match name {
            SegmentName::Cs => is_code && if is_conforming { dpl <= level } else { dpl == level },
            SegmentName::Ss => !is_code && is_accessible && dpl == level && requested == level,
            _ => (!is_code || is_accessible) && (is_conforming || dpl >= level.max(requested)),
        }
}
