//! The board of an HVM guest: its ports, and its devices' registers in memory.

use crate::memory::VIRT_BASE;
use core::arch::asm;

/// The command and mask registers of the two interrupt controllers (8259).
pub const FIRST_PIC: u16 = 0x20;
/// As above.
pub const SECOND_PIC: u16 = 0xa0;
/// Vector of the first of their sixteen lines.
pub const PIC_VECTORS: u8 = 0x30;

/// Reads a byte from a port.
pub fn port(at: u16) -> u8 {
    let value: u8;
    // SAFETY: no device here writes memory when it is read.
    unsafe { asm!("in al, dx", in("dx") at, out("al") value) };
    value
}

/// Writes a byte to a port.
pub fn set_port(at: u16, value: u8) {
    // SAFETY: callers have no device write memory.
    unsafe { asm!("out dx, al", in("dx") at, in("al") value) };
}

/// Reads 32 bits from a port.
pub fn wide_port(at: u16) -> u32 {
    let value: u32;
    // SAFETY: as in `port`.
    unsafe { asm!("in eax, dx", in("dx") at, out("eax") value) };
    value
}

/// Writes 32 bits to a port.
pub fn set_wide_port(at: u16, value: u32) {
    // SAFETY: as in `set_port`.
    unsafe { asm!("out dx, eax", in("dx") at, in("eax") value) };
}

/// Reads a register of a device at a physical address of the fourth GiB.
pub fn device(at: u64) -> u32 {
    // SAFETY: that GiB is mapped, and no memory is there.
    unsafe { ((VIRT_BASE | at) as *const u32).read_volatile() }
}

/// Writes one.
pub fn set_device(at: u64, value: u32) {
    // SAFETY: as above.
    unsafe { ((VIRT_BASE | at) as *mut u32).write_volatile(value) }
}

/// Gives the interrupt controllers vectors beside the exceptions', and masks all lines: the timer's ticks from the start.
pub fn hush() {
    for (at, vector, other) in [(FIRST_PIC, PIC_VECTORS, 4), (SECOND_PIC, PIC_VECTORS + 8, 2)] {
        set_port(at, 0x11);
        set_port(at + 1, vector);
        set_port(at + 1, other);
        set_port(at + 1, 1);
        set_port(at + 1, 0xff);
    }
}
