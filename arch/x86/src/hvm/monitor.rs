//! What whoever watches a guest hears of a vCPU, and what it has the vCPU do (vm_event.h).

use super::VcpuState;
use super::engine::{Attempt, System};
use crate::current::Current;
use core::sync::atomic::Ordering::SeqCst;
use domain::{PauseFlags, Refused};
use hal_cpu::GuestRegs;
use p2m::Entry;
use types::{Errno, Gfn, PAGE_SIZE};
use x86_defs::control::RFlags;
use x86_emulate::hvm::Segment;
use xen_abi::vm_event::*;
use zerocopy::FromZeros;

/// No position: there are no traces.
const NO_TRACE: u64 = u64::MAX;

/// The rights to the page do not allow an access: who watches is told, or the rights are widened. The guest tries again.
#[cold]
pub fn refused(current: &mut Current<'_, VcpuState>, attempt: Attempt, entry: &Entry) {
    let (hypervisor, domain) = (current.hypervisor, current.domain);
    let refused = Refused { gfn: Gfn(attempt.gpa / PAGE_SIZE as u64), access: entry.access, write: attempt.write };
    let describe = || describe(current, attempt);
    match hypervisor.access_refused(domain, refused, describe) {
        Ok(()) => current.state.is_watched = true,
        Err(Errno::PERM) => current.crash("nobody watches its access to a page"),
        Err(_) => current.crash("no memory to widen the rights to a page"),
    }
}

/// The request about an access.
fn describe(current: &Current<'_, VcpuState>, attempt: Attempt) -> VmEvent {
    let mut event = VmEvent::new_zeroed();
    (event.reason, event.vcpu_id) = (VM_EVENT_REASON_MEM_ACCESS, current.vcpu.id.0);
    let (linear, offset) = (fetched_from(current), attempt.gpa % PAGE_SIZE as u64);
    // The CPU tells no linear address. That of an instruction is known, unless it goes on into another page.
    let is_known = attempt.fetch && attempt.is_final && linear % PAGE_SIZE as u64 == offset;
    let flags = [
        // Of a write it does not say if it is a read, too.
        (MEM_ACCESS_R, !attempt.fetch),
        (MEM_ACCESS_W, attempt.write),
        (MEM_ACCESS_X, attempt.fetch),
        (MEM_ACCESS_GLA_VALID | MEM_ACCESS_FAULT_WITH_GLA, is_known),
        (MEM_ACCESS_FAULT_IN_GPT, !attempt.is_final),
    ];
    event.u.write(&VmEventMemAccess {
        gfn: attempt.gpa / PAGE_SIZE as u64,
        offset,
        gla: if is_known { linear } else { 0 },
        flags: flags.into_iter().filter(|(_, on)| *on).fold(0, |all, (flag, _)| all | flag),
        _pad: 0,
    });
    event.data.write(&registers(&current.state.regs, &current.state.engine.system()));
    event
}

/// The linear address of the instruction.
fn fetched_from(current: &Current<'_, VcpuState>) -> u64 {
    let code = current.state.engine.code();
    code.size().linear(current.state.regs.rip, code.segment.base)
}

/// Registers as a watcher sees them.
fn registers(regs: &GuestRegs, system: &System) -> VmEventRegsX86 {
    let [es, cs, ss, ds, fs, gs] = &system.segments;
    let limits = |segment: &Segment| VmEventX86SelectorReg::new(segment.limit, segment.attributes);
    let control = &system.control;
    VmEventRegsX86 {
        rax: regs.rax,
        rcx: regs.rcx,
        rdx: regs.rdx,
        rbx: regs.rbx,
        rsp: regs.rsp,
        rbp: regs.rbp,
        rsi: regs.rsi,
        rdi: regs.rdi,
        r8: regs.r8,
        r9: regs.r9,
        r10: regs.r10,
        r11: regs.r11,
        r12: regs.r12,
        r13: regs.r13,
        r14: regs.r14,
        r15: regs.r15,
        rflags: regs.rflags,
        dr6: system.dr6,
        dr7: system.dr7,
        rip: regs.rip,
        cr0: control.cr0,
        cr2: control.cr2,
        cr3: control.cr3,
        cr4: control.cr4,
        sysenter_cs: system.sysenter_cs,
        sysenter_esp: system.sysenter_esp,
        sysenter_eip: system.sysenter_eip,
        msr_efer: control.efer,
        msr_star: system.star,
        msr_lstar: system.lstar,
        gdtr_base: system.gdtr.base,
        npt_base: 0,
        vmtrace_pos: NO_TRACE,
        // Of these four 64-bit code uses no bases, and others' are no wider.
        cs_base: cs.base as u32,
        ss_base: ss.base as u32,
        ds_base: ds.base as u32,
        es_base: es.base as u32,
        fs_base: fs.base,
        gs_base: gs.base,
        cs: limits(cs),
        ss: limits(ss),
        ds: limits(ds),
        es: limits(es),
        fs: limits(fs),
        gs: limits(gs),
        shadow_gs: system.kernel_gs_base,
        gdtr_limit: system.gdtr.limit,
        cs_sel: cs.selector,
        ss_sel: ss.selector,
        ds_sel: ds.selector,
        es_sel: es.selector,
        fs_sel: fs.selector,
        gs_sel: gs.selector,
        _pad: 0,
    }
}

/// The registers that a watcher may set (`VM_EVENT_FLAG_SET_REGISTERS`).
fn set(regs: &mut GuestRegs, from: &VmEventRegsX86) {
    *regs = GuestRegs {
        rax: from.rax,
        rcx: from.rcx,
        rdx: from.rdx,
        rbx: from.rbx,
        rsp: from.rsp,
        rbp: from.rbp,
        rsi: from.rsi,
        rdi: from.rdi,
        r8: from.r8,
        r9: from.r9,
        r10: from.r10,
        r11: from.r11,
        r12: from.r12,
        r13: from.r13,
        r14: from.r14,
        r15: from.r15,
        rflags: RFlags::loaded(from.rflags),
        rip: from.rip,
        ..*regs
    };
}

/// Takes over what the watcher has answered. Whether the vCPU need not wait any more.
#[inline]
pub fn settle(current: &mut Current<'_, VcpuState>) -> bool {
    !current.state.is_watched || take_answer(current)
}

fn take_answer(current: &mut Current<'_, VcpuState>) -> bool {
    if current.vcpu.flags.load(SeqCst) & (PauseFlags::ANSWER | PauseFlags::ROOM) != 0 {
        return false;
    }
    current.state.is_watched = false;
    if let Some(answer) = current.vcpu.arch.answer.lock().take() {
        let mut regs = current.state.regs;
        set(&mut regs, &answer);
        current.state.replace_regs(regs);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_go_out_and_come_back() {
        let regs = GuestRegs { rax: 1, r15: 2, rip: 3, rsp: 4, rflags: 0x246, rdi: 5, ..GuestRegs::default() };
        let mut system = System::default();
        system.segments[1] = Segment { selector: 8, attributes: 0xa9b, limit: !0, base: 0 };
        system.segments[4].base = 0xffff_8000_0000_0000;
        let seen = registers(&regs, &system);
        assert_eq!((seen.rax, seen.r15, seen.rip, seen.rflags, seen.cs_sel), (1, 2, 3, 0x246, 8));
        assert_eq!((seen.cs._gap_fields, seen.fs_base), (0xa9bf_ffff, 0xffff_8000_0000_0000));
        let mut other = GuestRegs::default();
        set(&mut other, &seen);
        assert_eq!((other.rax, other.r15, other.rip, other.rsp, other.rdi), (1, 2, 3, 4, 5));
        set(&mut other, &VmEventRegsX86 { rflags: !0, ..seen });
        assert_eq!(other.rflags, 0x3f_7fd7);
        set(&mut other, &VmEventRegsX86 { rflags: 0, ..seen });
        assert_eq!(other.rflags, 2);
    }
}
