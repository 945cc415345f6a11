//! Gets the kernel's ELF file out of the boot module: a bzImage, a compressed file or a plain one.

mod other;
mod zstd;

use crate::Error;
use core::fmt;

/// How a kernel is packed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// Not at all.
    Plain,
    /// gzip (RFC 1952).
    Gzip,
    /// Zstandard (RFC 8878).
    Zstd,
    /// xz, with LZMA2 and optionally the x86 filter.
    Xz,
    /// Legacy frames of lz4.
    Lz4,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Format::Plain => "not compressed",
            Format::Gzip => "gzip",
            Format::Zstd => "zstd",
            Format::Xz => "xz",
            Format::Lz4 => "lz4",
        })
    }
}

/// The kernel as it lies in the boot module.
#[derive(Clone, Copy, Debug)]
pub struct Payload<'a> {
    data: &'a [u8],
    format: Format,
    unpacked_size: usize,
}

/// Bytes of the setup header that are needed (Linux, Documentation/arch/x86/boot.rst).
const SETUP_HEADER_END: usize = 0x250;

fn u16_at(data: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*data.get(at..)?.first_chunk()?))
}

fn u32_at(data: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*data.get(at..)?.first_chunk()?))
}

impl<'a> Payload<'a> {
    /// Finds the kernel in a boot module and how it is packed.
    pub fn find(module: &'a [u8]) -> Result<Payload<'a>, Error> {
        let truncated = |wanted: usize| Error::Truncated { wanted: wanted as u64, present: module.len() as u64 };
        if module.get(0x202..0x206) == Some(b"HdrS") {
            let version = u16_at(module, 0x206).ok_or(truncated(SETUP_HEADER_END))?;
            if version < 0x0208 {
                return Err(Error::OldProtocol { version });
            }
            let offset = u32_at(module, 0x248).ok_or(truncated(SETUP_HEADER_END))? as usize;
            let length = u32_at(module, 0x24c).ok_or(truncated(SETUP_HEADER_END))? as usize;
            // Zero means four, from the days of floppy disks.
            let setup_sectors = match module[0x1f1] {
                0 => 4,
                count => usize::from(count),
            };
            let start = (setup_sectors + 1) * 512 + offset;
            let data = module.get(start..start + length).ok_or(truncated(start + length))?;
            return Payload::packed(data, true);
        }
        Payload::packed(module, false)
    }

    /// Recognises the packing by its magic bytes. In a bzImage the unpacked size follows what does not carry it.
    fn packed(data: &'a [u8], in_bzimage: bool) -> Result<Payload<'a>, Error> {
        let start = *data.first_chunk::<4>().ok_or(Error::Truncated { wanted: 64, present: data.len() as u64 })?;
        let unsupported = |name| Err(Error::UnsupportedCompression { name });
        let format = match start {
            [0x7f, b'E', b'L', b'F'] => Format::Plain,
            [0x1f, 0x8b | 0x9e, _, _] => Format::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd] => Format::Zstd,
            [0xfd, b'7', b'z', b'X'] => Format::Xz,
            [0x02, 0x21, 0x4c, 0x18] => Format::Lz4,
            [b'B', b'Z', b'h', _] => return unsupported("bzip2"),
            [0x5d, 0, _, _] => return unsupported("lzma"),
            [0x89, b'L', b'Z', b'O'] => return unsupported("lzo"),
            _ => return Err(Error::UnknownImage { start }),
        };
        if format == Format::Plain {
            return Ok(Payload { data, format, unpacked_size: data.len() });
        }
        if !in_bzimage && format != Format::Gzip {
            return unsupported("a format outside of a bzImage that does not state the unpacked size");
        }
        let body = data.len() - 4;
        let unpacked_size = u32_at(data, body).unwrap_or(0) as usize;
        let data = if format == Format::Gzip { data } else { &data[..body] };
        Ok(Payload { data, format, unpacked_size })
    }

    /// How the kernel is packed.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Bytes that the buffer for [`Payload::unpack`] needs. It is what the module says, so it may be a lie: limit it to
    /// the memory there is before you allocate.
    pub fn unpacked_size(&self) -> usize {
        self.unpacked_size
    }

    /// The kernel's ELF file, if it is not compressed and needs no buffer.
    pub fn plain(&self) -> Option<&'a [u8]> {
        (self.format == Format::Plain).then_some(self.data)
    }

    /// Unpacks the kernel into `out`, which holds [`Payload::unpacked_size`] bytes or more; returns the ELF file. Beside `out`
    /// this takes up to 200 KiB of heap, with xz also the dictionary that the file asks for.
    pub fn unpack<'b>(&self, out: &'b mut [u8]) -> Result<&'b [u8], Error> {
        let present = out.len() as u64;
        let wanted = self.unpacked_size;
        let out = out.get_mut(..wanted).ok_or(Error::BufferTooSmall { wanted: wanted as u64, present })?;
        let corrupt = |what| Error::Corrupt { format: self.format, what };
        let found = match self.format {
            Format::Plain => {
                out.copy_from_slice(self.data);
                wanted
            }
            Format::Zstd => zstd::decode(self.data, out).map_err(|error| corrupt(error.0))?,
            Format::Gzip => other::gzip(self.data, out).map_err(corrupt)?,
            Format::Lz4 => other::lz4(self.data, out).map_err(corrupt)?,
            Format::Xz => other::xz(self.data, out)?,
        };
        if found != wanted {
            return Err(Error::WrongSize { format: self.format, stated: wanted as u64, found: found as u64 });
        }
        Ok(out)
    }
}
