//! platform.h: `HYPERVISOR_platform_op`: what the hardware domain asks about and of the platform.

mod control;
mod numbers;
mod processor;

pub use control::*;
pub use numbers::*;
pub use processor::*;

/// Layout table of this module, for the check against the C headers.
pub(crate) const LAYOUT_PARTS: &[&[crate::layout::StructLayout]] = &[control::LAYOUT, processor::LAYOUT];
/// Constant table of this module.
pub(crate) const CONSTANTS_PART: &[crate::layout::Constant] = numbers::CONSTANTS;

/// Offset of the payload in the envelope, in bytes.
pub const PLATFORM_OP_PAYLOAD_OFFSET: usize = core::mem::offset_of!(PlatformOp, u);

/// The first 8 bytes of [`PlatformOp`]: enough to choose the payload.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    zerocopy::FromBytes,
    zerocopy::IntoBytes,
    zerocopy::Immutable,
    zerocopy::KnownLayout,
)]
#[repr(C)]
pub struct PlatformOpHeader {
    /// `XENPF_*`.
    pub cmd: u32,
    /// Must be [`XENPF_INTERFACE_VERSION`].
    pub interface_version: u32,
}

const _: () = assert!(core::mem::size_of::<PlatformOpHeader>() == PLATFORM_OP_PAYLOAD_OFFSET);
