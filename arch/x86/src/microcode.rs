//! Microcode that dom0 offers: the files of AMD and Intel are checked and searched for an update of this processor.

use types::{Errno, Result};

/// A file in the caller's memory.
pub struct File<'a> {
    /// Bytes.
    pub length: u32,
    /// Copies from an offset on.
    pub read: &'a dyn Fn(u64, &mut [u8]) -> Result<()>,
}

/// What decides whether an update is for a processor.
#[derive(Clone, Copy)]
pub struct Processor {
    /// CPUID leaf 1, EAX.
    pub signature: u32,
    /// Intel's platform, a bit in a mask.
    pub platform: u32,
}

impl File<'_> {
    /// The word at an offset; `EINVAL` behind the end.
    fn word(&self, at: u64) -> Result<u32> {
        if at + 4 > u64::from(self.length) {
            return Err(Errno::INVAL);
        }
        let mut bytes = [0; 4];
        (self.read)(at, &mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    /// The end of `length` bytes from an offset on; `EINVAL` behind the file's.
    fn end(&self, at: u64, length: u32) -> Result<u64> {
        let end = at + u64::from(length);
        if end > u64::from(self.length) { Err(Errno::INVAL) } else { Ok(end) }
    }
}

/// Keeps the higher revision.
fn better(best: &mut Option<u32>, revision: u32) {
    *best = Some(best.map_or(revision, |best| best.max(revision)));
}

/// The highest revision of AMD's file that is for the processor.
///
/// # Errors
/// `EINVAL` for a file that is damaged and has none, `EFAULT`.
pub fn newest_amd(file: &File<'_>, processor: Processor) -> Result<Option<u32>> {
    let mut best = None;
    let mut at = 0;
    while at < file.length.into() {
        match amd_container(file, processor, at, &mut best) {
            Ok(end) => at = end,
            Err(_) if best.is_some() => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(best)
}

/// A container of AMD's file: a magic number, a table of signatures, updates. Gives its end.
fn amd_container(file: &File<'_>, processor: Processor, at: u64, best: &mut Option<u32>) -> Result<u64> {
    const MAGIC: u32 = 0x0041_4d44;
    const TABLE: u32 = 0;
    const UPDATE: u32 = 1;
    const TABLE_ENTRY: u32 = 16;
    const UPDATE_HEADER: u32 = 64;
    if file.word(at)? != MAGIC || file.word(at + 4)? != TABLE {
        return Err(Errno::INVAL);
    }
    let length = file.word(at + 8)?;
    let mut next = file.end(at + 12, length)?;
    if length % TABLE_ENTRY != 0 {
        return Err(Errno::INVAL);
    }
    let identifier = amd_identifier(file, processor, at + 12, next)?;
    // The next container can only begin behind an update.
    let mut may_end = false;
    while next < file.length.into() {
        if may_end && file.word(next).ok() == Some(MAGIC) {
            break;
        }
        may_end = true;
        let (kind, length) = (file.word(next)?, file.word(next + 4)?);
        let end = file.end(next + 8, length)?;
        if kind != UPDATE || length < UPDATE_HEADER {
            return Err(Errno::INVAL);
        }
        let (revision, is_for) = (file.word(next + 12)?, file.word(next + 8 + 24)? & 0xffff);
        if identifier == Some(is_for) {
            better(best, revision);
        }
        next = end;
    }
    Ok(next)
}

/// By what the updates of a container name the processor; `None` where none is for it.
fn amd_identifier(file: &File<'_>, processor: Processor, table: u64, end: u64) -> Result<Option<u32>> {
    for entry in (table..end).step_by(16) {
        match file.word(entry)? {
            0 => break,
            signature if signature == processor.signature => return Ok(Some(file.word(entry + 12)? & 0xffff)),
            _ => {}
        }
    }
    Ok(None)
}

/// The highest revision of Intel's file that is for the processor (SDM vol. 3, 10.11.1).
///
/// # Errors
/// `EINVAL` for a file that is damaged and has none, `EFAULT`.
pub fn newest_intel(file: &File<'_>, processor: Processor) -> Result<Option<u32>> {
    let mut best = None;
    let mut at = 0;
    while at < file.length.into() {
        match intel_update(file, processor, at, &mut best) {
            Ok(end) => at = end,
            Err(_) if best.is_some() => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(best)
}

/// One update. Gives its end.
fn intel_update(file: &File<'_>, processor: Processor, at: u64, best: &mut Option<u32>) -> Result<u64> {
    const HEADER: u32 = 48;
    const USUAL: u32 = 2048;
    let header = |word: u64| file.word(at + 4 * word);
    if header(0)? != 1 || header(5)? != 1 {
        return Err(Errno::INVAL);
    }
    let total = if header(7)? == 0 { USUAL } else { header(8)? };
    let end = file.end(at, total)?;
    if total < HEADER {
        return Err(Errno::INVAL);
    }
    if header(3)? == processor.signature && header(6)? & processor.platform != 0 {
        better(best, header(1)?);
    }
    Ok(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROCESSOR: Processor = Processor { signature: 0x80_0f12, platform: 4 };

    fn search(
        newest: fn(&File<'_>, Processor) -> Result<Option<u32>>,
        words: &[u32],
        length: usize,
    ) -> Result<Option<u32>> {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let read = |at: u64, to: &mut [u8]| {
            to.copy_from_slice(&bytes[at as usize..][..to.len()]);
            Ok(())
        };
        newest(&File { length: length as u32, read: &read }, PROCESSOR)
    }

    fn amd(words: &[u32]) -> Result<Option<u32>> {
        search(newest_amd, words, words.len() * 4)
    }

    fn container(signature: u32, updates: &[(u32, u32)]) -> Vec<u32> {
        let mut words = vec![0x0041_4d44, 0, 32, signature, 0, 0, 0x8012, 0, 0, 0, 0];
        for &(revision, identifier) in updates {
            let mut update = [0; 18];
            (update[0], update[1], update[3], update[8]) = (1, 64, revision, identifier);
            words.extend(update);
        }
        words
    }

    #[test]
    fn amd_updates_are_found_in_any_container() {
        let other = container(0x10, &[(9, 0x8012)]);
        assert_eq!(amd(&other), Ok(None));
        assert_eq!(amd(&container(0x80_0f12, &[])), Ok(None));
        let ours = container(0x80_0f12, &[(5, 0x8012), (7, 0x8012), (8, 0x8013)]);
        assert_eq!(amd(&[other, ours].concat()), Ok(Some(7)));
    }

    #[test]
    fn damaged_amd_files_are_refused_unless_something_was_found() {
        assert_eq!(amd(&[0; 8]), Err(Errno::INVAL));
        let whole = container(0x80_0f12, &[(5, 0x8012)]);
        assert_eq!(search(newest_amd, &whole, 30), Err(Errno::INVAL));
        assert_eq!(search(newest_amd, &whole, whole.len() * 4 - 1), Err(Errno::INVAL));
        assert_eq!(amd(&[whole, vec![1, u32::MAX]].concat()), Ok(Some(5)));
        assert_eq!(amd(&[0x0041_4d44, 0, u32::MAX, 1]), Err(Errno::INVAL));
        let empty = container(0x80_0f12, &[]);
        assert_eq!(amd(&[empty.clone(), empty].concat()), Err(Errno::INVAL));
    }

    #[test]
    fn intel_updates_are_for_a_signature_and_a_platform() {
        let update = |revision, platform| {
            let mut words = vec![0; 16];
            (words[0], words[1], words[3], words[5], words[6]) = (1, revision, PROCESSOR.signature, 1, platform);
            (words[7], words[8]) = (16, 64);
            words
        };
        let file = [update(3, 4), update(9, 2), update(2, 6)].concat();
        assert_eq!(search(newest_intel, &file, file.len() * 4), Ok(Some(3)));
        assert_eq!(search(newest_intel, &update(9, 2), 64), Ok(None));
        assert_eq!(search(newest_intel, &update(9, 2), 60), Err(Errno::INVAL));
        assert_eq!(search(newest_intel, &[0; 16], 64), Err(Errno::INVAL));
    }
}
