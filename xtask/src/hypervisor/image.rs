//! From the linked ELF64 file to what boot loaders take: an ELF32 file at physical addresses, with the functions' names filled
//! in. The format of the names is described in hal's `symbols` module.

use anyhow::{Context, Result, bail, ensure};
use object::elf::{FileHeader64, PF_X, PT_LOAD, STT_FUNC};
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader, Sym};
use object::{LittleEndian, SectionIndex};

type Header = FileHeader64<LittleEndian>;
const ENDIAN: LittleEndian = LittleEndian;

/// Multiboot 1 wants its header within so many bytes of the file (section 3.1), so the first segment starts before that.
const FIRST_SEGMENT: usize = 0x1000;
/// The note with the physical address where a PVH guest is entered (elfnote.h).
const XEN_ELFNOTE_PHYS32_ENTRY: u32 = 18;
/// Longest names, tried in turn until the table fits.
const NAME_LIMITS: [usize; 4] = [200, 120, 80, 40];

/// A part of the image.
struct Segment {
    virt: u64,
    physical: u64,
    memory: u64,
    flags: u32,
    data: Vec<u8>,
}

/// Converts the file.
///
/// # Errors
/// Where it is not as hal's linker script makes it.
pub fn convert(elf64: &[u8]) -> Result<Vec<u8>> {
    let header = Header::parse(elf64).context("not a 64-bit ELF file")?;
    let mut segments = segments(header, elf64)?;
    let start = segments.iter().find(|s| s.flags & PF_X != 0).context("no code in the image")?.virt;
    fill_names(header, elf64, &mut segments, start)?;
    let entry = header.e_entry(ENDIAN);
    let home =
        segments.iter().find(|s| (s.virt..s.virt + s.memory).contains(&entry)).context("entry outside the image")?;
    let entry = entry - home.virt + home.physical;
    for segment in &segments {
        ensure!(segment.physical + segment.memory <= 1 << 32, "the image reaches beyond 4 GiB");
        ensure!(segment.flags & 3 != 3, "a part of the image is writable and executable");
    }
    Ok(write(&segments, entry as u32))
}

/// Converts a test kernel to what the toolstack takes for the firmware of an HVM guest: an ELF32 file without notes, which is entered
/// where the kernel has its entry as a PVH guest.
///
/// # Errors
/// Where it is not as the linker script of the test kernels makes it.
pub fn firmware(elf64: &[u8]) -> Result<Vec<u8>> {
    let header = Header::parse(elf64).context("not a 64-bit ELF file")?;
    let mut entry = None;
    for program in header.program_headers(ENDIAN, elf64)? {
        let Some(mut notes) = program.notes(ENDIAN, elf64)? else { continue };
        while let Some(note) = notes.next()? {
            if note.name() == b"Xen" && note.n_type(ENDIAN) == XEN_ELFNOTE_PHYS32_ENTRY {
                entry = note.desc().get(..4).map(|word| u32::from_le_bytes(word.try_into().expect("four bytes")));
            }
        }
    }
    Ok(write(&segments(header, elf64)?, entry.context("no note names the entry of a PVH guest")?))
}

fn segments(header: &Header, elf64: &[u8]) -> Result<Vec<Segment>> {
    let mut segments = Vec::new();
    for program in header.program_headers(ENDIAN, elf64)?.iter().filter(|p| p.p_type(ENDIAN) == PT_LOAD) {
        segments.push(Segment {
            virt: program.p_vaddr(ENDIAN),
            physical: program.p_paddr(ENDIAN),
            memory: program.p_memsz(ENDIAN),
            flags: program.p_flags(ENDIAN),
            data: program.data(ENDIAN, elf64).ok().context("a segment leaves the file")?.to_vec(),
        });
    }
    Ok(segments)
}

fn fill_names(header: &Header, elf64: &[u8], segments: &mut [Segment], start: u64) -> Result<()> {
    let sections = header.sections(ENDIAN, elf64)?;
    let (_, section) = sections.section_by_name(ENDIAN, b".symbols").context("no section .symbols")?;
    let (address, size) = (section.sh_addr(ENDIAN), section.sh_size(ENDIAN) as usize);
    let symbols = sections.symbols(ENDIAN, elf64, object::elf::SHT_SYMTAB)?;
    let mut functions = Vec::new();
    for symbol in symbols.iter() {
        let named = symbol.st_shndx(ENDIAN) != SectionIndex(0).0 as u16;
        if named && symbol.st_type() == STT_FUNC && symbol.st_value(ENDIAN) >= start {
            let name = String::from_utf8_lossy(symbol.name(ENDIAN, symbols.strings())?).into_owned();
            let offset = u32::try_from(symbol.st_value(ENDIAN) - start).context("a function far from the image")?;
            functions.push((offset, format!("{:#}", rustc_demangle::demangle(&name))));
        }
    }
    functions.sort();
    functions.dedup_by_key(|function| function.0);
    let table = NAME_LIMITS.iter().map(|limit| names_table(&functions, *limit)).find(|table| table.len() <= size);
    let Some(table) = table else {
        bail!("{} functions' names do not fit into {size} bytes: raise SYMBOL_TABLE_SIZE in image.ld", functions.len());
    };
    let home = segments.iter_mut().find(|s| (s.virt..s.virt + s.data.len() as u64).contains(&address));
    let home = home.context("section .symbols is not loaded")?;
    let at = (address - home.virt) as usize;
    home.data.get_mut(at..at + table.len()).context("section .symbols is cut off")?.copy_from_slice(&table);
    Ok(())
}

fn names_table(functions: &[(u32, String)], limit: usize) -> Vec<u8> {
    let mut text = String::new();
    let mut table = (functions.len() as u32).to_le_bytes().to_vec();
    let mut pair = |offset: u32, text: &String| {
        table.extend(offset.to_le_bytes());
        table.extend((text.len() as u32).to_le_bytes());
    };
    for (offset, name) in functions {
        pair(*offset, &text);
        let end = (0..=limit.min(name.len())).rev().find(|end| name.is_char_boundary(*end)).unwrap_or(0);
        text.push_str(&name[..end]);
    }
    pair(u32::MAX, &text);
    table.extend(text.bytes());
    table
}

/// Writes an ELF32 file for i386 (System V ABI, chapter 4): header, program headers, the empty section 0 without which GRUB
/// 2.12 refuses the file, and the segments page aligned.
fn write(segments: &[Segment], entry: u32) -> Vec<u8> {
    const HEADER: u16 = 52;
    const PROGRAM: u16 = 32;
    const SECTION: u16 = 40;
    let sections = u32::from(HEADER) + u32::from(PROGRAM) * segments.len() as u32;
    let mut file = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    let half = |file: &mut Vec<u8>, value: u16| file.extend(value.to_le_bytes());
    let word = |file: &mut Vec<u8>, value: u32| file.extend(value.to_le_bytes());
    half(&mut file, 2); // executable
    half(&mut file, 3); // i386
    word(&mut file, 1);
    word(&mut file, entry);
    word(&mut file, u32::from(HEADER));
    word(&mut file, sections);
    word(&mut file, 0);
    for value in [HEADER, PROGRAM, segments.len() as u16, SECTION, 1, 0] {
        half(&mut file, value);
    }
    let mut offset = FIRST_SEGMENT;
    for segment in segments {
        let (physical, length) = (segment.physical as u32, segment.data.len() as u32);
        for value in [PT_LOAD, offset as u32, physical, physical, length, segment.memory as u32, segment.flags, 0x1000]
        {
            word(&mut file, value);
        }
        offset += segment.data.len().next_multiple_of(0x1000);
    }
    file.extend([0; SECTION as usize]);
    for segment in segments {
        file.resize(file.len().next_multiple_of(0x1000), 0);
        file.extend(&segment.data);
    }
    file
}

#[cfg(test)]
mod tests {
    use super::*;
    use object::elf::FileHeader32;

    #[test]
    fn written_file_is_elf32() {
        let code = Segment { virt: 1 << 40, physical: 0x20_0000, memory: 0x1000, flags: 5, data: vec![0xcc; 0x1000] };
        let data = Segment { virt: 1 << 41, physical: 0x20_1000, memory: 0x9000, flags: 6, data: vec![7; 0x123] };
        let file = write(&[code, data], 0x20_0040);
        let header = FileHeader32::<LittleEndian>::parse(&*file).unwrap();
        assert_eq!(header.e_entry(ENDIAN), 0x20_0040);
        let sections = header.section_headers(ENDIAN, &*file).unwrap();
        assert_eq!((sections.len(), sections[0].sh_type(ENDIAN)), (1, object::elf::SHT_NULL));
        let programs = header.program_headers(ENDIAN, &*file).unwrap();
        assert_eq!(programs[0].p_offset(ENDIAN), FIRST_SEGMENT as u32);
        assert_eq!(programs[1].p_paddr(ENDIAN), 0x20_1000);
        assert_eq!(programs[1].p_memsz(ENDIAN), 0x9000);
        assert_eq!(programs[1].data(ENDIAN, &*file).unwrap(), &[7; 0x123]);
    }

    #[test]
    fn names_are_cut_to_fit() {
        let functions = vec![(0x10, "alpha".to_string()), (0x20, "b\u{e9}ta".to_string())];
        let table = names_table(&functions, 2);
        assert_eq!(table.len(), 4 + 3 * 8 + 3);
        assert!(table.ends_with(b"alb"), "a character is never cut in half");
    }

    /// An ELF64 file with one segment that is loaded, and a note of type `kind` of Xen's, whose text is `entry`.
    fn kernel(kind: u32, entry: u64) -> Vec<u8> {
        let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0".to_vec();
        let long = |file: &mut Vec<u8>, values: &[u64]| values.iter().for_each(|v| file.extend(v.to_le_bytes()));
        long(&mut file, &[1 << 40, 64, 0]);
        file.extend([0, 0, 0, 0, 64, 0, 56, 0, 2, 0, 64, 0, 0, 0, 0, 0]);
        let data = 64 + 2 * 56;
        long(&mut file, &[1 | 7 << 32, data, 1 << 40, 0x10_0000, 4, 0x3000, 0x1000]);
        long(&mut file, &[4 | 4 << 32, data + 4, 0, 0, 24, 24, 4]);
        file.extend(b"code");
        for word in [4, 8, kind, u32::from_le_bytes(*b"Xen\0")] {
            file.extend(word.to_le_bytes());
        }
        long(&mut file, &[entry]);
        file
    }

    #[test]
    fn firmware_begins_where_the_note_says_and_has_no_notes() {
        let file = firmware(&kernel(XEN_ELFNOTE_PHYS32_ENTRY, 0x10_0002)).unwrap();
        let header = FileHeader32::<LittleEndian>::parse(&*file).unwrap();
        assert_eq!(header.e_entry(ENDIAN), 0x10_0002);
        let programs = header.program_headers(ENDIAN, &*file).unwrap();
        assert_eq!((programs.len(), programs[0].p_type(ENDIAN)), (1, PT_LOAD));
        assert_eq!((programs[0].p_vaddr(ENDIAN), programs[0].p_memsz(ENDIAN)), (0x10_0000, 0x3000));
        assert_eq!(programs[0].data(ENDIAN, &*file).unwrap(), b"code");
        assert!(firmware(&kernel(1, 0x10_0002)).is_err(), "no such note");
    }

    #[test]
    fn other_files_are_refused() {
        assert!(convert(b"#!/bin/sh").is_err());
        assert!(convert(&std::fs::read(std::env::current_exe().unwrap()).unwrap()).is_err());
    }
}
