//! Small hypercalls of PV guests: traps, callbacks, stack, debug registers, segment bases.

use super::state::{Callback, TrapGate, VcpuState};
use crate::current::Current;
use hal_cpu::{DebugRegs, is_guest_address};
use hypercall::{Args, Outcome};
use types::{Errno, Result};
use x86_defs::control::{Cr4, is_canonical};
use xen_abi::GuestHandle;
use xen_abi::arch_x86::*;
use xen_abi::callback::*;

/// HYPERVISOR_set_trap_table: replaces handlers, up to an entry with address 0; a null table clears all.
pub fn set_trap_table(current: &mut Current<'_>, args: Args) -> Outcome {
    if args[0] == 0 {
        current.state.traps.fill(TrapGate::default());
        return Outcome::Done(0);
    }
    let table = GuestHandle::<TrapInfo>::new(args[0]);
    for index in 0..=256 {
        let entry = match current.caller().read(table.offset(index)) {
            Ok(entry) => entry,
            Err(errno) => return errno.into(),
        };
        if entry.address == 0 {
            break;
        }
        if !is_canonical(entry.address) {
            return Errno::INVAL.into();
        }
        current.state.traps[usize::from(entry.vector)] = trap_gate(current.state, &entry);
    }
    Outcome::Done(0)
}

/// A handler as the guest describes it: flags bits 0 and 1 are the ring, bit 2 masks events.
pub fn trap_gate(state: &VcpuState, entry: &TrapInfo) -> TrapGate {
    let cs = state.kernel_selector(entry.cs);
    TrapGate { dpl: entry.flags & 3, handler: Callback { rip: entry.address, cs, masks_events: entry.flags & 4 != 0 } }
}

/// HYPERVISOR_stack_switch: where traps from user mode will be delivered.
pub fn stack_switch(current: &mut Current<'_>, args: Args) -> Outcome {
    current.state.kernel_ss = current.state.kernel_selector(args[0] as u16);
    current.state.kernel_sp = args[1];
    Outcome::Done(0)
}

/// HYPERVISOR_fpu_taskswitch: sets or clears CR0.TS.
pub fn fpu_taskswitch(current: &mut Current<'_>, args: Args) -> Outcome {
    set_task_switched(current.state, args[0] != 0);
    Outcome::Done(0)
}

/// Sets CR0.TS, for the guest and for the CPU.
pub fn set_task_switched(state: &mut VcpuState, set: bool) {
    state.task_switched = set;
    hal_cpu::set_task_switched(set);
}

/// HYPERVISOR_set_segment_base. A selector that cannot be loaded becomes the null selector, and that is no error: Linux
/// takes one for a bug of its own.
pub fn set_segment_base(_current: &mut Current<'_>, args: Args) -> Outcome {
    let base = args[1];
    match args[0] as u32 {
        SEGBASE_FS if is_canonical(base) => hal_cpu::write_fs_base(base),
        SEGBASE_GS_USER if is_canonical(base) => hal_cpu::write_gs_base_other(base),
        SEGBASE_GS_KERNEL if is_canonical(base) => hal_cpu::write_gs_base(base),
        SEGBASE_GS_USER_SEL => {
            let _ = hal_cpu::load_gs_selector_other(base as u16);
        }
        _ => return Errno::INVAL.into(),
    }
    Outcome::Done(0)
}

/// HYPERVISOR_set_debugreg.
pub fn set_debugreg(current: &mut Current<'_>, args: Args) -> Outcome {
    write_debug(current.state, args[0] as u32, args[1]).into()
}

/// The register behind a number: 4 and 5 are names of 6 and 7 until CR4.DE takes them away (SDM vol. 3, 17.2.2).
fn debug_register(state: &VcpuState, number: u32) -> Result<usize> {
    match number {
        0..=3 | 6 | 7 => Ok(number as usize),
        4 | 5 if !has_io_breakpoints(state) => Ok(number as usize + 2),
        _ => Err(Errno::NODEV),
    }
}

fn has_io_breakpoints(state: &VcpuState) -> bool {
    state.cr4 & Cr4::DE.bits() != 0
}

/// Checks and sets a debug register of the guest's (SDM vol. 3, 17.2). The CPU has them while a breakpoint is enabled.
///
/// # Errors
/// `ENODEV` for a register that does not exist; `EINVAL` for reserved bits; `EPERM` for breakpoints in the hypervisor and
/// others that a guest may not have.
pub fn write_debug(state: &mut VcpuState, number: u32, value: u64) -> Result<()> {
    let register = debug_register(state, number)?;
    if register >= 6 && value >> 32 != 0 {
        return Err(Errno::INVAL);
    }
    let was_armed = state.debug.is_armed();
    match register {
        6 => state.debug.status = value,
        7 if DebugRegs::detects_access(value) => return Err(Errno::PERM),
        7 if DebugRegs::breaks_on_io(value) && !has_io_breakpoints(state) => return Err(Errno::PERM),
        7 => state.debug.control = value,
        _ if !is_guest_address(value) => return Err(Errno::PERM),
        _ => state.debug.address[register] = value,
    }
    if register >= 6 {
        state.debug = state.debug.sanitised();
    }
    if state.debug.is_armed() {
        hal_cpu::load_debug(&state.debug);
    } else if was_armed {
        hal_cpu::disarm_debug();
    }
    Ok(())
}

/// HYPERVISOR_get_debugreg.
pub fn get_debugreg(current: &mut Current<'_>, args: Args) -> Outcome {
    read_debug(current.state, args[0] as u32).map(|value| value as i64).into()
}

/// A debug register as the guest sees it.
///
/// # Errors
/// `ENODEV` for one that does not exist.
pub fn read_debug(state: &VcpuState, number: u32) -> Result<u64> {
    Ok(match debug_register(state, number)? {
        6 => state.debug.status,
        7 => state.debug.control,
        register => state.debug.address[register],
    })
}

/// HYPERVISOR_set_callbacks, the older form of callback_op: event, failsafe and syscall entry. It cannot fail: addresses that
/// do not exist change nothing.
pub fn set_callbacks(current: &mut Current<'_>, args: Args) -> Outcome {
    let state = &mut current.state;
    for (callback, address) in [&mut state.event, &mut state.failsafe, &mut state.syscall].into_iter().zip(args) {
        if is_canonical(address) {
            callback.rip = address;
        }
    }
    Outcome::Done(0)
}

/// HYPERVISOR_callback_op.
pub fn callback_op(current: &mut Current<'_>, args: Args) -> Outcome {
    match args[0] as u32 {
        CALLBACKOP_REGISTER => register_callback(current, GuestHandle::new(args[1])).into(),
        CALLBACKOP_UNREGISTER => unregister_callback(current, GuestHandle::new(args[1])).into(),
        _ => Errno::NOSYS.into(),
    }
}

fn register_callback(current: &mut Current<'_>, handle: GuestHandle<Register>) -> Result<()> {
    let call = current.caller().read(handle)?;
    if !is_canonical(call.address) {
        return Err(Errno::INVAL);
    }
    let masks_events = call.flags & CALLBACKF_MASK_EVENTS != 0;
    set_callback(current.state, call.r#type, Callback { rip: call.address, cs: FLAT_KERNEL_CS64, masks_events })
}

/// Sets the place of one kind (`CALLBACKTYPE_*`).
///
/// # Errors
/// `ENOSYS` for a kind that there is none of.
pub fn set_callback(state: &mut VcpuState, kind: u16, callback: Callback) -> Result<()> {
    match kind {
        CALLBACKTYPE_EVENT => state.event = callback,
        CALLBACKTYPE_FAILSAFE => state.failsafe = callback,
        CALLBACKTYPE_SYSCALL => state.syscall = callback,
        CALLBACKTYPE_SYSCALL32 => state.syscall32 = callback,
        CALLBACKTYPE_SYSENTER | CALLBACKTYPE_SYSENTER_DEPRECATED => state.sysenter = callback,
        CALLBACKTYPE_NMI => state.nmi = callback,
        _ => return Err(Errno::NOSYS),
    }
    Ok(())
}

/// CALLBACKOP_unregister.
///
/// # Errors
/// `EINVAL` for what must have a place, `ENOSYS` for what cannot lose it or there is none of.
pub fn unregister_callback(current: &mut Current<'_>, handle: GuestHandle<Unregister>) -> Result<()> {
    let call = current.caller().read(handle)?;
    match call.r#type {
        CALLBACKTYPE_EVENT | CALLBACKTYPE_FAILSAFE | CALLBACKTYPE_SYSCALL => Err(Errno::INVAL),
        CALLBACKTYPE_NMI => {
            current.state.nmi = Callback::default();
            Ok(())
        }
        _ => Err(Errno::NOSYS),
    }
}

/// HYPERVISOR_nmi_op: registers or removes the NMI handler.
pub fn nmi_op(current: &mut Current<'_>, args: Args) -> Outcome {
    use xen_abi::nmi::{XENNMI_REGISTER_CALLBACK, XENNMI_UNREGISTER_CALLBACK};
    match args[0] as u32 {
        XENNMI_REGISTER_CALLBACK => {
            let call = match current.caller().read(GuestHandle::<xen_abi::nmi::Callback>::new(args[1])) {
                Ok(call) => call,
                Err(errno) => return errno.into(),
            };
            if !is_canonical(call.handler_address) {
                return Errno::INVAL.into();
            }
            current.state.nmi = Callback { rip: call.handler_address, cs: FLAT_KERNEL_CS64, masks_events: true };
            Outcome::Done(0)
        }
        XENNMI_UNREGISTER_CALLBACK => {
            current.state.nmi = Callback::default();
            Outcome::Done(0)
        }
        _ => Errno::NOSYS.into(),
    }
}
