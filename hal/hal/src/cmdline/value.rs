//! Values of options.

/// A boolean: `yes`, `on`, `true`, `enable`, `1` and their opposites; an empty value counts as given.
pub fn boolean(text: &str) -> Option<bool> {
    match text {
        "" | "1" | "yes" | "on" | "true" | "enable" => Some(true),
        "0" | "no" | "off" | "false" | "disable" => Some(false),
        _ => None,
    }
}

/// A number: decimal, hexadecimal with `0x`, octal with `0`.
pub fn number(text: &str) -> Option<u64> {
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None if text.len() > 1 && text.starts_with('0') => (&text[1..], 8),
        None => (text, 10),
    };
    if digits.starts_with('+') {
        return None;
    }
    u64::from_str_radix(digits, radix).ok()
}

/// A size in bytes: a number with suffix B, K, M, G or T; without one it is in KiB.
pub fn size(text: &str) -> Option<u64> {
    let (digits, shift) = match text.chars().next_back()? {
        'b' | 'B' if !text.starts_with("0x") => (&text[..text.len() - 1], 0),
        'k' | 'K' => (&text[..text.len() - 1], 10),
        'm' | 'M' => (&text[..text.len() - 1], 20),
        'g' | 'G' => (&text[..text.len() - 1], 30),
        't' | 'T' => (&text[..text.len() - 1], 40),
        _ => (text, 10),
    };
    number(digits)?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        assert_eq!(number("0x3f8"), Some(0x3f8));
        assert_eq!(number("010"), Some(8));
        assert_eq!(number("0"), Some(0));
        assert_eq!(number("99999999999999999999"), None);
        for bad in ["", "-1", "+1", "1x", "0x", "0x+1"] {
            assert_eq!(number(bad), None, "{bad}");
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(size("2G"), Some(2 << 30));
        assert_eq!(size("16"), Some(16 << 10));
        assert_eq!(size("4096b"), Some(4096));
        assert_eq!(size("0x10M"), Some(16 << 20));
        assert_eq!(size("99999999999T"), None);
        assert_eq!(size("M"), None);
        assert_eq!(size(""), None);
    }
}
