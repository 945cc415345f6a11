//! The extended state of a vCPU: x87, SSE, AVX and beyond, in the standard form of XSAVE (SDM vol. 1, chapter 13). The
//! hypervisor itself never uses these registers: they hold the guest's values until somebody saves them.

use crate::area;
use crate::registers::{Gp, set_task_switched};
use alloc::vec::Vec;
use core::arch::asm;
use hal::cpu::cpuid;
use x86_defs::control::Xcr0;

/// States that a guest may use, where the CPU has them.
pub const SUPPORTED_XCR0: Xcr0 =
    Xcr0::X87.union(Xcr0::SSE).union(Xcr0::AVX).union(Xcr0::OPMASK).union(Xcr0::ZMM_HI256).union(Xcr0::HI16_ZMM);

/// Bytes of the area that FXSAVE writes.
const LEGACY: usize = 512;
/// Bytes of the header behind it.
const HEADER: usize = 64;
/// Offset and initial value of the x87 control word.
const FCW: (usize, u16) = (0, 0x37f);
/// Offset and initial value of MXCSR.
const MXCSR: (usize, u32) = (24, 0x1f80);

/// The image cannot be loaded: it has reserved bits or unknown states.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadImage;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Method {
    Fxsave,
    Xsave,
    Xsaveopt,
}

#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line(#[allow(dead_code, reason = "reached as bytes only")] [u8; 64]);

/// The extended state of one vCPU, in memory.
pub struct Xstate {
    lines: Vec<Line>,
    size: usize,
    method: Method,
}

/// Whether the CPU has XSAVE (CPUID 1, ecx bit 26).
pub fn has_xsave() -> bool {
    cpuid(1, 0).ecx >> 26 & 1 != 0
}

/// States that this CPU and the hypervisor know; empty without XSAVE.
pub fn host_xcr0() -> Xcr0 {
    if !has_xsave() {
        return Xcr0::empty();
    }
    let leaf = cpuid(0xd, 0);
    Xcr0::from_bits_retain(u64::from(leaf.edx) << 32 | u64::from(leaf.eax)) & SUPPORTED_XCR0
}

/// Bytes that an area with the states of `xcr0` takes in standard form.
pub fn xstate_size(xcr0: Xcr0) -> usize {
    let mut size = LEGACY + HEADER;
    for state in 2..63 {
        if xcr0.bits() >> state & 1 != 0 {
            let leaf = cpuid(0xd, state);
            size = size.max((leaf.ebx + leaf.eax) as usize);
        }
    }
    size
}

/// The largest XSAVE area is some 11 KiB; a CPU that claims more is not believed.
const MAX_SIZE: usize = 16384;

impl Xstate {
    /// The state after a reset. `None` if the heap is full.
    pub fn new() -> Option<Xstate> {
        let xcr0 = host_xcr0();
        let method = match (xcr0.is_empty(), cpuid(0xd, 1).eax & 1 != 0) {
            (true, _) => Method::Fxsave,
            (false, false) => Method::Xsave,
            (false, true) => Method::Xsaveopt,
        };
        let size = xstate_size(xcr0).min(MAX_SIZE);
        let count = size.div_ceil(64);
        let mut lines = Vec::new();
        lines.try_reserve_exact(count).ok()?;
        lines.resize(count, Line([0; 64]));
        let mut state = Xstate { lines, size, method };
        state.reset();
        Some(state)
    }

    /// Makes it the state after a reset.
    pub fn reset(&mut self) {
        self.lines.fill(Line([0; 64]));
        let bytes = self.bytes_mut();
        bytes[FCW.0..FCW.0 + 2].copy_from_slice(&FCW.1.to_le_bytes());
        bytes[MXCSR.0..MXCSR.0 + 4].copy_from_slice(&MXCSR.1.to_le_bytes());
    }

    /// The image: 512 bytes of FXSAVE, the header, then the states at their offsets of CPUID 0xd.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: `lines` holds at least `size` initialised bytes without padding.
        unsafe { core::slice::from_raw_parts(self.lines.as_ptr().cast(), self.size) }
    }

    /// The image, to be written. Whatever is written, [`Xstate::restore`] refuses it or it is harmless.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`; any byte is valid.
        unsafe { core::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.size) }
    }

    /// Saves this CPU's registers, those that XCR0 names. Clears CR0.TS.
    pub fn save(&mut self) {
        set_task_switched(false);
        let area = self.lines.as_mut_ptr();
        // SAFETY: the area is aligned to 64 and large enough for every state that XCR0 can name (`set_xcr0`); the instruction
        // exists, as `new` found.
        unsafe {
            match self.method {
                Method::Fxsave => asm!("fxsave64 [{}]", in(reg) area, options(nostack)),
                Method::Xsave => asm!("xsave64 [{}]", in(reg) area, in("eax") !0, in("edx") !0, options(nostack)),
                Method::Xsaveopt => asm!("xsaveopt64 [{}]", in(reg) area, in("eax") !0, in("edx") !0, options(nostack)),
            }
        }
    }

    /// Loads this CPU's registers, those that XCR0 names; `BadImage` if the CPU refuses, then the registers are unspecified.
    /// Clears CR0.TS.
    pub fn restore(&self) -> Result<(), BadImage> {
        set_task_switched(false);
        let area = self.lines.as_ptr();
        let failed = if self.method == Method::Fxsave { fxrstor(area) } else { xrstor(area) };
        if failed { Err(BadImage) } else { Ok(()) }
    }
}

macro_rules! restorer {
    ($name:ident, $instruction:literal) => {
        fn $name(area: *const Line) -> bool {
            let failed: u32;
            // SAFETY: the area is aligned and as long as an area gets; a fault is fixed up; the registers are the guest's.
            unsafe {
                asm!(
                    "xor {failed:e}, {failed:e}",
                    concat!("2: ", $instruction, " [{area}]"),
                    "3:",
                    ".pushsection .text.hal_cpu_fixup, \"ax\", @progbits",
                    "4: mov {failed:e}, 1",
                    "jmp 3b",
                    ".popsection",
                    crate::expect_fault!(),
                    failed = out(reg) failed,
                    area = in(reg) area,
                    inout("eax") !0 => _,
                    in("edx") !0,
                    options(nostack),
                );
            }
            failed != 0
        }
    };
}

restorer!(fxrstor, "fxrstor64");
restorer!(xrstor, "xrstor64");

/// Sets XCR0 on this CPU: which states [`Xstate::save`] and [`Xstate::restore`] cover, and which a guest may use. `Gp` where
/// the CPU refuses or a state is not in [`host_xcr0`]; without XSAVE it is always refused.
pub fn set_xcr0(value: Xcr0) -> Result<(), Gp> {
    let info = area::info();
    if info.xcr0.get() == value.bits() && !value.is_empty() {
        return Ok(());
    }
    if !info.xcr0_supported().contains(value) {
        return Err(Gp);
    }
    let failed: u32;
    // SAFETY: a fault is fixed up; the hypervisor uses none of the states, and all fit into an `Xstate`.
    unsafe {
        asm!(
            "2: xsetbv",
            "xor {failed:e}, {failed:e}",
            "3:",
            ".pushsection .text.hal_cpu_fixup, \"ax\", @progbits",
            "4: mov {failed:e}, 1",
            "jmp 3b",
            ".popsection",
            crate::expect_fault!(),
            failed = out(reg) failed,
            in("ecx") 0,
            inout("eax") value.bits() as u32 => _,
            in("edx") (value.bits() >> 32) as u32,
            options(nostack),
        );
    }
    if failed != 0 {
        return Err(Gp);
    }
    info.xcr0.set(value.bits());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_state_is_the_reset_state() {
        let mut state = Xstate::new().unwrap();
        assert!(state.bytes().len() >= LEGACY + HEADER);
        state.bytes_mut().fill(0xff);
        state.reset();
        assert_eq!(state.bytes()[..2], [0x7f, 3]);
        assert_eq!(state.bytes()[24..28], [0x80, 0x1f, 0, 0]);
        assert!(state.bytes()[28..].iter().all(|byte| *byte == 0));
        assert_eq!(state.bytes().as_ptr() as usize % 64, 0);
    }

    #[test]
    fn sizes_grow_with_states() {
        assert_eq!(xstate_size(Xcr0::X87 | Xcr0::SSE), 576);
        if host_xcr0().contains(Xcr0::AVX) {
            assert_eq!(xstate_size(Xcr0::X87 | Xcr0::SSE | Xcr0::AVX), 832);
        }
    }
}
