//! Figures of domains and of the machine-to-physical table, and what no domain has.

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

/// The highest frame number of a guest, which a PV guest has written into its shared_info.
fn highest_frame<A: Arch>(caller: &Caller<'_, A>, domain: &Domain<A>) -> u64 {
    if let Some(p2m) = domain.p2m() {
        return p2m.max_mapped_gfn().0;
    }
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

/// get_vnumainfo: no domain has virtual nodes.
pub fn virtual_numa<A: Arch>(caller: &Caller<'_, A>, at: u64) -> Result<()> {
    let call = caller.read(GuestHandle::<VnumaTopologyInfo>::new(at))?;
    if call.pad != 0 {
        return Err(Errno::INVAL);
    }
    caller.controlled_domain(call.domid)?;
    Err(Errno::OPNOTSUPP)
}
