//! All interrupt lines of the machine: pins first, by global number, then messages.
//!
//! # Locks
//! The lock on a line, then that on the vectors; that on numbers put aside alone. No event channel's lock is taken under either.

use super::line::{Controller, Line, Own, Source, User};
use super::names::Reserved;
use alloc::boxed::Box;
use core::sync::atomic::{
    AtomicU32,
    Ordering::{Acquire, Release},
};
use hal_irq::vectors::VectorAllocator;
use platform::sync::{Mutex, MutexGuard};
use types::{CpuId, DomId, Errno, Result};
use x86_defs::apic::{Polarity, Trigger};

/// Vectors of a CPU.
const VECTORS: usize = 256;

/// Whom an interrupt concerns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arrival {
    /// Nobody.
    Nobody,
    /// The hypervisor itself.
    Own(Own),
    /// A guest: the event channel of its line `pirq` is to be raised.
    Guest {
        /// The domain.
        domain: DomId,
        /// Its number for the line.
        pirq: u32,
    },
}

/// A line as a dump shows it.
#[derive(Clone, Debug)]
pub struct Summary {
    /// CPU and vector.
    pub vector: Option<(CpuId, u8)>,
    /// It is a pin.
    pub is_pin: bool,
    /// It stays asserted until it is served.
    pub is_level: bool,
    /// Who uses it.
    pub user: User,
    /// It is masked until the guest is done.
    pub waits: bool,
}

/// The lines.
pub struct Lines<C: Controller> {
    controller: C,
    pins: u32,
    lines: Box<[Mutex<Line<C::Message>>]>,
    vectors: Mutex<VectorAllocator>,
    /// One more than the line behind each vector of each CPU; 0 for none.
    by_vector: Box<[AtomicU32]>,
    cpus: u32,
    pub(super) reserved: Reserved,
}

/// A domain, as lines are named in it.
#[derive(Clone, Copy, Debug)]
pub struct Namer {
    /// The domain.
    pub domain: DomId,
    /// How many numbers it can have.
    pub limit: u32,
}

impl<C: Controller> Lines<C> {
    /// `pins` pins, all unused, and numbers for messages up to `count` lines in all; for `cpus` CPUs.
    pub fn new(controller: C, pins: u32, count: u32, cpus: u32) -> Lines<C> {
        let line = |number| {
            let mut line = Line::default();
            if number < pins && controller.has_pin(number) {
                line.source = Some(Source::Pin(number));
                line.mode = controller.default_mode(number);
            }
            Mutex::new(line)
        };
        Lines {
            lines: (0..count.max(pins)).map(line).collect(),
            vectors: Mutex::new(VectorAllocator::new(cpus as usize)),
            by_vector: (0..cpus as usize * VECTORS).map(|_| AtomicU32::new(0)).collect(),
            controller,
            pins,
            cpus,
            reserved: Reserved::default(),
        }
    }

    /// The controllers.
    #[cfg(test)]
    pub fn controller(&self) -> &C {
        &self.controller
    }

    /// Number of pins; the lines from there on are messages.
    pub fn pins(&self) -> u32 {
        self.pins
    }

    /// A line for a dump; `None` if the number is not in use.
    pub fn summary(&self, number: u32) -> Option<Summary> {
        let line = self.lines.get(number as usize)?.lock();
        line.source.as_ref()?;
        Some(Summary {
            vector: line.vector,
            is_pin: number < self.pins,
            is_level: line.is_level(),
            user: line.user,
            waits: line.waits,
        })
    }

    /// Number of lines, used or not.
    pub fn count(&self) -> u32 {
        self.lines.len() as u32
    }

    fn pin(&self, gsi: u32) -> Result<MutexGuard<'_, Line<C::Message>>> {
        let line = self.lines.get(gsi as usize).filter(|_| gsi < self.pins).ok_or(Errno::INVAL)?.lock();
        if line.source.is_some() { Ok(line) } else { Err(Errno::INVAL) }
    }

    /// The line that a domain calls `pirq`, locked.
    fn named(&self, domain: DomId, pirq: u32) -> Option<(u32, MutexGuard<'_, Line<C::Message>>)> {
        // Almost always the numbers are the same.
        if let Some(line) = self.lines.get(pirq as usize) {
            let line = line.lock();
            if line.is_named(domain, pirq) {
                return Some((pirq, line));
            }
        }
        self.lines.iter().enumerate().find_map(|(number, line)| {
            let line = line.lock();
            line.is_named(domain, pirq).then_some((number as u32, line))
        })
    }

    /// The line that a domain calls `pirq`.
    pub fn number_of(&self, domain: DomId, pirq: u32) -> Option<u32> {
        self.named(domain, pirq).map(|(number, _)| number)
    }

    /// The domain's number for a line.
    pub fn name_of(&self, number: u32, domain: DomId) -> Option<u32> {
        self.lines.get(number as usize)?.lock().name_in(domain)
    }

    /// Visits all numbers that the domain has for a line.
    pub(super) fn visit_names(&self, number: u32, domain: DomId, visit: impl FnMut(u32)) {
        if let Some(line) = self.lines.get(number as usize) {
            line.lock().names.iter().filter(|name| name.0 == domain).map(|name| name.1).for_each(visit);
        }
    }

    /// Sets a pin's mode (PHYSDEVOP_setup_gsi).
    ///
    /// # Errors
    /// `EINVAL`: no such pin. `EEXIST`: it was set, or is in use.
    pub fn set_up(&self, gsi: u32, trigger: Trigger, polarity: Polarity) -> Result<()> {
        let mut line = self.pin(gsi)?;
        if line.is_set_up || line.user != User::None {
            return Err(Errno::EXIST);
        }
        line.is_set_up = true;
        line.mode = (trigger, polarity);
        if line.vector.is_some() {
            line.program(&self.controller, true)?;
        }
        Ok(())
    }

    /// Gives a pin a number in a domain.
    ///
    /// # Errors
    /// `EINVAL`: no such pin. `ENOMEM`.
    pub fn name_pin(&self, gsi: u32, domain: DomId, pirq: u32) -> Result<()> {
        self.pin(gsi)?.add_name(domain, pirq)?;
        self.reserved.use_up(domain, pirq);
        Ok(())
    }

    /// Takes `count` lines in a row for messages (1, or a power of two up to 32, whose vectors are then in a row too), and
    /// programs the messages, masked where that is possible. The first line, and the domain's number for it; the others follow.
    ///
    /// # Errors
    /// `ENOSPC`: no numbers or vectors are left. `ENOMEM`, and those of the controller.
    pub fn add_messages(
        &self,
        namer: Namer,
        cpu: CpuId,
        count: u32,
        message: impl Fn(u32) -> C::Message,
    ) -> Result<(u32, u32)> {
        let first = self.find_free(count).ok_or(Errno::NOSPC)?;
        let first_name = self.names_for(namer.domain, namer.limit, first, count)?;
        let vectors = self.allocate(cpu, count)?;
        for index in 0..count {
            let number = first + index;
            let mut line = self.lines[number as usize].lock();
            let vector = (vectors.0, vectors.1 + index as u8);
            line.source = Some(Source::Message(message(index)));
            line.vector = Some(vector);
            line.in_block = count > 1;
            self.point(vector, number);
            let programmed = if index == 0 { line.program(&self.controller, true) } else { Ok(()) };
            let named = programmed.and_then(|()| line.add_name(namer.domain, first_name + index));
            drop(line);
            if let Err(errno) = named {
                (first..=number).for_each(|number| self.forget(number));
                let mut allocator = self.vectors.lock();
                (index + 1..count).for_each(|rest| allocator.free(vectors.0, vectors.1 + rest as u8));
                return Err(errno);
            }
        }
        Ok((first, first_name))
    }

    /// Unused numbers in a row. Only calls that hold the lock on devices add messages, so they stay unused.
    fn find_free(&self, count: u32) -> Option<u32> {
        let mut length = 0;
        for number in (self.pins.max(16)..self.count()).rev() {
            let is_free = self.lines[number as usize].lock().source.is_none();
            length = if is_free { length + 1 } else { 0 };
            if length == count {
                return Some(number);
            }
        }
        None
    }

    fn allocate(&self, cpu: CpuId, count: u32) -> Result<(CpuId, u8)> {
        let mut vectors = self.vectors.lock();
        if count > 1 {
            let first = vectors.allocate_block(cpu, count as u8).ok_or(Errno::NOSPC)?;
            return Ok((cpu, first));
        }
        let near = vectors.allocate(core::iter::once(cpu).filter(|cpu| cpu.0 < self.cpus), false);
        near.or_else(|| vectors.allocate((0..self.cpus).map(CpuId), false)).ok_or(Errno::NOSPC)
    }

    fn point(&self, (cpu, vector): (CpuId, u8), number: u32) {
        self.by_vector[cpu.index() * VECTORS + usize::from(vector)].store(number + 1, Release);
    }

    fn release_vector(&self, at: Option<(CpuId, u8)>) {
        if let Some((cpu, vector)) = at {
            self.by_vector[cpu.index() * VECTORS + usize::from(vector)].store(0, Release);
            self.vectors.lock().free(cpu, vector);
        }
    }

    /// Masks a message's line and takes its number and vector back.
    fn forget(&self, number: u32) {
        let mut line = self.lines[number as usize].lock();
        line.set_mask(&self.controller, true);
        let old = core::mem::take(&mut *line);
        self.release_vector(old.vector);
        self.release_vector(old.previous);
    }

    /// Takes a domain's number for a line away, and the line too if it is a message that nobody else has a number for. Whoever
    /// has bound it hears no more of it.
    ///
    /// # Errors
    /// `EINVAL`: no such number.
    pub fn remove_name(&self, domain: DomId, pirq: u32) -> Result<()> {
        let (number, mut line) = self.named(domain, pirq).ok_or(Errno::INVAL)?;
        if line.user == (User::Guest { domain, pirq }) {
            self.silence(&mut line);
        }
        line.names.retain(|name| *name != (domain, pirq));
        let unused = line.names.is_empty();
        drop(line);
        if unused && number >= self.pins {
            self.forget(number);
        }
        Ok(())
    }

    /// Takes a message's line away from everybody: its device has gone.
    pub fn drop_messages(&self, number: u32) {
        if (self.pins..self.count()).contains(&number) {
            self.forget(number);
        }
    }

    /// Takes all numbers of a domain away.
    pub fn remove_domain(&self, domain: DomId) {
        for number in 0..self.count() {
            while let Some(pirq) = self.name_of(number, domain) {
                // It was there a moment ago; if somebody else has removed it, so much the better.
                let _ = self.remove_name(domain, pirq);
            }
        }
        self.reserved.release(domain);
    }

    /// Gives a line a vector, on `cpu` if that has one left, and points the line there, masked.
    fn connect(&self, number: u32, line: &mut Line<C::Message>, cpu: CpuId) -> Result<()> {
        if line.vector.is_none() {
            line.vector = Some(self.allocate(cpu, 1)?);
        }
        let programmed = line.program(&self.controller, true);
        match (programmed, line.vector) {
            (Ok(()), Some(vector)) => {
                self.point(vector, number);
                Ok(())
            }
            (result, _) => {
                self.release_vector(line.vector.take());
                result
            }
        }
    }

    /// Lets the hypervisor have a pin.
    ///
    /// # Errors
    /// `EINVAL`: no such pin. `EBUSY`: it is in use. `ENOSPC`, and those of the controller.
    pub fn take(&self, gsi: u32, mode: (Trigger, Polarity), cpu: CpuId, own: Own) -> Result<()> {
        let mut line = self.pin(gsi)?;
        if line.user != User::None {
            return Err(Errno::BUSY);
        }
        line.mode = mode;
        self.connect(gsi, &mut line, cpu)?;
        line.user = User::Own(own);
        line.set_mask(&self.controller, false);
        Ok(())
    }

    /// Lets a domain have the line that it calls `pirq`; whether it has to say when it is done with an interrupt.
    ///
    /// # Errors
    /// `EINVAL`: no such line. `EBUSY`: it is in use. `ENOSPC`, and those of the controller.
    pub fn bind(&self, domain: DomId, pirq: u32, cpu: CpuId) -> Result<bool> {
        let (number, mut line) = self.named(domain, pirq).ok_or(Errno::INVAL)?;
        if line.user != User::None {
            return Err(Errno::BUSY);
        }
        if line.vector.is_none() {
            self.connect(number, &mut line, cpu)?;
        }
        line.user = User::Guest { domain, pirq };
        line.waits = false;
        line.set_mask(&self.controller, false);
        Ok(line.is_level())
    }

    /// Ends a domain's use of a line. Nothing happens if it does not use it.
    pub fn unbind(&self, domain: DomId, pirq: u32) {
        if let Some((_, mut line)) = self.named(domain, pirq) {
            if line.user == (User::Guest { domain, pirq }) {
                self.silence(&mut line);
            }
        }
    }

    fn silence(&self, line: &mut Line<C::Message>) {
        line.set_mask(&self.controller, true);
        line.user = User::None;
        line.waits = false;
    }

    /// Moves a line's interrupts to another CPU. Nothing happens where it cannot move.
    pub fn move_to(&self, domain: DomId, pirq: u32, cpu: CpuId) {
        let Some((number, mut line)) = self.named(domain, pirq) else {
            return;
        };
        let moves = line.vector.is_some_and(|(at, _)| at != cpu) && !line.in_block && cpu.0 < self.cpus;
        if !moves || line.user != (User::Guest { domain, pirq }) {
            return;
        }
        let Some(new) = self.vectors.lock().allocate(core::iter::once(cpu), false) else {
            return;
        };
        self.point(new, number);
        let old = line.vector.replace(new);
        if line.program(&self.controller, line.waits).is_err() {
            line.vector = old;
            self.release_vector(Some(new));
            return;
        }
        // What was sent to the place before last has arrived long ago.
        let before = core::mem::replace(&mut line.previous, old);
        drop(line);
        self.release_vector(before);
    }

    /// A domain is done with an interrupt (PHYSDEVOP_eoi).
    ///
    /// # Errors
    /// `EINVAL`: it has no line of that number.
    pub fn done(&self, domain: DomId, pirq: u32) -> Result<()> {
        let (_, mut line) = self.named(domain, pirq).ok_or(Errno::INVAL)?;
        if line.waits && line.user == (User::Guest { domain, pirq }) {
            line.waits = false;
            line.set_mask(&self.controller, false);
        }
        Ok(())
    }

    /// Whether a domain has to say when it is done with an interrupt of a line.
    ///
    /// # Errors
    /// `EINVAL`: it has no line of that number.
    pub fn needs_done(&self, domain: DomId, pirq: u32) -> Result<bool> {
        Ok(self.named(domain, pirq).ok_or(Errno::INVAL)?.1.is_level())
    }

    /// Programs a line's message anew, as the device has lost it.
    pub fn restore(&self, number: u32) {
        let Some(line) = self.lines.get(number as usize) else {
            return;
        };
        let line = line.lock();
        // A line that never got a vector has nothing to restore; a device that fails now is the guest's to notice.
        let _ = line.program(&self.controller, line.user == User::None);
    }

    /// An interrupt has arrived at `cpu`. A level interrupt is masked until its user is done; then the CPU is told that the
    /// interrupt is over, so that others may follow.
    pub fn arrived(&self, cpu: CpuId, vector: u8) -> Arrival {
        let slot = self.by_vector.get(cpu.index() * VECTORS + usize::from(vector));
        let number = slot.map_or(0, |slot| slot.load(Acquire));
        let Some(line) = number.checked_sub(1).and_then(|number| self.lines.get(number as usize)) else {
            self.controller.end();
            return Arrival::Nobody;
        };
        let mut line = line.lock();
        let is_guest = matches!(line.user, User::Guest { .. });
        if line.user == User::None || is_guest && line.is_level() {
            line.set_mask(&self.controller, true);
            line.waits = is_guest;
        }
        self.controller.end();
        if let (Some(Source::Pin(gsi)), true) = (&line.source, line.vector != Some((cpu, vector)) && line.is_level()) {
            self.controller.end_pin(*gsi);
        }
        match line.user {
            User::None => Arrival::Nobody,
            User::Own(own) => Arrival::Own(own),
            User::Guest { domain, pirq } => Arrival::Guest { domain, pirq },
        }
    }
}
