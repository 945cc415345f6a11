//! The state of a vCPU as the toolstack reads and writes it.

use super::{Call, Done};
use crate::machine::X86;
use crate::pv::guest_context;
use crate::pv::state::Callback;
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::mem::offset_of;
use core::sync::atomic::Ordering::SeqCst;
use domain::{Arch, Domain, Vcpu};
use hal_cpu::is_guest_address;
use platform::GuestMemory;
use types::{Errno, Result, VcpuId};
use xen_abi::arch_x86::{FLAT_KERNEL_CS64, VGCF_ONLINE, VcpuGuestContext};
use xen_abi::domctl::*;
use zerocopy::{FromZeros, IntoBytes};

/// The vCPU that a command names.
pub(super) fn find(domain: &Domain<X86>, number: u32) -> Result<&Arc<Vcpu<X86>>> {
    if number >= domain.creation.max_vcpus {
        return Err(Errno::INVAL);
    }
    domain.vcpu(VcpuId(number)).ok_or(Errno::SRCH)
}

/// XEN_DOMCTL_setvcpucontext. Without a context the vCPU goes back to where it was before it had one.
pub fn set_context(call: Call<'_>, domain: &Arc<Domain<X86>>, op: &mut VcpuContext) -> Done {
    call.not_itself(domain)?;
    let vcpu = find(domain, op.vcpu).map_err(|_| Errno::INVAL)?;
    if op.ctxt.is_null() {
        call.while_paused(domain, || {
            call.hypervisor.bring_down(vcpu);
            guest_context::release(call.hypervisor, &mut vcpu.state.lock());
            vcpu.initialised.store(false, SeqCst);
        });
        return Ok(false);
    }
    let mut context: Box<VcpuGuestContext> = VcpuGuestContext::new_box_zeroed().map_err(|_| Errno::NOMEM)?;
    call.hypervisor.machine().copy_in(op.ctxt.address(), context.as_mut_bytes())?;
    let applied = call.while_paused(domain, || {
        let applied = guest_context::apply(call.hypervisor, domain, vcpu, &mut vcpu.state.lock(), &context);
        if applied.is_ok() && context.flags & VGCF_ONLINE != 0 {
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
    let vcpu = find(domain, op.vcpu)?;
    if !vcpu.initialised.load(SeqCst) {
        return Err(Errno::NODATA);
    }
    let context = call.while_paused(domain, || {
        let (_, masked) = domain.evtchn.upcall_state(call.hypervisor.machine(), vcpu.id);
        Box::new(guest_context::read(domain, vcpu, &vcpu.state.lock(), masked))
    });
    call.hypervisor.machine().copy_out(op.ctxt.address(), context.as_bytes())?;
    Ok(true)
}

/// XEN_DOMCTL_set_ext_vcpucontext: where system calls of 32-bit user code go.
pub fn set_extended(call: Call<'_>, domain: &Arc<Domain<X86>>, op: &mut ExtVcpuContext) -> Done {
    call.not_itself(domain)?;
    let vcpu = find(domain, op.vcpu).map_err(|_| Errno::SRCH)?;
    if (op.size as usize) < offset_of!(ExtVcpuContext, mcg_cap) {
        return Err(Errno::INVAL);
    }
    if !is_guest_address(op.sysenter_callback_eip) || !is_guest_address(op.syscall32_callback_eip) {
        return Err(Errno::INVAL);
    }
    call.while_paused(domain, || {
        let mut state = vcpu.state.lock();
        let callback = |rip, masks| Callback { rip, masks_events: masks != 0 };
        state.sysenter = callback(op.sysenter_callback_eip, op.sysenter_disables_events);
        state.syscall32 = callback(op.syscall32_callback_eip, op.syscall32_disables_events);
    });
    Ok(false)
}

/// XEN_DOMCTL_get_ext_vcpucontext.
pub fn get_extended(call: Call<'_>, domain: &Arc<Domain<X86>>, op: &mut ExtVcpuContext) -> Done {
    call.not_itself(domain)?;
    let number = op.vcpu;
    let vcpu = find(domain, number).map_err(|_| Errno::SRCH)?;
    *op = ExtVcpuContext::new_zeroed();
    (op.vcpu, op.size) = (number, size_of::<ExtVcpuContext>() as u32);
    call.while_paused(domain, || {
        let state = vcpu.state.lock();
        op.sysenter_callback_eip = state.sysenter.rip;
        op.sysenter_disables_events = state.sysenter.masks_events.into();
        op.syscall32_callback_eip = state.syscall32.rip;
        op.syscall32_disables_events = state.syscall32.masks_events.into();
        op.sysenter_callback_cs = FLAT_KERNEL_CS64;
        op.syscall32_callback_cs = FLAT_KERNEL_CS64;
    });
    Ok(true)
}

/// XEN_DOMCTL_get_vcpu_msrs: a PV guest has no MSR that moves with it.
pub fn get_msrs(domain: &Arc<Domain<X86>>, op: &mut VcpuMsrs) -> Done {
    find(domain, op.vcpu)?;
    op.msr_count = 0;
    Ok(true)
}

/// XEN_DOMCTL_set_vcpu_msrs.
pub fn set_msrs(domain: &Arc<Domain<X86>>, op: &mut VcpuMsrs) -> Done {
    find(domain, op.vcpu)?;
    if op.msr_count != 0 { Err(Errno::INVAL) } else { Ok(false) }
}
