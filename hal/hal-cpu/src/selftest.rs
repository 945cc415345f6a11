//! A check of this crate on the machine itself: a few instructions in ring 3, and every kind of way out of them.

use crate::{Exit, GuestContext, GuestRegs, GuestSpace, SegmentState, Xstate, enter, rdtsc};
use core::sync::atomic::Ordering;
use platform::{Frames, GuestMemory, Table};
use types::{Errno, Mfn};
use x86_defs::control::{RFlags, Xcr0};
use x86_defs::descriptor::Descriptor;
use x86_defs::pte::{Pte, PteFlags};

/// Frames that [`selftest`] needs.
pub const SELFTEST_FRAMES: usize = 7;

const CODE: u64 = 0x40_0000;
const DATA: u64 = 0x40_1000;
/// A page further on that is not mapped.
const NOTHING: u64 = 0x40_2000;

/// The program, a snippet every 16 bytes: `syscall` in a loop; `ud2`; a store to address 8; `int3`; `int 0x40`; two `nop`; a load
/// through DS from [`DATA`]; `cpuid`, then `ud2`.
const PROGRAM: [[u8; 8]; 8] = [
    [0x0f, 0x05, 0xeb, 0xfc, 0, 0, 0, 0],
    [0x0f, 0x0b, 0, 0, 0, 0, 0, 0],
    [0x48, 0x89, 0x04, 0x25, 8, 0, 0, 0],
    [0xcc, 0x90, 0, 0, 0, 0, 0, 0],
    [0xcd, 0x40, 0, 0, 0, 0, 0, 0],
    [0x90, 0x90, 0x90, 0x90, 0, 0, 0, 0],
    [0x48, 0x8b, 0x04, 0x25, 0x00, 0x10, 0x40, 0],
    [0x0f, 0xa2, 0x0f, 0x0b, 0, 0, 0, 0],
];

/// Address of snippet `index`.
const fn snippet(index: usize) -> u64 {
    CODE + 16 * index as u64
}

/// Ticks of the time-stamp counter that one entry and exit took, on average of 256.
#[derive(Clone, Copy, Debug)]
pub struct RoundTrips {
    /// In by SYSRET, out by SYSCALL.
    pub syscall: u64,
    /// In by IRETQ, out by an exception.
    pub exception: u64,
}

type Check = Result<(), &'static str>;

fn expect(condition: bool, what: &'static str) -> Check {
    if condition { Ok(()) } else { Err(what) }
}

/// Checks this CPU's way into ring 3 and back, faults and their repair, copies, segments and the FPU; `Err` says what failed.
/// `frames` are lendable and unused, at least seven; their contents are lost. The guest state of the CPU is left reset. Interrupts
/// are on in between: the 8259s must be masked, and nothing may be pending.
pub fn selftest(frames: &[Mfn]) -> Result<RoundTrips, &'static str> {
    let lendable = hal::frames::LendableFrames::get().ok_or("no lendable frames yet")?;
    let Some(&[root, l3, l2, l1, code, data, table]) = frames.first_chunk::<SELFTEST_FRAMES>() else {
        return Err("too few frames");
    };
    for mfn in [root, l3, l2, l1, code, data, table] {
        lendable.zero_frame(mfn).map_err(|_| "a frame is not lendable")?;
    }
    let page = |mfn| lendable.table(mfn).ok_or("a frame is not lendable");
    build(page(root)?, page(l3)?, page(l2)?, page(l1)?, [l3, l2, l1, code, data]);
    for (index, bytes) in PROGRAM.iter().enumerate() {
        page(code)?[2 * index].store(u64::from_le_bytes(*bytes), Ordering::Relaxed);
    }
    page(table)?[1].store(Descriptor::DATA_RING3.0, Ordering::Relaxed);

    crate::load_root(root);
    let result = run(page(data)?, table);
    let _ = crate::set_guest_gdt(&[]);
    let _ = crate::set_guest_ldt(&[], 0);
    let _ = crate::load_segments(&SegmentState::default());
    crate::load_hypervisor_root();
    result
}

/// Fills the page tables: code read-only, data writable.
fn build(root: &Table, l3: &Table, l2: &Table, l1: &Table, frames: [Mfn; 5]) {
    for (slot, value) in hal::paging::hypervisor_slots().into_iter().enumerate() {
        root[hal::layout::FIRST_SLOT + slot].store(value, Ordering::Relaxed);
    }
    let user = PteFlags::PRESENT | PteFlags::USER;
    let table = user | PteFlags::WRITABLE;
    let put =
        |at: &core::sync::atomic::AtomicU64, frame: Mfn, flags| at.store(Pte::new(frame.0, flags).0, Ordering::Relaxed);
    put(&root[0], frames[0], table);
    put(&l3[0], frames[1], table);
    put(&l2[2], frames[2], table);
    put(&l1[0], frames[3], user);
    put(&l1[1], frames[4], table | PteFlags::NO_EXECUTE);
}

fn run(data: &Table, table: Mfn) -> Result<RoundTrips, &'static str> {
    let mut context = GuestContext::new();
    exits(&mut context)?;
    frames_and_flags(&mut context)?;
    copies(data)?;
    segments(&mut context, table)?;
    extended_state()?;
    crate::load_debug(&crate::DebugRegs { address: [DATA, 0, 0, 0], ..crate::DebugRegs::default() });
    expect(crate::save_debug().address[0] == DATA, "debug registers are kept")?;
    crate::load_debug(&crate::DebugRegs::default());
    Ok(measure(&mut context))
}

/// Runs the guest from snippet `index`, all registers being distinct.
fn from(context: &mut GuestContext, index: usize) -> Exit {
    context.regs = GuestRegs {
        r15: 15,
        r14: 14,
        r13: 13,
        r12: 12,
        rbp: 5,
        rbx: 3,
        r11: 11,
        r10: 10,
        r9: 9,
        r8: 8,
        rax: 0xa,
        rcx: 0xc,
        rdx: 0xd,
        rsi: 6,
        rdi: 7,
        rip: snippet(index),
        rsp: DATA + 0x800,
        ..GuestContext::new().regs
    };
    enter(context)
}

/// Whether the registers are those of [`from`], but for rip and the flags.
fn intact(regs: &GuestRegs) -> bool {
    let low = [regs.rax, regs.rcx, regs.rdx, regs.rbx, regs.rbp, regs.rsi, regs.rdi, regs.rsp];
    let high = [regs.r8, regs.r9, regs.r10, regs.r11, regs.r12, regs.r13, regs.r14, regs.r15];
    low == [0xa, 0xc, 0xd, 3, 5, 6, 7, DATA + 0x800]
        && high == [8, 9, 10, 11, 12, 13, 14, 15]
        && (regs.cs & 0xffff, regs.ss & 0xffff) == (0xe033, 0xe02b)
}

fn exits(context: &mut GuestContext) -> Check {
    expect(from(context, 0) == Exit::Syscall, "syscall leaves")?;
    let mut regs = context.regs;
    expect(regs.rip == CODE + 2 && regs.rcx == regs.rip && regs.r11 == regs.rflags, "syscall gives rip and rflags")?;
    (regs.rcx, regs.r11) = (0xc, 11);
    expect(intact(&regs), "syscall keeps the other registers")?;
    context.regs.rax = 0x77;
    expect(enter(context) == Exit::Syscall && context.regs.rax == 0x77, "sysret goes back")?;
    expect(context.regs.rip == CODE + 2 && context.regs.rsp == DATA + 0x800, "sysret goes to the right place")?;

    expect(from(context, 1) == Exit::Exception { vector: 6, error_code: 0 }, "ud2 leaves by #UD")?;
    expect(intact(&context.regs) && context.regs.rip == snippet(1), "#UD keeps registers")?;
    expect(from(context, 2) == Exit::Exception { vector: 14, error_code: 6 }, "a store leaves by #PF")?;
    expect(crate::fault_address() == 8, "a page fault has its address")?;
    expect(from(context, 3) == Exit::Exception { vector: 3, error_code: 0 }, "int3 leaves by #BP")?;
    expect(context.regs.rip == snippet(3) + 1, "#BP is behind int3")?;
    let software = Exit::Exception { vector: 13, error_code: 0x40 << 3 | 2 };
    expect(from(context, 4) == software, "int leaves by #GP that names the vector")?;
    expect(context.regs.rip == snippet(4), "#GP is at the int")?;
    context.regs.rip = snippet(1);
    expect(enter(context) == Exit::Exception { vector: 6, error_code: 0 } && intact(&context.regs), "iret goes back")
}

fn frames_and_flags(context: &mut GuestContext) -> Check {
    from(context, 1);
    let before = context.regs;
    for cs in [0xe008, 0xe010, 0xe02b] {
        context.regs.cs = cs;
        let exit = enter(context);
        let wanted = Exit::BadFrame { vector: 13, error_code: (cs & 0xfff8) as u32 };
        expect(exit == wanted, "iret refuses a bad code segment")?;
        context.regs.cs = before.cs;
        expect(context.regs == before, "a bad frame changes nothing")?;
    }
    context.regs.ss = 0;
    expect(matches!(enter(context), Exit::BadFrame { vector: 13, .. }), "iret refuses a null stack segment")?;

    from(context, 1);
    context.regs.rflags = !(RFlags::TF | RFlags::RF | RFlags::AC | RFlags::NT).bits();
    context.regs.rip = snippet(5);
    context.regs.rflags |= RFlags::TF.bits();
    expect(enter(context) == Exit::Exception { vector: 1, error_code: 0 }, "a single step leaves by #DB")?;
    expect(context.regs.rip == snippet(5) + 1 && intact(&context.regs), "#DB keeps registers")?;
    let flags = RFlags::from_bits_retain(context.regs.rflags);
    let forbidden = RFlags::IOPL | RFlags::VM | RFlags::VIF | RFlags::VIP;
    expect(
        flags.contains(RFlags::IF) && !flags.intersects(forbidden),
        "ring 3 has interrupts on and no I/O privilege",
    )?;

    from(context, 0);
    context.regs.rflags = (RFlags::TF | RFlags::ONE).bits();
    context.regs.rip = snippet(5);
    expect(enter(context) == Exit::Exception { vector: 1, error_code: 0 }, "a system call's return can single-step")?;

    from(context, 1);
    context.regs.rflags |= (RFlags::AC | RFlags::DF).bits();
    enter(context);
    let now = flags_now();
    expect(!now.intersects(RFlags::AC | RFlags::DF | RFlags::IF), "the hypervisor has its own flags")
}

fn flags_now() -> RFlags {
    let flags;
    // SAFETY: reads the flags by way of the stack.
    unsafe { core::arch::asm!("pushfq", "pop {}", out(reg) flags) };
    RFlags::from_bits_retain(flags)
}

fn copies(data: &Table) -> Check {
    let mut buffer = [0u8; 512];
    for length in [1, 7, 8, 24, 100, 300] {
        for (index, byte) in buffer[..length].iter_mut().enumerate() {
            *byte = (index + length) as u8;
        }
        expect(GuestSpace.copy_out(DATA + 3, &buffer[..length]).is_ok(), "copy to the guest")?;
        let mut back = [0u8; 512];
        expect(GuestSpace.copy_in(DATA + 3, &mut back[..length]).is_ok(), "copy from the guest")?;
        expect(back[..length] == buffer[..length], "copies agree")?;
    }
    for length in [1, 9, 64, 300] {
        let fault = Err(Errno::FAULT);
        expect(GuestSpace.copy_in(NOTHING, &mut buffer[..length]) == fault, "unmapped source")?;
        expect(GuestSpace.copy_in(NOTHING - 1, &mut buffer[..length.max(2)]) == fault, "half mapped source")?;
        expect(GuestSpace.copy_out(CODE, &buffer[..length]) == fault, "read-only target")?;
    }
    data[16].store(41, Ordering::Relaxed);
    expect(GuestSpace.read_u64(DATA + 128) == Ok(41), "read a word")?;
    expect(GuestSpace.compare_exchange(DATA + 128, 41, 42) == Ok(41), "exchange a word")?;
    expect(GuestSpace.compare_exchange(DATA + 128, 41, 43) == Ok(42), "refuse to exchange")?;
    expect(GuestSpace.write_u64(DATA + 136, 9).is_ok() && data[17].load(Ordering::Relaxed) == 9, "write a word")?;
    expect(GuestSpace.compare_exchange(CODE, 0, 0) == Err(Errno::FAULT), "exchange in a read-only page")?;
    expect(GuestSpace.probe(DATA, true) && GuestSpace.probe(CODE, false), "probe what is there")?;
    expect(!GuestSpace.probe(CODE, true) && !GuestSpace.probe(NOTHING, false), "probe what is not there")
}

fn segments(context: &mut GuestContext, table: Mfn) -> Check {
    let mut state = SegmentState { ds: 0xe02b, fs_base: 0x1234, gs_base: 0xffff_8880_0000_0000, ..Default::default() };
    state.gs_base_other = 0x5678;
    expect(crate::load_segments(&state).is_ok() && crate::save_segments() == state, "segments are kept")?;
    expect(from(context, 6) != Exit::Nmi && crate::save_segments() == state, "a guest keeps its segments")?;

    let named = |selector| SegmentState { es: selector, ..state };
    expect(crate::load_segments(&named(0x0b)).is_err_and(|fault| fault.es && !fault.ds), "no descriptor")?;
    expect(crate::save_segments() == SegmentState { es: 0, ..state }, "a bad selector becomes null")?;
    expect(crate::set_guest_gdt(&[table]).is_ok(), "a guest's GDT")?;
    expect(crate::load_segments(&named(0x0b)).is_ok(), "a descriptor of the guest's")?;
    expect(crate::load_segments(&named(0x0f)).is_err(), "no LDT")?;
    expect(crate::set_guest_ldt(&[Some(table)], 1024).is_ok(), "a guest's LDT")?;
    expect(crate::load_segments(&named(0x0f)).is_ok(), "a descriptor of the LDT")?;
    expect(crate::load_segments(&named(0x100f)).is_err(), "a missing page of the LDT")?;
    expect(crate::guest_ldt_offset(crate::fault_address()) == Some(0x1008), "where the LDT is missing")?;
    expect(crate::load_gs_selector_other(0x0b).is_ok() && crate::read_gs_base() == state.gs_base, "GS behind SWAPGS")?;
    expect(crate::read_gs_base_other() == 0, "a selector brings its base")?;
    expect(crate::set_guest_gdt(&[]).is_ok() && crate::load_segments(&named(0x0b)).is_err(), "the GDT is gone")?;
    expect(crate::set_guest_gdt(&[hal::paging::root_mfn()]) == Err(Errno::PERM), "a frame of the hypervisor's")?;

    let cr4 = crate::current_cr4();
    crate::set_guest_cr4(x86_defs::control::Cr4::empty());
    let without = crate::read_gs_base() == state.gs_base;
    crate::set_guest_cr4(cr4);
    expect(without && crate::current_cr4() == cr4, "bases without FSGSBASE")
}

fn extended_state() -> Check {
    let mut state = Xstate::new().ok_or("no memory")?;
    expect(state.restore().is_ok(), "a fresh state loads")?;
    state.save();
    expect(state.bytes()[24] == 0x80, "MXCSR is saved")?;
    if !crate::has_xsave() {
        return Ok(());
    }
    expect(crate::set_xcr0(Xcr0::AVX) == Err(crate::Gp), "XCR0 without x87")?;
    expect(crate::set_xcr0(Xcr0::X87).is_ok() && crate::set_xcr0(crate::host_xcr0()).is_ok(), "XCR0 changes")?;
    state.bytes_mut()[512 + 7] = 0x40;
    expect(state.restore().is_err(), "a bad state does not load")
}

fn measure(context: &mut GuestContext) -> RoundTrips {
    const ROUNDS: u64 = 256;
    let mut times = [0; 2];
    for (time, start) in times.iter_mut().zip([0, 1]) {
        from(context, start);
        let before = rdtsc();
        for _ in 0..ROUNDS {
            enter(context);
        }
        *time = (rdtsc() - before) / ROUNDS;
    }
    RoundTrips { syscall: times[0], exception: times[1] }
}
