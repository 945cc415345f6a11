//! Descriptor tables of PV guests. Their frames are the guest's, mapped read-only there, and checked entry by entry.

use super::state::GDT_PAGES;
use crate::current::Current;
use crate::machine::X86;
use arrayvec::ArrayVec;
use core::sync::atomic::Ordering::SeqCst;
use domain::Hypervisor;
use hypercall::{Args, Outcome};
use memory::FrameType;
use platform::{Frames, GuestMemory};
use types::{DomId, Errno, Mfn, Result};

/// Descriptors in a page.
const PER_PAGE: u64 = 512;
/// Descriptors in a local table at most (SDM vol. 3, 3.5.1).
const MAX_LDT: u64 = 8192;

/// HYPERVISOR_set_gdt: list of frames, number of descriptors.
pub fn set_gdt(current: &mut Current<'_>, args: Args) -> Outcome {
    let (machine, list) = (current.machine(), args[0]);
    let frame = |index: u64| {
        let mut word = [0; 8];
        machine.copy_in(list.wrapping_add(index * 8), &mut word)?;
        Ok(Mfn(u64::from_le_bytes(word)))
    };
    replace_gdt(current, frame, u64::from(args[1] as u32)).into()
}

/// Makes `entries` descriptors the guest's table, in the frames that `frame` gives.
///
/// # Errors
/// `EINVAL` for too many, or for frames that cannot be a table; what `frame` fails with.
pub fn replace_gdt(current: &mut Current<'_>, frame: impl Fn(u64) -> Result<Mfn>, entries: u64) -> Result<()> {
    let pages = entries.div_ceil(PER_PAGE) as usize;
    if entries > GDT_PAGES as u64 * PER_PAGE {
        return Err(Errno::INVAL);
    }
    let mut frames = ArrayVec::<Mfn, GDT_PAGES>::new();
    for index in 0..pages {
        frames.push(frame(index as u64)?);
    }
    let taken = take_descriptors(current.hypervisor, current.domain.id, &frames)?;
    hal_cpu::set_guest_gdt(&taken)?;
    let old = core::mem::replace(&mut current.state.gdt, taken);
    current.state.gdt_entries = entries as u32;
    for mfn in old {
        current.hypervisor.memory.put_descriptors(mfn);
    }
    Ok(())
}

/// Takes the frames as descriptor tables of a domain, all or none.
///
/// # Errors
/// `EINVAL` where one is not the domain's, is in another use, or holds what a guest must not have.
pub fn take_descriptors(
    hypervisor: &Hypervisor<X86>,
    domain: DomId,
    frames: &[Mfn],
) -> Result<ArrayVec<Mfn, GDT_PAGES>> {
    let mut taken = ArrayVec::<Mfn, GDT_PAGES>::new();
    for &mfn in frames {
        if let Err(denied) = hypervisor.memory.get_descriptors(mfn, domain) {
            log::debug!("{domain}: set_gdt: {denied}");
            taken.into_iter().for_each(|mfn| hypervisor.memory.put_descriptors(mfn));
            return Err(Errno::INVAL);
        }
        taken.push(mfn);
    }
    Ok(taken)
}

/// HYPERVISOR_update_descriptor: machine address, descriptor.
pub fn update_descriptor(current: &mut Current<'_>, args: Args) -> Outcome {
    write_descriptor(current, args[0], args[1]).into()
}

fn write_descriptor(current: &mut Current<'_>, address: u64, descriptor: u64) -> Result<()> {
    if address % 8 != 0 {
        return Err(Errno::INVAL);
    }
    let checked = memory::check_descriptor(descriptor, current.domain.memory.is_pae()).ok_or(Errno::INVAL)?;
    let mfn = Mfn::containing(address);
    let memory = &current.hypervisor.memory;
    let is_table = memory.frames().view(mfn).is_some_and(|view| view.ty == FrameType::SegDesc);
    let taken = if is_table {
        memory.get_descriptors(mfn, current.domain.id)
    } else {
        memory.get_writable(mfn, current.domain.id)
    };
    taken.map_err(|denied| {
        log::debug!("{}: update_descriptor: {denied}", current.domain.id);
        Errno::INVAL
    })?;
    if let Some(table) = current.machine().table(mfn) {
        table[(address & 0xfff) as usize / 8].store(checked, SeqCst);
    }
    if is_table {
        memory.put_descriptors(mfn)
    } else {
        memory.put_writable(mfn)
    }
    Ok(())
}

/// MMUEXT_SET_LDT: guest address of the table, a multiple of 4096, and the number of its descriptors. Its frames are found
/// and held now; pages that the guest has not mapped, or that hold what a guest must not have, read as absent.
///
/// # Errors
/// `EINVAL` for a bad address or number.
pub fn set_ldt(current: &mut Current<'_>, base: u64, entries: u64) -> Result<()> {
    // The number is of 32 bits; without entries there is no address.
    let entries = entries & 0xffff_ffff;
    let base = if entries == 0 { 0 } else { base };
    if base % 4096 != 0 || entries > MAX_LDT || entries != 0 && !hal_cpu::is_guest_address(base) {
        return Err(Errno::INVAL);
    }
    let old = core::mem::take(&mut current.state.ldt);
    if let Some(root) = current.state.kernel_root() {
        for page in 0..entries.div_ceil(PER_PAGE) {
            let entry = current.hypervisor.memory.read_l1(root, base + page * 4096);
            let mfn = entry.ok().filter(|entry| entry.is_present()).map(|entry| Mfn(entry.frame()));
            current.state.ldt[page as usize] =
                mfn.filter(|&mfn| current.hypervisor.memory.get_descriptors(mfn, current.domain.id).is_ok());
        }
    }
    current.state.ldt_base = base;
    current.state.ldt_entries = entries as u32;
    hal_cpu::set_guest_ldt(&current.state.ldt, entries as u32)?;
    for mfn in old.into_iter().flatten() {
        current.hypervisor.memory.put_descriptors(mfn);
    }
    Ok(())
}
