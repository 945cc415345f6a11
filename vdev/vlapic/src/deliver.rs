//! Messages to local APICs: who is meant, and who of them takes the interrupt.

use core::sync::atomic::{AtomicUsize, Ordering};

use x86_defs::apic::{DeliveryMode, InterruptMessage};

use crate::port::Port;

/// The ports of a domain's vCPUs.
pub trait Ports {
    /// Numbers of vCPUs are below this.
    fn count(&self) -> usize;
    /// The port of a vCPU; nothing if there is no such vCPU.
    fn port(&self, vcpu: usize) -> Option<&Port>;
}

impl Ports for [Port] {
    fn count(&self) -> usize {
        self.len()
    }
    fn port(&self, vcpu: usize) -> Option<&Port> {
        self.get(vcpu)
    }
}

/// Abbreviated destinations of interrupt commands (SDM vol. 3, figure 11-12).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shorthand {
    /// None: the message's destination counts.
    Destination,
    /// The sender.
    Itself,
    /// All.
    All,
    /// All but the sender.
    Others,
}

impl Shorthand {
    pub(crate) const fn of_command(low: u32) -> Shorthand {
        match low >> 18 & 3 {
            0 => Shorthand::Destination,
            1 => Shorthand::Itself,
            2 => Shorthand::All,
            _ => Shorthand::Others,
        }
    }
}

/// A message on its way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request {
    /// What is to be delivered.
    pub message: InterruptMessage,
    /// Whether the sender abbreviated the destination.
    pub shorthand: Shorthand,
    /// The sending vCPU; without meaning if the destination is not abbreviated.
    pub source: usize,
}

impl From<InterruptMessage> for Request {
    /// A message of an I/O APIC or a device.
    fn from(message: InterruptMessage) -> Request {
        Request { message, shorthand: Shorthand::Destination, source: 0 }
    }
}

/// What a vCPU is to be told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// A vector is requested that was not: have the vCPU look at its APIC.
    Interrupt,
    /// A non-maskable interrupt.
    Nmi,
    /// A system management interrupt.
    Smi,
    /// Reset to the state that waits for a start-up: the CPU's registers, and [`crate::Lapic::init`].
    Init,
    /// Start at this page in real mode, if the vCPU waits for that.
    StartUp(u8),
    /// The 8259s have an interrupt for the vCPU.
    ExtInt,
}

impl Request {
    /// Whether the APIC behind `port`, of vCPU `vcpu`, is meant.
    fn names(&self, vcpu: usize, port: &Port) -> bool {
        match self.shorthand {
            Shorthand::Destination => port.matches(self.message.destination, self.message.logical),
            Shorthand::Itself => vcpu == self.source,
            Shorthand::All => true,
            Shorthand::Others => vcpu != self.source,
        }
    }

    /// The only APIC that is meant, if one look finds it: ids are given so that this succeeds for every physical id.
    fn single<'a, P: Ports + ?Sized>(&self, ports: &'a P) -> Option<(usize, &'a Port)> {
        let id = self.message.destination;
        if self.message.logical || self.shorthand != Shorthand::Destination {
            return None;
        }
        let vcpu = (id >> 1) as usize;
        ports.port(vcpu).filter(|port| port.id() == id).map(|port| (vcpu, port))
    }

    fn for_each<P: Ports + ?Sized>(&self, ports: &P, mut then: impl FnMut(usize, &Port)) {
        if let Some((vcpu, port)) = self.single(ports) {
            return then(vcpu, port);
        }
        for vcpu in 0..ports.count() {
            match ports.port(vcpu) {
                Some(port) if self.names(vcpu, port) => then(vcpu, port),
                _ => {}
            }
        }
    }

    /// The enabled APIC of lowest processor priority among those meant; of equals, the next one after vCPU `last`.
    fn arbitrate<'a, P: Ports + ?Sized>(&self, ports: &'a P, last: usize) -> Option<(usize, &'a Port)> {
        let count = ports.count();
        let first = if last < count { last + 1 } else { 0 };
        let in_turn = (first..count).chain(0..first.min(count));
        in_turn
            .filter_map(|vcpu| ports.port(vcpu).map(|port| (vcpu, port)))
            .filter(|(vcpu, port)| port.is_enabled() && self.names(*vcpu, port))
            .min_by_key(|(_, port)| port.priority())
    }
}

/// Delivers a message (SDM vol. 3, 11.6.2): posts its vector where it is one, and calls `tell` for each vCPU that has to
/// learn of it. `turn` is the domain's memory of who got the last lowest-priority message; it starts at 0.
pub fn deliver<P: Ports + ?Sized>(
    ports: &P,
    turn: &AtomicUsize,
    request: &Request,
    mut tell: impl FnMut(usize, Event),
) {
    let InterruptMessage { vector, mode, level, .. } = request.message;
    let event = match mode {
        DeliveryMode::Fixed => {
            return request.for_each(ports, |vcpu, port| {
                if port.is_enabled() && port.post(vector, level) {
                    tell(vcpu, Event::Interrupt);
                }
            });
        }
        DeliveryMode::LowestPriority => {
            if let Some((vcpu, port)) = request.arbitrate(ports, turn.load(Ordering::Relaxed)) {
                turn.store(vcpu, Ordering::Relaxed);
                if port.post(vector, level) {
                    tell(vcpu, Event::Interrupt);
                }
            }
            return;
        }
        DeliveryMode::Nmi => Event::Nmi,
        DeliveryMode::Smi => Event::Smi,
        DeliveryMode::Init => Event::Init,
        DeliveryMode::StartUp => Event::StartUp(vector),
        DeliveryMode::ExtInt => Event::ExtInt,
    };
    request.for_each(ports, |vcpu, _| tell(vcpu, event));
}

/// The vCPU to which the 8259s' output goes: the first whose APIC lets it through (see [`Port::takes_pic`]), else vCPU 0.
/// Ask after [`crate::Action::Reconfigured`] and after a change of the I/O APIC's pin 0.
pub fn pic_target<P: Ports + ?Sized>(ports: &P, pin0: Option<u8>) -> usize {
    let takes = |vcpu: &usize| ports.port(*vcpu).is_some_and(|port| port.takes_pic(pin0));
    (0..ports.count()).find(takes).unwrap_or(0)
}
