//! The clocks: when they want attention, the lines that they move, and which of their ticks a vCPU has taken.

use crate::Chipset;
use virq::{Bus, Virq, isa_gsi};
use vtimer::{Action, Change, Line, Now, Signal};
use x86_defs::apic::InterruptMessage;

/// An interrupt that a vCPU has taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Taken {
    /// From the 8259s, this vector.
    Pic(u8),
    /// From its local APIC, this vector.
    Apic(u8),
}

/// Passes everything on, and notes whether something was unmasked.
pub(crate) struct Watch<'a, B> {
    bus: &'a mut B,
    unmasked: bool,
}

impl<B: Bus> Bus for Watch<'_, B> {
    fn send(&mut self, message: InterruptMessage) {
        self.bus.send(message);
    }

    fn pic_rose(&mut self) {
        self.bus.pic_rose();
    }

    fn pic_route_changed(&mut self) {
        self.bus.pic_route_changed();
    }

    fn unmasked(&mut self) {
        self.unmasked = true;
        self.bus.unmasked();
    }

    fn ended(&mut self, gsi: u8) {
        self.bus.ended(gsi);
    }

    fn is_event_channel(&mut self, gsi: u8, rises: bool) -> bool {
        self.bus.is_event_channel(gsi, rises)
    }
}

impl Chipset {
    /// Steady time at which [`Chipset::tick`] wants to be called. It may change with every call of anything else.
    pub fn next_deadline(&self, steady: u64) -> Option<u64> {
        let pm = self.pm.next_deadline(self.now(steady));
        let clocks = [self.pit.next_deadline(), self.rtc.next_deadline(), self.hpet.next_deadline(), pm];
        clocks.into_iter().flatten().min()
    }

    /// Does what is due.
    pub fn tick(&mut self, steady: u64, bus: &mut impl Bus) {
        let now = self.now(steady);
        let clocks = self.pit.tick(now).and(self.rtc.tick(now)).and(self.hpet.tick(now));
        let action = clocks.and(self.pm.tick(now));
        self.act(action, bus);
    }

    /// Whether a tick is due that no vCPU has taken, and that the controllers would let through.
    pub fn awaits_delivery(&self) -> bool {
        self.due().signals().any(|signal| self.is_open(signal.line, true))
    }

    /// Before a vCPU is entered: repeats the edges that are due and may have got lost, at controllers that were set up anew or
    /// at a local APIC that was off. `takes_pic`: a vCPU takes what the 8259s have (`vlapic::Port::takes_pic`).
    pub fn renew(&mut self, takes_pic: bool, bus: &mut impl Bus) {
        for signal in self.due().signals() {
            let waits = match signal.line {
                Line::Isa(irq) => self.virq.pic().is_some_and(|pic| pic.is_requested(irq)),
                Line::Gsi(_) => false,
            };
            if self.is_open(signal.line, takes_pic && !waits) {
                self.signal(signal, bus);
            }
        }
    }

    /// A vCPU has taken an interrupt. If it is a clock's, its next tick is scheduled, or signalled if more have waited.
    pub fn delivered(&mut self, taken: Taken, steady: u64, bus: &mut impl Bus) {
        let now = self.now(steady);
        let line = self.due().signals().map(|signal| signal.line).find(|line| self.is_from(*line, taken));
        let Some(line) = line else { return };
        if let Some(guest) = self.deliver(line, now) {
            self.clock.advance(steady, guest);
        }
        let again = self.due().signals().find(|signal| signal.line == line);
        again.into_iter().for_each(|signal| self.signal(signal, bus));
    }

    fn deliver(&mut self, line: Line, now: Now) -> Option<u64> {
        let pit = self.pit.delivered(line, now);
        pit.or_else(|| self.rtc.delivered(line, now)).or_else(|| self.hpet.delivered(line, now))
    }

    /// The edges of all ticks that no vCPU has taken.
    fn due(&self) -> Action {
        self.pit.due().and(self.rtc.due()).and(self.hpet.due())
    }

    /// Whether an edge of the line gets through the I/O APIC or, if that `counts`, the 8259s.
    fn is_open(&self, line: Line, counts: bool) -> bool {
        let by_ioapic = self.virq.ioapic().is_some_and(|ioapic| !ioapic.entry(gsi_of(line)).is_masked());
        match line {
            Line::Isa(irq) if counts => by_ioapic || self.virq.pic().is_some_and(|pic| !pic.is_masked(irq)),
            _ => by_ioapic,
        }
    }

    /// Whether an interrupt can be the line's.
    fn is_from(&self, line: Line, taken: Taken) -> bool {
        match (taken, line) {
            (Taken::Pic(vector), Line::Isa(irq)) => self.virq.pic().is_some_and(|pic| pic.vector(irq) == vector),
            (Taken::Pic(_), Line::Gsi(_)) => false,
            (Taken::Apic(vector), _) => self.virq.ioapic().is_some_and(|ioapic| {
                let entry = ioapic.entry(gsi_of(line));
                !entry.is_masked() && entry.vector() == vector
            }),
        }
    }

    /// Does something to the controllers that may unmask a pin: edges that got lost there come now.
    pub(crate) fn unmasking<B: Bus>(&mut self, bus: &mut B, change: impl FnOnce(&mut Virq, &mut Watch<'_, B>)) {
        let mut watch = Watch { bus, unmasked: false };
        change(&mut self.virq, &mut watch);
        if watch.unmasked {
            self.due().signals().for_each(|signal| self.signal(signal, bus));
        }
    }

    /// Does what a device asks for.
    pub(crate) fn act(&mut self, action: Action, bus: &mut impl Bus) {
        self.time_offset = self.time_offset.wrapping_add(action.time_offset);
        if action.stop_pit {
            self.pit.stop_irq();
        }
        action.signals().for_each(|signal| self.signal(signal, bus));
    }

    fn signal(&mut self, signal: Signal, bus: &mut impl Bus) {
        let virq = &mut self.virq;
        match (signal.line, signal.change) {
            (Line::Isa(irq), Change::Lower) => virq.deassert_isa(irq, bus),
            (Line::Isa(irq), Change::Raise) => virq.assert_isa(irq, bus),
            (Line::Isa(irq), Change::Edge) => {
                virq.deassert_isa(irq, bus);
                virq.assert_isa(irq, bus);
            }
            (Line::Gsi(gsi), Change::Lower) => virq.deassert_gsi(gsi, bus),
            (Line::Gsi(gsi), Change::Raise) => virq.assert_gsi(gsi, bus),
            (Line::Gsi(gsi), Change::Edge) => virq.pulse_gsi(gsi, bus),
        }
    }
}

/// The pin of the I/O APIC that a line goes to.
fn gsi_of(line: Line) -> u8 {
    match line {
        Line::Isa(irq) => isa_gsi(irq),
        Line::Gsi(gsi) => gsi,
    }
}
