//! The two 8259A interrupt controllers of a PC (datasheet 8259A; edge/level registers as in the 82371), as Xen has them for
//! HVM guests: ports 0x20, 0x21, 0xa0, 0xa1, 0x4d0 and 0x4d1, the slave on the master's line 2.
//!
//! [`Vpic::raise`] and [`Vpic::lower`] are the 16 lines, [`Vpic::output`] is the wire to the CPU, [`Vpic::acknowledge`] the
//! CPU's answer to it. No time passes in the device, and nothing of it is shared. Unlike Xen's, a poll answers as in the
//! datasheet: bit 7 says whether there was an interrupt, and only the polled chip acknowledges.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod chip;
mod save;

use chip::Chip;

/// The line of the master that the slave is on.
const CASCADE: u8 = 2;

/// What a write to a port did that others want to know.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[must_use]
pub struct Effect {
    /// The output went from low to high: the vCPU that takes it is to look.
    pub output_rose: bool,
    /// The interrupt (0 to 15) whose end the guest told by number.
    pub ended: Option<u8>,
    /// Lines that were unmasked, a bit each.
    pub unmasked: u16,
}

/// Master and slave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vpic {
    chips: [Chip; 2],
}

impl Default for Vpic {
    fn default() -> Vpic {
        Vpic::new()
    }
}

impl Vpic {
    /// Both chips after power-on.
    pub const fn new() -> Vpic {
        Vpic { chips: [Chip::new(true), Chip::new(false)] }
    }

    /// The wire to the CPU.
    pub const fn output(&self) -> bool {
        self.chips[0].output
    }

    /// A rising edge of line `irq` (below 16; line 2 is the slave's). True if the output rose.
    pub fn raise(&mut self, irq: u8) -> bool {
        self.set_line(irq, true)
    }

    /// A falling edge of line `irq`: the request is withdrawn if it was not taken yet.
    pub fn lower(&mut self, irq: u8) {
        self.set_line(irq, false);
    }

    fn set_line(&mut self, irq: u8, high: bool) -> bool {
        if irq == CASCADE || irq > 15 {
            return false;
        }
        self.chips[usize::from(irq >> 3)].set_request(irq & 7, high);
        self.settle()
    }

    /// Takes the interrupt of highest priority, as the CPU's two INTA cycles do, and gives its vector. Nothing if the output
    /// is low.
    pub fn acknowledge(&mut self) -> Option<u8> {
        if !self.output() {
            return None;
        }
        let line = self.chips[0].acknowledge();
        let vector = match line {
            CASCADE => self.chips[1].acknowledge() | self.chips[1].base(),
            _ => line | self.chips[0].base(),
        };
        self.settle();
        Some(vector)
    }

    /// What a port reads, where nothing follows from it: no poll is answered by it.
    #[inline]
    pub fn read_quietly(&self, port: u16) -> Option<u8> {
        let chip = &self.chips[usize::from(port >> 7 & 1)];
        (matches!(port, 0x21 | 0xa1) && !chip.is_polled()).then(|| chip.mask())
    }

    /// Reads one of the ports that the crate's description lists; others read all ones.
    pub fn read(&mut self, port: u16) -> u8 {
        let value = match port {
            0x20 | 0xa0 => self.chips[usize::from(port >> 7)].read_command(),
            0x21 | 0xa1 => self.chips[usize::from(port >> 7)].read_data(),
            0x4d0 | 0x4d1 => self.chips[usize::from(port & 1)].read_levels(),
            _ => return 0xff,
        };
        // A poll takes an interrupt.
        self.settle();
        value
    }

    /// Writes one of the ports; a write to another does nothing.
    pub fn write(&mut self, port: u16, value: u8) -> Effect {
        let slave = usize::from(match port {
            0x20 | 0x21 | 0xa0 | 0xa1 => port >> 7,
            0x4d0 | 0x4d1 => port & 1,
            _ => return Effect::default(),
        });
        let first = slave as u8 * 8;
        let chip = &mut self.chips[slave];
        let masked = chip.mask();
        let mut effect = Effect::default();
        match port {
            0x20 | 0xa0 => effect.ended = chip.write_command(value).map(|line| line + first),
            0x21 | 0xa1 => chip.write_data(value),
            _ => chip.write_levels(value),
        }
        effect.unmasked = u16::from(masked & !chip.mask()) << first;
        effect.output_rose = self.settle();
        effect
    }

    /// Whether line `irq` is masked at its chip.
    pub fn is_masked(&self, irq: u8) -> bool {
        self.chips[usize::from(irq >> 3 & 1)].mask() >> (irq & 7) & 1 != 0
    }

    /// Whether line `irq` has a request that was not taken.
    pub fn is_requested(&self, irq: u8) -> bool {
        self.chips[usize::from(irq >> 3 & 1)].request >> (irq & 7) & 1 != 0
    }

    /// The vector of line `irq`.
    pub fn vector(&self, irq: u8) -> u8 {
        self.chips[usize::from(irq >> 3 & 1)].base() | irq & 7
    }

    /// Brings both outputs up to date, the slave's first: it is an input of the master. True if the master's rose.
    fn settle(&mut self) -> bool {
        let [master, slave] = &mut self.chips;
        slave.update_output();
        master.set_request(CASCADE, slave.output);
        master.update_output()
    }
}
