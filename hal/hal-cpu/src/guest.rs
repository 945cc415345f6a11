//! Copies to and from the running guest's memory. Soundness: docs/soundness/hal-cpu.md.

use crate::registers::HOLE_END;
use core::arch::asm;
use core::sync::atomic::{AtomicBool, Ordering};
use platform::GuestMemory;
use types::{Errno, Result};

/// Whether CR4.SMAP is on, hence STAC and CLAC exist.
pub(crate) static SMAP: AtomicBool = AtomicBool::new(false);

/// Up to this many bytes, word by word; beyond, REP MOVSB, whose start costs more.
const SHORT: usize = 128;

/// The address space that is loaded on this CPU: that of the guest that runs here.
#[derive(Clone, Copy, Debug, Default)]
pub struct GuestSpace;

/// Whether `length` bytes from `address` on are canonical and outside the hypervisor's hole.
#[inline(always)]
const fn is_guest_range(address: u64, length: u64) -> bool {
    match address.checked_add(length) {
        Some(end) => end <= 1 << 47 || address >= HOLE_END,
        // Only the range that ends with the last byte of memory wraps to exactly 0.
        None => address >= HOLE_END && address.wrapping_add(length) == 0,
    }
}

/// While this lives, ring 0 may access user pages.
struct Access(bool);

impl Access {
    #[inline(always)]
    fn begin() -> Access {
        let smap = SMAP.load(Ordering::Relaxed);
        if smap {
            // SAFETY: the instruction exists where SMAP does. Rust never dereferences an address of a guest, so lifting the guard
            // only matters to the copies below.
            unsafe { asm!("stac", options(nostack)) };
        }
        Access(smap)
    }
}

impl Drop for Access {
    #[inline(always)]
    fn drop(&mut self) {
        if self.0 {
            // SAFETY: as for STAC.
            unsafe { asm!("clac", options(nostack)) };
        }
    }
}

/// A load or store that may fault: `failed` becomes 1 then.
macro_rules! guarded {
    ($instruction:literal, $failed:ident, $($operand:tt)*) => {
        asm!(
            concat!("2: ", $instruction),
            "3:",
            ".pushsection .text.hal_cpu_fixup, \"ax\", @progbits",
            "4: mov {failed:e}, 1",
            "jmp 3b",
            ".popsection",
            crate::expect_fault!(),
            failed = inout(reg) $failed,
            $($operand)*
            out("rax") _,
            options(nostack, preserves_flags),
        )
    };
}

/// Reads a word at an address in guest range.
#[inline(always)]
fn load64(address: u64, failed: &mut u32) -> u64 {
    load64_behind::<0>(address, failed)
}

/// Reads the word `BEHIND` bytes behind an address: many in a row need one register for their addresses.
#[inline(always)]
fn load64_behind<const BEHIND: usize>(address: u64, failed: &mut u32) -> u64 {
    let value: u64;
    let mut flag = *failed;
    // SAFETY: the caller has checked the range; a fault is fixed up, and whatever value there is then is of no use.
    unsafe {
        guarded!("mov {value}, [{address} + {behind}]", flag, value = out(reg) value, address = in(reg) address,
            behind = const BEHIND,)
    };
    *failed = flag;
    value
}

#[inline(always)]
fn load32(address: u64, failed: &mut u32) -> u32 {
    let value: u32;
    let mut flag = *failed;
    // SAFETY: as in `load64`.
    unsafe { guarded!("mov {value:e}, [{address}]", flag, value = out(reg) value, address = in(reg) address,) };
    *failed = flag;
    value
}

#[inline(always)]
fn load8(address: u64, failed: &mut u32) -> u8 {
    let value: u32;
    let mut flag = *failed;
    // SAFETY: as in `load64`.
    unsafe {
        guarded!("movzx {value:e}, byte ptr [{address}]", flag, value = out(reg) value, address = in(reg) address,)
    };
    *failed = flag;
    value as u8
}

/// Writes a word at an address in guest range.
#[inline(always)]
fn store64(address: u64, value: u64, failed: &mut u32) {
    store64_behind::<0>(address, value, failed);
}

/// Writes the word `BEHIND` bytes behind an address.
#[inline(always)]
fn store64_behind<const BEHIND: usize>(address: u64, value: u64, failed: &mut u32) {
    let mut flag = *failed;
    // SAFETY: the caller has checked the range, which never holds a Rust object; a fault is fixed up.
    unsafe {
        guarded!("mov [{address} + {behind}], {value}", flag, value = in(reg) value, address = in(reg) address,
            behind = const BEHIND,)
    };
    *failed = flag;
}

#[inline(always)]
fn store32(address: u64, value: u32, failed: &mut u32) {
    let mut flag = *failed;
    // SAFETY: as in `store64`.
    unsafe { guarded!("mov [{address}], {value:e}", flag, value = in(reg) value, address = in(reg) address,) };
    *failed = flag;
}

#[inline(always)]
fn store8(address: u64, value: u8, failed: &mut u32) {
    let mut flag = *failed;
    // SAFETY: as in `store64`.
    unsafe { guarded!("mov [{address}], {value}", flag, value = in(reg_byte) value, address = in(reg) address,) };
    *failed = flag;
}

#[inline(always)]
fn outcome(failed: u32) -> Result<()> {
    if failed == 0 { Ok(()) } else { Err(Errno::FAULT) }
}

/// REP MOVSB with a fault fixed up.
///
/// # Safety
/// One of the ranges is in guest range, the other one valid for the access.
#[inline(never)]
unsafe fn copy_long(to: u64, from: u64, count: usize) -> u32 {
    let mut failed = 0u32;
    // SAFETY: the caller's promise; the direction flag is clear in the hypervisor.
    unsafe { guarded!("rep movsb", failed, inout("rdi") to => _, inout("rsi") from => _, inout("rcx") count => _,) };
    failed
}

impl GuestMemory for GuestSpace {
    #[inline(always)]
    fn copy_in(&self, address: u64, mut to: &mut [u8]) -> Result<()> {
        let length = to.len();
        if !is_guest_range(address, length as u64) {
            return Err(Errno::FAULT);
        }
        let mut failed = 0;
        let _access = Access::begin();
        if to.len() > SHORT {
            // SAFETY: the source is guest range, the target is exclusive memory.
            failed = unsafe { copy_long(to.as_mut_ptr().expose_provenance() as u64, address, to.len()) };
            return outcome(failed);
        }
        if let (Some(last), 1..) = (to.len().checked_sub(8), to.len() % 8) {
            // The last word overlaps the one before.
            to[last..].copy_from_slice(&load64(address.wrapping_add(last as u64), &mut failed).to_le_bytes());
            to = &mut to[..length / 8 * 8];
        }
        let mut at = address;
        let mut blocks = to.chunks_exact_mut(32);
        for words in &mut blocks {
            words[..8].copy_from_slice(&load64_behind::<0>(at, &mut failed).to_le_bytes());
            words[8..16].copy_from_slice(&load64_behind::<8>(at, &mut failed).to_le_bytes());
            words[16..24].copy_from_slice(&load64_behind::<16>(at, &mut failed).to_le_bytes());
            words[24..].copy_from_slice(&load64_behind::<24>(at, &mut failed).to_le_bytes());
            at = at.wrapping_add(32);
        }
        let mut words = blocks.into_remainder().chunks_exact_mut(8);
        for word in &mut words {
            word.copy_from_slice(&load64(at, &mut failed).to_le_bytes());
            at = at.wrapping_add(8);
        }
        let rest = words.into_remainder();
        let (half, bytes) = rest.split_at_mut(rest.len() & 4);
        if !half.is_empty() {
            half.copy_from_slice(&load32(at, &mut failed).to_le_bytes());
            at = at.wrapping_add(4);
        }
        for byte in bytes {
            *byte = load8(at, &mut failed);
            at = at.wrapping_add(1);
        }
        outcome(failed)
    }

    #[inline(always)]
    fn copy_out(&self, address: u64, mut from: &[u8]) -> Result<()> {
        if !is_guest_range(address, from.len() as u64) {
            return Err(Errno::FAULT);
        }
        let mut failed = 0;
        let _access = Access::begin();
        if from.len() > SHORT {
            // SAFETY: the target is guest range, the source is memory that is only read.
            failed = unsafe { copy_long(address, from.as_ptr().expose_provenance() as u64, from.len()) };
            return outcome(failed);
        }
        let mut at = address;
        let value = |word: &[u8]| {
            let mut value = [0; 8];
            value.copy_from_slice(word);
            u64::from_le_bytes(value)
        };
        while let Some((words, rest)) = from.split_first_chunk::<32>() {
            store64_behind::<0>(at, value(&words[..8]), &mut failed);
            store64_behind::<8>(at, value(&words[8..16]), &mut failed);
            store64_behind::<16>(at, value(&words[16..24]), &mut failed);
            store64_behind::<24>(at, value(&words[24..]), &mut failed);
            (at, from) = (at.wrapping_add(32), rest);
        }
        let words = from.chunks_exact(8);
        let mut rest = words.remainder();
        for word in words {
            store64(at, value(word), &mut failed);
            at = at.wrapping_add(8);
        }
        if let Some((half, bytes)) = rest.split_first_chunk() {
            store32(at, u32::from_le_bytes(*half), &mut failed);
            at = at.wrapping_add(4);
            rest = bytes;
        }
        for byte in rest {
            store8(at, *byte, &mut failed);
            at = at.wrapping_add(1);
        }
        outcome(failed)
    }

    #[inline]
    fn is_guest_range(&self, address: u64, length: u64) -> bool {
        is_guest_range(address, length)
    }
}

impl GuestSpace {
    /// Reads one word; `EFAULT` as for copies.
    #[inline]
    pub fn read_u64(&self, address: u64) -> Result<u64> {
        if !is_guest_range(address, 8) {
            return Err(Errno::FAULT);
        }
        let mut failed = 0;
        let _access = Access::begin();
        let value = load64(address, &mut failed);
        outcome(failed).map(|()| value)
    }

    /// Writes one word; `EFAULT` as for copies.
    #[inline]
    pub fn write_u64(&self, address: u64, value: u64) -> Result<()> {
        if !is_guest_range(address, 8) {
            return Err(Errno::FAULT);
        }
        let mut failed = 0;
        let _access = Access::begin();
        store64(address, value, &mut failed);
        outcome(failed)
    }

    /// Exchanges the aligned word at `address` for `new` if it is `old`. Gives the word that was there: equal to `old` means
    /// that it was exchanged. `EINVAL` if `address` is not a multiple of 8, `EFAULT` as for copies.
    #[inline]
    pub fn compare_exchange(&self, address: u64, old: u64, new: u64) -> Result<u64> {
        if address % 8 != 0 {
            return Err(Errno::INVAL);
        }
        if !is_guest_range(address, 8) {
            return Err(Errno::FAULT);
        }
        let mut failed = 0u32;
        let found: u64;
        let _access = Access::begin();
        // SAFETY: in guest range, where no Rust object lives; a fault is fixed up, and clobbers rax, which is discarded then.
        unsafe {
            asm!(
                "2: lock cmpxchg [{address}], {new}",
                "3:",
                ".pushsection .text.hal_cpu_fixup, \"ax\", @progbits",
                "4: mov {failed:e}, 1",
                "jmp 3b",
                ".popsection",
                crate::expect_fault!(),
                failed = inout(reg) failed,
                address = in(reg) address,
                new = in(reg) new,
                inout("rax") old => found,
                options(nostack),
            );
        }
        outcome(failed).map(|()| found)
    }

    /// Whether the byte at `address` can be read, or with `write` written, by the hypervisor on the guest's behalf. The byte
    /// stays as it is.
    pub fn probe(&self, address: u64, write: bool) -> bool {
        if !is_guest_range(address, 1) {
            return false;
        }
        let mut failed = 0u32;
        let _access = Access::begin();
        if write {
            // SAFETY: a locked addition of 0 changes nothing, whatever else accesses the byte; a fault is fixed up.
            unsafe {
                asm!(
                    "2: lock add byte ptr [{address}], 0",
                    "3:",
                    ".pushsection .text.hal_cpu_fixup, \"ax\", @progbits",
                    "4: mov {failed:e}, 1",
                    "jmp 3b",
                    ".popsection",
                    crate::expect_fault!(),
                    failed = inout(reg) failed,
                    address = in(reg) address,
                    out("rax") _,
                    options(nostack),
                );
            }
        } else {
            load8(address, &mut failed);
        }
        failed == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registers::HOLE_START;

    #[test]
    fn ranges() {
        for (address, length) in
            [(0, 0), (0, 4096), ((1 << 47) - 8, 8), (HOLE_END, 8), (u64::MAX - 7, 8), (u64::MAX, 1), (HOLE_END, 0)]
        {
            assert!(is_guest_range(address, length), "{address:#x} {length}");
        }
        for (address, length) in [
            ((1 << 47) - 7, 8),
            (HOLE_START, 1),
            (HOLE_END - 1, 8),
            (u64::MAX - 6, 8),
            (1 << 47, 1),
            (0, u64::MAX),
            (HOLE_END, u64::MAX),
            (0xffff_7fff_ffff_f000, 1),
        ] {
            assert!(!is_guest_range(address, length), "{address:#x} {length}");
        }
    }

    /// A process's own memory is in guest range, so copies work on a desk as long as nothing faults.
    #[test]
    fn copies_of_all_lengths() {
        let source: Vec<u8> = (0..=255).collect();
        for length in 0..200 {
            let mut target = [0xee; 256];
            GuestSpace.copy_in(source[3..].as_ptr() as u64, &mut target[..length]).unwrap();
            assert_eq!(target[..length], source[3..3 + length]);
            assert!(target[length..].iter().all(|byte| *byte == 0xee));
            let mut out = [0xee; 256];
            GuestSpace.copy_out(out[1..].as_mut_ptr() as u64, &source[..length]).unwrap();
            assert_eq!(out[1..1 + length], source[..length]);
            assert_eq!((out[0], out[1 + length]), (0xee, 0xee));
        }
    }

    #[test]
    fn words_and_exchanges() {
        let mut word = 5u64;
        let address = (&raw mut word) as u64;
        assert_eq!(GuestSpace.read_u64(address), Ok(5));
        assert_eq!(GuestSpace.compare_exchange(address, 4, 6), Ok(5));
        assert_eq!(GuestSpace.compare_exchange(address, 5, 6), Ok(5));
        assert_eq!(GuestSpace.compare_exchange(address + 1, 5, 6), Err(Errno::INVAL));
        assert!(GuestSpace.probe(address, false) && GuestSpace.probe(address, true));
        assert!(!GuestSpace.probe(HOLE_START, false));
        assert_eq!(GuestSpace.read_u64(HOLE_START), Err(Errno::FAULT));
    }
}
