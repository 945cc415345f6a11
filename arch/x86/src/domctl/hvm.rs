//! The saved state of an HVM guest, as the toolstack reads and writes it.

use super::{Call, Done};
use crate::hvm::records;
use crate::machine::X86;
use alloc::sync::Arc;
use alloc::vec::Vec;
use domain::Domain;
use platform::GuestMemory;
use types::Errno;
use xen_abi::domctl::{HvmContext, HvmContextPartial};

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

/// XEN_DOMCTL_gethvmcontext_partial: one record, without its descriptor. Without a buffer it only tells the size.
pub fn get_one(call: Call<'_>, domain: &Arc<Domain<X86>>, op: &mut HvmContextPartial) -> Done {
    check(call, domain)?;
    let refuse = |errno| {
        let (kind, instance) = (op.r#type, op.instance);
        call.refuse(errno, format_args!("gethvmcontext_partial of {}: record {kind}, instance {instance}", domain.id))
    };
    let records = call.while_paused(domain, || records::save(call.hypervisor, domain))?;
    let record = records::find(&records, op.r#type, op.instance).map_err(refuse)?;
    let room = core::mem::replace(&mut op.bufsz, record.len() as u64);
    if op.buffer.is_null() {
        return Ok(true);
    }
    if room < record.len() as u64 {
        return Err(call.refuse(Errno::NOBUFS, format_args!("gethvmcontext_partial: {room} of {} bytes", record.len())));
    }
    call.hypervisor.machine().copy_out(op.buffer.address(), record)?;
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
