//! Records that the hypervisor keeps in a guest's frames: a place that the guest names by machine address, once and for all,
//! so that nothing needs the guest's page tables to write there.

use crate::{Arch, Domain, Hypervisor, Vcpu};
use core::sync::atomic::{AtomicBool, Ordering::SeqCst, fence};
use platform::sync::Mutex;
use platform::{Frames, Table, write_bytes};
use sched::RunstateClock;
use types::{Mfn, PAGE_SIZE};
use xen_abi::vcpu::{RunstateInfo, XEN_RUNSTATE_UPDATE};
use zerocopy::IntoBytes;

/// Where a record is. While it is set it holds a reference and a writable use of its frame.
#[derive(Default)]
pub struct Area {
    /// Spares those who have no record the lock.
    is_set: AtomicBool,
    /// Machine address. The lock is held while the record is written, so that its frame cannot go meanwhile.
    address: Mutex<Option<u64>>,
}

impl Area {
    /// Whether there is a place.
    pub fn is_set(&self) -> bool {
        self.is_set.load(SeqCst)
    }

    /// Moves the record; `None` ends it. The frame where it was, whose reference and use the caller drops.
    pub fn set(&self, address: Option<u64>) -> Option<Mfn> {
        let mut place = self.address.lock();
        self.is_set.store(address.is_some(), SeqCst);
        core::mem::replace(&mut *place, address).map(Mfn::containing)
    }

    /// Calls `write` with the record's frame and the byte within at which it begins; false if there is none.
    pub fn with(&self, frames: &impl Frames, write: impl FnOnce(&Table, usize)) -> bool {
        if !self.is_set() {
            return false;
        }
        let place = self.address.lock();
        let Some(address) = *place else { return false };
        let Some(table) = frames.table(Mfn::containing(address)) else { return false };
        write(table, (address % PAGE_SIZE as u64) as usize);
        true
    }
}

impl<A: Arch> Hypervisor<A> {
    /// Writes how a vCPU spent its time to where VCPUOP_register_runstate_phys_area has said. False if it has not.
    pub fn record_runstate(&self, vcpu: &Vcpu<A>) -> bool {
        vcpu.runstate_record.with(self.machine(), |table, at| {
            let clock = *vcpu.runstate.lock();
            write_runstate(table, at, &clock);
        })
    }

    /// Takes back the records of a domain that dies; none of its vCPUs runs.
    pub(crate) fn release_records(&self, domain: &Domain<A>) {
        for vcpu in domain.vcpus() {
            for area in [&vcpu.runstate_record, &vcpu.time_record] {
                if let Some(mfn) = area.set(None) {
                    self.memory.put_writable(mfn);
                }
            }
        }
    }
}

/// Byte of the entry time, which says while the rest changes that it does.
const ENTRY_TIME: usize = core::mem::offset_of!(RunstateInfo, state_entry_time);

fn write_runstate(table: &Table, at: usize, clock: &RunstateClock) {
    let info = RunstateInfo {
        state: clock.state() as i32,
        _gap0: [0; 4],
        state_entry_time: clock.since() | XEN_RUNSTATE_UPDATE,
        time: clock.times(),
    };
    write_bytes(table, at + ENTRY_TIME, info.state_entry_time.as_bytes());
    fence(SeqCst);
    write_bytes(table, at, info.as_bytes());
    fence(SeqCst);
    write_bytes(table, at + ENTRY_TIME, clock.since().as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fakes::FakeArch;
    use platform::read_bytes;
    use sched::Runstate;
    use zerocopy::FromZeros;

    #[test]
    fn a_record_is_written_where_it_was_put_last() {
        let hypervisor = FakeArch::hypervisor(8, 1);
        let area = Area::default();
        let write = || area.with(hypervisor.machine(), |table, at| write_bytes(table, at, &[7]));
        assert!(!write());
        assert_eq!(area.set(Some(0x3010)), None);
        assert!(write());
        assert_eq!(area.set(Some(0x4ff8)), Some(Mfn(3)));
        assert!(write());
        assert_eq!(area.set(None), Some(Mfn(4)));
        assert!(!write());
        let word = |mfn, index: usize| hypervisor.machine().table(Mfn(mfn)).unwrap()[index].load(SeqCst);
        assert_eq!((word(3, 2), word(4, 511)), (7, 7));
    }

    #[test]
    fn a_runstate_record_is_complete_and_not_marked() {
        let hypervisor = FakeArch::hypervisor(8, 1);
        let table = hypervisor.machine().table(Mfn(2)).unwrap();
        let mut clock = RunstateClock::new(5);
        clock.change(Runstate::Blocked, 25);
        write_runstate(table, 64, &clock);
        let mut info = RunstateInfo::new_zeroed();
        read_bytes(table, 64, info.as_mut_bytes());
        assert_eq!((info.state, info.state_entry_time, info.time), (2, 25, [0, 0, 0, 20]));
    }
}
