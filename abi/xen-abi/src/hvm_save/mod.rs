//! hvm/save.h and arch-x86/hvm/save.h: records of an HVM guest's saved state.

pub mod interrupts;

/// Layout table of this module, for the check against the C headers.
pub(crate) const LAYOUT_PARTS: &[&[crate::layout::StructLayout]] = &[interrupts::LAYOUT];
