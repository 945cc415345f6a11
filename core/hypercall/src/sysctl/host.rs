//! The host's figures.

use super::Done;
use crate::{Caller, refuse};
use core::sync::atomic::Ordering::Relaxed;
use domain::Arch;
use types::{CpuId, PAGE_SIZE};
use xen_abi::memory::E820_RAM;
use xen_abi::physdev::PciDevice;
use xen_abi::sysctl::*;

/// Distance of a node from itself (ACPI's SLIT).
const OWN_DISTANCE: u32 = 10;

/// Number of CPUs, which are numbered from 0 without gaps.
fn cpus<A: Arch>(caller: &Caller<'_, A>) -> u32 {
    caller.hypervisor.cpus.len() as u32
}

/// XEN_SYSCTL_physinfo.
pub fn physical<A: Arch>(caller: &Caller<'_, A>, info: &mut PhysInfo) -> Done {
    let (host, memory) = (caller.machine().host(), &caller.hypervisor.memory);
    let mut capabilities = XEN_SYSCTL_PHYSCAP_PV | XEN_SYSCTL_PHYSCAP_GNTTAB_V1 | XEN_SYSCTL_PHYSCAP_GNTTAB_V2;
    if host.hvm {
        capabilities |= XEN_SYSCTL_PHYSCAP_HVM | XEN_SYSCTL_PHYSCAP_HAP;
    }
    *info = PhysInfo {
        threads_per_core: host.threads_per_core,
        cores_per_socket: host.cores_per_socket,
        nr_cpus: cpus(caller),
        max_cpu_id: cpus(caller) - 1,
        nr_nodes: 1,
        max_node_id: 0,
        cpu_khz: host.cpu_khz,
        capabilities,
        arch_capabilities: 0,
        pad: 0,
        total_pages: installed_pages(caller).max(memory.total_pages()),
        free_pages: memory.free_pages(),
        scrub_pages: memory.dirty_pages(),
        outstanding_pages: memory.claimed_pages(),
        max_mfn: memory.frames().len().saturating_sub(1),
        hw_cap: host.hw_caps,
    };
    Ok(true)
}

/// RAM of the machine, the hypervisor's own share included.
fn installed_pages<A: Arch>(caller: &Caller<'_, A>) -> u64 {
    let mut bytes = 0;
    caller.machine().machine_memory_map(&mut |entry| {
        let (size, kind) = (entry.size, entry.kind);
        if kind == E820_RAM {
            bytes += size;
        }
    });
    bytes >> types::PAGE_SHIFT
}

/// XEN_SYSCTL_getcpuinfo.
pub fn idle_times<A: Arch>(caller: &Caller<'_, A>, op: &mut GetCpuInfo) -> Done {
    let count = op.max_cpus.min(cpus(caller));
    for cpu in 0..count {
        let info = CpuInfo { idletime: caller.hypervisor.cpu(CpuId(cpu)).idle_time.load(Relaxed) };
        caller.write(op.info.offset(cpu.into()), &info)?;
    }
    op.nr_cpus = count;
    Ok(true)
}

/// XEN_SYSCTL_availheap. Memory is not told apart by address width, only by node.
pub fn free_memory<A: Arch>(caller: &Caller<'_, A>, op: &mut AvailHeap) -> Done {
    let here = op.node == -1 || op.node == 0;
    op.avail_bytes = if here { caller.hypervisor.memory.free_pages() * PAGE_SIZE as u64 } else { 0 };
    Ok(true)
}

/// XEN_SYSCTL_cputopoinfo.
pub fn cpu_topology<A: Arch>(caller: &Caller<'_, A>, op: &mut CpuTopoInfo) -> Done {
    let host = caller.machine().host();
    let (threads, cores) = (host.threads_per_core.max(1), host.cores_per_socket.max(1));
    let mut count = cpus(caller);
    if !op.cputopo.is_null() {
        count = count.min(op.num_cpus);
        for cpu in 0..count {
            let core = cpu / threads;
            let place = CpuTopo { core: core % cores, socket: core / cores, node: 0 };
            caller.write(op.cputopo.offset(cpu.into()), &place)?;
        }
    }
    op.num_cpus = count;
    Ok(true)
}

/// XEN_SYSCTL_numainfo: all memory is one node.
pub fn nodes<A: Arch>(caller: &Caller<'_, A>, op: &mut NumaInfo) -> Done {
    let asked = !op.meminfo.is_null() || !op.distance.is_null();
    let count = if asked { op.num_nodes.min(1) } else { 1 };
    if count == 1 && !op.meminfo.is_null() {
        let memory = &caller.hypervisor.memory;
        let page = PAGE_SIZE as u64;
        let info = MemInfo { memsize: memory.total_pages() * page, memfree: memory.free_pages() * page };
        caller.write(op.meminfo, &info)?;
    }
    if count == 1 && !op.distance.is_null() {
        caller.write(op.distance, &OWN_DISTANCE)?;
    }
    op.num_nodes = count;
    Ok(true)
}

/// XEN_SYSCTL_pcitopoinfo: no device is nearer to one node than to another. Cut off, it tells how many are done.
pub fn devices<A: Arch>(caller: &Caller<'_, A>, op: &mut PciTopoInfo) -> Done {
    if op.devs.is_null() || op.nodes.is_null() {
        return Err(refuse!(caller, INVAL, "pcitopoinfo: no lists of devices and nodes"));
    }
    let mut done = 0;
    while done < op.num_devs {
        caller.read::<PciDevice>(op.devs.offset(done.into()))?;
        caller.write(op.nodes.offset(done.into()), &XEN_INVALID_NODE_ID)?;
        done += 1;
        if caller.machine().should_yield() {
            break;
        }
    }
    op.num_devs = done;
    Ok(true)
}
