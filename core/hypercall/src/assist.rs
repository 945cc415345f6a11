//! `HYPERVISOR_vm_assist`: conveniences that a guest turns on (xen.h, `VMASST_*`).

use crate::{Args, Caller, Outcome};
use core::sync::atomic::Ordering::SeqCst;
use domain::Arch;
use types::{Errno, Result};
use xen_abi::domctl::XEN_DOMCTL_CDF_HVM;
use xen_abi::xen::*;

/// What a PV guest may turn on. The M2P table never shows in user mode here, so that `m2p_strict` changes nothing.
const PV_ASSISTS: u64 = 1 << VMASST_TYPE_4GB_SEGMENTS
    | 1 << VMASST_TYPE_4GB_SEGMENTS_NOTIFY
    | 1 << VMASST_TYPE_WRITABLE_PAGETABLES
    | 1 << VMASST_TYPE_PAE_EXTENDED_CR3
    | 1 << VMASST_TYPE_ARCHITECTURAL_IOPL
    | 1 << VMASST_TYPE_RUNSTATE_UPDATE_FLAG
    | 1 << VMASST_TYPE_M2P_STRICT;
/// What a translated guest may.
const HVM_ASSISTS: u64 = 1 << VMASST_TYPE_RUNSTATE_UPDATE_FLAG;

/// Carries out a vm_assist call.
pub fn vm_assist<A: Arch>(caller: &Caller<'_, A>, args: Args) -> Outcome {
    switch(caller, args[0] as u32, args[1] as u32).into()
}

fn switch<A: Arch>(caller: &Caller<'_, A>, command: u32, assist: u32) -> Result<()> {
    let translated = caller.domain.creation.flags & XEN_DOMCTL_CDF_HVM != 0;
    let allowed = if translated { HVM_ASSISTS } else { PV_ASSISTS };
    if assist >= 64 || allowed >> assist & 1 == 0 {
        return Err(Errno::INVAL);
    }
    let bit = 1u32.checked_shl(assist).unwrap_or(0);
    match command {
        VMASST_CMD_ENABLE => caller.domain.vm_assist.fetch_or(bit, SeqCst),
        VMASST_CMD_DISABLE => caller.domain.vm_assist.fetch_and(!bit, SeqCst),
        _ => return Err(Errno::NOSYS),
    };
    Ok(())
}
