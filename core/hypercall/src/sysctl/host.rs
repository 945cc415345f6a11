//! The host's figures.

use super::Done;
use crate::{Caller, refuse};
use core::sync::atomic::Ordering::Relaxed;
use domain::Arch;
use types::{CpuId, Mfn, PAGE_SHIFT, PAGE_SIZE};
use xen_abi::memory::E820_RAM;
use xen_abi::physdev::PciDevice;
use xen_abi::sysctl::*;

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
        nr_nodes: memory.nodes().count(),
        max_node_id: memory.nodes().count() - 1,
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
    let nodes = 0..caller.hypervisor.memory.nodes().count();
    nodes.map(|node| installed_pages_of(caller, node)).sum()
}

/// The same of one NUMA node.
fn installed_pages_of<A: Arch>(caller: &Caller<'_, A>, node: u32) -> u64 {
    let mut pages = 0;
    caller.machine().machine_memory_map(&mut |entry| {
        let (address, size, kind) = (entry.addr, entry.size, entry.kind);
        if kind == E820_RAM {
            let shares = caller.hypervisor.memory.nodes().of_frames(Mfn(address >> PAGE_SHIFT), size >> PAGE_SHIFT);
            pages += shares.filter(|share| share.0 == node).map(|share| share.1).sum::<u64>();
        }
    });
    pages
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
    let memory = &caller.hypervisor.memory;
    let pages = u32::try_from(op.node).map_or_else(|_| memory.free_pages(), |node| memory.free_pages_of(node));
    op.avail_bytes = pages * PAGE_SIZE as u64;
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
            let node = caller.machine().node_of(CpuId(cpu)).unwrap_or(XEN_INVALID_NODE_ID);
            let place = CpuTopo { core: core % cores, socket: core / cores, node };
            caller.write(op.cputopo.offset(cpu.into()), &place)?;
        }
    }
    op.num_cpus = count;
    Ok(true)
}

/// XEN_SYSCTL_numainfo: memory of each node, and a matrix of distances as wide as the number of nodes that is given back.
pub fn nodes<A: Arch>(caller: &Caller<'_, A>, op: &mut NumaInfo) -> Done {
    let memory = &caller.hypervisor.memory;
    let mut count = memory.nodes().count();
    if !op.meminfo.is_null() || !op.distance.is_null() {
        count = count.min(op.num_nodes);
    }
    for node in 0..count {
        if !op.meminfo.is_null() {
            let (page, size) = (PAGE_SIZE as u64, installed_pages_of(caller, node));
            let info = MemInfo { memsize: size * page, memfree: memory.free_pages_of(node) * page };
            caller.write(op.meminfo.offset(node.into()), &info)?;
        }
        if !op.distance.is_null() {
            for to in 0..count {
                let cell = u64::from(node) * u64::from(count) + u64::from(to);
                caller.write(op.distance.offset(cell), &u32::from(memory.nodes().distance(node, to)))?;
            }
        }
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
