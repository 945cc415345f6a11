//! Grants: the table, which stands on a play page, and the operations on it.

use crate::call::{call3, update_va};
use crate::memory::{Guest, WRITABLE, page, write};
use crate::pvh;
use crate::report::Outcome;
use xen_abi::GuestHandle;
use xen_abi::grant_table::*;
use xen_abi::memory::XENMAPSPACE_GRANT_TABLE;
use xen_abi::xen::*;

/// Where the table of grants is mapped.
pub const TABLE: usize = 24;
/// A page that is granted.
pub const GIVEN: usize = 25;
/// Where it is mapped.
pub const TAKEN: usize = 26;
/// The first reference that is not reserved, and others.
pub const REFERENCE: u32 = 8;

/// One operation on grants, with one structure.
pub fn grant_op<T>(command: u32, argument: &mut T) -> i64 {
    call3(HYPERVISOR_GRANT_TABLE_OP, u64::from(command), (&raw mut *argument) as u64, 1)
}

/// What a structure's status says, or the error of the call itself.
pub fn status(result: i64, status: i16) -> Outcome {
    if result != 0 {
        return Outcome::Code(result);
    }
    Outcome::Text(match status {
        GNTST_OKAY => "okay",
        GNTST_GENERAL_ERROR => "general error",
        GNTST_BAD_DOMAIN => "bad domain",
        GNTST_BAD_GNTREF => "bad reference",
        GNTST_BAD_HANDLE => "bad handle",
        GNTST_BAD_VIRT_ADDR => "bad virtual address",
        GNTST_BAD_DEV_ADDR => "bad device address",
        GNTST_NO_DEVICE_SPACE => "no device space",
        GNTST_PERMISSION_DENIED => "permission denied",
        GNTST_BAD_PAGE => "bad page",
        GNTST_BAD_COPY_ARG => "bad copy argument",
        GNTST_ADDRESS_TOO_BIG => "address too big",
        GNTST_EAGAIN => "again",
        GNTST_NO_SPACE => "no space",
        _ => "unknown status",
    })
}

/// Has the table set up with so many frames.
pub fn setup(dom: u16, nr_frames: u32, list: u64) -> Outcome {
    let mut setup =
        SetupTable { dom, _gap0: [0; 2], nr_frames, status: 99, _gap1: [0; 6], frame_list: GuestHandle::new(list) };
    let result = grant_op(GNTTABOP_SETUP_TABLE, &mut setup);
    status(result, setup.status)
}

/// Sets the table up and maps its first page; nothing else works without it.
pub fn open_table(guest: &Guest) -> Outcome {
    if pvh::is_translated() {
        return Outcome::Code(pvh::add_to_physmap(XENMAPSPACE_GRANT_TABLE, 0, guest.page_frame(TABLE)));
    }
    let mut frames = [0u64; 1];
    let outcome = setup(DOMID_SELF, 1, (&raw mut frames) as u64);
    if outcome != Outcome::Text("okay") {
        return outcome;
    }
    Outcome::Code(update_va(page(TABLE), core::hint::black_box(frames)[0] << 12 | WRITABLE, UVMF_INVLPG))
}

/// Writes entry `reference` of the table, which is of version 1.
pub fn grant(reference: u32, flags: u16, domain: u16, frame: u64) {
    let entry = u64::from(flags) | u64::from(domain) << 16 | frame << 32;
    // SAFETY: within the page of grants.
    unsafe { write(page(TABLE) + 8 * u64::from(reference), entry) };
}

/// Maps a grant of `dom`; the handle.
pub fn map(dom: u16, reference: u32, flags: u32, address: u64) -> (Outcome, u32) {
    let mut map =
        MapGrantRef { host_addr: address, flags, r#ref: reference, dom, status: 99, handle: !0, dev_bus_addr: 0 };
    let result = grant_op(GNTTABOP_MAP_GRANT_REF, &mut map);
    (status(result, map.status), map.handle)
}

/// Unmaps it.
pub fn unmap(handle: u32, address: u64) -> Outcome {
    let mut unmap = UnmapGrantRef { host_addr: address, dev_bus_addr: 0, handle, status: 99, _gap0: [0; 2] };
    let result = grant_op(GNTTABOP_UNMAP_GRANT_REF, &mut unmap);
    status(result, unmap.status)
}

/// One end of a copy.
pub fn copy_end(u: u64, domid: u16, offset: u16) -> CopyPtr {
    CopyPtr { u, domid, offset, _gap0: [0; 4] }
}

/// Copies `len` bytes.
pub fn copy(source: CopyPtr, dest: CopyPtr, len: u16, flags: u16) -> Outcome {
    let mut copy = Copy { source, dest, len, flags, status: 99, _gap0: [0; 2] };
    let result = grant_op(GNTTABOP_COPY, &mut copy);
    status(result, copy.status)
}

/// For reading and writing.
pub const WRITE: u32 = GNTMAP_HOST_MAP;
/// For reading.
pub const READ: u32 = GNTMAP_HOST_MAP | GNTMAP_READONLY;
