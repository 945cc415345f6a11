//! A 16550 serial line, polled (PC16550D data sheet, section 8).

use crate::ports;

const INTERRUPT_ENABLE: u16 = 1;
const FIFO_CONTROL: u16 = 2;
const LINE_CONTROL: u16 = 3;
const MODEM_CONTROL: u16 = 4;
const LINE_STATUS: u16 = 5;
const DATA_READY: u8 = 1;
const TRANSMITTER_EMPTY: u8 = 1 << 5;
/// Rounds of waiting for one byte to leave, after which the line counts as broken: more than a byte takes at 1200 baud.
const PATIENCE: u32 = 1_000_000;

/// How a serial line is set up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Bits a second; `None` leaves the line as the firmware has set it.
    pub baud: Option<u32>,
    /// Data bits, 5 to 8.
    pub data_bits: u8,
    /// Parity: n, o, e, m or s.
    pub parity: u8,
    /// Stop bits, 1 or 2.
    pub stop_bits: u8,
    /// First I/O port.
    pub port: u16,
    /// Interrupt line; 0 is none.
    pub irq: u8,
}

impl Settings {
    /// COM1 as most firmware has it.
    pub const COM1: Settings =
        Settings { baud: Some(115_200), data_bits: 8, parity: b'n', stop_bits: 1, port: 0x3f8, irq: 4 };
    /// COM2.
    pub const COM2: Settings = Settings { port: 0x2f8, irq: 3, ..Settings::COM1 };

    /// Value of the line-control register.
    fn line_control(&self) -> u8 {
        let parity = match self.parity {
            b'o' => 0x08,
            b'e' => 0x18,
            b'm' => 0x28,
            b's' => 0x38,
            _ => 0,
        };
        (self.data_bits.clamp(5, 8) - 5) | if self.stop_bits == 2 { 4 } else { 0 } | parity
    }
}

/// A line that answers.
#[derive(Clone, Copy, Debug)]
pub struct Uart {
    port: u16,
}

impl Uart {
    /// Sets the line up. `None` if there is none at that port.
    pub fn open(settings: &Settings) -> Option<Uart> {
        let port = settings.port;
        if ports::read8(port + LINE_STATUS) == 0xff {
            return None;
        }
        ports::write8(port + INTERRUPT_ENABLE, 0);
        let control = settings.line_control();
        if let Some(baud) = settings.baud {
            let divisor = (115_200 / baud.max(1)).clamp(1, 0xffff) as u16;
            ports::write8(port + LINE_CONTROL, 0x80 | control);
            ports::write8(port, divisor as u8);
            ports::write8(port + INTERRUPT_ENABLE, (divisor >> 8) as u8);
        }
        ports::write8(port + LINE_CONTROL, control);
        ports::write8(port + FIFO_CONTROL, 0x07);
        ports::write8(port + MODEM_CONTROL, 0x03);
        Some(Uart { port })
    }

    /// A line that was opened before, at that port.
    pub const fn at(port: u16) -> Uart {
        Uart { port }
    }

    /// Sends a byte; false if the line does not take it.
    pub fn send(&self, byte: u8) -> bool {
        for _ in 0..PATIENCE {
            if ports::read8(self.port + LINE_STATUS) & TRANSMITTER_EMPTY != 0 {
                ports::write8(self.port, byte);
                return true;
            }
            core::hint::spin_loop();
        }
        false
    }

    /// Takes a byte that has arrived.
    pub fn receive(&self) -> Option<u8> {
        let status = ports::read8(self.port + LINE_STATUS);
        if status == 0xff || status & DATA_READY == 0 { None } else { Some(ports::read8(self.port)) }
    }

    /// Makes arriving bytes raise the line's interrupt.
    pub fn enable_receive_interrupt(&self) {
        ports::write8(self.port + MODEM_CONTROL, 0x0b);
        ports::write8(self.port + INTERRUPT_ENABLE, 0x01);
    }
}
