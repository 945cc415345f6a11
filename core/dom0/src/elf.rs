//! Reads the kernel's ELF file: what to load, and the notes that tell how (elfnote.h; ELF-64 object file format).

use crate::Error;
use alloc::vec::Vec;
use xen_abi::elfnote::*;
use xen_abi::features::XENFEAT_DOM0;

/// A part of the kernel that is loaded.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    /// Where it goes: offset in bytes from the domain's guest physical address 0.
    pub offset: u64,
    /// What goes there.
    pub data: &'a [u8],
    /// Zero bytes that follow `data`.
    pub zeros: u64,
}

/// What the kernel's Xen notes say. `None` is a note that is absent.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Notes {
    /// Virtual address of the first instruction (ENTRY).
    pub entry: Option<u64>,
    /// Page to fill with the hypercall stubs (HYPERCALL_PAGE), a virtual address.
    pub hypercall_page: Option<u64>,
    /// Virtual address of guest physical address `paddr_offset` (VIRT_BASE).
    pub virt_base: Option<u64>,
    /// What ELF physical addresses are counted from (PADDR_OFFSET).
    pub paddr_offset: Option<u64>,
    /// Where the P2M list is to be mapped (INIT_P2M).
    pub init_p2m: Option<u64>,
    /// Least address that the hypervisor may use (HV_START_LOW).
    pub hv_start_low: Option<u64>,
    /// The initrd is handed over by frame number and need not be mapped (MOD_START_PFN).
    pub mod_start_pfn: bool,
    /// PAE_MODE is there and does not say "no"; decides the last letter of the magic.
    pub pae: bool,
    /// Bits of the features that the kernel can do with (SUPPORTED_FEATURES).
    pub supported_features: Option<u64>,
    /// XEN_VERSION was "xen-3.0".
    pub xen_version: bool,
}

/// A kernel that can be the PV control domain.
#[derive(Clone, Debug)]
pub struct Kernel<'a> {
    segments: Vec<Segment<'a>>,
    notes: Notes,
    /// Virtual address of the first instruction.
    pub entry: u64,
    /// Virtual address of guest physical address 0.
    pub virt_base: u64,
    /// First virtual address of the kernel.
    pub start: u64,
    /// Virtual address after the kernel's last byte.
    pub end: u64,
}

const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
const MACHINE_X86_64: u16 = 62;

/// Features that may be named in FEATURES, and whether a demand for them can be met (features.h).
const FEATURES: [(&[u8], bool); 7] = [
    (b"writable_page_tables", true),
    (b"writable_descriptor_tables", true),
    (b"auto_translated_physmap", true),
    (b"supervisor_mode_kernel", false),
    (b"pae_pgdir_above_4gb", true),
    (b"hvm_callback_vector", true),
    (b"dom0", true),
];

fn word<const N: usize>(data: &[u8], at: usize) -> Option<[u8; N]> {
    data.get(at..)?.first_chunk().copied()
}

struct ProgramHeader {
    kind: u32,
    offset: u64,
    paddr: u64,
    file_size: u64,
    memory_size: u64,
}

fn program_headers(elf: &[u8]) -> Result<Vec<ProgramHeader>, Error> {
    const SIZE: usize = 56;
    let cut = Error::Truncated { wanted: 64, present: elf.len() as u64 };
    let ident = elf.first_chunk::<64>().ok_or(cut)?;
    let u16_at = |at: usize| u16::from_le_bytes([ident[at], ident[at + 1]]);
    if ident[..4] != [0x7f, b'E', b'L', b'F'] {
        return Err(Error::UnknownImage { start: [ident[0], ident[1], ident[2], ident[3]] });
    }
    if ident[4] != 2 || ident[5] != 1 || u16_at(18) != MACHINE_X86_64 {
        return Err(Error::NotX86_64 { class: ident[4], machine: u16_at(18) });
    }
    let table = u64::from_le_bytes(word(ident, 32).unwrap_or_default());
    let count = usize::from(u16_at(56));
    if usize::from(u16_at(54)) != SIZE {
        return Err(Error::BadElf("its program headers have an unknown size"));
    }
    let table = usize::try_from(table).ok().and_then(|start| elf.get(start..start.checked_add(count * SIZE)?));
    let table = table.ok_or(Error::BadElf("its program headers lie outside of it"))?;
    let read = |entry: &[u8]| {
        let u64_at = |at: usize| u64::from_le_bytes(word(entry, at).unwrap_or_default());
        ProgramHeader {
            kind: u32::from_le_bytes(word(entry, 0).unwrap_or_default()),
            offset: u64_at(8),
            paddr: u64_at(24),
            file_size: u64_at(32),
            memory_size: u64_at(40),
        }
    };
    Ok(table.chunks_exact(SIZE).map(read).collect())
}

fn file_range<'a>(elf: &'a [u8], header: &ProgramHeader) -> Result<&'a [u8], Error> {
    let end = header.offset.checked_add(header.file_size);
    let wanted = end.ok_or(Error::BadElf("a segment's size is impossible"))?;
    let range = elf.get(header.offset as usize..wanted as usize);
    range.ok_or(Error::Truncated { wanted, present: elf.len() as u64 })
}

impl<'a> Kernel<'a> {
    /// Reads an unpacked kernel and checks that it can be the control domain.
    pub fn parse(elf: &'a [u8]) -> Result<Kernel<'a>, Error> {
        let headers = program_headers(elf)?;
        let mut notes = Notes::default();
        let mut any = false;
        for header in headers.iter().filter(|header| header.kind == PT_NOTE) {
            any |= read_notes(file_range(elf, header)?, &mut notes)?;
        }
        if !any {
            return Err(Error::NoXenNote);
        }
        check_notes(&notes)?;
        let virt_base = notes.virt_base.ok_or(Error::BadNote { note: "VIRT_BASE", what: "is missing" })?;
        let entry = notes.entry.ok_or(Error::BadNote { note: "ENTRY", what: "is missing" })?;
        let paddr_offset = notes.paddr_offset.unwrap_or(0);
        let mut segments = Vec::new();
        let (mut first, mut last) = (u64::MAX, 0);
        for header in headers.iter().filter(|header| header.kind == PT_LOAD && header.memory_size > 0) {
            let data = file_range(elf, header)?;
            let zeros = header.memory_size.checked_sub(header.file_size);
            let zeros = zeros.ok_or(Error::BadElf("a segment is larger in the file than in memory"))?;
            let offset =
                header.paddr.checked_sub(paddr_offset).ok_or(Error::BadElf("a segment is below PADDR_OFFSET"))?;
            let end = offset.checked_add(header.memory_size).filter(|&end| end.checked_add(virt_base).is_some());
            last = last.max(end.ok_or(Error::BadElf("a segment ends beyond the address space"))?);
            first = first.min(offset);
            segments.push(Segment { offset, data, zeros });
        }
        if segments.is_empty() {
            return Err(Error::BadElf("it has nothing to load"));
        }
        let (start, end) = (virt_base + first, virt_base + last);
        if !(start..end).contains(&entry) {
            return Err(Error::BadNote { note: "ENTRY", what: "points outside of the kernel" });
        }
        Ok(Kernel { segments, notes, entry, virt_base, start, end })
    }

    /// What to copy into the domain.
    pub fn segments(&self) -> &[Segment<'a>] {
        &self.segments
    }

    /// The kernel's notes.
    pub fn notes(&self) -> &Notes {
        &self.notes
    }
}

/// Reads one note segment; returns whether it held a note of Xen's.
fn read_notes(mut data: &[u8], notes: &mut Notes) -> Result<bool, Error> {
    let mut any = false;
    while let Some(header) = word::<12>(data, 0) {
        let field =
            |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]) as usize;
        let (name_size, size, kind) = (field(0), field(4), field(8) as u32);
        let cut = || Error::BadElf("a note ends beyond its segment");
        let rest = &data[12..];
        let name = rest.get(..name_size).ok_or_else(cut)?;
        let rest = rest.get(name_size.next_multiple_of(4)..).ok_or_else(cut)?;
        let value = rest.get(..size).ok_or_else(cut)?;
        if name == b"Xen\0" {
            any = true;
            read_note(kind, value, notes)?;
        }
        data = rest.get(size.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(any)
}

/// A number note of 1, 2, 4 or 8 bytes.
fn number(value: &[u8], note: &'static str) -> Result<u64, Error> {
    if !matches!(value.len(), 1 | 2 | 4 | 8) {
        return Err(Error::BadNote { note, what: "is no number of 1, 2, 4 or 8 bytes" });
    }
    let mut bytes = [0; 8];
    bytes[..value.len()].copy_from_slice(value);
    Ok(u64::from_le_bytes(bytes))
}

/// The text of a note, without the zero byte at its end.
fn text(value: &[u8]) -> &[u8] {
    value.split(|&byte| byte == 0).next().unwrap_or_default()
}

fn read_note(kind: u32, value: &[u8], notes: &mut Notes) -> Result<(), Error> {
    match kind {
        XEN_ELFNOTE_ENTRY => notes.entry = Some(number(value, "ENTRY")?),
        XEN_ELFNOTE_HYPERCALL_PAGE => notes.hypercall_page = Some(number(value, "HYPERCALL_PAGE")?),
        XEN_ELFNOTE_VIRT_BASE => notes.virt_base = Some(number(value, "VIRT_BASE")?),
        XEN_ELFNOTE_PADDR_OFFSET => notes.paddr_offset = Some(number(value, "PADDR_OFFSET")?),
        XEN_ELFNOTE_INIT_P2M => notes.init_p2m = Some(number(value, "INIT_P2M")?),
        XEN_ELFNOTE_HV_START_LOW => notes.hv_start_low = Some(number(value, "HV_START_LOW")?),
        XEN_ELFNOTE_MOD_START_PFN => notes.mod_start_pfn = number(value, "MOD_START_PFN")? != 0,
        XEN_ELFNOTE_SUPPORTED_FEATURES => notes.supported_features = Some(number(value, "SUPPORTED_FEATURES")?),
        XEN_ELFNOTE_PAE_MODE => notes.pae = text(value) != b"no",
        XEN_ELFNOTE_XEN_VERSION => {
            if text(value) != b"xen-3.0" {
                return Err(Error::BadNote { note: "XEN_VERSION", what: "is not \"xen-3.0\"" });
            }
            notes.xen_version = true;
        }
        XEN_ELFNOTE_LOADER if text(value) != b"generic" => {
            return Err(Error::BadNote { note: "LOADER", what: "is not \"generic\"" });
        }
        XEN_ELFNOTE_FEATURES => check_features(text(value))?,
        _ => {}
    }
    Ok(())
}

/// Refuses a demand (a name after `!`) that is unknown or cannot be met.
fn check_features(list: &[u8]) -> Result<(), Error> {
    for name in list.split(|&byte| byte == b'|').filter_map(|name| name.strip_prefix(b"!")) {
        if !FEATURES.iter().any(|&(known, met)| met && known == name) {
            return Err(Error::unmet(name));
        }
    }
    Ok(())
}

fn check_notes(notes: &Notes) -> Result<(), Error> {
    if !notes.xen_version {
        return Err(Error::BadNote { note: "XEN_VERSION", what: "is missing" });
    }
    if let Some(features) = notes.supported_features {
        if features & 1 << XENFEAT_DOM0 == 0 {
            return Err(Error::NotDom0Capable);
        }
    }
    Ok(())
}
