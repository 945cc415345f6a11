//! Registers of the local APIC and the I/O APIC (SDM vol. 3, 11; APM vol. 2, 16; Intel 82093AA).

/// A register of the local APIC, by its byte offset in the memory-mapped page (SDM vol. 3, table 11-1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LapicRegister(pub u32);

impl LapicRegister {
    /// APIC id; bits 24 to 31 in xAPIC mode, all 32 bits in x2APIC mode.
    pub const ID: LapicRegister = LapicRegister(0x020);
    /// Version in bits 0 to 7, number of LVT entries less one in bits 16 to 23.
    pub const VERSION: LapicRegister = LapicRegister(0x030);
    /// Task priority: vectors of this class and below are held back.
    pub const TASK_PRIORITY: LapicRegister = LapicRegister(0x080);
    /// End of interrupt; write 0.
    pub const EOI: LapicRegister = LapicRegister(0x0b0);
    /// Logical destination (xAPIC: bits 24 to 31; x2APIC: read-only).
    pub const LOGICAL_DESTINATION: LapicRegister = LapicRegister(0x0d0);
    /// Destination format; absent in x2APIC mode.
    pub const DESTINATION_FORMAT: LapicRegister = LapicRegister(0x0e0);
    /// Spurious vector in bits 0 to 7, [`SPURIOUS_ENABLE`].
    pub const SPURIOUS: LapicRegister = LapicRegister(0x0f0);
    /// First of the eight in-service words.
    pub const IN_SERVICE: LapicRegister = LapicRegister(0x100);
    /// First of the eight trigger-mode words.
    pub const TRIGGER_MODE: LapicRegister = LapicRegister(0x180);
    /// First of the eight request words.
    pub const REQUEST: LapicRegister = LapicRegister(0x200);
    /// Error status; write before reading.
    pub const ERROR_STATUS: LapicRegister = LapicRegister(0x280);
    /// LVT entry of corrected machine checks.
    pub const LVT_CMCI: LapicRegister = LapicRegister(0x2f0);
    /// Interrupt command, low half (whole in x2APIC mode).
    pub const COMMAND: LapicRegister = LapicRegister(0x300);
    /// Interrupt command, high half: destination in bits 24 to 31. Absent in x2APIC mode.
    pub const COMMAND_HIGH: LapicRegister = LapicRegister(0x310);
    /// LVT entry of the timer.
    pub const LVT_TIMER: LapicRegister = LapicRegister(0x320);
    /// LVT entry of the thermal sensor.
    pub const LVT_THERMAL: LapicRegister = LapicRegister(0x330);
    /// LVT entry of the performance counters.
    pub const LVT_PERFORMANCE: LapicRegister = LapicRegister(0x340);
    /// LVT entry of pin LINT0.
    pub const LVT_LINT0: LapicRegister = LapicRegister(0x350);
    /// LVT entry of pin LINT1.
    pub const LVT_LINT1: LapicRegister = LapicRegister(0x360);
    /// LVT entry of errors.
    pub const LVT_ERROR: LapicRegister = LapicRegister(0x370);
    /// Timer: initial count; writing starts it.
    pub const TIMER_INITIAL: LapicRegister = LapicRegister(0x380);
    /// Timer: current count.
    pub const TIMER_CURRENT: LapicRegister = LapicRegister(0x390);
    /// Timer: divider.
    pub const TIMER_DIVIDE: LapicRegister = LapicRegister(0x3e0);

    /// The word `index` (0 to 7) of a 256-bit register; it holds vectors `32 * index ..`.
    pub const fn word(self, index: u32) -> LapicRegister {
        LapicRegister(self.0 + (index & 7) * 0x10)
    }

    /// The MSR of the register in x2APIC mode (SDM vol. 3, 11.12.1.2).
    pub const fn msr(self) -> u32 {
        0x800 + (self.0 >> 4)
    }
}

/// MSR IA32_APIC_BASE: physical base in bits 12 up, and the flags below (SDM vol. 3, 11.4.4).
pub const MSR_APIC_BASE: u32 = 0x1b;
/// [`MSR_APIC_BASE`]: this is the boot CPU.
pub const APIC_BASE_BSP: u64 = 1 << 8;
/// [`MSR_APIC_BASE`]: x2APIC mode.
pub const APIC_BASE_X2APIC: u64 = 1 << 10;
/// [`MSR_APIC_BASE`]: the APIC is on.
pub const APIC_BASE_ENABLE: u64 = 1 << 11;
/// MSR IA32_TSC_DEADLINE: TSC value at which the timer fires; 0 stops it (SDM vol. 3, 11.5.4.1).
pub const MSR_TSC_DEADLINE: u32 = 0x6e0;

/// [`LapicRegister::SPURIOUS`]: software enable.
pub const SPURIOUS_ENABLE: u32 = 1 << 8;
/// LVT entry: masked.
pub const LVT_MASKED: u32 = 1 << 16;
/// LVT entry of the timer: TSC-deadline mode (SDM vol. 3, figure 11-8).
pub const LVT_TIMER_TSC_DEADLINE: u32 = 2 << 17;
/// [`LapicRegister::TIMER_DIVIDE`]: divide by 1.
pub const DIVIDE_BY_1: u32 = 0b1011;
/// [`LapicRegister::TIMER_DIVIDE`]: divide by 16.
pub const DIVIDE_BY_16: u32 = 0b0011;
/// [`LapicRegister::COMMAND`]: the destination is logical.
pub const COMMAND_LOGICAL: u32 = 1 << 11;
/// [`LapicRegister::COMMAND`]: the last command is still being sent (xAPIC only).
pub const COMMAND_BUSY: u32 = 1 << 12;
/// [`LapicRegister::COMMAND`]: assert, which every command but the INIT de-assert has.
pub const COMMAND_ASSERT: u32 = 1 << 14;
/// [`LapicRegister::COMMAND`]: level trigger.
pub const COMMAND_LEVEL: u32 = 1 << 15;
/// [`LapicRegister::COMMAND`]: shorthand "all but me" (SDM vol. 3, figure 11-12).
pub const COMMAND_ALL_BUT_SELF: u32 = 3 << 18;

/// How an interrupt is delivered (bits 8 to 10 of LVT entries, commands, redirection entries and MSI data).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum DeliveryMode {
    /// Vector to the destination.
    Fixed = 0,
    /// Vector to the destination of lowest priority.
    LowestPriority = 1,
    /// System management interrupt.
    Smi = 2,
    /// Non-maskable interrupt.
    Nmi = 4,
    /// Reset to the state that waits for a start-up.
    Init = 5,
    /// Start at the page that the vector names.
    StartUp = 6,
    /// As from an 8259.
    ExtInt = 7,
}

impl DeliveryMode {
    /// The mode in bits 8 to 10.
    pub const fn bits(self) -> u32 {
        (self as u32) << 8
    }

    /// The mode that bits 8 to 10 of `bits` name; nothing for the reserved one (3, once "remote read").
    pub const fn from_bits(bits: u32) -> Option<DeliveryMode> {
        Some(match bits >> 8 & 7 {
            0 => DeliveryMode::Fixed,
            1 => DeliveryMode::LowestPriority,
            2 => DeliveryMode::Smi,
            4 => DeliveryMode::Nmi,
            5 => DeliveryMode::Init,
            6 => DeliveryMode::StartUp,
            7 => DeliveryMode::ExtInt,
            _ => return None,
        })
    }
}

/// When an interrupt line counts as signalled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trigger {
    /// On a change.
    Edge,
    /// As long as the line is asserted.
    Level,
}

/// Which level of an interrupt line is asserted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Polarity {
    /// High.
    ActiveHigh,
    /// Low.
    ActiveLow,
}

/// A redirection entry of an I/O APIC (82093AA, 3.2.4).
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct RedirectionEntry(pub u64);

impl RedirectionEntry {
    /// Delivery is pending (read-only).
    pub const PENDING: u64 = 1 << 12;
    /// The level interrupt was accepted and awaits its EOI (read-only).
    pub const REMOTE_IRR: u64 = 1 << 14;
    /// The entry is masked.
    pub const MASKED: u64 = 1 << 16;

    /// A fixed-mode entry with physical destination.
    pub const fn new(vector: u8, apic_id: u8, trigger: Trigger, polarity: Polarity, masked: bool) -> RedirectionEntry {
        let mut bits = vector as u64 | (apic_id as u64) << 56;
        if matches!(polarity, Polarity::ActiveLow) {
            bits |= 1 << 13;
        }
        if matches!(trigger, Trigger::Level) {
            bits |= 1 << 15;
        }
        if masked {
            bits |= Self::MASKED;
        }
        RedirectionEntry(bits)
    }

    /// A masked entry that routes nothing.
    pub const fn none() -> RedirectionEntry {
        RedirectionEntry(Self::MASKED)
    }

    /// The vector.
    pub const fn vector(self) -> u8 {
        self.0 as u8
    }

    /// Bits 8 to 10: delivery mode.
    pub const fn delivery(self) -> u8 {
        (self.0 >> 8 & 7) as u8
    }

    /// Destination APIC id (physical mode) or logical set.
    pub const fn destination(self) -> u8 {
        (self.0 >> 56) as u8
    }

    /// Whether the entry is masked.
    pub const fn is_masked(self) -> bool {
        self.0 & Self::MASKED != 0
    }

    /// When the pin counts as signalled.
    pub const fn trigger(self) -> Trigger {
        if self.0 & 1 << 15 != 0 { Trigger::Level } else { Trigger::Edge }
    }

    /// Which level of the pin is asserted.
    pub const fn polarity(self) -> Polarity {
        if self.0 & 1 << 13 != 0 { Polarity::ActiveLow } else { Polarity::ActiveHigh }
    }

    /// What the pin sends; nothing if the delivery mode is reserved.
    pub const fn message(self) -> Option<InterruptMessage> {
        InterruptMessage::from_low(self.0 as u32, self.destination() as u32)
    }

    /// The entry with its mask bit as given.
    pub const fn with_mask(self, masked: bool) -> RedirectionEntry {
        RedirectionEntry(if masked { self.0 | Self::MASKED } else { self.0 & !Self::MASKED })
    }
}

impl core::fmt::Debug for RedirectionEntry {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:#018x}", self.0)
    }
}

/// I/O APIC page: register selector.
pub const IOAPIC_SELECT: u32 = 0x00;
/// I/O APIC page: data of the selected register.
pub const IOAPIC_WINDOW: u32 = 0x10;
/// I/O APIC page: EOI by vector (versions from 0x20 on).
pub const IOAPIC_EOI: u32 = 0x40;
/// I/O APIC register: id in bits 24 to 27.
pub const IOAPIC_ID: u8 = 0;
/// I/O APIC register: version in bits 0 to 7, highest entry in bits 16 to 23.
pub const IOAPIC_VERSION: u8 = 1;
/// I/O APIC register: low half of redirection entry 0; each entry has two registers.
pub const IOAPIC_ENTRY: u8 = 0x10;

/// Base of the addresses that devices write messages to (SDM vol. 3, 11.11.1).
pub const MSI_ADDRESS_BASE: u64 = 0xfee0_0000;

/// A message-signalled interrupt as it stands in the device's registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MsiMessage {
    /// Where the device writes.
    pub address: u64,
    /// What it writes.
    pub data: u32,
}

impl MsiMessage {
    /// Fixed delivery of `vector`, by edge, to the CPU with this APIC id (physical destination).
    pub const fn fixed(vector: u8, apic_id: u8) -> MsiMessage {
        MsiMessage { address: MSI_ADDRESS_BASE | (apic_id as u64) << 12, data: vector as u32 }
    }

    /// Destination APIC id.
    pub const fn destination(self) -> u8 {
        (self.address >> 12) as u8
    }

    /// Vector.
    pub const fn vector(self) -> u8 {
        self.data as u8
    }

    /// What the device sends; nothing if the delivery mode is reserved.
    pub const fn message(self) -> Option<InterruptMessage> {
        let logical = (self.address as u32 >> 2 & 1) << 11;
        InterruptMessage::from_low(self.data & !COMMAND_LOGICAL | logical, self.destination() as u32)
    }
}

/// What travels between interrupt controllers: from an I/O APIC, a device (MSI) or a local APIC to local APICs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InterruptMessage {
    /// The vector; the page number of a start-up.
    pub vector: u8,
    /// How it is delivered.
    pub mode: DeliveryMode,
    /// Whether the interrupt stays until an EOI reaches its source.
    pub level: bool,
    /// Whether `destination` is a set of logical ids, not one physical id.
    pub logical: bool,
    /// Eight bits from an xAPIC, an I/O APIC or a device; 32 bits from an x2APIC.
    pub destination: u32,
}

impl InterruptMessage {
    /// The message of a redirection entry's low half, of MSI data, or of an interrupt command: all have vector, mode,
    /// destination mode and trigger in the same bits (SDM vol. 3, figures 11-12 and 11-25; 82093AA, 3.2.4). Nothing if the
    /// delivery mode is reserved.
    pub const fn from_low(low: u32, destination: u32) -> Option<InterruptMessage> {
        let Some(mode) = DeliveryMode::from_bits(low) else { return None };
        Some(InterruptMessage {
            vector: low as u8,
            mode,
            level: low & COMMAND_LEVEL != 0,
            logical: low & COMMAND_LOGICAL != 0,
            destination,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirection_entry_fields() {
        let entry = RedirectionEntry::new(0x41, 3, Trigger::Level, Polarity::ActiveLow, true);
        assert_eq!(entry.0, 0x0300_0000_0001_a041);
        assert_eq!((entry.vector(), entry.destination(), entry.is_masked()), (0x41, 3, true));
        assert_eq!((entry.trigger(), entry.polarity()), (Trigger::Level, Polarity::ActiveLow));
        assert!(!entry.with_mask(false).is_masked());
    }

    #[test]
    fn registers_and_messages() {
        assert_eq!(LapicRegister::EOI.msr(), 0x80b);
        assert_eq!(LapicRegister::COMMAND.msr(), 0x830);
        assert_eq!(LapicRegister::REQUEST.word(7).0, 0x270);
        assert_eq!(MsiMessage::fixed(0x55, 7), MsiMessage { address: 0xfee0_7000, data: 0x55 });
    }

    #[test]
    fn messages_of_entries_and_devices() {
        let entry = RedirectionEntry(0x0300_0000_0000_8941).message().unwrap();
        let expected = InterruptMessage {
            vector: 0x41,
            mode: DeliveryMode::LowestPriority,
            level: true,
            logical: true,
            destination: 3,
        };
        assert_eq!(entry, expected);
        assert_eq!(MsiMessage { address: 0xfee0_3004, data: 0x8141 }.message().unwrap(), expected);
        let physical = MsiMessage { address: 0xfee0_3000, data: 0x8941 }.message().unwrap();
        assert_eq!(physical, InterruptMessage { logical: false, ..expected }, "bit 11 of the data is reserved");
        assert_eq!(RedirectionEntry(0x341).message(), None);
    }
}
