//! What a device asks of its owner.

/// An input of the guest's interrupt controllers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Line {
    /// An ISA interrupt, 0 to 15: a pin of the two PICs, and the pin of the I/O APIC that the platform joins to it.
    Isa(u8),
    /// A pin of the I/O APIC alone, 0 to 47.
    Gsi(u8),
}

const ISA_LINES: u8 = 16;
const GSI_LINES: u8 = 48;

impl Line {
    const fn bit(self) -> u64 {
        match self {
            Self::Isa(n) => 1 << (n % ISA_LINES),
            Self::Gsi(n) => 1 << (ISA_LINES + n % GSI_LINES),
        }
    }

    fn at(bit: u32) -> Self {
        // A bit number is below 64.
        let n = bit as u8;
        if n < ISA_LINES { Self::Isa(n) } else { Self::Gsi(n - ISA_LINES) }
    }
}

/// What happens to a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// It goes down.
    Lower,
    /// It goes down if it is up, then up: an edge. An ISA line stays up, a GSI comes down again by itself.
    Edge,
    /// It goes up and stays there.
    Raise,
}

/// One line and what happens to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Signal {
    /// The line.
    pub line: Line,
    /// What happens to it.
    pub change: Change,
}

/// What the owner of a device has to do after a call: move the lines of [`Action::signals`], in this order, and obey the
/// other members. Levels are this device's own: where devices share a line, the owner joins them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Action {
    lower: u64,
    edge: u64,
    raise: u64,
    /// Seconds by which the guest has moved its wall clock: to be added to the domain's time offset, and told to the
    /// device model (`IOREQ_TYPE_TIMEOFFSET`). 0 but after a write to the real-time clock.
    pub time_offset: i64,
    /// The interval timer's interrupt is to stop, since another timer has taken over its line (`vpit::Pit::stop_irq`).
    pub stop_pit: bool,
}

impl Action {
    /// Nothing to do.
    pub const NONE: Self = Self { lower: 0, edge: 0, raise: 0, time_offset: 0, stop_pit: false };

    /// Nothing but [`Action::stop_pit`].
    pub const STOP_PIT: Self = Self { stop_pit: true, ..Self::NONE };

    /// Nothing but [`Action::time_offset`].
    pub const fn move_time(seconds: i64) -> Self {
        Self { time_offset: seconds, ..Self::NONE }
    }

    /// One line, once.
    pub const fn one(line: Line, change: Change) -> Self {
        let mut action = Self::NONE;
        match change {
            Change::Lower => action.lower = line.bit(),
            Change::Edge => action.edge = line.bit(),
            Change::Raise => action.raise = line.bit(),
        }
        action
    }

    /// Both actions: for two that follow each other in one call of a device.
    pub const fn and(self, other: Self) -> Self {
        Self {
            lower: self.lower | other.lower,
            edge: self.edge | other.edge,
            raise: self.raise | other.raise,
            time_offset: self.time_offset.wrapping_add(other.time_offset),
            stop_pit: self.stop_pit || other.stop_pit,
        }
    }

    /// Whether there is nothing to do.
    pub fn is_none(self) -> bool {
        self == Self::NONE
    }

    /// The lines to move, at most one signal of each kind for a line: first those that go down, then edges, then those that
    /// go up.
    pub fn signals(self) -> impl Iterator<Item = Signal> {
        let part = |bits: u64, change| lines(bits).map(move |line| Signal { line, change });
        part(self.lower, Change::Lower).chain(part(self.edge, Change::Edge)).chain(part(self.raise, Change::Raise))
    }
}

fn lines(mut bits: u64) -> impl Iterator<Item = Line> {
    core::iter::from_fn(move || {
        let bit = (bits != 0).then(|| bits.trailing_zeros())?;
        bits &= bits - 1;
        Some(Line::at(bit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_those_put_in() {
        for line in (0..16).map(Line::Isa).chain((0..48).map(Line::Gsi)) {
            for change in [Change::Lower, Change::Edge, Change::Raise] {
                let all: Vec<Signal> = Action::one(line, change).signals().collect();
                assert_eq!(all, [Signal { line, change }]);
            }
        }
    }

    #[test]
    fn lines_go_down_before_they_go_up() {
        let action = Action::one(Line::Isa(8), Change::Raise)
            .and(Action::one(Line::Gsi(23), Change::Lower))
            .and(Action::one(Line::Isa(0), Change::Edge))
            .and(Action::move_time(7));
        let all: Vec<(Line, Change)> = action.signals().map(|s| (s.line, s.change)).collect();
        assert_eq!(all, [(Line::Gsi(23), Change::Lower), (Line::Isa(0), Change::Edge), (Line::Isa(8), Change::Raise)]);
        assert_eq!(action.time_offset, 7);
        assert!(!action.is_none() && Action::NONE.is_none());
        assert_eq!(Action::NONE.signals().count(), 0);
    }
}
