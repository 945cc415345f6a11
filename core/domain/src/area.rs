//! Records that the hypervisor keeps in a guest's frames: a place that the guest names by machine address, once and for all,
//! so that nothing needs the guest's page tables to write there.

use crate::{Arch, Domain, Hypervisor, Vcpu};
use core::sync::atomic::{AtomicBool, Ordering::SeqCst, fence};
use platform::sync::Mutex;
use platform::{Frames, Table, write_bytes};
use sched::RunstateClock;
use types::{Mfn, PAGE_SIZE};
use xen_abi::vcpu::{RunstateInfo, XEN_RUNSTATE_UPDATE};

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

/// How a vCPU spent its time, as its guest lays that out (`struct vcpu_runstate_info`, vcpu.h).
pub struct RunstateRecord {
    bytes: [u8; size_of::<RunstateInfo>()],
    /// Byte of the entry time: a 32-bit guest aligns 64-bit numbers to four bytes.
    entry_time: usize,
    since: u64,
}

impl RunstateRecord {
    /// The record for a guest whose vCPUs have 32 bits if `is_narrow`; marked as being updated if `is_marked`.
    pub fn new(clock: &RunstateClock, is_narrow: bool, is_marked: bool) -> Self {
        let entry_time = if is_narrow { 4 } else { 8 };
        let mut record = RunstateRecord { bytes: [0; size_of::<RunstateInfo>()], entry_time, since: clock.since() };
        record.bytes[..4].copy_from_slice(&(clock.state() as u32).to_le_bytes());
        let marked = if is_marked { record.since | XEN_RUNSTATE_UPDATE } else { record.since };
        let numbers = [marked].into_iter().chain(clock.times());
        for (place, number) in record.bytes[entry_time..].chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        record
    }

    /// Its size in bytes.
    pub const fn size(is_narrow: bool) -> usize {
        size_of::<RunstateInfo>() - if is_narrow { 4 } else { 0 }
    }

    /// All of it.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..Self::size(self.entry_time == 4)]
    }

    /// Byte of the entry time, and what to write there to take the mark away.
    pub fn unmarked(&self) -> (usize, [u8; 8]) {
        (self.entry_time, self.since.to_le_bytes())
    }
}

impl<A: Arch> Hypervisor<A> {
    /// Writes how a vCPU spent its time to where VCPUOP_register_runstate_phys_area has said. False if it has not.
    pub fn record_runstate(&self, vcpu: &Vcpu<A>) -> bool {
        vcpu.runstate_record.with(self.machine(), |table, at| {
            let clock = *vcpu.runstate.lock();
            let is_narrow = vcpu.domain.upgrade().is_some_and(|domain| domain.evtchn.is_narrow());
            write_runstate(table, at, &RunstateRecord::new(&clock, is_narrow, true));
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

/// Writes a marked record, whose mark is there before anything else changes and goes after everything has.
fn write_runstate(table: &Table, at: usize, record: &RunstateRecord) {
    let (entry_time, unmarked) = record.unmarked();
    write_bytes(table, at + entry_time, &record.bytes()[entry_time..][..8]);
    fence(SeqCst);
    write_bytes(table, at, record.bytes());
    fence(SeqCst);
    write_bytes(table, at + entry_time, &unmarked);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fakes::FakeArch;
    use platform::read_bytes;
    use sched::Runstate;
    use zerocopy::{FromBytes, FromZeros, IntoBytes};

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
        write_runstate(table, 64, &RunstateRecord::new(&clock, false, true));
        let mut info = RunstateInfo::new_zeroed();
        read_bytes(table, 64, info.as_mut_bytes());
        assert_eq!((info.state, info.state_entry_time, info.time), (2, 25, [0, 0, 0, 20]));
    }

    #[test]
    fn a_record_of_a_32_bit_guest_has_no_gap() {
        let mut clock = RunstateClock::new(5);
        clock.change(Runstate::Blocked, 25);
        let record = RunstateRecord::new(&clock, true, false);
        let narrow = xen_abi::compat::RunstateInfo::read_from_bytes(record.bytes()).unwrap();
        assert_eq!((narrow.state, narrow.state_entry_time, narrow.time[3]), (2, [25, 0], [20, 0]));
        assert_eq!(record.unmarked(), (4, 25u64.to_le_bytes()));
    }
}
