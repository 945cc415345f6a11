//! The serial console: dom0's output and input, and the hypervisor's debug keys.

use crate::irq;
use crate::machine::X86;
use alloc::string::String;
use domain::Hypervisor;
use hal::cmdline::Options;
use platform::sync::Mutex;
use types::DomId;
use xen_abi::xen::{VIRQ_CON_RING, VIRQ_CONSOLE};

/// Bytes of input that wait for dom0; more are lost.
const WAITING: usize = 128;
/// Typed three times in a row, it changes who gets the input: Ctrl-a.
const SWITCH: u8 = 1;
/// How often.
const SWITCH_COUNT: u8 = 3;

/// What a byte of input leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Effect {
    /// Nothing.
    Nothing,
    /// There is input for dom0.
    Notify,
    /// Who gets the input has changed.
    Switched,
    /// A debug key.
    Key(u8),
}

/// Input on its way.
struct Input {
    bytes: [u8; WAITING],
    first: usize,
    count: usize,
    /// It goes to the hypervisor.
    to_hypervisor: bool,
    /// How many [`SWITCH`] have come in a row.
    switches: u8,
}

impl Input {
    const fn new() -> Input {
        Input { bytes: [0; WAITING], first: 0, count: 0, to_hypervisor: false, switches: 0 }
    }

    fn push(&mut self, byte: u8) {
        if self.count < WAITING {
            self.bytes[(self.first + self.count) % WAITING] = byte;
            self.count += 1;
        }
    }

    fn take(&mut self, to: &mut [u8]) -> usize {
        let count = self.count.min(to.len());
        for byte in &mut to[..count] {
            *byte = self.bytes[self.first];
            self.first = (self.first + 1) % WAITING;
        }
        self.count -= count;
        count
    }

    /// Takes a byte from the line.
    fn arrived(&mut self, byte: u8) -> Effect {
        if byte == SWITCH {
            self.switches += 1;
            if self.switches < SWITCH_COUNT {
                return Effect::Nothing;
            }
            self.switches = 0;
            self.to_hypervisor = !self.to_hypervisor;
            return Effect::Switched;
        }
        let withheld = core::mem::take(&mut self.switches);
        if self.to_hypervisor {
            return Effect::Key(byte);
        }
        (0..withheld).for_each(|_| self.push(SWITCH));
        self.push(byte);
        Effect::Notify
    }
}

static INPUT: Mutex<Input> = Mutex::new(Input::new());

/// Lets the serial line interrupt when input arrives. Once, at boot, after `irq::init`.
pub fn init(_hypervisor: &Hypervisor<X86>, options: &Options<'_>) {
    let irq = options.serial_line().irq;
    if irq == 0 {
        log::info!("The serial console has no interrupt: it takes no input");
        return;
    }
    if let Err(errno) = irq::take_isa(irq, receive) {
        log::warn!("The serial console takes no input: interrupt {irq}: {errno}");
        return;
    }
    if hal::console::enable_receive_interrupt().is_some() {
        announce(false);
    }
}

fn announce(to_hypervisor: bool) {
    let who = if to_hypervisor { "Xen" } else { "DOM0" };
    hal::console::print(format_args!("*** Serial input to {who} (type 'CTRL-a' three times to switch input)\n"));
}

/// Takes all that has arrived on the line.
fn receive(hypervisor: &Hypervisor<X86>) {
    let mut notify = false;
    while let Some(byte) = hal::console::receive() {
        let (effect, to_hypervisor) = {
            let mut input = INPUT.lock();
            (input.arrived(byte), input.to_hypervisor)
        };
        match effect {
            Effect::Nothing => {}
            Effect::Notify => notify = true,
            Effect::Switched => announce(to_hypervisor),
            Effect::Key(key) => hypercall::keys::press(hypervisor, key),
        }
    }
    if notify {
        hypervisor.raise_global_virq(VIRQ_CONSOLE);
    }
}

/// Tells dom0 that the hypervisor has printed something. Printing itself cannot: it is done under all kinds of locks.
pub fn tell_news(hypervisor: &Hypervisor<X86>) {
    if hal::console::has_news() {
        hypervisor.raise_global_virq(VIRQ_CON_RING);
    }
}

/// Writes a guest's text: dom0's as it is (`None`), another's line by line, each with the domain's number before it.
pub fn write(guest: Option<DomId>, bytes: &[u8]) {
    let Some(guest) = guest else {
        return hal::console::write_raw(bytes);
    };
    for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        hal::console::print(format_args!("({guest}) {}\n", String::from_utf8_lossy(line)));
    }
}

/// Takes input for dom0; the number of bytes.
pub fn read(to: &mut [u8]) -> usize {
    INPUT.lock().take(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn type_in(input: &mut Input, bytes: &[u8]) -> Vec<Effect> {
        bytes.iter().map(|byte| input.arrived(*byte)).collect()
    }

    #[test]
    fn three_in_a_row_switch_and_switch_back() {
        let mut input = Input::new();
        let effects = type_in(&mut input, b"a\x01\x01\x01h\x01\x01\x01b");
        use Effect::{Key, Nothing, Notify, Switched};
        let switch = [Nothing, Nothing, Switched];
        assert_eq!(effects[..4], [&[Notify][..], &switch].concat());
        assert_eq!(effects[4..], [&[Key(b'h')][..], &switch, &[Notify]].concat());
        let mut to = [0; 8];
        assert_eq!((input.take(&mut to), &to[..2]), (2, &b"ab"[..]));
    }

    #[test]
    fn fewer_are_input() {
        let mut input = Input::new();
        type_in(&mut input, b"\x01\x01x\x01y");
        let mut to = [0; 3];
        assert_eq!((input.take(&mut to), to), (3, *b"\x01\x01x"));
        assert_eq!((input.take(&mut to), &to[..2]), (2, &b"\x01y"[..]));
        assert_eq!(input.take(&mut to), 0);
    }

    #[test]
    fn what_does_not_fit_is_lost() {
        let mut input = Input::new();
        for round in 0..WAITING as u8 + 5 {
            input.arrived(b'0' + round % 10);
        }
        let mut to = [0; WAITING + 5];
        assert_eq!(input.take(&mut to), WAITING);
        assert_eq!(to[WAITING - 1], b'7');
    }
}
