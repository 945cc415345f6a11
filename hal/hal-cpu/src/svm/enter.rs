//! Into guest mode and back. Soundness: docs/soundness/svm.md.

use super::{Svm, Vmcb};
use crate::context::GuestRegs;
use crate::{area, segments, tables, traps};
use core::arch::{asm, global_asm};
use core::mem::offset_of;
use x86_defs::svm::ExitCode;

global_asm!(
    include_str!("enter.S"),
    R15 = const offset_of!(GuestRegs, r15),
    R14 = const offset_of!(GuestRegs, r14),
    R13 = const offset_of!(GuestRegs, r13),
    R12 = const offset_of!(GuestRegs, r12),
    RBP = const offset_of!(GuestRegs, rbp),
    RBX = const offset_of!(GuestRegs, rbx),
    R11 = const offset_of!(GuestRegs, r11),
    R10 = const offset_of!(GuestRegs, r10),
    R9 = const offset_of!(GuestRegs, r9),
    R8 = const offset_of!(GuestRegs, r8),
    RCX = const offset_of!(GuestRegs, rcx),
    RDX = const offset_of!(GuestRegs, rdx),
    RSI = const offset_of!(GuestRegs, rsi),
    RDI = const offset_of!(GuestRegs, rdi),
);

unsafe extern "sysv64" {
    fn hal_cpu_svm_enter(regs: *mut GuestRegs, guest: u64, host: u64);
}

/// Why a guest left guest mode.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HvmExit {
    /// A machine interrupt of this number, which is not yet acknowledged.
    Interrupt(u8),
    /// A machine NMI, which the hook has handled ([`crate::set_nmi_hook`]).
    Nmi,
    /// Something of the machine that is over already: an SMI, an INIT, an interrupt that has gone.
    Nothing,
    /// The guest did not run: VMRUN refused its state, or it has no nested root.
    Invalid,
    /// What the guest did; [`Vmcb::exit_info`] and its neighbours have the details. For exception 18 (#MC), which is the
    /// machine's, nothing else tells of it.
    Guest(ExitCode),
}

/// Runs the guest until it leaves guest mode. Interrupts are off before and after; while the guest runs, the machine's make it
/// leave, whatever its flags. The registers are loaded from `regs` and stored there, rip, rsp, rax and rflags too, for which
/// the control block is but a stopover; of `cs` and `ss` the selectors are stored only. Descriptor tables, page tables and
/// vector registers are as described at [`crate::svm`].
pub fn enter_hvm(svm: Svm, vmcb: &mut Vmcb, regs: &mut GuestRegs) -> HvmExit {
    if vmcb.arm(area::cpu_id(), svm.state).is_none() {
        return HvmExit::Invalid;
    }
    segments::drop_for_guest_mode();
    tables::drop_ldt();
    let save = vmcb.save_area();
    (save.rax, save.rsp, save.rip, save.rflags) = (regs.rax, regs.rsp, regs.rip, regs.rflags);
    let aside = if svm.state.repeats_interrupts { vmcb.make_virtual() } else { None };
    let guest = vmcb.address();
    // SAFETY: the token says that SVM is on here. `arm` has just written all of the control block on which the hypervisor's
    // safety rests; block and registers are exclusive borrows; `host` is what VMSAVE wrote on this CPU, and its LDTR is null, as
    // is the LDTR that the CPU has now. The code returns on the same stack with interrupts off, and keeps what the calling
    // convention wants kept.
    unsafe {
        asm!(
            "call {enter}",
            enter = sym hal_cpu_svm_enter,
            in("rdi") core::ptr::from_mut(regs),
            in("rsi") guest,
            in("rdx") svm.state.host,
            clobber_abi("sysv64"),
        );
    }
    vmcb.left(svm.state.features);
    if let Some(aside) = aside {
        vmcb.make_real(aside);
    }
    let save = vmcb.state();
    (regs.rax, regs.rsp, regs.rip, regs.rflags) = (save.rax, save.rsp, save.rip, save.rflags);
    (regs.cs, regs.ss) = (save.cs.selector.into(), save.ss.selector.into());
    match vmcb.exit_code() {
        ExitCode::INTR => traps::take_interrupt().map_or(HvmExit::Nothing, HvmExit::Interrupt),
        // What was pending arrived when the entry code set the global interrupt flag.
        ExitCode::NMI => HvmExit::Nmi,
        ExitCode::SMI | ExitCode::INIT => HvmExit::Nothing,
        ExitCode::INVALID => HvmExit::Invalid,
        code => HvmExit::Guest(code),
    }
}

/// Stores what VMLOAD loads into a control block.
///
/// # Safety
/// SVM is on; `block` is the physical address of a private page that nothing else uses.
pub(super) unsafe fn vmsave(block: u64) {
    // SAFETY: the caller's promise.
    unsafe { asm!("vmsave rax", in("rax") block, options(nostack, preserves_flags)) };
}

/// Drops this CPU's translation of a guest's linear address. `asid` was given to the guest, hence SVM is on.
pub(super) fn invlpga(address: u64, asid: u32) {
    // SAFETY: dropping a cached translation only makes the CPU walk again.
    unsafe { asm!("invlpga rax, ecx", in("rax") address, in("ecx") asid, options(nostack, preserves_flags)) };
}
