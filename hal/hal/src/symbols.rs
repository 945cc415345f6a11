//! Names of the hypervisor's functions, for backtraces. The build fills the section `.symbols` after linking: a count n as a
//! little-endian u32, n + 1 pairs of u32 (offset from the image's start, offset of the name in the text), sorted, the last
//! pair only ending the last name; then the names' text.

/// A table of names.
#[derive(Clone, Copy)]
pub struct Symbols<'a> {
    pairs: &'a [u8],
    text: &'a [u8],
}

impl<'a> Symbols<'a> {
    /// Reads a table; `None` if it is empty or broken.
    pub fn new(section: &'a [u8]) -> Option<Symbols<'a>> {
        let count = word(section, 0)?;
        let end = (count as usize).checked_add(1)?.checked_mul(8)?.checked_add(4)?;
        if count == 0 {
            return None;
        }
        Some(Symbols { pairs: section.get(4..end)?, text: section.get(end..)? })
    }

    /// The function that `offset` from the image's start lies in, and how many bytes into it.
    pub fn find(&self, offset: u32) -> Option<(&'a str, u32)> {
        let (mut low, mut high) = (0, self.pairs.len() / 8 - 1);
        while low < high {
            let middle = (low + high) / 2;
            if word(self.pairs, middle * 8)? <= offset {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let index = low.checked_sub(1)?;
        let start = word(self.pairs, index * 8 + 4)? as usize;
        let end = word(self.pairs, index * 8 + 12)? as usize;
        let name = core::str::from_utf8(self.text.get(start..end)?).ok()?;
        Some((name, offset - word(self.pairs, index * 8)?))
    }

    /// Offset and name of the function with this index, in order of address.
    pub fn nth(&self, index: u32) -> Option<(u32, &'a str)> {
        let at = usize::try_from(index).ok()?.checked_mul(8)?;
        let (start, end) = (word(self.pairs, at + 4)?, word(self.pairs, at + 12)?);
        let name = core::str::from_utf8(self.text.get(start as usize..end as usize)?).ok()?;
        Some((word(self.pairs, at)?, name))
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(target_os = "none")]
unsafe extern "C" {
    static __image_start: u8;
    static __rodata_start: u8;
    static __symbols_start: u8;
    static __symbols_end: u8;
}

/// The name of the function at `address`, and how many bytes into it; `None` outside the hypervisor's code.
#[cfg(target_os = "none")]
pub fn lookup(address: u64) -> Option<(&'static str, u32)> {
    let start = (&raw const __image_start).addr() as u64;
    if !(start..(&raw const __rodata_start).addr() as u64).contains(&address) {
        return None;
    }
    let length = (&raw const __symbols_end).addr() - (&raw const __symbols_start).addr();
    // SAFETY: the linker script makes this read-only section of that length.
    let section = unsafe { core::slice::from_raw_parts(&raw const __symbols_start, length) };
    Symbols::new(section)?.find((address - start) as u32)
}

/// Address and name of the function with this index, in order of address; `None` behind the last.
#[cfg(target_os = "none")]
pub fn nth(index: u32) -> Option<(u64, &'static str)> {
    let length = (&raw const __symbols_end).addr() - (&raw const __symbols_start).addr();
    // SAFETY: the linker script makes this read-only section of that length.
    let section = unsafe { core::slice::from_raw_parts(&raw const __symbols_start, length) };
    let (offset, name) = Symbols::new(section)?.nth(index)?;
    Some(((&raw const __image_start).addr() as u64 + u64::from(offset), name))
}

/// There is no image on a desk.
#[cfg(not(target_os = "none"))]
pub fn nth(_index: u32) -> Option<(u64, &'static str)> {
    None
}

/// There is no image on a desk.
#[cfg(not(target_os = "none"))]
pub fn lookup(_address: u64) -> Option<(&'static str, u32)> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(symbols: &[(u32, &str)]) -> Vec<u8> {
        let mut bytes = (symbols.len() as u32).to_le_bytes().to_vec();
        let mut text = String::new();
        for (offset, name) in symbols {
            bytes.extend(offset.to_le_bytes());
            bytes.extend((text.len() as u32).to_le_bytes());
            text += name;
        }
        bytes.extend(u32::MAX.to_le_bytes());
        bytes.extend((text.len() as u32).to_le_bytes());
        bytes.extend(text.bytes());
        bytes
    }

    #[test]
    fn finds_the_function_around_an_address() {
        let bytes = table(&[(0x10, "start"), (0x40, "middle"), (0x100, "end")]);
        let symbols = Symbols::new(&bytes).unwrap();
        assert_eq!(symbols.find(0xf), None);
        assert_eq!(symbols.find(0x10), Some(("start", 0)));
        assert_eq!(symbols.find(0x3f), Some(("start", 0x2f)));
        assert_eq!(symbols.find(0x40), Some(("middle", 0)));
        assert_eq!(symbols.find(0x5000), Some(("end", 0x4f00)));
        assert_eq!(symbols.nth(1), Some((0x40, "middle")));
        assert_eq!(symbols.nth(3), None);
    }

    #[test]
    fn empty_and_broken_tables_have_no_names() {
        assert!(Symbols::new(&[0; 64]).is_none());
        assert!(Symbols::new(&[9, 0, 0, 0, 1]).is_none());
        assert!(Symbols::new(&[0xff; 64]).is_none());
    }
}
