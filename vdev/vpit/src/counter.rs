//! One counter of the 8254.

use crate::FREQUENCY;
use types::{Errno, Result};
use vtimer::NS_PER_SECOND;
use xen_abi::hvm_save::clocks::HvmHwPitChannel;

/// Which byte of a count is next, as in the saved record; all other numbers stand for the low byte.
const HIGH: u8 = 2;
const WORD_FIRST: u8 = 3;
const WORD_SECOND: u8 = 4;

/// Mode before the guest chose one: counts like mode 2, output like mode 0, no interrupt.
const NO_MODE: u8 = 7;

/// A counter. Its count is not stored: it follows from the time since it was loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counter {
    /// Ticks that were loaded: 1 to 65536.
    count: u32,
    latched_count: u16,
    /// What is left to read of the latched count, as `access`; 0: none is latched.
    count_latched: u8,
    status: Option<u8>,
    read_state: u8,
    write_state: u8,
    write_latch: u8,
    access: u8,
    mode: u8,
    bcd: bool,
    gate: bool,
    /// Guest time of the load, of the gate's fall, and how long the gate was low before that, in nanoseconds.
    loaded: u64,
    stopped: u64,
    pause: u64,
}

impl Counter {
    /// A counter that nobody has programmed.
    pub fn new(guest: u64, gate: bool) -> Self {
        Self {
            count: 0x1_0000,
            latched_count: 0,
            count_latched: 0,
            status: None,
            read_state: 0,
            write_state: 0,
            write_latch: 0,
            access: 0,
            mode: NO_MODE,
            bcd: false,
            gate,
            loaded: guest,
            stopped: guest,
            pause: 0,
        }
    }

    /// Ticks from load to terminal count, or of one period: 1 to 65536.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// 0 to 5, or 7 before one was chosen.
    pub fn mode(&self) -> u8 {
        self.mode
    }

    /// The gate input.
    pub fn gate(&self) -> bool {
        self.gate
    }

    /// Whether a low gate stops the counter; in modes 1 and 5 only its rise matters.
    fn gated(&self) -> bool {
        self.mode & 3 != 1
    }

    /// Ticks since the load.
    fn ticks(&self, guest: u64) -> u64 {
        let until = if self.gate || !self.gated() { guest } else { self.stopped };
        let ns = until.saturating_sub(self.loaded).saturating_sub(self.pause);
        // Seconds apart, so that nothing exceeds 64 bits.
        let (seconds, rest) = (ns / NS_PER_SECOND, ns % NS_PER_SECOND);
        seconds * FREQUENCY + rest * FREQUENCY / NS_PER_SECOND
    }

    /// The count as the guest would read it now.
    pub fn value(&self, guest: u64) -> u16 {
        let (ticks, count) = (self.ticks(guest), u64::from(self.count));
        let modulus = if self.bcd { 10_000 } else { 0x1_0000 };
        let value = match self.mode {
            0 | 1 | 4 | 5 => (count + modulus - ticks % modulus) % modulus,
            // It counts by twos, twice a period.
            3 => count - (2 * (ticks % count)) % count,
            _ => count - ticks % count,
        };
        // Below 2^16 now.
        let value = (value % modulus) as u16;
        if self.bcd { to_bcd(value) } else { value }
    }

    /// The output.
    pub fn out(&self, guest: u64) -> bool {
        let (ticks, count) = (self.ticks(guest), u64::from(self.count));
        match self.mode {
            2 => ticks == 0 || ticks % count != count - 1,
            3 => ticks % count < count.div_ceil(2),
            4 | 5 => ticks != count,
            _ => ticks >= count,
        }
    }

    /// Starts counting from the loaded count.
    pub fn restart(&mut self, guest: u64) {
        self.loaded = guest;
        self.stopped = guest;
        self.pause = 0;
    }

    fn load_count(&mut self, written: u16, guest: u64) {
        let ticks = if self.bcd { from_bcd(written) } else { written.into() };
        self.count = match ticks {
            0 if self.bcd => 10_000,
            0 => 0x1_0000,
            ticks => ticks,
        };
        self.restart(guest);
    }

    /// A write to the counter's port. True: a new count is complete.
    pub fn write(&mut self, value: u8, guest: u64) -> bool {
        let count = match self.write_state {
            WORD_FIRST => {
                self.write_latch = value;
                self.write_state = WORD_SECOND;
                return false;
            }
            WORD_SECOND => {
                self.write_state = WORD_FIRST;
                u16::from_le_bytes([self.write_latch, value])
            }
            HIGH => u16::from_le_bytes([0, value]),
            _ => value.into(),
        };
        self.load_count(count, guest);
        true
    }

    /// A read of the counter's port: the latched status, else the latched count, else the running count.
    pub fn read(&mut self, guest: u64) -> u8 {
        if let Some(status) = self.status.take() {
            return status;
        }
        let latched = self.latched_count.to_le_bytes();
        match self.count_latched {
            0 => {}
            HIGH => {
                self.count_latched = 0;
                return latched[1];
            }
            WORD_FIRST => {
                self.count_latched = HIGH;
                return latched[0];
            }
            _ => {
                self.count_latched = 0;
                return latched[0];
            }
        }
        let running = self.value(guest).to_le_bytes();
        match self.read_state {
            WORD_FIRST => {
                self.read_state = WORD_SECOND;
                running[0]
            }
            WORD_SECOND => {
                self.read_state = WORD_FIRST;
                running[1]
            }
            HIGH => running[1],
            _ => running[0],
        }
    }

    /// Latches the count, unless an earlier latch is still to be read.
    pub fn latch_count(&mut self, guest: u64) {
        if self.count_latched == 0 {
            self.latched_count = self.value(guest);
            self.count_latched = self.access;
        }
    }

    /// Latches the status, unless an earlier one is still to be read: OUT, access, mode, BCD.
    pub fn latch_status(&mut self, guest: u64) {
        if self.status.is_none() {
            let out = u8::from(self.out(guest));
            // Mode 7, before one was chosen, fills the three bits.
            self.status = Some(out << 7 | self.access << 4 | self.mode << 1 | u8::from(self.bcd));
        }
    }

    /// A control word that is no latch command. The count goes on until a new one is written.
    pub fn set_mode(&mut self, value: u8) {
        let access = value >> 4 & 3;
        self.access = access;
        self.read_state = access;
        self.write_state = access;
        self.mode = mode(value >> 1);
        self.bcd = value & 1 != 0;
        // A count above 10000 cannot be shown in BCD; the next load makes it right.
    }

    /// Moves the gate: a low one stops the counter or not, its rise continues it or starts it over, by mode (8254, "Gate pin
    /// operations summary").
    pub fn set_gate(&mut self, gate: bool, guest: u64) {
        if self.gate == gate {
            return;
        }
        if !gate && self.gated() {
            self.stopped = guest;
        }
        if gate {
            match self.mode {
                1 | 2 | 3 | 5 => self.restart(guest),
                _ => self.pause = self.pause.saturating_add(guest.saturating_sub(self.stopped)),
            }
        }
        self.gate = gate;
    }

    /// The saved record.
    pub fn save(&self) -> HvmHwPitChannel {
        HvmHwPitChannel {
            count: self.count,
            latched_count: self.latched_count,
            count_latched: self.count_latched,
            status_latched: self.status.is_some().into(),
            status: self.status.unwrap_or(0),
            read_state: self.read_state,
            write_state: self.write_state,
            write_latch: self.write_latch,
            rw_mode: self.access,
            mode: self.mode,
            bcd: self.bcd.into(),
            gate: self.gate.into(),
        }
    }

    /// From a saved record; it starts to count now. DOM: a value that no counter can have.
    pub fn load(saved: &HvmHwPitChannel, guest: u64) -> Result<Self> {
        let states = [saved.count_latched, saved.read_state, saved.write_state];
        let flags = [saved.gate, saved.bcd];
        if saved.count > 0x1_0000
            || states.into_iter().any(|state| state > WORD_SECOND)
            || flags.into_iter().any(|flag| flag > 1)
            || saved.rw_mode > WORD_FIRST
        {
            return Err(Errno::DOM);
        }
        Ok(Self {
            count: if saved.count == 0 { 0x1_0000 } else { saved.count },
            latched_count: saved.latched_count,
            count_latched: saved.count_latched,
            status: (saved.status_latched != 0).then_some(saved.status),
            read_state: saved.read_state,
            write_state: saved.write_state,
            write_latch: saved.write_latch,
            access: saved.rw_mode,
            // Xen saves 7 or 255 for a counter without a mode.
            mode: if saved.mode >= NO_MODE { NO_MODE } else { mode(saved.mode) },
            bcd: saved.bcd != 0,
            gate: saved.gate != 0,
            ..Self::new(guest, saved.gate != 0)
        })
    }
}

/// Mode from the bits of a control word: 6 and 7 are 2 and 3.
fn mode(bits: u8) -> u8 {
    match bits & 7 {
        mode @ 6..=7 => mode - 4,
        mode => mode,
    }
}

fn from_bcd(value: u16) -> u32 {
    (0..4).rev().fold(0, |sum, digit| sum * 10 + u32::from(value >> (4 * digit) & 0xf))
}

fn to_bcd(value: u16) -> u16 {
    [1, 10, 100, 1000].iter().rev().fold(0, |bcd, unit| (bcd << 4) | (value / unit % 10))
}

#[cfg(test)]
#[path = "counter_tests.rs"]
mod tests;
