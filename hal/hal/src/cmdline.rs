//! The hypervisor's command line, in Xen's syntax: `name=value`, `name`, `no-name`, sizes with K, M, G or T, and lists
//! separated by commas (xen-command-line documentation). Pure.

mod options;
mod value;

pub use options::{Levels, Options, VcpuRange};
pub use value::{boolean, number, size};

use arrayvec::ArrayVec;
use core::fmt;

/// Complaints that are kept; more are dropped.
const COMPLAINTS: usize = 16;

/// One word of the command line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Word<'a> {
    /// The whole word.
    pub text: &'a str,
    /// Before the first `=`, without a leading `no-`.
    pub name: &'a str,
    /// Behind the first `=`.
    pub value: Option<&'a str>,
    /// Whether the word began with `no-`.
    pub negated: bool,
}

impl<'a> Word<'a> {
    fn new(text: &'a str) -> Word<'a> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (text, None),
        };
        match name.strip_prefix("no-").filter(|_| value.is_none()) {
            // This option's own name begins with `no-`.
            Some(rest) if rest != "real-mode" => Word { text, name: rest, value, negated: true },
            _ => Word { text, name, value, negated: false },
        }
    }
}

/// Something wrong with, or worth knowing about, one word of the command line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Complaint<'a> {
    /// No option of that name.
    Unknown(&'a str),
    /// The option cannot have that value; what it can have.
    BadValue(&'a str, &'static str),
    /// Accepted, but does nothing here, and why.
    NoEffect(&'a str, &'static str),
}

impl fmt::Display for Complaint<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Complaint::Unknown(word) => write!(f, "Unknown option '{word}' ignored"),
            Complaint::BadValue(word, wanted) => write!(f, "Invalid option '{word}' ignored: expected {wanted}"),
            Complaint::NoEffect(word, why) => write!(f, "Option '{word}' has no effect: {why}"),
        }
    }
}

/// What a command line says.
#[derive(Clone, Debug)]
pub struct Parsed<'a> {
    /// The options, with defaults for what was not said.
    pub options: Options<'a>,
    /// What was wrong.
    pub complaints: ArrayVec<Complaint<'a>, COMPLAINTS>,
    /// What follows ` -- `: more words for dom0's command line.
    pub for_dom0: &'a str,
}

/// Splits off what is meant for dom0, behind a word `--`.
fn split_dom0(line: &str) -> (&str, &str) {
    let mut from = 0;
    while let Some(found) = line[from..].find("--") {
        let (start, end) = (from + found, from + found + 2);
        let before = line[..start].chars().next_back().is_none_or(char::is_whitespace);
        let after = line[end..].chars().next().is_none_or(char::is_whitespace);
        if before && after {
            return (&line[..start], line[end..].trim());
        }
        from = end;
    }
    (line, "")
}

/// Reads a command line, without the image's name.
pub fn parse(line: &str) -> Parsed<'_> {
    let (line, for_dom0) = split_dom0(line);
    let mut parsed = Parsed { options: Options::default(), complaints: ArrayVec::new(), for_dom0 };
    for text in line.split_whitespace() {
        let word = Word::new(text);
        if let Err(complaint) = parsed.options.apply(&word) {
            // A full list loses the rest, which the first ones make easy to find.
            let _ = parsed.complaints.try_push(complaint);
        }
    }
    parsed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::Settings;

    fn options(line: &str) -> Options<'_> {
        let parsed = parse(line);
        assert_eq!(&parsed.complaints[..], &[], "{line}");
        parsed.options
    }

    fn complaint(line: &str) -> Complaint<'_> {
        let parsed = parse(line);
        assert_eq!(parsed.complaints.len(), 1, "{line}: {:?}", parsed.complaints);
        parsed.complaints[0]
    }

    #[test]
    fn serial_line() {
        let com1 = options("com1=9600,7e2,0x2f8,3").com1;
        assert_eq!(com1, Settings { baud: Some(9600), data_bits: 7, parity: b'e', stop_bits: 2, port: 0x2f8, irq: 3 });
        assert_eq!(options("com1=115200,8n1").com1, Settings::COM1);
        assert_eq!(options("com1=auto").com1.baud, None);
        assert!(matches!(complaint("com1=115200,9x1"), Complaint::BadValue(..)));
        assert!(matches!(complaint("com1=fast"), Complaint::BadValue(..)));
    }

    #[test]
    fn booleans() {
        assert!(!options("").noreboot);
        assert!(options("noreboot").noreboot);
        assert!(!options("noreboot noreboot=0").noreboot);
        assert!(!options("no-x2apic").x2apic);
        assert!(!options("x2apic=off").x2apic);
        assert!(matches!(complaint("noreboot=perhaps"), Complaint::BadValue(..)));
    }

    #[test]
    fn numbers_and_ranges() {
        let options = options("maxcpus=4 dom0_max_vcpus=2-8 heap=64M dom0_mem=1G dom0_mem=2G,max:50%");
        assert_eq!((options.maxcpus, options.dom0_max_vcpus), (Some(4), VcpuRange { min: 2, max: 8 }));
        assert_eq!(options.heap, Some(64 << 20));
        assert_eq!(options.dom0_mem, Some("2G,max:50%"), "the last one counts");
        assert_eq!(super::parse("dom0_max_vcpus=3").options.dom0_max_vcpus, VcpuRange { min: 3, max: 3 });
        assert!(!options.dom0_vcpus_pin && super::parse("dom0_vcpus_pin").options.dom0_vcpus_pin);
        assert!(matches!(complaint("dom0_max_vcpus=8-2"), Complaint::BadValue(..)));
        assert!(matches!(complaint("maxcpus=0"), Complaint::BadValue(..)));
    }

    #[test]
    fn log_levels() {
        assert_eq!(options("loglvl=all").loglvl.printed, Some(log::Level::Trace));
        assert_eq!(options("guest_loglvl=none/error").guest_loglvl.printed, None);
        assert_eq!(options("loglvl=warning/info").loglvl.printed, Some(log::Level::Warn));
        assert!(matches!(complaint("loglvl=loud"), Complaint::BadValue(..)));
    }

    #[test]
    fn what_cannot_be_chosen_is_named() {
        options("sched=credit2 smt smt=1 cpuidle=0 no-cpuidle");
        let said = |line: &str| complaint(line).to_string();
        assert_eq!(
            said("sched=credit"),
            "Option 'sched=credit' has no effect: only credit2 is there; runs with credit2"
        );
        for line in ["smt=0", "no-smt", "cpuidle=1", "cpuidle", "hap=0", "hap"] {
            assert!(said(line).starts_with(&format!("Option '{line}' has no effect: ")), "{}", said(line));
        }
        assert!(matches!(complaint("smt=perhaps"), Complaint::BadValue(..)));
    }

    #[test]
    fn odd_words() {
        assert_eq!(complaint("frobnicate=1"), Complaint::Unknown("frobnicate=1"));
        assert!(matches!(complaint("watchdog"), Complaint::NoEffect("watchdog", _)));
        assert!(matches!(complaint("no-real-mode"), Complaint::NoEffect("no-real-mode", _)));
        assert!(matches!(complaint("dom0=pvh"), Complaint::NoEffect(..)));
        assert_eq!(parse("com1=9600 -- console=hvc0 quiet").for_dom0, "console=hvc0 quiet");
        assert_eq!(parse("a--b --").for_dom0, "");
    }

    proptest::proptest! {
        #[test]
        fn no_line_makes_it_panic(line in ".{0,200}") {
            let _ = parse(&line);
        }
    }
}
