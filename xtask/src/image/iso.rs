//! A CD-ROM that a BIOS starts: a file system by ECMA-119 (ISO 9660) with one folder, and a program by El Torito.

use anyhow::{Result, ensure};

/// Bytes of a sector.
const SECTOR: usize = 2048;
/// Sectors of the descriptors, whose first two places are given by the standards, and of what they lead to.
const VOLUME: usize = 16;
const START: usize = 17;
const END: usize = 18;
/// Table of folders, with numbers of either byte order.
const FOLDERS: [usize; 2] = [19, 20];
const CATALOGUE: usize = 21;
const ROOT: usize = 22;
/// Where files begin.
const FILES: usize = 23;
/// What all descriptors begin with, behind their kind.
const MARK: &[u8] = b"CD001\x01";
/// Where the program finds where it is (mkisofs' `-boot-info-table`), and from where on its words are summed up.
const INFORMATION: usize = 8;
const SUMMED: usize = 64;
/// Sectors of 512 bytes that the BIOS loads: the rest is the program's affair.
const LOADED: u16 = 4;
/// Flag of a folder.
const FOLDER: u8 = 2;

/// The image: with the program, and files by their names (`NAME.EXT`, in capitals).
///
/// # Errors
/// Where the names are no such names or do not fit into a sector, or the program is too short to be told where it is.
pub fn image(mut program: Vec<u8>, files: &[(&str, Vec<u8>)]) -> Result<Vec<u8>> {
    ensure!(program.len() > SUMMED, "a program of {} bytes", program.len());
    let mut next = FILES;
    let mut place = |length: usize| {
        let at = next;
        next += length.div_ceil(SECTOR);
        at
    };
    let program_at = place(program.len());
    let mut folder = [record(ROOT, SECTOR, FOLDER, b"\0"), record(ROOT, SECTOR, FOLDER, b"\x01")].concat();
    let mut contents = Vec::new();
    for (name, data) in files {
        let is_name =
            |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
        ensure!(name.split_once('.').is_some_and(|(stem, end)| is_name(stem) && is_name(end)), "no name: {name}");
        let at = place(data.len());
        folder.extend(record(at, data.len(), 0, format!("{name};1").as_bytes()));
        contents.push((at, data));
    }
    ensure!(folder.len() <= SECTOR, "too many files");
    inform(&mut program, program_at);

    let mut image = vec![0; next * SECTOR];
    let mut put = |sector: usize, data: &[u8]| image[sector * SECTOR..][..data.len()].copy_from_slice(data);
    put(VOLUME, &volume(next));
    put(START, &[&[0], MARK, b"EL TORITO SPECIFICATION", &[0; 41], &word(CATALOGUE)].concat());
    put(END, &[&[255], MARK].concat());
    put(FOLDERS[0], &[&[1, 0], &word(ROOT)[..], &[1, 0, 0, 0]].concat());
    put(FOLDERS[1], &[&[1, 0], &(ROOT as u32).to_be_bytes()[..], &[0, 1, 0, 0]].concat());
    put(CATALOGUE, &catalogue(program_at));
    put(ROOT, &folder);
    put(program_at, &program);
    contents.into_iter().for_each(|(at, data)| put(at, data));
    Ok(image)
}

/// A number below 2^32: sectors, and lengths of files that are in memory here.
fn word(number: usize) -> [u8; 4] {
    (number as u32).to_le_bytes()
}

/// The same in both byte orders.
fn both(number: usize) -> [u8; 8] {
    let number = number as u32;
    let mut out = [0; 8];
    out[..4].copy_from_slice(&number.to_le_bytes());
    out[4..].copy_from_slice(&number.to_be_bytes());
    out
}

/// A number below 2^16 in both byte orders.
fn both_short(number: u16) -> [u8; 4] {
    let [low, high] = number.to_le_bytes();
    [low, high, high, low]
}

/// An entry of a folder (ECMA-119, 9.1), without a date.
fn record(sector: usize, length: usize, flags: u8, name: &[u8]) -> Vec<u8> {
    let size = (33 + name.len()).next_multiple_of(2);
    let mut out = [&[0, 0], &both(sector)[..], &both(length), &[0; 7], &[flags, 0, 0], &both_short(1)].concat();
    // Names are short.
    (out[0], out[1]) = (size as u8, 0);
    out.push(name.len() as u8);
    out.extend(name);
    out.resize(size, 0);
    out
}

/// The primary volume descriptor (ECMA-119, 8.4) of so many sectors.
fn volume(sectors: usize) -> Vec<u8> {
    let mut out = [&[1], MARK, &[0]].concat();
    out.extend([b' '; 32]);
    out.extend(format!("{:<32}", "XENOLITH").bytes());
    out.extend([0; 8]);
    out.extend(both(sectors));
    out.extend([0; 32]);
    out.extend([both_short(1), both_short(1), both_short(SECTOR as u16)].concat());
    // The table of folders has one entry of 10 bytes.
    out.extend(both(10));
    out.extend([word(FOLDERS[0]), [0; 4], (FOLDERS[1] as u32).to_be_bytes(), [0; 4]].concat());
    out.extend(record(ROOT, SECTOR, FOLDER, b"\0"));
    // Names of people and files, then dates: none.
    out.extend([b' '; 623]);
    for _ in 0..4 {
        out.extend([b'0'; 16]);
        out.push(0);
    }
    out.push(1);
    out
}

/// The boot catalogue (El Torito, 2.0): a program that is no image of another disk.
fn catalogue(program: usize) -> Vec<u8> {
    // All its words amount to 0.
    let sum = 0u16.wrapping_sub(1u16.wrapping_add(0xaa55)).to_le_bytes();
    let mut out = [&[1], &[0; 27][..], &sum, &[0x55, 0xaa]].concat();
    out.extend([&[0x88, 0, 0, 0, 0, 0][..], &LOADED.to_le_bytes(), &word(program)].concat());
    out
}

/// Tells the program where the volume descriptor is and where it is itself, its length, and the sum of its words.
fn inform(program: &mut [u8], at: usize) {
    let words = program[SUMMED..].chunks(4).map(|bytes| {
        let mut whole = [0; 4];
        whole[..bytes.len()].copy_from_slice(bytes);
        u32::from_le_bytes(whole)
    });
    let sum = words.fold(0, u32::wrapping_add);
    let length = program.len();
    let table = [word(VOLUME), word(at), word(length), sum.to_le_bytes()].concat();
    program[INFORMATION..][..table.len()].copy_from_slice(&table);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_where_the_standards_have_them() {
        let image = image(vec![7; 5000], &[("GRUB.CFG", b"text".to_vec()), ("INITRD.IMG", vec![9; 2049])]).unwrap();
        assert_eq!(image.len(), (FILES + 3 + 1 + 2) * SECTOR);
        let descriptor = &image[VOLUME * SECTOR..][..SECTOR];
        assert_eq!((&descriptor[1..6], descriptor[881]), (&b"CD001"[..], 1));
        assert_eq!(descriptor[156..][..34], record(ROOT, SECTOR, FOLDER, b"\0"));
        assert_eq!(image[START * SECTOR + 71..][..4], word(CATALOGUE));
        let words = image[CATALOGUE * SECTOR..][..32].chunks(2).map(|word| u16::from_le_bytes([word[0], word[1]]));
        assert_eq!(words.fold(0, u16::wrapping_add), 0);
        let program = &image[FILES * SECTOR..];
        assert_eq!(program[8..20], [word(16), word(FILES), word(5000)].concat());
        assert_eq!(program[64..5000], [7; 4936]);
        let folder = &image[ROOT * SECTOR..];
        assert_eq!(folder[68..][..33 + 10], record(FILES + 3, 4, 0, b"GRUB.CFG;1")[..43]);
        assert_eq!(&image[(FILES + 3) * SECTOR..][..4], b"text");
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for name in ["grub.cfg", "GRUB", "GRUB.", "A B.C"] {
            assert!(image(vec![0; 100], &[(name, Vec::new())]).is_err(), "{name}");
        }
    }
}
