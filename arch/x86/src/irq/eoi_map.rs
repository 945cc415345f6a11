//! Pages in which guests see which of their lines need PHYSDEVOP_eoi: one bit per number (physdev.h, pirq_eoi_gmfn).

use crate::machine::X86;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::SeqCst;
use domain::Hypervisor;
use platform::Frames;
use platform::sync::Mutex;
use types::{DomId, Errno, Mfn, Result};

/// The pages; a writable use of each is held. Few domains have physical interrupts, so a list will do.
#[derive(Default)]
pub struct EoiMaps(Mutex<Vec<(DomId, Mfn)>>);

impl EoiMaps {
    /// Takes a domain's page.
    ///
    /// # Errors
    /// `EBUSY`: it has one. `EINVAL`: the frame is not the domain's, or in another use. `ENOMEM`.
    pub fn register(&self, hypervisor: &Hypervisor<X86>, domain: DomId, mfn: Mfn) -> Result<()> {
        let mut pages = self.0.lock();
        if pages.iter().any(|(owner, _)| *owner == domain) {
            return Err(Errno::BUSY);
        }
        pages.try_reserve(1).map_err(|_| Errno::NOMEM)?;
        hypervisor.memory.get_writable(mfn, domain).map_err(|_| Errno::INVAL)?;
        pages.push((domain, mfn));
        Ok(())
    }

    /// Sets or clears a line's bit, if the domain has a page.
    pub fn set(&self, frames: &X86, domain: DomId, pirq: u32, needed: bool) {
        let pages = self.0.lock();
        let page = pages.iter().find(|(owner, _)| *owner == domain).and_then(|(_, mfn)| frames.table(*mfn));
        if let Some(word) = page.and_then(|page| page.get(pirq as usize / 64)) {
            let bit = 1 << (pirq % 64);
            if needed {
                word.fetch_or(bit, SeqCst)
            } else {
                word.fetch_and(!bit, SeqCst)
            };
        }
    }

    /// Gives a domain's page back.
    pub fn release(&self, hypervisor: &Hypervisor<X86>, domain: DomId) {
        let mut pages = self.0.lock();
        pages.retain(|(owner, mfn)| {
            if *owner == domain {
                hypervisor.memory.put_writable(*mfn);
            }
            *owner != domain
        });
    }
}
