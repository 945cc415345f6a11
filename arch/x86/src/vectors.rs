//! Vector registers of a vCPU: x87, SSE, and what XSAVE knows beyond.

use hal_cpu::{BadImage, Xstate};
use types::{Errno, Result};
use x86_defs::control::Xcr0;

/// Bytes of an image that FXSAVE knows.
const LEGACY: usize = 512;
/// Bytes of an image up to the end of its header.
const MIN_IMAGE: usize = 576;
/// Place in an image of XSTATE_BV and XCOMP_BV (SDM vol. 1, 13.4.2).
const USED: usize = 512;
const COMPACT: usize = 520;

/// Vector registers of a vCPU.
pub struct Vectors {
    /// The registers, as last saved.
    pub image: Xstate,
    /// XCR0 as the guest sees it; bit 0 is always set.
    pub xcr0: u64,
}

impl Vectors {
    /// Registers after reset.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new() -> Result<Vectors> {
        Ok(Vectors { image: Xstate::new().ok_or(Errno::NOMEM)?, xcr0: 1 })
    }

    /// Loads the registers. All states that the CPU has are loaded, those too that the guest has not turned on, so that
    /// nothing of another guest stays behind.
    ///
    /// # Errors
    /// Where the image is none that the CPU takes.
    pub fn load(&self) -> core::result::Result<(), BadImage> {
        let all = hal_cpu::set_xcr0(hal_cpu::host_xcr0()).map_err(|_| BadImage);
        let restored = all.and_then(|()| self.image.restore());
        let own = hal_cpu::set_xcr0(Xcr0::from_bits_retain(self.xcr0)).map_err(|_| BadImage);
        restored.and(own)
    }

    /// Saves the registers, all states of them.
    pub fn save(&mut self) {
        if hal_cpu::set_xcr0(hal_cpu::host_xcr0()).is_ok() {
            self.image.save();
        }
    }

    /// Resets the registers; then sets those that FXSAVE knows, if they are given.
    pub fn replace(&mut self, legacy: Option<&[u8; LEGACY]>) {
        self.image.reset();
        let Some(legacy) = legacy else { return };
        self.image.bytes_mut()[..LEGACY].copy_from_slice(legacy);
        self.mark_legacy();
    }

    /// Replaces all registers by an image that XSAVE made, with XCR0 `own`; `used` are the states that were ever on.
    ///
    /// # Errors
    /// `EINVAL` for an image that the CPU cannot load.
    pub fn take_image(&mut self, own: u64, used: u64, image: &[u8]) -> Result<()> {
        if !is_valid(own, used, hal_cpu::host_xcr0(), image) {
            return Err(Errno::INVAL);
        }
        self.xcr0 = own;
        self.image.reset();
        let to = self.image.bytes_mut();
        let count = image.len().min(to.len());
        to[..count].copy_from_slice(&image[..count]);
        Ok(())
    }

    /// Notes that registers were set that FXSAVE knows.
    pub fn mark_legacy(&mut self) {
        // XSTATE_BV in the header: x87 and SSE state are in use (SDM vol. 1, 13.4.2).
        if let Some(used) = self.image.bytes_mut().get_mut(LEGACY) {
            *used |= 3;
        }
    }

    /// Sets XCR0 of the vCPU that runs here, which may have states of `allowed`; false if it cannot be `value`.
    pub fn set_xcr0(&mut self, allowed: Xcr0, value: u64) -> bool {
        let new = Xcr0::from_bits_retain(value);
        let fits = (allowed & hal_cpu::host_xcr0()).contains(new) && is_consistent(new);
        let set = fits && hal_cpu::set_xcr0(new).is_ok();
        if set {
            self.xcr0 = value;
        }
        set
    }

    /// The registers that FXSAVE knows.
    pub fn legacy(&self) -> &[u8] {
        &self.image.bytes()[..LEGACY]
    }
}

/// States that XCR0 must not have without others (SDM vol. 1, 13.3).
fn is_consistent(states: Xcr0) -> bool {
    let wide = Xcr0::OPMASK | Xcr0::ZMM_HI256 | Xcr0::HI16_ZMM;
    states.contains(Xcr0::X87)
        && (!states.contains(Xcr0::AVX) || states.contains(Xcr0::SSE))
        && (!states.intersects(wide) || states.contains(wide | Xcr0::AVX))
}

/// Whether the image fits the CPU: no state that it has not, in standard form, x87 always on.
fn is_valid(own: u64, used: u64, known: Xcr0, image: &[u8]) -> bool {
    let known = known.bits();
    let word = |at: usize| image.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes);
    if (own | used) & !known != 0 || own & 1 == 0 || own & !used != 0 {
        return false;
    }
    image.len() >= MIN_IMAGE && word(USED).is_some_and(|states| states & !used == 0) && word(COMPACT) == Some(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_must_fit_the_cpu() {
        let known = Xcr0::from_bits_retain(7);
        let mut image = [0; 832];
        image[USED] = 3;
        assert!(is_valid(7, 7, known, &image));
        assert!(!is_valid(15, 15, known, &image), "a state that the CPU has not");
        assert!(!is_valid(6, 7, known, &image), "x87 is off");
        assert!(!is_valid(7, 3, known, &image), "on but never used");
        assert!(!is_valid(7, 7, known, &image[..512]), "no header");
        image[USED] = 8;
        assert!(!is_valid(7, 7, known, &image), "uses a state that is not there");
        image[USED] = 3;
        image[COMPACT + 7] = 0x80;
        assert!(!is_valid(7, 7, known, &image), "compacted");
    }
}
