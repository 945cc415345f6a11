//! The interval timer of an HVM guest: the three counters of an 8254 at ports 0x40 to 0x43, and the speaker port 0x61.
//!
//! Counter 0 drives ISA interrupt 0; counter 2's gate and output are in the speaker port. The counters run at 1.193182 MHz
//! of guest time. Registers as in Intel's 8254 data sheet ("Programming", "Mode definitions"); Xen's device differs from it
//! where the gates of counters 0 and 1 (wired high) and the flag NULL COUNT (reads 0) are concerned, and so does this one.
//!
//! Other than Xen's device this one counts in BCD, shows OUT in modes 1, 2, 4 and 5 with the data sheet's polarity, and
//! interrupts at the terminal count of mode 0.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod counter;

use counter::Counter;
use types::{Errno, Result};
use vtimer::{Action, Change, Line, NS_PER_SECOND, Now, Rules, Timer, all_ones};
use xen_abi::hvm_save::clocks::HvmHwPit;

/// Frequency of the counters in Hz.
pub const FREQUENCY: u64 = 1_193_182;
/// Port of counter 0; the others and the control word follow.
pub const PORT: u16 = 0x40;
/// The speaker port.
pub const SPEAKER_PORT: u16 = 0x61;
/// The interrupt of counter 0.
pub const LINE: Line = Line::Isa(0);

const CONTROL: u16 = 3;
/// Speaker port: gate of counter 2, speaker data, memory refresh, output of counter 2.
const SPEAKER_GATE: u8 = 1 << 0;
const SPEAKER_DATA: u8 = 1 << 1;
const SPEAKER_REFRESH_SHIFT: u32 = 4;
const SPEAKER_OUT_SHIFT: u32 = 5;
/// The refresh signal toggles every 15 us on a PC; here every 2^14 ns.
const REFRESH_NS_SHIFT: u32 = 14;

/// The interval timer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pit {
    counters: [Counter; 3],
    speaker: bool,
    timer: Timer,
}

impl Pit {
    /// As after power-on: no interrupt until the guest has chosen a mode.
    pub fn new(now: Now, rules: Rules) -> Self {
        let counters = [true, true, false].map(|gate| Counter::new(now.guest, gate));
        Self { counters, speaker: false, timer: Timer::new(rules) }
    }

    /// As after power-on, with the same rules.
    pub fn reset(&mut self, now: Now) {
        *self = Self::new(now, self.timer.rules());
    }

    /// Whether it answers at `port`.
    pub const fn owns(port: u16) -> bool {
        matches!(port, 0x40..=0x43 | SPEAKER_PORT)
    }

    /// Reads `size` bytes. Only bytes can be read; wider reads and reads of the control word give all ones.
    pub fn read(&mut self, port: u16, size: u8, now: Now) -> u32 {
        match (port, size) {
            (SPEAKER_PORT, 1) => self.read_speaker(now).into(),
            (_, 1) if port & 3 != CONTROL => self.counters[usize::from(port & 3)].read(now.guest).into(),
            _ => all_ones(size.min(4)) as u32,
        }
    }

    /// Writes `size` bytes; only bytes can be written, others are ignored. The next deadline may have changed.
    pub fn write(&mut self, port: u16, size: u8, value: u32, now: Now) {
        // Of wider values nothing is used.
        let value = value as u8;
        if size != 1 {
            return;
        }
        match (port, port & 3) {
            (SPEAKER_PORT, _) => {
                self.speaker = value & SPEAKER_DATA != 0;
                self.counters[2].set_gate(value & SPEAKER_GATE != 0, now.guest);
            }
            (_, CONTROL) => self.control(value, now.guest),
            (_, number) => {
                if self.counters[usize::from(number)].write(value, now.guest) && number == 0 {
                    self.arm(now);
                }
            }
        }
    }

    /// Stops the interrupt until counter 0 is loaded again: the HPET has taken over the line ([`Action::stop_pit`]).
    pub fn stop_irq(&mut self) {
        self.timer.stop();
    }

    /// When [`Pit::tick`] wants to be called, in steady time, while the vCPU has a processor or sleeps.
    pub fn next_deadline(&self) -> Option<u64> {
        self.timer.next_deadline()
    }

    /// The same while the vCPU waits for a processor.
    pub fn insistent_deadline(&self) -> Option<u64> {
        self.timer.insistent_deadline()
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Now) -> Action {
        self.timer.tick(now);
        self.due()
    }

    /// The vCPU has a processor again after waiting for one.
    pub fn resume(&mut self, now: Now) -> Action {
        self.timer.resume(now);
        self.due()
    }

    /// The edge of a tick that the guest has not accepted yet. To be repeated whenever the guest may have become able to
    /// take it: an edge at a masked pin is lost.
    pub fn due(&self) -> Action {
        if self.timer.due().is_some() { Action::one(LINE, Change::Edge) } else { Action::NONE }
    }

    /// The guest has accepted the interrupt of `line`. If it was a tick of this device: the guest time to go forward to.
    pub fn delivered(&mut self, line: Line, now: Now) -> Option<u64> {
        if line != LINE {
            return None;
        }
        let guest = self.timer.delivered(now)?;
        if self.timer.is_running() {
            // The count is to agree with the ticks that the guest sees, late as they may be.
            self.counters[0].restart(guest);
        }
        Some(guest)
    }

    /// Other rules for missed ticks.
    pub fn set_rules(&mut self, rules: Rules) {
        self.timer.set_rules(rules);
    }

    /// The saved record. Counts in progress are not in it: a restored counter starts over, as in Xen.
    pub fn save(&self) -> HvmHwPit {
        HvmHwPit { channels: self.counters.map(|c| c.save()), speaker_data_on: self.speaker.into(), pad0: 0 }
    }

    /// Takes over a saved record; there is no line to move. DOM: a value that no counter can have; INVAL: a gate that cannot be low is.
    pub fn load(&mut self, record: &HvmHwPit, now: Now) -> Result<Action> {
        if record.speaker_data_on > 1 || record.pad0 != 0 {
            return Err(Errno::DOM);
        }
        let mut counters = self.counters;
        for (number, (counter, saved)) in counters.iter_mut().zip(&record.channels).enumerate() {
            *counter = Counter::load(saved, now.guest)?;
            if number != 2 && saved.gate == 0 {
                return Err(Errno::INVAL);
            }
        }
        self.counters = counters;
        self.speaker = record.speaker_data_on != 0;
        self.arm(now);
        Ok(Action::NONE)
    }

    /// The control word (8254, "Control word format"): a mode for one counter, or a command to latch.
    fn control(&mut self, value: u8, guest: u64) {
        let number = usize::from(value >> 6);
        match self.counters.get_mut(number) {
            Some(counter) if value >> 4 & 3 == 0 => counter.latch_count(guest),
            Some(counter) => counter.set_mode(value),
            // Read-back: bits 1 to 3 choose counters; a clear bit 5 latches counts, a clear bit 4 status.
            None => {
                let chosen = |n: &usize| value & 2 << n != 0;
                for n in (0..3).filter(chosen) {
                    if value & 1 << 5 == 0 {
                        self.counters[n].latch_count(guest);
                    }
                    if value & 1 << 4 == 0 {
                        self.counters[n].latch_status(guest);
                    }
                }
            }
        }
    }

    /// Schedules the interrupts of counter 0 from its mode and count.
    fn arm(&mut self, now: Now) {
        let counter = &self.counters[0];
        let period = (u64::from(counter.count()) * NS_PER_SECOND + FREQUENCY / 2) / FREQUENCY;
        match counter.mode() {
            2 | 3 => self.timer.start(now, period, period),
            0 | 1 | 4 => self.timer.start(now, period, 0),
            _ => self.timer.stop(),
        }
    }

    fn read_speaker(&self, now: Now) -> u8 {
        let gate = if self.counters[2].gate() { SPEAKER_GATE } else { 0 };
        let data = if self.speaker { SPEAKER_DATA } else { 0 };
        let refresh = (now.steady >> REFRESH_NS_SHIFT & 1) as u8;
        let out = u8::from(self.counters[2].out(now.guest));
        gate | data | refresh << SPEAKER_REFRESH_SHIFT | out << SPEAKER_OUT_SHIFT
    }
}
