//! One virtual CPU.

use crate::{Arch, Area, Domain, TimerSlot, waiting};
use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};
use platform::sync::Mutex;
use types::{CpuId, DomId, VcpuId};

/// Why a vCPU does not run, apart from the domain's pauses. Bits of [`Vcpu::flags`].
pub struct PauseFlags;

impl PauseFlags {
    /// Waits for an event (SCHEDOP_block).
    pub const BLOCKED: u32 = waiting::BLOCKED;
    /// Waits for one of a few ports, or a time (SCHEDOP_poll).
    pub const POLLING: u32 = waiting::POLLING;
    /// Not brought up, or taken down.
    pub const DOWN: u32 = 4;
    /// Waits for a device emulator's answer: whoever sets it looks for the answer once more afterwards.
    pub const DEVICE: u32 = 8;
    /// Waits for the answer to an event that its domain's watcher was told of.
    pub const ANSWER: u32 = 16;
    /// Waits until the watcher can be told of one.
    pub const ROOM: u32 = 32;
}

/// Period of the periodic timer that a vCPU has until it says otherwise: 10 ms, as old guests expect.
const FIRST_PERIOD: u64 = 10_000_000;

/// A virtual CPU: what all CPUs may look at, and behind a lock what only the CPU that runs it touches.
pub struct Vcpu<A: Arch> {
    /// Number within the domain.
    pub id: VcpuId,
    /// The domain's number.
    pub domain_id: DomId,
    /// The domain; gone only when the domain is.
    pub domain: Weak<Domain<A>>,
    /// What the scheduler knows it by.
    pub unit: sched::UnitId,
    /// Bits of [`PauseFlags`].
    pub flags: AtomicU32,
    /// The domain's pauses ([`Domain::pauses`]), at hand without counting a reference to the domain.
    pauses: Arc<AtomicU32>,
    /// The CPU that runs it, `u32::MAX` for none.
    running_on: AtomicU32,
    /// VCPUOP_initialise, or setvcpucontext, has given it registers.
    pub initialised: AtomicBool,
    /// Guest-virtual address of its runstate area; 0 for none.
    pub runstate_area: AtomicU64,
    /// Guest-virtual address of its secondary time record; 0 for none.
    pub time_area: AtomicU64,
    /// Its runstate area by machine address; where it is set, the other is not written.
    pub runstate_record: Area,
    /// Its secondary time record by machine address, likewise.
    pub time_record: Area,
    /// How it spent its time.
    pub runstate: Mutex<sched::RunstateClock>,
    /// Its one-shot timer: the CPU in whose queue it is, and its handle there.
    pub singleshot: TimerSlot,
    /// Its periodic timer.
    pub periodic: TimerSlot,
    /// Period of the periodic timer, in nanoseconds; 0 for none.
    pub(crate) period: AtomicU64,
    /// System time of the periodic timer's last tick.
    pub(crate) ticked: AtomicU64,
    /// For when the periodic timer is set; 0 where it is not.
    pub(crate) next_tick: AtomicU64,
    /// Time-out of its poll.
    pub poll_timer: TimerSlot,
    /// It can take no interrupts at the hypercall that it makes; noted by the architecture, for guests whose events come as such.
    pub holds_events_back: AtomicBool,
    /// Non-maskable interrupt waits for it.
    pub nmi_pending: AtomicBool,
    /// The architecture's shared part.
    pub arch: A::Shared,
    /// The architecture's part that belongs to whoever runs it.
    pub state: Mutex<A::State>,
}

impl<A: Arch> Vcpu<A> {
    /// A vCPU that is down and has not been given registers.
    pub fn new(domain: &Arc<Domain<A>>, id: VcpuId, unit: sched::UnitId, state: A::State, now: u64) -> Vcpu<A> {
        Vcpu {
            id,
            domain_id: domain.id,
            domain: Arc::downgrade(domain),
            unit,
            flags: AtomicU32::new(PauseFlags::DOWN),
            pauses: domain.pauses.clone(),
            running_on: AtomicU32::new(u32::MAX),
            initialised: AtomicBool::new(false),
            runstate_area: AtomicU64::new(0),
            time_area: AtomicU64::new(0),
            runstate_record: Area::default(),
            time_record: Area::default(),
            runstate: Mutex::new(sched::RunstateClock::new(now)),
            singleshot: Mutex::new(None),
            periodic: Mutex::new(None),
            period: AtomicU64::new(FIRST_PERIOD),
            ticked: AtomicU64::new(now),
            next_tick: AtomicU64::new(0),
            poll_timer: Mutex::new(None),
            holds_events_back: AtomicBool::new(false),
            nmi_pending: AtomicBool::new(false),
            arch: A::Shared::default(),
            state: Mutex::new(state),
        }
    }

    /// The CPU that runs it now.
    pub fn running_on(&self) -> Option<CpuId> {
        let cpu = self.running_on.load(SeqCst);
        (cpu != u32::MAX).then_some(CpuId(cpu))
    }

    /// Notes where it runs; for the run loop.
    pub fn set_running_on(&self, cpu: Option<CpuId>) {
        self.running_on.store(cpu.map_or(u32::MAX, |cpu| cpu.0), SeqCst);
    }

    /// Whether it is up.
    pub fn is_up(&self) -> bool {
        self.flags.load(SeqCst) & PauseFlags::DOWN == 0
    }

    /// Whether nothing keeps it from running.
    pub fn may_run(&self) -> bool {
        self.flags.load(SeqCst) == 0 && self.pauses.load(SeqCst) == 0
    }

    /// Whether it waits for an event.
    pub fn is_blocked(&self) -> bool {
        self.flags.load(SeqCst) & (PauseFlags::BLOCKED | PauseFlags::POLLING) != 0
    }
}
