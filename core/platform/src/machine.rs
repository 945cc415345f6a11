//! What logic needs of a machine.

use core::sync::atomic::{AtomicU64, Ordering};
use types::{CpuId, DomId, Mfn, PAGE_SIZE, Result};

/// A frame seen as 512 words. Guests and page walkers change it at any time, hence the atomics. Smaller fields are reached
/// through the word that holds them: on x86 a locked access to a word is coherent with a guest's access to a part of it.
pub type Table = [AtomicU64; 512];

/// Frames that may be lent to guests: all RAM that the hypervisor did not keep for itself at boot. The set never changes, so
/// a frame reached here is never memory that backs a Rust object.
pub trait Frames {
    /// The frame as words; `None` if it is no RAM, or the hypervisor's own.
    fn table(&self, mfn: Mfn) -> Option<&Table>;

    /// Fills the frame with zeroes. False if it is no RAM, or the hypervisor's own.
    fn zero(&self, mfn: Mfn) -> bool {
        self.table(mfn).map(|table| table.iter().for_each(|word| word.store(0, Ordering::Relaxed))).is_some()
    }

    /// Copies `length` bytes from byte `from.1` of frame `from.0` to byte `to.1` of frame `to.0`. False, and nothing is copied, if a
    /// range leaves its frame, or a frame is no RAM or the hypervisor's own. Within one frame overlapping ranges give some mixture.
    fn copy_part(&self, from: (Mfn, usize), to: (Mfn, usize), length: usize) -> bool {
        let (Some(source), Some(target)) = (self.table(from.0), self.table(to.0)) else { return false };
        if !fits(from.1, length) || !fits(to.1, length) {
            return false;
        }
        let mut bytes = [0; PAGE_SIZE];
        read_bytes(source, from.1, &mut bytes[..length]);
        write_bytes(target, to.1, &bytes[..length]);
        true
    }
}

/// Whether `length` bytes from byte `offset` on are within a frame.
pub const fn fits(offset: usize, length: usize) -> bool {
    match offset.checked_add(length) {
        Some(end) => end <= PAGE_SIZE,
        None => false,
    }
}

/// Time that passes.
pub trait Clock {
    /// Nanoseconds since the machine was started (Xen's system time); never goes back.
    fn system_time(&self) -> u64;
}

/// The address space of the guest that is running now.
pub trait GuestMemory {
    /// Copies from the guest's address `address`; `EFAULT` if any byte is unmapped there or belongs to the hypervisor.
    fn copy_in(&self, address: u64, to: &mut [u8]) -> Result<()>;
    /// Copies to the guest's address `address`; `EFAULT` as above, or where a byte is not writable.
    fn copy_out(&self, address: u64, from: &[u8]) -> Result<()>;
    /// As `copy_in`, where the address is certain to be one of the address space that is loaded: in calls of a 64-bit PV guest, and in
    /// instructions of any PV guest.
    #[inline(always)]
    fn copy_in_loaded(&self, address: u64, to: &mut [u8]) -> Result<()> {
        self.copy_in(address, to)
    }
    /// As `copy_out`, for the same.
    #[inline(always)]
    fn copy_out_loaded(&self, address: u64, from: &[u8]) -> Result<()> {
        self.copy_out(address, from)
    }
    /// Whether these bytes may be a guest's at all, mapped or not: addresses that exist and are not the hypervisor's.
    fn is_guest_range(&self, address: u64, length: u64) -> bool;
}

/// Translations that CPUs have cached.
pub trait Tlb {
    /// Returns after every CPU that may hold translations of `domain` has dropped them.
    fn flush_domain(&self, domain: DomId);
    /// Returns after every CPU has dropped all guest translations.
    fn flush_all(&self);
}

/// Getting another CPU's attention.
pub trait Kick {
    /// Makes `cpu` leave its guest or its idle sleep soon and look at its pending work.
    fn kick(&self, cpu: CpuId);
}

/// Whether long work should be cut off.
pub trait Preempt {
    /// True if something more urgent waits for this CPU.
    fn should_yield(&self) -> bool;
}

/// Copies bytes out of a frame, from byte `offset` on. Each word is read at once; together they are no snapshot.
///
/// # Panics
/// If the range leaves the frame.
pub fn read_bytes(table: &Table, offset: usize, to: &mut [u8]) {
    for (index, byte) in to.iter_mut().enumerate() {
        let at = offset + index;
        *byte = table[at / 8].load(Ordering::Relaxed).to_le_bytes()[at % 8];
    }
}

/// Copies bytes into a frame, from byte `offset` on, leaving the bytes around them as they are.
///
/// # Panics
/// If the range leaves the frame.
pub fn write_bytes(table: &Table, offset: usize, from: &[u8]) {
    let mut at = offset;
    let mut rest = from;
    while !rest.is_empty() {
        let start = at % 8;
        let count = rest.len().min(8 - start);
        let (now, later) = rest.split_at(count);
        let mut value = [0; 8];
        let mut mask = [0; 8];
        value[start..start + count].copy_from_slice(now);
        mask[start..start + count].fill(0xff);
        let (value, mask) = (u64::from_le_bytes(value), u64::from_le_bytes(mask));
        if mask == !0 {
            table[at / 8].store(value, Ordering::Relaxed);
        } else {
            // The closure never declines, so the update cannot fail.
            let _ = table[at / 8].fetch_update(Ordering::Relaxed, Ordering::Relaxed, |old| Some(old & !mask | value));
        }
        at += count;
        rest = later;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fakes::FakeMachine;

    #[test]
    fn parts_of_frames_are_copied_exactly() {
        let bytes: Vec<u8> = (0..PAGE_SIZE).map(|at| (at * 7 + at / 256) as u8).collect();
        for (from, to, length) in
            [(0, 0, 4096), (3, 14, 1514), (14, 3, 7), (8, 16, 64), (4095, 0, 1), (0, 4096, 0), (5, 5, 4091)]
        {
            let machine = FakeMachine::new(3);
            write_bytes(machine.table(Mfn(1)).unwrap(), 0, &bytes);
            write_bytes(machine.table(Mfn(2)).unwrap(), 0, &[0xee; PAGE_SIZE]);
            assert!(machine.copy_part((Mfn(1), from), (Mfn(2), to), length));
            let mut wanted = vec![0xee; PAGE_SIZE];
            wanted[to..to + length].copy_from_slice(&bytes[from..from + length]);
            let mut got = vec![0; PAGE_SIZE];
            read_bytes(machine.table(Mfn(2)).unwrap(), 0, &mut got);
            assert_eq!(got, wanted, "{from} {to} {length}");
            for (from, to, length) in [(1, 0, 4096), (0, 4000, 97), (usize::MAX, 0, 2)] {
                assert!(!machine.copy_part((Mfn(1), from), (Mfn(2), to), length));
            }
            assert!(!machine.copy_part((Mfn(1), 0), (Mfn(9), 0), 1), "no such frame");
        }
    }
}
