//! All there is: the machine, its frames, its domains and its schedule.

use crate::{Arch, DomainTable, GlobalVirqs, TimerEvent, Vcpu};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicU64, Ordering::Relaxed};
use memory::Memory;
use platform::sync::{Mutex, RwLock};
use sched::{Credit2, UnitId};
use timers::TimerQueue;
use types::{CpuId, DomId, Errno};

/// Refused toolstack calls that may be logged in a burst, and in each second after it.
const REFUSALS_PER_SECOND: u64 = 20;

/// What is known of a physical CPU.
pub struct CpuState {
    /// The schedule has to be looked at again.
    pub reschedule: AtomicBool,
    /// Its timers.
    pub timers: Mutex<TimerQueue<TimerEvent>>,
    /// When the running vCPU's time is over, in nanoseconds of system time; `u64::MAX` for never.
    pub slice_end: AtomicU64,
    /// When its timer interrupt comes, at the latest; `u64::MAX` for never.
    pub(crate) alarm: AtomicU64,
    /// Nanoseconds spent idle.
    pub idle_time: AtomicU64,
}

/// What the toolstack has set of power management (`XEN_SYSCTL_pm_op`).
pub struct PowerSettings {
    /// The deepest idle state and its deepest sub-state; `u32::MAX` is without limit.
    pub idle_limits: [AtomicU32; 2],
    /// Whether threads of one core are to be used before another core is: 0 or 1.
    pub packs_threads: AtomicU32,
}

/// The hypervisor's state. There is one; everything is given it by reference.
pub struct Hypervisor<A: Arch> {
    /// Every frame: who owns it and what it is used as; the allocator; and with them the machine below.
    pub memory: Arc<Memory<A>>,
    /// The domains.
    pub domains: DomainTable<A>,
    /// Who runs where.
    pub scheduler: Mutex<Credit2>,
    /// The vCPU behind each of the scheduler's units.
    pub units: RwLock<Vec<Option<Arc<Vcpu<A>>>>>,
    /// Physical CPUs.
    pub cpus: Box<[CpuState]>,
    /// Who is told of events that concern no domain in particular.
    pub virqs: GlobalVirqs,
    /// What the toolstack has set of power management.
    pub power_settings: PowerSettings,
    /// Command line, as XENVER_commandline shows it.
    pub command_line: String,
    /// What the loader calls the build: compiler, who, where, when.
    pub compile_info: [&'static str; 4],
    /// Held through a domctl: they go one by one. Only ever tried, never waited for.
    pub toolstack: Mutex<()>,
    /// The domain number that was given out last.
    pub last_domain: AtomicU16,
    /// Domains that are dead and not yet removed.
    pub(crate) dead: AtomicU32,
    refusals: AtomicU64,
}

impl<A: Arch> Hypervisor<A> {
    /// Puts it together; nothing runs yet.
    pub fn new(memory: Memory<A>, cpus: u32, command_line: String, compile_info: [&'static str; 4]) -> Hypervisor<A> {
        let state = |_| CpuState {
            reschedule: AtomicBool::new(false),
            timers: Mutex::new(TimerQueue::new()),
            slice_end: AtomicU64::new(u64::MAX),
            alarm: AtomicU64::new(u64::MAX),
            idle_time: AtomicU64::new(0),
        };
        Hypervisor {
            memory: Arc::new(memory),
            domains: DomainTable::default(),
            scheduler: Mutex::new(Credit2::new()),
            units: RwLock::new(Vec::new()),
            cpus: (0..cpus).map(state).collect(),
            virqs: GlobalVirqs::default(),
            power_settings: PowerSettings {
                idle_limits: [AtomicU32::new(u32::MAX), AtomicU32::new(u32::MAX)],
                packs_threads: AtomicU32::new(0),
            },
            command_line,
            compile_info,
            toolstack: Mutex::new(()),
            last_domain: AtomicU16::new(0),
            dead: AtomicU32::new(0),
            refusals: AtomicU64::new(0),
        }
    }

    /// The machine.
    pub fn machine(&self) -> &A {
        self.memory.host()
    }

    /// The state of a CPU.
    pub fn cpu(&self, cpu: CpuId) -> &CpuState {
        &self.cpus[cpu.index()]
    }

    /// The vCPU behind a unit of the scheduler.
    pub fn vcpu_of(&self, unit: UnitId) -> Option<Arc<Vcpu<A>>> {
        self.units.read().get(unit.0 as usize)?.clone()
    }

    /// Makes a CPU look at its schedule again.
    pub fn reschedule(&self, cpu: CpuId) {
        self.cpu(cpu).reschedule.store(true, Relaxed);
        if cpu != self.machine().this_cpu() {
            self.machine().kick(cpu);
        }
    }

    /// Logs that a toolstack call was refused, unless there have been too many.
    pub fn log_refusal(&self, caller: DomId, errno: Errno, text: fmt::Arguments<'_>) {
        let second = self.machine().system_time() / 1_000_000_000;
        // The upper half is the second, the lower half the number of lines in it.
        let update = |old: u64| Some(if old >> 32 == second { old + 1 } else { second << 32 | 1 });
        let before = self.refusals.fetch_update(Relaxed, Relaxed, update).unwrap_or(0);
        if before >> 32 != second || before & 0xffff_ffff < REFUSALS_PER_SECOND {
            log::warn!("{caller}: refused: {text}: {errno}");
        }
    }
}
