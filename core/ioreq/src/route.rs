//! From an access to the server that has it, and back.

use crate::page::{self, Pending, Polled};
use crate::request::{Kind, Request};
use crate::server::{Buffering, Server};
use crate::servers::Servers;
use crate::{Host, MAX_SERVERS};
use types::VcpuId;
use xen_abi::dm_op::{XEN_DMOP_IO_RANGE_MEMORY, XEN_DMOP_IO_RANGE_PCI, XEN_DMOP_IO_RANGE_PORT};
use xen_abi::ioreq::STATE_IOREQ_READY;

/// PCI configuration access is on, in port 0xcf8 (PCI 3.0, 3.2.2.3.2).
const PCI_ENABLED: u32 = 1 << 31;
/// Bus, device and function there.
const PCI_DEVICE: u32 = 0x00ff_ff00;
/// The register there.
const PCI_REGISTER: u32 = 0xfc;
/// First of the four data ports.
const PCI_DATA: u64 = 0xcfc;

/// What became of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "the vCPU may have to wait"]
pub enum Sent {
    /// An emulator has it; the vCPU must not run before [`Servers::poll`] says so.
    Wait(Pending),
    /// It is in the ring, and done as far as the guest can see.
    Buffered,
    /// The server cannot take it: it has no page, its emulator broke the page, the ring is full, or it does not fit into
    /// one. Buffered ones may be sent again without; else Xen crashes the domain.
    Unhandled,
    /// No server has the address: reads give all ones, writes are dropped.
    Nobody,
}

/// Where servers look for a request.
#[derive(Clone, Copy)]
struct Key {
    kind: usize,
    first: u64,
    last: u64,
}

impl<H: Host> Servers<'_, H> {
    /// Whether any server has the address of a request.
    pub fn is_claimed(&self, request: &Request) -> bool {
        let Some((key, _)) = self.key(request) else { return false };
        self.book.state.read().servers.iter().flatten().any(|server| has(server, key))
    }

    /// Hands a vCPU's access to the server that has the address; of several, to the one with the highest number. An access
    /// to PCI configuration space becomes one of [`Kind::PciConfig`]. With `buffered` it goes into the ring.
    pub fn send(&self, vcpu: VcpuId, request: &Request, buffered: bool) -> Sent {
        let Some((key, request)) = self.key(request) else { return Sent::Nobody };
        let state = self.book.state.read();
        let found = (0..MAX_SERVERS).rev().find_map(|id| {
            let server = state.servers[id].as_ref()?;
            has(server, key).then_some((id as u16, server))
        });
        match found {
            None => Sent::Nobody,
            Some((_, server)) if buffered => self.buffer(server, &request),
            Some((id, server)) => self.hand_over(id, server, vcpu, &request),
        }
    }

    /// Hands an access to this server ([`crate::Claim`]).
    pub fn send_to(&self, id: u16, vcpu: VcpuId, request: &Request) -> Sent {
        match self.book.state.read().servers.get(usize::from(id)) {
            Some(Some(server)) if server.enabled => self.hand_over(id, server, vcpu, request),
            _ => Sent::Nobody,
        }
    }

    /// Tells every enabled server something, by its ring; how many could not be told.
    pub fn broadcast(&self, request: &Request) -> usize {
        let state = self.book.state.read();
        let told = |server: &&Server| self.buffer(server, request) == Sent::Unhandled;
        state.servers.iter().flatten().filter(|server| server.enabled).filter(told).count()
    }

    /// Whether the answer to a request is there.
    pub fn poll(&self, pending: &mut Pending) -> Polled {
        let state = self.book.state.read();
        let server = state.servers.get(usize::from(pending.server)).and_then(Option::as_ref);
        let page = server
            .filter(|server| server.serial == pending.serial)
            .and_then(|server| server.requests.table(&self.host));
        match page {
            Some(page) => page::poll(page, pending.vcpu, &mut pending.seen),
            None => Polled::Done(!0),
        }
    }

    /// What servers have to have for this request, and the request as they get it. `None`: it is no access.
    fn key(&self, request: &Request) -> Option<(Key, Request)> {
        let address = self.pci_address();
        match request.kind {
            Kind::Port if request.address & !3 == PCI_DATA && address & PCI_ENABLED != 0 => {
                let device = u64::from((address & PCI_DEVICE) >> 8);
                let register = u64::from(address & PCI_REGISTER) | request.address & 3;
                let key = Key { kind: XEN_DMOP_IO_RANGE_PCI as usize, first: device, last: device };
                Some((key, Request { kind: Kind::PciConfig, address: device << 32 | register, ..*request }))
            }
            Kind::Port => {
                let last = request.address.checked_add(u64::from(request.size.max(1) - 1))?;
                let key = Key { kind: XEN_DMOP_IO_RANGE_PORT as usize, first: request.address, last };
                Some((key, *request))
            }
            Kind::Memory => {
                let (first, last) = request.extent()?;
                Some((Key { kind: XEN_DMOP_IO_RANGE_MEMORY as usize, first, last }, *request))
            }
            Kind::PciConfig | Kind::TimeOffset | Kind::Invalidate => None,
        }
    }

    fn hand_over(&self, id: u16, server: &Server, vcpu: VcpuId, request: &Request) -> Sent {
        let port = server.ports.get(vcpu.index()).copied().flatten();
        let (Some(page), Some(port)) = (server.requests.table(&self.host), port) else { return Sent::Unhandled };
        if !page::put(page, vcpu, port, request) {
            return Sent::Unhandled;
        }
        self.host.notify(port);
        Sent::Wait(Pending { server: id, serial: server.serial, vcpu, port, seen: STATE_IOREQ_READY })
    }

    fn buffer(&self, server: &Server, request: &Request) -> Sent {
        let (Some(page), Some(port)) = (server.ring.table(&self.host), server.buffered_port) else {
            return Sent::Unhandled;
        };
        let put = {
            let _alone = server.ring_lock.lock();
            page::put_buffered(page, server.buffering == Buffering::Atomic, request)
        };
        if !put {
            return Sent::Unhandled;
        }
        self.host.notify(port);
        Sent::Buffered
    }
}

/// Whether a server serves a range.
fn has(server: &Server, key: Key) -> bool {
    server.enabled && server.ranges[key.kind].contains(key.first, key.last)
}
