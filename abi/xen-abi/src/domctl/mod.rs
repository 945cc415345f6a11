//! domctl.h: `HYPERVISOR_domctl`: what the tool stack does to domains.

mod device;
mod domain;
mod numbers;
mod state;

pub use device::*;
pub use domain::*;
pub use numbers::*;
pub use state::*;

/// Layout table of this module, for the check against the C headers.
pub(crate) const LAYOUT_PARTS: &[&[crate::layout::StructLayout]] = &[domain::LAYOUT, device::LAYOUT, state::LAYOUT];
/// Constant table of this module.
pub(crate) const CONSTANTS_PART: &[crate::layout::Constant] = numbers::CONSTANTS;

/// Offset of the payload in the envelope, in bytes.
pub const DOMCTL_PAYLOAD_OFFSET: usize = core::mem::offset_of!(Domctl, u);

/// The first 16 bytes of [`Domctl`]: enough to choose the payload and to check the caller.
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
pub struct DomctlHeader {
    /// `XEN_DOMCTL_*`.
    pub cmd: u32,
    /// Must be [`XEN_DOMCTL_INTERFACE_VERSION`].
    pub interface_version: u32,
    /// The domain to act on.
    pub domain: u16,
    /// Unused.
    pub pad: [u16; 3],
}

const _: () = assert!(core::mem::size_of::<DomctlHeader>() == DOMCTL_PAYLOAD_OFFSET);
