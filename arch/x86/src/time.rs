//! Guest time: the record from which a guest computes system time (`struct vcpu_time_info`, xen.h).

use crate::machine::X86;
use core::sync::atomic::Ordering::SeqCst;
use domain::{Domain, Hypervisor};
use platform::Frames;
use types::VcpuId;

/// Byte of the record in vcpu_info.
const TIME_OFFSET: usize = 32;

/// Writes the record for the CPU this runs on. Its version is odd meanwhile, so that the guest reads it again.
pub fn update_record(hypervisor: &Hypervisor<X86>, domain: &Domain<X86>, vcpu: VcpuId) {
    let Some((mfn, offset)) = domain.evtchn.vcpu_info(vcpu) else {
        return;
    };
    let Some(table) = hypervisor.machine().table(mfn) else {
        return;
    };
    let record = hal_irq::time::time_record(hal_cpu::cpu_id());
    let words = &table[(offset + TIME_OFFSET) / 8..][..4];
    let version = words[0].load(SeqCst) as u32;
    let scale = u64::from(record.tsc_to_system_mul) | u64::from(record.tsc_shift as u8) << 32;
    if version != 0
        && words[1].load(SeqCst) == record.tsc_timestamp
        && words[2].load(SeqCst) == record.system_time
        && words[3].load(SeqCst) == scale
    {
        return;
    }
    words[0].store(u64::from(version.wrapping_add(1) | 1), SeqCst);
    words[1].store(record.tsc_timestamp, SeqCst);
    words[2].store(record.system_time, SeqCst);
    words[3].store(scale, SeqCst);
    words[0].store(u64::from((version.wrapping_add(1) | 1).wrapping_add(1)), SeqCst);
}
