//! One interrupt line: where it comes from, which vector it has, and who uses it.

use alloc::vec::Vec;
use types::{CpuId, DomId, Errno, Result};
use x86_defs::apic::{Polarity, Trigger};

/// Who is told when a line inside the hypervisor interrupts; the meaning is the caller's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Own(pub u32);

/// Where a line's interrupts come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source<M> {
    /// A pin of an I/O APIC, by global number.
    Pin(u32),
    /// A message that a device writes.
    Message(M),
}

/// Who uses a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum User {
    /// Nobody; it is masked.
    None,
    /// The hypervisor itself.
    Own(Own),
    /// A domain that has bound it to an event channel, by its number for the line.
    Guest {
        /// The domain.
        domain: DomId,
        /// The number.
        pirq: u32,
    },
}

/// The machine's interrupt controllers, as the lines need them.
pub trait Controller {
    /// A place where a message is programmed.
    type Message: Clone;

    /// Whether there is such a pin.
    fn has_pin(&self, gsi: u32) -> bool;
    /// Trigger and polarity of a pin unless somebody sets them.
    fn default_mode(&self, gsi: u32) -> (Trigger, Polarity);
    /// Points a pin at a vector of a CPU.
    ///
    /// # Errors
    /// `ENXIO`, `ENODEV` or `ERANGE` where that is impossible.
    fn route(&self, gsi: u32, to: (CpuId, u8), mode: (Trigger, Polarity), masked: bool) -> Result<()>;
    /// Masks a pin or lifts the mask.
    fn mask_pin(&self, gsi: u32, masked: bool);
    /// Ends a level interrupt at the pin, where the CPU's own end does not reach it.
    fn end_pin(&self, gsi: u32);
    /// Lets a device send a message to a vector of a CPU. `EIO` and the errors of `route` where that is impossible.
    ///
    /// # Errors
    /// As said.
    fn program(&self, message: &Self::Message, to: (CpuId, u8), masked: bool) -> Result<()>;
    /// Masks a message or lifts the mask, where the device can.
    fn mask_message(&self, message: &Self::Message, masked: bool);
    /// Ends the interrupt at the CPU on which it arrived.
    fn end(&self);
}

/// State of a line, under its lock.
#[derive(Debug)]
pub struct Line<M> {
    /// `None` while the number is not in use.
    pub source: Option<Source<M>>,
    /// Trigger and polarity.
    pub mode: (Trigger, Polarity),
    /// Somebody has set the mode.
    pub is_set_up: bool,
    /// CPU and vector.
    pub vector: Option<(CpuId, u8)>,
    /// Where it was before; interrupts on their way may still arrive there.
    pub previous: Option<(CpuId, u8)>,
    /// Its vector is one of a row, so that it cannot move alone.
    pub in_block: bool,
    /// Domains that have a number for it, and the numbers.
    pub names: Vec<(DomId, u32)>,
    /// Who uses it.
    pub user: User,
    /// It is masked until the guest says that it is done.
    pub waits: bool,
}

impl<M> Default for Line<M> {
    fn default() -> Self {
        Line {
            source: None,
            mode: (Trigger::Edge, Polarity::ActiveHigh),
            is_set_up: false,
            vector: None,
            previous: None,
            in_block: false,
            names: Vec::new(),
            user: User::None,
            waits: false,
        }
    }
}

impl<M: Clone> Line<M> {
    /// Whether an interrupt stays asserted until its device is served, so that it has to be masked meanwhile.
    pub fn is_level(&self) -> bool {
        matches!(self.source, Some(Source::Pin(_))) && self.mode.0 == Trigger::Level
    }

    /// Whether the domain calls it `pirq`.
    pub fn is_named(&self, domain: DomId, pirq: u32) -> bool {
        self.names.contains(&(domain, pirq))
    }

    /// The domain's number for it.
    pub fn name_in(&self, domain: DomId) -> Option<u32> {
        self.names.iter().find(|(owner, _)| *owner == domain).map(|(_, pirq)| *pirq)
    }

    /// Gives it a number in a domain.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn add_name(&mut self, domain: DomId, pirq: u32) -> Result<()> {
        if self.is_named(domain, pirq) {
            return Ok(());
        }
        self.names.try_reserve(1).map_err(|_| Errno::NOMEM)?;
        self.names.push((domain, pirq));
        Ok(())
    }

    /// Masks it, or lifts the mask.
    pub fn set_mask<C: Controller<Message = M>>(&self, controller: &C, masked: bool) {
        match &self.source {
            Some(Source::Pin(gsi)) => controller.mask_pin(*gsi, masked),
            Some(Source::Message(message)) => controller.mask_message(message, masked),
            None => {}
        }
    }

    /// Tells the controller its vector.
    ///
    /// # Errors
    /// Those of the controller; `EINVAL` without a vector or a source.
    pub fn program<C: Controller<Message = M>>(&self, controller: &C, masked: bool) -> Result<()> {
        let to = self.vector.ok_or(Errno::INVAL)?;
        match self.source.as_ref().ok_or(Errno::INVAL)? {
            Source::Pin(gsi) => controller.route(*gsi, to, self.mode, masked),
            Source::Message(message) => controller.program(message, to, masked),
        }
    }
}
