//! How much memory the control domain gets: the option `dom0_mem=[min:AMOUNT,][max:AMOUNT,][AMOUNT]`.

use crate::Error;

/// An amount as written: bytes and a share of what there is, or all but that.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Amount {
    bytes: u64,
    percent: u64,
    all_but: bool,
}

/// The option `dom0_mem`, read but not yet related to the machine's memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MemoryOption {
    size: Option<Amount>,
    min: Option<Amount>,
    max: Option<Amount>,
}

/// Memory of the control domain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemorySize {
    /// Pages that it starts with.
    pub pages: u64,
    /// Pages that it may grow to.
    pub max_pages: u64,
}

/// Pages in a MiB.
const MIB_PAGES: u64 = 256;

impl Amount {
    /// Reads `-SIZE`, `SIZE`, `PERCENT%` or `SIZE+PERCENT%`; a size without unit is in KiB.
    fn parse(text: &str) -> Option<Amount> {
        let (text, all_but) = match text.strip_prefix('-') {
            Some(rest) => (rest, true),
            None => (text, false),
        };
        let (size, share) = match text.split_once('+') {
            Some((size, share)) => (Some(size), Some(share)),
            None if text.ends_with('%') => (None, Some(text)),
            None => (Some(text), None),
        };
        let bytes = match size {
            Some(size) => parse_size(size)?,
            None => 0,
        };
        let percent = match share {
            Some(share) => share.strip_suffix('%')?.parse().ok().filter(|&percent| percent < 100)?,
            None => 0,
        };
        Some(Amount { bytes, percent, all_but })
    }

    fn pages(&self, available: u64) -> u64 {
        let pages = (self.bytes >> types::PAGE_SHIFT).saturating_add(available / 100 * self.percent);
        if self.all_but { available.saturating_sub(pages) } else { pages }
    }
}

/// Reads a number, decimal or hexadecimal after `0x`, and its unit B, K, M, G or T; without one it is in KiB.
fn parse_size(text: &str) -> Option<u64> {
    let (digits, radix) = match text.strip_prefix("0x") {
        Some(hex) => (hex, 16),
        None => (text, 10),
    };
    let end = digits.find(|c: char| !c.is_digit(radix)).unwrap_or(digits.len());
    let (digits, unit) = digits.split_at(end);
    let shift = match unit_letter(unit)? {
        b'B' => 0,
        b'K' => 10,
        b'M' => 20,
        b'G' => 30,
        _ => 40,
    };
    let number = u64::from_str_radix(digits, radix).ok()?;
    number.checked_mul(1 << shift)
}

/// The unit's letter in upper case, `K` if there is none, `None` if it is no unit.
fn unit_letter(unit: &str) -> Option<u8> {
    match unit.as_bytes() {
        [] => Some(b'K'),
        [letter] => Some(letter.to_ascii_uppercase()).filter(|letter| b"BKMGT".contains(letter)),
        _ => None,
    }
}

impl MemoryOption {
    /// Reads the option's value. An absent option is [`MemoryOption::default`].
    pub fn parse(value: &str) -> Result<MemoryOption, Error> {
        let mut option = MemoryOption::default();
        for part in value.split(',') {
            let (slot, amount) = if let Some(amount) = part.strip_prefix("min:") {
                (&mut option.min, amount)
            } else if let Some(amount) = part.strip_prefix("max:") {
                (&mut option.max, amount)
            } else {
                (&mut option.size, part)
            };
            *slot = Some(Amount::parse(amount).ok_or(Error::BadOption)?);
        }
        Ok(option)
    }

    /// The size where `available` pages can be given away. Without an amount it is all but a sixteenth, which is kept for
    /// later needs and is 128 MiB at most.
    pub fn size(&self, available: u64) -> MemorySize {
        let pages = match self.size.filter(|size| *size != Amount::default()) {
            Some(size) => size.pages(available),
            None => available - (available / 16).min(128 * MIB_PAGES),
        };
        let min = self.min.map_or(0, |min| min.pages(available));
        let max = self.max.map_or(u64::MAX, |max| max.pages(available));
        MemorySize { pages: pages.max(min).min(max).min(available), max_pages: max.min(u64::from(u32::MAX)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pages(option: &str, available: u64) -> u64 {
        MemoryOption::parse(option).unwrap().size(available).pages
    }

    #[test]
    fn amounts() {
        let gib = 1 << 18;
        assert_eq!(pages("1024M", 4 * gib), gib);
        assert_eq!(pages("1g", 4 * gib), gib);
        assert_eq!(pages("1048576", 4 * gib), gib);
        assert_eq!(pages("0x100000", 4 * gib), gib);
        assert_eq!(pages("0x400M", 4 * gib), gib);
        assert_eq!(pages("-1G", 4 * gib), 3 * gib);
        assert_eq!(pages("8G", 4 * gib), 4 * gib);
        assert_eq!(pages("min:2G,1G", 4 * gib), 2 * gib);
        assert_eq!(pages("max:512M,1G", 4 * gib), gib / 2);
        assert_eq!(pages("min:3G,max:2G,1G", 4 * gib), 2 * gib);
        assert_eq!(pages("10%", 1000), 100);
        assert_eq!(pages("4M+10%", 10_000), 2024);
        assert_eq!(pages("-10%", 1000), 900);
    }

    #[test]
    fn default_leaves_a_sixteenth_but_128_mib_at_most() {
        let size = MemoryOption::default().size(16_000);
        assert_eq!(size, MemorySize { pages: 15_000, max_pages: u64::from(u32::MAX) });
        assert_eq!(MemoryOption::default().size(1 << 24).pages, (1 << 24) - 32_768);
        assert_eq!(pages("max:1G", 1 << 24), 1 << 18);
        assert_eq!(MemoryOption::parse("max:1G").unwrap().size(1 << 24).max_pages, 1 << 18);
    }

    #[test]
    fn nonsense_is_refused() {
        for text in
            ["", "x", "1Q", "1024MB", "min:", "1G,", "100%", "1G+", "--1G", "99999999999999999999", "20000000000T"]
        {
            assert_eq!(MemoryOption::parse(text), Err(Error::BadOption), "{text}");
        }
    }

    proptest! {
        #[test]
        fn never_panics_nor_exceeds_what_there_is(text in "[-0-9a-zA-Z:,+%]{0,24}", available: u64) {
            if let Ok(option) = MemoryOption::parse(&text) {
                prop_assert!(option.size(available).pages <= available);
            }
        }
    }
}
