//! Little-endian fields at byte offsets.

/// Field readers; `None` past the end.
pub(super) trait Bytes {
    /// `N` bytes at `at`.
    fn array<const N: usize>(&self, at: usize) -> Option<[u8; N]>;

    /// Byte at `at`.
    fn u8(&self, at: usize) -> Option<u8> {
        self.array::<1>(at).map(|[byte]| byte)
    }

    /// 16-bit field at `at`.
    fn u16(&self, at: usize) -> Option<u16> {
        self.array(at).map(u16::from_le_bytes)
    }

    /// 32-bit field at `at`.
    fn u32(&self, at: usize) -> Option<u32> {
        self.array(at).map(u32::from_le_bytes)
    }

    /// 64-bit field at `at`.
    fn u64(&self, at: usize) -> Option<u64> {
        self.array(at).map(u64::from_le_bytes)
    }
}

impl Bytes for [u8] {
    fn array<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.get(at..)?.first_chunk().copied()
    }
}

/// The structures that follow one another from `from` on, each beginning with a byte of type and one of length: (type, the
/// whole structure). Ends at the first one that does not fit.
pub(super) fn structures(table: &[u8], from: usize) -> impl Iterator<Item = (u8, &[u8])> {
    let mut rest = table.get(from..).unwrap_or(&[]);
    core::iter::from_fn(move || {
        let length = usize::from(rest.u8(1)?);
        if length < 2 || length > rest.len() {
            return None;
        }
        let (one, others) = rest.split_at(length);
        rest = others;
        Some((one[0], one))
    })
}
