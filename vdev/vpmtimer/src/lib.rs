//! The ACPI timer of an HVM or PVH guest, and the fixed events: PM1a status and enable registers.
//!
//! ACPI 4.0, 4.7.3.1 ("PM1 event grouping") and 4.7.3.3 ("Power management timer"): 3.579545 MHz, here 32 bits wide. The
//! block PM1a_CNT between the two is the device model's.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

use types::{Errno, Result};
use vtimer::{Action, Change, Line, NS_PER_SECOND, Now, all_ones};
use xen_abi::hvm_save::clocks::HvmHwPmtimer;

/// Frequency of the timer in Hz.
pub const FREQUENCY: u64 = 3_579_545;
/// The interrupt of the fixed events (SCI), by level.
pub const LINE: Line = Line::Isa(9);

/// First port of the event registers, by `HVM_PARAM_ACPI_IOPORTS_LOCATION` (hvm/ioreq.h, `ACPI_PM1A_EVT_BLK_ADDRESS_V*`).
const BASES: [u16; 2] = [0x1f40, 0xb000];
/// The timer's first port, from the base.
const TIMER: u16 = 8;
/// Bytes of each of the two blocks.
const BLOCK: u16 = 4;

/// Bits of the status register, and of the enable register: the timer's top bit changed, the global lock, the buttons.
const TIMER_STATUS: u16 = 1 << 0;
const GLOBAL_STATUS: u16 = 1 << 5;
const POWER_BUTTON: u16 = 1 << 8;
const SLEEP_BUTTON: u16 = 1 << 9;
/// Those of them that can interrupt.
const EVENTS: u16 = TIMER_STATUS | GLOBAL_STATUS | POWER_BUTTON | SLEEP_BUTTON;

/// Ticks between two changes of the timer's top bit.
const HALF: u64 = 1 << 31;
/// Ticks a nanosecond, as a fraction of 2^32.
const SCALE: u64 = (FREQUENCY << 32) / NS_PER_SECOND;

/// What answers at a port.
enum Block {
    Events(u16),
    Timer,
}

/// ACPI timer and event registers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PmTimer {
    base: u16,
    count: u32,
    /// Part of the next tick that has passed, of 2^32.
    fraction: u32,
    /// Guest time to which `count` and `fraction` belong.
    counted: u64,
    status: u16,
    enable: u16,
}

impl PmTimer {
    /// At the ports of version 0, counting from 0.
    pub fn new(now: Now) -> Self {
        Self { base: BASES[0], count: 0, fraction: 0, counted: now.guest, status: 0, enable: 0 }
    }

    /// Moves the ports (`HVM_PARAM_ACPI_IOPORTS_LOCATION`). INVAL: there is no such version.
    pub fn set_location(&mut self, version: u64) -> Result<()> {
        let base = usize::try_from(version).ok().and_then(|version| BASES.get(version));
        self.base = *base.ok_or(Errno::INVAL)?;
        Ok(())
    }

    /// Whether it answers an access to `size` bytes at `port`.
    pub fn owns(&self, port: u16, size: u8) -> bool {
        self.block(port, size).is_some()
    }

    /// Reads `size` bytes. The timer can only be read as a whole; else it gives all ones.
    pub fn read(&mut self, port: u16, size: u8, now: Now) -> (u32, Action) {
        let ones = all_ones(size.min(4)) as u32;
        match self.block(port, size) {
            Some(Block::Events(offset)) => {
                let action = self.tick(now);
                let registers = u32::from(self.status) | u32::from(self.enable) << 16;
                (registers >> (8 * offset) & ones, action)
            }
            Some(Block::Timer) if size == 4 => {
                let action = self.tick(now);
                (self.count, action)
            }
            _ => (ones, Action::NONE),
        }
    }

    /// The same of the timer as a whole, where its top bit does not interrupt, so that nothing else follows from it.
    #[inline]
    pub fn read_quietly(&mut self, port: u16, size: u8, now: Now) -> Option<u32> {
        let is_timer = size == 4 && matches!(self.block(port, size), Some(Block::Timer));
        if !is_timer || self.enable & TIMER_STATUS != 0 {
            return None;
        }
        let _same_line = self.tick(now);
        Some(self.count)
    }

    /// Writes `size` bytes: ones clear status bits; the timer cannot be written.
    pub fn write(&mut self, port: u16, size: u8, value: u32, now: Now) -> Action {
        let Some(Block::Events(offset)) = self.block(port, size) else { return Action::NONE };
        self.change(now, |this| {
            let mask = (all_ones(size) as u32) << (8 * offset);
            let value = value << (8 * offset) & mask;
            // Both halves are 16 bits.
            this.status &= !(value as u16);
            this.enable = this.enable & !((mask >> 16) as u16) | (value >> 16) as u16;
        })
    }

    /// The power button is pressed (`XEN_DOMCTL_sendtrigger`).
    pub fn power_button(&mut self, now: Now) -> Action {
        self.change(now, |this| this.status |= POWER_BUTTON)
    }

    /// The sleep button is pressed.
    pub fn sleep_button(&mut self, now: Now) -> Action {
        self.change(now, |this| this.status |= SLEEP_BUTTON)
    }

    /// When [`PmTimer::tick`] wants to be called, in steady time: at the next change of the top bit, if that interrupts.
    pub fn next_deadline(&self, now: Now) -> Option<u64> {
        if self.enable & TIMER_STATUS == 0 || self.status & TIMER_STATUS != 0 {
            return None;
        }
        let left = ((HALF - u64::from(self.count) % HALF) << 32) - u64::from(self.fraction);
        Some(now.when(self.counted.saturating_add(left.div_ceil(SCALE))))
    }

    /// Counts up to `now`.
    pub fn tick(&mut self, now: Now) -> Action {
        self.change(now, |_| ())
    }

    /// The line as it stands.
    pub fn line(&self) -> Action {
        Action::one(LINE, if self.interrupts() { Change::Raise } else { Change::Lower })
    }

    /// Starts the counter over (a reset of the domain).
    pub fn reset(&mut self, now: Now) {
        (self.count, self.fraction, self.counted) = (0, 0, now.guest);
    }

    /// The saved record.
    pub fn save(&self, now: Now) -> HvmHwPmtimer {
        let mut counted = self.clone();
        counted.count_up(now.guest);
        HvmHwPmtimer { tmr_val: counted.count, pm1a_sts: counted.status, pm1a_en: counted.enable }
    }

    /// Takes over a saved record; the counter goes on from now. The action sets the line. It always succeeds.
    pub fn load(&mut self, record: &HvmHwPmtimer, now: Now) -> Result<Action> {
        self.reset(now);
        (self.count, self.status, self.enable) = (record.tmr_val, record.pm1a_sts, record.pm1a_en);
        Ok(self.line())
    }

    fn block(&self, port: u16, size: u8) -> Option<Block> {
        let offset = port.checked_sub(self.base)?;
        let inside = |first: u16| offset >= first && offset - first + u16::from(size) <= BLOCK;
        match size {
            1 | 2 | 4 if inside(0) => Some(Block::Events(offset)),
            1 | 2 | 4 if inside(TIMER) => Some(Block::Timer),
            _ => None,
        }
    }

    fn interrupts(&self) -> bool {
        self.status & self.enable & EVENTS != 0
    }

    /// Counts up to `now`, makes a change, and moves the line if that changed it.
    fn change(&mut self, now: Now, change: impl FnOnce(&mut Self)) -> Action {
        let before = self.interrupts();
        self.count_up(now.guest);
        change(self);
        if self.interrupts() == before { Action::NONE } else { self.line() }
    }

    fn count_up(&mut self, guest: u64) {
        let Some(passed) = guest.checked_sub(self.counted) else { return };
        let ticks = u128::from(passed) * u128::from(SCALE) + u128::from(self.fraction);
        // Kept modulo 2^32 each.
        self.fraction = ticks as u32;
        let count = u128::from(self.count) + (ticks >> 32);
        if count / u128::from(HALF) != u128::from(self.count) / u128::from(HALF) {
            self.status |= TIMER_STATUS;
        }
        self.count = count as u32;
        self.counted = guest;
    }
}
