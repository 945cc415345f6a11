//! Vector registers of a vCPU as the toolstack reads and writes them: XCR0, the states ever used, then the XSAVE image.

use super::vcpu::find;
use super::{Call, Done};
use crate::machine::X86;
use alloc::sync::Arc;
use alloc::vec::Vec;
use domain::Domain;
use platform::GuestMemory;
use types::Errno;
use x86_defs::control::Xcr0;
use xen_abi::domctl::VcpuExtState;

/// Bytes before the image.
const HEAD: usize = 16;
/// Bytes of the image up to the end of its header.
const MIN_IMAGE: usize = 576;
/// Place in the image of XSTATE_BV and XCOMP_BV (SDM vol. 1, 13.4.2).
const USED: usize = 512;
const COMPACT: usize = 520;

/// XEN_DOMCTL_getvcpuextstate. Without a buffer it only tells the size.
pub fn get(call: Call<'_>, domain: &Arc<Domain<X86>>, op: &mut VcpuExtState) -> Done {
    call.not_itself(domain)?;
    let vcpu = find(call, domain, op.vcpu, Errno::SRCH)?;
    let known = hal_cpu::host_xcr0().bits();
    if known == 0 {
        (op.size, op.xfeature_mask) = (0, 0);
        return Ok(true);
    }
    let copied = call.while_paused(domain, || {
        let mut state = vcpu.state.lock();
        let vectors = state.vectors();
        let (own, image) = (vectors.xcr0, vectors.image.bytes());
        let size = (HEAD + image.len()) as u64;
        if op.size == 0 && op.xfeature_mask == 0 || op.buffer.is_null() {
            (op.size, op.xfeature_mask) = (size, known);
            return Ok(());
        }
        if op.size != size || op.xfeature_mask != known {
            let (given, mask) = (op.size, op.xfeature_mask);
            let why = format_args!("getvcpuextstate: {given} bytes, mask {mask:#x} instead of {size}, {known:#x}");
            return Err(call.refuse(Errno::INVAL, why));
        }
        let address = op.buffer.address();
        call.write(address, &[own, own])?;
        call.hypervisor.machine().copy_out(address.wrapping_add(HEAD as u64), image)
    });
    copied.map(|()| true)
}

/// XEN_DOMCTL_setvcpuextstate.
pub fn set(call: Call<'_>, domain: &Arc<Domain<X86>>, op: &mut VcpuExtState) -> Done {
    call.not_itself(domain)?;
    let vcpu = find(call, domain, op.vcpu, Errno::SRCH)?;
    let known = hal_cpu::host_xcr0();
    let most = HEAD + hal_cpu::xstate_size(known);
    let size = usize::try_from(op.size).map_err(|_| Errno::INVAL)?;
    if size < HEAD || size > most {
        let why = format_args!("setvcpuextstate of {}: {size} bytes, {HEAD} to {most} are possible", domain.id);
        return Err(call.refuse(Errno::INVAL, why));
    }
    let mut image: Vec<u8> = Vec::new();
    image.try_reserve_exact(size - HEAD).map_err(|_| Errno::NOMEM)?;
    image.resize(size - HEAD, 0);
    let address = op.buffer.address();
    let [own, used]: [u64; 2] = call.read(address)?;
    call.hypervisor.machine().copy_in(address.wrapping_add(HEAD as u64), &mut image)?;
    if !is_valid(own, used, known, &image) {
        let why =
            format_args!("setvcpuextstate of {}: XCR0 {own:#x}, used {used:#x}: no image for this CPU", domain.id);
        return Err(call.refuse(Errno::INVAL, why));
    }
    call.while_paused(domain, || {
        let mut state = vcpu.state.lock();
        let vectors = state.vectors();
        vectors.xcr0 = own;
        vectors.image.reset();
        let to = vectors.image.bytes_mut();
        let count = image.len().min(to.len());
        to[..count].copy_from_slice(&image[..count]);
    });
    Ok(false)
}

/// Whether the image fits the CPU: no state that it has not, in standard form, x87 always on.
fn is_valid(own: u64, used: u64, known: Xcr0, image: &[u8]) -> bool {
    let known = known.bits();
    let word = |at: usize| image.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes);
    if (own | used) & !known != 0 || own & 1 == 0 || own & !used != 0 {
        return false;
    }
    image.len() >= MIN_IMAGE && word(USED).is_some_and(|states| states & !used == 0) && word(COMPACT) == Some(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_must_fit_the_cpu() {
        let known = Xcr0::from_bits_retain(7);
        let mut image = [0; 832];
        image[USED] = 3;
        assert!(is_valid(7, 7, known, &image));
        assert!(!is_valid(15, 15, known, &image), "a state that the CPU has not");
        assert!(!is_valid(6, 7, known, &image), "x87 is off");
        assert!(!is_valid(7, 3, known, &image), "on but never used");
        assert!(!is_valid(7, 7, known, &image[..512]), "no header");
        image[USED] = 8;
        assert!(!is_valid(7, 7, known, &image), "uses a state that is not there");
        image[USED] = 3;
        image[COMPACT + 7] = 0x80;
        assert!(!is_valid(7, 7, known, &image), "compacted");
    }
}
