//! Where a 32-bit guest's segments begin: the hypervisor reaches its stacks by linear address.

use crate::machine::X86;
use crate::pv::state::VcpuState;
use core::sync::atomic::Ordering::Relaxed;
use platform::Frames;
use types::{Errno, Mfn, Result};
use x86_defs::descriptor::{Descriptor, selector};

/// Descriptors in a page.
const PER_PAGE: usize = 512;

/// The linear address of `offset` in the stack segment `selector`.
///
/// # Errors
/// `EFAULT` where the selector is null or names no data segment of the guest.
pub fn linear(machine: &X86, state: &VcpuState, selector: u16, offset: u32) -> Result<u64> {
    let base = match selector {
        selector::NARROW_RING1_DS | selector::NARROW_RING3_DS => 0,
        _ => find(machine, state, selector).ok_or(Errno::FAULT)?.base(),
    };
    Ok(base.wrapping_add(offset).into())
}

/// The descriptor that a selector names in the guest's part of its tables.
fn find(machine: &X86, state: &VcpuState, name: u16) -> Option<Descriptor> {
    let index = usize::from(name >> 3);
    let frame: Mfn = if name & selector::TABLE_LDT != 0 {
        state.ldt.get(index / PER_PAGE).copied().flatten().filter(|_| index < state.ldt_entries as usize)?
    } else {
        state.gdt.get(index / PER_PAGE).copied().filter(|_| index < state.gdt_entries as usize)?
    };
    let descriptor = Descriptor(machine.table(frame)?[index % PER_PAGE].load(Relaxed));
    let usable = !selector::is_null(name) && descriptor.has(Descriptor::PRESENT | Descriptor::CODE_OR_DATA);
    usable.then_some(descriptor)
}
