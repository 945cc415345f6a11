//! Setting up a CPU: its area, descriptor tables, entry points, control registers.

use crate::area::{
    self, AREA_SIZE, CpuInfo, GDT, INFO, IST_STACK_PAGES, IST_STACKS, MAIN_STACK, MAIN_STACK_PAGES, MAX_CPUS, PAGE,
    stack_top,
};
use crate::registers::{GUEST_CR4, OWN_ENTRY, OWN_SLOT, write_msr, write_tsc_aux};
use crate::tables::Window;
use crate::{guest, tables, traps, xstate};
use alloc::alloc::{Layout, alloc_zeroed};
use core::arch::asm;
use core::cell::Cell;
use core::mem::offset_of;
use core::sync::atomic::Ordering;
use hal::{cpu, paging};
use types::{CpuId, Errno, Result};
use x86_defs::control::{Cr4, Efer, RFlags};
use x86_defs::descriptor::{Tss, selector};
use x86_defs::msr;
use x86_defs::pte::PteFlags;

/// STAR: SYSRET's selectors above, SYSCALL's below.
pub(crate) const STAR_VALUE: u64 = (selector::FLAT_RING3_CS32 as u64) << 48 | (selector::HYPERVISOR_CS64 as u64) << 32;
/// Flags that SYSCALL clears.
const FMASK_VALUE: u64 = RFlags::TF.bits()
    | RFlags::IF.bits()
    | RFlags::DF.bits()
    | RFlags::IOPL.bits()
    | RFlags::NT.bits()
    | RFlags::RF.bits()
    | RFlags::AC.bits();

unsafe extern "C" {
    static hal_cpu_page: [u8; 4096];
    static hal_cpu_syscall32: u8;
    static hal_cpu_sysenter: u8;
}

/// Takes zeroed pages of the heap for good.
fn take_pages(count: u64) -> Result<*mut u8> {
    let bytes = (count * PAGE) as usize;
    let layout = Layout::from_size_align(bytes, PAGE as usize).map_err(|_| Errno::INVAL)?;
    // SAFETY: no caller asks for 0 pages.
    let memory = unsafe { alloc_zeroed(layout) };
    if memory.is_null() { Err(Errno::NOMEM) } else { Ok(memory) }
}

/// Maps memory of the hypervisor into an area.
///
/// # Safety
/// `memory` was taken for good, `count` pages of it, or is a constant; nobody uses it by its old address any more.
unsafe fn map(address: u64, memory: *const u8, count: u64, flags: PteFlags) -> Result<()> {
    let physical = paging::physical_of(memory).ok_or(Errno::FAULT)?;
    // SAFETY: the caller's promise.
    unsafe { paging::map_private(address, physical, count * PAGE, flags) }
}

/// Makes the area of `cpu`, on any CPU, before `cpu` runs. `EINVAL` for a number beyond [`MAX_CPUS`], `EEXIST` if it has one,
/// `ENOMEM`.
pub fn prepare(cpu: CpuId) -> Result<()> {
    if cpu.index() >= MAX_CPUS {
        return Err(Errno::INVAL);
    }
    let base = area::area(cpu.index());
    // SAFETY: the stubs are code, never written.
    unsafe { map(base, (&raw const hal_cpu_page).cast(), 1, paging::CODE) }?;
    for (first, pages) in
        IST_STACKS.map(|first| (first, IST_STACK_PAGES)).into_iter().chain([(MAIN_STACK, MAIN_STACK_PAGES)])
    {
        // SAFETY: fresh pages.
        unsafe { map(base + first * PAGE, take_pages(pages)?, pages, paging::DATA) }?;
    }
    let tss = base + INFO + offset_of!(CpuInfo, tss) as u64;
    let own = take_pages(1)?;
    // SAFETY: a fresh page, aligned; it is not used by this address afterwards.
    unsafe {
        own.cast::<[u64; 512]>().write(tables::own_page(cpu, tss));
        map(base + GDT + selector::GUEST_PAGES as u64 * PAGE, own, 1, paging::DATA)?;
    }
    let empty = tables::empty_entry()?;
    let entries = |page: u64| {
        // SAFETY: this crate owns the addresses of the windows and stores only lendable frames and the empty page there, none of
        // which backs a Rust object.
        unsafe { paging::window_entry(base + GDT + page * PAGE) }
    };
    for page in 0..selector::GUEST_PAGES as u64 {
        entries(page)?.store(empty, Ordering::Release);
    }
    let own_entry = paging::hypervisor_slots()[OWN_SLOT - hal::layout::FIRST_SLOT];
    OWN_ENTRY.store(own_entry, Ordering::Relaxed);
    let info = take_pages(1)?;
    let value = CpuInfo {
        scratch: Cell::new(0),
        cpu: Cell::new(cpu.0),
        tss: Cell::new(tss_of(base)),
        ldt_entries: Cell::new(0),
        narrow: Cell::new(false),
        gdt: Window::empty(),
        ldt: Window::empty(),
        window: Cell::new(entries(0)?),
        empty_entry: Cell::new(empty),
        cr4: Cell::new(0),
        cr4_supported: Cell::new(0),
        xcr0: Cell::new(0),
        xcr0_supported: Cell::new(0),
    };
    // SAFETY: a fresh page, aligned; it is not used by this address afterwards.
    unsafe {
        info.cast::<CpuInfo>().write(value);
        map(base + INFO, info, 1, paging::DATA)
    }
}

/// The TSS of the area at `base`.
fn tss_of(base: u64) -> Tss {
    let mut tss = Tss::EMPTY;
    let mut ist = [0; 7];
    for (index, first) in IST_STACKS.into_iter().enumerate() {
        ist[index] = base + (first + IST_STACK_PAGES) * PAGE;
    }
    tss.ist = ist;
    tss.rsp = [base + (MAIN_STACK + MAIN_STACK_PAGES) * PAGE, 0, 0];
    tss
}

/// Sets up the boot CPU as CPU 0, leaves the boot stack for its main stack, and goes on in `main`. Called once, after hal's
/// start-up, with the heap usable and interrupts off.
///
/// # Panics
/// If memory runs out.
pub fn start_bsp<T>(argument: T, main: fn(T) -> !) -> ! {
    traps::fill_idt();
    hal::panic::set_cpu_number(|| area::try_cpu_id().map_or(0, |cpu| cpu.0));
    if let Err(error) = prepare(CpuId(0)) {
        panic!("no memory for CPU 0: {error}");
    }
    // SAFETY: the area was just prepared, and this is the boot CPU.
    unsafe { start(CpuId(0), argument, main) }
}

/// Sets up this CPU, another than the boot CPU, as `cpu`, and goes on in `main` on its main stack. The trampoline calls it in
/// 64-bit mode on any mapped stack (which may be `stack_top(cpu)`) under the hypervisor's root table, interrupts off.
///
/// # Safety
/// [`prepare`] has made the area of `cpu`, and no other CPU is or becomes `cpu`.
pub unsafe fn start_ap<T>(cpu: CpuId, argument: T, main: fn(T) -> !) -> ! {
    cpu::set_controls();
    // SAFETY: the caller's promise.
    unsafe { start(cpu, argument, main) }
}

/// What the code on the new stack gets, by its address on the old one.
struct Start<T> {
    cpu: CpuId,
    argument: T,
    main: fn(T) -> !,
}

/// # Safety
/// The area is prepared, and this CPU's alone.
unsafe fn start<T>(cpu: CpuId, argument: T, main: fn(T) -> !) -> ! {
    let start = Start { cpu, argument, main };
    // The old stack may lie at the top of the new one: what is still needed goes below it.
    let old: u64;
    // SAFETY: copies a register.
    unsafe { asm!("mov {}, rsp", out(reg) old, options(nomem, nostack)) };
    let inside = old.wrapping_sub(area::area(cpu.index())) < AREA_SIZE;
    let top = if inside { old & !15 } else { stack_top(cpu) };
    // SAFETY: the new stack is mapped and unused from `top` down; the old one stays as it is, hence `start` too.
    unsafe {
        asm!(
            "mov rsp, {top}",
            "xor ebp, ebp",
            "call {continue_at}",
            "ud2",
            top = in(reg) top,
            continue_at = sym arrive::<T>,
            in("rdi") &raw const start,
            options(noreturn),
        )
    }
}

extern "sysv64" fn arrive<T>(start: *const Start<T>) -> ! {
    // SAFETY: `start` passes a value that it gives up by never returning.
    let Start { cpu, argument, main } = unsafe { start.read() };
    // SAFETY: as `start` promises.
    unsafe { set_up(cpu) };
    main(argument)
}

/// # Safety
/// This code runs on the main stack of `cpu`, which is this CPU and has not been set up.
unsafe fn set_up(cpu: CpuId) {
    let base = area::area(cpu.index());
    // SAFETY: the area is this CPU's.
    unsafe { tables::load(base) };
    traps::load_idt();
    // SAFETY: 64-bit CPUs have these registers; the entry points are the stubs in this CPU's area, and the selectors are in its
    // GDT. CR4 gets bits that enable instructions.
    unsafe {
        let page = (&raw const hal_cpu_page).addr();
        let entry = |symbol: usize| base + (symbol - page) as u64;
        cpu::write_msr(msr::STAR, STAR_VALUE);
        cpu::write_msr(msr::LSTAR, base);
        cpu::write_msr(msr::CSTAR, entry((&raw const hal_cpu_syscall32).addr()));
        cpu::write_msr(msr::FMASK, FMASK_VALUE);
        cpu::write_msr(msr::SYSENTER_CS, selector::HYPERVISOR_CS64.into());
        cpu::write_msr(msr::SYSENTER_ESP, stack_top(cpu));
        cpu::write_msr(msr::SYSENTER_EIP, entry((&raw const hal_cpu_sysenter).addr()));
        cpu::write_msr(msr::EFER, cpu::read_msr(msr::EFER) | Efer::SCE.bits());
        // Firmware may have left branch tracing on.
        let _ = write_msr(msr::DEBUGCTL, 0);
        let xsave = if xstate::has_xsave() { Cr4::OSXSAVE } else { Cr4::empty() };
        let wanted = Cr4::OSFXSR | Cr4::OSXMMEXCPT | Cr4::MCE | xsave;
        cpu::write_cr4(cpu::read_cr4() | wanted.bits());
    }
    write_tsc_aux(0);
    let info = area::info();
    let cr4 = cpu::read_cr4();
    let always = Cr4::TSD | Cr4::DE;
    info.cr4.set(cr4);
    info.cr4_supported.set((cr4 | always.bits()) & GUEST_CR4.bits());
    guest::SMAP.store(cr4 & Cr4::SMAP.bits() != 0, Ordering::Relaxed);
    let xcr0 = xstate::host_xcr0();
    info.xcr0_supported.set(xcr0.bits());
    if !xcr0.is_empty() {
        // The states are the CPU's own, so it does not refuse them.
        let _ = xstate::set_xcr0(xcr0);
    }
    crate::registers::load_debug(&crate::registers::DebugRegs::default());
}
