//! Frames of a guest as the toolstack sees them.

use super::{Call, Done};
use crate::machine::X86;
use crate::pv::hypercall_page::{narrow_stubs, stubs};
use domain::Domain;
use platform::{Frames, write_bytes};
use types::{Errno, Mfn};
use xen_abi::domctl::*;

/// Frames in one call at most.
const MAX_FRAMES: u64 = 1024;

/// XEN_DOMCTL_hypercall_init.
pub fn hypercall_page(call: Call<'_>, domain: &Domain<X86>, op: &mut HypercallInit) -> Done {
    let memory = &call.hypervisor.memory;
    let frame = memory
        .writable_ref(Mfn(op.gmfn), domain.id)
        .map_err(|denied| call.refuse(Errno::ACCES, format_args!("hypercall_init of {}: {denied}", domain.id)))?;
    let table = call.hypervisor.machine().table(frame.mfn()).ok_or(Errno::ACCES)?;
    let stubs = if domain.memory.is_pae() { narrow_stubs() } else { stubs() };
    write_bytes(table, 0, &stubs);
    Ok(false)
}

/// XEN_DOMCTL_getpageframeinfo3: what each frame is used as.
pub fn types(call: Call<'_>, domain: &Domain<X86>, op: &mut GetPageFrameInfo3) -> Done {
    if op.num > MAX_FRAMES {
        let why = format_args!("getpageframeinfo3 of {}: {} frames, {MAX_FRAMES} at most", domain.id, op.num);
        return Err(call.refuse(Errno::TOOBIG, why));
    }
    for index in 0..op.num {
        let place = op.array.offset(index).address();
        let mfn = domain.frame(call.read::<u64>(place)?, call.hypervisor.machine());
        let found = mfn.map_or(XEN_DOMCTL_PFINFO_XTAB, |mfn| use_of(call, domain, mfn));
        call.write(place, &u64::from(found))?;
    }
    Ok(true)
}

fn use_of(call: Call<'_>, domain: &Domain<X86>, mfn: Mfn) -> u32 {
    let view = call.hypervisor.memory.frames().view(mfn);
    let Some(view) = view.filter(|view| view.references != 0 && view.owner == domain.id) else {
        return XEN_DOMCTL_PFINFO_XTAB;
    };
    let table = view.ty.level() << XEN_DOMCTL_PFINFO_LTAB_SHIFT;
    if view.pinned { table | XEN_DOMCTL_PFINFO_LPINTAB } else { table }
}
