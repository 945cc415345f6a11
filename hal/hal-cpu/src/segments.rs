//! Data segments of guests: selectors, and the bases of FS and GS. None of them has a meaning for the hypervisor.

use crate::area;
use crate::registers::is_guest_address;
use core::arch::asm;
use hal::cpu;
use x86_defs::control::Cr4;
use x86_defs::descriptor::selector;
use x86_defs::msr;

/// Data segments of a vCPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SegmentState {
    /// Selector in DS.
    pub ds: u16,
    /// Selector in ES.
    pub es: u16,
    /// Selector in FS.
    pub fs: u16,
    /// Selector in GS.
    pub gs: u16,
    /// Base of FS.
    pub fs_base: u64,
    /// Base of GS, as the guest's present mode has it.
    pub gs_base: u64,
    /// The base that waits behind SWAPGS.
    pub gs_base_other: u64,
}

/// Selectors that could not be loaded; those registers hold 0 instead. At least one of them is true.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs, reason = "the names are the registers' names")]
pub struct SegmentFault {
    pub ds: bool,
    pub es: bool,
    pub fs: bool,
    pub gs: bool,
}

macro_rules! segment {
    ($load:ident, $read:ident, $register:literal) => {
        /// Loads the selector; on a fault loads 0 and returns true.
        #[inline]
        fn $load(selector: u16) -> bool {
            let failed: u32;
            // SAFETY: loading a data segment reads the descriptor tables only; a fault is fixed up. The hypervisor uses no data
            // segment.
            unsafe {
                asm!(
                    "xor {failed:e}, {failed:e}",
                    concat!("2: mov ", $register, ", {selector:e}"),
                    "3:",
                    ".pushsection .text.hal_cpu_fixup, \"ax\", @progbits",
                    "4: xor eax, eax",
                    concat!("mov ", $register, ", eax"),
                    "mov {failed:e}, 1",
                    "jmp 3b",
                    ".popsection",
                    crate::expect_fault!(),
                    failed = out(reg) failed,
                    selector = in(reg) u32::from(selector),
                    out("eax") _,
                    options(nostack),
                );
            }
            failed != 0
        }

        #[inline]
        fn $read() -> u16 {
            let selector: u32;
            // SAFETY: reads a register.
            unsafe {
                asm!(concat!("mov {:e}, ", $register), out(reg) selector, options(nomem, nostack, preserves_flags));
            }
            selector as u16
        }
    };
}

segment!(load_ds, read_ds, "ds");
segment!(load_es, read_es, "es");
segment!(load_fs, read_fs, "fs");
segment!(load_gs, read_gs, "gs");

/// Whether RDFSBASE and its like may be used now: CR4.FSGSBASE follows the guest.
#[inline]
fn has_fsgsbase() -> bool {
    area::info().cr4.get() & Cr4::FSGSBASE.bits() != 0
}

macro_rules! base {
    ($read:ident, $write:ident, $name:literal, $msr:expr, $rd:literal, $wr:literal) => {
        #[doc = concat!("Reads the base of ", $name, ".")]
        #[inline]
        pub fn $read() -> u64 {
            if has_fsgsbase() {
                let base;
                // SAFETY: CR4 allows the instruction, which reads a register.
                unsafe { asm!(concat!($rd, " {}"), out(reg) base, options(nomem, nostack, preserves_flags)) };
                base
            } else {
                // SAFETY: every 64-bit CPU has the register.
                unsafe { cpu::read_msr($msr) }
            }
        }

        #[doc = concat!("Sets the base of ", $name, "; an address that no guest may have becomes 0.")]
        #[inline]
        pub fn $write(base: u64) {
            let base = if is_guest_address(base) { base } else { 0 };
            // SAFETY: canonical, hence no fault; the hypervisor does not use the segment.
            unsafe {
                if has_fsgsbase() {
                    asm!(concat!($wr, " {}"), in(reg) base, options(nomem, nostack, preserves_flags));
                } else {
                    cpu::write_msr($msr, base);
                }
            }
        }
    };
}

base!(read_fs_base, write_fs_base, "FS", msr::FS_BASE, "rdfsbase", "wrfsbase");
base!(read_gs_base, write_gs_base, "GS", msr::GS_BASE, "rdgsbase", "wrgsbase");

/// Reads the base that waits behind SWAPGS.
pub fn read_gs_base_other() -> u64 {
    // SAFETY: every 64-bit CPU has the register.
    unsafe { cpu::read_msr(msr::KERNEL_GS_BASE) }
}

/// Sets the base that waits behind SWAPGS; an address that no guest may have becomes 0.
pub fn write_gs_base_other(base: u64) {
    let base = if is_guest_address(base) { base } else { 0 };
    // SAFETY: canonical, hence no fault; the hypervisor does not use it.
    unsafe { cpu::write_msr(msr::KERNEL_GS_BASE, base) };
}

/// Exchanges the base of GS with the one that waits behind it: a PV guest goes from one of its modes to the other.
#[inline]
pub fn swap_gs() {
    // SAFETY: the hypervisor uses neither.
    unsafe { asm!("swapgs", options(nomem, nostack, preserves_flags)) };
}

/// Selectors in ds, es, fs and gs.
#[inline]
pub fn read_selectors() -> [u16; 4] {
    [read_ds(), read_es(), read_fs(), read_gs()]
}

/// Loads a selector into GS, which also sets its base from the descriptor; `Err` if that faults: then GS holds 0.
pub fn load_gs_selector(selector: u16) -> Result<(), SegmentFault> {
    if load_gs(selector) { Err(SegmentFault { gs: true, ..SegmentFault::default() }) } else { Ok(()) }
}

/// Loads a selector into GS behind SWAPGS (`SEGBASE_GS_USER_SEL`, arch-x86/xen-x86_64.h): the base behind comes from its
/// descriptor, the present base stays. `Err` if that faults: then it is the null selector.
pub fn load_gs_selector_other(selector: u16) -> Result<(), SegmentFault> {
    swap_gs();
    let result = load_gs_selector(selector);
    swap_gs();
    result
}

/// Reads all data segments.
pub fn save_segments() -> SegmentState {
    let [ds, es, fs, gs] = read_selectors();
    SegmentState {
        ds,
        es,
        fs,
        gs,
        fs_base: read_fs_base(),
        gs_base: read_gs_base(),
        gs_base_other: read_gs_base_other(),
    }
}

/// Loads all data segments, bases last because a selector brings one of its own. The guest's descriptor tables and page
/// tables are loaded already. `Err` tells which selectors were replaced by 0; everything else is loaded even then.
pub fn load_segments(state: &SegmentState) -> Result<(), SegmentFault> {
    let mut fault = SegmentFault::default();
    // A null selector for a null selector changes nothing, and that is the usual case.
    if state.ds | read_ds() != 0 {
        fault.ds = load_ds(state.ds);
    }
    if state.es | read_es() != 0 {
        fault.es = load_es(state.es);
    }
    if state.fs | read_fs() != 0 {
        fault.fs = load_fs(state.fs);
    }
    if state.gs | read_gs() != 0 {
        fault.gs = load_gs(state.gs);
    }
    write_fs_base(if fault.fs { 0 } else { state.fs_base });
    write_gs_base(if fault.gs { 0 } else { state.gs_base });
    write_gs_base_other(state.gs_base_other);
    reload_ss();
    if fault == SegmentFault::default() { Ok(()) } else { Err(fault) }
}

/// Leaves nothing of a PV guest in the selectors that #VMEXIT loads from the descriptor tables again (APM vol. 2, 15.6): the guest
/// may change those tables meanwhile, and a fault there stops the machine.
pub(crate) fn drop_for_guest_mode() {
    if read_ds() != 0 {
        load_ds(0);
    }
    if read_es() != 0 {
        load_es(0);
    }
    reload_ss();
}

/// Leaves a usable segment in SS: after a trap it is null, from which AMD's SYSRET makes a segment that 32-bit code cannot
/// use (APM vol. 3, SYSRET: the attributes are not loaded).
fn reload_ss() {
    // SAFETY: the selector names the hypervisor's flat data segment in every GDT.
    unsafe {
        asm!("mov ss, {:e}", in(reg) u32::from(selector::HYPERVISOR_DS), options(nomem, nostack, preserves_flags))
    };
}
