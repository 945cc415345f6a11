//! sysctl.h: `HYPERVISOR_sysctl`: what the tool stack asks about and of the host.

mod host;
mod numbers;
mod pools;

pub use host::*;
pub use numbers::*;
pub use pools::*;

/// Layout table of this module, for the check against the C headers.
pub(crate) const LAYOUT_PARTS: &[&[crate::layout::StructLayout]] = &[host::LAYOUT, pools::LAYOUT];
/// Constant table of this module.
pub(crate) const CONSTANTS_PART: &[crate::layout::Constant] = numbers::CONSTANTS;

/// Offset of the payload in the envelope, in bytes.
pub const SYSCTL_PAYLOAD_OFFSET: usize = core::mem::offset_of!(Sysctl, u);

/// The first 8 bytes of [`Sysctl`]: enough to choose the payload.
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
pub struct SysctlHeader {
    /// `XEN_SYSCTL_*`.
    pub cmd: u32,
    /// Must be [`XEN_SYSCTL_INTERFACE_VERSION`].
    pub interface_version: u32,
}

const _: () = assert!(core::mem::size_of::<SysctlHeader>() == SYSCTL_PAYLOAD_OFFSET);
