//! What of the machine's devices a domain may reach.

use super::{Done, Target};
use crate::{Caller, refuse};
use domain::Arch;
use types::Mfn;
use xen_abi::domctl::*;

/// Interrupts that can be named.
const INTERRUPTS: u32 = 256;
/// Frames in one call at most.
const MAX_FRAMES: u64 = 1 << 20;
/// XEN_DOMCTL_GSI_GRANT: give, rather than take.
const GIVE: u32 = 1;

/// XEN_DOMCTL_irq_permission.
pub fn interrupt<A: Arch>(caller: &Caller<'_, A>, target: &Target<A>, op: &mut IrqPermission) -> Done {
    if op.pirq >= INTERRUPTS {
        return Err(refuse!(caller, INVAL, "irq_permission: no interrupt {}", op.pirq));
    }
    change_interrupt(caller, target, op.pirq, op.allow_access != 0)
}

/// XEN_DOMCTL_gsi_permission.
pub fn gsi<A: Arch>(caller: &Caller<'_, A>, target: &Target<A>, op: &mut GsiPermission) -> Done {
    if op.gsi >= INTERRUPTS || op.flags & !GIVE != 0 {
        return Err(refuse!(caller, INVAL, "gsi_permission: interrupt {}, flags {:#x}", op.gsi, op.flags));
    }
    change_interrupt(caller, target, op.gsi, op.flags & GIVE != 0)
}

fn change_interrupt<A: Arch>(caller: &Caller<'_, A>, target: &Target<A>, gsi: u32, give: bool) -> Done {
    if !caller.domain.rights.lock().may_bind(gsi) {
        return Err(refuse!(caller, PERM, "interrupt {gsi} is not the caller's"));
    }
    target.rights.lock().change_irqs(gsi, gsi, give)?;
    Ok(false)
}

/// XEN_DOMCTL_iomem_permission. Nobody can give what he has not.
pub fn device_memory<A: Arch>(caller: &Caller<'_, A>, target: &Target<A>, op: &mut IoMemPermission) -> Done {
    let (first, count) = (op.first_mfn, op.nr_mfns);
    let last = first.checked_add(count).and_then(|end| end.checked_sub(1));
    let Some(last) = last.filter(|&last| last >= first && count != 0 && count <= MAX_FRAMES) else {
        return Err(refuse!(caller, INVAL, "iomem_permission: {count} frames from {first:#x}"));
    };
    if !(first..=last).all(|mfn| caller.machine().may_map_io(caller.domain.id, Mfn(mfn))) {
        return Err(refuse!(caller, PERM, "iomem_permission: frames {first:#x} to {last:#x} are not the caller's"));
    }
    target.rights.lock().change_iomem(first, last, op.allow_access != 0)?;
    Ok(false)
}
