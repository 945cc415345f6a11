//! Forced emulation: `ud2` and the letters "xen", then CPUID (arch-x86/xen.h, XEN_EMULATE_PREFIX).

use crate::{Privileged, Result, Trap, privileged::answer_cpuid};

const SEQUENCE: [u8; 7] = [0x0f, 0x0b, b'x', b'e', b'n', 0x0f, 0xa2];

/// Carries out a prefixed CPUID.
///
/// # Errors
/// [`Trap::Unhandled`] where the code at hand is something else: the guest gets its #UD.
pub fn forced_cpuid(cpu: &mut impl Privileged) -> Result<()> {
    let mut code = [0; SEQUENCE.len()];
    let rip = cpu.rip();
    if cpu.read_memory(rip, &mut code).is_err() || code != SEQUENCE {
        return Err(Trap::Unhandled);
    }
    answer_cpuid(cpu)?;
    cpu.set_rip(rip.wrapping_add(SEQUENCE.len() as u64));
    Ok(())
}
