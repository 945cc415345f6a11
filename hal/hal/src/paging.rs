//! The hypervisor's own address space: one root table, made at boot, whose L4 slots 256 to 271 every guest's root shares.
//! Soundness: docs/soundness/paging.md.

use crate::layout::{DIRECT_MAP, DIRECT_MAP_SIZE, FIRST_SLOT, IO, IO_SIZE, SLOTS, WINDOWS, WINDOWS_SIZE};
use crate::mapper::{self, Tables};
use crate::{boot, cpu, heap};
use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};
use platform::Table;
use platform::sync::Mutex;
use types::{Errno, Mfn, PAGE_SIZE, Result};
use x86_defs::pte::PteFlags;

static ROOT: AtomicU64 = AtomicU64::new(0);
static IDENTITY_ROOT: AtomicU64 = AtomicU64::new(0);
/// Held while entries of the windows and of the I/O area change; holds the next free address of the I/O area.
static CHANGES: Mutex<u64> = Mutex::new(IO);

/// Flags of the hypervisor's data: present, writable, never executed, global.
pub const DATA: PteFlags = PteFlags::from_bits_retain(
    PteFlags::PRESENT.bits()
        | PteFlags::WRITABLE.bits()
        | PteFlags::ACCESSED.bits()
        | PteFlags::DIRTY.bits()
        | PteFlags::GLOBAL.bits()
        | PteFlags::NO_EXECUTE.bits(),
);
/// Flags of the hypervisor's constants.
pub const CONSTANT: PteFlags = DATA.difference(PteFlags::WRITABLE).difference(PteFlags::DIRTY);
/// Flags of the hypervisor's code.
pub const CODE: PteFlags = CONSTANT.difference(PteFlags::NO_EXECUTE);
/// Flag bits that make memory uncached under [`cpu::PAT`].
pub const UNCACHED: PteFlags =
    PteFlags::from_bits_retain(PteFlags::WRITE_THROUGH.bits() | PteFlags::CACHE_DISABLE.bits());

/// Page tables of the running machine, through the direct map.
pub(crate) struct DirectTables;

impl Tables for DirectTables {
    fn table(&self, address: u64) -> &Table {
        // SAFETY: only page-table pages of the hypervisor reach this point; they are private, in the direct map, never
        // freed, and only ever accessed as atomics.
        unsafe { &*direct::<Table>(address) }
    }

    fn allocate(&self) -> Option<u64> {
        boot::take_table().or_else(heap::take_table)
    }
}

/// Where the direct map has the physical address `physical`. Using the pointer needs a reason why that memory is mapped and
/// may be accessed.
#[inline]
pub fn direct<T>(physical: u64) -> *mut T {
    debug_assert!(physical < DIRECT_MAP_SIZE);
    core::ptr::with_exposed_provenance_mut((DIRECT_MAP + physical) as usize)
}

/// The physical address of hypervisor memory: of anything in the direct map (heap, boot slices) or in the image.
/// `None` for other addresses.
pub fn physical_of<T: ?Sized>(pointer: *const T) -> Option<u64> {
    let address = pointer.cast::<u8>().addr() as u64;
    let image = boot::image_range();
    if (DIRECT_MAP..DIRECT_MAP + DIRECT_MAP_SIZE).contains(&address) {
        Some(address - DIRECT_MAP)
    } else if image.contains(&address.wrapping_sub(crate::layout::IMAGE)) {
        Some(address - crate::layout::IMAGE)
    } else {
        None
    }
}

/// The frame of the hypervisor's own root table.
pub fn root_mfn() -> Mfn {
    Mfn::containing(ROOT.load(Ordering::Relaxed))
}

/// Loads the hypervisor's own root table into CR3.
pub fn load_root() {
    // SAFETY: the root maps all that the hypervisor uses.
    unsafe { cpu::write_cr3(ROOT.load(Ordering::Relaxed)) };
}

/// The entries 256 to 271 that every root table must have. They never change after [`boot::init`].
pub fn hypervisor_slots() -> [u64; SLOTS] {
    let root = DirectTables.table(ROOT.load(Ordering::Relaxed));
    core::array::from_fn(|index| root[FIRST_SLOT + index].load(Ordering::Relaxed))
}

/// A root table below 4 GiB for starting other CPUs: the hypervisor's slots, and the first 2 MiB of physical memory at
/// address 0, executable. Load it only between the trampoline's entry and its jump to the image, then [`load_root`].
pub fn identity_root() -> u64 {
    IDENTITY_ROOT.load(Ordering::Relaxed)
}

/// Makes `root` the hypervisor's root table, and switches to it.
///
/// # Safety
/// It maps the image, the direct map and all of Rust's memory; called once, on the boot CPU.
pub(crate) unsafe fn install(root: u64) {
    ROOT.store(root, Ordering::Relaxed);
    // SAFETY: the caller's promise.
    unsafe { cpu::write_cr3(root) };
}

/// Keeps the address of the table that [`identity_root`] gives.
pub(crate) fn set_identity_root(root: u64) {
    IDENTITY_ROOT.store(root, Ordering::Relaxed);
}

/// Drops this CPU's translation of one page.
pub fn flush_page(address: u64) {
    // SAFETY: dropping a cached translation only makes the CPU walk again.
    unsafe { asm!("invlpg [{}]", in(reg) address, options(nostack, preserves_flags)) };
}

/// Drops all this CPU's translations, global ones too (SDM vol. 3, 4.10.4.1).
pub fn flush_all_local() {
    let value = cpu::read_cr4();
    // SAFETY: clearing and setting CR4.PGE changes no mapping.
    unsafe {
        cpu::write_cr4(value & !(1 << 7));
        cpu::write_cr4(value);
    }
}

fn in_windows(address: u64) -> bool {
    address % PAGE_SIZE as u64 == 0 && (WINDOWS..WINDOWS + WINDOWS_SIZE).contains(&address)
}

/// Maps `length` bytes of the hypervisor's own memory at `address` in [`WINDOWS`], both multiples of 4 KiB; `EEXIST` if
/// something is mapped there.
///
/// # Safety
/// `physical..physical + length` is private to the hypervisor, and the new alias breaks no reference to it.
pub unsafe fn map_private(address: u64, physical: u64, length: u64, flags: PteFlags) -> Result<()> {
    if !in_windows(address) || length > WINDOWS + WINDOWS_SIZE - address {
        return Err(Errno::INVAL);
    }
    let _guard = CHANGES.lock();
    mapper::map(&DirectTables, ROOT.load(Ordering::Relaxed), address, physical, length, flags, 1)
}

/// The last-level entry for the page at `address` in [`WINDOWS`], making tables as needed. Entries of one table are
/// contiguous, so the entry's neighbours up to the next 2 MiB boundary follow it. `EINVAL` for a bad address, `ENOMEM`.
/// For code that rewrites windows on a hot path.
///
/// # Safety
/// What the caller stores maps a lendable frame and is not executable, in place of another such; or it is the caller's own
/// memory, at an address that is the caller's.
pub unsafe fn window_entry(address: u64) -> Result<&'static AtomicU64> {
    if !in_windows(address) {
        return Err(Errno::INVAL);
    }
    let root = ROOT.load(Ordering::Relaxed);
    if let Ok(slot) = mapper::entry(&DirectTables, root, address, 1, None) {
        return Ok(extend(slot));
    }
    let _guard = CHANGES.lock();
    mapper::entry(&DirectTables, root, address, 1, Some(DATA)).map(extend)
}

/// An entry outlives the borrow of [`DirectTables`], which is nothing but a name.
fn extend(slot: &AtomicU64) -> &'static AtomicU64 {
    // SAFETY: tables of the hypervisor are never freed.
    unsafe { &*core::ptr::from_ref(slot) }
}

/// Reserves addresses in the I/O area and maps `length` bytes from `physical`, both multiples of 4 KiB, with one unmapped
/// page behind. The caller has checked that the range may be mapped.
pub(crate) fn map_device(physical: u64, length: u64, flags: PteFlags) -> Result<u64> {
    let mut next = CHANGES.lock();
    let address = *next;
    let end = address.checked_add(length + PAGE_SIZE as u64).ok_or(Errno::NOMEM)?;
    if end > IO + IO_SIZE {
        return Err(Errno::NOMEM);
    }
    *next = end;
    mapper::map(&DirectTables, ROOT.load(Ordering::Relaxed), address, physical, length, flags, 1)?;
    Ok(address)
}

/// The physical address that the hypervisor has mapped at `address`, by walking its tables without a lock; `None` if
/// nothing is mapped there. For panics and checks.
pub fn translate(address: u64) -> Option<u64> {
    let root = ROOT.load(Ordering::Relaxed);
    if root == 0 || (address as i64) >= 0 {
        return None;
    }
    let (entry, level) = mapper::walk(&DirectTables, root, address)?;
    let mask = mapper::page_size(level) - 1;
    Some((entry.frame() << 12) & !mask | address & mask)
}
