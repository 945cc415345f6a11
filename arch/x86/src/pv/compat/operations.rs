//! Calls of a 32-bit guest about its vCPU: traps, callbacks, descriptor tables.

use crate::current::Current;
use crate::pv::state::{Callback, TrapGate};
use crate::pv::{descriptors, operations};
use hypercall::{Args, Outcome};
use platform::GuestMemory;
use types::{Errno, Mfn, Result};
use xen_abi::GuestHandle;
use xen_abi::arch_x86;
use xen_abi::callback::*;
use xen_abi::compat::{CallbackRegister, FLAT_RING1_CS, NmiCallback, TrapInfo};
use xen_abi::nmi::{XENNMI_REGISTER_CALLBACK, XENNMI_UNREGISTER_CALLBACK};

/// An entry of a table of traps in 64-bit layout.
pub fn widen(entry: &TrapInfo) -> arch_x86::TrapInfo {
    let mut wide: arch_x86::TrapInfo = zerocopy::FromZeros::new_zeroed();
    (wide.vector, wide.flags, wide.cs, wide.address) = (entry.vector, entry.flags, entry.cs, entry.address.into());
    wide
}

/// HYPERVISOR_set_trap_table: replaces handlers, up to an entry with address 0; a null table clears all.
pub fn set_trap_table(current: &mut Current<'_>, args: Args) -> Result<()> {
    if args[0] == 0 {
        current.state.traps.fill(TrapGate::default());
        return Ok(());
    }
    let table = GuestHandle::<TrapInfo>::new(args[0]);
    for index in 0..=256 {
        let entry = current.caller().read(table.offset(index))?;
        if entry.address == 0 {
            break;
        }
        current.state.traps[usize::from(entry.vector)] = operations::trap_gate(current.state, &widen(&entry));
    }
    Ok(())
}

/// HYPERVISOR_set_gdt: list of frames, number of descriptors.
pub fn set_gdt(current: &mut Current<'_>, args: Args) -> Result<()> {
    let (machine, list) = (current.machine(), args[0]);
    let frame = |index: u64| {
        let mut word = [0; 4];
        machine.copy_in(list + index * 4, &mut word)?;
        Ok(Mfn(u32::from_le_bytes(word).into()))
    };
    descriptors::replace_gdt(current, frame, args[1])
}

/// HYPERVISOR_set_callbacks: selector and address of the event and of the failsafe callback.
pub fn set_callbacks(current: &mut Current<'_>, args: Args) -> Outcome {
    let state = &mut *current.state;
    let place = |at: usize| (state.kernel_selector(args[at] as u16), args[at + 1]);
    let (event, failsafe) = (place(0), place(2));
    (state.event.cs, state.event.rip) = event;
    (state.failsafe.cs, state.failsafe.rip) = failsafe;
    Outcome::Done(0)
}

/// HYPERVISOR_callback_op.
pub fn callback_op(current: &mut Current<'_>, args: Args) -> Result<()> {
    match args[0] as u32 {
        CALLBACKOP_REGISTER => {
            let call = current.caller().read(GuestHandle::<CallbackRegister>::new(args[1]))?;
            let callback = Callback {
                rip: call.address.eip.into(),
                cs: current.state.kernel_selector(call.address.cs as u16),
                masks_events: call.flags & CALLBACKF_MASK_EVENTS != 0,
            };
            match call.r#type {
                // There is no way into it.
                CALLBACKTYPE_SYSCALL => Err(Errno::NOSYS),
                kind => operations::set_callback(current.state, kind, callback),
            }
        }
        // The structure is the same in both widths.
        CALLBACKOP_UNREGISTER => operations::unregister_callback(current, GuestHandle::new(args[1])),
        _ => Err(Errno::NOSYS),
    }
}

/// HYPERVISOR_nmi_op: registers or removes the NMI handler.
pub fn nmi_op(current: &mut Current<'_>, args: Args) -> Result<()> {
    current.state.nmi = match args[0] as u32 {
        XENNMI_REGISTER_CALLBACK => {
            let call = current.caller().read(GuestHandle::<NmiCallback>::new(args[1]))?;
            Callback { rip: call.handler_address.into(), cs: FLAT_RING1_CS, masks_events: true }
        }
        XENNMI_UNREGISTER_CALLBACK => Callback::default(),
        _ => return Err(Errno::NOSYS),
    };
    Ok(())
}
