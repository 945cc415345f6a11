//! What other CPUs see of a local APIC.

use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use x86_defs::apic::LVT_MASKED;

use crate::bits::{FIRST_VECTOR, highest, place};
use crate::registers::ERROR_RECEIVE_ILLEGAL;

/// How an APIC compares logical destinations.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Format {
    /// xAPIC, a bit for each APIC.
    Flat = 0,
    /// xAPIC, cluster number and a bit for each of four.
    Cluster = 1,
    /// xAPIC with a reserved format: matches nothing.
    Reserved = 2,
    /// x2APIC: cluster number and a bit for each of sixteen.
    X2 = 3,
}

const FORMAT: u8 = 3;
const ENABLED: u8 = 1 << 2;
/// The 8259s' output reaches the CPU through LINT0, or because the APIC is off altogether.
const VIRTUAL_WIRE: u8 = 1 << 3;

/// How others reach an APIC, from its registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Address {
    /// Physical id, shifted down in xAPIC mode.
    pub id: u32,
    /// Logical id, shifted down in xAPIC mode.
    pub logical: u32,
    pub format: Format,
    /// On by IA32_APIC_BASE and by the spurious-interrupt register.
    pub enabled: bool,
    pub virtual_wire: bool,
    pub lvt_error: u32,
}

/// The shared part of a local APIC. All of it may change at any time; a message that meets a change of the address finds
/// either address, as on hardware.
#[derive(Debug)]
#[repr(align(64))]
pub struct Port {
    irr: [AtomicU64; 4],
    tmr: [AtomicU64; 4],
    id: AtomicU32,
    logical: AtomicU32,
    lvt_error: AtomicU32,
    state: AtomicU8,
    priority: AtomicU8,
    errors: AtomicU8,
}

impl Port {
    /// The port of an APIC that is off; [`crate::Lapic::new`] gives it its address.
    pub const fn new() -> Port {
        Port {
            irr: [const { AtomicU64::new(0) }; 4],
            tmr: [const { AtomicU64::new(0) }; 4],
            id: AtomicU32::new(0),
            logical: AtomicU32::new(0),
            lvt_error: AtomicU32::new(LVT_MASKED),
            state: AtomicU8::new(0),
            priority: AtomicU8::new(0),
            errors: AtomicU8::new(0),
        }
    }

    /// Requests an interrupt, whether or not the APIC is enabled. True if the request is new: then the vCPU needs a kick.
    /// A vector below 16 becomes an error in the APIC's error status (SDM vol. 3, 11.5.3).
    pub fn post(&self, vector: u8, level: bool) -> bool {
        if vector < FIRST_VECTOR {
            return self.error(ERROR_RECEIVE_ILLEGAL);
        }
        let (index, bit) = place(vector);
        // The trigger mode is written first: who sees the request sees its mode.
        if level {
            self.tmr[index].fetch_or(bit, Ordering::Relaxed);
        } else if self.tmr[index].load(Ordering::Relaxed) & bit != 0 {
            self.tmr[index].fetch_and(!bit, Ordering::Relaxed);
        }
        self.irr[index].fetch_or(bit, Ordering::AcqRel) & bit == 0
    }

    /// Whether `vector` is requested.
    pub fn is_requested(&self, vector: u8) -> bool {
        let (index, bit) = place(vector);
        self.irr[index].load(Ordering::Acquire) & bit != 0
    }

    /// Whether the APIC is on, by IA32_APIC_BASE and by the spurious-interrupt register: only then it takes vectors.
    pub fn is_enabled(&self) -> bool {
        self.state() & ENABLED != 0
    }

    /// Whether a vector of a priority class above the processor's is requested: for a CPU that decides if a halted vCPU is
    /// to run again.
    pub fn has_work(&self) -> bool {
        self.is_enabled() && self.highest_request() >> 4 > self.priority() >> 4
    }

    /// Whether this APIC lets the 8259s' output through to its CPU (SDM vol. 3, 11.5.1): by LVT entry LINT0 in mode ExtINT,
    /// by being off, or as the target of the I/O APIC's pin 0 in mode ExtINT, whose destination is `pin0`.
    pub fn takes_pic(&self, pin0: Option<u8>) -> bool {
        let by_pin0 = pin0.is_some_and(|id| u32::from(id) == self.id.load(Ordering::Relaxed)) && self.is_enabled();
        self.state() & VIRTUAL_WIRE != 0 || by_pin0
    }

    /// Whether a message to this destination reaches the APIC. It need not be enabled: NMI and INIT come through.
    pub fn matches(&self, destination: u32, logical: bool) -> bool {
        if logical { self.matches_logical(destination) } else { self.matches_physical(destination) }
    }

    pub(crate) fn id(&self) -> u32 {
        self.id.load(Ordering::Relaxed)
    }

    fn matches_physical(&self, destination: u32) -> bool {
        let broadcast = if self.state() & FORMAT == Format::X2 as u8 { u32::MAX } else { 0xff };
        destination == self.id() || destination == broadcast
    }

    /// SDM vol. 3, 11.6.2.2 and 11.12.10.
    fn matches_logical(&self, destination: u32) -> bool {
        let own = self.logical.load(Ordering::Relaxed);
        let short = destination & 0xff;
        match self.state() & FORMAT {
            f if f == Format::X2 as u8 => own >> 16 == destination >> 16 && own & destination & 0xffff != 0,
            f if f == Format::Flat as u8 => own & short != 0,
            f if f == Format::Cluster as u8 => own >> 4 == short >> 4 && own & short & 15 != 0,
            _ => false,
        }
    }

    fn state(&self) -> u8 {
        self.state.load(Ordering::Relaxed)
    }

    /// The processor priority when it last changed.
    pub(crate) fn priority(&self) -> u8 {
        self.priority.load(Ordering::Relaxed)
    }

    pub(crate) fn set_priority(&self, priority: u8) {
        self.priority.store(priority, Ordering::Relaxed);
    }

    pub(crate) fn set_address(&self, address: Address) {
        self.id.store(address.id, Ordering::Relaxed);
        self.logical.store(address.logical, Ordering::Relaxed);
        self.lvt_error.store(address.lvt_error, Ordering::Relaxed);
        let enabled = if address.enabled { ENABLED } else { 0 };
        let wire = if address.virtual_wire { VIRTUAL_WIRE } else { 0 };
        self.state.store(address.format as u8 | enabled | wire, Ordering::Relaxed);
    }

    /// The highest requested vector; 0 if none.
    pub(crate) fn highest_request(&self) -> u8 {
        let [a, b, c, d] = self.irr.each_ref().map(|word| word.load(Ordering::Acquire));
        // Usually there is none.
        if a | b | c | d == 0 { 0 } else { highest(|index| [a, b, c, d][index & 3]) }
    }

    /// Whether any vector is requested, of whatever priority.
    pub fn is_any_requested(&self) -> bool {
        self.highest_request() != 0
    }

    /// Whether the last request of a vector was level-triggered.
    pub fn is_level(&self, vector: u8) -> bool {
        let (index, bit) = place(vector);
        self.tmr[index].load(Ordering::Relaxed) & bit != 0
    }

    pub(crate) fn withdraw(&self, vector: u8) {
        let (index, bit) = place(vector);
        self.irr[index].fetch_and(!bit, Ordering::AcqRel);
    }

    /// Notes an error and raises the error interrupt if that is wanted. True if this requested a vector.
    pub(crate) fn error(&self, bit: u8) -> bool {
        if self.errors.fetch_or(bit, Ordering::Relaxed) & bit != 0 {
            return false;
        }
        let lvt = self.lvt_error.load(Ordering::Relaxed);
        if lvt & LVT_MASKED != 0 {
            return false;
        }
        if (lvt as u8) < FIRST_VECTOR {
            self.errors.fetch_or(ERROR_RECEIVE_ILLEGAL, Ordering::Relaxed);
            return false;
        }
        self.post(lvt as u8, false)
    }

    /// The errors since the last call.
    pub(crate) fn take_errors(&self) -> u8 {
        self.errors.swap(0, Ordering::Relaxed)
    }

    pub(crate) fn errors(&self) -> u8 {
        self.errors.load(Ordering::Relaxed)
    }

    /// Requests, 64 at a time.
    pub(crate) fn irr_word(&self, index: usize) -> u64 {
        self.irr[index & 3].load(Ordering::Acquire)
    }

    /// Trigger modes, 64 at a time.
    pub(crate) fn tmr_word(&self, index: usize) -> u64 {
        self.tmr[index & 3].load(Ordering::Relaxed)
    }

    /// Replaces requests, trigger modes and errors.
    pub(crate) fn set_requests(&self, irr: [u64; 4], tmr: [u64; 4], errors: u8) {
        self.tmr.iter().zip(tmr).for_each(|(own, bits)| own.store(bits, Ordering::Relaxed));
        self.irr.iter().zip(irr).for_each(|(own, bits)| own.store(bits, Ordering::Release));
        self.errors.store(errors, Ordering::Relaxed);
    }
}

impl Default for Port {
    fn default() -> Port {
        Port::new()
    }
}
