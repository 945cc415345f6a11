//! Xen's save records (hvm/save.h) of all the devices.

use crate::Chipset;
use types::{Errno, Result};
use virq::Bus;
use xen_abi::hvm_save::clocks::*;
use xen_abi::hvm_save::interrupts::*;
use zerocopy::{FromBytes, Immutable, IntoBytes};

impl Chipset {
    /// Gives each record to `put`, by type, instance and bytes, in an order in which they can be loaded.
    ///
    /// # Errors
    /// Those of `put`.
    pub fn save(&mut self, steady: u64, mut put: impl FnMut(u16, u16, &[u8]) -> Result<()>) -> Result<()> {
        let now = self.now(steady);
        let virq = &self.virq;
        for (instance, pic) in (0..).zip(virq.save_pic().iter().flatten()) {
            put(HVM_SAVE_CODE_PIC, instance, pic.as_bytes())?;
        }
        if let Some(ioapic) = virq.save_ioapic() {
            put(HVM_SAVE_CODE_IOAPIC, 0, ioapic.as_bytes())?;
        }
        put(HVM_SAVE_CODE_PCI_IRQ, 0, virq.save_pci().as_bytes())?;
        put(HVM_SAVE_CODE_ISA_IRQ, 0, virq.save_isa().as_bytes())?;
        put(HVM_SAVE_CODE_PCI_LINK, 0, virq.save_links().as_bytes())?;
        put(HVM_SAVE_CODE_PIT, 0, self.pit.save().as_bytes())?;
        put(HVM_SAVE_CODE_RTC, 0, self.rtc.save(now).as_bytes())?;
        put(HVM_SAVE_CODE_HPET, 0, self.hpet.save(now).as_bytes())?;
        put(HVM_SAVE_CODE_PMTIMER, 0, self.pm.save(now).as_bytes())
    }

    /// Takes over a record; bytes that are missing at its end are 0. The interval timer's comes before that of the HPET, which may
    /// stop it; lines come before the devices that move them.
    ///
    /// # Errors
    /// `EOPNOTSUPP` for a type that is no device's here, `EINVAL` for one that is too long, the devices' own for contents that
    /// they cannot have.
    pub fn load(&mut self, code: u16, instance: u16, bytes: &[u8], steady: u64, bus: &mut impl Bus) -> Result<()> {
        if instance != 0 && code != HVM_SAVE_CODE_PIC {
            return Err(Errno::INVAL);
        }
        let now = self.now(steady);
        let virq = &mut self.virq;
        let action = match code {
            HVM_SAVE_CODE_PIC => return virq.load_pic(instance, &read(bytes)?),
            HVM_SAVE_CODE_IOAPIC => return virq.load_ioapic(&read(bytes)?),
            HVM_SAVE_CODE_PCI_IRQ => {
                virq.load_pci(&read(bytes)?);
                return Ok(());
            }
            HVM_SAVE_CODE_ISA_IRQ => {
                virq.load_isa(&read(bytes)?);
                return Ok(());
            }
            HVM_SAVE_CODE_PCI_LINK => return virq.load_links(&read(bytes)?),
            HVM_SAVE_CODE_PIT => self.pit.load(&read(bytes)?, now)?,
            HVM_SAVE_CODE_RTC => self.rtc.load(&read(bytes)?, now)?,
            HVM_SAVE_CODE_HPET => self.hpet.load(&read(bytes)?, now)?,
            HVM_SAVE_CODE_PMTIMER => self.pm.load(&read(bytes)?, now)?,
            _ => return Err(Errno::OPNOTSUPP),
        };
        self.act(action, bus);
        Ok(())
    }
}

fn read<T: FromBytes + IntoBytes + Immutable>(bytes: &[u8]) -> Result<T> {
    let mut record = T::new_zeroed();
    record.as_mut_bytes().get_mut(..bytes.len()).ok_or(Errno::INVAL)?.copy_from_slice(bytes);
    Ok(record)
}
