//! The machine, as the logic sees it.

use crate::hvm::space::Space;
use crate::memory_map;
use alloc::boxed::Box;
use compat::{Window, is_in_window};
use core::cell::{Cell, RefCell};
use core::sync::atomic::{AtomicU32, Ordering::SeqCst};
use hal::LendableFrames;
use hal_cpu::{GuestSpace, PerCpu};
use hal_irq::acpi::Proximity;
use hal_irq::{FlushKind, MAX_CPUS};
use platform::{Clock, Frames, GuestMemory, Kick, Preempt, Table, Tlb};
use types::{CpuId, CpuMask, DomId, Errno, Mfn, Result};

/// For how long a CPU goes on before it looks whether interrupts wait, in nanoseconds. They are off meanwhile, so this and the
/// longest step between two questions bound their delay. A look reads seven registers of the local APIC, which are slow.
const LOOK_EVERY: u64 = 100_000;
/// When this CPU looks next, in ticks of its TSC; 0 where nobody has asked since it left its guest.
static NEXT_LOOK: PerCpu<Cell<u64>> = hal_cpu::per_cpu!(Cell::new(0));

/// Arguments in 64-bit layout of the call that this CPU carries out for a 32-bit guest, while it does.
static WINDOW: PerCpu<RefCell<Option<Box<Window>>>> = hal_cpu::per_cpu!(RefCell::new(None));

/// Address space of the HVM guest whose call this CPU carries out, while it does.
static SPACE: PerCpu<RefCell<Option<Space>>> = hal_cpu::per_cpu!(RefCell::new(None));

/// Whether [`SPACE`] has one: asked for at each copy, most of which go to the address space that is loaded.
static IS_ELSEWHERE: PerCpu<Cell<bool>> = hal_cpu::per_cpu!(Cell::new(false));

/// No guest's page tables are loaded.
const NO_DOMAIN: u32 = u32::MAX;

/// Counts of flushes.
const FLUSH_COUNTS: usize = 64;

/// An x86-64 machine.
pub struct X86 {
    frames: LendableFrames,
    guest: GuestSpace,
    /// The domain whose page tables each CPU has loaded.
    loaded: [AtomicU32; MAX_CPUS],
    /// How often the translations of each domain were flushed; several domains may share a count.
    flushes: [AtomicU32; FLUSH_COUNTS],
    /// How often all translations were flushed.
    flushes_of_all: AtomicU32,
    /// Which CPUs are in which node.
    proximity: Proximity,
    /// [`LOOK_EVERY`], in ticks.
    look_every: u64,
    /// Ranges of frames that are no RAM and that no guest may map: first and behind the last.
    pub(crate) forbidden_io: alloc::vec::Vec<(u64, u64)>,
    /// One more than the highest frame of the physical address width.
    pub(crate) frame_limit: u64,
}

impl X86 {
    /// The machine, after `hal`, `hal_cpu` and `hal_irq` were started.
    pub fn new(frames: LendableFrames, proximity: Proximity) -> X86 {
        X86 {
            frames,
            guest: GuestSpace,
            loaded: [const { AtomicU32::new(NO_DOMAIN) }; MAX_CPUS],
            flushes: [const { AtomicU32::new(0) }; FLUSH_COUNTS],
            flushes_of_all: AtomicU32::new(0),
            proximity,
            look_every: hal_irq::time::scale().ticks(LOOK_EVERY),
            forbidden_io: memory_map::forbidden_io(),
            frame_limit: 1 << (physical_address_bits() - types::PAGE_SHIFT),
        }
    }

    /// Frames that may be lent to guests.
    pub fn lendable(&self) -> &LendableFrames {
        &self.frames
    }

    /// NUMA node of a CPU that runs; `None` where firmware does not tell.
    pub fn node_of(&self, cpu: CpuId) -> Option<u32> {
        self.proximity.node_of(hal_irq::cpus::apic_id(cpu)?)
    }

    /// Notes whose page tables this CPU is about to load; `None` for the hypervisor's own. To be called before loading a
    /// guest's, so that no flush for it is missed, and after leaving them.
    pub fn set_loaded(&self, domain: Option<DomId>) {
        let word = domain.map_or(NO_DOMAIN, |domain| domain.0.into());
        self.loaded[hal_cpu::cpu_id().index()].store(word, SeqCst);
    }

    fn flush_count(&self, domain: DomId) -> &AtomicU32 {
        &self.flushes[usize::from(domain.0) % FLUSH_COUNTS]
    }

    /// A number that is another after each flush of the domain's translations. CPUs drop them only if they have the domain
    /// loaded; whoever loads it later, and does not drop all of them anyway, asks afterwards.
    pub fn flushes_of(&self, domain: DomId) -> u32 {
        self.flush_count(domain).load(SeqCst).wrapping_add(self.flushes_of_all.load(SeqCst))
    }

    /// Width of a physical address, in bits.
    pub fn address_bits(&self) -> u8 {
        self.frame_limit.trailing_zeros() as u8 + types::PAGE_SHIFT as u8
    }

    /// CPUs that may hold translations of the domain.
    fn cpus_of(&self, domain: DomId) -> CpuMask {
        let mut mask = CpuMask::EMPTY;
        for cpu in 0..hal_irq::cpus::count() {
            if self.loaded[cpu].load(SeqCst) == u32::from(domain.0) {
                mask.insert(CpuId(cpu as u32));
            }
        }
        mask
    }

    /// Drops translations on all CPUs that have a domain's page tables loaded.
    pub fn flush_cpus_of(&self, domain: DomId, kind: FlushKind) {
        let has_it = |cpu: usize| self.loaded[cpu].load(SeqCst) == u32::from(domain.0);
        let me = hal_cpu::cpu_id().index();
        // Nearly always this one alone: no set of CPUs then.
        if (0..hal_irq::cpus::count()).all(|cpu| cpu == me || !has_it(cpu)) {
            if has_it(me) {
                hal_irq::ipi::flush_here(kind);
            }
            return;
        }
        hal_irq::ipi::flush_cpus(&self.cpus_of(domain), kind);
    }
}

/// When this CPU looks next: 0 is to be stored here where its guest is about to run, since whatever waits interrupts it.
pub(crate) fn next_look() -> &'static Cell<u64> {
    NEXT_LOOK.get()
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

    fn zero(&self, mfn: Mfn) -> bool {
        self.frames.zero(mfn)
    }

    fn copy_part(&self, from: (Mfn, usize), to: (Mfn, usize), length: usize) -> bool {
        self.frames.copy_part(from, to, length)
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

/// Makes a window this CPU's, or none; the one that it had.
pub(crate) fn set_window(window: Option<Box<Window>>) -> Option<Box<Window>> {
    WINDOW.get().replace(window)
}

/// Does something with this CPU's window, if it has one.
#[cold]
fn with_window(action: impl FnOnce(&mut Window) -> Result<()>) -> Result<()> {
    WINDOW.get().borrow_mut().as_deref_mut().map_or(Err(Errno::FAULT), action)
}

/// Does something with the window of an HVM guest's 32-bit code, if that makes a call and the address is in it. To 64-bit
/// code the address is one like any other.
fn with_narrow_window<T>(address: u64, action: impl FnOnce(&mut Window) -> T) -> Option<T> {
    if !is_in_window(address) {
        return None;
    }
    WINDOW.get().borrow_mut().as_deref_mut().map(action)
}

/// Makes an address space the one that this CPU copies to and from, or takes it away.
pub(crate) fn set_space(space: Option<Space>) {
    IS_ELSEWHERE.get().set(space.is_some());
    SPACE.get().replace(space);
}

/// Whether the code of this domain whose call this CPU carries out has fewer than 64 bits; `None` while it carries out none.
pub(crate) fn caller_is_narrow(domain: DomId) -> Option<bool> {
    let is_caller = SPACE.get().borrow().as_ref().is_some_and(|space| space.domain.id == domain);
    is_caller.then(|| WINDOW.get().borrow().is_some())
}

impl X86 {
    /// Copies from an HVM guest's memory, from the window of a 32-bit guest, or from nowhere.
    #[inline(never)]
    fn copy_in_elsewhere(&self, address: u64, to: &mut [u8]) -> Result<()> {
        if let Some(space) = SPACE.get().borrow().as_ref() {
            return match with_narrow_window(address, |window| window.read(address, to)) {
                Some(result) => result,
                None => space.copy_in(self, address, to),
            };
        }
        if !is_in_window(address) {
            return Err(Errno::FAULT);
        }
        with_window(|window| window.read(address, to))
    }

    /// The other way.
    #[inline(never)]
    fn copy_out_elsewhere(&self, address: u64, from: &[u8]) -> Result<()> {
        if let Some(space) = SPACE.get().borrow().as_ref() {
            return match with_narrow_window(address, |window| window.write(address, from)) {
                Some(result) => result,
                None => space.copy_out(self, address, from),
            };
        }
        if !is_in_window(address) {
            return Err(Errno::FAULT);
        }
        with_window(|window| window.write(address, from))
    }
}

impl GuestMemory for X86 {
    #[inline(always)]
    fn copy_in(&self, address: u64, to: &mut [u8]) -> Result<()> {
        if !IS_ELSEWHERE.get().get() && self.guest.copy_in(address, to).is_ok() {
            return Ok(());
        }
        self.copy_in_elsewhere(address, to)
    }

    #[inline(always)]
    fn copy_out(&self, address: u64, from: &[u8]) -> Result<()> {
        if !IS_ELSEWHERE.get().get() && self.guest.copy_out(address, from).is_ok() {
            return Ok(());
        }
        self.copy_out_elsewhere(address, from)
    }

    #[inline(always)]
    fn copy_in_loaded(&self, address: u64, to: &mut [u8]) -> Result<()> {
        self.guest.copy_in(address, to)
    }

    #[inline(always)]
    fn copy_out_loaded(&self, address: u64, from: &[u8]) -> Result<()> {
        self.guest.copy_out(address, from)
    }

    fn is_guest_range(&self, address: u64, length: u64) -> bool {
        // All addresses are an HVM guest's.
        if IS_ELSEWHERE.get().get() {
            return true;
        }
        self.guest.is_guest_range(address, length) || is_in_window(address) && with_window(|_| Ok(())).is_ok()
    }
}

impl Tlb for X86 {
    fn flush_domain(&self, domain: DomId) {
        self.flush_count(domain).fetch_add(1, SeqCst);
        self.flush_cpus_of(domain, FlushKind::All);
    }

    fn flush_all(&self) {
        self.flushes_of_all.fetch_add(1, SeqCst);
        hal_irq::ipi::flush_cpus(&hal_irq::cpus::online(), FlushKind::All);
    }
}

impl Preempt for X86 {
    fn should_yield(&self) -> bool {
        hal_irq::ipi::poll_mailbox();
        if hal_irq::ipi::is_kicked() {
            return true;
        }
        let (next, now) = (NEXT_LOOK.get(), hal_cpu::rdtsc());
        if next.get() != 0 && now >= next.get() && hal_irq::lapic::is_anything_requested() {
            return true;
        }
        if now >= next.get() {
            next.set(now + self.look_every);
        }
        false
    }
}
