//! Guests in AMD-V's guest mode with nested paging (APM vol. 2, chapter 15). Soundness: docs/soundness/svm.md.
//!
//! Start-up, on each CPU: [`enable`]. To make a vCPU: [`MsrMap::new`] and [`PortMap::new`], [`Vmcb::new`],
//! [`Vmcb::set_nested_root`], [`Vmcb::set_intercepts`], its first state by [`Vmcb::state_mut`]. To run it on a CPU: the
//! hypervisor's own root table ([`crate::load_hypervisor_root`]) and no descriptor frames ([`crate::set_guest_gdt`] with none),
//! [`crate::set_tsc_aux`], [`crate::load_debug_addresses`], [`crate::set_xcr0`] for all that the guest has,
//! [`crate::Xstate::restore`], [`crate::set_xcr0`] for what it has enabled; then [`enter_hvm`] in a loop. To take it off: the same
//! backwards, [`crate::Xstate::save`] and [`crate::take_debug_status`]. FS, GS, TR, LDTR and the MSRs of SYSCALL and SYSENTER
//! need nothing: they are in the control block whenever the guest does not run. Whatever the guest does with XCR0 comes as an
//! exit.
//!
//! When nested tables lose a translation, each CPU that may have run the guest calls [`forget_translations`] before the frame
//! is used anew.

mod asid;
mod enter;
mod maps;
mod vmcb;

pub use enter::{HvmExit, enter_hvm};
pub use maps::{MsrMap, PortMap};
pub use vmcb::{MANDATORY, USUAL, Vmcb};

use crate::area::PerCpu;
use crate::registers::{read_msr, write_msr};
use alloc::boxed::Box;
use asid::Asids;
use core::cell::{Cell, OnceCell};
use hal::cpu::cpuid;
use hal::paging;
use x86_defs::control::Efer;
use x86_defs::msr;
use x86_defs::svm::{CPUID_LEAF, CPUID_SVM, Features, VmCr, VmcbPage};
use zerocopy::FromZeros;

/// Why a CPU cannot run such guests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unavailable {
    /// The CPU has no SVM.
    Missing,
    /// The firmware has switched it off (VM_CR.SVMDIS).
    Disabled,
    /// There is no nested paging.
    NoNestedPaging,
    /// There is no ASID for guests.
    NoAsids,
    /// The heap is full.
    NoMemory,
}

/// What one CPU has for its guests.
pub(crate) struct CpuState {
    /// Physical address of the control block that holds the hypervisor's own part of what VMLOAD loads.
    host: u64,
    features: Features,
    /// Whether it delivers an interrupt that is injected again, as an exception and whatever the guest's flags, where it happens to
    /// pause before the next exit: QEMU's emulated CPU (10.0, helper_vmrun in target/i386/tcg/system/svm_helper.c, which leaves the
    /// vector in `exception_index`). Where instructions are counted it pauses at each expiry of a timer.
    repeats_interrupts: bool,
    asids: Cell<Asids>,
}

static STATE: PerCpu<OnceCell<CpuState>> = crate::per_cpu!(OnceCell::new());

/// The licence to run guests on this CPU: there is one only where SVM is on. It cannot leave the CPU.
#[derive(Clone, Copy)]
pub struct Svm {
    state: &'static CpuState,
}

impl Svm {
    /// What the CPU's SVM can do.
    pub fn features(self) -> Features {
        self.state.features
    }
}

/// This CPU's licence, once [`enable`] has succeeded on it.
pub fn current() -> Option<Svm> {
    STATE.get().get().map(|state| Svm { state })
}

/// What the CPU says of SVM, and how many ASIDs it has.
fn examine() -> Result<(Features, u32), Unavailable> {
    let last = cpuid(0x8000_0000, 0).eax;
    if last < CPUID_LEAF || cpuid(0x8000_0001, 0).ecx & CPUID_SVM == 0 {
        return Err(Unavailable::Missing);
    }
    let leaf = cpuid(CPUID_LEAF, 0);
    let features = Features::from_bits_retain(leaf.edx);
    if !features.contains(Features::NESTED_PAGING) {
        return Err(Unavailable::NoNestedPaging);
    }
    if leaf.ebx < 2 {
        return Err(Unavailable::NoAsids);
    }
    Ok((features, leaf.ebx))
}

/// Whether the CPU is QEMU's emulation, by the leaf in which hypervisors and emulators sign.
fn is_emulated() -> bool {
    const PRESENT: u32 = 1 << 31;
    let signature = cpuid(0x4000_0000, 0);
    let words = [signature.ebx, signature.ecx, signature.edx].map(u32::to_le_bytes);
    cpuid(1, 0).ecx & PRESENT != 0 && words.as_flattened() == b"TCGTCGTCGTCG"
}

/// Takes a zeroed page for good; gives its physical address.
fn take_page() -> Result<u64, Unavailable> {
    let page = VmcbPage::new_box_zeroed().map_err(|_| Unavailable::NoMemory)?;
    Ok(physical_of(Box::into_raw(page)))
}

/// The physical address of something on the heap that the CPU accesses by that address.
fn physical_of<T>(pointer: *const T) -> u64 {
    pointer.expose_provenance();
    // The heap lies in the direct map.
    paging::physical_of(pointer).unwrap_or_else(|| panic!("{pointer:p} is not on the heap"))
}

/// Switches SVM on, on this CPU, for good. Called once it is set up; further calls only give the licence again.
pub fn enable() -> Result<Svm, Unavailable> {
    if let Some(svm) = current() {
        return Ok(svm);
    }
    let (features, count) = examine()?;
    if read_msr(msr::AMD_VM_CR).is_ok_and(|value| VmCr::from_bits_retain(value).contains(VmCr::SVMDIS)) {
        return Err(Unavailable::Disabled);
    }
    let (host, save_area) = (take_page()?, take_page()?);
    let efer = read_msr(msr::EFER).map_err(|_| Unavailable::Missing)?;
    // SAFETY: SVME enables instructions (APM vol. 2, 15.4); the save area is a private page that nothing else uses from here
    // on.
    unsafe {
        write_msr(msr::EFER, efer | Efer::SVME.bits()).map_err(|_| Unavailable::Disabled)?;
        write_msr(msr::AMD_VM_HSAVE_PA, save_area).map_err(|_| Unavailable::Disabled)?;
    }
    crate::tables::drop_ldt();
    // SAFETY: SVM is on; the block is a private page that nothing else uses.
    unsafe { enter::vmsave(host) };
    let (asids, repeats_interrupts) = (Cell::new(Asids::new(count)), is_emulated());
    Ok(Svm { state: STATE.get().get_or_init(|| CpuState { host, features, repeats_interrupts, asids }) })
}

/// Drops all translations that this CPU has of its guests. (Each gets a new ASID at its next entry.) Does nothing where SVM is
/// off.
pub fn forget_translations() {
    if let Some(svm) = current() {
        let mut asids = svm.state.asids.get();
        asids.forget_all();
        svm.state.asids.set(asids);
    }
}
