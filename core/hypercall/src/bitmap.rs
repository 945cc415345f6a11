//! Bitmaps in the toolstack's memory (`struct xenctl_bitmap`).

use crate::Caller;
use domain::Arch;
use types::{CpuMask, Result};
use xen_abi::xen::Bitmap;

/// Bytes of a set of CPUs.
const BYTES: usize = CpuMask::CPUS / 8;
/// Bytes of the largest bitmap that is cleared to its end.
const MAX_BYTES: usize = 8192;

/// Reads a set of CPUs, or of whatever is numbered from 0. Bits that nothing has are left out.
///
/// # Errors
/// `EFAULT`.
pub fn read<A: Arch>(caller: &Caller<'_, A>, bitmap: &Bitmap) -> Result<CpuMask> {
    let mut bytes = [0; BYTES];
    let count = (bitmap.nr_bits.div_ceil(8) as usize).min(BYTES);
    caller.machine().copy_in(bitmap.bitmap.address(), &mut bytes[..count])?;
    if bitmap.nr_bits % 8 != 0 && count == bitmap.nr_bits.div_ceil(8) as usize {
        bytes[count - 1] &= (1 << (bitmap.nr_bits % 8)) - 1;
    }
    Ok(CpuMask::from_bytes(&bytes))
}

/// Writes one; what the toolstack's bitmap has beyond it is cleared.
///
/// # Errors
/// `EFAULT`.
pub fn write<A: Arch>(caller: &Caller<'_, A>, bitmap: &Bitmap, mask: &CpuMask) -> Result<()> {
    let mut bytes = mask.to_bytes();
    let length = (bitmap.nr_bits.div_ceil(8) as usize).min(MAX_BYTES);
    let count = length.min(BYTES);
    if bitmap.nr_bits % 8 != 0 && count == bitmap.nr_bits.div_ceil(8) as usize {
        bytes[count - 1] &= (1 << (bitmap.nr_bits % 8)) - 1;
    }
    let address = bitmap.bitmap.address();
    caller.machine().copy_out(address, &bytes[..count])?;
    let mut at = count;
    while at < length {
        let part = BYTES.min(length - at);
        caller.machine().copy_out(address.wrapping_add(at as u64), &[0; BYTES][..part])?;
        at += part;
    }
    Ok(())
}
