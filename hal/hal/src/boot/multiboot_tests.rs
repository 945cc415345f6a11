//! Tests of the reading of boot information, on memory made up byte by byte.

use super::*;
use proptest::prelude::*;

struct Fake {
    base: u64,
    bytes: Vec<u8>,
}

impl Memory for Fake {
    fn read(&self, address: u64, to: &mut [u8]) -> bool {
        let Some(start) = address.checked_sub(self.base) else {
            return false;
        };
        let Some(from) = self.bytes.get(start as usize..start as usize + to.len()) else {
            return false;
        };
        to.copy_from_slice(from);
        true
    }
}

fn parse(memory: &Fake, magic: u32, address: u32) -> Result<Information, BootError> {
    let mut info = Information::new();
    super::parse(memory, magic, address, &mut info).map(|()| info)
}

const BASE: u32 = 0x1000;

fn put(bytes: &mut Vec<u8>, at: usize, data: &[u8]) {
    bytes.resize(bytes.len().max(at + data.len()), 0);
    bytes[at..at + data.len()].copy_from_slice(data);
}

fn put_words(bytes: &mut Vec<u8>, at: usize, words: &[u32]) {
    for (index, word) in words.iter().enumerate() {
        put(bytes, at + index * 4, &word.to_le_bytes());
    }
}

/// As QEMU's `-kernel` leaves it: two modules, three regions.
fn by_multiboot1(loader: &str) -> Fake {
    let mut bytes = vec![0; 0x800];
    put_words(&mut bytes, 0, &[1 << 2 | 1 << 3 | 1 << 6 | 1 << 9]);
    put_words(&mut bytes, 16, &[BASE + 0x100, 2, BASE + 0x200]);
    put_words(&mut bytes, 44, &[72, BASE + 0x300]);
    put_words(&mut bytes, 64, &[BASE + 0x180]);
    put(&mut bytes, 0x100, b"/images/xenolith  com1=9600 loglvl=all\0");
    put(&mut bytes, 0x180, loader.as_bytes());
    put_words(&mut bytes, 0x200, &[0x100_0000, 0x180_0000, BASE + 0x280, 0]);
    put_words(&mut bytes, 0x210, &[0x200_0000, 0x200_1234, 0, 0]);
    put(&mut bytes, 0x280, b"vmlinuz console=hvc0\0");
    for (index, (start, length, kind)) in
        [(0, 0x9_fc00, 1), (0x10_0000, 0x7fe_0000, 1), (0xfffc_0000, 0x4_0000, 2)].iter().enumerate()
    {
        put_words(&mut bytes, 0x300 + index * 24, &[20, *start, 0, *length, 0, *kind]);
    }
    Fake { base: u64::from(BASE), bytes }
}

#[test]
fn multiboot1_from_qemu() {
    let info = parse(&by_multiboot1("qemu\0"), MAGIC1, BASE).unwrap();
    assert_eq!(info.text(info.loader), "qemu");
    assert_eq!(info.text(info.command_line).trim(), "com1=9600 loglvl=all");
    assert_eq!(info.regions.len(), 3);
    assert_eq!(info.regions[1], MemoryRegion { start: 0x10_0000, end: 0x80e_0000, kind: MemoryKind::USABLE });
    assert_eq!(info.modules[0].range, Range { start: 0x100_0000, end: 0x180_0000 });
    assert_eq!(info.text(info.modules[0].text).trim(), "console=hvc0");
    assert_eq!(info.text(info.modules[1].text), "");
}

#[test]
fn grub2_passes_no_image_name() {
    let info = parse(&by_multiboot1("GRUB 2.06\0"), MAGIC1, BASE).unwrap();
    assert_eq!(info.text(info.modules[0].text), "vmlinuz console=hvc0");
    let info = parse(&by_multiboot1("GRUB 0.97\0"), MAGIC1, BASE).unwrap();
    assert_eq!(info.text(info.modules[0].text).trim(), "console=hvc0");
}

fn by_multiboot2() -> Fake {
    let mut bytes = vec![0; 8];
    let mut tag = |kind: u32, data: &[u8]| {
        let at = bytes.len();
        put_words(&mut bytes, at, &[kind, data.len() as u32 + 8]);
        put(&mut bytes, at + 8, data);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
    };
    tag(2, b"GRUB 2.12\0");
    tag(1, b"noreboot\0");
    tag(3, &[&0x300_0000u32.to_le_bytes()[..], &0x300_1000u32.to_le_bytes(), b"quiet\0"].concat());
    let mut map = vec![24, 0, 0, 0, 0, 0, 0, 0];
    for (start, length) in [(0u64, 0xa_0000u64), (1 << 32, 1 << 30)] {
        map.extend([&start.to_le_bytes()[..], &length.to_le_bytes(), &[1, 0, 0, 0, 0, 0, 0, 0]].concat());
    }
    tag(6, &map);
    tag(12, &0x7f9e_c018u64.to_le_bytes());
    tag(14, b"RSD PTR old version.");
    tag(15, b"RSD PTR new version of that pointer.");
    tag(99, b"?");
    tag(0, b"");
    let total = bytes.len() as u32;
    put_words(&mut bytes, 0, &[total]);
    Fake { base: u64::from(BASE), bytes }
}

#[test]
fn multiboot2_from_grub() {
    let info = parse(&by_multiboot2(), MAGIC2, BASE).unwrap();
    assert_eq!(info.text(info.command_line), "noreboot");
    assert_eq!(info.text(info.modules[0].text), "quiet");
    assert_eq!(info.regions[1], MemoryRegion { start: 1 << 32, end: 5 << 30, kind: MemoryKind::USABLE });
    assert_eq!(info.efi_system_table, Some(0x7f9e_c018));
    assert_eq!(&info.rsdp.unwrap()[..], b"RSD PTR new version of that pointer.");
}

#[test]
fn bad_information_is_refused() {
    assert_eq!(parse(&by_multiboot2(), 7, BASE).err(), Some(BootError::Magic(7)));
    assert_eq!(parse(&by_multiboot2(), MAGIC2, 0x10).err(), Some(BootError::Malformed));
    let mut none = by_multiboot1("qemu\0");
    put_words(&mut none.bytes, 0, &[1 << 2]);
    assert_eq!(parse(&none, MAGIC1, BASE).err(), Some(BootError::NoMemoryMap));
    let mut many = by_multiboot1("qemu\0");
    put_words(&mut many.bytes, 20, &[MODULES as u32 + 1, BASE + 0x400]);
    assert_eq!(parse(&many, MAGIC1, BASE).err(), Some(BootError::TooManyModules));
    let mut endless = by_multiboot1("qemu\0");
    endless.bytes.resize(3 * TEXT, b'x');
    endless.bytes[0x100..].fill(b'x');
    assert_eq!(parse(&endless, MAGIC1, BASE).err(), Some(BootError::TextTooLong));
}

#[test]
fn root_pointer_in_the_bios() {
    let mut fake = Fake { base: 0, bytes: vec![0; 1 << 20] };
    assert!(find_rsdp(&fake).is_none());
    put(&mut fake.bytes, 0xf_5a10, b"RSD PTR \0BOCHS \0\x34\x12\0\0");
    assert!(find_rsdp(&fake).is_none(), "the sum is wrong");
    let sum: u8 = fake.bytes[0xf_5a10..0xf_5a24].iter().fold(0, |sum: u8, byte| sum.wrapping_add(*byte));
    fake.bytes[0xf_5a18] = sum.wrapping_neg();
    assert_eq!(find_rsdp(&fake).unwrap().len(), 20);
}

proptest! {
    #[test]
    fn no_information_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..600), second in any::<bool>()) {
        let fake = Fake { base: u64::from(BASE), bytes };
        let _ = parse(&fake, if second { MAGIC2 } else { MAGIC1 }, BASE);
    }

    #[test]
    fn damaged_information_makes_no_panic(at in 0usize..0x400, byte in any::<u8>(), second in any::<bool>()) {
        let mut fake = if second { by_multiboot2() } else { by_multiboot1("qemu\0") };
        let length = fake.bytes.len();
        fake.bytes[at % length] = byte;
        let _ = parse(&fake, if second { MAGIC2 } else { MAGIC1 }, BASE);
    }
}
