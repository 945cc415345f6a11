//! What the boot loader says, by Multiboot 0.6.96 (section 3.3) or Multiboot2 2.0 (section 3.6). Pure: memory is read through
//! [`Memory`].

use super::ranges::Range;
use arrayvec::ArrayVec;

/// What eax holds at entry from a Multiboot loader.
pub const MAGIC1: u32 = 0x2bad_b002;
/// What eax holds at entry from a Multiboot2 loader.
pub const MAGIC2: u32 = 0x36d7_6289;

/// Most entries of the memory map.
pub const REGIONS: usize = 256;
/// Most modules.
pub const MODULES: usize = 16;
/// Bytes for all command lines together.
const TEXT: usize = 8192;

/// Reads physical memory.
pub trait Memory {
    /// Fills `to` from physical address `address`; false if that is out of reach.
    fn read(&self, address: u64, to: &mut [u8]) -> bool;
}

/// Why the boot information is of no use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BootError {
    /// Not started by Multiboot.
    Magic(u32),
    /// The information leaves the memory that loaders use, or contradicts itself.
    Malformed,
    /// Command lines longer than there is room for.
    TextTooLong,
    /// More modules than there is room for.
    TooManyModules,
    /// The loader passed no memory map.
    NoMemoryMap,
}

impl core::fmt::Display for BootError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            BootError::Magic(magic) => {
                write!(
                    f,
                    "Not started by a Multiboot loader (eax = {magic:#x}): use GRUB's multiboot2 or multiboot command"
                )
            }
            BootError::Malformed => f.write_str("The boot loader's information is malformed: try another boot loader"),
            BootError::TextTooLong => {
                write!(f, "Command lines exceed {TEXT} bytes in all: shorten them in the boot loader")
            }
            BootError::TooManyModules => {
                write!(f, "More than {MODULES} modules: load the kernel, its initrd and what they need")
            }
            BootError::NoMemoryMap => {
                f.write_str("The boot loader passed no memory map: use one that does, such as GRUB 2")
            }
        }
    }
}

/// Kinds of memory, as firmware numbers them (ACPI 6.5, table 15.6).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemoryKind(pub u32);

impl MemoryKind {
    /// RAM.
    pub const USABLE: MemoryKind = MemoryKind(1);
    /// Not for use.
    pub const RESERVED: MemoryKind = MemoryKind(2);
    /// ACPI tables.
    pub const ACPI: MemoryKind = MemoryKind(3);
    /// ACPI, kept over sleep.
    pub const NVS: MemoryKind = MemoryKind(4);
    /// Broken.
    pub const UNUSABLE: MemoryKind = MemoryKind(5);
}

impl core::fmt::Display for MemoryKind {
    /// As Xen prints it.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match *self {
            MemoryKind::USABLE => f.write_str("(usable)"),
            MemoryKind::RESERVED => f.write_str("(reserved)"),
            MemoryKind::ACPI => f.write_str("(ACPI data)"),
            MemoryKind::NVS => f.write_str("(ACPI NVS)"),
            MemoryKind::UNUSABLE => f.write_str("(unusable)"),
            MemoryKind(kind) => write!(f, "type {kind}"),
        }
    }
}

/// An entry of the firmware's memory map.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemoryRegion {
    /// First byte.
    pub start: u64,
    /// Behind the last byte.
    pub end: u64,
    /// What it is.
    pub kind: MemoryKind,
}

/// A text kept in [`Information`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Text {
    start: u16,
    end: u16,
}

/// A module as the loader left it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ModuleEntry {
    /// Where its bytes are.
    pub range: Range,
    /// Its command line.
    pub text: Text,
}

/// Everything of interest that the loader said.
#[derive(Debug)]
pub struct Information {
    bytes: ArrayVec<u8, TEXT>,
    /// The loader's name.
    pub loader: Text,
    /// The hypervisor's command line, without the image's name.
    pub command_line: Text,
    /// The memory map, in the loader's order.
    pub regions: ArrayVec<MemoryRegion, REGIONS>,
    /// The modules, in order.
    pub modules: ArrayVec<ModuleEntry, MODULES>,
    /// A copy of the ACPI root pointer (RSDP).
    pub rsdp: Option<ArrayVec<u8, 36>>,
    /// Physical address of the 64-bit UEFI's system table, where the firmware is one.
    pub efi_system_table: Option<u64>,
}

impl Default for Information {
    fn default() -> Information {
        Information::new()
    }
}

impl Information {
    /// Nothing said yet.
    pub const fn new() -> Information {
        Information {
            bytes: ArrayVec::new_const(),
            loader: Text { start: 0, end: 0 },
            command_line: Text { start: 0, end: 0 },
            regions: ArrayVec::new_const(),
            modules: ArrayVec::new_const(),
            rsdp: None,
            efi_system_table: None,
        }
    }

    /// A text's characters; bytes that are no ASCII text are dropped when it is kept.
    pub fn text(&self, text: Text) -> &str {
        let bytes = self.bytes.get(usize::from(text.start)..usize::from(text.end)).unwrap_or(&[]);
        core::str::from_utf8(bytes).unwrap_or("")
    }

    /// Keeps a text that ends with a zero byte, or after `limit` bytes.
    fn keep(&mut self, memory: &impl Memory, address: u64, limit: usize) -> Result<Text, BootError> {
        let start = self.bytes.len();
        for offset in 0..limit as u64 {
            let mut byte = [0];
            if !memory.read(address + offset, &mut byte) {
                return Err(BootError::Malformed);
            }
            match byte[0] {
                0 => break,
                byte if byte.is_ascii() => self.bytes.try_push(byte).map_err(|_| BootError::TextTooLong)?,
                _ => {}
            }
        }
        Ok(Text { start: start as u16, end: self.bytes.len() as u16 })
    }

    /// Drops the image's name, which old loaders put first.
    fn without_name(&self, text: Text) -> Text {
        let name = self.text(self.loader);
        if name.strip_prefix("GRUB ").is_some_and(|version| !version.starts_with('0')) {
            return text;
        }
        let words = self.text(text);
        let blank = words.len() - words.trim_start().len();
        let first = words.trim_start().find(char::is_whitespace).unwrap_or(words.trim_start().len());
        Text { start: text.start + (blank + first) as u16, end: text.end }
    }

    fn add_region(&mut self, start: u64, length: u64, kind: u32) {
        if length != 0 {
            let end = start.saturating_add(length);
            // More entries than any machine has are dropped: memory is lost, none is invented.
            let _ = self.regions.try_push(MemoryRegion { start, end, kind: MemoryKind(kind) });
        }
    }

    fn add_module(&mut self, start: u32, end: u32, text: Text) -> Result<(), BootError> {
        if end < start {
            return Err(BootError::Malformed);
        }
        let range = Range { start: u64::from(start), end: u64::from(end) };
        self.modules.try_push(ModuleEntry { range, text }).map_err(|_| BootError::TooManyModules)
    }

    fn finish(&mut self) -> Result<(), BootError> {
        if !self.regions.iter().any(|region| region.kind == MemoryKind::USABLE) {
            return Err(BootError::NoMemoryMap);
        }
        self.command_line = self.without_name(self.command_line);
        for index in 0..self.modules.len() {
            self.modules[index].text = self.without_name(self.modules[index].text);
        }
        Ok(())
    }
}

fn word(memory: &impl Memory, address: u64) -> Result<u32, BootError> {
    let mut bytes = [0; 4];
    if memory.read(address, &mut bytes) { Ok(u32::from_le_bytes(bytes)) } else { Err(BootError::Malformed) }
}

fn long(memory: &impl Memory, address: u64) -> Result<u64, BootError> {
    Ok(u64::from(word(memory, address)?) | u64::from(word(memory, address + 4)?) << 32)
}

/// Reads what the loader left at physical address `address`, given what eax held at entry, into an empty `info` (which is
/// too large for the boot stack).
pub fn parse(memory: &impl Memory, magic: u32, address: u32, info: &mut Information) -> Result<(), BootError> {
    let address = u64::from(address);
    match magic {
        MAGIC1 => parse1(memory, address, info)?,
        MAGIC2 => parse2(memory, address, info)?,
        _ => return Err(BootError::Magic(magic)),
    }
    info.finish()
}

fn parse1(memory: &impl Memory, address: u64, info: &mut Information) -> Result<(), BootError> {
    let field = |offset| word(memory, address + offset);
    let flags = field(0)?;
    if flags & 1 << 9 != 0 {
        info.loader = info.keep(memory, u64::from(field(64)?), 128)?;
    }
    if flags & 1 << 2 != 0 {
        info.command_line = info.keep(memory, u64::from(field(16)?), TEXT)?;
    }
    if flags & 1 << 3 != 0 {
        let (count, list) = (field(20)?, u64::from(field(24)?));
        for index in 0..u64::from(count) {
            let entry = list + index * 16;
            let (start, end, text) = (word(memory, entry)?, word(memory, entry + 4)?, word(memory, entry + 8)?);
            let text = if text == 0 { Text::default() } else { info.keep(memory, u64::from(text), TEXT)? };
            info.add_module(start, end, text)?;
        }
    }
    if flags & 1 << 6 != 0 {
        let (length, start) = (u64::from(field(44)?), u64::from(field(48)?));
        let mut at = 0;
        while at + 24 <= length {
            let entry = start + at;
            info.add_region(long(memory, entry + 4)?, long(memory, entry + 12)?, word(memory, entry + 20)?);
            at += u64::from(word(memory, entry)?) + 4;
        }
    } else if flags & 1 != 0 {
        info.add_region(0, u64::from(field(4)?) << 10, MemoryKind::USABLE.0);
        info.add_region(1 << 20, u64::from(field(8)?) << 10, MemoryKind::USABLE.0);
    }
    Ok(())
}

fn parse2(memory: &impl Memory, address: u64, info: &mut Information) -> Result<(), BootError> {
    let total = u64::from(word(memory, address)?);
    let mut at = 8;
    while at + 8 <= total {
        let tag = address + at;
        let (kind, size) = (word(memory, tag)?, word(memory, tag + 4)?);
        if size < 8 {
            return Err(BootError::Malformed);
        }
        let rest = size as usize - 8;
        match kind {
            0 => break,
            1 => info.command_line = info.keep(memory, tag + 8, rest)?,
            2 => info.loader = info.keep(memory, tag + 8, rest)?,
            3 if rest >= 8 => {
                let text = info.keep(memory, tag + 16, rest - 8)?;
                info.add_module(word(memory, tag + 8)?, word(memory, tag + 12)?, text)?;
            }
            6 if rest >= 8 => {
                let step = u64::from(word(memory, tag + 8)?);
                if step < 20 {
                    return Err(BootError::Malformed);
                }
                let mut entry = tag + 16;
                while entry + step <= tag + u64::from(size) {
                    info.add_region(long(memory, entry)?, long(memory, entry + 8)?, word(memory, entry + 16)?);
                    entry += step;
                }
            }
            12 if rest >= 8 => info.efi_system_table = Some(long(memory, tag + 8)?),
            14 | 15 => {
                let mut bytes = ArrayVec::new();
                for offset in 0..rest.min(36) as u64 {
                    let mut byte = [0];
                    if !memory.read(tag + 8 + offset, &mut byte) {
                        return Err(BootError::Malformed);
                    }
                    bytes.push(byte[0]);
                }
                // The newer table, tag 15, wins.
                if kind == 15 || info.rsdp.is_none() {
                    info.rsdp = Some(bytes);
                }
            }
            _ => {}
        }
        at += u64::from(size).next_multiple_of(8);
    }
    Ok(())
}

/// Searches the ACPI root pointer where BIOSes put it: the first KiB of the extended BIOS data area, and 0xe0000 to 0xfffff,
/// at multiples of 16 (ACPI 6.5, 5.2.5.1).
pub fn find_rsdp(memory: &impl Memory) -> Option<ArrayVec<u8, 36>> {
    let mut segment = [0; 2];
    let ebda = if memory.read(0x40e, &mut segment) { u64::from(u16::from_le_bytes(segment)) << 4 } else { 0 };
    let areas = [(ebda, ebda + 1024), (0xe_0000, 0x10_0000)];
    for (start, end) in areas.into_iter().filter(|(start, _)| *start >= 0x400) {
        for address in (start..end).step_by(16) {
            let mut bytes = [0; 36];
            if !memory.read(address, &mut bytes[..20]) || !bytes.starts_with(b"RSD PTR ") {
                continue;
            }
            if bytes[..20].iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)) != 0 {
                continue;
            }
            let length = if bytes[15] >= 2 { 36 } else { 20 };
            if memory.read(address, &mut bytes[..length]) {
                return bytes[..length].iter().copied().collect::<ArrayVec<u8, 36>>().into();
            }
        }
    }
    None
}

#[cfg(test)]
#[path = "multiboot_tests.rs"]
mod tests;
