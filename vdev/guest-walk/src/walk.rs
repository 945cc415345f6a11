//! The walk.

use crate::{Access, Fault, FaultCode, Memory, Mode, Paging, Translation};
use x86_defs::control::{Cr0, Cr4};
use x86_defs::pte::PteFlags;

const PRESENT: u64 = PteFlags::PRESENT.bits();
const WRITABLE: u64 = PteFlags::WRITABLE.bits();
const USER: u64 = PteFlags::USER.bits();
const ACCESSED: u64 = PteFlags::ACCESSED.bits();
const DIRTY: u64 = PteFlags::DIRTY.bits();
const NO_EXECUTE: u64 = PteFlags::NO_EXECUTE.bits();

/// Most levels that there are.
pub(crate) const LEVELS: usize = 5;

/// An entry that was used.
#[derive(Clone, Copy, Default)]
struct Step {
    gpa: u64,
    entry: u64,
}

/// Rights that all entries on the way grant.
#[derive(Clone, Copy)]
struct Rights {
    writable: bool,
    user: bool,
    executable: bool,
}

impl Rights {
    const ALL: Rights = Rights { writable: true, user: true, executable: true };

    fn with(self, entry: u64, executable: bool) -> Rights {
        Rights {
            writable: self.writable && entry & WRITABLE != 0,
            user: self.user && entry & USER != 0,
            executable: self.executable && executable,
        }
    }

    /// Whether the CPU would let the access through (4.6).
    fn allow(self, mode: &Mode, access: Access) -> bool {
        if access.fetch && !self.executable {
            return false;
        }
        if access.user {
            return self.user && (self.writable || !access.write);
        }
        let guarded = if access.fetch {
            mode.cr4.contains(Cr4::SMEP)
        } else {
            mode.cr4.contains(Cr4::SMAP) && (access.implicit || !mode.alignment_check)
        };
        let protected = access.write && !self.writable && mode.cr0.contains(Cr0::WP);
        !(self.user && guarded || protected)
    }
}

/// The error code of an access, for a page that is not there.
fn code(mode: &Mode, access: Access) -> FaultCode {
    let mut code = FaultCode::empty();
    code.set(FaultCode::WRITE, access.write);
    code.set(FaultCode::USER, access.user);
    code.set(FaultCode::FETCH, access.fetch && (mode.no_execute() || mode.cr4.contains(Cr4::SMEP)));
    code
}

/// Translates a virtual address for an access, as the CPU would, and sets accessed and dirty bits on the way if it is
/// allowed. Addresses have 32 bits but in long mode; higher ones are cut off.
pub fn walk(memory: &dyn Memory, mode: &Mode, address: u64, access: Access) -> Result<Translation, Fault> {
    let Some(paging) = mode.paging() else {
        return Ok(Translation {
            gpa: address & 0xffff_ffff,
            page_bits: 12,
            writable: true,
            user: true,
            executable: true,
        });
    };
    let address = effective(paging, address)?;
    let mut steps = [Step::default(); LEVELS];
    let mut rights = Rights::ALL;
    let mut table = paging.root(mode.cr3);
    let mut level = paging.levels();
    let refused = code(mode, access);
    loop {
        let gpa = table + paging.slot(address, level) * u64::from(paging.width());
        let entry = memory.read(gpa, paging.width()).ok_or(Fault::NoMemory(gpa))?;
        if entry & PRESENT == 0 {
            return Err(Fault::Page(refused));
        }
        if paging.has_reserved(mode, level, entry) {
            return Err(Fault::Page(refused | FaultCode::PRESENT | FaultCode::RESERVED));
        }
        if paging.has_rights(level) {
            let executable = !mode.no_execute() || entry & NO_EXECUTE == 0;
            rights = rights.with(entry, executable);
            steps[usize::from(level) - 1] = Step { gpa, entry };
        }
        table = paging.target(mode, level, entry);
        if paging.is_page(mode, level, entry) {
            break;
        }
        level -= 1;
    }
    if !rights.allow(mode, access) {
        return Err(Fault::Page(refused | FaultCode::PRESENT));
    }
    note_use(memory, paging, &steps[usize::from(level) - 1..], access);
    let page_bits = paging.reach(level);
    Ok(Translation {
        gpa: table | address & ((1 << page_bits) - 1),
        page_bits,
        writable: rights.writable,
        user: rights.user,
        executable: rights.executable,
    })
}

/// The address as the CPU takes it: canonical in long mode, of 32 bits else.
fn effective(paging: Paging, address: u64) -> Result<u64, Fault> {
    let Paging::Long(levels) = paging else { return Ok(address & 0xffff_ffff) };
    let unused = 64 - paging.reach(levels + 1);
    let extended = ((address << unused) as i64 >> unused) as u64;
    if extended == address { Ok(address) } else { Err(Fault::NotCanonical) }
}

/// Sets accessed bits in the entries used, and the dirty bit in the page's, which is the first (4.8). An entry that has
/// changed since is left alone.
fn note_use(memory: &dyn Memory, paging: Paging, steps: &[Step], access: Access) {
    for (index, step) in steps.iter().enumerate() {
        let dirty = if access.write && index == 0 { DIRTY } else { 0 };
        let new = step.entry | ACCESSED | dirty;
        // Levels that are not there, or that have no such bits, were not noted.
        if step.entry != 0 && new != step.entry {
            memory.compare_exchange(step.gpa, paging.width(), step.entry, new);
        }
    }
}

/// Why [`for_each_piece`] stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stopped<E> {
    /// At this virtual address.
    Fault(u64, Fault),
    /// The visitor's error.
    Visitor(E),
}

/// Walks for every 4 KiB that `length` bytes at `address` touch, in order, and tells `visit` the guest-physical address of
/// each piece, its offset in the whole, and its length. Addresses wrap around, as the CPU's do.
pub fn for_each_piece<E>(
    memory: &dyn Memory,
    mode: &Mode,
    address: u64,
    length: usize,
    access: Access,
    mut visit: impl FnMut(u64, usize, usize) -> Result<(), E>,
) -> Result<(), Stopped<E>> {
    let mut done = 0;
    while done < length {
        let at = address.wrapping_add(done as u64);
        let piece = (length - done).min(4096 - (at & 4095) as usize);
        let found = walk(memory, mode, at, access).map_err(|fault| Stopped::Fault(at, fault))?;
        visit(found.gpa, done, piece).map_err(Stopped::Visitor)?;
        done += piece;
    }
    Ok(())
}
