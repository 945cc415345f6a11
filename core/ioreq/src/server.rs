//! One server.

use crate::page::set_port;
use crate::ranges::Ranges;
use crate::{Host, MAX_VCPUS};
use alloc::vec::Vec;
use platform::sync::Mutex;
use platform::{Frames, Table};
use types::{DomId, Errno, Gfn, Mfn, Result, VcpuId};
use xen_abi::hvm_op::{HVM_IOREQSRV_BUFIOREQ_ATOMIC, HVM_IOREQSRV_BUFIOREQ_LEGACY, HVM_IOREQSRV_BUFIOREQ_OFF};

/// How a server wants requests that need no answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Buffering {
    Off,
    Legacy,
    Atomic,
}

impl Buffering {
    /// From `HVM_IOREQSRV_BUFIOREQ_*`. `EINVAL`.
    pub fn from_number(number: u8) -> Result<Buffering> {
        match number {
            HVM_IOREQSRV_BUFIOREQ_OFF => Ok(Buffering::Off),
            HVM_IOREQSRV_BUFIOREQ_LEGACY => Ok(Buffering::Legacy),
            HVM_IOREQSRV_BUFIOREQ_ATOMIC => Ok(Buffering::Atomic),
            _ => Err(Errno::INVAL),
        }
    }
}

/// A page that the emulator maps.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Page {
    /// Nobody has asked for it.
    #[default]
    None,
    /// A frame of its own (`XENMEM_acquire_resource`).
    Frame(Mfn),
    /// One that the guest's builder has set aside.
    Guest(Mfn, Slot),
}

/// A guest frame that is set aside for servers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Slot {
    pub gfn: Gfn,
    pub bit: u8,
}

impl Page {
    pub fn mfn(self) -> Option<Mfn> {
        match self {
            Page::None => None,
            Page::Frame(mfn) | Page::Guest(mfn, _) => Some(mfn),
        }
    }

    pub fn table(self, frames: &impl Frames) -> Option<&Table> {
        frames.table(self.mfn()?)
    }
}

/// A server. What its pages hold is not to be trusted.
pub(crate) struct Server {
    /// Tells it from an earlier one of the same number.
    pub serial: u64,
    pub emulator: DomId,
    pub buffering: Buffering,
    pub enabled: bool,
    /// By `XEN_DMOP_IO_RANGE_*`.
    pub ranges: [Ranges; 3],
    /// Event channels by vCPU.
    pub ports: Vec<Option<u32>>,
    pub buffered_port: Option<u32>,
    pub requests: Page,
    pub ring: Page,
    /// Held to write to the ring.
    pub ring_lock: Mutex<()>,
}

impl Server {
    pub fn new(serial: u64, emulator: DomId, buffering: Buffering) -> Server {
        Server {
            serial,
            emulator,
            buffering,
            enabled: false,
            ranges: [Ranges::new(), Ranges::new(), Ranges::new()],
            ports: Vec::new(),
            buffered_port: None,
            requests: Page::None,
            ring: Page::None,
            ring_lock: Mutex::new(()),
        }
    }

    /// Opens a vCPU's event channel, and with vCPU 0's the ring's. `EINVAL`, `EEXIST`, `ENOMEM`; else the host's.
    pub fn add_vcpu<H: Host>(&mut self, host: &H, vcpu: VcpuId) -> Result<()> {
        if vcpu.0 >= MAX_VCPUS {
            return Err(Errno::INVAL);
        }
        if self.ports.len() <= vcpu.index() {
            let more = vcpu.index() + 1 - self.ports.len();
            self.ports.try_reserve(more).map_err(|_| Errno::NOMEM)?;
            self.ports.resize(vcpu.index() + 1, None);
        }
        if self.ports[vcpu.index()].is_some() {
            return Err(Errno::EXIST);
        }
        let port = host.open_port(vcpu, self.emulator)?;
        if vcpu.0 == 0 && self.buffering != Buffering::Off {
            let buffered = host.open_port(vcpu, self.emulator).inspect_err(|_| host.close_port(port))?;
            self.buffered_port = Some(buffered);
        }
        self.ports[vcpu.index()] = Some(port);
        if self.enabled {
            self.announce(host, vcpu, port);
        }
        Ok(())
    }

    /// Closes a vCPU's event channels.
    pub fn remove_vcpu<H: Host>(&mut self, host: &H, vcpu: VcpuId) {
        if let Some(port) = self.ports.get_mut(vcpu.index()).and_then(Option::take) {
            host.close_port(port);
        }
        if vcpu.0 == 0 {
            self.buffered_port.take().into_iter().for_each(|port| host.close_port(port));
        }
    }

    pub fn remove_all_vcpus<H: Host>(&mut self, host: &H) {
        (0..self.ports.len() as u32).for_each(|vcpu| self.remove_vcpu(host, VcpuId(vcpu)));
    }

    /// Writes all event channels into the page of requests.
    fn announce_all<H: Host>(&self, host: &H) {
        for (vcpu, port) in self.ports.iter().enumerate() {
            if let Some(port) = *port {
                self.announce(host, VcpuId(vcpu as u32), port);
            }
        }
    }

    fn announce<H: Host>(&self, host: &H, vcpu: VcpuId, port: u32) {
        if let Some(table) = self.requests.table(host) {
            set_port(table, vcpu, port);
        }
    }

    /// Takes the pages out of the guest's reach, cleared, and begins to serve.
    pub fn enable<H: Host>(&mut self, host: &H) {
        if self.enabled {
            return;
        }
        seclude(host, self.requests);
        seclude(host, self.ring);
        self.enabled = true;
        self.announce_all(host);
    }

    /// Gives the server pages that it had not, or the ones that it had.
    pub fn set_pages<H: Host>(&mut self, host: &H, requests: Page, ring: Page) {
        if self.enabled {
            if self.requests == Page::None {
                seclude(host, requests);
            }
            if self.ring == Page::None {
                seclude(host, ring);
            }
        }
        let fresh = self.requests != requests;
        (self.requests, self.ring) = (requests, ring);
        if self.enabled && fresh {
            self.announce_all(host);
        }
    }

    /// Ends that.
    pub fn disable<H: Host>(&mut self, host: &H) {
        if !self.enabled {
            return;
        }
        for page in [self.ring, self.requests] {
            if let Page::Guest(mfn, slot) = page {
                host.zero(mfn);
                host.show(slot.gfn, mfn);
            }
        }
        self.enabled = false;
    }
}

/// Takes a guest frame out of the guest's reach, cleared.
fn seclude<H: Host>(host: &H, page: Page) {
    if let Page::Guest(mfn, slot) = page {
        host.hide(slot.gfn, mfn);
        host.zero(mfn);
    }
}
