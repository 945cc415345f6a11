//! From the boot loader to a machine with paging, heap and console; and the memory that the hypervisor keeps for itself.
//! Soundness: docs/soundness/frames.md.

mod build;
mod early;
mod efi;
pub mod multiboot;
pub mod ranges;
mod scratch;

use crate::cmdline::{self, Parsed};
use crate::frames::{self, LendableFrames};
use crate::paging::direct;
use crate::{console, fatal, heap, panic};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use multiboot::{Information, ModuleEntry};
pub use multiboot::{MemoryKind, MemoryRegion};
use platform::sync::Mutex;
use ranges::{Range, Ranges};
pub use scratch::{Scratch, scratch};
use types::{Mfn, PAGE_SIZE};
use zerocopy::FromZeros;

/// Start of the memory that can be used freely: below it are real-mode structures of the firmware.
const LOW_END: u64 = 1 << 20;
/// What the boot page tables map.
const EARLY_LIMIT: u64 = 1 << 32;
/// Pages for the code that starts other CPUs.
const TRAMPOLINE_PAGES: u64 = 2;

/// How far boot has come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Stage {
    /// Nothing is known.
    Start,
    /// Memory below 4 GiB is reachable.
    Early,
    /// All memory is reachable, and there is a heap.
    Ready,
    /// The hypervisor's share is final.
    Finished,
}

/// The machine's memory as boot shares it out.
struct Shares {
    stage: Stage,
    /// What the firmware calls usable.
    ram: Ranges,
    /// What nobody has.
    free: Ranges,
    /// What the hypervisor keeps for good.
    private: Ranges,
    /// What modules hold.
    held: Ranges,
}

static SHARES: Mutex<Shares> = Mutex::new(Shares {
    stage: Stage::Start,
    ram: Ranges::new(),
    free: Ranges::new(),
    private: Ranges::new(),
    held: Ranges::new(),
});
static INFORMATION: Mutex<Information> = Mutex::new(Information::new());
static TRAMPOLINE: AtomicU64 = AtomicU64::new(0);

/// What the entry code hands over; only the entry code makes one, so [`init`] runs once.
#[derive(Debug)]
pub struct Handoff {
    magic: u32,
    information: u32,
}

/// What is known about the machine after [`init`].
#[derive(Debug)]
pub struct BootInfo {
    /// The boot loader's name.
    pub loader: String,
    /// The hypervisor's command line.
    pub command_line: &'static str,
    /// What it says.
    pub parsed: Parsed<'static>,
    /// The firmware's memory map, in its order.
    pub regions: Vec<MemoryRegion>,
    /// The modules, in order.
    pub modules: Vec<Module>,
    /// A copy of the ACPI root pointer (RSDP), 20 or 36 bytes.
    pub rsdp: Option<Vec<u8>>,
    /// Where UEFI says that the root pointer is, a physical address: the BIOS areas need not have it then.
    pub efi_rsdp: Option<u64>,
    /// One more than the highest frame of RAM.
    pub max_page: u64,
    /// Bytes of usable RAM.
    pub ram: u64,
}

/// A module that the boot loader has put into memory. Its frames are nobody else's until [`Module::release`].
#[derive(Debug)]
pub struct Module {
    range: Range,
    frames: Range,
    /// Its command line, without the file's name.
    pub command_line: String,
}

impl Module {
    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the range is RAM in the direct map, which nothing writes as long as the module is not released.
        unsafe { core::slice::from_raw_parts(direct(self.range.start), (self.range.end - self.range.start) as usize) }
    }

    /// Physical address of its first byte.
    pub fn address(&self) -> u64 {
        self.range.start
    }

    /// Gives its memory up: the frames, first and behind the last, become lendable and belong to the caller, contents intact.
    /// (Frames that two modules share are lost.) Before [`finish`] they join the free ranges instead, and nothing is given.
    pub fn release(self) -> Option<(Mfn, Mfn)> {
        let mut shares = SHARES.lock();
        shares.held.remove(self.frames);
        if self.frames.is_empty() {
            return None;
        }
        if shares.stage < Stage::Finished {
            shares.free.add(self.frames);
            return None;
        }
        let (first, end) = (Mfn::containing(self.frames.start), Mfn::containing(self.frames.end));
        // SAFETY: the frames were this module's alone, and its bytes can no longer be reached.
        unsafe { frames::lend(first.0, end.0) };
        Some((first, end))
    }
}

#[cfg(target_os = "none")]
unsafe extern "C" {
    static __image_start: u8;
    static __rodata_start: u8;
    static __data_start: u8;
    static __image_end: u8;
}

/// Physical addresses of the image's parts: start, read-only data, data, end.
#[cfg(target_os = "none")]
fn image_parts() -> [u64; 4] {
    [&raw const __image_start, &raw const __rodata_start, &raw const __data_start, &raw const __image_end]
        .map(|symbol| symbol.addr() as u64 - crate::layout::IMAGE)
}

/// There is no image on a desk.
#[cfg(not(target_os = "none"))]
fn image_parts() -> [u64; 4] {
    [0; 4]
}

/// The lowest page of the boot stack, which stays unmapped.
#[cfg(target_os = "none")]
fn boot_stack_guard() -> u64 {
    unsafe extern "C" {
        static boot_stack: u8;
    }
    (&raw const boot_stack).addr() as u64
}

/// There is no image on a desk.
#[cfg(not(target_os = "none"))]
fn boot_stack_guard() -> u64 {
    0
}

/// Physical addresses of the image.
pub fn image_range() -> core::ops::Range<u64> {
    let parts = image_parts();
    parts[0]..parts[3]
}

/// Physical memory as the boot page tables show it.
struct EarlyMemory;

impl multiboot::Memory for EarlyMemory {
    fn read(&self, address: u64, to: &mut [u8]) -> bool {
        if address.checked_add(to.len() as u64).is_none_or(|end| end > EARLY_LIMIT) {
            return false;
        }
        for (index, byte) in to.iter_mut().enumerate() {
            // SAFETY: the boot tables map all of this; nothing else runs, and nothing of ours is written meanwhile.
            *byte = unsafe { direct::<u8>(address + index as u64).read_volatile() };
        }
        true
    }
}

/// Brings the machine from the boot loader's state to paging, heap and console as the command line wants them. Bad
/// input ends in one line on the console.
pub fn init(handoff: Handoff) -> BootInfo {
    let mut info = INFORMATION.lock();
    if let Err(error) = multiboot::parse(&EarlyMemory, handoff.magic, handoff.information, &mut info) {
        fatal!("{error}");
    }
    if info.rsdp.is_none() {
        info.rsdp = multiboot::find_rsdp(&EarlyMemory);
    }
    let efi_rsdp = info.efi_system_table.and_then(|table| efi::find_rsdp(&EarlyMemory, table));
    let parsed = cmdline::parse(info.text(info.command_line));
    let options = &parsed.options;
    if options.serial_line() != &console::Settings::COM1 {
        console::open(options.serial_line());
    }
    console::set_levels(options.loglvl.printed, options.guest_loglvl.printed);
    panic::set_noreboot(options.noreboot);
    share_out(&info);
    build::address_space();
    build::heap(options.heap);
    build::m2p();
    build::identity_root();
    describe(&info, efi_rsdp)
}

/// Sorts the machine's memory into shares.
fn share_out(info: &Information) {
    let mut shares = SHARES.lock();
    for region in info.regions.iter().filter(|region| region.kind == MemoryKind::USABLE) {
        let end = region.end.min(crate::layout::DIRECT_MAP_SIZE);
        shares.ram.add(Range { start: region.start, end });
    }
    // Where entries contradict each other, the one that forbids wins.
    for region in info.regions.iter().filter(|region| region.kind != MemoryKind::USABLE) {
        shares.ram.remove(Range { start: region.start, end: region.end });
    }
    let image = image_range();
    let image = Range { start: image.start, end: image.end };
    shares.free = shares.ram.clone();
    for module in &info.modules {
        let last = module.range.end.saturating_sub(1).max(module.range.start);
        if !shares.ram.contains(module.range.start) || !shares.ram.contains(last) {
            drop(shares);
            fatal!("A module lies outside usable memory: the boot loader's information is wrong");
        }
        shares.free.remove(module.range);
        shares.held.add(module.range.outwards());
    }
    shares.free.remove(image);
    shares.private.add(image);
    let low = shares.free.take(TRAMPOLINE_PAGES * PAGE_SIZE as u64, PAGE_SIZE as u64, 0x9_f000);
    if let Some(low) = low {
        shares.private.add(low);
        TRAMPOLINE.store(low.start, Ordering::Relaxed);
    }
    shares.free.remove(Range { start: 0, end: LOW_END });
    shares.stage = Stage::Early;
}

/// Makes the description of the machine, now that there is a heap.
fn describe(info: &Information, efi_rsdp: Option<u64>) -> BootInfo {
    let text = |text| String::from(info.text(text).trim());
    let command_line: &'static str = Box::leak(text(info.command_line).into_boxed_str());
    let (max_page, ram) = {
        let shares = SHARES.lock();
        (max_page(&shares), shares.ram.total())
    };
    BootInfo {
        loader: text(info.loader),
        command_line,
        parsed: cmdline::parse(command_line),
        regions: info.regions.to_vec(),
        modules: info.modules.iter().map(|entry| module(entry, &info.modules, text(entry.text))).collect(),
        rsdp: info.rsdp.as_ref().map(|bytes| bytes.to_vec()),
        efi_rsdp,
        max_page,
        ram,
    }
}

fn module(entry: &ModuleEntry, all: &[ModuleEntry], command_line: String) -> Module {
    let wide = entry.range.outwards();
    let shared = all.iter().filter(|other| {
        let other = other.range.outwards();
        other.start < wide.end && wide.start < other.end
    });
    // A module's own entry is always among them.
    let frames = if shared.count() > 1 { entry.range.inwards() } else { wide };
    Module { range: entry.range, frames, command_line }
}

fn max_page(shares: &Shares) -> u64 {
    shares.ram.as_slice().last().map_or(0, |range| range.end / PAGE_SIZE as u64)
}

/// Takes pages for good, below `limit` and at a multiple of `align`; the physical address. They hold what they held. Ends in a clear message
/// if memory is short, or after [`finish`].
fn take(length: u64, align: u64, limit: u64, what: &str) -> u64 {
    let mut shares = SHARES.lock();
    let taken = if shares.stage == Stage::Finished { None } else { shares.free.take(length, align, limit) };
    let Some(taken) = taken else {
        let left = shares.free.total() >> 20;
        drop(shares);
        fatal!(
            "Not enough memory for {what}: {} KiB wanted, {left} MiB left in pieces; give the machine more",
            length >> 10
        );
    };
    shares.private.add(taken);
    taken.start
}

/// As [`take`], and filled with a byte.
fn take_filled(length: u64, align: u64, limit: u64, byte: u8, what: &str) -> u64 {
    let start = take(length, align, limit, what);
    // SAFETY: in the direct map, which is complete when this is called, and free a moment ago, so nothing refers to it.
    unsafe { direct::<u8>(start).write_bytes(byte, length as usize) };
    start
}

/// Takes pages for the heap while memory is being shared out; `None` before and afterwards.
pub(crate) fn take_private(pages: usize) -> Option<u64> {
    let mut shares = SHARES.lock();
    if shares.stage != Stage::Ready {
        return None;
    }
    let length = (pages as u64).checked_mul(PAGE_SIZE as u64)?;
    let taken = shares.free.take(length, PAGE_SIZE as u64, u64::MAX)?;
    shares.private.add(taken);
    Some(taken.start)
}

/// Takes pages of the heap back, to which nothing refers any more. False after [`finish`], and nothing is done.
pub(crate) fn give_private(address: u64, pages: usize) -> bool {
    let mut shares = SHARES.lock();
    if shares.stage != Stage::Ready {
        return false;
    }
    let range = Range { start: address, end: address + (pages * PAGE_SIZE) as u64 };
    shares.private.remove(range);
    shares.free.add(range);
    true
}

/// Whether memory is being shared out: there is a heap, and [`finish`] has not run.
pub(crate) fn is_sharing() -> bool {
    SHARES.lock().stage == Stage::Ready
}

/// Takes a zeroed page below 4 GiB for a page table; `None` once the heap serves.
pub(crate) fn take_table() -> Option<u64> {
    let mut shares = SHARES.lock();
    if shares.stage != Stage::Early {
        return None;
    }
    let page = shares.free.take(PAGE_SIZE as u64, PAGE_SIZE as u64, EARLY_LIMIT)?;
    shares.private.add(page);
    // SAFETY: the boot tables and the final ones map it, and it was free a moment ago.
    unsafe { direct::<u8>(page.start).write_bytes(0, PAGE_SIZE) };
    Some(page.start)
}

/// Takes zeroed memory for `count` values for good, physically contiguous. Only between [`init`] and [`finish`]; a shortage
/// is fatal.
fn take_slice<T: FromZeros + Sync>(count: usize) -> &'static [T] {
    let length = (count as u64).saturating_mul(size_of::<T>() as u64);
    let align = align_of::<T>().max(PAGE_SIZE) as u64;
    let start = take_filled(length, align, u64::MAX, 0, core::any::type_name::<T>());
    // SAFETY: private, zeroed (which `T` allows) memory of this size, taken for good.
    unsafe { core::slice::from_raw_parts(direct(start), count) }
}

/// Makes a table for good with a value for each frame up to the last of RAM, all zero. Where it would describe no RAM for long, one
/// page of zeros stands for all, and a store there is fatal. Only between [`init`] and [`finish`]; a shortage is fatal.
pub fn take_frame_table<T: FromZeros + Sync>() -> &'static [T] {
    let count = max_page(&SHARES.lock()) as usize;
    let start = build::frame_table(size_of::<T>() as u64, count as u64);
    // SAFETY: mapped for good from an aligned address on, zero, which `T` allows, and for this alone; what several addresses share is
    // never written.
    unsafe { core::slice::from_raw_parts(core::ptr::with_exposed_provenance(start as usize), count) }
}

/// What [`finish`] gives.
pub struct Finished {
    /// Access to the frames that may be lent to guests.
    pub frames: LendableFrames,
    /// Frames that nobody has yet, as pairs: first, and behind the last; sorted.
    pub free: Vec<(Mfn, Mfn)>,
    /// Frames of usable RAM, whoever has them, in the same form.
    pub ram: Vec<(Mfn, Mfn)>,
}

/// Fixes the hypervisor's share of the memory. From here on, all other RAM above 1 MiB is lendable, except what modules hold.
///
/// # Panics
/// If called twice.
pub fn finish() -> Finished {
    let frames = max_page(&SHARES.lock());
    heap::reserve(frames);
    let lendable = take_slice::<AtomicU64>(frames.div_ceil(64) as usize);
    let mut shares = SHARES.lock();
    assert!(shares.stage == Stage::Ready, "memory is shared out once");
    shares.stage = Stage::Finished;
    let mut lent = shares.ram.clone();
    let kept = shares.private.as_slice().iter().chain(shares.held.as_slice());
    for range in kept.chain(&[Range { start: 0, end: LOW_END }]) {
        lent.remove(*range);
    }
    for range in lent.as_slice() {
        frames::mark(lendable, range.start >> 12, range.end >> 12, true);
    }
    // SAFETY: the lendable frames are RAM, and neither private nor a module's.
    unsafe { frames::publish(lendable) };
    // No lock may be held while the heap is asked.
    let (free, ram) = (shares.free.clone(), shares.ram.clone());
    drop(shares);
    let pairs = |ranges: &Ranges| {
        let pair = |range: &Range| (Mfn::containing(range.start), Mfn::containing(range.end));
        ranges.as_slice().iter().map(pair).collect()
    };
    match LendableFrames::get() {
        Some(frames) => Finished { frames, free: pairs(&free), ram: pairs(&ram) },
        None => unreachable!("published above"),
    }
}

/// Whether the range of physical addresses has a byte of usable RAM.
pub(crate) fn has_ram(start: u64, end: u64) -> bool {
    SHARES.lock().ram.touches(Range { start, end })
}

/// Two private pages below 1 MiB for the code that starts other CPUs: their physical address, a multiple of 4 KiB; `None` if
/// the firmware left none. They are in the direct map, writable.
pub fn trampoline() -> Option<u64> {
    Some(TRAMPOLINE.load(Ordering::Relaxed)).filter(|address| *address != 0)
}
