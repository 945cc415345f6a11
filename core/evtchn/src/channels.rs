//! The table of a domain's event channels.

use crate::fifo::Fifo;
use crate::poll;
use crate::pollers::Pollers;
use crate::port::{MAX_PORTS, Port, Ports, Slot, State, Status, try_boxed};
use crate::virq::NR_VIRQS;
use alloc::boxed::Box;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use platform::Frames;
use platform::sync::{Mutex, MutexGuard};
use spin::Once;
use types::{DomId, Errno, Mfn, Result, VcpuId};

/// What a table is made for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Config {
    /// The domain whose table it is.
    pub domain: DomId,
    /// The domain's `shared_info` frame; must stay until the table is dropped.
    pub shared_info: Mfn,
    /// Number of vCPUs, at most 65535.
    pub vcpus: u32,
    /// Highest port that may be given out (`max_evtchn_port` of createdomain).
    pub max_port: u32,
    /// Number of physical interrupt lines the domain can name (`nr_pirqs`).
    pub pirqs: u32,
}

/// Data under the event lock.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// No port below this one is free.
    pub(crate) first_free: Port,
}

/// What is kept for a vCPU.
#[derive(Debug)]
pub(crate) struct VcpuEvents {
    /// Machine address of its `vcpu_info`, `u64::MAX` if it has none.
    pub(crate) info: AtomicU64,
    /// Whether `info` was registered by the guest.
    pub(crate) registered: AtomicBool,
    /// Ports of its virtual interrupt lines; 0 is none.
    pub(crate) virqs: [AtomicU32; NR_VIRQS],
}

/// The event channels of one domain. See the crate's documentation for its locks.
#[derive(Debug)]
pub struct EventChannels {
    pub(crate) domain: DomId,
    pub(crate) shared_info: Mfn,
    /// Whether the guest's words are 32 bits wide (a 32-bit guest).
    pub(crate) narrow: AtomicBool,
    pub(crate) dying: AtomicBool,
    pub(crate) max_port: u32,
    pub(crate) ports: Ports,
    pub(crate) event: Mutex<Shared>,
    pub(crate) fifo: Once<Fifo>,
    pub(crate) fifo_active: AtomicBool,
    pub(crate) vcpus: Box<[VcpuEvents]>,
    pub(crate) pirqs: Box<[AtomicU32]>,
    pub(crate) pollers: Pollers,
}

impl EventChannels {
    /// A table with no port but the reserved port 0, in two-level mode. The first 32 vCPUs have their `vcpu_info` in
    /// `shared_info`, the others none until they register one.
    ///
    /// # Errors
    /// `ENOMEM`; `EINVAL` for no vCPU or too many.
    pub fn new(config: Config) -> Result<EventChannels> {
        if config.vcpus == 0 || config.vcpus > u32::from(u16::MAX) {
            return Err(Errno::INVAL);
        }
        let count = config.vcpus as usize;
        let vcpu = |index: usize| VcpuEvents {
            info: AtomicU64::new(crate::upcall::initial_info(config.shared_info, index)),
            registered: AtomicBool::new(false),
            virqs: [const { AtomicU32::new(0) }; NR_VIRQS],
        };
        let max_port = config.max_port.min(MAX_PORTS - 1);
        let channels = EventChannels {
            domain: config.domain,
            shared_info: config.shared_info,
            narrow: AtomicBool::new(false),
            dying: AtomicBool::new(false),
            max_port,
            ports: Ports::new(max_port + 1)?,
            event: Mutex::new(Shared { first_free: 1 }),
            fifo: Once::new(),
            fifo_active: AtomicBool::new(false),
            vcpus: try_boxed(count, vcpu)?,
            pirqs: try_boxed(config.pirqs as usize, |_| AtomicU32::new(0))?,
            pollers: poll::pollers(count)?,
        };
        channels.ports.grow()?;
        channels.ports.get(0)?.occupy(State::Reserved, 0);
        Ok(channels)
    }

    /// The domain whose table this is.
    pub fn domain(&self) -> DomId {
        self.domain
    }

    /// How many physical interrupts the domain can name.
    pub fn pirqs(&self) -> u32 {
        self.pirqs.len() as u32
    }

    /// Stops ports from being given out: the domain is being destroyed.
    pub fn set_dying(&self) {
        self.dying.store(true, Ordering::Release);
        // Whoever was giving one out has finished.
        drop(self.event.lock());
    }

    /// Tells that the guest uses 32-bit words in `shared_info` and `vcpu_info` (`has_32bit_shinfo`): a 32-bit guest,
    /// before it binds its first port, or one whose 32-bit code begins to use them.
    pub fn set_narrow(&self, narrow: bool) {
        self.narrow.store(narrow, Ordering::Release);
    }

    /// Whether the guest uses 32-bit words there. Other structures that it shares have that layout too.
    pub fn is_narrow(&self) -> bool {
        self.narrow.load(Ordering::Acquire)
    }

    /// Number of ports that the guest's ABI can name now: 4096 (1024 for 32-bit words), or 131072 with FIFO.
    pub fn max_channels(&self) -> u32 {
        if self.fifo().is_some() {
            MAX_PORTS
        } else if self.narrow.load(Ordering::Acquire) {
            1024
        } else {
            4096
        }
    }

    /// What a port is bound to (EVTCHNOP_status).
    ///
    /// # Errors
    /// `EINVAL` for a port that never existed.
    pub fn status(&self, port: Port) -> Result<Status> {
        let slot = self.ports.get(port)?;
        Ok(Status { state: slot.state, vcpu: VcpuId(u32::from(slot.vcpu)) })
    }

    /// Number of ports that exist, used or free; they are 0 to this number less one. For dumps.
    pub fn port_count(&self) -> u32 {
        self.ports.valid()
    }

    /// The FIFO state, if the guest has switched to it.
    pub(crate) fn fifo(&self) -> Option<&Fifo> {
        if self.fifo_active.load(Ordering::Acquire) { self.fifo.get() } else { None }
    }

    /// The index of a vCPU; `ENOENT` if the domain has no such vCPU.
    pub(crate) fn vcpu(&self, vcpu: u32) -> Result<u16> {
        if (vcpu as usize) < self.vcpus.len() { Ok(vcpu as u16) } else { Err(Errno::NOENT) }
    }

    /// Takes the lowest free port into use. The caller holds the event lock.
    ///
    /// # Errors
    /// `EINVAL` if the domain is dying, `ENOSPC` if none is left, `ENOMEM`.
    pub(crate) fn allocate<M: Frames + ?Sized>(
        &self,
        frames: &M,
        event: &mut MutexGuard<'_, Shared>,
        state: State,
        vcpu: u16,
    ) -> Result<(Port, MutexGuard<'_, Slot>)> {
        if self.dying.load(Ordering::Acquire) {
            return Err(Errno::INVAL);
        }
        let mut only_used = true;
        let mut port = event.first_free;
        loop {
            if port > self.max_port || port >= self.max_channels() {
                return Err(Errno::NOSPC);
            }
            if port >= self.ports.valid() {
                self.ports.grow()?;
            }
            let mut slot = self.ports.get(port)?;
            if slot.state == State::Free {
                if !self.fifo().is_some_and(|fifo| fifo.is_busy(frames, port)) {
                    if only_used {
                        event.first_free = port + 1;
                    }
                    slot.occupy(state, vcpu);
                    return Ok((port, slot));
                }
                only_used = false;
            }
            port += 1;
        }
    }

    /// Makes a port free and clears its event. The caller holds the event lock and the slot.
    pub(crate) fn free<M: Frames + ?Sized>(
        &self,
        frames: &M,
        event: &mut MutexGuard<'_, Shared>,
        port: Port,
        slot: &mut Slot,
    ) {
        self.clear_pending(frames, port);
        slot.vacate();
        event.first_free = event.first_free.min(port);
    }
}
