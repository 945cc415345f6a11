//! MSI (PCI 3.0, 6.8.1).

use super::address::{CAPABILITY_MSI, ConfigSpace, Sbdf, find_capability};
use x86_defs::apic::MsiMessage;

const CONTROL_ENABLE: u32 = 1;
const CONTROL_64_BIT: u32 = 1 << 7;
const CONTROL_MASKABLE: u32 = 1 << 8;

/// A function's MSI capability.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Msi {
    function: Sbdf,
    at: u16,
    wide: bool,
    maskable: bool,
    max: u8,
}

impl Msi {
    /// Finds it; `None` if the function has none.
    pub fn find(config: &(impl ConfigSpace + ?Sized), function: Sbdf) -> Option<Msi> {
        let at = find_capability(config, function, CAPABILITY_MSI)?;
        let control = config.read(function, at + 2, 2);
        Some(Msi {
            function,
            at,
            wide: control & CONTROL_64_BIT != 0,
            maskable: control & CONTROL_MASKABLE != 0,
            max: 1 << (control >> 1 & 7).min(5),
        })
    }

    /// How many messages the function can send: 1 to 32.
    pub fn max_messages(&self) -> u8 {
        self.max
    }

    /// Writes the message and lets the function send `count` of them (a power of two; the data of message `n` is
    /// `message.data + n`), but does not turn MSI on. False if it cannot send so many.
    pub fn program(&self, config: &(impl ConfigSpace + ?Sized), message: MsiMessage, count: u8) -> bool {
        if !count.is_power_of_two() || count > self.max {
            return false;
        }
        config.write(self.function, self.at + 4, 4, message.address as u32);
        if self.wide {
            config.write(self.function, self.at + 8, 4, (message.address >> 32) as u32);
        }
        config.write(self.function, self.data_register(), 2, message.data);
        let control = self.control(config) & !(7 << 4) | count.trailing_zeros() << 4;
        config.write(self.function, self.at + 2, 2, control);
        true
    }

    /// The message that is programmed.
    pub fn message(&self, config: &(impl ConfigSpace + ?Sized)) -> MsiMessage {
        let high = if self.wide { config.read(self.function, self.at + 8, 4) } else { 0 };
        let low = config.read(self.function, self.at + 4, 4);
        let data = config.read(self.function, self.data_register(), 2);
        MsiMessage { address: u64::from(high) << 32 | u64::from(low), data }
    }

    /// Turns MSI on or off. Turning it on turns the function's INTx pin off.
    pub fn enable(&self, config: &(impl ConfigSpace + ?Sized), on: bool) {
        let control = self.control(config) & !CONTROL_ENABLE | u32::from(on);
        config.write(self.function, self.at + 2, 2, control);
    }

    /// Masks or unmasks message `index`; false if the function cannot.
    pub fn set_mask(&self, config: &(impl ConfigSpace + ?Sized), index: u8, masked: bool) -> bool {
        if !self.maskable || index >= self.max {
            return false;
        }
        let register = self.data_register() + 4;
        let bits = config.read(self.function, register, 4);
        let bit = 1 << index;
        config.write(self.function, register, 4, if masked { bits | bit } else { bits & !bit });
        true
    }

    fn control(&self, config: &(impl ConfigSpace + ?Sized)) -> u32 {
        config.read(self.function, self.at + 2, 2)
    }

    fn data_register(&self) -> u16 {
        self.at + if self.wide { 12 } else { 8 }
    }
}
