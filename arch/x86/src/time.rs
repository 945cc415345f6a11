//! Guest time: the record from which a guest computes system time (`struct vcpu_time_info`, xen.h).

use crate::machine::X86;
use core::sync::atomic::{AtomicU64, Ordering::SeqCst};
use domain::{Domain, Vcpu};
use platform::GuestMemory;
use types::CpuId;
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

/// Writes the record for the CPU this runs on to vcpu_info.
pub fn update_record(machine: &X86, domain: &Domain<X86>, vcpu: &Vcpu<X86>) {
    let Some(info) = domain.evtchn.info(machine, vcpu.id) else { return };
    write_record(|index| info.word(TIME_OFFSET + 8 * index), record(hal_cpu::cpu_id()));
}

/// Writes the record to the machine address where the guest wants it (VCPUOP_register_vcpu_time_phys_area). False if it has
/// named none.
pub fn record_by_frame(machine: &X86, vcpu: &Vcpu<X86>) -> bool {
    vcpu.time_record.with(machine, |table, at| {
        let cpu = vcpu.running_on().unwrap_or(hal_cpu::cpu_id());
        write_record(|index| &table[at / 8 + index], record(cpu));
    })
}

/// Writes a record word by word, unless it is there. Its version is odd meanwhile, so that the guest reads it again.
fn write_record<'a>(word: impl Fn(usize) -> &'a AtomicU64, record: [u64; WORDS]) {
    let version = word(0).load(SeqCst) as u32;
    if version != 0 && (1..WORDS).all(|index| word(index).load(SeqCst) == record[index]) {
        return;
    }
    let odd = version.wrapping_add(1) | 1;
    word(0).store(odd.into(), SeqCst);
    (1..WORDS).for_each(|index| word(index).store(record[index], SeqCst));
    word(0).store(odd.wrapping_add(1).into(), SeqCst);
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
    let version = old[0] as u32;
    if version != 0 && old[1..] == new[1..] {
        return;
    }
    let odd = version.wrapping_add(1) | 1;
    new[0] = odd.into();
    // The place was readable a moment ago; if it cannot be written, the guest has only itself to blame.
    let written = machine.copy_out(address, new.as_bytes());
    let _ = written.and_then(|()| machine.copy_out(address, &odd.wrapping_add(1).to_le_bytes()));
}
