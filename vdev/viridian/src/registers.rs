//! Model-specific registers (TLFS, appendix C).

use crate::clock::scale;
use crate::{CALL_MARK, Memory, Owner, ReferenceTime, Tsc};
use types::PAGE_SIZE;
use xen_abi::hvm_params::*;
use xen_abi::hvm_save::viridian::{HvmViridianDomainContext, HvmViridianVcpuContext};
use zerocopy::FromZeros;

const GUEST_OS_ID: u32 = 0x4000_0000;
const HYPERCALL: u32 = 0x4000_0001;
const VP_INDEX: u32 = 0x4000_0002;
const TIME_REF_COUNT: u32 = 0x4000_0020;
const REFERENCE_TSC: u32 = 0x4000_0021;
const TSC_FREQUENCY: u32 = 0x4000_0022;
const APIC_FREQUENCY: u32 = 0x4000_0023;
const EOI: u32 = 0x4000_0070;
const ICR: u32 = 0x4000_0071;
const TPR: u32 = 0x4000_0072;
const VP_ASSIST_PAGE: u32 = 0x4000_0073;
const CRASH_P0: u32 = 0x4000_0100;
const CRASH_P4: u32 = 0x4000_0104;
const CRASH_CTL: u32 = 0x4000_0105;

/// In CRASH_CTL: the parameters are in place.
const CRASH_NOTIFY: u64 = 1 << 63;
/// Ticks of the local APIC's timer in a second: one is 10 ns.
const APIC_HZ: u64 = 100_000_000;
/// Of the interrupt command: its destination, and its lower half without the delivery status.
const COMMAND_BITS: u64 = 0xff00_0000_ffff_efff;
/// What fills the hypercall page: int3.
const FILLER: u8 = 0xcc;

/// The access raises #GP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault;

/// The page that a register names, if it is enabled by bit 0.
pub(crate) fn page(register: u64) -> Option<u64> {
    (register & 1 != 0).then_some(register & !(PAGE_SIZE as u64 - 1))
}

/// A domain's part.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Partition {
    pub(crate) parts: u32,
    os_id: u64,
    hypercall: u64,
    reference_tsc: u64,
    /// Number of times that the reference page was written, never 0 in it.
    sequence: u32,
    /// Its reference time.
    pub time: ReferenceTime,
}

/// A vCPU's part.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Processor {
    index: u32,
    pub(crate) assist: u64,
    /// The guest was told that it need not end the interrupt in service.
    pub(crate) spared: bool,
    crash: [u64; 5],
}

impl Partition {
    /// Of a guest with these parts (`HVMPV_*`), of which `HVMPV_BASE_FREQ` is one; its reference time begins at 0.
    pub fn new(parts: u32, tsc: &Tsc) -> Partition {
        let mut time = ReferenceTime::default();
        time.set(0);
        time.thaw(tsc);
        Partition { parts, os_id: 0, hypercall: 0, reference_tsc: 0, sequence: 0, time }
    }

    /// What the guest says that it is; 0 before it does.
    pub fn os_id(&self) -> u64 {
        self.os_id
    }

    fn has(&self, part: u32) -> Result<(), Fault> {
        if self.parts & part != 0 { Ok(()) } else { Err(Fault) }
    }

    fn has_frequencies(&self) -> Result<(), Fault> {
        if self.parts & HVMPV_NO_FREQ == 0 { Ok(()) } else { Err(Fault) }
    }

    /// Writes the guest's reference page, if it has one, which tells how to compute reference time (TLFS, 12.7.2). Sequence 0
    /// says that there is no way. To be done again after [`ReferenceTime::thaw`].
    pub fn refresh(&mut self, owner: &mut impl Memory, tsc: &Tsc) {
        let Some(gpa) = page(self.reference_tsc) else { return };
        if !tsc.is_reliable {
            owner.write_memory(gpa, &0u32.to_le_bytes());
            return;
        }
        owner.write_memory(gpa + 8, &scale(tsc.khz).to_le_bytes());
        owner.write_memory(gpa + 16, &self.time.offset().to_le_bytes());
        self.sequence = self.sequence.wrapping_add(1).max(1);
        owner.write_memory(gpa, &self.sequence.to_le_bytes());
    }

    /// Whether a register is the domain's: written by [`Partition::write`].
    pub fn owns(number: u32) -> bool {
        matches!(number, GUEST_OS_ID | HYPERCALL | REFERENCE_TSC)
    }

    /// WRMSR of one of those.
    ///
    /// # Errors
    /// The guest gets #GP.
    pub fn write(&mut self, owner: &mut impl Memory, tsc: &Tsc, number: u32, value: u64) -> Result<(), Fault> {
        match number {
            GUEST_OS_ID => self.os_id = value,
            HYPERCALL => self.set_hypercall_page(owner, value),
            REFERENCE_TSC => {
                self.has(HVMPV_REFERENCE_TSC)?;
                self.set_reference_page(owner, value, tsc);
            }
            _ => return Err(Fault),
        }
        Ok(())
    }

    /// The record of it.
    pub fn save(&self, tsc: &Tsc) -> HvmViridianDomainContext {
        HvmViridianDomainContext {
            hypercall_gpa: self.hypercall,
            guest_os_id: self.os_id,
            time_ref_count: self.time.now(tsc),
            reference_tsc: self.reference_tsc,
        }
    }

    /// Takes a record over. Reference time goes on from there, by this host's counter.
    pub fn load(&mut self, owner: &mut impl Memory, tsc: &Tsc, record: &HvmViridianDomainContext) {
        (self.hypercall, self.os_id) = (record.hypercall_gpa, record.guest_os_id);
        self.reference_tsc = record.reference_tsc;
        self.time.set(record.time_ref_count);
        self.time.thaw(tsc);
        self.refresh(owner, tsc);
    }

    fn set_reference_page(&mut self, owner: &mut impl Memory, value: u64, tsc: &Tsc) {
        self.reference_tsc = value;
        if let Some(gpa) = page(value) {
            owner.write_memory(gpa, &[0; PAGE_SIZE]);
        }
        self.refresh(owner, tsc);
    }

    /// Fills the page that the guest makes its calls by: or eax, [`CALL_MARK`]; vmmcall; ret.
    fn set_hypercall_page(&mut self, owner: &mut impl Memory, value: u64) {
        self.hypercall = value;
        let Some(gpa) = page(value) else { return };
        let [a, b, c, d] = CALL_MARK.to_le_bytes();
        let code = [0x0d, a, b, c, d, 0x0f, 0x01, 0xd9, 0xc3];
        let mut stub = [FILLER; PAGE_SIZE];
        stub[..code.len()].copy_from_slice(&code);
        owner.write_memory(gpa, &stub);
    }
}

impl Processor {
    /// Of the vCPU of this number.
    pub fn new(index: u32) -> Processor {
        Processor { index, assist: 0, spared: false, crash: [0; 5] }
    }

    /// RDMSR of [`crate::FIRST_MSR`] and above.
    ///
    /// # Errors
    /// The guest gets #GP.
    pub fn read(&self, partition: &Partition, owner: &impl Owner, tsc: &Tsc, number: u32) -> Result<u64, Fault> {
        Ok(match number {
            GUEST_OS_ID => partition.os_id,
            HYPERCALL => partition.hypercall,
            VP_INDEX => self.index.into(),
            TIME_REF_COUNT => {
                partition.has(HVMPV_TIME_REF_COUNT)?;
                partition.time.now(tsc)
            }
            REFERENCE_TSC => {
                partition.has(HVMPV_REFERENCE_TSC)?;
                partition.reference_tsc
            }
            TSC_FREQUENCY => {
                partition.has_frequencies()?;
                u64::from(tsc.khz) * 1000
            }
            APIC_FREQUENCY => {
                partition.has_frequencies()?;
                APIC_HZ
            }
            ICR => owner.command(),
            TPR => owner.task_priority().into(),
            VP_ASSIST_PAGE => self.assist,
            CRASH_P0..=CRASH_P4 => self.crash[(number - CRASH_P0) as usize],
            CRASH_CTL => CRASH_NOTIFY,
            _ => return Err(Fault),
        })
    }

    /// WRMSR of the same, but for those that [`Partition::write`] knows.
    ///
    /// # Errors
    /// The guest gets #GP.
    pub fn write(&mut self, owner: &mut impl Owner, number: u32, value: u64) -> Result<(), Fault> {
        match number {
            EOI => owner.end_interrupt(),
            ICR => owner.send(value & COMMAND_BITS),
            TPR => owner.set_task_priority(value as u8),
            VP_ASSIST_PAGE => self.set_assist(owner, value),
            CRASH_P0..=CRASH_P4 => self.crash[(number - CRASH_P0) as usize] = value,
            CRASH_CTL if value & CRASH_NOTIFY != 0 => owner.crashed(&self.crash),
            // Nothing changes; on Xen neither.
            VP_INDEX | CRASH_CTL => {}
            _ => return Err(Fault),
        }
        Ok(())
    }

    /// The record of it.
    pub fn save(&self) -> HvmViridianVcpuContext {
        let mut record = HvmViridianVcpuContext::new_zeroed();
        (record.vp_assist_msr, record.apic_assist_pending) = (self.assist, self.spared.into());
        record
    }

    /// Takes a record over; the guest's memory is as it was.
    pub fn load(&mut self, record: &HvmViridianVcpuContext) {
        (self.assist, self.spared) = (record.vp_assist_msr, record.apic_assist_pending != 0);
    }
}
