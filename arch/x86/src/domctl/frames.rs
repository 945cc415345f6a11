//! Frames of a guest as the toolstack sees them.

use super::{Call, Done};
use crate::machine::X86;
use domain::Domain;
use platform::{Frames, write_bytes};
use types::{Errno, Mfn, PAGE_SIZE};
use xen_abi::domctl::*;
use xen_abi::xen::HYPERVISOR_IRET;

/// Frames in one call at most.
const MAX_FRAMES: u64 = 1024;
/// Bytes of a stub in the hypercall page.
const STUB: usize = 32;
/// push rcx; push r11; mov eax, NUMBER; syscall; pop r11; pop rcx; ret. SYSCALL destroys rcx and r11.
const CALL: [u8; 14] = [0x51, 0x41, 0x53, 0xb8, 0, 0, 0, 0, 0x0f, 0x05, 0x41, 0x5b, 0x59, 0xc3];
/// push rcx; push r11; push rax; mov eax, NUMBER; syscall. It does not come back.
const IRET: [u8; 11] = [0x51, 0x41, 0x53, 0x50, 0xb8, 0, 0, 0, 0, 0x0f, 0x05];
/// What is between the stubs: int3.
const FILLER: u8 = 0xcc;

/// The hypercall page of a PV guest: a stub for each number.
fn stubs() -> [u8; PAGE_SIZE] {
    let mut page = [FILLER; PAGE_SIZE];
    for (number, stub) in page.chunks_exact_mut(STUB).enumerate() {
        if number == HYPERVISOR_IRET as usize {
            stub[..IRET.len()].copy_from_slice(&IRET);
            stub[5] = number as u8;
        } else {
            stub[..CALL.len()].copy_from_slice(&CALL);
            stub[4] = number as u8;
        }
    }
    page
}

/// XEN_DOMCTL_hypercall_init.
pub fn hypercall_page(call: Call<'_>, domain: &Domain<X86>, op: &mut HypercallInit) -> Done {
    let memory = &call.hypervisor.memory;
    let frame = memory
        .writable_ref(Mfn(op.gmfn), domain.id)
        .map_err(|denied| call.refuse(Errno::ACCES, format_args!("hypercall_init of {}: {denied}", domain.id)))?;
    let table = call.hypervisor.machine().table(frame.mfn()).ok_or(Errno::ACCES)?;
    write_bytes(table, 0, &stubs());
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
        let mfn = Mfn(call.read::<u64>(place)?);
        call.write(place, &u64::from(use_of(call, domain, mfn)))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stubs_load_their_numbers() {
        let page = stubs();
        assert_eq!(&page[..16], [0x51, 0x41, 0x53, 0xb8, 0, 0, 0, 0, 0x0f, 5, 0x41, 0x5b, 0x59, 0xc3, 0xcc, 0xcc]);
        assert_eq!(page[32 * 36 + 4], 36);
        assert_eq!(&page[32 * 23..][..11], [0x51, 0x41, 0x53, 0x50, 0xb8, 23, 0, 0, 0, 0x0f, 5]);
    }
}
