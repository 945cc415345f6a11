//! The console: a serial line, a ring of recent output, and the back end of the `log` crate.

mod ring;
mod uart;

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use platform::sync::Mutex;
use ring::Ring;
pub use uart::Settings;
use uart::Uart;

/// What precedes each line of the hypervisor.
const PREFIX: &[u8] = b"(XEN) ";

struct Console {
    ring: Ring,
    uart: Option<Uart>,
    in_line: bool,
}

// All of it zero, so that the ring takes no room in the image.
static CONSOLE: Mutex<Console> = Mutex::new(Console { ring: Ring::new(), uart: None, in_line: false });
/// Port and irq of the open line (port << 8 | irq), for those that must not take the lock; 0 is none.
static LINE: AtomicU32 = AtomicU32::new(0);
/// Whether the ring has got something since [`has_news`] was last asked.
static NEWS: AtomicBool = AtomicBool::new(false);
static SYNCHRONOUS: AtomicBool = AtomicBool::new(false);
/// Highest `log::Level` that is printed for messages of the hypervisor, and for messages about guests.
static LEVELS: [AtomicU8; 2] = [AtomicU8::new(log::Level::Info as u8), AtomicU8::new(log::Level::Warn as u8)];

/// Target of `log` messages that guests provoke: `guest_loglvl` filters them instead of `loglvl`.
pub const GUEST: &str = "guest";

impl Console {
    fn send(&mut self, byte: u8) {
        let Some(uart) = self.uart else { return };
        if byte == b'\n' {
            uart.send(b'\r');
        }
        if !uart.send(byte) {
            self.uart = None;
        }
    }

    /// Prints bytes of the hypervisor: with the prefix, and into the ring.
    fn print(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if !self.in_line {
                self.ring.write(PREFIX);
                PREFIX.iter().for_each(|byte| self.send(*byte));
            }
            self.in_line = *byte != b'\n';
            self.ring.write(&[*byte]);
            self.send(*byte);
        }
        NEWS.store(true, Ordering::Relaxed);
    }
}

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.print(text.as_bytes());
        Ok(())
    }
}

struct Logger;

impl log::Log for Logger {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        let level = &LEVELS[usize::from(metadata.target() == GUEST)];
        metadata.level() as u8 <= level.load(Ordering::Relaxed)
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            print(format_args!("{}\n", record.args()));
        }
    }

    fn flush(&self) {}
}

/// Opens the serial line with the settings that most machines have, and takes over the `log` crate. First thing at boot.
pub(crate) fn early_init() {
    open(&Settings::COM1);
    // An earlier logger could only be this one.
    let _ = log::set_logger(&Logger);
    log::set_max_level(log::LevelFilter::Trace);
}

/// Opens the line anew. False if there is none at that port; then there is no output but the ring.
pub fn open(settings: &Settings) -> bool {
    let uart = Uart::open(settings);
    CONSOLE.lock().uart = uart;
    let line = u32::from(settings.port) << 8 | u32::from(settings.irq);
    LINE.store(if uart.is_some() { line } else { 0 }, Ordering::Relaxed);
    uart.is_some()
}

/// Sets the highest levels that are printed: for the hypervisor's messages, and for those about guests. `None` is nothing.
pub fn set_levels(own: Option<log::Level>, guests: Option<log::Level>) {
    LEVELS[0].store(own.map_or(0, |level| level as u8), Ordering::Relaxed);
    LEVELS[1].store(guests.map_or(0, |level| level as u8), Ordering::Relaxed);
}

/// Prints text of the hypervisor, whatever the levels.
pub fn print(arguments: fmt::Arguments<'_>) {
    // The console's writer never fails.
    let _ = CONSOLE.lock().write_fmt(arguments);
}

/// Prints a guest's console output as it is, on the line only.
pub fn write_raw(bytes: &[u8]) {
    let mut console = CONSOLE.lock();
    for byte in bytes {
        console.send(*byte);
    }
    if let Some(last) = bytes.last() {
        console.in_line = *last != b'\n';
    }
}

/// Copies recent output as `XEN_SYSCTL_readconsole` does: from position `from` on, or from the oldest byte kept; then
/// forgets what was read, if `clear`. Gives the number of bytes and the position behind them.
pub fn read(from: Option<u32>, clear: bool, to: &mut [u8]) -> (usize, u32) {
    let mut console = CONSOLE.lock();
    let (count, position) = console.ring.read(from, to);
    if clear {
        console.ring.clear_to(position);
    }
    (count, position)
}

/// Whether there is output of the hypervisor since this was last asked; cheap while there is none.
pub fn has_news() -> bool {
    NEWS.load(Ordering::Relaxed) && NEWS.swap(false, Ordering::Relaxed)
}

/// Takes a byte that has arrived on the line.
pub fn receive() -> Option<u8> {
    CONSOLE.lock().uart.as_ref().and_then(Uart::receive)
}

/// Makes arriving bytes raise the line's interrupt; gives the ISA interrupt number, `None` if the line has none.
pub fn enable_receive_interrupt() -> Option<u8> {
    let irq = LINE.load(Ordering::Relaxed) as u8;
    let console = CONSOLE.lock();
    let uart = console.uart.as_ref()?;
    if irq == 0 {
        return None;
    }
    uart.enable_receive_interrupt();
    Some(irq)
}

/// First I/O port of the open line, which no guest may have.
pub fn line_port() -> Option<u16> {
    let line = LINE.load(Ordering::Relaxed);
    (line != 0).then_some((line >> 8) as u16)
}

/// Writer for panics: takes no lock that another CPU may hold for good. Each line gets the prefix.
pub struct Emergency {
    line_start: bool,
}

impl Emergency {
    /// A writer, on a fresh line.
    pub fn new() -> Emergency {
        let mut writer = Emergency { line_start: true };
        if !SYNCHRONOUS.swap(true, Ordering::Relaxed) && CONSOLE.try_lock().is_none_or(|console| console.in_line) {
            writer.send(b"\r\n");
        }
        writer
    }

    fn send(&mut self, bytes: &[u8]) {
        let line = LINE.load(Ordering::Relaxed);
        if line != 0 {
            let uart = Uart::at((line >> 8) as u16);
            for byte in bytes {
                uart.send(*byte);
            }
        }
        if let Some(mut console) = CONSOLE.try_lock() {
            console.ring.write(bytes);
        }
    }
}

impl Default for Emergency {
    fn default() -> Emergency {
        Emergency::new()
    }
}

impl Write for Emergency {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if self.line_start {
                self.send(PREFIX);
            }
            self.line_start = byte == b'\n';
            self.send(if self.line_start { b"\r\n" } else { core::slice::from_ref(&byte) });
        }
        Ok(())
    }
}
