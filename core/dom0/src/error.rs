//! Why the control domain cannot be loaded, in words for the person at the console.

use crate::unpack::Format;
use core::fmt;

/// What is in the way. Its text names the problem and what to do about it.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Error {
    /// The module ends before what its header announces.
    Truncated {
        /// Bytes that the header speaks of.
        wanted: u64,
        /// Bytes there are.
        present: u64,
    },
    /// Neither a bzImage nor an ELF file, nor one of these compressed.
    UnknownImage {
        /// First bytes of the module.
        start: [u8; 4],
    },
    /// The bzImage is older than boot protocol 2.08.
    OldProtocol {
        /// Version as in the header: major in the high byte.
        version: u16,
    },
    /// A compression that is not supported.
    UnsupportedCompression {
        /// Its name.
        name: &'static str,
    },
    /// The compressed kernel is damaged.
    Corrupt {
        /// How it is compressed.
        format: Format,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The kernel unpacked to another size than its header says.
    WrongSize {
        /// How it is compressed.
        format: Format,
        /// Bytes that the header says.
        stated: u64,
        /// Bytes that came out.
        found: u64,
    },
    /// The caller's buffer is smaller than [`crate::Payload::unpacked_size`].
    BufferTooSmall {
        /// Bytes needed.
        wanted: u64,
        /// Bytes there are.
        present: u64,
    },
    /// Memory for the decoder is lacking.
    NoMemory {
        /// Bytes needed.
        wanted: u64,
    },
    /// The ELF file contradicts itself.
    BadElf(&'static str),
    /// A kernel for another machine.
    NotX86_64 {
        /// ELF class: 1 is 32 bit, 2 is 64 bit.
        class: u8,
        /// ELF machine number.
        machine: u16,
    },
    /// The kernel carries no notes for PV operation.
    NoXenNote,
    /// A note that is necessary is missing or has an impossible value.
    BadNote {
        /// Name of the note, as in elfnote.h.
        note: &'static str,
        /// What is wrong.
        what: &'static str,
    },
    /// The kernel demands a feature that PV domains do not get here.
    UnmetFeature {
        /// Start of the feature's name, padded with zero bytes.
        name: [u8; 32],
    },
    /// The kernel says that it cannot be a control domain.
    NotDom0Capable,
    /// The domain's memory does not hold what has to be in it at the start.
    MemoryTooSmall {
        /// Pages the domain gets.
        given: u64,
        /// Pages needed at least.
        needed: u64,
    },
    /// Parts of the initial address space collide.
    Overlap(&'static str),
    /// The `dom0_mem` option cannot be read.
    BadOption,
}

impl Error {
    /// Feature name of [`Error::UnmetFeature`] from its bytes.
    pub(crate) fn unmet(feature: &[u8]) -> Error {
        let mut name = [0; 32];
        for (to, &from) in name.iter_mut().zip(feature) {
            *to = from;
        }
        Error::UnmetFeature { name }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Truncated { wanted, present } => write!(
                f,
                "kernel module is truncated: its header says {wanted} bytes, the module has {present}; copy the file again"
            ),
            Error::UnknownImage { start } => write!(
                f,
                "kernel module is no Linux kernel: it starts with {:02x} {:02x} {:02x} {:02x}; name a bzImage or an ELF \
                 file as the first module of the boot entry",
                start[0], start[1], start[2], start[3]
            ),
            Error::OldProtocol { version } => write!(
                f,
                "kernel has boot protocol {}.{:02}, and 2.08 is needed; use Linux 2.6.24 or later",
                version >> 8,
                version & 0xff
            ),
            Error::UnsupportedCompression { name } => write!(
                f,
                "kernel is compressed with {name}, which is not supported; build it with zstd, gzip, xz or lz4"
            ),
            Error::Corrupt { format, what } => {
                write!(f, "kernel is damaged ({format}): {what}; copy the file again")
            }
            Error::WrongSize { format, stated, found } => write!(
                f,
                "kernel is damaged ({format}): it unpacks to {found} bytes instead of {stated}; copy the file again"
            ),
            Error::BufferTooSmall { wanted, present } => {
                write!(
                    f,
                    "unpacking the kernel takes {wanted} bytes and {present} were set aside; use a smaller kernel"
                )
            }
            Error::NoMemory { wanted } => {
                write!(
                    f,
                    "unpacking the kernel takes {wanted} bytes of working memory, which are not there; use zstd or gzip"
                )
            }
            Error::BadElf(what) => write!(f, "kernel is no proper ELF file: {what}; copy the file again"),
            Error::NotX86_64 { class, machine } => write!(
                f,
                "kernel is for another machine (ELF class {class}, machine {machine}); use a 64-bit x86 kernel"
            ),
            Error::NoXenNote => {
                f.write_str("kernel has no Xen notes; use one that is built with CONFIG_XEN_PV and CONFIG_XEN_DOM0")
            }
            Error::BadNote { note, what } => write!(f, "kernel's Xen note {note} {what}; use another kernel"),
            Error::UnmetFeature { name } => {
                let length = name.iter().position(|&b| b == 0).unwrap_or(name.len());
                let text = core::str::from_utf8(&name[..length]).unwrap_or("(not text)");
                write!(f, "kernel demands the feature {text}, which is not there; use another kernel")
            }
            Error::NotDom0Capable => {
                f.write_str("kernel cannot be the control domain; use one that is built with CONFIG_XEN_DOM0")
            }
            Error::MemoryTooSmall { given, needed } => write!(
                f,
                "dom0 has {} MiB and needs {} MiB at least for kernel, initrd and tables; raise dom0_mem or add memory",
                given >> 8,
                needed.div_ceil(256)
            ),
            Error::Overlap(what) => write!(f, "kernel cannot be laid out: {what}; use another kernel"),
            Error::BadOption => f.write_str(
                "dom0_mem cannot be read; write it like dom0_mem=min:512M,max:4G,1G with sizes in K, M or G",
            ),
        }
    }
}

impl core::error::Error for Error {}
