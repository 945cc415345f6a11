//! `HYPERVISOR_xen_version`: what this is and what it can do (version.h).

use crate::{Args, Caller, Outcome};
use alloc::string::String;
use core::mem::offset_of;
use domain::Arch;
use types::{DomId, Errno, PAGE_SIZE, Result};
use xen_abi::GuestHandle;
use xen_abi::features::*;
use xen_abi::version::*;
use xen_abi::xen::VMASST_TYPE_PAE_EXTENDED_CR3;

/// What follows the version number, 15 bytes at most.
pub const EXTRA_VERSION: &str = ".0-xenolith";
/// What the tools show as the source's state.
const CHANGESET: &str = concat!("xenolith ", env!("CARGO_PKG_VERSION"));
/// What a caller sees that has no right to know.
const DENIED: &str = "<denied>";
/// Start of the hypervisor's address range, the same for every 64-bit guest.
const VIRTUAL_START: u64 = 0xffff_8000_0000_0000;
/// Longest string that is given out.
const MAX_STRING: usize = 64 << 10;

/// Carries out a xen_version call.
#[inline(always)]
pub fn xen_version<A: Arch>(caller: &Caller<'_, A>, args: Args) -> Outcome {
    // Linux makes this call only to have pending events noticed.
    if args[0] as u32 == XENVER_VERSION {
        return Outcome::Done(XEN_VERSION_WORD.into());
    }
    other_version(caller, args[0] as u32, args[1])
}

#[inline(never)]
fn other_version<A: Arch>(caller: &Caller<'_, A>, command: u32, address: u64) -> Outcome {
    match command {
        XENVER_EXTRAVERSION => text::<A, { XEN_EXTRAVERSION_LEN as usize }>(caller, address, EXTRA_VERSION).into(),
        XENVER_COMPILE_INFO => compile_info(caller, address).into(),
        XENVER_CAPABILITIES => {
            text::<A, { XEN_CAPABILITIES_INFO_LEN as usize }>(caller, address, capabilities(caller)).into()
        }
        XENVER_CHANGESET => text::<A, { XEN_CHANGESET_INFO_LEN as usize }>(caller, address, CHANGESET).into(),
        XENVER_PLATFORM_PARAMETERS => {
            // No part of a translated guest's address space is the hypervisor's.
            let virt_start = if caller.domain.is_translated() { 0 } else { VIRTUAL_START };
            caller.write(GuestHandle::new(address), &PlatformParameters { virt_start }).into()
        }
        XENVER_GET_FEATURES => features(caller, GuestHandle::new(address)).into(),
        XENVER_PAGESIZE if address != 0 => Errno::INVAL.into(),
        XENVER_PAGESIZE => Outcome::Done(PAGE_SIZE as i64),
        XENVER_GUEST_HANDLE => {
            let handle = *caller.domain.handle.lock();
            caller.write(GuestHandle::new(address), &handle).into()
        }
        XENVER_COMMANDLINE => command_line(caller, address).into(),
        XENVER_BUILD_ID | XENVER_COMMANDLINE2 if !caller.domain.is_privileged() => Errno::PERM.into(),
        // The build has no identity note.
        XENVER_BUILD_ID => Errno::NODATA.into(),
        XENVER_EXTRAVERSION2 => sized(caller, address, EXTRA_VERSION).into(),
        XENVER_CAPABILITIES2 => sized(caller, address, capabilities(caller)).into(),
        XENVER_CHANGESET2 => sized(caller, address, CHANGESET).into(),
        XENVER_COMMANDLINE2 => sized(caller, address, &caller.hypervisor.command_line).into(),
        _ => Errno::NOSYS.into(),
    }
}

/// Kinds of guest that can be built, with a space after each; the domain builder looks for its own.
fn capabilities<A: Arch>(caller: &Caller<'_, A>) -> &'static str {
    if caller.machine().host().hvm {
        "xen-3.0-x86_64 xen-3.0-x86_32p hvm-3.0-x86_32 hvm-3.0-x86_32p hvm-3.0-x86_64 "
    } else {
        "xen-3.0-x86_64 xen-3.0-x86_32p "
    }
}

/// A string in a field of `N` bytes, cut where it does not fit, with a zero byte at its end.
fn fixed<const N: usize>(text: &str) -> [u8; N] {
    let mut bytes = [0; N];
    let length = text.len().min(N - 1);
    bytes[..length].copy_from_slice(&text.as_bytes()[..length]);
    bytes
}

fn text<A: Arch, const N: usize>(caller: &Caller<'_, A>, address: u64, text: &str) -> Result<()> {
    caller.machine().copy_out(address, &fixed::<N>(text))
}

fn compile_info<A: Arch>(caller: &Caller<'_, A>, address: u64) -> Result<()> {
    let [compiler, by, place, date] = caller.hypervisor.compile_info;
    let info = CompileInfo {
        compiler: fixed(compiler),
        compile_by: fixed(by),
        compile_domain: fixed(place),
        compile_date: fixed(date),
    };
    caller.write(GuestHandle::new(address), &info)
}

fn command_line<A: Arch>(caller: &Caller<'_, A>, address: u64) -> Result<()> {
    if caller.domain.is_privileged() {
        text::<A, { XEN_COMMANDLINE_LEN as usize }>(caller, address, &caller.hypervisor.command_line)
    } else {
        text::<A, { DENIED.len() + 1 }>(caller, address, DENIED)
    }
}

fn features<A: Arch>(caller: &Caller<'_, A>, handle: GuestHandle<FeatureInfo>) -> Result<()> {
    let mut info = caller.read(handle)?;
    if info.submap_idx >= XENFEAT_NR_SUBMAPS {
        return Err(Errno::INVAL);
    }
    let bit = |number: u32| 1 << number;
    info.submap = bit(XENFEAT_MEMORY_OP_VNODE_SUPPORTED)
        | bit(XENFEAT_DM_MSIX_ALL_WRITES)
        | bit(XENFEAT_RUNSTATE_PHYS_AREA)
        | bit(XENFEAT_VCPU_TIME_PHYS_AREA);
    info.submap |= if caller.domain.is_translated() {
        bit(XENFEAT_WRITABLE_PAGE_TABLES)
            | bit(XENFEAT_AUTO_TRANSLATED_PHYSMAP)
            | bit(XENFEAT_HVM_SAFE_PVCLOCK)
            | bit(XENFEAT_HVM_CALLBACK_VECTOR)
            | bit(XENFEAT_NOT_DIRECT_MAPPED)
    } else {
        bit(XENFEAT_MMU_PT_UPDATE_PRESERVE_AD)
            | bit(XENFEAT_HIGHMEM_ASSIST)
            | bit(XENFEAT_GNTTAB_MAP_AVAIL_BITS)
            // A PV guest knows its machine frames.
            | bit(XENFEAT_DIRECT_MAPPED)
    };
    let assists = caller.domain.vm_assist.load(core::sync::atomic::Ordering::Relaxed);
    if assists & bit(VMASST_TYPE_PAE_EXTENDED_CR3) != 0 {
        info.submap |= bit(XENFEAT_PAE_PGDIR_ABOVE_4GB);
    }
    if caller.domain.id == DomId::DOM0 {
        info.submap |= bit(XENFEAT_DOM0);
    }
    caller.write(handle, &info)
}

/// A string of any length, without a zero byte at its end; the number of bytes. A null address only asks for it.
fn sized<A: Arch>(caller: &Caller<'_, A>, address: u64, text: &str) -> Result<i64> {
    if text.len() > MAX_STRING {
        return Err(Errno::TOOBIG);
    }
    if address != 0 {
        let room = caller.read(GuestHandle::<Varbuf>::new(address))?.len as usize;
        if room < text.len() {
            return Err(Errno::NOBUFS);
        }
        let bytes = address.wrapping_add((offset_of!(Varbuf, len) + size_of::<u32>()) as u64);
        caller.machine().copy_out(bytes, text.as_bytes())?;
    }
    Ok(text.len() as i64)
}

/// The version in one line, for the banner.
pub fn banner() -> String {
    alloc::format!("{XEN_MAJOR}.{XEN_MINOR}{EXTRA_VERSION}")
}
