//! Figures of domains and of the machine-to-physical table, and what only translated domains have.

use crate::Caller;
use core::mem::offset_of;
use core::sync::atomic::Ordering::Relaxed;
use domain::{Arch, Domain};
use types::{Errno, Result};
use xen_abi::GuestHandle;
use xen_abi::arch_x86::{ArchSharedInfo, MACH2PHYS_VIRT_END, MACH2PHYS_VIRT_START};
use xen_abi::memory::*;
use xen_abi::xen::SharedInfo;

/// current_reservation, maximum_reservation, maximum_gpfn.
pub fn figure<A: Arch>(caller: &Caller<'_, A>, op: u32, at: u64) -> Result<i64> {
    let call = caller.read(GuestHandle::<MemoryDomain>::new(at))?;
    let domain = caller.controlled_domain(call.domid)?;
    let figure = match op {
        XENMEM_CURRENT_RESERVATION => domain.memory.total_pages(),
        XENMEM_MAXIMUM_RESERVATION => domain.memory.max_pages(),
        _ => highest_frame(caller, &domain),
    };
    Ok(figure.min(i64::MAX as u64) as i64)
}

/// The highest frame number of a guest, which it has written into its shared_info.
fn highest_frame<A: Arch>(caller: &Caller<'_, A>, domain: &Domain<A>) -> u64 {
    let at = (offset_of!(SharedInfo, arch) + offset_of!(ArchSharedInfo, max_pfn)) / 8;
    let count = caller.machine().table(domain.shared_info).map_or(0, |words| words[at].load(Relaxed));
    count.saturating_sub(1)
}

/// machphys_mapping: where guests see the machine-to-physical table.
pub fn machphys_mapping<A: Arch>(caller: &Caller<'_, A>, at: u64) -> Result<()> {
    let mapping = MachphysMapping {
        v_start: MACH2PHYS_VIRT_START,
        v_end: MACH2PHYS_VIRT_END,
        max_mfn: caller.hypervisor.memory.frames().len() - 1,
    };
    caller.write(GuestHandle::new(at), &mapping)
}

/// machphys_mfn_list: the first frame of each 2 MiB of the machine-to-physical table. Holes repeat the frame before them.
pub fn machphys_frames<A: Arch>(caller: &Caller<'_, A>, at: u64) -> Result<()> {
    let at = GuestHandle::<MachphysMfnList>::new(at);
    let mut call = caller.read(at)?;
    let blocks = (caller.hypervisor.memory.frames().len() * 8).div_ceil(2 << 20);
    let count = blocks.min(call.max_extents.into()) as u32;
    let mut last = 0;
    for block in 0..count {
        last = caller.machine().m2p_block(block.into()).map_or(last, |mfn| mfn.0);
        caller.write(call.extent_start.offset(block.into()), &last)?;
    }
    call.nr_extents = count;
    caller.write(at, &call)
}

/// add_to_physmap: a PV domain has no physical map of the hypervisor's, whoever asks.
pub fn add_to_physmap<A: Arch>(caller: &Caller<'_, A>, at: u64) -> Result<()> {
    let call = caller.read(GuestHandle::<AddToPhysmap>::new(at))?;
    if call.space == XENMAPSPACE_GMFN_FOREIGN {
        return Err(Errno::NOSYS);
    }
    caller.any_domain(call.domid)?;
    Err(Errno::ACCES)
}

/// add_to_physmap_batch: likewise.
pub fn add_batch_to_physmap<A: Arch>(caller: &Caller<'_, A>, at: u64) -> Result<()> {
    let call = caller.read(GuestHandle::<AddToPhysmapBatch>::new(at))?;
    if u32::from(call.space) == XENMAPSPACE_GMFN_RANGE {
        return Err(Errno::OPNOTSUPP);
    }
    caller.any_domain(call.domid)?;
    Err(Errno::ACCES)
}

/// remove_from_physmap: likewise.
pub fn remove_from_physmap<A: Arch>(caller: &Caller<'_, A>, at: u64) -> Result<()> {
    let call = caller.read(GuestHandle::<RemoveFromPhysmap>::new(at))?;
    caller.any_domain(call.domid)?;
    Err(Errno::ACCES)
}

/// set_pod_target, get_pod_target: a PV domain has all its memory from the beginning.
pub fn populate_on_demand<A: Arch>(caller: &Caller<'_, A>, at: u64) -> Result<()> {
    let call = caller.read(GuestHandle::<PodTarget>::new(at))?;
    caller.any_domain(call.domid)?;
    Err(Errno::INVAL)
}

/// access_op: rights to single pages are kept in a physical map, which a PV domain does not have.
pub fn access<A: Arch>(caller: &Caller<'_, A>, at: u64) -> Result<()> {
    let call = caller.read(GuestHandle::<MemAccessOp>::new(at))?;
    caller.other_domain(call.domid)?;
    Err(Errno::INVAL)
}

/// get_vnumainfo: no domain has virtual nodes.
pub fn virtual_numa<A: Arch>(caller: &Caller<'_, A>, at: u64) -> Result<()> {
    let call = caller.read(GuestHandle::<VnumaTopologyInfo>::new(at))?;
    if call.pad != 0 {
        return Err(Errno::INVAL);
    }
    caller.controlled_domain(call.domid)?;
    Err(Errno::OPNOTSUPP)
}
