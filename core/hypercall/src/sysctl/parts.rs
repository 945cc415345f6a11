//! Parts of the machine that could be switched off: CPUs and pages. All stay in use.

use super::Done;
use crate::{Caller, refuse};
use domain::Arch;
use types::{Errno, Mfn, PAGE_SHIFT, Result};
use xen_abi::memory::E820_RAM;
use xen_abi::sysctl::*;

/// Pages that one call can ask about.
const MOST_PAGES: u32 = 1 << 20;

/// XEN_SYSCTL_cpu_hotplug.
pub fn cpu<A: Arch>(caller: &Caller<'_, A>, op: &mut CpuHotplug) -> Done {
    let exists = (op.cpu as usize) < caller.hypervisor.cpus.len();
    match op.op {
        XEN_SYSCTL_CPU_HOTPLUG_ONLINE if exists => Err(Errno::EXIST),
        XEN_SYSCTL_CPU_HOTPLUG_OFFLINE if exists && op.cpu != 0 => {
            Err(refuse!(caller, OPNOTSUPP, "cpu_hotplug: CPU {} cannot be switched off", op.cpu))
        }
        XEN_SYSCTL_CPU_HOTPLUG_ONLINE | XEN_SYSCTL_CPU_HOTPLUG_OFFLINE => Err(Errno::INVAL),
        // Threads of a core are CPUs as others are.
        _ => Err(Errno::OPNOTSUPP),
    }
}

/// XEN_SYSCTL_page_offline_op: what became of each page, up to the first of which nothing can be said.
pub fn pages<A: Arch>(caller: &Caller<'_, A>, op: &mut PageOfflineOp) -> Done {
    if op.end < op.start {
        return Err(Errno::INVAL);
    }
    if op.end - op.start >= MOST_PAGES {
        return Err(refuse!(caller, NOMEM, "page_offline_op: pages {:#x} to {:#x} in one call", op.start, op.end));
    }
    for mfn in op.start..=op.end {
        let state = page(caller, op.cmd, mfn);
        let status = if state.is_ok() { 0 } else { PG_OFFLINE_INVALID as u32 };
        caller.write(op.status.offset(u64::from(mfn - op.start)), &status)?;
        state?;
    }
    Ok(false)
}

fn page<A: Arch>(caller: &Caller<'_, A>, cmd: u32, mfn: u32) -> Result<()> {
    let is_there = u64::from(mfn) < caller.hypervisor.memory.frames().len();
    match cmd {
        SYSCTL_QUERY_PAGE_OFFLINE if is_ram(caller, Mfn(mfn.into())) => Ok(()),
        SYSCTL_PAGE_ONLINE if is_there => Ok(()),
        SYSCTL_PAGE_OFFLINE if is_there => Err(refuse!(caller, OPNOTSUPP, "page_offline_op: page {mfn:#x} stays")),
        _ => Err(Errno::INVAL),
    }
}

fn is_ram<A: Arch>(caller: &Caller<'_, A>, mfn: Mfn) -> bool {
    let mut found = false;
    caller.machine().machine_memory_map(&mut |entry| {
        let frames = entry.addr >> PAGE_SHIFT..(entry.addr + entry.size) >> PAGE_SHIFT;
        found |= entry.kind == E820_RAM && frames.contains(&mfn.0);
    });
    found
}
