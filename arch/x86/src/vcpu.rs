//! The state of a vCPU that belongs to whoever runs it, by the kind of its guest.

use crate::current::Current;
use crate::vectors::Vectors;
use crate::{hvm, pv};
use alloc::boxed::Box;
use types::{Errno, Result};

/// A kind of guest: how a CPU becomes a vCPU's, and runs it. Interrupts are off all along.
pub trait Guest: Sized {
    /// Whether the addresses that a call of its gives are those of the address space that is loaded while it runs.
    fn is_loaded(&self) -> bool;
    /// Loads what the CPU needs to enter the guest. What cannot be loaded crashes the domain.
    fn load(current: &mut Current<'_, Self>);
    /// Saves what a guest may have changed without the hypervisor.
    fn save(current: &mut Current<'_, Self>);
    /// Makes the next entry deliver what is due.
    fn deliver(current: &mut Current<'_, Self>);
    /// Enters the guest, and handles what it left for.
    fn run(current: &mut Current<'_, Self>);
}

/// The state of a vCPU.
pub enum VcpuState {
    /// Of a PV guest.
    Pv(Box<pv::VcpuState>),
    /// Of an HVM or PVH guest.
    Hvm(Box<hvm::VcpuState>),
}

impl VcpuState {
    /// Its vector registers.
    pub fn vectors(&mut self) -> &mut Vectors {
        match self {
            VcpuState::Pv(state) => &mut state.vectors,
            VcpuState::Hvm(state) => &mut state.vectors,
        }
    }

    /// The state of a PV guest's vCPU.
    ///
    /// # Errors
    /// `EOPNOTSUPP` for another kind.
    pub fn pv(&mut self) -> Result<&mut pv::VcpuState> {
        match self {
            VcpuState::Pv(state) => Ok(state),
            VcpuState::Hvm(_) => Err(Errno::OPNOTSUPP),
        }
    }

    /// The state of an HVM or PVH guest's vCPU.
    ///
    /// # Errors
    /// `EINVAL` for another kind.
    pub fn hvm(&mut self) -> Result<&mut hvm::VcpuState> {
        match self {
            VcpuState::Hvm(state) => Ok(state),
            VcpuState::Pv(_) => Err(Errno::INVAL),
        }
    }
}
