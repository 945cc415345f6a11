//! Which vCPU runs where, and for how long.
//!
//! A scheduler knows units, which the domain layer equates with vCPUs, and physical CPUs, and nothing else. It is plain data:
//! the caller holds it in a lock, tells it what happens and does what it says. Whatever it says, it never gives a unit to a
//! CPU while another CPU has it: a unit is handed out only from the run queue, and gets there only after
//! [`Scheduler::context_saved`].
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

extern crate alloc;

mod budget;
mod credit2;
mod runstate;

pub use credit2::Credit2;
pub use runstate::{Runstate, RunstateClock};
use types::{CpuId, CpuMask, Result};

/// A unit's place in the scheduler's table; chosen by the caller, dense from 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct UnitId(pub u32);

/// Units that have a cap together; chosen by the caller, who takes a domain's vCPUs for one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct GroupId(pub u32);

/// What a unit is entitled to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Share {
    /// Share in relation to other units, 1 to 65535; 256 is usual.
    pub weight: u16,
}

impl Default for Share {
    fn default() -> Self {
        Share { weight: 256 }
    }
}

/// Where a unit may and should run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Affinity {
    /// It runs nowhere else.
    pub hard: CpuMask,
    /// It runs here rather than elsewhere. CPUs that are not in `hard` do not count; none at all is no preference.
    pub soft: CpuMask,
}

impl Default for Affinity {
    fn default() -> Self {
        Affinity { hard: CpuMask::ALL, soft: CpuMask::ALL }
    }
}

/// What a CPU is to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Decision {
    /// The unit to run; `None` is to idle.
    pub unit: Option<UnitId>,
    /// After how many nanoseconds to ask again at the latest; `None` is only when kicked.
    pub time_slice: Option<u64>,
}

/// What follows from a change of a group's cap, or from the beginning of its next period.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Replenished {
    /// CPUs to be kicked.
    pub kicked: CpuMask,
    /// When to call [`Scheduler::replenish`]; `None` where the group has no cap.
    pub next: Option<u64>,
}

/// What decides who runs. Times are nanoseconds of system time and never go back.
///
/// Several calls return a CPU: it has to be kicked, so that it calls [`Scheduler::schedule`] soon. It may be the caller's own.
pub trait Scheduler {
    /// Number of the interface (`XEN_SCHEDULER_*`, domctl.h).
    fn id(&self) -> u32;
    /// Long name, as `xl info` and sysctl's scheduler calls show it.
    fn name(&self) -> &'static str;

    /// Lets `cpu` run units; it idles until it first calls [`Scheduler::schedule`].
    fn add_cpu(&mut self, cpu: CpuId) -> Result<()>;
    /// Takes `cpu` out; `EBUSY` while it runs a unit.
    fn remove_cpu(&mut self, cpu: CpuId) -> Result<()>;

    /// Adds a unit that sleeps. May allocate: `ENOMEM`; `EEXIST` if it is there, `EINVAL` for a weight of 0.
    fn insert(&mut self, unit: UnitId, group: GroupId, share: Share, affinity: Affinity) -> Result<()>;
    /// Removes a unit that sleeps and whose context is saved; else `EBUSY`, or `ENOENT`.
    fn remove(&mut self, unit: UnitId) -> Result<()>;

    /// The unit can run. Does nothing if it could before.
    fn wake(&mut self, unit: UnitId, now: u64) -> Option<CpuId>;
    /// The unit cannot run any more. If it runs now, its CPU has to be kicked and takes it off.
    fn sleep(&mut self, unit: UnitId, now: u64) -> Option<CpuId>;
    /// The unit lets others go first in the next decision of its CPU.
    fn yield_now(&mut self, unit: UnitId);

    /// Decides what `cpu` does now. What it ran before keeps belonging to it until [`Scheduler::context_saved`], which the
    /// caller calls if the unit is another one than before.
    fn schedule(&mut self, cpu: CpuId, now: u64) -> Decision;
    /// The state of `unit`, which ran until the last decision, is in memory: it may run elsewhere.
    fn context_saved(&mut self, unit: UnitId, now: u64) -> Option<CpuId>;

    /// The CPU that has the unit: runs it, or has not yet saved its context.
    fn cpu_of(&self, unit: UnitId) -> Option<CpuId>;
    /// The unit's share; `None` if it is not there.
    fn share(&self, unit: UnitId) -> Option<Share>;
    /// Changes the unit's share; `EINVAL` for a weight of 0, `ENOENT`.
    fn set_share(&mut self, unit: UnitId, share: Share) -> Result<()>;
    /// Most CPU time of a group's units together, in percent of one CPU; 0 is no limit.
    fn cap(&self, group: GroupId) -> u16;
    /// Changes that. May allocate: `ENOMEM`. A group loses its cap with its last unit.
    fn set_cap(&mut self, group: GroupId, cap: u16, now: u64) -> Result<Replenished>;
    /// The time has come that the last call of this or [`Scheduler::set_cap`] named.
    fn replenish(&mut self, group: GroupId, now: u64) -> Replenished;
    /// The unit's affinity; `None` if it is not there.
    fn affinity(&self, unit: UnitId) -> Option<Affinity>;
    /// Changes the unit's affinity; `EINVAL` if no CPU of this scheduler is left, `ENOENT`.
    fn set_affinity(&mut self, unit: UnitId, affinity: Affinity, now: u64) -> Result<Option<CpuId>>;

    /// For how long a unit that just started is left running, in microseconds.
    fn rate_limit(&self) -> u32;
    /// Changes that: 0 (none) or 100 to 500,000, else `EINVAL` (sysctl.h, `XEN_SYSCTL_SCHED_RATELIMIT_*`).
    fn set_rate_limit(&mut self, microseconds: u32) -> Result<()>;
}
