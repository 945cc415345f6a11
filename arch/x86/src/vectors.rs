//! Vector registers of a vCPU: x87, SSE, and what XSAVE knows beyond.

use hal_cpu::{BadImage, Xstate};
use types::{Errno, Result};
use x86_defs::control::Xcr0;

/// Bytes of an image that FXSAVE knows.
const LEGACY: usize = 512;

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
