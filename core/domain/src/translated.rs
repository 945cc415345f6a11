//! What only a translated (HVM, PVH) domain has: its second-stage table, and what the table asks of the memory around it.

use crate::{Arch, Creation, Domain};
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::ops::Range;
use core::sync::atomic::AtomicU64;
use memory::{DomainMemory, FrameType, Memory, Request, State};
use p2m::{Demand, Keeper, P2m, Supply, Type};
use platform::sync::Mutex;
use platform::{Frames, Preempt, Table, Tlb};
use types::{DomId, Errno, Gfn, Mfn, Progress, Result};
use xen_abi::domctl::XEN_DOMCTL_CDF_HVM;
use xen_abi::hvm_params::HVM_NR_PARAMS;

/// Frames of the pool for tables that a domain begins with, until the toolstack says how many it may have.
pub const FIRST_POOL: u64 = 256;

/// The second-stage table of a domain.
pub type GuestMap<A> = P2m<MapHost<A>, <A as Arch>::Format>;

/// What only a translated domain has.
pub struct Translated<A: Arch> {
    /// Its physical memory.
    pub p2m: GuestMap<A>,
    /// HVM_PARAM_*, by number.
    pub params: [AtomicU64; HVM_NR_PARAMS as usize],
    /// Its device emulators; [`crate::Hypervisor::servers`] is what uses them.
    pub servers: ioreq::Book,
    /// Who watches it; [`crate::Hypervisor::monitor`] is what uses it.
    pub watched: vm_event::Book,
    /// Video memory of which a device emulator wants to know what is written.
    pub(crate) vram: Mutex<Range<u64>>,
}

impl<A: Arch> Translated<A> {
    /// An empty table, with its root.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn new(memory: &Arc<Memory<A>>, account: &Arc<DomainMemory>) -> Result<Box<Translated<A>>> {
        let host = MapHost { memory: memory.clone(), account: account.clone() };
        let params = [const { AtomicU64::new(0) }; HVM_NR_PARAMS as usize];
        let translated = Box::new(Translated {
            p2m: P2m::new(host, account.id()),
            params,
            servers: ioreq::Book::default(),
            watched: vm_event::Book::default(),
            vram: Mutex::new(0..0),
        });
        let opened = translated.p2m.resize_pool(FIRST_POOL, &Never).and_then(|_| translated.p2m.open());
        match opened {
            Ok(_root) => Ok(translated),
            Err(errno) => {
                // Without a root all of the pool is free, so nothing of it stays.
                let _ = translated.p2m.resize_pool(0, &Never);
                Err(errno)
            }
        }
    }

    /// Takes the table down, and gives its frames back; no vCPU will run again.
    ///
    /// # Errors
    /// `EAGAIN` where it was cut off.
    pub(crate) fn tear_down(&self, preempt: &dyn Preempt) -> Result<()> {
        if let Progress::Again(_) = self.p2m.teardown(preempt) {
            return Err(Errno::AGAIN);
        }
        match self.p2m.resize_pool(0, preempt)? {
            Progress::Done(()) => Ok(()),
            Progress::Again(_) => Err(Errno::AGAIN),
        }
    }
}

impl Creation {
    /// Whether the domain's frame numbers are its own, translated by a second-stage table (an HVM or PVH guest).
    pub fn is_translated(&self) -> bool {
        self.flags & XEN_DOMCTL_CDF_HVM != 0
    }
}

impl<A: Arch> Domain<A> {
    /// Whether its frame numbers are its own, translated by a second-stage table (an HVM or PVH guest).
    pub fn is_translated(&self) -> bool {
        self.translated.is_some()
    }

    /// Its second-stage table; `None` for a PV domain.
    pub fn p2m(&self) -> Option<&GuestMap<A>> {
        self.translated.as_ref().map(|translated| &translated.p2m)
    }
}

/// For work that is bounded by itself.
pub(crate) struct Never;

impl Preempt for Never {
    fn should_yield(&self) -> bool {
        false
    }
}

/// The memory around a domain's second-stage table.
pub struct MapHost<A: Arch> {
    memory: Arc<Memory<A>>,
    account: Arc<DomainMemory>,
}

impl<A: Arch> MapHost<A> {
    /// Takes a reference to each of the domain's own frames from `mfn` on, or none, and notes where they are.
    fn take_own(&self, gfn: Gfn, mfn: Mfn, count: u64) -> Result<()> {
        self.memory.get_writable_run(mfn, count, self.account.id())?;
        self.memory.host().set_m2p_run(mfn, count, gfn);
        Ok(())
    }

    /// Takes a reference to another domain's frame for an entry.
    fn take_one(&self, mfn: Mfn, ty: Type) -> Result<()> {
        let memory = &self.memory;
        // Whoever maps it holds a reference, so the owner stays the same.
        let owner = memory.frames().view(mfn).ok_or(Errno::INVAL)?.owner;
        if ty == Type::GrantMapRo {
            memory.get_frame(mfn, owner)?;
        } else {
            memory.get_writable(mfn, owner)?;
        }
        Ok(())
    }

    fn put_one(&self, mfn: Mfn, ty: Type) {
        if ty == Type::GrantMapRo {
            self.memory.put_frame(mfn);
        } else {
            self.memory.put_writable(mfn);
        }
    }
}

impl<A: Arch> Frames for MapHost<A> {
    fn table(&self, mfn: Mfn) -> Option<&Table> {
        self.memory.host().table(mfn)
    }

    fn zero(&self, mfn: Mfn) -> bool {
        self.memory.host().zero(mfn)
    }
}

impl<A: Arch> Tlb for MapHost<A> {
    fn flush_domain(&self, _domain: DomId) {
        self.memory.flush_domain(&self.account);
    }

    fn flush_all(&self) {
        self.memory.flush_everywhere();
    }
}

impl<A: Arch> Keeper for MapHost<A> {
    fn take(&self, gfn: Gfn, mfn: Mfn, order: u8, ty: Type) -> Result<()> {
        if ty == Type::MmioDirect {
            return Ok(());
        }
        if ty.is_own_frame() {
            return self.take_own(gfn, mfn, 1 << order);
        }
        for index in 0..1u64 << order {
            if let Err(errno) = self.take_one(mfn.offset(index), ty) {
                (0..index).for_each(|index| self.put_one(mfn.offset(index), ty));
                return Err(errno);
            }
        }
        Ok(())
    }

    fn put(&self, mfn: Mfn, order: u8, ty: Type) {
        if ty != Type::MmioDirect {
            (0..1u64 << order).for_each(|index| self.put_one(mfn.offset(index), ty));
        }
    }
}

impl<A: Arch> Supply for MapHost<A> {
    fn allocate_frame(&self) -> Option<Mfn> {
        // A pool's frame is cleared when it becomes a table.
        self.memory.allocate_anonymous(Request { zero: false, ..Request::order(0) }).ok()
    }

    fn free_frame(&self, mfn: Mfn) {
        self.memory.free_anonymous(mfn, 0);
    }
}

impl<A: Arch> Demand for MapHost<A> {
    fn allocate_ram(&self, order: u8) -> Option<Mfn> {
        // The cache of frames for later clears what it gets.
        self.memory.allocate(&self.account, Request { zero: false, ..Request::order(order) }).ok()
    }

    fn free_ram(&self, mfn: Mfn, order: u8) {
        for mfn in (0..1u64 << order).map(|index| mfn.offset(index)) {
            if let Err(denied) = self.memory.decrease(&self.account, mfn) {
                log::error!("{}: memory that waits to be populated: {denied}", self.account.id());
            }
        }
    }

    fn unplaced(&self, mfn: Mfn, order: u8) {
        (0..1u64 << order).for_each(|index| self.memory.host().set_m2p(mfn.offset(index), Gfn::INVALID));
    }

    fn references(&self, mfn: Mfn) -> Option<u32> {
        let view = self.memory.frames().view(mfn)?;
        let own = view.state == State::InUse && view.owner == self.account.id() && view.allocated && !view.shared;
        let plain = matches!(view.ty, FrameType::None | FrameType::Writable);
        (own && plain).then(|| view.references.saturating_sub(1))
    }

    fn total_pages(&self) -> u64 {
        self.account.total_pages()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Hypervisor;
    use crate::fakes::FakeArch;
    use p2m::{Access, Entry};

    /// A machine with a translated domain, and how many frames were free without it.
    fn world() -> (Hypervisor<FakeArch>, Arc<Domain<FakeArch>>, u64) {
        let hypervisor = FakeArch::hypervisor(1024, 1);
        let free = hypervisor.memory.free_pages();
        let creation = Creation { flags: XEN_DOMCTL_CDF_HVM, ..Creation::of_test(false, 1) };
        let domain = hypervisor.create_domain(DomId(1), creation).unwrap();
        (hypervisor, domain, free)
    }

    #[test]
    fn a_table_goes_with_its_domain() {
        let (hypervisor, domain, free) = world();
        let p2m = domain.p2m().unwrap();
        assert_eq!(p2m.pool_pages(), (FIRST_POOL, 1));
        let mfn = hypervisor.memory.allocate(&domain.memory, Request::order(0)).unwrap();
        let set = p2m.set(Gfn(5), mfn, 0, Type::RamRw, Access::Rwx).unwrap();
        assert_eq!(set.before, Some(Entry::hole(0)));
        assert_eq!((domain.frame(5, &Never), domain.frame(6, &Never)), (Some(mfn), None));
        assert_eq!((hypervisor.machine().m2p(mfn), p2m.host().references(mfn)), (5, Some(1)));
        hypervisor.destroy(&domain).unwrap();
        assert_eq!(hypervisor.memory.free_pages(), free);
        assert!(hypervisor.domains.get(DomId(1)).is_none());
        assert!(p2m.set(Gfn(5), mfn, 0, Type::RamRw, Access::Rwx).is_err(), "its table is closed");
    }

    #[test]
    fn an_entry_keeps_its_frame_until_cpus_have_forgotten_it() {
        let (hypervisor, domain, _) = world();
        let (p2m, memory) = (domain.p2m().unwrap(), &hypervisor.memory);
        let mfn = memory.allocate(&domain.memory, Request::order(0)).unwrap();
        let _new = p2m.set(Gfn(5), mfn, 0, Type::RamRw, Access::Rwx).unwrap();
        let _gone = p2m.clear(Gfn(5), 0).unwrap();
        memory.decrease(&domain.memory, mfn).unwrap();
        assert_eq!(memory.frames().view(mfn).unwrap().references, 1);
        assert_eq!(hypervisor.machine().machine.flushes.lock().unwrap().get(&1), None);
        assert_eq!(p2m.flush(&Never), Progress::Done(()));
        assert_eq!(hypervisor.machine().machine.flushes.lock().unwrap()[&1], 1);
        assert_eq!(memory.frames().view(mfn).unwrap().state, State::Free);
    }

    #[test]
    fn frames_of_others_are_no_memory_of_its_own() {
        let (hypervisor, domain, _) = world();
        let other = hypervisor.create_domain(DomId(2), Creation::of_test(false, 1)).unwrap();
        let (p2m, memory) = (domain.p2m().unwrap(), &hypervisor.memory);
        let mfn = memory.allocate(&other.memory, Request::order(0)).unwrap();
        assert_eq!(p2m.set(Gfn(5), mfn, 0, Type::RamRw, Access::Rwx), Err(Errno::INVAL));
        let _mapped = p2m.set(Gfn(5), mfn, 0, Type::GrantMapRo, Access::Rwx).unwrap();
        let view = memory.frames().view(mfn).unwrap();
        assert_eq!((view.references, view.uses, hypervisor.machine().m2p(mfn)), (2, 0, !0));
        let _mapped = p2m.set(Gfn(6), mfn, 0, Type::MapForeign, Access::Rwx).unwrap();
        assert_eq!(memory.frames().view(mfn).unwrap().uses, 1, "a writable one");
        hypervisor.destroy(&domain).unwrap();
        let view = memory.frames().view(mfn).unwrap();
        assert_eq!((view.references, view.uses), (1, 0));
    }

    #[test]
    fn without_memory_for_its_table_there_is_no_domain() {
        let hypervisor = FakeArch::hypervisor(FIRST_POOL as usize, 1);
        let free = hypervisor.memory.free_pages();
        let creation = Creation { flags: XEN_DOMCTL_CDF_HVM, ..Creation::of_test(false, 1) };
        assert_eq!(hypervisor.create_domain(DomId(1), creation).err(), Some(Errno::NOMEM));
        assert_eq!(hypervisor.memory.free_pages(), free);
    }

    #[test]
    fn memory_waits_until_it_is_touched() {
        let (hypervisor, domain, free) = world();
        let p2m = domain.p2m().unwrap();
        p2m.mark_on_demand(Gfn(0), 0).unwrap();
        let _grown = p2m.set_demand_target(1, &Never).unwrap();
        assert_eq!(domain.memory.total_pages(), 1);
        let mfn = domain.frame(0, &Never).unwrap();
        assert_eq!(p2m.host().references(mfn), Some(1));
        hypervisor.destroy(&domain).unwrap();
        assert_eq!(hypervisor.memory.free_pages(), free);
    }
}
