//! Page-table hypercalls: from the guest's arguments to `core/memory`, and the flushes that they ask for.

use crate::current::Current;
use alloc::sync::Arc;
use domain::Domain;
use hal_irq::FlushKind;
use hypercall::{Args, Outcome};
use memory::{Context, Denied, Why};
use platform::{GuestMemory, Preempt};
use types::{CpuMask, DomId, Errno, Mfn, Progress, Result};
use xen_abi::GuestHandle;
use xen_abi::xen::*;

/// Set in a count whose call was cut off before: the number done so far is at `pdone`.
const PREEMPTED: u64 = 1 << 31;
/// Requests after which a batch looks whether something more urgent waits.
const CHUNK: u64 = 32;

/// Logs why a request was refused, for whoever develops the guest. Who dumps the memory of a translated guest tries each of its
/// frame numbers, so holes are no news.
fn explain(current: &Current<'_>, call: &str, denied: Denied) -> Errno {
    if !matches!(denied.why, Why::Hole { .. }) {
        log::debug!("{}v{}: {call}: {denied}", current.domain.id, current.vcpu.id.0);
    }
    denied.errno
}

/// The owner of the frames that a call names: the caller itself, DOMID_IO, or with the right another domain.
fn frame_owner(current: &Current<'_>, raw: u16) -> Result<DomId> {
    match DomId(raw) {
        DomId::SELF => Ok(current.domain.id),
        // By its own number no domain is a foreign one.
        id if id == current.domain.id => Err(Errno::SRCH),
        DomId::IO => Ok(DomId::IO),
        DomId::XEN if current.domain.is_privileged() => Ok(DomId::XEN),
        DomId::XEN => Err(Errno::PERM),
        _ => current.caller().controlled_domain(raw).map(|domain| domain.id),
    }
}

/// Another domain than the caller's, on which mmuext_op acts; `None` for the caller's, which counts no reference.
fn extended_owner(current: &Current<'_>, raw: u16) -> Result<Option<Arc<Domain<crate::X86>>>> {
    match DomId(raw) {
        DomId::SELF => Ok(None),
        // By its own number no domain is a foreign one.
        id if id == current.domain.id => Err(Errno::SRCH),
        DomId::IO | DomId::XEN => Err(Errno::PERM),
        _ => current.caller().controlled_domain(raw).and_then(with_own_tables).map(Some),
    }
}

/// Refuses translated domains, whose page tables are nobody's business.
fn with_own_tables(domain: Arc<Domain<crate::X86>>) -> Result<Arc<Domain<crate::X86>>> {
    if domain.is_translated() { Err(Errno::INVAL) } else { Ok(domain) }
}

/// Progress of a batch that the guest can see, where it wants to.
fn report_done(current: &Current<'_>, pdone: u64, done: u64) {
    if pdone != 0 {
        // A guest that cannot be told has done what it has done.
        let _ = current.machine().copy_out(pdone, &(done as u32).to_le_bytes());
    }
}

/// What an earlier part of a cut-off batch has done.
fn done_before(current: &Current<'_>, count: u64, pdone: u64) -> Result<(u64, u64)> {
    if count & PREEMPTED == 0 {
        return Ok((count & 0xffff_ffff, 0));
    }
    let mut done = [0; 4];
    if pdone != 0 {
        current.machine().copy_in(pdone, &mut done)?;
    }
    Ok((count & 0xffff_ffff & !PREEMPTED, u32::from_le_bytes(done).into()))
}

/// HYPERVISOR_mmu_update: requests, count, pdone, domains.
pub fn mmu_update(current: &mut Current<'_>, args: Args) -> Outcome {
    let (count, before) = match done_before(current, args[1], args[2]) {
        Ok(counts) => counts,
        Err(errno) => return errno.into(),
    };
    let (frames, other) = match update_owners(current, args[3] as u32) {
        Ok(owners) => owners,
        // Rights are a matter of each request.
        Err(Errno::PERM) if count == 0 => return Outcome::Done(0),
        Err(errno) => return errno.into(),
    };
    let tables = &other.as_ref().unwrap_or(current.domain).memory;
    let handle = GuestHandle::<MmuUpdate>::new(args[0]);
    let machine = current.machine();
    let mut done = 0;
    let mut result = Ok(());
    while done < count {
        let request = match current.caller().read(handle.offset(done)) {
            Ok(request) => request,
            Err(errno) => {
                result = Err(errno);
                break;
            }
        };
        let context = Context { caller: current.domain.id, tables, frames, preempt: machine };
        match current.hypervisor.memory.mmu_update(&context, request.ptr, request.val) {
            Ok(Progress::Done(())) => done += 1,
            Ok(Progress::Again(_)) => return again(current, args, handle, (count, done, before)),
            Err(denied) => {
                result = Err(explain(current, "mmu_update", denied));
                break;
            }
        }
        if done % CHUNK == 0 && done < count && machine.should_yield() {
            return again(current, args, handle, (count, done, before));
        }
    }
    report_done(current, args[2], before + done);
    result.into()
}

/// Cuts a batch off.
fn again<T>(
    current: &Current<'_>,
    args: Args,
    handle: GuestHandle<T>,
    (count, done, before): (u64, u64, u64),
) -> Outcome {
    report_done(current, args[2], before + done);
    Outcome::Again([handle.offset(done).address(), (count - done) | PREEMPTED, args[2], args[3], args[4], args[5]])
}

/// Bits 0 to 15 name the frames' owner, bits 16 to 31 the tables' owner plus one (xen.h), here `None` for the caller.
fn update_owners(current: &Current<'_>, raw: u32) -> Result<(DomId, Option<Arc<Domain<crate::X86>>>)> {
    let tables = match (raw >> 16) as u16 {
        0 => None,
        other => Some(current.caller().controlled_domain(other - 1).and_then(with_own_tables)?),
    };
    Ok((frame_owner(current, raw as u16)?, tables))
}

/// HYPERVISOR_update_va_mapping: address, entry, flags.
pub fn update_va_mapping(current: &mut Current<'_>, args: Args) -> Outcome {
    update_mapping(current, args, current.domain.id)
}

/// HYPERVISOR_update_va_mapping_otherdomain: the same with frames of another domain.
pub fn update_va_mapping_otherdomain(current: &mut Current<'_>, args: Args) -> Outcome {
    match frame_owner(current, args[3] as u16) {
        Ok(DomId::IO) if !current.domain.is_privileged() => Errno::PERM.into(),
        Ok(owner) => update_mapping(current, args, owner),
        Err(errno) => errno.into(),
    }
}

fn update_mapping(current: &mut Current<'_>, args: Args, frames: DomId) -> Outcome {
    let [address, entry, flags, ..] = args;
    let Some(root) = current.state.root() else {
        return Errno::INVAL.into();
    };
    let context =
        Context { caller: current.domain.id, tables: &current.domain.memory, frames, preempt: current.machine() };
    match current.hypervisor.memory.update_va_mapping(&context, root, address, entry) {
        Ok(Progress::Done(())) => {}
        Ok(Progress::Again(_)) => return Outcome::Again(args),
        Err(denied) => return explain(current, "update_va_mapping", denied).into(),
    }
    let kind = match flags & UVMF_FLUSHTYPE_MASK {
        UVMF_TLB_FLUSH => FlushKind::All,
        UVMF_INVLPG => FlushKind::Page(address),
        _ => return Outcome::Done(0),
    };
    match flags & !UVMF_FLUSHTYPE_MASK {
        UVMF_LOCAL => flush_local(kind),
        UVMF_ALL => current.machine().flush_cpus_of(current.domain.id, kind),
        bitmap => match vcpu_mask(current, bitmap) {
            Ok(mask) => hal_irq::ipi::flush_cpus(&mask, kind),
            Err(errno) => return errno.into(),
        },
    }
    Outcome::Done(0)
}

fn flush_local(kind: FlushKind) {
    match kind {
        FlushKind::All => hal_cpu::flush_local(),
        FlushKind::Page(address) => hal_cpu::invlpg(address),
    }
}

/// The CPUs that run the vCPUs of a bitmap in guest memory.
fn vcpu_mask(current: &Current<'_>, bitmap: u64) -> Result<CpuMask> {
    let mut mask = CpuMask::EMPTY;
    for (index, chunk) in current.domain.vcpus().chunks(64).enumerate() {
        let mut word = [0u8; 8];
        let bytes = chunk.len().div_ceil(8);
        current.machine().copy_in(bitmap.wrapping_add(index as u64 * 8), &mut word[..bytes])?;
        let word = u64::from_le_bytes(word);
        for (bit, vcpu) in chunk.iter().enumerate() {
            if word >> bit & 1 != 0 {
                if let Some(cpu) = vcpu.running_on() {
                    mask.insert(cpu);
                }
            }
        }
    }
    Ok(mask)
}

/// HYPERVISOR_mmuext_op: operations, count, pdone, domain.
pub fn mmuext_op(current: &mut Current<'_>, args: Args) -> Outcome {
    let (count, before) = match done_before(current, args[1], args[2]) {
        Ok(counts) => counts,
        Err(errno) => return errno.into(),
    };
    let other = match extended_owner(current, args[3] as u16) {
        Ok(other) => other,
        Err(errno) => return errno.into(),
    };
    let owner = other.as_ref().unwrap_or(current.domain);
    let handle = GuestHandle::<MmuextOp>::new(args[0]);
    let mut done = 0;
    let mut result = Ok(());
    while done < count {
        let op = current.caller().read(handle.offset(done));
        match op.and_then(|op| extended(current, owner, &op)) {
            Ok(Progress::Done(())) => done += 1,
            Ok(Progress::Again(_)) => return again(current, args, handle, (count, done, before)),
            Err(errno) => {
                result = Err(errno);
                break;
            }
        }
        if done % CHUNK == 0 && done < count && current.machine().should_yield() {
            return again(current, args, handle, (count, done, before));
        }
    }
    report_done(current, args[2], before + done);
    result.into()
}

fn extended(current: &mut Current<'_>, owner: &Arc<Domain<crate::X86>>, op: &MmuextOp) -> Result<Progress<()>> {
    let memory = &current.hypervisor.memory;
    let tables = &owner.memory;
    let context = Context { caller: current.domain.id, tables, frames: owner.id, preempt: current.machine() };
    let is_self = owner.id == current.domain.id;
    let mfn = Mfn(op.arg1);
    match op.cmd {
        MMUEXT_PIN_L1_TABLE | MMUEXT_PIN_L2_TABLE | MMUEXT_PIN_L3_TABLE | MMUEXT_PIN_L4_TABLE => {
            let level = op.cmd - MMUEXT_PIN_L1_TABLE + 1;
            memory.pin(&context, mfn, level).map_err(|denied| explain(current, "pin", denied))
        }
        MMUEXT_UNPIN_TABLE => match memory.unpin(&context, mfn) {
            // Unpinned already; what is left is done by the next call on these tables.
            Ok(_) => Ok(Progress::Done(())),
            Err(denied) => Err(explain(current, "unpin", denied)),
        },
        MMUEXT_CLEAR_PAGE => {
            memory.clear_page(owner.id, mfn).map_err(|denied| explain(current, "clear_page", denied))?;
            Ok(Progress::Done(()))
        }
        MMUEXT_COPY_PAGE => {
            let from = Mfn(op.arg2);
            memory.copy_page(owner.id, from, mfn).map_err(|denied| explain(current, "copy_page", denied))?;
            Ok(Progress::Done(()))
        }
        MMUEXT_NEW_BASEPTR if is_self => new_root(current, mfn),
        MMUEXT_NEW_USER_BASEPTR if is_self => new_user_root(current, mfn),
        MMUEXT_SET_LDT if is_self => super::descriptors::set_ldt(current, op.arg1, op.arg2).map(Progress::Done),
        MMUEXT_NEW_BASEPTR | MMUEXT_NEW_USER_BASEPTR | MMUEXT_SET_LDT => Err(Errno::PERM),
        MMUEXT_MARK_SUPER | MMUEXT_UNMARK_SUPER => Err(Errno::OPNOTSUPP),
        _ => flush(current, is_self, op).map(Progress::Done),
    }
}

/// The operations that drop cached translations or cache lines.
fn flush(current: &Current<'_>, is_self: bool, op: &MmuextOp) -> Result<()> {
    let flush_domain = |kind| current.machine().flush_cpus_of(current.domain.id, kind);
    let named_cpus = || vcpu_mask(current, op.arg2).map_err(|_| Errno::INVAL);
    if !is_self && op.cmd <= MMUEXT_FLUSH_CACHE_GLOBAL {
        return Err(Errno::PERM);
    }
    match op.cmd {
        MMUEXT_TLB_FLUSH_LOCAL => hal_cpu::flush_local(),
        MMUEXT_INVLPG_LOCAL => hal_cpu::invlpg(op.arg1),
        MMUEXT_TLB_FLUSH_MULTI => hal_irq::ipi::flush_cpus(&named_cpus()?, FlushKind::All),
        MMUEXT_INVLPG_MULTI => hal_irq::ipi::flush_cpus(&named_cpus()?, FlushKind::Page(op.arg1)),
        MMUEXT_TLB_FLUSH_ALL => flush_domain(FlushKind::All),
        MMUEXT_INVLPG_ALL => flush_domain(FlushKind::Page(op.arg1)),
        MMUEXT_FLUSH_CACHE | MMUEXT_FLUSH_CACHE_GLOBAL => {
            if !current.domain.is_privileged() {
                return Err(Errno::ACCES);
            }
            hal::cpu::write_back_caches();
        }
        _ => return Err(Errno::NOSYS),
    }
    Ok(())
}

/// Gives the kernel another top-level table, for a write to CR3.
///
/// # Errors
/// `EINVAL` where the frame cannot be one; `EAGAIN` where it takes longer than may be.
pub fn new_baseptr(current: &mut Current<'_>, mfn: Mfn) -> Result<()> {
    match new_root(current, mfn)? {
        Progress::Done(()) => Ok(()),
        Progress::Again(_) => Err(Errno::AGAIN),
    }
}

fn new_root(current: &mut Current<'_>, mfn: Mfn) -> Result<Progress<()>> {
    if current.state.root_kernel == Some(mfn) {
        hal_cpu::flush_local();
        return Ok(Progress::Done(()));
    }
    if let Progress::Again(cursor) = take_root(current, mfn)? {
        return Ok(Progress::Again(cursor));
    }
    let old = current.state.root_kernel.replace(mfn);
    super::compat::put_below_top(current.machine(), current.state);
    if let Some(root) = current.state.kernel_root().filter(|_| current.state.kernel_mode) {
        hal_cpu::load_root(current.machine().lendable(), root);
    }
    drop_root(current, old);
    Ok(Progress::Done(()))
}

fn new_user_root(current: &mut Current<'_>, mfn: Mfn) -> Result<Progress<()>> {
    if current.state.narrow.is_some() {
        return Err(Errno::INVAL);
    }
    if mfn.0 == 0 {
        let old = current.state.root_user.take();
        drop_root(current, old);
        return Ok(Progress::Done(()));
    }
    if current.state.root_user != Some(mfn) {
        if let Progress::Again(cursor) = take_root(current, mfn)? {
            return Ok(Progress::Again(cursor));
        }
        let old = current.state.root_user.replace(mfn);
        drop_root(current, old);
    }
    Ok(Progress::Done(()))
}

fn take_root(current: &Current<'_>, mfn: Mfn) -> Result<Progress<()>> {
    let context = Context::own(&current.domain.memory, current.machine());
    current.hypervisor.memory.take_root(&context, mfn).map_err(|denied| explain(current, "new base pointer", denied))
}

fn drop_root(current: &Current<'_>, old: Option<Mfn>) {
    if let Some(old) = old {
        current.hypervisor.memory.drop_root(old);
        // What is left is done by the next call on these tables.
        let _ = current.hypervisor.memory.settle(&current.domain.memory, current.machine());
    }
}
