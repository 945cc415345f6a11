//! Ports, and the table that holds them.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::num::NonZeroU8;
use core::sync::atomic::{AtomicU32, Ordering};
use platform::sync::{Mutex, MutexGuard};
use spin::Once;
use types::{DomId, Errno, Result, VcpuId};

/// A port's number within its domain (`evtchn_port_t`), as a guest wrote it or as we gave it out.
pub type Port = u32;

/// Ports of one chunk of the table.
const CHUNK: usize = 256;
/// Ports that the FIFO ABI can number (`EVTCHN_FIFO_NR_CHANNELS`).
pub(crate) const MAX_PORTS: u32 = xen_abi::event_channel::EVTCHN_FIFO_NR_CHANNELS;
/// Priority of a port that nobody has set (`EVTCHN_FIFO_PRIORITY_DEFAULT`).
pub(crate) const DEFAULT_PRIORITY: u8 = xen_abi::event_channel::EVTCHN_FIFO_PRIORITY_DEFAULT as u8;

/// Who inside the hypervisor takes a port's events, instead of the domain. The number's meaning is the caller's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Consumer(pub NonZeroU8);

/// What a port is bound to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Not in use.
    Free,
    /// Port 0, which is never given out.
    Reserved,
    /// Waits for this domain to bind its end.
    Unbound {
        /// The domain that may bind.
        remote: DomId,
    },
    /// Connected to a port of a domain, perhaps the same domain.
    Interdomain {
        /// The domain at the other end.
        remote: DomId,
        /// Its port.
        port: Port,
    },
    /// Bound to a physical interrupt line.
    Pirq(u32),
    /// Bound to a virtual interrupt line.
    Virq(u32),
    /// Sent by one vCPU of the domain to another.
    Ipi,
}

impl State {
    /// The number that EVTCHNOP_status gives (`EVTCHNSTAT_*`).
    pub const fn number(self) -> u32 {
        match self {
            State::Free | State::Reserved => 0,
            State::Unbound { .. } => 1,
            State::Interdomain { .. } => 2,
            State::Pirq(_) => 3,
            State::Virq(_) => 4,
            State::Ipi => 5,
        }
    }

    /// Whether the port is in use.
    pub(crate) const fn is_usable(self) -> bool {
        !matches!(self, State::Free | State::Reserved)
    }
}

/// What EVTCHNOP_status tells of a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Status {
    /// What it is bound to.
    pub state: State,
    /// The vCPU that is told of its events.
    pub vcpu: VcpuId,
}

/// A port's data, under its lock.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) state: State,
    /// vCPU that is told of events; always one that exists.
    pub(crate) vcpu: u16,
    pub(crate) priority: u8,
    /// Raised before the FIFO page with its event word was there.
    pub(crate) saved_pending: bool,
    /// FIFO queue on which it was linked last: vCPU and priority.
    pub(crate) last_queue: (u16, u8),
    pub(crate) consumer: Option<Consumer>,
}

impl Slot {
    const FREE: Slot = Slot {
        state: State::Free,
        vcpu: 0,
        priority: DEFAULT_PRIORITY,
        saved_pending: false,
        last_queue: (0, DEFAULT_PRIORITY),
        consumer: None,
    };

    /// Puts a free port into use.
    pub(crate) fn occupy(&mut self, state: State, vcpu: u16) {
        self.state = state;
        self.vcpu = vcpu;
        self.priority = DEFAULT_PRIORITY;
        self.saved_pending = false;
    }

    /// Makes it free. The queue is kept: the port may still be linked there.
    pub(crate) fn vacate(&mut self) {
        *self = Slot { last_queue: self.last_queue, ..Slot::FREE };
    }
}

type Chunk = Box<[Mutex<Slot>]>;

/// A box of `count` values, or `ENOMEM`.
pub(crate) fn try_boxed<T>(count: usize, make: impl FnMut(usize) -> T) -> Result<Box<[T]>> {
    let mut values = Vec::new();
    values.try_reserve_exact(count).map_err(|_| Errno::NOMEM)?;
    values.extend((0..count).map(make));
    Ok(values.into_boxed_slice())
}

/// The ports of a domain: chunks that are added in order and stay until the table goes, so look-up takes no lock.
#[derive(Debug)]
pub(crate) struct Ports {
    chunks: Box<[Once<Chunk>]>,
    /// Ports in the chunks that exist.
    valid: AtomicU32,
}

impl Ports {
    /// A table that can grow to `limit` ports (at least 1).
    pub(crate) fn new(limit: u32) -> Result<Ports> {
        let count = (limit.clamp(1, MAX_PORTS) as usize).div_ceil(CHUNK);
        Ok(Ports { chunks: try_boxed(count, |_| Once::new())?, valid: AtomicU32::new(0) })
    }

    /// Number of ports that exist, bound or free.
    pub(crate) fn valid(&self) -> u32 {
        self.valid.load(Ordering::Acquire)
    }

    /// Adds a chunk; `ENOSPC` if the table is at its end. The caller holds the event lock.
    pub(crate) fn grow(&self) -> Result<()> {
        let next = self.valid() as usize / CHUNK;
        let chunk = self.chunks.get(next).ok_or(Errno::NOSPC)?;
        chunk.try_call_once(|| try_boxed(CHUNK, |_| Mutex::new(Slot::FREE)))?;
        self.valid.store(((next + 1) * CHUNK) as u32, Ordering::Release);
        Ok(())
    }

    /// A port's slot, locked; `None` if there is no such port yet.
    pub(crate) fn lock(&self, port: Port) -> Option<MutexGuard<'_, Slot>> {
        let chunk = self.chunks.get(port as usize / CHUNK)?.get()?;
        Some(chunk.get(port as usize % CHUNK)?.lock())
    }

    /// As [`Ports::lock`]; `EINVAL` if there is no such port, as every operation on a port answers.
    pub(crate) fn get(&self, port: Port) -> Result<MutexGuard<'_, Slot>> {
        self.lock(port).ok_or(Errno::INVAL)
    }
}
