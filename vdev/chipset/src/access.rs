//! Accesses of the guest to registers.

use crate::Chipset;
use virq::Bus;
use vtimer::all_ones;

/// First port and number of ports of each 8259, and of their edge/level registers.
const PIC: [(u16, u16); 4] = [(0x20, 2), (0xa0, 2), (0x4d0, 1), (0x4d1, 1)];
/// Those of the interval timer and of the speaker.
const PIT: [(u16, u16); 2] = [(vpit::PORT, 4), (vpit::SPEAKER_PORT, 1)];
/// Those of the real-time clock.
const RTC: [(u16, u16); 1] = [(vrtc::PORT, 2)];

/// Whether an access lies within one of the ranges. One that is only in part in it is nobody's here, as on Xen.
fn within(ranges: &[(u16, u16)], port: u16, size: u8) -> bool {
    ranges.iter().any(|&(first, count)| {
        let from = port.wrapping_sub(first);
        from < count && u16::from(size) <= count - from
    })
}

/// Whether a port is a device's here, whatever is accessed at it; the ports of power management aside, which a guest may have
/// elsewhere.
pub fn owns_port(port: u16) -> bool {
    within(&PIC, port, 1) || within(&PIT, port, 1) || within(&RTC, port, 1)
}

/// Whether an address is a device's here.
pub fn owns_address(gpa: u64) -> bool {
    let within = |base: u64, length: u64| gpa.checked_sub(base).is_some_and(|offset| offset < length);
    within(vioapic::ADDRESS, vioapic::LENGTH) || within(vhpet::BASE, vhpet::SIZE)
}

impl Chipset {
    /// A read by which no line rises and no deadline comes earlier, as those by which guests measure time. `None`: it may be more, and
    /// [`Chipset::port`] has to do it.
    #[inline]
    pub fn read_quietly(&mut self, port: u16, size: u8, steady: u64) -> Option<u32> {
        let now = self.now(steady);
        if size != 1 {
            return self.pm.read_quietly(port, size, now);
        }
        if vpit::Pit::owns(port) {
            return Some(self.pit.read(port, 1, now));
        }
        let pic = || self.virq.pic().and_then(|pic| pic.read_quietly(port));
        pic().or_else(|| self.rtc.read_quietly(port, now)).map(u32::from)
    }

    /// An access of `size` bytes (1, 2 or 4) at a port: what is read there; of a write, anything. Nothing: it is a device
    /// emulator's.
    pub fn port(&mut self, port: u16, size: u8, write: Option<u32>, steady: u64, bus: &mut impl Bus) -> Option<u32> {
        let now = self.now(steady);
        if within(&PIC, port, size) {
            return Some(self.access_pic(port, size, write, bus));
        }
        if within(&PIT, port, size) {
            return Some(match write {
                None => self.pit.read(port, size, now),
                Some(value) => {
                    self.pit.write(port, size, value, now);
                    0
                }
            });
        }
        let (value, action) = if within(&RTC, port, size) {
            match write {
                None => self.rtc.read(port, size, now)?,
                Some(value) => (0, self.rtc.write(port, size, value, now)?),
            }
        } else if self.pm.owns(port, size) {
            match write {
                None => self.pm.read(port, size, now),
                Some(value) => (0, self.pm.write(port, size, value, now)),
            }
        } else {
            return None;
        };
        self.act(action, bus);
        Some(value)
    }

    /// The 8259s have only bytes.
    fn access_pic(&mut self, port: u16, size: u8, write: Option<u32>, bus: &mut impl Bus) -> u32 {
        match write {
            _ if size != 1 => all_ones(size.min(4)) as u32,
            None => self.virq.read_pic(port).into(),
            Some(value) => {
                // One byte.
                self.unmasking(bus, |virq, bus| virq.write_pic(port, value as u8, bus));
                0
            }
        }
    }

    /// An access of `size` bytes (1 to 8) at a guest-physical address: what is read there; of a write, anything. Nothing: it is
    /// no device's here. The first byte says whose it is.
    pub fn memory(&mut self, gpa: u64, size: u8, write: Option<u64>, steady: u64, bus: &mut impl Bus) -> Option<u64> {
        let offset_in = |base: u64, length: u64| gpa.checked_sub(base).filter(|&offset| offset < length);
        if let Some(offset) = offset_in(vioapic::ADDRESS, vioapic::LENGTH) {
            // Below 256; the registers have 32 bits.
            let offset = offset as u32;
            return Some(match write {
                None => u64::from(self.virq.read_ioapic(offset)) & all_ones(size),
                Some(value) => {
                    self.unmasking(bus, |virq, bus| virq.write_ioapic(offset, value as u32, bus));
                    0
                }
            });
        }
        let offset = offset_in(vhpet::BASE, vhpet::SIZE)?;
        let now = self.now(steady);
        Some(match write {
            _ if !self.hpet_enabled => all_ones(size),
            None => self.hpet.read(offset, size, now),
            Some(value) => {
                let action = self.hpet.write(offset, size, value, now);
                self.act(action, bus);
                0
            }
        })
    }
}
