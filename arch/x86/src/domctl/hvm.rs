//! The saved state of an HVM guest, as the toolstack reads and writes it.

use super::{Call, Done};
use crate::hvm::records;
use crate::machine::X86;
use alloc::sync::Arc;
use alloc::vec::Vec;
use domain::Domain;
use platform::GuestMemory;
use types::Errno;
use xen_abi::domctl::HvmContext;

/// Bytes that the records of a vCPU take at most; those of a domain too.
const MAX_RECORDS: usize = 8192;

/// XEN_DOMCTL_gethvmcontext. Without a buffer it only tells the size.
pub fn get(call: Call<'_>, domain: &Arc<Domain<X86>>, op: &mut HvmContext) -> Done {
    check(call, domain)?;
    let records = call.while_paused(domain, || records::save(call.hypervisor, domain))?;
    let room = core::mem::replace(&mut op.size, records.len() as u32) as usize;
    if op.buffer.is_null() {
        return Ok(true);
    }
    if room < records.len() {
        let why = format_args!("gethvmcontext of {}: {room} bytes, {} are needed", domain.id, records.len());
        return Err(call.refuse(Errno::NOSPC, why));
    }
    call.hypervisor.machine().copy_out(op.buffer.address(), &records)?;
    Ok(true)
}

/// XEN_DOMCTL_sethvmcontext.
pub fn set(call: Call<'_>, domain: &Arc<Domain<X86>>, op: &mut HvmContext) -> Done {
    check(call, domain)?;
    let (size, most) = (op.size as usize, MAX_RECORDS * (1 + domain.vcpus().len()));
    if size > most {
        let why = format_args!("sethvmcontext of {}: {size} bytes, {most} at most", domain.id);
        return Err(call.refuse(Errno::TOOBIG, why));
    }
    let mut records = Vec::new();
    records.try_reserve_exact(size).map_err(|_| Errno::NOMEM)?;
    records.resize(size, 0);
    call.hypervisor.machine().copy_in(op.buffer.address(), &mut records)?;
    let loaded = call.while_paused(domain, || records::load(call.hypervisor, domain, &records));
    let refuse = |errno| call.refuse(errno, format_args!("sethvmcontext of {}: unusable records", domain.id));
    loaded.map(|()| false).map_err(refuse)
}

fn check(call: Call<'_>, domain: &Domain<X86>) -> Result<(), Errno> {
    call.not_itself(domain)?;
    if domain.is_translated() {
        return Ok(());
    }
    Err(call.refuse(Errno::INVAL, format_args!("{} is no HVM domain", domain.id)))
}
