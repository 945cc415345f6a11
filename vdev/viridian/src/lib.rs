//! Enlightenments of HVM guests that know Hyper-V (`viridian` in their configuration), as Xen has them.
//!
//! Sources: Hypervisor Top Level Functional Specification ("TLFS"), hvm/params.h (`HVM_PARAM_VIRIDIAN`).
//!
//! * [`leaf`] is what CPUID answers from 0x40000000 on; Xen's own leaves begin at 0x40000100 then.
//! * [`Partition`] is a domain's part of the state, [`Processor`] a vCPU's; [`Processor::read`], [`Processor::write`] and
//!   [`Partition::write`] are the MSRs, [`Processor::takes_end`] and its neighbours spare the guest ends of interrupts.
//! * [`call`] is a hypercall.
//!
//! Nothing here takes a lock or reads a clock: whoever has the state says what the guest's time-stamp counter is, and does what
//! [`Owner`] asks.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod assist;
mod calls;
mod clock;
mod leaves;
mod registers;

pub use calls::call;
pub use clock::ReferenceTime;
pub use leaves::leaf;
pub use registers::{Fault, Partition, Processor};

use xen_abi::hvm_params::*;

/// Parts (`HVMPV_*`) that a guest may be given. Not among them: the interrupt controller's messages, its timers, interrupts by
/// hypercall, and sparse sets of processors.
pub const SERVED: u32 = HVMPV_BASE_FREQ
    | HVMPV_NO_FREQ
    | HVMPV_TIME_REF_COUNT
    | HVMPV_REFERENCE_TSC
    | HVMPV_HCALL_REMOTE_TLB_FLUSH
    | HVMPV_APIC_ASSIST
    | HVMPV_CRASH_CTL
    | HVMPV_NO_VP_LIMIT
    | HVMPV_CPU_HOTPLUG;

/// First MSR, and first of those that there cannot be any more.
pub const FIRST_MSR: u32 = 0x4000_0000;
/// See [`FIRST_MSR`].
pub const END_OF_MSRS: u32 = 0x4000_0200;

/// Set in eax by the hypercall page: the call is not one of Xen's.
pub const CALL_MARK: u32 = 0x8000_0000;

/// What the guest's time-stamp counter shows, and how fast it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tsc {
    /// Its value now.
    pub now: u64,
    /// Its frequency in kHz, not 0.
    pub khz: u32,
    /// It is the host's own, and reliable: the guest may read time from it alone.
    pub is_reliable: bool,
}

/// The guest's memory.
pub trait Memory {
    /// Reads it from a guest-physical address on; `false` where there is none.
    fn read_memory(&self, gpa: u64, to: &mut [u8]) -> bool;
    /// Writes it.
    fn write_memory(&mut self, gpa: u64, from: &[u8]) -> bool;
}

/// What is asked of whoever has the vCPU.
pub trait Owner: Memory {
    /// The interrupt in service is over, as by a write to the local APIC's end-of-interrupt register.
    fn end_interrupt(&mut self);
    /// The local APIC's interrupt command: bits 63:32 and 31:0 as its two registers.
    fn command(&self) -> u64;
    /// A write of it, which sends an interrupt.
    fn send(&mut self, command: u64);
    /// The local APIC's task priority.
    fn task_priority(&self) -> u8;
    /// A write of it.
    fn set_task_priority(&mut self, priority: u8);
    /// The guest says that it has crashed, and why, in its own terms.
    fn crashed(&mut self, parameters: &[u64; 5]);
    /// The vCPU waits for a lock that another holds: others may run.
    fn give_way(&mut self);
    /// Drops the translations of these vCPUs, a bit each from 0 on, or of all. `false`: not now, the call is made again.
    fn flush(&mut self, vcpus: Option<u64>) -> bool;
}
