//! Frames between the allocator and the domains.

use crate::denied::{Denied, Outcome, Why};
use crate::domain::DomainMemory;
use crate::frame::{FrameInfo, FrameTable, FrameType, Refs, State, TypeWord};
use crate::heap::{Heap, MAX_ORDER};
use crate::policy::Host;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};
use platform::sync::{Mutex, RwLock, relax};
use platform::{Nodes, Preempt, Table};
use types::{DomId, Errno, Gfn, Mfn};

/// Width of addresses of which a 32-bit guest's machine-to-physical table has entries.
const PAE_BITS: u32 = 37;

/// What an allocation asks for.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// 2^order frames, aligned to their size.
    pub order: u8,
    /// Physical addresses must fit into so many bits; 64 for any.
    pub bits: u32,
    /// Whether the frames must be zeroed. Only memory that is overwritten before a guest sees it may do without.
    pub zero: bool,
}

impl Request {
    /// Zeroed frames anywhere.
    pub const fn order(order: u8) -> Request {
        Request { order, bits: 64, zero: true }
    }
}

/// All memory that can be lent to guests.
pub struct Memory<H> {
    pub(crate) host: H,
    pub(crate) table: FrameTable,
    nodes: Nodes,
    heap: Mutex<Heap>,
    accounts: RwLock<Vec<Option<Arc<DomainMemory>>>>,
    /// Flushes of translations that were begun; see [`Memory::is_flushed`].
    epoch: AtomicU32,
    /// The last flush of every CPU that is complete.
    flushed: AtomicU32,
}

impl<H: Host> Memory<H> {
    /// Memory without a free frame yet.
    pub fn new(host: H, table: FrameTable) -> Memory<H> {
        let mut heap = Heap::new();
        heap.set_frames(table.len());
        Memory {
            host,
            table,
            nodes: Nodes::ONE,
            heap: Mutex::new(heap),
            accounts: RwLock::new(Vec::new()),
            epoch: AtomicU32::new(0),
            flushed: AtomicU32::new(0),
        }
    }

    /// The machine has these nodes. To be called before the first frame is handed to the allocator.
    pub fn set_nodes(&mut self, nodes: Nodes) {
        self.heap.lock().per_node.set_nodes(nodes.clone());
        self.nodes = nodes;
    }

    /// The nodes of the machine.
    pub fn nodes(&self) -> &Nodes {
        &self.nodes
    }

    /// Frames of a node that are free; none for a node that does not exist.
    pub fn free_pages_of(&self, node: u32) -> u64 {
        let heap = self.heap.lock();
        let alone = if node == 0 && self.nodes.count() == 1 { heap.free } else { 0 };
        heap.per_node.free(node).unwrap_or(alone)
    }

    /// The state of every frame.
    pub fn frames(&self) -> &FrameTable {
        &self.table
    }

    /// What was given to [`Memory::new`].
    pub fn host(&self) -> &H {
        &self.host
    }

    /// Hands RAM to the allocator, at boot. Frame 0, frames that are free or in use, and frames past the table's end are
    /// left out. `zeroed` says that the contents need no scrubbing.
    pub fn add_free(&self, first: Mfn, count: u64, zeroed: bool) {
        let mut heap = self.heap.lock();
        let end = first.0.saturating_add(count).min(self.table.len()).min(u32::MAX.into());
        let mut next = first.0.max(1);
        while next < end {
            let fits = (63 - (end - next).leading_zeros()).min(next.trailing_zeros()).min(MAX_ORDER.into());
            let block = next as u32..(next + (1 << fits)) as u32;
            let frames = self.table.range(Mfn(next), 1 << fits);
            if frames.iter().all(|frame| matches!(frame.refs().state(), State::Reserved)) {
                for frame in frames {
                    // Nobody else can come to the frame, so that no locked instruction is needed.
                    frame.set_flags(if zeroed { 0 } else { FrameInfo::DIRTY });
                    // No guest ever had a translation: as if stamped before the first flush.
                    frame.work.store(u32::MAX, Ordering::Relaxed);
                }
                heap.give(&self.table, block.start, fits as u8);
                heap.total += 1 << fits;
            } else {
                log::error!("memory: frames {:#x}..{:#x} are not reserved; left alone", block.start, block.end);
            }
            next += 1 << fits;
        }
    }

    /// Gives RAM that was reserved so far, contents and all, to a domain (a boot module's frames to dom0). `EINVAL` where a
    /// frame is not reserved; then the frames before it are lost to the allocator. Else as [`Memory::assign`].
    pub fn adopt(&self, domain: &DomainMemory, first: Mfn, count: u64) -> Outcome<()> {
        for index in 0..count {
            let mfn = first.offset(index);
            let bad = Denied::new(Errno::INVAL, Why::NotAllocated { mfn });
            let frame = self.table.get(mfn).ok_or(bad)?;
            if !frame.swap_refs(Refs::new(State::Reserved, 0, 0), Refs::new(State::InUse, 0, 0)) {
                return Err(bad);
            }
            self.heap.lock().total += 1;
            self.assign(domain, mfn, 0)?;
        }
        Ok(())
    }

    /// Frames that are free.
    pub fn free_pages(&self) -> u64 {
        self.heap.lock().free
    }

    /// Frames that the allocator has or gave out.
    pub fn total_pages(&self) -> u64 {
        self.heap.lock().total
    }

    /// Free frames that are claimed (`outstanding_pages` of sysctl physinfo).
    pub fn claimed_pages(&self) -> u64 {
        self.heap.lock().claimed
    }

    /// Free frames that wait for zeroing (`scrub_pages` of sysctl physinfo).
    pub fn dirty_pages(&self) -> u64 {
        self.heap.lock().dirty
    }

    /// The words of a frame. `EINVAL` where there are none.
    pub(crate) fn words(&self, mfn: Mfn) -> Outcome<&Table> {
        self.host.table(mfn).ok_or(Denied::new(Errno::INVAL, Why::NotLendable { mfn }))
    }

    /// Opens the account of a new domain. `EEXIST` if its number still has frames, `EINVAL` for a reserved number.
    pub fn create_domain(&self, id: DomId, max_pages: u64) -> types::Result<Arc<DomainMemory>> {
        if !id.is_real() {
            return Err(Errno::INVAL);
        }
        let account = Arc::new(DomainMemory::new(id, max_pages));
        let mut accounts = self.accounts.write();
        let index = usize::from(id.0);
        if accounts.len() <= index {
            let more = index + 1 - accounts.len();
            accounts.try_reserve(more).map_err(|_| Errno::NOMEM)?;
            accounts.resize(index + 1, None);
        }
        if accounts[index].is_some() {
            return Err(Errno::EXIST);
        }
        accounts[index] = Some(account.clone());
        Ok(account)
    }

    /// Closes a domain's account. `EBUSY` as long as somebody refers to one of its frames.
    pub fn remove_domain(&self, id: DomId) -> types::Result<()> {
        let mut accounts = self.accounts.write();
        let Some(slot) = accounts.get_mut(usize::from(id.0)) else {
            return Err(Errno::SRCH);
        };
        let Some(account) = slot else { return Err(Errno::SRCH) };
        if account.total_pages() != 0 || account.shared_pages() != 0 {
            return Err(Errno::BUSY);
        }
        self.drop_claim(account);
        *slot = None;
        Ok(())
    }

    /// A domain's account.
    pub fn account(&self, id: DomId) -> Option<Arc<DomainMemory>> {
        self.accounts.read().get(usize::from(id.0))?.clone()
    }

    /// Allocates frames for nobody yet: to be given to a domain by [`Memory::assign`] or [`Memory::share`], or back by
    /// [`Memory::free_anonymous`]. `ENOMEM`.
    pub fn allocate_anonymous(&self, request: Request) -> Outcome<Mfn> {
        self.take(request, None)
    }

    /// Allocates frames for a domain (`populate_physmap`). `ENOMEM`, `E2BIG` above its limit, `EINVAL` if it is dying.
    pub fn allocate(&self, domain: &DomainMemory, request: Request) -> Outcome<Mfn> {
        let (pages, limit) = (domain.total_pages() + (1 << request.order.min(MAX_ORDER)), domain.max_pages());
        if pages > limit {
            return Err(Denied::new(Errno::TOOBIG, Why::OverAllocation { domain: domain.id(), pages, limit }));
        }
        // What a 32-bit guest has must be in its machine-to-physical table.
        let bits = if domain.is_pae() { request.bits.min(PAE_BITS) } else { request.bits };
        let mfn = self.take(Request { bits, ..request }, Some(domain))?;
        self.assign_flushed(domain, mfn, request.order).inspect_err(|_| self.free_anonymous(mfn, request.order))?;
        Ok(mfn)
    }

    fn take(&self, request: Request, domain: Option<&DomainMemory>) -> Outcome<Mfn> {
        let Request { order, bits, zero } = request;
        let none = Denied::new(Errno::NOMEM, Why::NoMemory { order: order.into(), bits });
        if order > MAX_ORDER {
            return Err(none);
        }
        let pages = 1 << order;
        let first = loop {
            let mut heap = self.heap.lock();
            let own_claim = domain.map_or(0, DomainMemory::claimed_pages);
            if own_claim < pages && heap.free < heap.claimed + pages {
                return Err(none);
            }
            let Some(first) = heap.take(&self.table, order, bits) else {
                if heap.away == 0 {
                    return Err(none);
                }
                // What is being zeroed comes back soon, and may be all that there is.
                drop(heap);
                relax();
                continue;
            };
            for (frame, mfn) in self.table.range(Mfn(first.into()), pages).iter().zip(first..) {
                if frame.refs() != Refs::new(State::Free, 0, 0) || frame.ty().count() != 0 {
                    log::error!(
                        "memory: frame {mfn:#x} was on the free list while in use; block of order {order} given up"
                    );
                    return Err(Denied::new(Errno::NOMEM, Why::CorruptFreeList { mfn: Mfn(mfn.into()) }));
                }
                frame.set_refs(Refs::new(State::InUse, 0, 0));
                frame.set_owner(DomId::INVALID);
                heap.dirty -= u64::from(frame.has_flag(FrameInfo::DIRTY));
            }
            break first;
        };
        self.flush_stale(Mfn(first.into()), pages);
        if zero {
            (first..first + pages as u32).for_each(|mfn| self.scrub(mfn));
        }
        Ok(Mfn(first.into()))
    }

    /// Has every CPU drop its translations if some may lead to these frames, which are nobody's.
    fn flush_stale(&self, first: Mfn, count: u64) {
        let frames = self.table.range(first, count);
        if frames.iter().any(|frame| !self.is_flushed(frame.work.load(Ordering::Acquire), None)) {
            self.flush_everywhere();
        }
    }

    /// Zeroes a frame that nobody else has, unless it is known to be zero.
    fn scrub(&self, mfn: u32) {
        let frame = self.table.at(mfn);
        if !frame.has_flag(FrameInfo::DIRTY) {
            return;
        }
        if !self.host.zero(Mfn(mfn.into())) {
            log::error!("memory: frame {mfn:#x} has no words to scrub");
        }
        frame.set_flag(FrameInfo::DIRTY, false);
    }

    /// Zeroes free frames ahead of their allocation, for idle CPUs, until something else wants the CPU. True if more are
    /// left.
    pub fn scrub_free(&self, preempt: &dyn Preempt) -> bool {
        loop {
            // In a statement of its own, so that the lock is not held while the block is zeroed.
            let taken = self.heap.lock().take_dirty(&self.table);
            let Some(block) = taken else { return false };
            let mut zeroed = 0;
            let mut is_wanted = false;
            for mfn in block.frames().filter(|mfn| self.table.at(*mfn).has_flag(FrameInfo::DIRTY)) {
                self.scrub(mfn);
                zeroed += 1;
                is_wanted = preempt.should_yield();
                if is_wanted {
                    break;
                }
            }
            self.heap.lock().put_back(&self.table, &block, zeroed);
            if is_wanted {
                return true;
            }
        }
    }

    /// Gives back frames of [`Memory::allocate_anonymous`] or [`Memory::steal`]. Frames that are anybody's are refused in
    /// the log and stay where they are.
    pub fn free_anonymous(&self, mfn: Mfn, order: u8) {
        let Some(last) = (1u64 << order.min(MAX_ORDER)).checked_add(mfn.0).filter(|end| *end <= self.table.len())
        else {
            return;
        };
        for mfn in mfn.0..last {
            let frame = self.table.at(mfn as u32);
            if !frame.swap_refs(Refs::new(State::InUse, 0, 0), Refs::new(State::Reserved, 0, 0)) {
                log::error!("memory: frame {mfn:#x} is in use and cannot be freed");
                continue;
            }
            frame.set_flag(FrameInfo::DIRTY, true);
            self.stamp(frame);
            self.heap.lock().give(&self.table, mfn as u32, 0);
        }
    }

    /// Takes frames that the hypervisor kept for itself: of [`Memory::allocate_anonymous`], or reserved since boot.
    pub fn take_back(&self, first: Mfn, order: u8) {
        let since_boot = self.table.get(first).is_some_and(|frame| frame.refs().state() == State::Reserved);
        if since_boot { self.add_free(first, 1 << order, false) } else { self.free_anonymous(first, order) }
    }

    /// Gives frames that are nobody's to a domain, each with the domain's own reference (`assign_pages`). `E2BIG` above its
    /// limit, `EINVAL` if the domain is dying or a frame is somebody's.
    pub fn assign(&self, domain: &DomainMemory, mfn: Mfn, order: u8) -> Outcome<()> {
        // The frames begin anew with no type, so that no later change of type would flush.
        self.flush_stale(mfn, 1 << order.min(MAX_ORDER));
        self.assign_flushed(domain, mfn, order)
    }

    /// The same for frames to which no translations lead.
    fn assign_flushed(&self, domain: &DomainMemory, mfn: Mfn, order: u8) -> Outcome<()> {
        let count = 1u64 << order.min(MAX_ORDER);
        let mut lists = domain.lists.lock();
        if domain.is_dying() {
            return Err(Denied::new(Errno::INVAL, Why::Dying { domain: domain.id() }));
        }
        let (pages, limit) = (domain.total_pages() + count, domain.max_pages());
        if pages > limit {
            return Err(Denied::new(Errno::TOOBIG, Why::OverAllocation { domain: domain.id(), pages, limit }));
        }
        let anonymous = Refs::new(State::InUse, 0, 0);
        let frames = self.table.range(mfn, count);
        let good = frames.iter().take_while(|frame| frame.refs() == anonymous).count() as u64;
        if good < count {
            return Err(Denied::new(Errno::INVAL, Why::NotAllocated { mfn: mfn.offset(good) }));
        }
        for (frame, mfn) in frames.iter().zip(mfn.0 as u32..) {
            frame.set_ty(TypeWord(0));
            frame.set_owner(domain.id());
            lists.frames.append(&self.table, mfn);
            frame.set_refs(Refs::new(State::InUse, Refs::ALLOCATED, 1));
        }
        domain.total.fetch_add(count, Ordering::AcqRel);
        drop(lists);
        let mut heap = self.heap.lock();
        let claim = domain.claimed_pages();
        let used = claim.min(count);
        domain.claim.store(claim - used, Ordering::Release);
        heap.claimed -= used;
        Ok(())
    }

    /// Reserves free frames so that the domain can grow to `pages` (`XENMEM_claim_pages`); 0 gives the reservation up.
    /// `EINVAL` for a second claim or one outside of what the domain may have, `ENOMEM` if too little is free.
    pub fn claim(&self, domain: &DomainMemory, pages: u64) -> Outcome<()> {
        let bad = |errno| Denied::new(errno, Why::BadClaim { domain: domain.id(), pages });
        if pages == 0 {
            self.drop_claim(domain);
            return Ok(());
        }
        let mut heap = self.heap.lock();
        if domain.claimed_pages() != 0 || pages <= domain.total_pages() || pages > domain.max_pages() {
            return Err(bad(Errno::INVAL));
        }
        let claim = pages - domain.total_pages();
        if claim > heap.free - heap.claimed.min(heap.free) {
            return Err(bad(Errno::NOMEM));
        }
        domain.claim.store(claim, Ordering::Release);
        heap.claimed += claim;
        Ok(())
    }

    pub(crate) fn drop_claim(&self, domain: &DomainMemory) {
        let mut heap = self.heap.lock();
        heap.claimed -= domain.claim.swap(0, Ordering::AcqRel);
    }

    /// Makes an anonymous frame one that the domain may map while it stays the hypervisor's (shared_info, grant table).
    /// With [`DomId::XEN`] for no domain's. It never becomes a page table. `EINVAL` if the frame is somebody's.
    pub fn share(&self, mfn: Mfn, domain: Option<&DomainMemory>, read_only: bool) -> Outcome<()> {
        let bad = Denied::new(Errno::INVAL, Why::NotAllocated { mfn });
        let frame = self.table.get(mfn).ok_or(bad)?;
        if frame.refs() != Refs::new(State::InUse, 0, 0) {
            return Err(bad);
        }
        self.flush_stale(mfn, 1);
        let ty = if read_only { FrameType::None } else { FrameType::Writable };
        frame.set_ty(TypeWord::first(ty).with(TypeWord::VALIDATED));
        frame.set_owner(domain.map_or(DomId::XEN, DomainMemory::id));
        if let Some(domain) = domain {
            domain.shared.fetch_add(1, Ordering::AcqRel);
        }
        frame.set_refs(Refs::new(State::InUse, Refs::ALLOCATED | Refs::SHARED, 1));
        Ok(())
    }

    /// Ends the hypervisor's use of a shared frame; it is freed when no mapping is left. `EINVAL` if it is not shared.
    pub fn unshare(&self, mfn: Mfn) -> Outcome<()> {
        let bad = Denied::new(Errno::INVAL, Why::NotAllocated { mfn });
        let frame = self.table.get(mfn).ok_or(bad)?;
        if !frame.refs().has(Refs::SHARED) || !frame.take_allocated() {
            return Err(bad);
        }
        // The use stays with the frame to its end, so that a guest that still maps it cannot make it a page table: the frame
        // is on no list of the domain's, and nobody would find the table when the domain ends.
        self.put_frame(mfn);
        Ok(())
    }

    /// Takes a frame away from its domain while only the domain's own reference stands (`XENMEM_exchange`). The frame is
    /// nobody's then; its contents stay. `EINVAL` if it is referred to.
    pub fn steal(&self, domain: &DomainMemory, mfn: Mfn) -> Outcome<()> {
        self.get_frame(mfn, domain.id())?;
        let frame = self.table.at(mfn.0 as u32);
        let (refs, ty) = (frame.refs(), frame.ty());
        let alone = Refs::new(State::InUse, Refs::ALLOCATED, 2);
        // With all references held here nobody else can come to a use.
        if ty.count() != 0 || !frame.swap_refs(alone, Refs::new(State::InUse, 0, 0)) {
            self.put_frame(mfn);
            let why = Why::StillInUse { mfn, references: refs.count(), uses: ty.count() };
            return Err(Denied::new(Errno::INVAL, why));
        }
        self.detach(domain, frame, mfn.0 as u32);
        self.host.set_m2p(mfn, Gfn::INVALID);
        self.stamp(frame);
        frame.set_flag(FrameInfo::DIRTY, true);
        Ok(())
    }

    fn detach(&self, domain: &DomainMemory, frame: &FrameInfo, mfn: u32) {
        let mut lists = domain.lists.lock();
        lists.remove(&self.table, mfn);
        frame.set_owner(DomId::INVALID);
        domain.total.fetch_sub(1, Ordering::AcqRel);
    }

    /// Drops the domain's own reference to a frame (`guest_remove_page`): it is freed when the last reference goes. `EINVAL`
    /// if it is not the domain's, or was removed before.
    pub fn decrease(&self, domain: &DomainMemory, mfn: Mfn) -> Outcome<()> {
        self.get_frame(mfn, domain.id())?;
        let frame = self.table.at(mfn.0 as u32);
        // The hypervisor's own frames are not the domain's to give back.
        let removed = !frame.refs().has(Refs::SHARED) && frame.take_allocated();
        if removed {
            self.host.set_m2p(mfn, Gfn::INVALID);
            self.put_frame(mfn);
        }
        self.put_frame(mfn);
        if removed { Ok(()) } else { Err(Denied::new(Errno::INVAL, Why::NotAllocated { mfn })) }
    }

    /// Frees a frame whose last reference is gone.
    pub(crate) fn release(&self, mfn: Mfn) {
        let frame = self.table.at(mfn.0 as u32);
        let (refs, ty, owner) = (frame.refs(), frame.ty(), frame.owner());
        let own_use = u32::from(refs.has(Refs::SHARED));
        if ty.count() != own_use {
            // Cannot happen while every use comes with a reference. A lost frame does less harm than one with two owners.
            log::error!("memory: frame {mfn:#x} of {owner} has no reference but {} uses; given up", ty.count());
            return;
        }
        let account = self.account(owner);
        match &account {
            Some(account) if refs.has(Refs::SHARED) => {
                account.shared.fetch_sub(1, Ordering::AcqRel);
            }
            Some(account) => self.detach(account, frame, mfn.0 as u32),
            None if owner != DomId::XEN => log::error!("memory: frame {mfn:#x} is of {owner}, which has no account"),
            None => {}
        }
        self.host.set_m2p(mfn, Gfn::INVALID);
        frame.set_flag(FrameInfo::DIRTY, true);
        self.stamp(frame);
        self.heap.lock().give(&self.table, mfn.0 as u32, 0);
    }

    /// Notes at a frame that translations to it may be cached until a later flush.
    pub(crate) fn stamp(&self, frame: &FrameInfo) {
        frame.work.store(self.epoch.load(Ordering::SeqCst), Ordering::Release);
    }

    /// Whether no CPU has translations left that were made before the stamp `epoch`. A flush numbered n was begun after
    /// every stamp below n; once it is complete, they are served.
    pub(crate) fn is_flushed(&self, epoch: u32, domain: Option<&DomainMemory>) -> bool {
        let served = |flushed: u32| flushed.wrapping_sub(epoch).wrapping_sub(1) as i32 >= 0;
        served(self.flushed.load(Ordering::Acquire))
            || domain.is_some_and(|d| served(d.flushed.load(Ordering::Acquire)))
    }

    /// Has every CPU drop all guests' translations.
    pub fn flush_everywhere(&self) {
        let number = self.epoch.fetch_add(1, Ordering::SeqCst).wrapping_add(1);
        self.host.flush_all();
        note_flush(&self.flushed, number);
    }

    /// Has every CPU drop a domain's translations. A guest's own request for that is best served here, as it spares flushes
    /// when frames change their use.
    pub fn flush_domain(&self, domain: &DomainMemory) {
        let number = self.epoch.fetch_add(1, Ordering::SeqCst).wrapping_add(1);
        self.host.flush_domain(domain.id());
        note_flush(&domain.flushed, number);
    }
}

/// Records that flush `number` is complete, unless a later one already is.
fn note_flush(flushed: &AtomicU32, number: u32) {
    // The closure declines where a later flush was recorded; there is nothing to do then.
    let _ = flushed.fetch_update(Ordering::AcqRel, Ordering::Acquire, |last| {
        (number.wrapping_sub(last) as i32 > 0).then_some(number)
    });
}
