//! Guest time: the record from which a guest computes system time (`struct vcpu_time_info`, xen.h).

use crate::machine::X86;
use core::array;
use core::sync::atomic::{Ordering::SeqCst, fence};
use domain::{Domain, Hypervisor, RunstateRecord, Vcpu};
use evtchn::Info;
use platform::{GuestMemory, Table, read_bytes, write_bytes};
use types::CpuId;
use xen_abi::xen::VMASST_TYPE_RUNSTATE_UPDATE_FLAG;
use zerocopy::IntoBytes;

/// Byte of the record in vcpu_info.
const TIME_OFFSET: usize = 32;
/// Words of the record: the first has the version, which is odd while the others change.
const WORDS: usize = 4;
/// XEN_PVCLOCK_TSC_STABLE_BIT, in the last word: no other vCPU's clock is ahead.
const STABLE: u64 = 1 << 40;

/// The record for a CPU, without its version.
fn record(cpu: CpuId) -> [u64; WORDS] {
    let record = hal_irq::time::time_record(cpu);
    let scale = u64::from(record.tsc_to_system_mul) | u64::from(record.tsc_shift as u8) << 32;
    let stable = if hal_irq::time::is_stable() { STABLE } else { 0 };
    [0, record.tsc_timestamp, record.system_time, scale | stable]
}

/// The version, odd, that a record has while `new` takes the place of `old`; `None` if it is there already.
fn version_between(old: &[u64; WORDS], new: &[u64; WORDS]) -> Option<u32> {
    let version = old[0] as u32;
    // Not a comparison of slices, which is a call of `memcmp` at each switch between vCPUs.
    let differing = (old[1] ^ new[1]) | (old[2] ^ new[2]) | (old[3] ^ new[3]);
    (version == 0 || differing != 0).then(|| version.wrapping_add(1) | 1)
}

/// Writes the record for the CPU this runs on to a vCPU's vcpu_info, if it has one, word by word, unless it is there. Its version
/// is odd meanwhile, so that the guest reads it again.
pub fn update_record(info: Option<Info<'_>>) {
    let Some(info) = info else { return };
    let word = |index| info.word(TIME_OFFSET + 8 * index);
    let new = record(hal_cpu::cpu_id());
    let Some(odd) = version_between(&array::from_fn(|index| word(index).load(SeqCst)), &new) else { return };
    word(0).store(odd.into(), SeqCst);
    (1..WORDS).for_each(|index| word(index).store(new[index], SeqCst));
    word(0).store(odd.wrapping_add(1).into(), SeqCst);
}

/// Writes the record to the machine address where the guest wants it (VCPUOP_register_vcpu_time_phys_area). False if it has
/// named none.
pub fn record_by_frame(machine: &X86, vcpu: &Vcpu<X86>) -> bool {
    vcpu.time_record.with(machine, |table, at| {
        let cpu = vcpu.running_on().unwrap_or(hal_cpu::cpu_id());
        replace(table, at, record(cpu));
    })
}

/// Writes a record at a byte of a frame, as [`update_record`] does. A 32-bit guest aligns it to four bytes only.
fn replace(table: &Table, at: usize, mut new: [u64; WORDS]) {
    let mut old = [0; WORDS];
    read_bytes(table, at, old.as_mut_bytes());
    let Some(odd) = version_between(&old, &new) else { return };
    write_bytes(table, at, &odd.to_le_bytes());
    fence(SeqCst);
    new[0] = odd.into();
    write_bytes(table, at, new.as_bytes());
    fence(SeqCst);
    write_bytes(table, at, &odd.wrapping_add(1).to_le_bytes());
}

/// Writes the record to the other place where the guest wants it (VCPUOP_register_vcpu_time_memory_area), unless it is there.
/// Its kernel's address space is loaded.
pub fn copy_record(machine: &X86, vcpu: &Vcpu<X86>) {
    let address = vcpu.time_area.load(SeqCst);
    let mut old = [0u64; WORDS];
    if address == 0 || machine.copy_in(address, old.as_mut_bytes()).is_err() {
        return;
    }
    let mut new = record(hal_cpu::cpu_id());
    let Some(odd) = version_between(&old, &new) else { return };
    new[0] = odd.into();
    // The place was readable a moment ago; if it cannot be written, the guest has only itself to blame.
    let written = machine.copy_out(address, new.as_bytes());
    let _ = written.and_then(|()| machine.copy_out(address, &odd.wrapping_add(1).to_le_bytes()));
}

/// Records that a guest wants at addresses of its kernel.
#[derive(Clone, Copy)]
pub struct Wanted {
    runstate: bool,
    time: bool,
}

/// Writes how the vCPU spent its time, and its time record, to frames; what is left to be written by address.
pub fn write_by_frame(hypervisor: &Hypervisor<X86>, vcpu: &Vcpu<X86>) -> Wanted {
    Wanted {
        runstate: !hypervisor.record_runstate(vcpu) && vcpu.runstate_area.load(SeqCst) != 0,
        time: !record_by_frame(hypervisor.machine(), vcpu) && vcpu.time_area.load(SeqCst) != 0,
    }
}

impl Wanted {
    /// Whether nothing is left.
    pub fn is_empty(self) -> bool {
        !self.runstate && !self.time
    }

    /// Writes it. The kernel's address space is loaded.
    pub fn write(self, machine: &X86, domain: &Domain<X86>, vcpu: &Vcpu<X86>) {
        if self.runstate {
            copy_runstate(machine, domain, vcpu);
        }
        if self.time {
            copy_record(machine, vcpu);
        }
    }
}

/// Writes how the vCPU spent its time (VCPUOP_register_runstate_memory_area). Its kernel's address space is loaded.
fn copy_runstate(machine: &X86, domain: &Domain<X86>, vcpu: &Vcpu<X86>) {
    let address = vcpu.runstate_area.load(SeqCst);
    let runstate = *vcpu.runstate.lock();
    let flagged = domain.vm_assist.load(SeqCst) >> VMASST_TYPE_RUNSTATE_UPDATE_FLAG & 1 != 0;
    let record = RunstateRecord::new(&runstate, domain.evtchn.is_narrow(), flagged);
    let written = machine.copy_out(address, record.bytes());
    if flagged && written.is_ok() {
        // It was writable a moment ago; if it is no more, the guest has only itself to blame.
        let (entry_time, unmarked) = record.unmarked();
        let _ = machine.copy_out(address.wrapping_add(entry_time as u64), &unmarked);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::AtomicU64;

    #[test]
    fn a_record_may_begin_between_words() {
        let table: Table = array::from_fn(|_| AtomicU64::new(!0));
        let mut got = [0; WORDS];
        write_bytes(&table, 20, [0u8; 32].as_slice());
        for (new, version) in [([0, 1, 2, 3], 2), ([0, 1, 2, 3], 2), ([0, 1, 2, 4], 4)] {
            replace(&table, 20, new);
            read_bytes(&table, 20, got.as_mut_bytes());
            assert_eq!(got, [version, new[1], new[2], new[3]], "unchanged ones keep their version");
        }
        let word = |index: usize| table[index].load(SeqCst);
        assert_eq!((word(2) as u32, word(6) >> 32), (!0, 0xffff_ffff), "what is around it stays");
    }
}
