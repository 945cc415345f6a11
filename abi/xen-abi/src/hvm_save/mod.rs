//! hvm/save.h: the records that an HVM or PVH guest's saved state consists of.

pub mod clocks;
pub mod cpu;
pub mod interrupts;
pub mod msrs;
pub mod viridian;
