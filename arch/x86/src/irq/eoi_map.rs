//! Pages in which guests see which of their lines need PHYSDEVOP_eoi: one bit per number (physdev.h, pirq_eoi_gmfn).

use crate::machine::X86;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::SeqCst;
use domain::Hypervisor;
use platform::Frames;
use platform::sync::Mutex;
use types::{DomId, Errno, Mfn, Result};

/// A domain's page; a writable use of it is held.
struct EoiMap {
    domain: DomId,
    page: Mfn,
    /// PHYSDEVOP_eoi unmasks the line's port too.
    unmasks: bool,
}

/// The pages. Few domains have physical interrupts, so a list will do.
#[derive(Default)]
pub struct EoiMaps(Mutex<Vec<EoiMap>>);

impl EoiMaps {
    /// Takes a domain's page.
    ///
    /// # Errors
    /// `EBUSY`: it has one. `EINVAL`: the frame is not the domain's, or in another use. `ENOMEM`.
    pub fn register(&self, hypervisor: &Hypervisor<X86>, domain: DomId, page: Mfn, unmasks: bool) -> Result<()> {
        hypervisor.memory.get_writable(page, domain).map_err(|_| Errno::INVAL)?;
        let added = self.add(EoiMap { domain, page, unmasks });
        added.inspect_err(|_| hypervisor.memory.put_writable(page))
    }

    fn add(&self, map: EoiMap) -> Result<()> {
        let mut maps = self.0.lock();
        if maps.iter().any(|other| other.domain == map.domain) {
            return Err(Errno::BUSY);
        }
        maps.try_reserve(1).map_err(|_| Errno::NOMEM)?;
        maps.push(map);
        Ok(())
    }

    /// Whether a domain has a page, and wants PHYSDEVOP_eoi to unmask ports.
    pub fn unmasks(&self, domain: DomId) -> bool {
        self.0.lock().iter().any(|map| map.domain == domain && map.unmasks)
    }

    /// Sets or clears a line's bit, if the domain has a page.
    pub fn set(&self, frames: &X86, domain: DomId, pirq: u32, needed: bool) {
        let maps = self.0.lock();
        let page = maps.iter().find(|map| map.domain == domain).and_then(|map| frames.table(map.page));
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
        self.0.lock().retain(|map| {
            if map.domain == domain {
                hypervisor.memory.put_writable(map.page);
            }
            map.domain != domain
        });
    }
}
