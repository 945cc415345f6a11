//! The servers of a domain: what their emulators ask for.
//!
//! Each operation answers as Xen's: `ENOENT` where there is no such server, `EPERM` where it is another emulator's.

use crate::server::{Buffering, Page, Server, Slot};
use crate::{Host, MAX_SERVERS};
use core::sync::atomic::{AtomicU32, Ordering};
use platform::sync::RwLock;
use types::{DomId, Errno, Gfn, Mfn, Result, VcpuId};
use xen_abi::dm_op::XEN_DMOP_IOREQ_MEM_ACCESS_WRITE;
use xen_abi::hvm_op::HVMMEM_IOREQ_SERVER;
use xen_abi::memory::XENMEM_RESOURCE_IOREQ_SERVER_FRAME_BUFIOREQ;

/// First bit of a [`Slot`] that is `HVM_PARAM_IOREQ_PFN` or `HVM_PARAM_BUFIOREQ_PFN`.
const LEGACY: u8 = 64;

/// Guest frames that the builder has set aside for servers' pages; the last two bits are the legacy ones.
#[derive(Default)]
struct Frames {
    base: u64,
    legacy: [u64; 2],
    set_aside: u128,
    used: u128,
}

impl Frames {
    fn take(&mut self) -> Option<Slot> {
        let free = self.set_aside & !self.used;
        if free == 0 {
            return None;
        }
        let bit = free.trailing_zeros() as u8;
        self.used |= 1 << bit;
        let gfn = match bit.checked_sub(LEGACY) {
            Some(index) => self.legacy[usize::from(index) & 1],
            None => self.base.wrapping_add(bit.into()),
        };
        Some(Slot { gfn: Gfn(gfn), bit })
    }

    fn give(&mut self, slot: Slot) {
        self.used &= !(1 << slot.bit);
    }
}

/// The server that has claimed memory of type `HVMMEM_ioreq_server`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Claim {
    /// Its number, for [`Servers::send_to`].
    pub server: u16,
    /// Which accesses it wants (`XEN_DMOP_IOREQ_MEM_ACCESS_*`).
    pub accesses: u32,
}

/// Where a server's requests are (`XEN_DMOP_get_ioreq_server_info`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Info {
    /// Guest frame of the page of requests, if asked for.
    pub requests: Option<Gfn>,
    /// Guest frame of the ring, if asked for and there is one.
    pub ring: Option<Gfn>,
    /// Event channel of the ring, if there is one.
    pub ring_port: Option<u32>,
}

/// What the lock guards.
pub(crate) struct State {
    pub servers: [Option<Server>; MAX_SERVERS],
    frames: Frames,
    claim: Option<Claim>,
    next_serial: u64,
}

/// What is kept of the servers of one domain, with the domain.
pub struct Book {
    pub(crate) state: RwLock<State>,
    /// What the guest has last written to port 0xcf8.
    pub(crate) pci_address: AtomicU32,
}

impl Default for Book {
    fn default() -> Book {
        Book {
            state: RwLock::new(State {
                servers: [const { None }; MAX_SERVERS],
                frames: Frames::default(),
                claim: None,
                next_serial: 1,
            }),
            pci_address: AtomicU32::new(0),
        }
    }
}

/// The servers of one domain, by those who have the hypervisor around them at hand.
pub struct Servers<'a, H> {
    pub(crate) host: H,
    pub(crate) book: &'a Book,
}

impl<'a, H: Host> Servers<'a, H> {
    /// Those of a domain's book.
    pub fn new(book: &'a Book, host: H) -> Servers<'a, H> {
        Servers { host, book }
    }

    /// What was given to [`Servers::new`].
    pub fn host(&self) -> &H {
        &self.host
    }

    /// `HVM_PARAM_IOREQ_SERVER_PFN`: the first guest frame that is set aside.
    pub fn set_frame_base(&self, gfn: Gfn) {
        self.book.state.write().frames.base = gfn.0;
    }

    /// `HVM_PARAM_NR_IOREQ_SERVER_PAGES`: how many there are. `EINVAL` for none, or more than 64.
    pub fn set_frame_count(&self, count: u64) -> Result<()> {
        if !(1..=64).contains(&count) {
            return Err(Errno::INVAL);
        }
        self.book.state.write().frames.set_aside |= (1 << count) - 1;
        Ok(())
    }

    /// `HVM_PARAM_IOREQ_PFN`, or with `ring` `HVM_PARAM_BUFIOREQ_PFN`: where emulators of old look. Serves when the others are
    /// used up.
    pub fn set_legacy_frame(&self, ring: bool, gfn: Gfn) {
        let frames = &mut self.book.state.write().frames;
        frames.legacy[usize::from(ring)] = gfn.0;
        frames.set_aside |= 1 << (LEGACY + u8::from(ring));
    }

    /// Makes a server for `emulator`, with `buffering` (`HVM_IOREQSRV_BUFIOREQ_*`) and an event channel for each of the
    /// vCPUs (`XEN_DMOP_create_ioreq_server`); its number. The domain is paused. `EINVAL`, `ENOSPC`, `ENOMEM`.
    pub fn create(&self, emulator: DomId, buffering: u8, vcpus: impl IntoIterator<Item = VcpuId>) -> Result<u16> {
        let buffering = Buffering::from_number(buffering)?;
        let mut state = self.book.state.write();
        let id = state.servers.iter().position(Option::is_none).ok_or(Errno::NOSPC)?;
        let mut server = Server::new(state.next_serial, emulator, buffering);
        for vcpu in vcpus {
            server.add_vcpu(&self.host, vcpu).inspect_err(|_| server.remove_all_vcpus(&self.host))?;
        }
        state.next_serial += 1;
        state.servers[id] = Some(server);
        Ok(id as u16)
    }

    /// Runs `f` on a server of `emulator`'s. `ENOENT`, `EPERM`.
    fn with<R>(&self, id: u16, emulator: DomId, f: impl FnOnce(&mut Server, &mut Frames) -> Result<R>) -> Result<R> {
        let State { servers, frames, .. } = &mut *self.book.state.write();
        let server = servers.get_mut(usize::from(id)).and_then(Option::as_mut).ok_or(Errno::NOENT)?;
        if server.emulator != emulator {
            return Err(Errno::PERM);
        }
        f(server, frames)
    }

    /// `XEN_DMOP_destroy_ioreq_server`. The domain is paused.
    pub fn destroy(&self, id: u16, emulator: DomId) -> Result<()> {
        self.with(id, emulator, |_, _| Ok(()))?;
        self.end(&mut self.book.state.write(), id);
        Ok(())
    }

    /// Ends all servers: the domain is being destroyed.
    pub fn destroy_all(&self) {
        let mut state = self.book.state.write();
        (0..MAX_SERVERS as u16).for_each(|id| self.end(&mut state, id));
    }

    fn end(&self, state: &mut State, id: u16) {
        let Some(mut server) = state.servers[usize::from(id)].take() else { return };
        if state.claim.is_some_and(|claim| claim.server == id) {
            state.claim = None;
        }
        server.disable(&self.host);
        server.remove_all_vcpus(&self.host);
        self.drop_page(&mut state.frames, server.ring);
        self.drop_page(&mut state.frames, server.requests);
    }

    fn drop_page(&self, frames: &mut Frames, page: Page) {
        match page {
            Page::None => {}
            Page::Frame(mfn) => self.host.free_page(mfn),
            Page::Guest(mfn, slot) => {
                self.host.release(mfn);
                frames.give(slot);
            }
        }
    }

    /// `XEN_DMOP_get_ioreq_server_info`, for an emulator that maps guest frames if `frames`. `EPERM` if it has the pages by
    /// [`Servers::frame`], `ENOMEM` if no guest frame is left.
    pub fn info(&self, id: u16, emulator: DomId, frames: bool) -> Result<Info> {
        self.with(id, emulator, |server, set_aside| {
            if frames {
                self.map_pages(server, set_aside)?;
            }
            let gfn = |page| match page {
                Page::Guest(_, slot) if frames => Some(slot.gfn),
                _ => None,
            };
            Ok(Info { requests: gfn(server.requests), ring: gfn(server.ring), ring_port: server.buffered_port })
        })
    }

    fn map_pages(&self, server: &mut Server, frames: &mut Frames) -> Result<()> {
        let requests = self.map_page(server.requests, frames)?;
        let mut ring = server.ring;
        if server.buffering != Buffering::Off {
            ring = self.map_page(ring, frames).inspect_err(|_| {
                if server.requests == Page::None {
                    self.drop_page(frames, requests);
                }
            })?;
        }
        server.set_pages(&self.host, requests, ring);
        Ok(())
    }

    fn map_page(&self, page: Page, frames: &mut Frames) -> Result<Page> {
        match page {
            Page::Guest(..) => Ok(page),
            Page::Frame(_) => Err(Errno::PERM),
            Page::None => {
                let slot = frames.take().ok_or(Errno::NOMEM)?;
                let held = self.host.hold(slot.gfn).inspect_err(|_| frames.give(slot));
                held.map(|mfn| Page::Guest(mfn, slot))
            }
        }
    }

    /// The machine frame of the ring (index 0) or the page of requests (1), for `XENMEM_resource_ioreq_server`. `EPERM` if
    /// guest frames were handed out, `ENOENT` without a ring, `EINVAL` for another index, `ENOMEM`.
    pub fn frame(&self, id: u16, emulator: DomId, index: u64) -> Result<Mfn> {
        self.with(id, emulator, |server, _| {
            self.make_pages(server)?;
            match index.checked_sub(XENMEM_RESOURCE_IOREQ_SERVER_FRAME_BUFIOREQ.into()) {
                Some(0) => server.ring.mfn().ok_or(Errno::NOENT),
                Some(1) => server.requests.mfn().ok_or(Errno::INVAL),
                _ => Err(Errno::INVAL),
            }
        })
    }

    fn make_pages(&self, server: &mut Server) -> Result<()> {
        let requests = self.make_page(server.requests)?;
        let mut ring = server.ring;
        if server.buffering != Buffering::Off {
            ring = self.make_page(ring).inspect_err(|_| {
                if let (Page::None, Page::Frame(mfn)) = (server.requests, requests) {
                    self.host.free_page(mfn);
                }
            })?;
        }
        server.set_pages(&self.host, requests, ring);
        Ok(())
    }

    fn make_page(&self, page: Page) -> Result<Page> {
        match page {
            Page::Frame(_) => Ok(page),
            Page::Guest(..) => Err(Errno::PERM),
            Page::None => self.host.allocate_page().map(Page::Frame),
        }
    }

    /// `XEN_DMOP_map_io_range_to_ioreq_server`: `kind` is `XEN_DMOP_IO_RANGE_*`, both ends are included. `EINVAL`; `EEXIST`
    /// where the server has a part of it; `ENOMEM` for too many ranges. Two servers may have the same range.
    pub fn map_range(&self, id: u16, emulator: DomId, kind: u32, start: u64, end: u64) -> Result<()> {
        if start > end {
            return Err(Errno::INVAL);
        }
        self.with(id, emulator, |server, _| server.ranges.get_mut(kind as usize).ok_or(Errno::INVAL)?.add(start, end))
    }

    /// `XEN_DMOP_unmap_io_range_from_ioreq_server`. `EINVAL`; `ENOENT` where the server lacks a part of it; `ENOMEM`.
    pub fn unmap_range(&self, id: u16, emulator: DomId, kind: u32, start: u64, end: u64) -> Result<()> {
        if start > end {
            return Err(Errno::INVAL);
        }
        self.with(id, emulator, |server, _| {
            server.ranges.get_mut(kind as usize).ok_or(Errno::INVAL)?.remove(start, end)
        })
    }

    /// `XEN_DMOP_set_ioreq_server_state`. The domain is paused.
    pub fn set_enabled(&self, id: u16, emulator: DomId, enabled: bool) -> Result<()> {
        self.with(id, emulator, |server, _| {
            if enabled {
                server.enable(&self.host);
            } else {
                server.disable(&self.host);
            }
            Ok(())
        })
    }

    /// `XEN_DMOP_map_mem_type_to_ioreq_server`: claims memory of a type (`HVMMEM_*`) for a server, or with `accesses` 0 ends
    /// the claim. Then the caller makes what is left of the type plain RAM again. `entries` are the guest frames that have
    /// it. `EINVAL`; `EBUSY` if it is claimed, or was and frames are left.
    pub fn claim_memory(&self, id: u16, emulator: DomId, ty: u16, accesses: u32, entries: u64) -> Result<()> {
        if ty != HVMMEM_IOREQ_SERVER || accesses & !XEN_DMOP_IOREQ_MEM_ACCESS_WRITE != 0 {
            return Err(Errno::INVAL);
        }
        self.with(id, emulator, |_, _| Ok(()))?;
        let claim = &mut self.book.state.write().claim;
        match (accesses, *claim) {
            (0, Some(Claim { server, .. })) if server == id => *claim = None,
            (0, _) => return Err(Errno::INVAL),
            (_, None) if entries == 0 => *claim = Some(Claim { server: id, accesses }),
            _ => return Err(Errno::BUSY),
        }
        Ok(())
    }

    /// Who has claimed memory of type `HVMMEM_ioreq_server`.
    pub fn claim(&self) -> Option<Claim> {
        self.book.state.read().claim
    }

    /// Whether the frame is a page of a server's, which is not to be mapped as the guest's memory.
    pub fn is_server_page(&self, mfn: Mfn) -> bool {
        let state = self.book.state.read();
        state.servers.iter().flatten().any(|server| [server.requests.mfn(), server.ring.mfn()].contains(&Some(mfn)))
    }

    /// The domain has a new vCPU. Errors of the host; then no server has it.
    pub fn add_vcpu(&self, vcpu: VcpuId) -> Result<()> {
        let mut state = self.book.state.write();
        for id in 0..MAX_SERVERS {
            let Some(server) = &mut state.servers[id] else { continue };
            if let Err(error) = server.add_vcpu(&self.host, vcpu) {
                state.servers[..id].iter_mut().flatten().for_each(|server| server.remove_vcpu(&self.host, vcpu));
                return Err(error);
            }
        }
        Ok(())
    }

    /// A vCPU goes.
    pub fn remove_vcpu(&self, vcpu: VcpuId) {
        self.book.state.write().servers.iter_mut().flatten().for_each(|server| server.remove_vcpu(&self.host, vcpu));
    }

    /// The guest has written `value` to port 0xcf8, in 32 bits; accesses to ports 0xcfc to 0xcff concern what it names. The
    /// write itself is an access like any other.
    pub fn note_pci_address(&self, value: u32) {
        self.book.pci_address.store(value, Ordering::Relaxed);
    }

    /// What was last noted, for saving.
    pub fn pci_address(&self) -> u32 {
        self.book.pci_address.load(Ordering::Relaxed)
    }
}
