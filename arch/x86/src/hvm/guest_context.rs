//! The state of an HVM vCPU in the structure that was made for PV ones (`struct vcpu_guest_context`, arch-x86/xen.h): core files have it.

use super::VcpuState;
use super::emulate::{DR6_FIXED, DR7_FIXED, with_fixed};
use super::engine::System;
use crate::general;
use crate::machine::X86;
use core::sync::atomic::Ordering::SeqCst;
use domain::{Domain, Vcpu};
use hal_cpu::GuestRegs;
use x86_emulate::hvm::Segment;
use xen_abi::arch_x86::{CpuUserRegs, VGCF_I387_VALID, VGCF_ONLINE, VcpuGuestContext, VcpuGuestContextFpuCtxt};
use zerocopy::FromZeros;

/// RFLAGS bit that is always set.
const ALWAYS_SET: u64 = 2;
/// Privilege level in a selector.
const LEVEL: u16 = 3;

/// The state of a vCPU that does not run, as XEN_DOMCTL_getvcpucontext gives it.
pub fn read(domain: &Domain<X86>, vcpu: &Vcpu<X86>, state: &VcpuState) -> VcpuGuestContext {
    let mut to = VcpuGuestContext::new_zeroed();
    to.flags = VGCF_I387_VALID | if vcpu.is_up() { VGCF_ONLINE } else { 0 };
    to.fpu_ctxt.x.copy_from_slice(state.vectors.legacy());
    general::to_tools(&state.regs, &mut to.user_regs);
    to.user_regs.rflags = state.regs.rflags;
    to.debugreg[..4].copy_from_slice(&state.debug);
    read_system(&mut to, &state.engine.system());
    to.vm_assist = domain.vm_assist.load(SeqCst).into();
    to
}

fn read_system(to: &mut VcpuGuestContext, from: &System) {
    let control = from.control;
    (to.ctrlreg[0], to.ctrlreg[2], to.ctrlreg[3], to.ctrlreg[4]) = (control.cr0, control.cr2, control.cr3, control.cr4);
    (to.debugreg[6], to.debugreg[7]) = (from.dr6, from.dr7);
    let [es, cs, ss, ds, fs, gs] = &from.segments;
    read_selectors(&mut to.user_regs, [es, cs, ss, ds, fs, gs]);
    to.fs_base = fs.base;
    (to.gs_base_kernel, to.gs_base_user) =
        if cs.selector & LEVEL == 0 { (gs.base, from.kernel_gs_base) } else { (from.kernel_gs_base, gs.base) };
}

fn read_selectors(to: &mut CpuUserRegs, segments: [&Segment; 6]) {
    [to.es, to.cs, to.ss, to.ds, to.fs, to.gs] = segments.map(|segment| segment.selector);
}

/// Gives a vCPU that does not run what XEN_DOMCTL_setvcpucontext may change of it: no register that says how code is executed, and
/// nothing that the guest could not load itself.
pub fn apply(state: &mut VcpuState, from: &VcpuGuestContext) {
    let rflags = from.user_regs.rflags | ALWAYS_SET;
    state.replace_regs(GuestRegs { rflags, ..general::from_tools(&from.user_regs) });
    let [dr0, dr1, dr2, dr3, _, _, dr6, dr7] = from.debugreg;
    state.debug = [dr0, dr1, dr2, dr3];
    let mut system = state.engine.system();
    (system.dr6, system.dr7) = (with_fixed(DR6_FIXED, dr6), with_fixed(DR7_FIXED, dr7));
    state.engine.set_system(&system);
    let VcpuGuestContextFpuCtxt { x } = &from.fpu_ctxt;
    state.vectors.replace((from.flags & VGCF_I387_VALID != 0).then_some(x));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hvm::engine::Control;

    #[test]
    fn bases_of_gs_go_by_the_level_of_the_code() {
        let segment = |selector, base| Segment { selector, base, ..Segment::default() };
        let mut from = System {
            control: Control { cr0: 1, cr2: 2, cr3: 3, cr4: 4, efer: 5 },
            segments: [segment(1, 0), segment(0x10, 0), segment(3, 0), segment(4, 0), segment(5, 50), segment(6, 60)],
            kernel_gs_base: 70,
            dr6: 0xffff_0ff0,
            dr7: 0x400,
            ..System::default()
        };
        let mut to = VcpuGuestContext::new_zeroed();
        read_system(&mut to, &from);
        assert_eq!((to.ctrlreg, to.fs_base), ([1, 0, 2, 3, 4, 0, 0, 0], 50));
        assert_eq!((to.gs_base_kernel, to.gs_base_user), (60, 70));
        let regs = &to.user_regs;
        assert_eq!([regs.es, regs.cs, regs.ss, regs.ds, regs.fs, regs.gs], [1, 0x10, 3, 4, 5, 6]);
        assert_eq!(to.debugreg[4..], [0, 0, 0xffff_0ff0, 0x400]);
        from.segments[1].selector = 0x33;
        read_system(&mut to, &from);
        assert_eq!((to.gs_base_kernel, to.gs_base_user), (70, 60));
    }
}
