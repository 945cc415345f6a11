//! The tiniest paravirtualised guest: an ELF file whose only code waits for ever. It is created in a fraction of the
//! time that a Linux kernel takes to be unpacked, so a test can create hundreds.

/// Where its one segment is loaded.
const BASE: u64 = 0xffff_ffff_8010_0000;
/// Offset between its virtual addresses and its pseudo-physical ones.
const VIRT_BASE: u64 = 0xffff_ffff_8000_0000;
/// Size of the ELF header and its two program headers.
const HEADERS: u64 = 64 + 2 * 56;
/// Number of the hypercall `sched_op` (xen.h).
const SCHED_OP: u32 = 29;
/// Its command that waits for events; with no port and no time it waits for ever (sched.h).
const POLL: u32 = 3;

/// The ELF file.
pub fn kernel() -> Vec<u8> {
    let notes = notes();
    let code_at = (HEADERS + notes.len() as u64).next_multiple_of(16);
    let entry = BASE + code_at;
    let mut image = header(entry);
    let code = code(entry);
    let total = code_at + code.len() as u64;
    image.extend(segment(1, 5, 0, total, 4096));
    image.extend(segment(4, 4, HEADERS, notes.len() as u64, 4));
    image.extend(notes_with_entry(notes, entry));
    image.resize(code_at as usize, 0);
    image.extend(code);
    image
}

fn header(entry: u64) -> Vec<u8> {
    let mut out = b"\x7fELF\x02\x01\x01".to_vec();
    out.resize(16, 0);
    let half = |v: u16| v.to_le_bytes();
    out.extend([half(2), half(62), half(1), half(0)].concat());
    for value in [entry, 64, 0] {
        out.extend(value.to_le_bytes());
    }
    out.extend(0u32.to_le_bytes());
    out.extend([half(64), half(56), half(2), half(64), half(0), half(0)].concat());
    out
}

fn segment(kind: u32, flags: u32, offset: u64, size: u64, align: u64) -> Vec<u8> {
    let mut out = [kind.to_le_bytes(), flags.to_le_bytes()].concat();
    for value in [offset, BASE + offset, BASE + offset - VIRT_BASE, size, size, align] {
        out.extend(value.to_le_bytes());
    }
    out
}

/// The notes by which the domain builder knows a kernel made for it (elfnote.h); the entry's value comes first.
fn notes() -> Vec<u8> {
    let mut out = note(1, &0u64.to_le_bytes());
    out.extend(note(3, &VIRT_BASE.to_le_bytes()));
    out.extend(note(4, &0u64.to_le_bytes()));
    for (kind, text) in [(5, "xen-3.0\0"), (6, "tiny\0"), (8, "generic\0"), (9, "yes\0")] {
        out.extend(note(kind, text.as_bytes()));
    }
    out
}

fn notes_with_entry(mut notes: Vec<u8>, entry: u64) -> Vec<u8> {
    notes[16..24].copy_from_slice(&entry.to_le_bytes());
    notes
}

fn note(kind: u32, value: &[u8]) -> Vec<u8> {
    let mut out = [4u32.to_le_bytes(), (value.len() as u32).to_le_bytes(), kind.to_le_bytes()].concat();
    out.extend(b"Xen\0");
    out.extend(value);
    out.resize(out.len().next_multiple_of(4), 0);
    out
}

/// `again: mov eax, SCHED_OP; mov edi, POLL; mov rsi, argument; syscall; jmp again`, then the argument: no ports.
fn code(at: u64) -> Vec<u8> {
    let argument = at + 32;
    let mut out = vec![0xb8];
    out.extend(SCHED_OP.to_le_bytes());
    out.push(0xbf);
    out.extend(POLL.to_le_bytes());
    out.extend([0x48, 0xc7, 0xc6]);
    out.extend((argument as u32).to_le_bytes());
    out.extend([0x0f, 0x05]);
    let back = -(out.len() as i8 + 2);
    out.extend([0xeb, back as u8]);
    out.resize(32 + 24, 0);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use object::Endianness;
    use object::elf::{FileHeader64, PT_LOAD, PT_NOTE};
    use object::read::elf::{FileHeader, ProgramHeader};

    #[test]
    fn elf_is_well_formed() {
        let image = kernel();
        let header = FileHeader64::<Endianness>::parse(image.as_slice()).unwrap();
        let segments = header.program_headers(Endianness::Little, image.as_slice()).unwrap();
        let e = Endianness::Little;
        assert_eq!(segments.iter().map(|s| s.p_type(e)).collect::<Vec<_>>(), [PT_LOAD, PT_NOTE]);
        let load = &segments[0];
        assert_eq!(load.p_filesz(e), image.len() as u64);
        let entry = header.e_entry(e);
        assert!(entry >= load.p_vaddr(e) && entry < load.p_vaddr(e) + load.p_filesz(e));
        assert_eq!(image[(entry - BASE) as usize], 0xb8);
        let notes: Vec<u32> = segments[1]
            .notes(e, image.as_slice())
            .unwrap()
            .unwrap()
            .map_while(|n| n.ok())
            .map(|n| n.n_type(e))
            .collect();
        assert_eq!(notes, [1, 3, 4, 5, 6, 8, 9]);
    }

    #[test]
    fn jump_goes_back_to_the_entry() {
        let code = code(BASE);
        assert_eq!((code[19], code[20] as i8), (0xeb, -21));
    }
}
