//! Vector registers of a vCPU as the toolstack reads and writes them: XCR0, the states ever used, then the XSAVE image.

use super::vcpu::find;
use super::{Call, Done};
use crate::machine::X86;
use alloc::sync::Arc;
use alloc::vec::Vec;
use domain::Domain;
use platform::GuestMemory;
use types::Errno;
use xen_abi::domctl::VcpuExtState;

/// Bytes before the image.
const HEAD: usize = 16;

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
    let taken = call.while_paused(domain, || vcpu.state.lock().vectors().take_image(own, used, &image));
    let refuse = |errno| {
        let why =
            format_args!("setvcpuextstate of {}: XCR0 {own:#x}, used {used:#x}: no image for this CPU", domain.id);
        call.refuse(errno, why)
    };
    taken.map(|()| false).map_err(refuse)
}
