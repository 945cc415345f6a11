//! The console's ring, the list of domains, and debug keys.

use super::Done;
use crate::domctl::info::domain_info;
use crate::{Caller, keys, refuse};
use domain::Arch;
use types::DomId;
use xen_abi::sysctl::*;

/// Bytes of the ring that are moved at a time.
const CHUNK: usize = 256;
/// Keys in one call at most.
const MAX_KEYS: u32 = 64;

/// XEN_SYSCTL_readconsole.
pub fn read_console<A: Arch>(caller: &Caller<'_, A>, op: &mut ReadConsole) -> Done {
    let machine = caller.machine();
    let mut from = (op.incremental != 0).then_some(op.index);
    let mut done: u32 = 0;
    while done < op.count {
        let mut bytes = [0; CHUNK];
        let room = CHUNK.min((op.count - done) as usize);
        let (got, next) = machine.console_ring(from, false, &mut bytes[..room]);
        from = Some(next);
        if got == 0 {
            break;
        }
        machine.copy_out(op.buffer.address().wrapping_add(done.into()), &bytes[..got])?;
        done += got as u32;
    }
    if op.clear != 0 {
        let (_, next) = machine.console_ring(from, true, &mut []);
        from = Some(next);
    }
    op.count = done;
    op.index = from.unwrap_or(op.index);
    Ok(true)
}

/// XEN_SYSCTL_getdomaininfolist: the domains from a number on, as many as there is room for.
pub fn domains<A: Arch>(caller: &Caller<'_, A>, op: &mut GetDomainInfoList) -> Done {
    let mut from = DomId(op.first_domain);
    let mut count = 0;
    while count < op.max_domains {
        let Some(domain) = caller.hypervisor.domains.first_from(from) else {
            break;
        };
        caller.write(op.buffer.offset(count.into()), &domain_info(caller.hypervisor, &domain))?;
        count += 1;
        from = DomId(domain.id.0 + 1);
    }
    op.num_domains = count;
    Ok(true)
}

/// XEN_SYSCTL_debug_keys.
pub fn debug_keys<A: Arch>(caller: &Caller<'_, A>, op: &mut DebugKeys) -> Done {
    if op.nr_keys > MAX_KEYS {
        return Err(refuse!(caller, INVAL, "debug_keys: {} keys, {MAX_KEYS} at most", op.nr_keys));
    }
    for index in 0..op.nr_keys {
        let key = caller.read(op.keys.offset(index.into()))?;
        keys::press(caller.hypervisor, key);
    }
    Ok(false)
}
