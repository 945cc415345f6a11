//! The interrupt descriptor table, and exceptions and interrupts that arrive while the hypervisor itself runs.

use crate::area::PerCpu;
use crate::context::GuestRegs;
use core::arch::asm;
use core::cell::Cell;
use core::sync::atomic::{AtomicU64, Ordering};
use spin::Once;
use x86_defs::control::{RFlags, Vector};
use x86_defs::descriptor::{TablePointer, interrupt_gate, selector};

/// Registers at an exception in the hypervisor, with [`fault_address`] at the time.
pub type TrapFrame = GuestRegs;

static IDT: IdtTable = IdtTable([const { AtomicU64::new(0) }; 512]);

#[repr(align(4096))]
struct IdtTable([AtomicU64; 512]);

static INTERRUPT_HOOK: Once<fn(u8)> = Once::new();
static NMI_HOOK: Once<fn()> = Once::new();

/// Where the next interrupt goes that arrives in the hypervisor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Catch {
    /// To the hook.
    Off,
    /// To [`take_interrupt`], which waits for it.
    Waiting,
    /// It was this one.
    Caught(u8),
}

static CATCH: PerCpu<Cell<Catch>> = crate::per_cpu!(Cell::new(Catch::Off));

unsafe extern "C" {
    static hal_cpu_stubs: [u8; 16 * 256];
    #[cfg_attr(not(target_os = "none"), link_name = "__start_hal_ex_table")]
    static __ex_table_start: [i32; 2];
    #[cfg_attr(not(target_os = "none"), link_name = "__stop_hal_ex_table")]
    static __ex_table_end: [i32; 2];
}

/// Sets what handles interrupts that arrive in [`idle_wait`] and [`interrupt_window`]; it gets the vector, on the main stack with
/// interrupts off, and must acknowledge. The first call counts.
pub fn set_interrupt_hook(hook: fn(u8)) {
    INTERRUPT_HOOK.call_once(|| hook);
}

/// Sets what handles NMIs that cut into the hypervisor; it runs on a stack of its own of 8 KiB, must not fault, and has no
/// per-CPU data. Without a hook they are ignored. The first call counts.
pub fn set_nmi_hook(hook: fn()) {
    NMI_HOOK.call_once(|| hook);
}

/// The software interrupt by which a 32-bit guest's kernel, in ring 1, makes a hypercall (`TRAP_INSTR`, arch-x86/xen-x86_32.h).
pub const HYPERCALL_VECTOR: u8 = 0x82;

/// Stack number of a vector, and lowest ring that may raise it by an instruction.
const fn gate_of(vector: u8) -> (u8, u8) {
    match vector {
        Vector::NMI => (1, 0),
        Vector::MACHINE_CHECK => (2, 0),
        Vector::DOUBLE_FAULT => (3, 0),
        // A pending #DB can strike at SYSCALL's entry point, on the guest's stack.
        Vector::DEBUG => (4, 0),
        Vector::BREAKPOINT | Vector::OVERFLOW => (0, 3),
        HYPERCALL_VECTOR => (0, 1),
        _ => (0, 0),
    }
}

/// Writes the table that all CPUs share.
pub(crate) fn fill_idt() {
    let stubs = (&raw const hal_cpu_stubs).addr() as u64;
    for vector in 0..=255u8 {
        let (ist, dpl) = gate_of(vector);
        let gate = interrupt_gate(stubs + 16 * u64::from(vector), selector::HYPERVISOR_CS64, ist, dpl);
        for (half, word) in gate.into_iter().enumerate() {
            IDT.0[2 * usize::from(vector) + half].store(word, Ordering::Relaxed);
        }
    }
}

/// Loads the table on this CPU.
pub(crate) fn load_idt() {
    let pointer = TablePointer { limit: 4095, base: (&raw const IDT).addr() as u64 };
    // SAFETY: all gates of the table are valid (`fill_idt`), and the selectors and stacks they name are those of the GDT and TSS
    // that are loaded before.
    unsafe { asm!("lidt [{}]", in(reg) &pointer, options(nostack, preserves_flags)) };
}

/// The address of the last page fault (CR2).
#[inline]
pub fn fault_address() -> u64 {
    let address;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, cr2", out(reg) address, options(nomem, nostack, preserves_flags)) };
    address
}

fn write_cr2(address: u64) {
    // SAFETY: CR2 has no effect of its own.
    unsafe { asm!("mov cr2, {}", in(reg) address, options(nomem, nostack, preserves_flags)) };
}

/// Where execution goes on after a fault at `rip`, if that instruction was expected to fault. The table holds pairs of offsets,
/// each relative to its own place.
fn fixup(rip: u64) -> Option<u64> {
    let mut entry = &raw const __ex_table_start;
    let end = &raw const __ex_table_end;
    while entry < end {
        // SAFETY: the linker puts the table's start and end at these symbols; entries are two i32 each, never written.
        let [fault, target] = unsafe { *entry };
        let place = entry.addr() as u64;
        if place.wrapping_add_signed(fault.into()) == rip {
            return Some((place + 4).wrapping_add_signed(target.into()));
        }
        entry = entry.wrapping_add(1);
    }
    None
}

/// Called by the entry code for each trap that came out of ring 0. The registers in the frame are restored afterwards.
pub(crate) extern "sysv64" fn host_trap(frame: &mut TrapFrame) {
    let vector = frame.vector as u8;
    match vector {
        32.. if CATCH.get().get() == Catch::Waiting => {
            CATCH.get().set(Catch::Caught(vector));
            // No other one in the same window.
            frame.rflags &= !RFlags::IF.bits();
        }
        32.. => {
            if let Some(hook) = INTERRUPT_HOOK.get() {
                hook(vector);
            }
        }
        Vector::NMI => {
            let address = fault_address();
            if let Some(hook) = NMI_HOOK.get() {
                hook();
            }
            if fault_address() != address {
                write_cr2(address);
            }
        }
        // A guest single-stepping into SYSENTER, or a watchpoint of its own that an access on its behalf hit. Either is over once
        // the entry code has run.
        Vector::DEBUG => {
            frame.rflags &= !RFlags::TF.bits();
            frame.rflags |= RFlags::RF.bits();
        }
        Vector::DOUBLE_FAULT | Vector::MACHINE_CHECK => fatal_trap(frame),
        _ => match fixup(frame.rip) {
            Some(target) => {
                frame.rip = target;
                frame.rax = u64::from(frame.error_code) << 32 | u64::from(vector);
            }
            None => fatal_trap(frame),
        },
    }
}

/// Reports an exception that nothing mends, taken in the hypervisor or in a guest, and stops the machine or starts it anew.
#[cold]
pub fn fatal_trap(frame: &TrapFrame) -> ! {
    hal::panic::unexpected_exception(frame.vector.into(), frame.error_code.into(), &registers(frame))
}

fn registers(frame: &TrapFrame) -> hal::panic::Registers {
    let f = *frame;
    hal::panic::Registers {
        rip: f.rip,
        cs: f.cs & 0xffff,
        rflags: f.rflags,
        rsp: f.rsp,
        ss: f.ss & 0xffff,
        rax: f.rax,
        rbx: f.rbx,
        rcx: f.rcx,
        rdx: f.rdx,
        rsi: f.rsi,
        rdi: f.rdi,
        rbp: f.rbp,
        r8: f.r8,
        r9: f.r9,
        r10: f.r10,
        r11: f.r11,
        r12: f.r12,
        r13: f.r13,
        r14: f.r14,
        r15: f.r15,
    }
}

/// Sleeps until an interrupt has arrived and was handled by the hook. One that is pending already wakes at once: the instruction
/// after STI still runs with interrupts held back (SDM vol. 2, STI), so none is lost before HLT.
pub fn idle_wait() {
    // SAFETY: an interrupt runs `host_trap` on this stack, below all that is in use, and restores all registers. The red zone
    // does not exist on this target.
    unsafe { asm!("sti", "hlt", "cli") };
}

/// Takes the interrupts that are pending, through the hook, and no more.
pub fn interrupt_window() {
    // SAFETY: as in `idle_wait`.
    unsafe { asm!("sti", "nop", "cli") };
}

/// Takes one of the interrupts that are pending, if there is any: what the guest left for. It is not acknowledged, and the hook
/// does not hear of it.
pub(crate) fn take_interrupt() -> Option<u8> {
    let catch = CATCH.get();
    catch.set(Catch::Waiting);
    interrupt_window();
    match catch.replace(Catch::Off) {
        Catch::Caught(vector) => Some(vector),
        Catch::Off | Catch::Waiting => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_software_traps_are_open_to_guests() {
        let open: Vec<u8> = (0..=255).filter(|vector| gate_of(*vector).1 == 3).collect();
        assert_eq!(open, [3, 4]);
        let kernel: Vec<u8> = (0..=255).filter(|vector| gate_of(*vector).1 == 1).collect();
        assert_eq!(kernel, [HYPERCALL_VECTOR]);
    }

    #[test]
    fn expected_faults_are_found() {
        let first = &raw const __ex_table_start;
        // SAFETY: the table is not empty: the entry code has an element in it.
        let [fault, _] = unsafe { *first };
        let rip = (first.addr() as u64).wrapping_add_signed(fault.into());
        assert!(fixup(rip).is_some());
        assert_eq!(fixup(rip + 1), None);
    }
}
