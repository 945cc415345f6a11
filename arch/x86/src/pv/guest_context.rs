//! The complete state of a PV vCPU as the toolstack and other vCPUs give it (`struct vcpu_guest_context`, arch-x86/xen.h).

use super::iret::guest_flags;
use super::state::{Callback, GDT_PAGES, VcpuState};
use super::{descriptors, operations};
use crate::general;
use crate::machine::X86;
use alloc::sync::Arc;
use arrayvec::ArrayVec;
use core::sync::atomic::Ordering::SeqCst;
use domain::{Domain, Hypervisor, Vcpu};
use hal_cpu::{DebugRegs, GuestRegs, is_guest_address};
use memory::Context;
use types::{Errno, Mfn, Progress, Result};
use x86_defs::control::is_canonical;
use xen_abi::arch_x86::*;

/// CR0.TS, the only bit of it that a context decides.
const CR0_TS: u64 = 8;

/// Gives a vCPU that does not run all its state, and makes it ready to be brought up.
///
/// # Errors
/// `EINVAL` for what a guest must not have; `EAGAIN` where its page tables take longer to check than may be; the vCPU is then
/// as it was.
pub fn apply(
    hypervisor: &Hypervisor<X86>,
    domain: &Arc<Domain<X86>>,
    vcpu: &Vcpu<X86>,
    state: &mut VcpuState,
    context: &VcpuGuestContext,
) -> Result<()> {
    check(domain, context)?;
    let gdt = take_gdt(hypervisor, domain, context)?;
    let roots = take_roots(hypervisor, domain, context);
    let (kernel, user) = match roots {
        Ok(roots) => roots,
        Err(errno) => {
            gdt.into_iter().for_each(|mfn| hypervisor.memory.put_descriptors(mfn));
            return Err(errno);
        }
    };
    release(hypervisor, state);
    state.gdt = gdt;
    state.gdt_entries = context.gdt_ents as u32;
    state.root_kernel = Some(kernel);
    state.root_user = user;
    set_registers(state, context);
    set_entries(state, context);
    super::compat::put_below_top(hypervisor.machine(), state);
    state.vectors.replace((context.flags & VGCF_I387_VALID != 0).then_some(&context.fpu_ctxt.x));
    domain.vm_assist.fetch_or(context.vm_assist as u32 & super::ALLOWED_ASSISTS, SeqCst);
    vcpu.initialised.store(true, SeqCst);
    Ok(())
}

/// Addresses must exist. Those that the guest itself goes to may be the hypervisor's; going there is a fault like any other.
fn check(domain: &Domain<X86>, context: &VcpuGuestContext) -> Result<()> {
    let traps = context.trap_ctxt.iter().map(|trap| trap.address);
    let others = [
        context.user_regs.rip,
        context.user_regs.rsp,
        context.kernel_sp,
        context.event_callback_eip,
        context.failsafe_callback_eip,
        context.syscall_callback_eip,
        context.fs_base,
        context.gs_base_kernel,
        context.gs_base_user,
    ];
    let lacks_user_root = context.flags & VGCF_IN_KERNEL == 0 && context.ctrlreg[1] == 0 && !domain.memory.is_pae();
    if lacks_user_root
        || !traps.chain(others).all(is_canonical)
        || !is_guest_address(context.ldt_base)
        || context.ldt_base % 4096 != 0
        || context.ldt_ents > 8192
        || context.gdt_ents > (GDT_PAGES * 512) as u64
    {
        return Err(Errno::INVAL);
    }
    Ok(())
}

fn take_gdt(
    hypervisor: &Hypervisor<X86>,
    domain: &Domain<X86>,
    context: &VcpuGuestContext,
) -> Result<ArrayVec<Mfn, GDT_PAGES>> {
    let pages = context.gdt_ents.div_ceil(512) as usize;
    let frames: ArrayVec<Mfn, GDT_PAGES> = context.gdt_frames[..pages].iter().map(|&frame| Mfn(frame)).collect();
    descriptors::take_descriptors(hypervisor, domain.id, &frames)
}

fn take_roots(
    hypervisor: &Hypervisor<X86>,
    domain: &Domain<X86>,
    context: &VcpuGuestContext,
) -> Result<(Mfn, Option<Mfn>)> {
    let take = |mfn| {
        let own = Context::own(&domain.memory, hypervisor.machine());
        match hypervisor.memory.take_root(&own, mfn) {
            Ok(Progress::Done(())) => Ok(mfn),
            Ok(Progress::Again(_)) => Err(Errno::AGAIN),
            Err(denied) => {
                log::warn!("{}: page table of a new vCPU: {denied}", domain.id);
                Err(denied.errno)
            }
        }
    };
    let kernel = take(Mfn(cr3_to_pfn(context.ctrlreg[3])))?;
    if context.ctrlreg[1] == 0 {
        return Ok((kernel, None));
    }
    match take(Mfn(cr3_to_pfn(context.ctrlreg[1]))) {
        Ok(user) => Ok((kernel, Some(user))),
        Err(errno) => {
            hypervisor.memory.drop_root(kernel);
            Err(errno)
        }
    }
}

/// Lets go of page tables and descriptor tables.
pub fn release(hypervisor: &Hypervisor<X86>, state: &mut VcpuState) {
    for root in [state.root_kernel.take(), state.root_user.take()].into_iter().flatten() {
        hypervisor.memory.drop_root(root);
    }
    for mfn in state.gdt.drain(..) {
        hypervisor.memory.put_descriptors(mfn);
    }
    for mfn in core::mem::take(&mut state.ldt).into_iter().flatten() {
        hypervisor.memory.put_descriptors(mfn);
    }
    state.gdt_entries = 0;
    state.ldt_entries = 0;
}

fn set_registers(state: &mut VcpuState, context: &VcpuGuestContext) {
    let from = &context.user_regs;
    state.kernel_mode = context.flags & VGCF_IN_KERNEL != 0;
    state.context.regs = GuestRegs {
        vector: GuestRegs::BY_NOTHING,
        cs: u64::from(state.kernel_selector(from.cs)),
        rflags: guest_flags(from.rflags),
        ss: u64::from(state.kernel_selector(from.ss)),
        ..general::from_tools(from)
    };
    state.segments.ds = from.ds;
    state.segments.es = from.es;
    state.segments.fs = from.fs;
    state.segments.gs = from.gs;
    state.segments.fs_base = context.fs_base;
    let (own, other) = if state.kernel_mode {
        (context.gs_base_kernel, context.gs_base_user)
    } else {
        (context.gs_base_user, context.gs_base_kernel)
    };
    state.segments.gs_base = own;
    state.segments.gs_base_other = other;
    state.iopl = (from.rflags >> 12 & 3) as u8;
    state.task_switched = context.ctrlreg[0] & CR0_TS != 0;
    let [dr0, dr1, dr2, dr3, _, _, dr6, dr7] = context.debugreg;
    state.debug = DebugRegs { address: [dr0, dr1, dr2, dr3], status: dr6, control: dr7 }.sanitised();
    state.kernel_ss = state.kernel_selector(context.kernel_ss as u16);
    state.kernel_sp = context.kernel_sp;
    state.ldt_base = context.ldt_base;
}

fn set_entries(state: &mut VcpuState, context: &VcpuGuestContext) {
    for (index, trap) in context.trap_ctxt.iter().enumerate() {
        state.traps[index] = operations::trap_gate(state, trap);
    }
    let masks = |flag| context.flags & flag != 0;
    let callback = |rip, masks_events| Callback { rip, cs: FLAT_KERNEL_CS64, masks_events };
    state.event = callback(context.event_callback_eip, true);
    state.failsafe = callback(context.failsafe_callback_eip, masks(VGCF_FAILSAFE_DISABLES_EVENTS));
    state.syscall = callback(context.syscall_callback_eip, masks(VGCF_SYSCALL_DISABLES_EVENTS));
}

/// The state of a vCPU that does not run, as XEN_DOMCTL_getvcpucontext gives it.
pub fn read(domain: &Domain<X86>, vcpu: &Vcpu<X86>, state: &VcpuState, masked: bool) -> VcpuGuestContext {
    let mut to: VcpuGuestContext = zerocopy::FromZeros::new_zeroed();
    let regs = &state.context.regs;
    to.flags = VGCF_I387_VALID;
    if state.kernel_mode {
        to.flags |= VGCF_IN_KERNEL;
    }
    if vcpu.is_up() {
        to.flags |= VGCF_ONLINE;
    }
    if state.failsafe.masks_events {
        to.flags |= VGCF_FAILSAFE_DISABLES_EVENTS;
    }
    if state.syscall.masks_events {
        to.flags |= VGCF_SYSCALL_DISABLES_EVENTS;
    }
    to.fpu_ctxt.x.copy_from_slice(state.vectors.legacy());
    read_registers(&mut to.user_regs, regs, state, masked);
    for (index, gate) in state.traps.iter().enumerate() {
        to.trap_ctxt[index].vector = index as u8;
        to.trap_ctxt[index].flags = gate.dpl | u8::from(gate.handler.masks_events) << 2;
        to.trap_ctxt[index].cs = gate.handler.cs;
        to.trap_ctxt[index].address = gate.handler.rip;
    }
    (to.ldt_base, to.ldt_ents) = (state.ldt_base, state.ldt_entries.into());
    for (slot, mfn) in to.gdt_frames.iter_mut().zip(&state.gdt) {
        *slot = mfn.0;
    }
    to.gdt_ents = state.gdt_entries.into();
    (to.kernel_ss, to.kernel_sp) = (state.kernel_ss.into(), state.kernel_sp);
    to.ctrlreg[0] = super::GUEST_CR0 | if state.task_switched { CR0_TS } else { 0 };
    to.ctrlreg[3] = state.cr3().unwrap_or(0);
    to.ctrlreg[1] = state.root_user.map_or(0, |mfn| pfn_to_cr3(mfn.0));
    to.ctrlreg[4] = state.cr4;
    to.debugreg[..4].copy_from_slice(&state.debug.address);
    (to.debugreg[6], to.debugreg[7]) = (state.debug.status, state.debug.control);
    to.event_callback_eip = state.event.rip;
    to.failsafe_callback_eip = state.failsafe.rip;
    to.syscall_callback_eip = state.syscall.rip;
    to.vm_assist = domain.vm_assist.load(SeqCst).into();
    let segments = &state.segments;
    to.fs_base = segments.fs_base;
    (to.gs_base_kernel, to.gs_base_user) = if state.kernel_mode {
        (segments.gs_base, segments.gs_base_other)
    } else {
        (segments.gs_base_other, segments.gs_base)
    };
    to
}

fn read_registers(to: &mut CpuUserRegs, regs: &GuestRegs, state: &VcpuState, masked: bool) {
    general::to_tools(regs, to);
    // A 64-bit guest's kernel takes itself to be in ring 0.
    let hides_ring = state.kernel_mode && state.narrow.is_none();
    to.cs = if hides_ring { regs.cs as u16 & !3 } else { regs.cs as u16 };
    to.ss = regs.ss as u16;
    to.rflags = regs.rflags & !(3 << 12) | u64::from(state.iopl) << 12;
    to.saved_upcall_mask = u8::from(masked);
    to.ds = state.segments.ds;
    to.es = state.segments.es;
    to.fs = state.segments.fs;
    to.gs = state.segments.gs;
}
