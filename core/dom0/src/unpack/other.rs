//! gzip, lz4 and xz, by way of crates that decode the inner format.

use super::{Format, u16_at, u32_at};
use crate::Error;
use alloc::boxed::Box;
use alloc::vec::Vec;
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress, inflate_flags};
use xz4rust::{XzDecoder, XzNextBlockResult};

const CUT: &str = "it ends too early";
const TOO_LONG: &str = "it unpacks to more than its stated size";

/// Length of the gzip header at the start of `data` (RFC 1952, 2.3).
fn gzip_header(data: &[u8]) -> Option<usize> {
    const EXTRA: u8 = 4;
    const NAME: u8 = 8;
    const COMMENT: u8 = 16;
    const HEADER_CRC: u8 = 2;
    let flags = *data.get(3)?;
    let mut at = 10;
    if flags & EXTRA != 0 {
        at += 2 + usize::from(u16_at(data, at)?);
    }
    for text in [NAME, COMMENT] {
        if flags & text != 0 {
            at += data.get(at..)?.iter().position(|&byte| byte == 0)? + 1;
        }
    }
    if flags & HEADER_CRC != 0 {
        at += 2;
    }
    Some(at)
}

/// Unpacks one gzip member; returns the bytes written.
pub fn gzip(data: &[u8], out: &mut [u8]) -> Result<usize, &'static str> {
    let start = gzip_header(data).ok_or(CUT)?;
    let mut inflate = Box::<DecompressorOxide>::default();
    let body = data.get(start..).ok_or(CUT)?;
    let flags = inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
    let (status, used, done) = decompress(&mut inflate, body, out, 0, flags);
    match status {
        TINFLStatus::Done => {}
        TINFLStatus::HasMoreOutput => return Err(TOO_LONG),
        TINFLStatus::FailedCannotMakeProgress | TINFLStatus::NeedsMoreInput => return Err(CUT),
        _ => return Err("its compressed data make no sense"),
    }
    let stated = u32_at(body, used).ok_or(CUT)?;
    if crc32fast::hash(out.get(..done).ok_or(TOO_LONG)?) != stated {
        return Err("its checksum is wrong");
    }
    Ok(done)
}

/// Unpacks legacy lz4 frames, in which each block stands for itself; returns the bytes written.
pub fn lz4(data: &[u8], out: &mut [u8]) -> Result<usize, &'static str> {
    /// Most bytes that a block unpacks to.
    const BLOCK: usize = 8 << 20;
    const MAGIC: u32 = 0x184c_2102;
    let (mut at, mut done) = (0, 0);
    while at < data.len() {
        let word = u32_at(data, at).ok_or(CUT)?;
        at += 4;
        // Frames may be concatenated, and a magic number is no block's size.
        if word == MAGIC {
            continue;
        }
        let end = at.saturating_add(word as usize);
        let block = data.get(at..end).ok_or(CUT)?;
        let limit = out.len().min(done + BLOCK);
        let space = out.get_mut(done..limit).ok_or(TOO_LONG)?;
        done += lz4_flex::block::decompress_into(block, space).map_err(|_| "its compressed data make no sense")?;
        at = end;
    }
    Ok(done)
}

/// A number in xz's variable-length form, and its length.
fn xz_number(data: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0;
    for shift in (0..63).step_by(7) {
        let byte = *data.get(*at)?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// Size of the dictionary that the first block's LZMA2 filter asks for (The .xz File Format, 3.1 and 5.3.1).
fn xz_dictionary(data: &[u8]) -> Option<u64> {
    const STREAM_HEADER: usize = 12;
    const LZMA2: u64 = 0x21;
    let flags = *data.get(STREAM_HEADER + 1)?;
    let mut at = STREAM_HEADER + 2;
    for size_flag in [0x40, 0x80] {
        if flags & size_flag != 0 {
            xz_number(data, &mut at)?;
        }
    }
    for _ in 0..=flags & 3 {
        let filter = xz_number(data, &mut at)?;
        let length = xz_number(data, &mut at)? as usize;
        let properties = data.get(at..at.checked_add(length)?)?;
        if filter == LZMA2 {
            let bits = u64::from(*properties.first()?);
            return (bits < 40).then_some((2 | bits & 1) << (bits / 2 + 11));
        }
        at += length;
    }
    None
}

/// Unpacks an xz stream; returns the bytes written.
pub fn xz(data: &[u8], out: &mut [u8]) -> Result<usize, Error> {
    let corrupt = |what| Error::Corrupt { format: Format::Xz, what };
    let wanted = xz_dictionary(data).ok_or(corrupt("its header makes no sense"))?;
    let mut dictionary = Vec::new();
    dictionary.try_reserve_exact(wanted as usize).map_err(|_| Error::NoMemory { wanted })?;
    dictionary.resize(wanted as usize, 0);
    let mut decoder = Box::new(XzDecoder::with_fixed_size_dict(&mut dictionary));
    let (mut used, mut done) = (0, 0);
    loop {
        let result = decoder.decode(&data[used..], &mut out[done..]);
        let result = result.map_err(|_| corrupt("its compressed data make no sense"))?;
        used += result.input_consumed();
        done += result.output_produced();
        if matches!(result, XzNextBlockResult::EndOfStream(..)) {
            return Ok(done);
        }
        if result.input_consumed() == 0 && result.output_produced() == 0 {
            return Err(corrupt(if used >= data.len() { CUT } else { TOO_LONG }));
        }
    }
}
