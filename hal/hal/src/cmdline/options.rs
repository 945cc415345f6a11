//! The options themselves.

use super::value::{boolean, number, size};
use super::{Complaint, Word};
use crate::console::Settings;

/// `dom0_max_vcpus`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VcpuRange {
    /// At least so many, even beyond the number of physical CPUs.
    pub min: u32,
    /// At most so many.
    pub max: u32,
}

/// `loglvl` and `guest_loglvl`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Levels {
    /// The highest level that is printed; `None` prints nothing.
    pub printed: Option<log::Level>,
}

/// What the command line asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options<'a> {
    /// `com1`: the serial line.
    pub com1: Settings,
    /// `com2`: another serial line, used if `console` names it and not `com1`.
    pub com2: Settings,
    /// `console`: the outputs, a list.
    pub console: &'a str,
    /// `dom0_mem`, as it was written: what builds dom0 knows how to read it.
    pub dom0_mem: Option<&'a str>,
    /// `dom0_max_vcpus`.
    pub dom0_max_vcpus: VcpuRange,
    /// `dom0_vcpus_pin`: each vCPU of dom0 stays on one CPU.
    pub dom0_vcpus_pin: bool,
    /// `loglvl`: the hypervisor's own messages.
    pub loglvl: Levels,
    /// `guest_loglvl`: messages about guests.
    pub guest_loglvl: Levels,
    /// `noreboot`: stop after a fatal error.
    pub noreboot: bool,
    /// `maxcpus`: physical CPUs to use at most.
    pub maxcpus: Option<u32>,
    /// `nosmp`: only the boot CPU.
    pub nosmp: bool,
    /// `heap`: bytes that the hypervisor's heap begins with, instead of 256 KiB; it grows.
    pub heap: Option<u64>,
    /// `x2apic`: may be used where it exists.
    pub x2apic: bool,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Options {
            com1: Settings::COM1,
            com2: Settings::COM2,
            console: "com1",
            dom0_mem: None,
            dom0_max_vcpus: VcpuRange { min: 0, max: u32::MAX },
            dom0_vcpus_pin: false,
            loglvl: Levels { printed: Some(log::Level::Info) },
            guest_loglvl: Levels { printed: Some(log::Level::Warn) },
            noreboot: false,
            maxcpus: None,
            nosmp: false,
            heap: None,
            x2apic: true,
        }
    }
}

/// Options of Xen that do nothing here, and why.
const WITHOUT_EFFECT: &[(&[&str], &str)] = &[
    (
        &["no-real-mode", "edd", "edid", "vga", "vesa-map", "vesa-ram", "font"],
        "no BIOS call is made and no screen is driven",
    ),
    (&["watchdog", "watchdog_timeout"], "there is no NMI watchdog yet"),
    (&["ucode"], "microcode is left as the firmware has loaded it"),
    (&["iommu", "dom0-iommu"], "no IOMMU is driven yet: devices of dom0 see machine addresses"),
    (&["cpufreq", "max_cstate", "mwait-idle"], "frequency and idle states are left to dom0 and firmware"),
    (&["xpti", "spec-ctrl", "bti", "pv-l1tf", "tsx", "smap", "smep", "pcid", "pku"], "chosen by what the CPU has"),
    (&["dom0", "pvh", "pv"], "dom0 is a PV guest, and guests of all kinds that exist here are allowed"),
    (&["crashkernel", "kexec"], "there is no kexec"),
    (&["hap", "ept", "hvm_fep", "altp2m", "nestedhvm"], "nested paging is used where the CPU has it"),
    (
        &["sync_console", "conring_size", "console_timestamps", "console_to_ring", "dma_bits"],
        "the console is always synchronous",
    ),
    (
        &["placeholder", "bootscrub", "bootscrub_chunk", "flask", "xsm", "ats", "msi", "numa", "tickle_one_idle_cpu"],
        "not needed",
    ),
    (
        &[
            "ioapic_ack",
            "apic_verbosity",
            "acpi",
            "hpet",
            "clocksource",
            "tsc",
            "tbuf_size",
            "gnttab",
            "gnttab_max_frames",
        ],
        "the default is used",
    ),
    (
        &["credit2_runqueue", "sched_ratelimit_us", "sched-gran", "cpupool", "dom0_nodes", "vcpu_migration_delay"],
        "the default is used",
    ),
];

impl<'a> Options<'a> {
    /// Takes one word in.
    pub(super) fn apply(&mut self, word: &Word<'a>) -> Result<(), Complaint<'a>> {
        let text = word.value.unwrap_or("");
        match word.name {
            "com1" => self.com1 = serial(word, Settings::COM1)?,
            "com2" => self.com2 = serial(word, Settings::COM2)?,
            "console" => self.console = text,
            "dom0_mem" => self.dom0_mem = Some(text),
            "dom0_max_vcpus" => {
                let wanted = "a number or a range such as 2-8";
                self.dom0_max_vcpus = vcpus(text).ok_or(Complaint::BadValue(word.text, wanted))?;
            }
            "dom0_vcpus_pin" => self.dom0_vcpus_pin = flag(word)?,
            "loglvl" => self.loglvl = levels(word)?,
            "guest_loglvl" => self.guest_loglvl = levels(word)?,
            "noreboot" => self.noreboot = flag(word)?,
            "nosmp" => self.nosmp = flag(word)?,
            "x2apic" => self.x2apic = flag(word)?,
            "maxcpus" => {
                let count = number(text).and_then(|count| u32::try_from(count).ok()).filter(|count| *count > 0);
                self.maxcpus = Some(count.ok_or(Complaint::BadValue(word.text, "a number of CPUs, at least 1"))?);
            }
            "smt" => fixed(word, true, "all threads of a core are used; maxcpus= sets a limit")?,
            "cpuidle" => fixed(word, false, "an idle CPU halts (HLT); there are no deeper states yet")?,
            "hvm_port80" => fixed(word, true, "HVM and PVH guests reach port 0x80 always")?,
            "sched" if text == "credit2" => {}
            "sched" => return Err(Complaint::NoEffect(word.text, "only credit2 is there; runs with credit2")),
            "heap" => self.heap = Some(size(text).ok_or(Complaint::BadValue(word.text, "a size such as 64M"))?),
            name => {
                let known = WITHOUT_EFFECT.iter().find(|(names, _)| names.contains(&name));
                return Err(match known {
                    Some((_, why)) => Complaint::NoEffect(word.text, why),
                    None => Complaint::Unknown(word.text),
                });
            }
        }
        Ok(())
    }

    /// The serial line to use: `com1`, unless `console` names `com2` only.
    pub fn serial_line(&self) -> &Settings {
        let names = |name| self.console.split(',').any(|output| output == name);
        if names("com2") && !names("com1") { &self.com2 } else { &self.com1 }
    }
}

fn flag<'a>(word: &Word<'a>) -> Result<bool, Complaint<'a>> {
    let value = boolean(word.value.unwrap_or("")).ok_or(Complaint::BadValue(word.text, "yes or no"))?;
    Ok(value != word.negated)
}

/// A flag that can only have one value here: the other is complained about with the reason `why`.
fn fixed<'a>(word: &Word<'a>, only: bool, why: &'static str) -> Result<(), Complaint<'a>> {
    if flag(word)? == only { Ok(()) } else { Err(Complaint::NoEffect(word.text, why)) }
}

fn levels<'a>(word: &Word<'a>) -> Result<Levels, Complaint<'a>> {
    let text = word.value.unwrap_or("");
    // The second level, behind the slash, is Xen's rate-limited one: everything here is cheap enough to print.
    let printed = match text.split('/').next().unwrap_or("") {
        "none" => None,
        "error" => Some(log::Level::Error),
        "warning" => Some(log::Level::Warn),
        "info" => Some(log::Level::Info),
        "debug" => Some(log::Level::Debug),
        "all" => Some(log::Level::Trace),
        _ => {
            return Err(Complaint::BadValue(word.text, "none, error, warning, info, debug or all"));
        }
    };
    Ok(Levels { printed })
}

/// `<baud>[/<base>][,<bits><parity><stop>[,<port>[,<irq>]]]`.
fn serial<'a>(word: &Word<'a>, defaults: Settings) -> Result<Settings, Complaint<'a>> {
    let bad = Complaint::BadValue(word.text, "a line such as 115200,8n1,0x3f8,4");
    let mut settings = defaults;
    let mut parts = word.value.unwrap_or("").split(',');
    match parts.next().unwrap_or("").split('/').next().unwrap_or("") {
        "" => {}
        "auto" => settings.baud = None,
        baud => settings.baud = Some(number(baud).and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0).ok_or(bad)?),
    }
    match parts.next().unwrap_or("").as_bytes() {
        [] => {}
        [data @ b'5'..=b'8', parity @ (b'n' | b'o' | b'e' | b'm' | b's'), stop @ b'1'..=b'2'] => {
            settings.data_bits = data - b'0';
            settings.parity = *parity;
            settings.stop_bits = stop - b'0';
        }
        _ => return Err(bad),
    }
    match parts.next().unwrap_or("") {
        "" => {}
        port => settings.port = number(port).and_then(|n| u16::try_from(n).ok()).filter(|n| *n < 0xfff8).ok_or(bad)?,
    }
    match parts.next().unwrap_or("") {
        "" => {}
        irq => settings.irq = number(irq).and_then(|n| u8::try_from(n).ok()).filter(|n| *n < 16).ok_or(bad)?,
    }
    Ok(settings)
}

fn vcpus(text: &str) -> Option<VcpuRange> {
    let parse = |text: &str| number(text).and_then(|count| u32::try_from(count).ok());
    let range = match text.split_once('-') {
        Some((min, "")) => VcpuRange { min: parse(min)?, max: u32::MAX },
        Some(("", max)) => VcpuRange { min: 0, max: parse(max)? },
        Some((min, max)) => VcpuRange { min: parse(min)?, max: parse(max)? },
        None => VcpuRange { min: parse(text)?, max: parse(text)? },
    };
    (range.max > 0 && range.min <= range.max).then_some(range)
}
