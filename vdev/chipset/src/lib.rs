//! The devices of a PC's mainboard that an HVM guest finds inside the hypervisor: both 8259s, I/O APIC, interval timer,
//! real-time clock, HPET, and ACPI's timer and buttons; each a crate, joined here. PVH guests have none of them, and nobody has
//! only some: Xen refuses such domains (`XEN_X86_EMU_*`).
//!
//! Time is given, in nanoseconds of the steady clock, messages go to a [`Bus`], and the owner locks the whole, as any vCPU and any
//! device emulator may come. What the owner has to do:
//!
//! - [`Chipset::port`] and [`Chipset::memory`] for what the guest accesses; what answers nothing is a device emulator's.
//! - [`Chipset::tick`] at [`Chipset::next_deadline`], on time even if no vCPU runs: what becomes of ticks that the guest cannot
//!   take is the timers' affair (`vtimer::MissedTicks`).
//! - While [`Chipset::awaits_delivery`]: before it enters a vCPU, [`Chipset::renew`]; and [`Chipset::delivered`] for each
//!   interrupt that a vCPU takes.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod access;
mod records;
mod ticks;

use types::Result;
use vhpet::Hpet;
use virq::{Controllers, Virq};
use vpit::Pit;
use vpmtimer::PmTimer;
use vrtc::Rtc;
use vtimer::{GuestClock, Now};

pub use access::{owns_address, owns_port};
pub use ticks::Taken;
pub use virq::Bus;
pub use vrtc::WallTime;
pub use vtimer::{MissedTicks, Rules};

/// All of a domain's devices.
#[derive(Clone, Debug)]
pub struct Chipset {
    virq: Virq,
    clock: GuestClock,
    pit: Pit,
    rtc: Rtc,
    hpet: Hpet,
    /// `HVM_PARAM_HPET_ENABLED`: else the guest reads all ones.
    hpet_enabled: bool,
    pm: PmTimer,
    /// Seconds by which the guest has moved its wall clock since the owner last asked.
    time_offset: i64,
}

impl Chipset {
    /// The devices after power-on at `steady`, at which the guest's time is 0. `wall` is the domain's wall clock when the steady
    /// clock is 0.
    pub fn new(steady: u64, wall: WallTime, rules: Rules) -> Chipset {
        let clock = GuestClock::new(steady, 0);
        let now = clock.now(steady);
        Chipset {
            virq: Virq::new(Controllers::All),
            clock,
            pit: Pit::new(now, rules),
            rtc: Rtc::new(wall, now, rules),
            hpet: Hpet::new(rules),
            hpet_enabled: false,
            pm: PmTimer::new(now),
            time_offset: 0,
        }
    }

    /// Interrupt lines and controllers, to look at.
    pub fn virq(&self) -> &Virq {
        &self.virq
    }

    /// Interrupt lines and controllers, to move lines, end interrupts, and take those of the 8259s. Their registers are for
    /// [`Chipset::port`] and [`Chipset::memory`], which see to the clocks as well.
    pub fn virq_mut(&mut self) -> &mut Virq {
        &mut self.virq
    }

    /// What becomes of ticks that the guest misses (`HVM_PARAM_TIMER_MODE`, `HVM_PARAM_VPT_ALIGN`).
    pub fn set_rules(&mut self, rules: Rules) {
        self.pit.set_rules(rules);
        self.rtc.set_rules(rules);
        self.hpet.set_rules(rules);
    }

    /// Whether the guest finds an HPET (`HVM_PARAM_HPET_ENABLED`).
    pub fn enable_hpet(&mut self, enabled: bool) {
        self.hpet_enabled = enabled;
    }

    /// Where ACPI's ports are (`HVM_PARAM_ACPI_IOPORTS_LOCATION`).
    ///
    /// # Errors
    /// `EINVAL`: there is no such version.
    pub fn set_acpi_location(&mut self, version: u64) -> Result<()> {
        self.pm.set_location(version)
    }

    /// The domain's wall clock was set: `wall` is what it shows when the steady clock is 0.
    pub fn set_wall_clock(&mut self, wall: WallTime, steady: u64) {
        self.rtc.set_wall_clock(wall, self.clock.now(steady));
    }

    /// Seconds by which the guest has moved its wall clock since the last call, for the domain's time offset and the device
    /// emulators (`IOREQ_TYPE_TIMEOFFSET`).
    pub fn take_time_offset(&mut self) -> i64 {
        core::mem::take(&mut self.time_offset)
    }

    /// All devices as after a reset of the machine, which wakes from ACPI's sleep: lines that others hold stay up, and the clock
    /// with its battery goes on.
    pub fn reset(&mut self, steady: u64, bus: &mut impl Bus) {
        let now = self.now(steady);
        let action = self.hpet.reset();
        self.act(action, bus);
        self.pit.reset(now);
        self.rtc.reset();
        self.pm.reset(now);
        self.virq.reset();
    }

    /// The power button is pressed (`XEN_DOMCTL_sendtrigger`).
    pub fn power_button(&mut self, steady: u64, bus: &mut impl Bus) {
        let action = self.pm.power_button(self.now(steady));
        self.act(action, bus);
    }

    /// The sleep button is pressed.
    pub fn sleep_button(&mut self, steady: u64, bus: &mut impl Bus) {
        let action = self.pm.sleep_button(self.now(steady));
        self.act(action, bus);
    }

    fn now(&self, steady: u64) -> Now {
        self.clock.now(steady)
    }
}
