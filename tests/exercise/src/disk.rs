//! Random reads and writes of a disk. Each block holds noise made from its number and from how often it was written,
//! so that a lost, misplaced or torn write is found when the block is read.

use crate::noise::Noise;
use anyhow::{Context, Result, bail};
use rustix::fs::OFlags;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

/// Bytes of a block: what the page cache is bypassed in, and a page.
const BLOCK: usize = 4096;
/// The most blocks in one request: more than the 11 pages of a ring entry without indirect descriptors.
const MOST: u64 = 32;

/// A buffer that starts at a multiple of a block, as O_DIRECT wants.
struct Buffer {
    bytes: Vec<u8>,
    start: usize,
}

impl Buffer {
    fn new() -> Buffer {
        let bytes = vec![0; BLOCK * (MOST as usize + 1)];
        let start = bytes.as_ptr().align_offset(BLOCK);
        Buffer { bytes, start }
    }

    fn blocks(&mut self, count: u64) -> &mut [u8] {
        &mut self.bytes[self.start..][..count as usize * BLOCK]
    }
}

struct Exercise {
    file: File,
    seed: u64,
    /// How often each block was written.
    written: Vec<u64>,
    buffer: Buffer,
}

impl Exercise {
    fn new(file: File, mib: u64, seed: u64) -> Exercise {
        Exercise { file, seed, written: vec![0; (mib << 20) as usize / BLOCK], buffer: Buffer::new() }
    }

    fn write(&mut self, first: u64, count: u64) -> Result<()> {
        let bytes = self.buffer.blocks(count);
        for (block, bytes) in (first..).zip(bytes.chunks_exact_mut(BLOCK)) {
            self.written[block as usize] += 1;
            Noise::new([self.seed, block, self.written[block as usize]]).fill(bytes);
        }
        let place = first * BLOCK as u64;
        self.file.write_all_at(bytes, place).with_context(|| format!("write of {count} blocks at {first}"))
    }

    fn verify(&mut self, first: u64, count: u64) -> Result<()> {
        let bytes = self.buffer.blocks(count);
        let place = first * BLOCK as u64;
        self.file.read_exact_at(bytes, place).with_context(|| format!("read of {count} blocks at {first}"))?;
        let mut want = [0; BLOCK];
        for (block, bytes) in (first..).zip(bytes.chunks_exact(BLOCK)) {
            let times = self.written[block as usize];
            Noise::new([self.seed, block, times]).fill(&mut want);
            if let Some(at) = (0..BLOCK).find(|&at| bytes[at] != want[at]) {
                bail!("block {block}, written {times} times, is wrong from its byte {at} on");
            }
        }
        Ok(())
    }

    fn blocks(&self) -> u64 {
        self.written.len() as u64
    }

    /// All blocks, in order.
    fn whole(&mut self, mut act: impl FnMut(&mut Self, u64, u64) -> Result<()>) -> Result<()> {
        (0..self.blocks()).step_by(MOST as usize).try_for_each(|first| {
            let count = MOST.min(self.blocks() - first);
            act(self, first, count)
        })
    }
}

/// Writes the first `mib` MiB of `path`, then reads and writes random parts for so long, then reads all again.
///
/// # Errors
/// Where a request fails, or a block has not what was written last.
pub fn exercise(path: &Path, mib: u64, seconds: u64, seed: u64) -> Result<()> {
    let direct = OFlags::DIRECT.bits() as i32;
    let file = OpenOptions::new().read(true).write(true).custom_flags(direct).open(path);
    let mut exercise = Exercise::new(file.with_context(|| format!("cannot open {}", path.display()))?, mib, seed);
    exercise.whole(Exercise::write)?;
    let mut choice = Noise::new([seed, 0, 0]);
    let end = Instant::now() + Duration::from_secs(seconds);
    let (mut reads, mut writes) = (0u64, 0u64);
    while Instant::now() < end {
        let count = 1 + choice.below(MOST.min(exercise.blocks()));
        let first = choice.below(exercise.blocks() - count + 1);
        if choice.below(2) == 0 {
            exercise.write(first, count)?;
            writes += 1;
        } else {
            exercise.verify(first, count)?;
            reads += 1;
        }
    }
    exercise.file.sync_all().context("flush")?;
    exercise.whole(Exercise::verify)?;
    println!("disk verified: {reads} reads, {writes} writes, {mib} MiB");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_byte_is_found() {
        let path = std::env::temp_dir().join(format!("exercise-{}", std::process::id()));
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path).expect("opened");
        std::fs::remove_file(&path).expect("removed");
        let mut exercise = Exercise::new(file, 1, 7);
        exercise.whole(Exercise::write).expect("written");
        exercise.whole(Exercise::verify).expect("as written");
        let byte = &mut [0; 1];
        exercise.file.read_exact_at(byte, 5 * 4096 + 17).expect("read");
        exercise.file.write_all_at(&[!byte[0]], 5 * 4096 + 17).expect("written");
        let error = exercise.whole(Exercise::verify).expect_err("wrong").to_string();
        assert_eq!(error, "block 5, written 1 times, is wrong from its byte 17 on");
    }
}
