//! Parameters of a translated domain (hvm/params.h): who may set and read which, how often, and what it does.

use crate::Caller;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering::SeqCst};
use domain::{Arch, Domain};
use types::{Errno, Gfn, Result};
use xen_abi::GuestHandle;
use xen_abi::hvm_op::HvmParam;
use xen_abi::hvm_params::*;
use xen_abi::sched::SHUTDOWN_MAX;

/// Bytes of a 32-bit task-state segment, and of the largest that means anything: with the map of redirected interrupts, that
/// of all I/O ports, and the byte that ends it (SDM vol. 3, 21.3).
const TSS: u64 = 104;
const LARGEST_TSS: u64 = TSS + 0x100 / 8 + 0x1_0000 / 8 + 1;
/// Bytes of a task-state segment whose size its guest's firmware does not tell.
const TSS_OF_OLD: u64 = 128;
/// Pages that can be set aside for device emulators.
const MOST_SERVER_PAGES: u64 = 64;

/// The call, and the domain that it is about.
fn target<A: Arch>(caller: &Caller<'_, A>, at: GuestHandle<HvmParam>) -> Result<(HvmParam, Arc<Domain<A>>)> {
    let call = caller.read(at)?;
    if call.index >= HVM_NR_PARAMS {
        return Err(Errno::INVAL);
    }
    let domain = caller.any_domain(call.domid)?;
    if !domain.is_translated() {
        return Err(Errno::INVAL);
    }
    caller.require_rights_over(&domain)?;
    Ok((call, domain))
}

fn slot<A: Arch>(domain: &Domain<A>, index: u32) -> Result<&AtomicU64> {
    domain.translated.as_ref().and_then(|translated| translated.params.get(index as usize)).ok_or(Errno::INVAL)
}

/// Those that nobody uses any more.
fn is_of_the_past(index: u32) -> bool {
    matches!(
        index,
        HVM_PARAM_PAE_ENABLED
            | HVM_PARAM_DM_DOMAIN
            | HVM_PARAM_MEMORY_EVENT_CR0
            | HVM_PARAM_MEMORY_EVENT_CR3
            | HVM_PARAM_MEMORY_EVENT_CR4
            | HVM_PARAM_MEMORY_EVENT_INT3
            | HVM_PARAM_NESTEDHVM
            | HVM_PARAM_MEMORY_EVENT_SINGLE_STEP
            | HVM_PARAM_BUFIOREQ_EVTCHN
            | HVM_PARAM_MEMORY_EVENT_MSR
    )
}

/// Those that the guest itself may set, and read.
fn is_the_guests(index: u32) -> bool {
    matches!(
        index,
        HVM_PARAM_CALLBACK_IRQ
            | HVM_PARAM_VM86_TSS
            | HVM_PARAM_VM86_TSS_SIZED
            | HVM_PARAM_ACPI_IOPORTS_LOCATION
            | HVM_PARAM_VM_GENERATION_ID_ADDR
            | HVM_PARAM_STORE_EVTCHN
            | HVM_PARAM_CONSOLE_EVTCHN
            | HVM_PARAM_X87_FIP_WIDTH
    )
}

/// Those that are set once.
fn is_final(index: u32) -> bool {
    matches!(
        index,
        HVM_PARAM_VIRIDIAN
            | HVM_PARAM_IOREQ_PFN
            | HVM_PARAM_BUFIOREQ_PFN
            | HVM_PARAM_IOREQ_SERVER_PFN
            | HVM_PARAM_NR_IOREQ_SERVER_PAGES
            | HVM_PARAM_MCA_CAP
    )
}

/// HVMOP_get_param.
pub fn get<A: Arch>(caller: &Caller<'_, A>, at: GuestHandle<HvmParam>) -> Result<()> {
    let (mut call, domain) = target(caller, at)?;
    let shown = is_the_guests(call.index)
        || matches!(call.index, HVM_PARAM_STORE_PFN | HVM_PARAM_CONSOLE_PFN | HVM_PARAM_ALTP2M);
    if is_of_the_past(call.index) {
        return Err(Errno::INVAL);
    }
    if !shown && domain.id == caller.domain.id {
        return Err(Errno::PERM);
    }
    let value = |index| slot(&domain, index).map(|slot| slot.load(SeqCst));
    call.value = match call.index {
        // Two names of one, of which the older has the address alone.
        HVM_PARAM_VM86_TSS => value(HVM_PARAM_VM86_TSS_SIZED)? & 0xffff_ffff,
        index => value(index)?,
    };
    caller.write(at, &call)
}

/// HVMOP_set_param.
pub fn set<A: Arch>(caller: &Caller<'_, A>, at: GuestHandle<HvmParam>) -> Result<()> {
    let (call, domain) = target(caller, at)?;
    let HvmParam { index, value, .. } = call;
    if index == HVM_PARAM_ALTP2M {
        return Err(Errno::EXIST);
    }
    if is_of_the_past(index) {
        return Err(Errno::INVAL);
    }
    let itself = domain.id == caller.domain.id;
    if itself && !is_the_guests(index) {
        return Err(Errno::PERM);
    }
    let before = slot(&domain, index)?.load(SeqCst);
    if is_final(index) && before != 0 && before != value {
        return Err(Errno::EXIST);
    }
    let (index, value) = accept(caller, &domain, index, value).inspect_err(|errno| {
        if !itself && *errno == Errno::OPNOTSUPP {
            let why = format_args!("HVM parameter {index} of {} cannot be {value:#x}", domain.id);
            caller.hypervisor.log_refusal(caller.domain.id, *errno, why);
        }
    })?;
    slot(&domain, index)?.store(value, SeqCst);
    set_aside(caller, &domain, index, value)
}

/// Frames for device emulators' pages.
fn set_aside<A: Arch>(caller: &Caller<'_, A>, domain: &Arc<Domain<A>>, index: u32, value: u64) -> Result<()> {
    let servers = caller.hypervisor.servers(domain).ok_or(Errno::INVAL)?;
    match index {
        HVM_PARAM_IOREQ_SERVER_PFN => servers.set_frame_base(Gfn(value)),
        HVM_PARAM_NR_IOREQ_SERVER_PAGES => servers.set_frame_count(value)?,
        HVM_PARAM_IOREQ_PFN | HVM_PARAM_BUFIOREQ_PFN if value != 0 => {
            servers.set_legacy_frame(index == HVM_PARAM_BUFIOREQ_PFN, Gfn(value));
        }
        _ => {}
    }
    Ok(())
}

/// Does what a parameter stands for; where, and as what, it is kept.
fn accept<A: Arch>(caller: &Caller<'_, A>, domain: &Arc<Domain<A>>, index: u32, value: u64) -> Result<(u32, u64)> {
    let only = |good: bool| if good { Ok(()) } else { Err(Errno::INVAL) };
    match index {
        HVM_PARAM_TIMER_MODE => {
            only(value <= HVMPTM_ONE_MISSED_TICK_PENDING.into())?;
            caller.machine().set_hvm_parameter(caller.hypervisor, domain, index, value)?;
        }
        HVM_PARAM_TRIPLE_FAULT_REASON => only(value <= SHUTDOWN_MAX.into())?,
        HVM_PARAM_NR_IOREQ_SERVER_PAGES => only((1..=MOST_SERVER_PAGES).contains(&value))?,
        HVM_PARAM_X87_FIP_WIDTH => only(matches!(value, 0 | 4 | 8))?,
        HVM_PARAM_VM86_TSS => {
            only(value >> 32 == 0)?;
            let size = if value != 0 { TSS_OF_OLD } else { 0 };
            return Ok((HVM_PARAM_VM86_TSS_SIZED, value | size << 32));
        }
        HVM_PARAM_VM86_TSS_SIZED => {
            only(value >> 32 >= TSS)?;
            return Ok((index, value & 0xffff_ffff | (value >> 32).min(LARGEST_TSS) << 32));
        }
        HVM_PARAM_VIRIDIAN => {
            let known = value & !u64::from(HVMPV_FEATURE_MASK) == 0;
            only(known && value & u64::from(HVMPV_BASE_FREQ) != 0)?;
            caller.machine().set_hvm_parameter(caller.hypervisor, domain, index, value)?;
        }
        HVM_PARAM_CALLBACK_IRQ
        | HVM_PARAM_ACPI_S_STATE
        | HVM_PARAM_ACPI_IOPORTS_LOCATION
        | HVM_PARAM_MCA_CAP
        | HVM_PARAM_HPET_ENABLED
        | HVM_PARAM_VPT_ALIGN => {
            caller.machine().set_hvm_parameter(caller.hypervisor, domain, index, value)?;
        }
        _ => {}
    }
    Ok((index, value))
}
