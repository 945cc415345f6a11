//! The machine, as the logic sees it.

use crate::memory_map;
use core::sync::atomic::{AtomicU32, Ordering::SeqCst};
use hal::LendableFrames;
use hal_cpu::GuestSpace;
use hal_irq::{CpuMask, FlushKind};
use memory::PvPolicy;
use platform::{Clock, Frames, GuestMemory, Kick, Preempt, Table, Tlb};
use types::{CpuId, DomId, Gfn, Mfn, Result};

/// No guest's page tables are loaded.
const NO_DOMAIN: u32 = u32::MAX;
/// CPUs at most.
pub const MAX_CPUS: usize = 256;

/// An x86-64 machine.
pub struct X86 {
    frames: LendableFrames,
    guest: GuestSpace,
    /// The domain whose page tables each CPU has loaded.
    loaded: [AtomicU32; MAX_CPUS],
    /// Ranges of frames that are no RAM and that no guest may map: first and behind the last.
    pub(crate) forbidden_io: alloc::vec::Vec<(u64, u64)>,
    /// One more than the highest frame of the physical address width.
    pub(crate) frame_limit: u64,
}

impl X86 {
    /// The machine, after `hal`, `hal_cpu` and `hal_irq` were started.
    pub fn new(frames: LendableFrames) -> X86 {
        X86 {
            frames,
            guest: GuestSpace,
            loaded: [const { AtomicU32::new(NO_DOMAIN) }; MAX_CPUS],
            forbidden_io: memory_map::forbidden_io(),
            frame_limit: 1 << (physical_address_bits() - types::PAGE_SHIFT),
        }
    }

    /// Frames that may be lent to guests.
    pub fn lendable(&self) -> &LendableFrames {
        &self.frames
    }

    /// Notes whose page tables this CPU is about to load; `None` for the hypervisor's own. To be called before loading a
    /// guest's, so that no flush for it is missed, and after leaving them.
    pub fn set_loaded(&self, domain: Option<DomId>) {
        let word = domain.map_or(NO_DOMAIN, |domain| domain.0.into());
        self.loaded[hal_cpu::cpu_id().index()].store(word, SeqCst);
    }

    /// CPUs that may hold translations of the domain.
    pub fn cpus_of(&self, domain: DomId) -> CpuMask {
        let mut mask = CpuMask::default();
        for cpu in 0..hal_irq::cpus::count() {
            if self.loaded[cpu].load(SeqCst) == u32::from(domain.0) {
                mask.insert(CpuId(cpu as u32));
            }
        }
        mask
    }
}

/// Width of physical addresses (CPUID 0x80000008, APM vol. 3).
pub(crate) fn physical_address_bits() -> u32 {
    hal_cpu::cpuid(0x8000_0008, 0).eax & 0xff
}

impl Frames for X86 {
    #[inline]
    fn table(&self, mfn: Mfn) -> Option<&Table> {
        self.frames.table(mfn)
    }
}

impl Clock for X86 {
    fn system_time(&self) -> u64 {
        hal_irq::time::system_time()
    }
}

impl Kick for X86 {
    fn kick(&self, cpu: CpuId) {
        hal_irq::ipi::kick(cpu);
    }
}

impl GuestMemory for X86 {
    fn copy_in(&self, address: u64, to: &mut [u8]) -> Result<()> {
        self.guest.copy_in(address, to)
    }

    fn copy_out(&self, address: u64, from: &[u8]) -> Result<()> {
        self.guest.copy_out(address, from)
    }

    fn is_guest_range(&self, address: u64, length: u64) -> bool {
        self.guest.is_guest_range(address, length)
    }
}

impl Tlb for X86 {
    fn flush_domain(&self, domain: DomId) {
        hal_irq::ipi::flush_cpus(&self.cpus_of(domain), FlushKind::All);
    }

    fn flush_all(&self) {
        hal_irq::ipi::flush_cpus(&hal_irq::cpus::online(), FlushKind::All);
    }
}

impl Preempt for X86 {
    fn should_yield(&self) -> bool {
        hal_irq::lapic::is_anything_requested()
    }
}

impl PvPolicy for X86 {
    fn may_map_io(&self, domain: DomId, mfn: Mfn) -> bool {
        // Only the control domain has device memory so far.
        domain == DomId::DOM0
            && mfn.0 < self.frame_limit
            && !self.forbidden_io.iter().any(|&(first, end)| (first..end).contains(&mfn.0))
    }

    fn is_io_read_only(&self, mfn: Mfn) -> bool {
        crate::irq::is_read_only(mfn) || memory_map::is_clock(mfn.0)
    }

    fn may_map_foreign(&self, mapper: DomId, _owner: DomId) -> bool {
        mapper == DomId::DOM0
    }

    fn may_choose_caching(&self, domain: DomId) -> bool {
        domain == DomId::DOM0
    }

    fn hypervisor_slots(&self) -> [u64; 16] {
        hal::paging::hypervisor_slots()
    }

    fn set_m2p(&self, mfn: Mfn, gfn: Gfn) {
        hal::m2p::set(mfn, gfn.0);
    }
}
