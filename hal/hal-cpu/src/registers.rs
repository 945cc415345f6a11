//! Control, debug and model-specific registers that change while guests run, and the TLB.

use crate::area::{self, PerCpu};
use core::arch::asm;
use core::cell::Cell;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use hal::{LendableFrames, cpu};
use platform::Frames;
use types::Mfn;
use x86_defs::control::{Cr4, DR6_DEFAULT, DR7_DEFAULT, DR7_GENERAL_DETECT, Dr6};
use x86_defs::{msr, pte::PteFlags};

/// The access would have raised #GP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gp;

/// First address that no guest may use.
pub const HOLE_START: u64 = 0xffff_8000_0000_0000;
/// First address above it: guest kernels live from here on.
pub const HOLE_END: u64 = 0xffff_8800_0000_0000;

/// Slot of the root table by which the hypervisor recognises its own.
pub(crate) const OWN_SLOT: usize = 261;
/// The entry there, which never changes; that of no table before the first CPU's area is made.
pub(crate) static OWN_ENTRY: AtomicU64 = AtomicU64::new(0);

/// Reads a model-specific register; `Gp` where the CPU has none of that number. Reading has no side effect on the
/// hypervisor; a few device-like ones (x2APIC) are hal-irq's business.
pub fn read_msr(number: u32) -> Result<u64, Gp> {
    let (low, high, failed): (u32, u32, u32);
    // SAFETY: a fault is fixed up; reading an MSR touches no memory.
    unsafe {
        asm!(
            "2: rdmsr",
            "xor {failed:e}, {failed:e}",
            "3:",
            ".pushsection .text.hal_cpu_fixup, \"ax\", @progbits",
            "4: mov {failed:e}, 1",
            "xor eax, eax",
            "xor edx, edx",
            "jmp 3b",
            ".popsection",
            crate::expect_fault!(),
            failed = out(reg) failed,
            in("ecx") number,
            out("eax") low,
            out("edx") high,
            options(nostack),
        );
    }
    if failed == 0 { Ok(u64::from(high) << 32 | u64::from(low)) } else { Err(Gp) }
}

/// Writes a model-specific register; `Gp` where the CPU refuses.
///
/// # Safety
/// The effect keeps all memory mapped and all entry points of the hypervisor as they are.
pub unsafe fn write_msr(number: u32, value: u64) -> Result<(), Gp> {
    let failed: u32;
    // SAFETY: a fault is fixed up; the effect is the caller's promise.
    unsafe {
        asm!(
            "2: wrmsr",
            "xor {failed:e}, {failed:e}",
            "3:",
            ".pushsection .text.hal_cpu_fixup, \"ax\", @progbits",
            "4: mov {failed:e}, 1",
            "jmp 3b",
            ".popsection",
            crate::expect_fault!(),
            failed = out(reg) failed,
            in("ecx") number,
            inout("eax") value as u32 => _,
            in("edx") (value >> 32) as u32,
            options(nostack),
        );
    }
    if failed == 0 { Ok(()) } else { Err(Gp) }
}

/// TSC_AUX as this CPU has it.
static TSC_AUX_NOW: PerCpu<Cell<u32>> = crate::per_cpu!(Cell::new(0));

/// Sets TSC_AUX, which RDTSCP and RDPID show to guests, unless it has this value; ignored where it does not exist.
pub fn set_tsc_aux(value: u32) {
    if TSC_AUX_NOW.get().replace(value) != value {
        write_tsc_aux(value);
    }
}

/// Writes TSC_AUX, as [`set_tsc_aux`].
pub(crate) fn write_tsc_aux(value: u32) {
    // SAFETY: the register is only ever shown to guests.
    let _ = unsafe { write_msr(msr::TSC_AUX, value.into()) };
}

/// Loads a guest's root table. Translations that are not global are dropped.
///
/// # Panics
/// If the table has not the hypervisor's slots, or is not in a lendable frame: the hypervisor would lose its own memory.
#[inline]
pub fn load_root(frames: &LendableFrames, root: Mfn) {
    let accessed = PteFlags::ACCESSED.bits();
    let own = OWN_ENTRY.load(Relaxed);
    if frames.table(root).is_none_or(|table| (table[OWN_SLOT].load(Relaxed) ^ own) & !accessed != 0) {
        not_own(root);
    }
    // SAFETY: the table maps the hypervisor's slots, as just checked; the others are guest space, where no Rust object lives.
    unsafe { cpu::write_cr3(root.address()) };
}

#[cold]
fn not_own(root: Mfn) -> ! {
    panic!("root table {root:x} has not the hypervisor's slots")
}

/// Loads the hypervisor's own root table, which maps no guest.
pub fn load_hypervisor_root() {
    hal::paging::load_root();
}

/// The root table that is loaded.
pub fn current_root() -> Mfn {
    Mfn::containing(cpu::read_cr3() & x86_defs::pte::ADDRESS_MASK)
}

/// Drops this CPU's translations that are not global.
#[inline]
pub fn flush_local() {
    // SAFETY: the same table again.
    unsafe { cpu::write_cr3(cpu::read_cr3()) };
}

/// Drops this CPU's translation of one guest address.
#[inline]
pub fn invlpg(address: u64) {
    hal::paging::flush_page(address);
}

/// Bits of CR4 that follow the guest. OSXSAVE is not among them: the hypervisor saves states for guests that do not use it.
pub const GUEST_CR4: Cr4 = Cr4::FSGSBASE.union(Cr4::TSD).union(Cr4::DE);

/// Sets the bits of [`GUEST_CR4`] for the guest that runs next; others are ignored, and so are those that the CPU lacks.
pub fn set_guest_cr4(bits: Cr4) {
    let info = area::info();
    let wanted = info.cr4.get() & !GUEST_CR4.bits() | bits.bits() & GUEST_CR4.bits() & info.cr4_supported.get();
    if wanted != info.cr4.get() {
        // SAFETY: none of the bits changes how memory is mapped or how the hypervisor is entered.
        unsafe { cpu::write_cr4(wanted) };
        info.cr4.set(wanted);
    }
}

/// Bits of CR4 that keep ring 0 to 2 from user pages.
const GUARDS: Cr4 = Cr4::SMEP.union(Cr4::SMAP);

/// Clears SMEP and SMAP for a guest kernel in ring 1.
pub(crate) fn lift_guards() {
    let now = area::info().cr4.get();
    if now & GUARDS.bits() != 0 {
        // SAFETY: the bits only restrict the use of user pages, and the hypervisor uses them by checked copies alone.
        unsafe { cpu::write_cr4(now & !GUARDS.bits()) };
    }
}

/// Sets them again.
pub(crate) fn restore_guards() {
    let before = area::info().cr4.get();
    if before & GUARDS.bits() != 0 {
        // SAFETY: CR4 as it was.
        unsafe { cpu::write_cr4(before) };
    }
}

/// CR4 as it is on this CPU.
pub fn current_cr4() -> Cr4 {
    Cr4::from_bits_retain(area::info().cr4.get())
}

/// Sets or clears CR0.TS: while set, the guest's next FPU instruction raises #NM.
pub fn set_task_switched(set: bool) {
    // SAFETY: the hypervisor has no FPU instructions of its own outside `Xstate`, which clears TS.
    unsafe {
        if set {
            cpu::write_cr0(cpu::read_cr0() | 8);
        } else {
            asm!("clts", options(nomem, nostack, preserves_flags));
        }
    }
}

/// Debug registers of a vCPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DebugRegs {
    /// DR0 to DR3: linear addresses.
    pub address: [u64; 4],
    /// DR6: what happened.
    pub status: u64,
    /// DR7: what is enabled.
    pub control: u64,
}

impl Default for DebugRegs {
    fn default() -> DebugRegs {
        DebugRegs { address: [0; 4], status: DR6_DEFAULT, control: DR7_DEFAULT }
    }
}

/// Bits of DR6 that a guest is shown: breakpoints, access to a debug register, single step, task switch. All but the first four stay
/// until they are cleared.
const DR6_STICKY: u64 = Dr6::BD.union(Dr6::BS).union(Dr6::BT).bits();
const DR6_KNOWN: u64 = Dr6::BREAKPOINTS.bits() | DR6_STICKY;

/// Bits of DR7 that enable breakpoints, and what says that one is on I/O.
const DR7_ENABLED: u64 = 0xff;
const ON_IO: u64 = 2;

/// What a value for DR7 says of one breakpoint: on execution, on writing, on I/O, on any access (SDM vol. 3, 17.2.4).
const fn breakpoint_kind(control: u64, index: usize) -> u64 {
    control >> (16 + 4 * index) & 3
}

impl DebugRegs {
    /// Whether any breakpoint is enabled. While none is, the CPU need not have the registers.
    pub const fn is_armed(&self) -> bool {
        self.control & DR7_ENABLED != 0
    }

    /// Adds what a #DB found in DR6: the processor replaces the bits of the four breakpoints, and leaves others that are set
    /// (SDM vol. 3, 17.2.3).
    pub fn note(&mut self, status: u64) {
        self.status = self.status & DR6_STICKY | status & DR6_KNOWN | DR6_DEFAULT;
    }

    /// Whether a value for DR7 has accesses to debug registers trap.
    pub const fn detects_access(control: u64) -> bool {
        control & DR7_GENERAL_DETECT != 0
    }

    /// Whether a value for DR7 enables any breakpoint, and describes one on I/O ports.
    pub fn breaks_on_io(control: u64) -> bool {
        control & DR7_ENABLED != 0 && (0..4).any(|index| breakpoint_kind(control, index) == ON_IO)
    }

    /// What may be loaded of these: no breakpoint in the hypervisor, at an address that is none, or on I/O ports, which the
    /// hypervisor accesses for its guests; no general detect.
    pub fn sanitised(mut self) -> DebugRegs {
        self.status = self.status & DR6_KNOWN | DR6_DEFAULT;
        self.control = self.control & 0xffff_03ff & !DR7_GENERAL_DETECT | DR7_DEFAULT;
        for (index, address) in self.address.iter_mut().enumerate() {
            let is_bad = !is_guest_address(*address);
            if is_bad {
                *address = 0;
            }
            if is_bad || breakpoint_kind(self.control, index) == ON_IO {
                self.control &= !(3 << (2 * index));
            }
        }
        self
    }
}

/// Whether a guest may have memory there: canonical and outside the hypervisor's hole.
pub const fn is_guest_address(address: u64) -> bool {
    address < 1 << 47 || address >= HOLE_END
}

macro_rules! debug_register {
    ($write:ident, $name:literal) => {
        fn $write(value: u64) {
            // SAFETY: values come from `DebugRegs::sanitised`: no fault now, no breakpoint in the hypervisor later. A watchpoint
            // on guest memory that the hypervisor touches for the guest is ignored by `host_trap`. Or they are addresses that
            // `load_debug_addresses` loads while DR7 enables none, and `load_debug` replaces before it does.
            unsafe { asm!(concat!("mov ", $name, ", {}"), in(reg) value, options(nomem, nostack, preserves_flags)) };
        }
    };
}

debug_register!(write_dr0, "dr0");
debug_register!(write_dr1, "dr1");
debug_register!(write_dr2, "dr2");
debug_register!(write_dr3, "dr3");
debug_register!(write_dr6, "dr6");
debug_register!(write_dr7, "dr7");

fn read_dr6() -> u64 {
    let value;
    // SAFETY: reads a register; DR7.GD is never set.
    unsafe { asm!("mov {}, dr6", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Loads a PV guest's debug registers, [`DebugRegs::sanitised`]. DR6 gets none of them: see [`take_debug_status`].
pub fn load_debug(registers: &DebugRegs) {
    let registers = registers.sanitised();
    write_dr7(DR7_DEFAULT);
    write_dr0(registers.address[0]);
    write_dr1(registers.address[1]);
    write_dr2(registers.address[2]);
    write_dr3(registers.address[3]);
    write_dr6(DR6_DEFAULT);
    write_dr7(registers.control);
}

/// Disarms all breakpoints.
pub fn disarm_debug() {
    write_dr7(DR7_DEFAULT);
}

/// Loads DR0 to DR3 for a guest in AMD-V's guest mode, which has DR6 and DR7 in its control block. No breakpoint is armed outside
/// of it, so any address will do.
pub fn load_debug_addresses(address: &[u64; 4]) {
    write_dr7(DR7_DEFAULT);
    write_dr0(address[0]);
    write_dr1(address[1]);
    write_dr2(address[2]);
    write_dr3(address[3]);
}

/// DR6, which says what has raised the #DB that is being handled. The register is left as after a reset, so that it never says what
/// it said to another guest.
pub fn take_debug_status() -> u64 {
    let status = read_dr6();
    write_dr6(DR6_DEFAULT);
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_registers_lose_what_is_dangerous() {
        let wild = DebugRegs { address: [0x1000, HOLE_START + 8, HOLE_END, 1 << 50], status: !0, control: !0 };
        let tame = wild.sanitised();
        assert_eq!(tame.address, [0x1000, 0, HOLE_END, 0]);
        assert_eq!(tame.control & 0xff, 0b0011_0011);
        assert_eq!(tame.control & DR7_GENERAL_DETECT, 0);
        assert_eq!(tame.control >> 32, 0);
        assert_eq!(tame.status >> 32, 0);
        assert_eq!(DebugRegs::default().sanitised(), DebugRegs::default());
    }

    #[test]
    fn a_debug_exception_replaces_breakpoints_and_adds_the_rest() {
        let mut registers = DebugRegs::default();
        assert!(!registers.is_armed());
        registers.note(1 << 14 | 0b0101);
        registers.note(1 << 15 | 0b0010 | 1 << 32);
        assert_eq!(registers.status, DR6_DEFAULT | 1 << 15 | 1 << 14 | 0b0010);
        registers.control |= 1 << 7;
        assert!(registers.is_armed());
    }

    #[test]
    fn breakpoints_on_ports_are_seen_and_dropped() {
        let second_on_io = 2 << 20;
        assert!(DebugRegs::breaks_on_io(second_on_io | 1), "any that is enabled counts");
        assert!(!DebugRegs::breaks_on_io(second_on_io));
        assert!(!DebugRegs::breaks_on_io(0xd << 20 | 0xff));
        let control = DebugRegs { control: second_on_io | 0xff, ..DebugRegs::default() }.sanitised().control;
        assert_eq!(control & 0xff, 0b1111_0011);
    }

    #[test]
    fn guests_have_both_halves_but_not_the_hole() {
        for good in [0, 0x7fff_ffff_ffff, HOLE_END, !0] {
            assert!(is_guest_address(good), "{good:#x}");
        }
        for bad in [0x8000_0000_0000, HOLE_START, HOLE_END - 1, 0xffff_7fff_ffff_ffff] {
            assert!(!is_guest_address(bad), "{bad:#x}");
        }
    }
}
