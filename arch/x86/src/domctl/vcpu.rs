//! The state of a vCPU as the toolstack reads and writes it.

use super::{Call, Done};
use crate::hvm;
use crate::machine::X86;
use crate::pv::compat::context::{self, Given};
use crate::pv::guest_context;
use crate::pv::state::Callback;
use crate::vcpu::VcpuState;
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::mem::offset_of;
use core::sync::atomic::Ordering::SeqCst;
use domain::{Arch, Domain, Vcpu};
use hal_cpu::is_guest_address;
use platform::GuestMemory;
use types::{Errno, Result, VcpuId};
use xen_abi::arch_x86::{FLAT_KERNEL_CS64, VGCF_ONLINE};
use xen_abi::domctl::*;
use zerocopy::{FromZeros, IntoBytes};

/// The vCPU that a command names; `errno` where there is none of that number.
pub(super) fn find<'a>(
    call: Call<'_>,
    domain: &'a Domain<X86>,
    number: u32,
    errno: Errno,
) -> Result<&'a Arc<Vcpu<X86>>> {
    let vcpu = domain.vcpu(VcpuId(number));
    vcpu.ok_or_else(|| call.refuse(errno, format_args!("{} has no vCPU {number}", domain.id)))
}

/// XEN_DOMCTL_setvcpucontext. Without a context the vCPU goes back to where it was before it had one.
pub fn set_context(call: Call<'_>, domain: &Arc<Domain<X86>>, op: &mut VcpuContext) -> Done {
    call.not_itself(domain)?;
    let vcpu = find(call, domain, op.vcpu, Errno::INVAL)?;
    if op.ctxt.is_null() {
        return call.while_paused(domain, || {
            call.hypervisor.bring_down(vcpu);
            if let VcpuState::Pv(state) = &mut *vcpu.state.lock() {
                guest_context::release(call.hypervisor, state);
            }
            vcpu.initialised.store(false, SeqCst);
            Ok(false)
        });
    }
    let context = Given::read(call.hypervisor.machine(), domain, op.ctxt.address())?;
    let applied = call.while_paused(domain, || {
        let applied = match &mut *vcpu.state.lock() {
            VcpuState::Pv(state) => context.apply(call.hypervisor, domain, vcpu, state),
            VcpuState::Hvm(state) => {
                hvm::guest_context::apply(state, context.wide());
                vcpu.initialised.store(true, SeqCst);
                Ok(())
            }
        };
        if applied.is_ok() && context.flags() & VGCF_ONLINE != 0 {
            call.hypervisor.bring_up(vcpu);
        } else if applied.is_ok() {
            call.hypervisor.bring_down(vcpu);
        }
        applied
    });
    if applied.is_ok() && vcpu.id == VcpuId(0) {
        // The builder has written zeros over the page that holds it.
        call.hypervisor.machine().update_wall_clock(domain);
    }
    match applied {
        Ok(()) => Ok(false),
        Err(Errno::AGAIN) => Err(Errno::RESTART),
        Err(errno) => Err(errno),
    }
}

/// XEN_DOMCTL_getvcpucontext.
pub fn get_context(call: Call<'_>, domain: &Arc<Domain<X86>>, op: &mut VcpuContext) -> Done {
    call.not_itself(domain)?;
    let none = if op.vcpu < domain.creation.max_vcpus { Errno::SRCH } else { Errno::INVAL };
    let vcpu = find(call, domain, op.vcpu, none)?;
    if !vcpu.initialised.load(SeqCst) {
        let why = format_args!("getvcpucontext of {}v{}, which has none yet", domain.id, vcpu.id.0);
        return Err(call.refuse(Errno::NODATA, why));
    }
    let context = call.while_paused(domain, || {
        let (_, masked) = domain.evtchn.upcall_state(call.hypervisor.machine(), vcpu.id);
        match &mut *vcpu.state.lock() {
            VcpuState::Pv(state) => {
                let wide = Box::new(guest_context::read(domain, vcpu, state, masked));
                let narrow = state.narrow.is_some().then(|| Box::new(context::narrow(&wide, state)));
                (wide, narrow)
            }
            VcpuState::Hvm(state) => (Box::new(hvm::guest_context::read(domain, vcpu, state)), None),
        }
    });
    let bytes = context.1.as_ref().map_or(context.0.as_bytes(), |narrow| narrow.as_bytes());
    call.hypervisor.machine().copy_out(op.ctxt.address(), bytes)?;
    Ok(true)
}

/// XEN_DOMCTL_set_ext_vcpucontext: where system calls of 32-bit user code go.
pub fn set_extended(call: Call<'_>, domain: &Arc<Domain<X86>>, op: &mut ExtVcpuContext) -> Done {
    call.not_itself(domain)?;
    let vcpu = find(call, domain, op.vcpu, Errno::SRCH)?;
    if (op.size as usize) < offset_of!(ExtVcpuContext, mcg_cap) {
        let why = format_args!("set_ext_vcpucontext of {}: {} bytes are too few", domain.id, op.size);
        return Err(call.refuse(Errno::INVAL, why));
    }
    let (sysenter, syscall32) = (op.sysenter_callback_eip, op.syscall32_callback_eip);
    if domain.is_translated() {
        let is_any = sysenter | syscall32 != 0 || (op.sysenter_callback_cs | op.syscall32_callback_cs) & !3 != 0;
        let why = format_args!("set_ext_vcpucontext of {}: its CPU goes there by itself", domain.id);
        return if is_any { Err(call.refuse(Errno::INVAL, why)) } else { Ok(false) };
    }
    if !is_guest_address(sysenter) || !is_guest_address(syscall32) {
        let why = format_args!("set_ext_vcpucontext of {}: {sysenter:#x} or {syscall32:#x} is no guest's", domain.id);
        return Err(call.refuse(Errno::INVAL, why));
    }
    call.while_paused(domain, || {
        let mut state = vcpu.state.lock();
        let state = state.pv()?;
        let callback = |rip, masks| Callback { rip, cs: FLAT_KERNEL_CS64, masks_events: masks != 0 };
        state.sysenter = callback(op.sysenter_callback_eip, op.sysenter_disables_events);
        state.syscall32 = callback(op.syscall32_callback_eip, op.syscall32_disables_events);
        Ok(false)
    })
}

/// XEN_DOMCTL_get_ext_vcpucontext.
pub fn get_extended(call: Call<'_>, domain: &Arc<Domain<X86>>, op: &mut ExtVcpuContext) -> Done {
    call.not_itself(domain)?;
    let number = op.vcpu;
    let vcpu = find(call, domain, number, Errno::SRCH)?;
    *op = ExtVcpuContext::new_zeroed();
    (op.vcpu, op.size) = (number, size_of::<ExtVcpuContext>() as u32);
    call.while_paused(domain, || {
        let mut state = vcpu.state.lock();
        let VcpuState::Pv(state) = &mut *state else { return Ok(true) };
        op.sysenter_callback_eip = state.sysenter.rip;
        op.sysenter_disables_events = state.sysenter.masks_events.into();
        op.syscall32_callback_eip = state.syscall32.rip;
        op.syscall32_disables_events = state.syscall32.masks_events.into();
        op.sysenter_callback_cs = FLAT_KERNEL_CS64;
        op.syscall32_callback_cs = FLAT_KERNEL_CS64;
        Ok(true)
    })
}

/// The vCPU that a command about MSRs names. Those of an HVM guest have their own record.
fn find_with_msrs(call: Call<'_>, domain: &Domain<X86>, op: &VcpuMsrs) -> Result<()> {
    find(call, domain, op.vcpu, Errno::INVAL)?;
    if domain.is_translated() {
        return Err(call.refuse(Errno::INVAL, format_args!("vcpu_msrs of {}, which is no PV domain", domain.id)));
    }
    Ok(())
}

/// XEN_DOMCTL_get_vcpu_msrs: a PV guest has no MSR that moves with it.
pub fn get_msrs(call: Call<'_>, domain: &Arc<Domain<X86>>, op: &mut VcpuMsrs) -> Done {
    find_with_msrs(call, domain, op)?;
    op.msr_count = 0;
    Ok(true)
}

/// XEN_DOMCTL_set_vcpu_msrs.
pub fn set_msrs(call: Call<'_>, domain: &Arc<Domain<X86>>, op: &mut VcpuMsrs) -> Done {
    find_with_msrs(call, domain, op)?;
    if op.msr_count == 0 {
        return Ok(false);
    }
    Err(call.refuse(Errno::INVAL, format_args!("set_vcpu_msrs of {}: {} MSRs, 0 at most", domain.id, op.msr_count)))
}
