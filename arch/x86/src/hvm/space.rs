//! The memory of an HVM guest: by guest-physical address, and by its own virtual ones.

use super::engine::Control;
use crate::machine::X86;
use alloc::sync::Arc;
use core::sync::atomic::{
    AtomicU64,
    Ordering::{Relaxed, SeqCst},
};
use domain::Domain;
use guest_walk::{Access, Fault, Mode, for_each_piece};
use p2m::{Entry, Type};
use platform::Frames;
use types::{Errno, Gfn, PAGE_SIZE, Result};
use x86_defs::control::{Cr0, Cr4, Efer, RFlags};
use x86_defs::pte::{ADDRESS_MASK, PteFlags};

const OFFSET: u64 = PAGE_SIZE as u64 - 1;

/// There is no memory at an address, or none that can be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hole;

/// A guest's physical memory.
///
/// No reference is taken of a frame that is accessed: it is put only after this CPU, which has the domain loaded, has answered a
/// flush, and it answers none between look-up and access.
#[derive(Clone, Copy)]
pub struct Physical<'a> {
    /// The machine.
    pub machine: &'a X86,
    /// Whose memory it is.
    pub domain: &'a Domain<X86>,
}

impl Physical<'_> {
    /// What is at an address, after it was populated if it is to be on demand.
    pub fn entry(&self, gpa: u64) -> Entry {
        self.domain.entry(gpa / PAGE_SIZE as u64, self.machine).unwrap_or(Entry::hole(0))
    }

    /// The machine address behind an address.
    fn machine_address(&self, gpa: u64, write: bool) -> core::result::Result<u64, Hole> {
        let entry = self.entry(gpa);
        if write && entry.ty == Type::RamLogdirty {
            self.domain.note_write(Gfn(gpa / PAGE_SIZE as u64));
        }
        let usable = match entry.ty {
            Type::RamRw | Type::RamLogdirty | Type::GrantMapRw | Type::MapForeign => true,
            Type::RamRo | Type::GrantMapRo | Type::IoreqServer => !write,
            _ => false,
        };
        if usable { Ok(entry.mfn.address() | gpa & OFFSET) } else { Err(Hole) }
    }

    /// Reads bytes of one page.
    pub fn read(&self, gpa: u64, to: &mut [u8]) -> core::result::Result<(), Hole> {
        let address = self.machine_address(gpa, false)?;
        self.machine.lendable().read(address, to).map_err(|_| Hole)
    }

    /// Logs the entries that a CPU in 64-bit mode finds on its way to an address, and where they are: when a guest has ended by
    /// faults that its own handlers cannot be reached for.
    pub fn log_walk(&self, root: u64, address: u64) {
        let mut table = root & ADDRESS_MASK;
        for level in (1..=4).rev() {
            let at = table | (address >> (3 + 9 * level) & 0x1ff) << 3;
            let (mut bytes, place) = ([0; 8], self.entry(at));
            let read = self.read(at, &mut bytes);
            let entry = u64::from_le_bytes(bytes);
            let (id, ty, mfn) = (self.domain.id, place.ty, place.mfn.0);
            log::error!("{id}: {address:#x} level {level}: {entry:#x} at {at:#x} ({ty:?}, frame {mfn:#x}, {read:?})");
            let flags = PteFlags::from_bits_truncate(entry);
            if !flags.contains(PteFlags::PRESENT) || flags.contains(PteFlags::LARGE_OR_PAT) {
                return;
            }
            table = entry & ADDRESS_MASK;
        }
    }

    /// Writes bytes of one page.
    pub fn write(&self, gpa: u64, from: &[u8]) -> core::result::Result<(), Hole> {
        let address = self.machine_address(gpa, true)?;
        self.machine.lendable().write(address, from).map_err(|_| Hole)
    }

    /// Replaces 1 to 8 aligned bytes if they are `old`, in one step; whether they were.
    pub fn compare_exchange(&self, gpa: u64, bytes: usize, old: u64, new: u64) -> core::result::Result<bool, Hole> {
        let address = self.machine_address(gpa, true)?;
        let table = self.machine.table(types::Mfn::containing(address)).ok_or(Hole)?;
        let word = &table[(address & OFFSET) as usize / 8];
        Ok(replace(word, (address % 8) as u32 * 8, bytes, old, new))
    }
}

/// Replaces `bytes` of a word, `shift` bits from its start, if they are `old`; whether they were.
fn replace(word: &AtomicU64, shift: u32, bytes: usize, old: u64, new: u64) -> bool {
    let mask = (!0 >> (64 - 8 * bytes as u32)) << shift;
    let (old, new) = (old << shift & mask, new << shift & mask);
    let exchange = |whole: u64| (whole & mask == old).then_some(whole & !mask | new);
    word.fetch_update(SeqCst, SeqCst, exchange).is_ok()
}

impl guest_walk::Memory for Physical<'_> {
    fn read(&self, gpa: u64, width: u8) -> Option<u64> {
        let mut bytes = [0; 8];
        Physical::read(self, gpa, bytes.get_mut(..usize::from(width))?).ok()?;
        Some(u64::from_le_bytes(bytes))
    }

    fn compare_exchange(&self, gpa: u64, width: u8, old: u64, new: u64) {
        // Where the guest has changed the entry meanwhile, its CPU would walk again, and find it so.
        let _ = Physical::compare_exchange(self, gpa, width.into(), old, new);
    }
}

impl guest_walk::Places for Physical<'_> {
    fn stamp(&self) -> u32 {
        // A frame goes from where it was, and is put, only after a flush, and that is counted before this CPU is asked to answer.
        self.machine.flushes_of(self.domain.id)
    }

    fn place(&self, gpa: u64) -> Option<u64> {
        self.machine_address(gpa, false).ok()
    }

    #[inline]
    fn load(&self, place: u64, width: u8) -> Option<u64> {
        let table = self.machine.table(types::Mfn::containing(place))?;
        let word = table[(place & OFFSET) as usize / 8].load(Relaxed);
        Some(if width == 8 { word } else { word >> (place % 8 * 8) & 0xffff_ffff })
    }
}

/// How addresses are translated with these registers.
pub fn mode(machine: &X86, control: &Control, flags: u64) -> Mode {
    Mode {
        cr0: Cr0::from_bits_retain(control.cr0),
        cr4: Cr4::from_bits_retain(control.cr4),
        efer: Efer::from_bits_retain(control.efer),
        cr3: control.cr3,
        alignment_check: flags & RFlags::AC.bits() != 0,
        address_bits: machine.address_bits(),
        pse36: true,
        gib_pages: true,
    }
}

/// The address space of a guest whose call is carried out.
pub struct Space {
    /// The guest.
    pub domain: Arc<Domain<X86>>,
    /// Its address space.
    pub mode: Mode,
}

impl Space {
    /// Visits the pieces of a range, by guest-physical address.
    fn each(
        &self,
        machine: &X86,
        (address, length): (u64, usize),
        access: Access,
        mut visit: impl FnMut(Physical<'_>, u64, usize, usize) -> core::result::Result<(), Hole>,
    ) -> Result<()> {
        let memory = Physical { machine, domain: &self.domain };
        let piece = |gpa, offset, length| visit(memory, gpa, offset, length);
        for_each_piece(&memory, &self.mode, address, length, access, piece).map_err(|_| Errno::FAULT)
    }

    /// Copies from its kernel's addresses.
    ///
    /// # Errors
    /// `EFAULT`.
    pub fn copy_in(&self, machine: &X86, address: u64, to: &mut [u8]) -> Result<()> {
        let range = (address, to.len());
        self.each(machine, range, Access::READ, |memory, gpa, at, length| memory.read(gpa, &mut to[at..at + length]))
    }

    /// Copies to its kernel's addresses.
    ///
    /// # Errors
    /// `EFAULT`.
    pub fn copy_out(&self, machine: &X86, address: u64, from: &[u8]) -> Result<()> {
        let range = (address, from.len());
        self.each(machine, range, Access::WRITE, |memory, gpa, at, length| memory.write(gpa, &from[at..at + length]))
    }
}

/// The exception of a walk: a page fault, or what an address that is none gives.
pub fn exception(address: u64, fault: Fault) -> x86_emulate::hvm::Stop {
    use x86_emulate::hvm::Stop;
    match fault {
        Fault::Page(code) => Stop::PageFault { address, error_code: code.bits() },
        Fault::NotCanonical => Stop::GP,
        // The CPU would have read all ones, and so bits that must be 0.
        Fault::NoMemory(_) => Stop::PageFault { address, error_code: 9 },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_words_are_replaced_alone() {
        let word = AtomicU64::new(0x8877_6655_4433_2211);
        assert!(!replace(&word, 16, 2, 0x1111, 0xffff));
        assert!(replace(&word, 16, 2, 0x4433, 0xabcd));
        assert!(replace(&word, 32, 4, 0x8877_6655, 1));
        assert_eq!(word.load(SeqCst), 0x0000_0001_abcd_2211);
        assert!(replace(&word, 0, 8, 0x0000_0001_abcd_2211, 5));
        assert_eq!(word.load(SeqCst), 5);
    }
}
