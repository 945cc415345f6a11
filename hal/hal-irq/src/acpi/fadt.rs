//! FADT: fixed power-management hardware (ACPI 6.5, 5.2.9).

use super::bytes::Bytes;

/// Which kind of address a register has (ACPI 6.5, table 5.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Space {
    /// Physical memory.
    Memory,
    /// I/O ports.
    Port,
    /// PCI configuration space of bus 0: device in bits 32 up, function in 16 up, offset in 0 up.
    PciConfig,
    /// Some other, by number.
    Other(u8),
}

/// Where a register is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GenericAddress {
    /// Kind of address.
    pub space: Space,
    /// Width of the register, in bits.
    pub bit_width: u8,
    /// The address.
    pub address: u64,
}

impl GenericAddress {
    fn parse(table: &[u8], at: usize) -> Option<GenericAddress> {
        let space = match table.u8(at)? {
            0 => Space::Memory,
            1 => Space::Port,
            2 => Space::PciConfig,
            other => Space::Other(other),
        };
        let address = table.u64(at + 4)?;
        (address != 0).then_some(GenericAddress { space, bit_width: table.u8(at + 1)?, address })
    }

    fn port(port: u32, bytes: u8) -> Option<GenericAddress> {
        let bit_width = bytes.saturating_mul(8);
        (port != 0).then_some(GenericAddress { space: Space::Port, bit_width, address: port.into() })
    }

    /// The I/O port, if it is one.
    pub fn as_port(&self) -> Option<u16> {
        (self.space == Space::Port).then(|| u16::try_from(self.address).ok()).flatten()
    }
}

/// The FADT.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Fadt {
    /// Interrupt of power-management events (an ISA number unless there are no 8259s).
    pub sci_irq: u16,
    /// Physical address of the FACS; 0 if there is none.
    pub facs: u64,
    /// Physical address of the DSDT.
    pub dsdt: u64,
    /// Event register block a: status, then enable.
    pub pm1a_event: Option<GenericAddress>,
    /// Event register block b.
    pub pm1b_event: Option<GenericAddress>,
    /// Length of an event block, in bytes.
    pub pm1_event_length: u8,
    /// Control register a.
    pub pm1a_control: Option<GenericAddress>,
    /// Control register b.
    pub pm1b_control: Option<GenericAddress>,
    /// The 3.579545 MHz timer.
    pub pm_timer: Option<GenericAddress>,
    /// The timer has 32 bits, not 24.
    pub pm_timer_32_bit: bool,
    /// Register and value that reset the machine.
    pub reset: Option<(GenericAddress, u8)>,
    /// The machine has no sleep registers of this kind (hardware-reduced ACPI).
    pub hardware_reduced: bool,
    /// CMOS index of the century; 0 if there is none.
    pub century: u8,
    /// IA-PC boot flags: bit 1 is an 8042, bit 5 is no CMOS clock.
    pub boot_flags: u16,
}

impl Fadt {
    /// Reads a whole table, header included. Fields past its end are absent.
    pub fn parse(table: &[u8]) -> Fadt {
        let legacy = |at, length| GenericAddress::port(table.u32(at)?, table.u8(length)?);
        let register = |extended, at, length| GenericAddress::parse(table, extended).or_else(|| legacy(at, length));
        let flags = table.u32(112).unwrap_or(0);
        let wide = |extended, at| {
            let full = table.u64(extended).filter(|address| *address != 0);
            full.unwrap_or_else(|| table.u32(at).unwrap_or(0).into())
        };
        let reset = GenericAddress::parse(table, 116).zip(table.u8(128)).filter(|_| flags & 1 << 10 != 0);
        Fadt {
            sci_irq: table.u16(46).unwrap_or(0),
            facs: wide(132, 36),
            dsdt: wide(140, 40),
            pm1a_event: register(148, 56, 88),
            pm1b_event: register(160, 60, 88),
            pm1_event_length: table.u8(88).unwrap_or(0),
            pm1a_control: register(172, 64, 89),
            pm1b_control: register(184, 68, 89),
            pm_timer: register(208, 76, 91),
            pm_timer_32_bit: flags & 1 << 8 != 0,
            reset,
            hardware_reduced: flags & 1 << 20 != 0,
            century: table.u8(108).unwrap_or(0),
            boot_flags: table.u16(109).unwrap_or(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefers_extended_addresses_and_bears_short_tables() {
        let mut table = vec![0; 244];
        table[46] = 9;
        table[40..44].copy_from_slice(&0x1000u32.to_le_bytes());
        table[64..68].copy_from_slice(&0x604u32.to_le_bytes());
        table[89] = 2;
        table[76..80].copy_from_slice(&0x608u32.to_le_bytes());
        table[91] = 4;
        table[112..116].copy_from_slice(&(1u32 << 10 | 1 << 8).to_le_bytes());
        table[116..128].copy_from_slice(&[1, 8, 0, 1, 0xf9, 0xc, 0, 0, 0, 0, 0, 0]);
        table[128] = 0xf;
        table[172..184].copy_from_slice(&[1, 16, 0, 2, 0x04, 0x07, 0, 0, 0, 0, 0, 0]);
        let fadt = Fadt::parse(&table);
        assert_eq!((fadt.sci_irq, fadt.dsdt), (9, 0x1000));
        assert_eq!(fadt.pm1a_control.unwrap().as_port(), Some(0x704));
        assert_eq!(fadt.pm_timer.unwrap(), GenericAddress { space: Space::Port, bit_width: 32, address: 0x608 });
        assert!(fadt.pm_timer_32_bit);
        let (register, value) = fadt.reset.unwrap();
        assert_eq!((register.as_port(), value), (Some(0xcf9), 0xf));
        assert_eq!(fadt.pm1b_control, None);
        let old = Fadt::parse(&table[..116]);
        assert_eq!(old.pm1a_control.unwrap().as_port(), Some(0x604));
        assert_eq!(old.reset, None);
    }
}
