//! Hardware task switches (SDM vol. 3, 7.3; APM vol. 2, 12.3), which CPUs leave to the hypervisor (APM vol. 2, 15.14.1).
//!
//! [`switch_task`] works on the registers that it is given, and reaches memory by [`TaskMemory`]. What goes wrong before the new
//! task's registers are loaded leaves all registers as they were; what goes wrong after that is the new task's fault.

mod cause;
mod image;
mod load;

pub use cause::{Cause, Delivered};

use super::state::{Segment, SegmentName, State};
use super::{Access, DescriptorTable, Result, Stop, address};
use cause::Faults;
use image::{Image, Layout};
use x86_defs::control::{Cr0, Efer, RFlags, Vector};
use x86_defs::descriptor::{Descriptor, selector};

/// Attempts at a switch while other CPUs change its descriptors.
const TRIES: u32 = 16;
/// Of a TSS's descriptor: its task runs, or waits for one that it has called.
const BUSY: u64 = 1 << 41;
/// Type of a 32-bit TSS without that, and of a 16-bit one; the types of those that are busy differ by one bit.
const TSS32: u8 = 9;
const TSS16: u8 = 1;
const BUSY_KIND: u8 = 2;
/// Type of a task gate.
const TASK_GATE: u8 = 5;
/// DR7.L0 to L3 and LE, which concern one task alone (SDM vol. 3, 17.2.4).
const LOCAL_BREAKPOINTS: u64 = 0x155;

/// Memory as a task switch reaches it. Addresses are linear and of 32 bits; ranges, of 104 bytes at most, may wrap around. No device
/// is asked: where there is no memory, all bits are set and nothing is written.
pub trait TaskMemory {
    /// Reads as the CPU reads its tables: as level 0, whatever code runs (SDM vol. 3, 4.6.1).
    ///
    /// # Errors
    /// A page fault for the first byte that cannot be accessed.
    fn read(&mut self, linear: u32, to: &mut [u8], access: Access) -> Result<()>;

    /// Writes likewise, all or nothing.
    ///
    /// # Errors
    /// As for [`TaskMemory::read`].
    fn write(&mut self, linear: u32, from: &[u8]) -> Result<()>;

    /// Replaces 8 bytes likewise if they still are `old`, in one step as far as other CPUs can see; says if they were.
    ///
    /// # Errors
    /// As for [`TaskMemory::read`].
    fn compare_exchange(&mut self, linear: u32, old: u64, new: u64) -> Result<bool>;

    /// Writes as code does that has these registers, all or nothing.
    ///
    /// # Errors
    /// As for [`TaskMemory::read`].
    fn push(&mut self, state: &State, linear: u32, from: &[u8]) -> Result<()>;

    /// Loads CR3: all that follows is in another address space.
    fn load_root(&mut self, root: u32);
}

/// The registers that a task switch sees and changes; of `state` all but CR4, EFER, and of CR0 all but TS.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Task {
    /// What code runs, and how.
    pub state: State,
    /// LDTR.
    pub ldtr: Segment,
    /// TR.
    pub tr: Segment,
    /// GDTR.
    pub gdtr: DescriptorTable,
    /// IDTR.
    pub idtr: DescriptorTable,
    /// DR7.
    pub dr7: u64,
}

/// A task switch that is to be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TaskSwitch {
    /// Selector of the new task's TSS.
    pub selector: u16,
    /// What leads to it.
    pub cause: Cause,
    /// What the new task finds on its stack.
    pub error_code: Option<u32>,
    /// RFLAGS.RF as the old task is to have it.
    pub resume_flag: bool,
}

/// What the caller does about a task switch that was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Switched {
    /// The guest gets #DB before the new task's first instruction, with DR6.BT: the TSS's flag T.
    pub is_trapped: bool,
}

/// Makes a task switch. `next` is where the old task goes on: behind the instruction for [`Cause::is_by_instruction`], else at it.
///
/// # Errors
/// The exception that the guest gets in place of the event that led here, if any: [`Cause::combined`] says what becomes of both. If
/// `task` is as before, it is the old task's. [`Stop::Crash`] if other CPUs do not leave the descriptors alone.
pub fn switch_task(task: &mut Task, next: u64, switch: &TaskSwitch, memory: &mut impl TaskMemory) -> Result<Switched> {
    // The CPU has no task switches elsewhere.
    if task.state.cr0 & Cr0::PE.bits() == 0 || task.state.efer & Efer::LMA.bits() != 0 {
        return Err(Stop::GP);
    }
    let faults = Faults::of(switch.cause);
    check_gate(task, switch.cause, faults, memory)?;
    for _ in 0..TRIES {
        let incoming = find(task, switch, faults, memory)?;
        let image = exchange(task, next, switch, &incoming, memory)?;
        if claim(task, switch, &incoming, memory)? {
            return enter(task, switch, &incoming, &image, memory);
        }
    }
    Err(Stop::Crash)
}

/// The new task's TSS.
struct Incoming {
    /// Where its descriptor is.
    at: u32,
    descriptor: Descriptor,
    segment: Segment,
    layout: Layout,
}

fn read_descriptor(memory: &mut impl TaskMemory, at: u32, access: Access) -> Result<Descriptor> {
    let mut bytes = [0; 8];
    memory.read(at, &mut bytes, access)?;
    Ok(Descriptor(u64::from_le_bytes(bytes)))
}

/// A segment register as a descriptor fills it.
fn filled(selector: u16, descriptor: Descriptor) -> Segment {
    let x86_defs::svm::Segment { attributes, limit, base, .. } = x86_defs::svm::Segment::of(selector, descriptor);
    Segment { selector, attributes: attributes.0, limit, base }
}

/// INT n, INT3 and INTO need the right to use the gate (SDM vol. 3, 7.3, step 2); no manual says that the CPU looks before it leaves
/// the task switch to the hypervisor. Whether CALL and JMP came by a gate is not told: those the CPU has checked.
fn check_gate(task: &Task, cause: Cause, faults: Faults, memory: &mut impl TaskMemory) -> Result<()> {
    let Cause::Event(Delivered::Software(vector)) = cause else { return Ok(()) };
    let offset = u32::from(vector) * 8;
    let refused = Err(faults.gate(vector));
    if offset + 7 > u32::from(task.idtr.limit) {
        return refused;
    }
    let gate = read_descriptor(memory, (task.idtr.base as u32).wrapping_add(offset), Access::Read)?;
    if gate.has(Descriptor::CODE_OR_DATA) || gate.kind() != TASK_GATE || gate.dpl() < task.state.level {
        return refused;
    }
    Ok(())
}

/// Looks the new task's TSS up (SDM vol. 3, table 7-1).
fn find(task: &Task, switch: &TaskSwitch, faults: Faults, memory: &mut impl TaskMemory) -> Result<Incoming> {
    let (wanted, returns) = (switch.selector, switch.cause == Cause::Iret);
    let invalid = faults.descriptor(if returns { Vector::INVALID_TSS } else { Vector::GENERAL_PROTECTION }, wanted);
    let offset = wanted & !7;
    let is_local = wanted & selector::TABLE_LDT != 0;
    if selector::is_null(wanted) || is_local || u32::from(offset) + 7 > u32::from(task.gdtr.limit) {
        return Err(invalid);
    }
    let at = (task.gdtr.base as u32).wrapping_add(offset.into());
    let descriptor = read_descriptor(memory, at, if returns { Access::Read } else { Access::Modify })?;
    let kind = if returns { descriptor.kind() ^ BUSY_KIND } else { descriptor.kind() };
    if descriptor.has(Descriptor::CODE_OR_DATA) || !matches!(kind, TSS16 | TSS32) {
        return Err(invalid);
    }
    if !descriptor.has(Descriptor::PRESENT) {
        return Err(faults.descriptor(Vector::SEGMENT_NOT_PRESENT, wanted));
    }
    let segment = filled(wanted, Descriptor(descriptor.0 | BUSY));
    let layout = Layout::of(&segment);
    if segment.limit < layout.last() {
        return Err(faults.descriptor(Vector::INVALID_TSS, wanted));
    }
    let leaving = Layout::of(&task.tr);
    if task.tr.limit < leaving.last_saved() {
        return Err(faults.descriptor(Vector::INVALID_TSS, task.tr.selector));
    }
    Ok(Incoming { at, descriptor, segment, layout })
}

/// Saves the old task's registers in its TSS, and gets those of the new task.
fn exchange(
    task: &Task,
    next: u64,
    switch: &TaskSwitch,
    incoming: &Incoming,
    memory: &mut impl TaskMemory,
) -> Result<Image> {
    if switch.cause.leaves_for_good() {
        // It will be written when nothing may go wrong any more.
        read_descriptor(memory, descriptor_of(task), Access::Modify)?;
    }
    let mut state = task.state;
    state.rip = next;
    state.flags &= !RFlags::RF.bits();
    if switch.resume_flag {
        state.flags |= RFlags::RF.bits();
    }
    if switch.cause == Cause::Iret {
        state.flags &= !RFlags::NT.bits();
    }
    Layout::of(&task.tr).save(task.tr.base as u32, &state, memory)?;
    let base = incoming.segment.base as u32;
    let image = incoming.layout.load(base, memory)?;
    if switch.cause.nests() {
        memory.write(base, &task.tr.selector.to_le_bytes())?;
    }
    Ok(image)
}

/// Where the descriptor of the task's own TSS is. As on a CPU, nobody asks whether the table still reaches there.
fn descriptor_of(task: &Task) -> u32 {
    (task.gdtr.base as u32).wrapping_add((task.tr.selector & !7).into())
}

/// Notes in the descriptors which task runs; false, and nothing has happened, if the new one's has changed.
fn claim(task: &Task, switch: &TaskSwitch, incoming: &Incoming, memory: &mut impl TaskMemory) -> Result<bool> {
    let Descriptor(old) = incoming.descriptor;
    if old & BUSY == 0 && !memory.compare_exchange(incoming.at, old, old | BUSY)? {
        return Ok(false);
    }
    if switch.cause.leaves_for_good() {
        load::update(memory, descriptor_of(task), |found| Ok(Descriptor(found.0 & !BUSY)))?;
    }
    Ok(true)
}

/// Has the new task run.
fn enter(
    task: &mut Task,
    switch: &TaskSwitch,
    incoming: &Incoming,
    image: &Image,
    memory: &mut impl TaskMemory,
) -> Result<Switched> {
    image.apply(&mut task.state);
    task.state.cr0 |= Cr0::TS.bits();
    if switch.cause.nests() {
        task.state.flags |= RFlags::NT.bits();
    }
    task.tr = incoming.segment;
    task.ldtr = Segment { selector: image.ldt, ..Segment::default() };
    task.dr7 &= !LOCAL_BREAKPOINTS;
    if let Some(root) = image.root.filter(|_| task.state.cr0 & Cr0::PG.bits() != 0) {
        memory.load_root(root);
    }
    let faults = Faults::of(switch.cause);
    load::segments(task, faults, memory)?;
    if let Some(code) = switch.error_code {
        push(&mut task.state, &code.to_le_bytes()[..incoming.layout.unit()], memory)
            .map_err(|stop| faults.with_source(stop))?;
    }
    Ok(Switched { is_trapped: image.is_trapped })
}

/// Pushes bytes onto the stack.
fn push(state: &mut State, bytes: &[u8], memory: &mut impl TaskMemory) -> Result<()> {
    const RSP: usize = 4;
    let mask = if state.segment(SegmentName::Ss).is_big() { u32::MAX } else { 0xffff };
    let (pointer, length) = (state.general[RSP] as u32, bytes.len() as u32);
    let offset = pointer.wrapping_sub(length) & mask;
    let linear = address::linear(state, SegmentName::Ss, offset.into(), length.into(), true)?;
    memory.push(state, linear as u32, bytes)?;
    state.general[RSP] = (pointer & !mask | offset).into();
    Ok(())
}
