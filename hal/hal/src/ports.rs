//! I/O ports. Soundness: docs/soundness/ports.md.

use core::arch::asm;

macro_rules! port {
    ($read:ident, $write:ident, $type:ty, $register:tt) => {
        #[doc = concat!("Reads a `", stringify!($type), "` from a port.")]
        #[inline]
        pub fn $read(port: u16) -> $type {
            let value;
            // SAFETY: a port access touches no memory of ours; devices are trusted (docs/soundness/ports.md).
            unsafe {
                asm!(concat!("in ", $register, ", dx"), in("dx") port, out($register) value, options(nomem, nostack, preserves_flags))
            };
            value
        }

        #[doc = concat!("Writes a `", stringify!($type), "` to a port.")]
        #[inline]
        pub fn $write(port: u16, value: $type) {
            // SAFETY: as for reading.
            unsafe {
                asm!(concat!("out dx, ", $register), in("dx") port, in($register) value, options(nomem, nostack, preserves_flags))
            };
        }
    };
}

port!(read8, write8, u8, "al");
port!(read16, write16, u16, "ax");
port!(read32, write32, u32, "eax");
