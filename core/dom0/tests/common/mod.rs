//! Makes kernels to test with.
#![allow(dead_code)]

use std::io::Write;

/// A note of Xen's, or of someone else.
pub struct Note {
    pub owner: &'static str,
    pub kind: u32,
    pub value: Vec<u8>,
}

pub fn note(kind: u32, value: impl Into<Vec<u8>>) -> Note {
    Note { owner: "Xen", kind, value: value.into() }
}

pub const VIRT_BASE: u64 = 0xffff_ffff_8000_0000;
pub const ENTRY: u64 = VIRT_BASE + 0x100_0040;

/// The notes of Debian's kernel, with another entry point.
pub fn linux_notes() -> Vec<Note> {
    vec![
        Note { owner: "GNU", kind: 1, value: vec![9; 7] },
        note(6, *b"linux\0"),
        note(7, *b"2.6\0"),
        note(5, *b"xen-3.0\0"),
        note(3, VIRT_BASE.to_le_bytes()),
        note(4, 0u64.to_le_bytes()),
        note(1, ENTRY.to_le_bytes()),
        note(15, 0x80_0000_0000u64.to_le_bytes()),
        note(10, *b"!writable_page_tables\0"),
        note(17, 0x8801u32.to_le_bytes()),
        note(9, *b"yes\0"),
        note(8, *b"generic\0"),
        note(13, [1u64.to_le_bytes(), 1u64.to_le_bytes()].concat()),
        note(14, 1u32.to_le_bytes()),
        note(0x10, 1u32.to_le_bytes()),
        note(18, 0x100_0b20u64.to_le_bytes()),
        note(19, [0u8; 12]),
        note(0x999, [1u8; 3]),
    ]
}

fn pad(data: &mut Vec<u8>) {
    data.resize(data.len().next_multiple_of(4), 0);
}

pub fn encode_notes(notes: &[Note]) -> Vec<u8> {
    let mut out = Vec::new();
    for note in notes {
        let name = [note.owner.as_bytes(), b"\0"].concat();
        for word in [name.len() as u32, note.value.len() as u32, note.kind] {
            out.extend(word.to_le_bytes());
        }
        out.extend(&name);
        pad(&mut out);
        out.extend(&note.value);
        pad(&mut out);
    }
    out
}

/// Fills with something that compresses, but not to nothing.
pub fn code(length: usize) -> Vec<u8> {
    let mut state = 1u32;
    let words = std::iter::from_fn(|| {
        state = state.wrapping_mul(1_103_515_245).wrapping_add(12_345);
        let word = if state >> 29 == 0 { state >> 8 } else { 0x488b_45e8_u32.rotate_left(state >> 28) };
        Some(word.to_le_bytes())
    });
    words.flatten().take(length).collect()
}

/// An ELF file with two segments: one at 16 MiB, one with zeros after it at 24 MiB.
pub fn elf(notes: &[Note]) -> Vec<u8> {
    let notes = encode_notes(notes);
    let (first, second) = (code(70_000), code(300));
    let table = 64;
    let notes_at = table + 3 * 56;
    let first_at = (notes_at + notes.len()).next_multiple_of(4096);
    let second_at = (first_at + first.len()).next_multiple_of(4096);
    let mut out = vec![0; 64];
    out[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1]);
    out[16..20].copy_from_slice(&[2, 0, 62, 0]);
    out[32..40].copy_from_slice(&(table as u64).to_le_bytes());
    out[54..58].copy_from_slice(&[56, 0, 3, 0]);
    let mut header = |kind: u32, offset: usize, paddr: u64, file: usize, memory: usize| {
        out.extend(kind.to_le_bytes());
        out.extend(7u32.to_le_bytes());
        for word in [offset as u64, 0, paddr, file as u64, memory as u64, 4096] {
            out.extend(word.to_le_bytes());
        }
    };
    header(1, first_at, 0x100_0000, first.len(), first.len());
    header(1, second_at, 0x180_0000, second.len(), 0x20_0000);
    header(4, notes_at, 0, notes.len(), notes.len());
    out.extend(notes);
    out.resize(first_at, 0);
    out.extend(first);
    out.resize(second_at, 0);
    out.extend(second);
    out
}

/// A bzImage around a payload that ends in the unpacked size.
pub fn bzimage(payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0xcc; 3 * 512];
    out[0x1f1] = 2;
    out[0x202..0x206].copy_from_slice(b"HdrS");
    out[0x206..0x208].copy_from_slice(&0x20fu16.to_le_bytes());
    out[0x248..0x24c].copy_from_slice(&100u32.to_le_bytes());
    out[0x24c..0x250].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    out.resize(out.len() + 100, 0x90);
    out.extend(payload);
    out.resize(out.len() + 77, 0xf4);
    out
}

fn with_size(mut packed: Vec<u8>, data: &[u8]) -> Vec<u8> {
    packed.extend((data.len() as u32).to_le_bytes());
    packed
}

pub fn zstd_frame(data: &[u8], level: i32, window_log: u32, checksum: bool) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), level).unwrap();
    encoder.include_checksum(checksum).unwrap();
    encoder.window_log(window_log).unwrap();
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

pub fn zstd(data: &[u8]) -> Vec<u8> {
    with_size(zstd_frame(data, 19, 27, true), data)
}

pub fn gzip(data: &[u8]) -> Vec<u8> {
    // With a name and extra data, to be skipped.
    let mut out = vec![0x1f, 0x8b, 8, 4 | 8, 0, 0, 0, 0, 2, 3, 3, 0, 1, 2, 3];
    out.extend(b"vmlinux\0");
    out.extend(miniz_oxide::deflate::compress_to_vec(data, 6));
    out.extend(crc32fast::hash(data).to_le_bytes());
    with_size(out, data)
}

pub fn lz4(data: &[u8]) -> Vec<u8> {
    let mut out = vec![0x02, 0x21, 0x4c, 0x18];
    for block in data.chunks(8 << 20) {
        let mut packed = vec![0; lz4_flex::block::get_maximum_output_size(block.len())];
        let length = lz4_flex::block::compress_into(block, &mut packed).unwrap();
        out.extend((length as u32).to_le_bytes());
        out.extend(&packed[..length]);
    }
    with_size(out, data)
}

pub fn xz(data: &[u8]) -> Vec<u8> {
    let mut options = lzma_rust2::XzOptions::with_preset(2);
    options.set_check_sum_type(lzma_rust2::CheckType::Crc32);
    options.prepend_pre_filter(lzma_rust2::FilterType::BcjX86, 0);
    let mut writer = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
    writer.write_all(data).unwrap();
    with_size(writer.finish().unwrap(), data)
}
