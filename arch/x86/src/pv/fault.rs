//! Page faults that are no business of the guest: writes to its read-only page tables and device pages, and stale translations.

use super::emulate::Guest;
use super::traps;
use crate::current::Current;
use core::sync::atomic::Ordering::Relaxed;
use hal_irq::pci::{ConfigSpace, config};
use memory::{Cas, Context, PvPolicy};
use platform::Frames;
use types::{Mfn, Progress};
use x86_defs::control::PageFault;
use x86_defs::pte::{Pte, PteFlags, index};
use x86_emulate::{Write, decode_write};
use xen_abi::xen::VMASST_TYPE_WRITABLE_PAGETABLES;

/// How often a write is tried again when the CPU or another vCPU changes the entry meanwhile; then the guest executes it again.
const TRIES: u32 = 4;

/// Handles a fault that the guest needs not know of. True if it goes on.
pub fn fixup(current: &mut Current<'_>, address: u64, code: PageFault) -> bool {
    let writes = code.contains(PageFault::PRESENT | PageFault::WRITE) && current.state.kernel_mode;
    if writes && emulate_write(current, address) {
        return true;
    }
    is_spurious(current, address, code)
}

fn emulate_write(current: &mut Current<'_>, address: u64) -> bool {
    let Some(root) = current.state.kernel_root() else {
        return false;
    };
    let Ok(entry) = current.hypervisor.memory.read_l1(root, address) else {
        return false;
    };
    if !entry.is_present() || entry.has(PteFlags::WRITABLE) {
        return false;
    }
    let mfn = Mfn(entry.frame());
    let is_table = current.hypervisor.memory.frames().view(mfn).is_some_and(|view| view.ty.level() == 1);
    let assists = current.domain.vm_assist.load(Relaxed);
    let is_assisted = is_table && assists >> VMASST_TYPE_WRITABLE_PAGETABLES & 1 != 0;
    if !is_assisted && !current.machine().is_io_read_only(mfn) {
        return false;
    }
    let Some(write) = decode_write(&Guest(current)) else {
        return false;
    };
    let same_page = (write.address ^ address) >> 12 == 0;
    if !same_page || write.address % u64::from(write.size) != 0 {
        return false;
    }
    if is_table { table_write(current, mfn, &write) } else { device_write(current, mfn, &write) }
}

/// A store to an L1 table. Parts of an entry are written as a whole one.
fn table_write(current: &mut Current<'_>, table: Mfn, write: &Write) -> bool {
    let slot = (write.address & 0xfff) as usize / 8;
    let shift = (write.address & 7) as u32 * 8;
    let mask = u64::MAX >> (64 - 8 * u32::from(write.size));
    let Some(words) = current.machine().table(table) else {
        return false;
    };
    let mut old = words[slot].load(Relaxed);
    for _ in 0..TRIES {
        let effect = write.apply(old >> shift & mask);
        let Some(part) = effect.value else {
            effect.complete(&mut Guest(current));
            return true;
        };
        let new = old & !(mask << shift) | part << shift;
        let expected = (!write.is_plain() || write.size != 8).then_some(old);
        let context = Context::own(&current.domain.memory, current.machine());
        match current.hypervisor.memory.emulate_pte_write(&context, table, slot, expected, new) {
            Ok(Progress::Done(Cas::Written)) => {
                effect.complete(&mut Guest(current));
                return true;
            }
            Ok(Progress::Done(Cas::Differs(now))) => old = now,
            // The guest stores again.
            Ok(Progress::Again(_)) => return true,
            Err(denied) => {
                log::debug!("{}v{}: write to a page table: {denied}", current.domain.id, current.vcpu.id.0);
                return false;
            }
        }
    }
    true
}

/// A store to a device's read-only page: configuration space, or a table of message-signalled interrupts, where it is lost.
fn device_write(current: &mut Current<'_>, mfn: Mfn, write: &Write) -> bool {
    if let Some((function, register)) = config().locate(mfn.address() | write.address & 0xfff) {
        if !matches!(write.size, 1 | 2 | 4) {
            return false;
        }
        let old = if write.is_plain() { 0 } else { config().read(function, register, write.size) };
        let effect = write.apply(old.into());
        if let Some(value) = effect.value {
            config().write(function, register, write.size, value as u32);
        }
        effect.complete(&mut Guest(current));
        return true;
    }
    if !write.is_plain() {
        return false;
    }
    write.apply(0).complete(&mut Guest(current));
    true
}

/// Whether the tables allow the access now, so that the CPU used an older translation. One retry is given at one place.
fn is_spurious(current: &mut Current<'_>, address: u64, code: PageFault) -> bool {
    let here = (current.state.context.regs.rip, address);
    if !is_allowed(current, address, code) || current.state.retried == here {
        current.state.retried = (0, 0);
        return false;
    }
    current.state.retried = here;
    hal_cpu::invlpg(address);
    true
}

/// Walks the tables as the CPU does (SDM vol. 3, 4.6): for ring 3, or for a 32-bit guest's kernel.
fn is_allowed(current: &Current<'_>, address: u64, code: PageFault) -> bool {
    let mut needed = PteFlags::PRESENT;
    if code.contains(PageFault::USER) {
        needed |= PteFlags::USER;
    }
    if code.contains(PageFault::WRITE) {
        needed |= PteFlags::WRITABLE;
    }
    let Some(mut table) = current.state.root() else {
        return false;
    };
    for level in [4, 3, 2, 1] {
        let Some(words) = current.machine().table(table) else {
            return false;
        };
        let entry = Pte(words[index(address, level)].load(Relaxed));
        if !entry.has(needed) {
            return false;
        }
        if matches!(level, 2 | 3) && entry.has(PteFlags::LARGE_OR_PAT) {
            return true;
        }
        table = Mfn(entry.frame());
    }
    true
}

/// A fault in this CPU's window of the guest's local descriptor table: the guest used a selector whose page is missing, and
/// gets the fault at the address where its table is. False if the fault is another one.
pub fn descriptor_fault(current: &mut Current<'_>, address: u64) -> bool {
    let Some(offset) = hal_cpu::guest_ldt_offset(address) else {
        return false;
    };
    if current.state.ldt_entries == 0 {
        return false;
    }
    let place = current.state.ldt_base.wrapping_add(offset.into());
    traps::inject_page_fault(current, place, 0);
    true
}
