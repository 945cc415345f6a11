//! The hypervisor's virtual addresses. They lie in L4 slots 256 to 271, which no PV guest may change (xen-x86_64.h,
//! `HYPERVISOR_VIRT_START`), and are the same under every root table.

/// First of the hypervisor's slots in an L4 table.
pub const FIRST_SLOT: usize = 256;
/// Number of the hypervisor's slots in an L4 table.
pub const SLOTS: usize = 16;
/// Machine-to-physical table as guests see it, read-only (`MACH2PHYS_VIRT_START`).
pub const M2P_GUEST: u64 = 0xffff_8000_0000_0000;
/// The same table, writable, for the hypervisor.
pub const M2P: u64 = 0xffff_8080_0000_0000;
/// Device registers and firmware tables.
pub const IO: u64 = 0xffff_8280_0000_0000;
/// Bytes at [`IO`].
pub const IO_SIZE: u64 = 1 << 36;
/// The table of all frames ([`crate::boot::take_frame_table`]).
pub const FRAME_TABLE: u64 = 0xffff_8290_0000_0000;
/// Bytes at [`FRAME_TABLE`].
pub const FRAME_TABLE_SIZE: u64 = 1 << 36;
/// Windows that other parts of the hypervisor lay out: per-CPU descriptor tables, stacks with guard pages.
pub const WINDOWS: u64 = 0xffff_82c0_0000_0000;
/// Bytes at [`WINDOWS`]; the upper half of them is handed out by [`crate::stack`].
pub const WINDOWS_SIZE: u64 = 1 << 36;
/// Physical address 0 as the image is linked; image.ld and boot/entry.S name the same number.
pub const IMAGE: u64 = 0xffff_82d0_8000_0000;
/// Physical memory, from address 0 on.
pub const DIRECT_MAP: u64 = 0xffff_8300_0000_0000;
/// Bytes of physical memory that the direct map can hold.
pub const DIRECT_MAP_SIZE: u64 = 10 << 39;
