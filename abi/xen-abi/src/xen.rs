//! xen.h: hypercall numbers, memory-management calls, the shared information page and the start information of a guest.

use crate::arch_x86::{ArchSharedInfo, ArchVcpuInfo};
use crate::{GuestHandle, Union};

abi_constants! {
    "xen.h";
    HYPERVISOR_SET_TRAP_TABLE: u32 = 0 => "__HYPERVISOR_set_trap_table";
    HYPERVISOR_MMU_UPDATE: u32 = 1 => "__HYPERVISOR_mmu_update";
    HYPERVISOR_SET_GDT: u32 = 2 => "__HYPERVISOR_set_gdt";
    HYPERVISOR_STACK_SWITCH: u32 = 3 => "__HYPERVISOR_stack_switch";
    HYPERVISOR_SET_CALLBACKS: u32 = 4 => "__HYPERVISOR_set_callbacks";
    HYPERVISOR_FPU_TASKSWITCH: u32 = 5 => "__HYPERVISOR_fpu_taskswitch";
    HYPERVISOR_SCHED_OP_COMPAT: u32 = 6 => "__HYPERVISOR_sched_op_compat";
    HYPERVISOR_PLATFORM_OP: u32 = 7 => "__HYPERVISOR_platform_op";
    HYPERVISOR_SET_DEBUGREG: u32 = 8 => "__HYPERVISOR_set_debugreg";
    HYPERVISOR_GET_DEBUGREG: u32 = 9 => "__HYPERVISOR_get_debugreg";
    HYPERVISOR_UPDATE_DESCRIPTOR: u32 = 10 => "__HYPERVISOR_update_descriptor";
    HYPERVISOR_MEMORY_OP: u32 = 12 => "__HYPERVISOR_memory_op";
    HYPERVISOR_MULTICALL: u32 = 13 => "__HYPERVISOR_multicall";
    HYPERVISOR_UPDATE_VA_MAPPING: u32 = 14 => "__HYPERVISOR_update_va_mapping";
    HYPERVISOR_SET_TIMER_OP: u32 = 15 => "__HYPERVISOR_set_timer_op";
    HYPERVISOR_EVENT_CHANNEL_OP_COMPAT: u32 = 16 => "__HYPERVISOR_event_channel_op_compat";
    HYPERVISOR_XEN_VERSION: u32 = 17 => "__HYPERVISOR_xen_version";
    HYPERVISOR_CONSOLE_IO: u32 = 18 => "__HYPERVISOR_console_io";
    HYPERVISOR_PHYSDEV_OP_COMPAT: u32 = 19 => "__HYPERVISOR_physdev_op_compat";
    HYPERVISOR_GRANT_TABLE_OP: u32 = 20 => "__HYPERVISOR_grant_table_op";
    HYPERVISOR_VM_ASSIST: u32 = 21 => "__HYPERVISOR_vm_assist";
    HYPERVISOR_UPDATE_VA_MAPPING_OTHERDOMAIN: u32 = 22 => "__HYPERVISOR_update_va_mapping_otherdomain";
    HYPERVISOR_IRET: u32 = 23 => "__HYPERVISOR_iret";
    HYPERVISOR_VCPU_OP: u32 = 24 => "__HYPERVISOR_vcpu_op";
    HYPERVISOR_SET_SEGMENT_BASE: u32 = 25 => "__HYPERVISOR_set_segment_base";
    HYPERVISOR_MMUEXT_OP: u32 = 26 => "__HYPERVISOR_mmuext_op";
    HYPERVISOR_XSM_OP: u32 = 27 => "__HYPERVISOR_xsm_op";
    HYPERVISOR_NMI_OP: u32 = 28 => "__HYPERVISOR_nmi_op";
    HYPERVISOR_SCHED_OP: u32 = 29 => "__HYPERVISOR_sched_op";
    HYPERVISOR_CALLBACK_OP: u32 = 30 => "__HYPERVISOR_callback_op";
    HYPERVISOR_XENOPROF_OP: u32 = 31 => "__HYPERVISOR_xenoprof_op";
    HYPERVISOR_EVENT_CHANNEL_OP: u32 = 32 => "__HYPERVISOR_event_channel_op";
    HYPERVISOR_PHYSDEV_OP: u32 = 33 => "__HYPERVISOR_physdev_op";
    HYPERVISOR_HVM_OP: u32 = 34 => "__HYPERVISOR_hvm_op";
    HYPERVISOR_SYSCTL: u32 = 35 => "__HYPERVISOR_sysctl";
    HYPERVISOR_DOMCTL: u32 = 36 => "__HYPERVISOR_domctl";
    HYPERVISOR_KEXEC_OP: u32 = 37 => "__HYPERVISOR_kexec_op";
    HYPERVISOR_TMEM_OP: u32 = 38 => "__HYPERVISOR_tmem_op";
    HYPERVISOR_ARGO_OP: u32 = 39 => "__HYPERVISOR_argo_op";
    HYPERVISOR_XENPMU_OP: u32 = 40 => "__HYPERVISOR_xenpmu_op";
    HYPERVISOR_DM_OP: u32 = 41 => "__HYPERVISOR_dm_op";
    HYPERVISOR_HYPFS_OP: u32 = 42 => "__HYPERVISOR_hypfs_op";
    HYPERVISOR_ARCH_0: u32 = 48 => "__HYPERVISOR_arch_0";
    HYPERVISOR_ARCH_1: u32 = 49 => "__HYPERVISOR_arch_1";
    HYPERVISOR_ARCH_2: u32 = 50 => "__HYPERVISOR_arch_2";
    HYPERVISOR_ARCH_3: u32 = 51 => "__HYPERVISOR_arch_3";
    HYPERVISOR_ARCH_4: u32 = 52 => "__HYPERVISOR_arch_4";
    HYPERVISOR_ARCH_5: u32 = 53 => "__HYPERVISOR_arch_5";
    HYPERVISOR_ARCH_6: u32 = 54 => "__HYPERVISOR_arch_6";
    HYPERVISOR_ARCH_7: u32 = 55 => "__HYPERVISOR_arch_7";

    /// Per vCPU: a timer of the vCPU fired.
    VIRQ_TIMER: u32 = 0;
    /// Per vCPU: print debugging information.
    VIRQ_DEBUG: u32 = 1;
    /// Global: input from the hypervisor's console.
    VIRQ_CONSOLE: u32 = 2;
    /// Global: a domain shut down, died or was created.
    VIRQ_DOM_EXC: u32 = 3;
    /// Global: trace records wait.
    VIRQ_TBUF: u32 = 4;
    /// Global: a domain paused for its debugger.
    VIRQ_DEBUGGER: u32 = 6;
    VIRQ_XENOPROF: u32 = 7;
    /// Global: the console ring has new text.
    VIRQ_CON_RING: u32 = 8;
    /// Global: a physical CPU went on or off.
    VIRQ_PCPU_STATE: u32 = 9;
    VIRQ_MEM_EVENT: u32 = 10;
    VIRQ_ARGO: u32 = 11;
    /// Global: memory is short.
    VIRQ_ENOMEM: u32 = 12;
    VIRQ_XENPMU: u32 = 13;
    VIRQ_ARCH_0: u32 = 16;
    VIRQ_ARCH_1: u32 = 17;
    VIRQ_ARCH_2: u32 = 18;
    VIRQ_ARCH_3: u32 = 19;
    VIRQ_ARCH_4: u32 = 20;
    VIRQ_ARCH_5: u32 = 21;
    VIRQ_ARCH_6: u32 = 22;
    VIRQ_ARCH_7: u32 = 23;

    NR_VIRQS: u32 = 24;

    /// Writes a page-table entry.
    MMU_NORMAL_PT_UPDATE: u32 = 0;
    /// Writes an entry of the machine-to-physical table.
    MMU_MACHPHYS_UPDATE: u32 = 1;
    /// Writes a page-table entry but keeps the accessed and dirty bits that it has.
    MMU_PT_UPDATE_PRESERVE_AD: u32 = 2;
    /// Writes a page-table entry whose frame is never translated.
    MMU_PT_UPDATE_NO_TRANSLATE: u32 = 3;

    MMUEXT_PIN_L1_TABLE: u32 = 0;
    MMUEXT_PIN_L2_TABLE: u32 = 1;
    MMUEXT_PIN_L3_TABLE: u32 = 2;
    MMUEXT_PIN_L4_TABLE: u32 = 3;
    MMUEXT_UNPIN_TABLE: u32 = 4;
    MMUEXT_NEW_BASEPTR: u32 = 5;
    MMUEXT_TLB_FLUSH_LOCAL: u32 = 6;
    MMUEXT_INVLPG_LOCAL: u32 = 7;
    MMUEXT_TLB_FLUSH_MULTI: u32 = 8;
    MMUEXT_INVLPG_MULTI: u32 = 9;
    MMUEXT_TLB_FLUSH_ALL: u32 = 10;
    MMUEXT_INVLPG_ALL: u32 = 11;
    MMUEXT_FLUSH_CACHE: u32 = 12;
    MMUEXT_SET_LDT: u32 = 13;
    MMUEXT_NEW_USER_BASEPTR: u32 = 15;
    MMUEXT_CLEAR_PAGE: u32 = 0x10;
    MMUEXT_COPY_PAGE: u32 = 17;
    MMUEXT_FLUSH_CACHE_GLOBAL: u32 = 18;
    MMUEXT_MARK_SUPER: u32 = 19;
    MMUEXT_UNMARK_SUPER: u32 = 20;

    UVMF_NONE: u64 = 0;
    UVMF_TLB_FLUSH: u64 = 1;
    UVMF_INVLPG: u64 = 2;
    UVMF_FLUSHTYPE_MASK: u64 = 3;
    UVMF_MULTI: u64 = 0;
    UVMF_LOCAL: u64 = 0;
    UVMF_ALL: u64 = 4;

    CONSOLEIO_WRITE: u32 = 0 => "CONSOLEIO_write";
    CONSOLEIO_READ: u32 = 1 => "CONSOLEIO_read";

    VMASST_CMD_ENABLE: u32 = 0 => "VMASST_CMD_enable";
    VMASST_CMD_DISABLE: u32 = 1 => "VMASST_CMD_disable";
    VMASST_TYPE_4GB_SEGMENTS: u32 = 0 => "VMASST_TYPE_4gb_segments";
    VMASST_TYPE_4GB_SEGMENTS_NOTIFY: u32 = 1 => "VMASST_TYPE_4gb_segments_notify";
    VMASST_TYPE_WRITABLE_PAGETABLES: u32 = 2 => "VMASST_TYPE_writable_pagetables";
    VMASST_TYPE_PAE_EXTENDED_CR3: u32 = 3 => "VMASST_TYPE_pae_extended_cr3";
    VMASST_TYPE_ARCHITECTURAL_IOPL: u32 = 4 => "VMASST_TYPE_architectural_iopl";
    VMASST_TYPE_RUNSTATE_UPDATE_FLAG: u32 = 5 => "VMASST_TYPE_runstate_update_flag";
    VMASST_TYPE_M2P_STRICT: u32 = 0x20 => "VMASST_TYPE_m2p_strict";

    DOMID_FIRST_RESERVED: u16 = 0x7ff0;
    /// The caller.
    DOMID_SELF: u16 = 0x7ff0;
    /// Owner of device memory.
    DOMID_IO: u16 = 0x7ff1;
    /// Owner of memory that the hypervisor shares out.
    DOMID_XEN: u16 = 0x7ff2;
    /// Owner of shared (copy-on-write) pages.
    DOMID_COW: u16 = 0x7ff3;
    /// No domain.
    DOMID_INVALID: u16 = 0x7ff4;
    /// The idle domain.
    DOMID_IDLE: u16 = 0x7fff;
    DOMID_MASK: u16 = 0x7fff;

    XEN_PVCLOCK_TSC_STABLE_BIT: u32 = 1;
    XEN_PVCLOCK_GUEST_STOPPED: u32 = 2;

    MAX_GUEST_CMDLINE: u32 = 1024;

    /// The domain is privileged.
    SIF_PRIVILEGED: u32 = 1;
    /// The domain is dom0.
    SIF_INITDOMAIN: u32 = 2;
    /// The module is a multiboot module list.
    SIF_MULTIBOOT_MOD: u32 = 4;
    /// `mod_start` is a frame number.
    SIF_MOD_START_PFN: u32 = 8;
    /// The tools understand a physical-to-machine table that is mapped linearly.
    SIF_VIRT_P2M_4TOOLS: u32 = 0x10;
    SIF_PM_MASK: u32 = 0xff00;

    XEN_VGATYPE_TEXT_MODE_3: u32 = 3;
    XEN_VGATYPE_VESA_LFB: u32 = 35;
    XEN_VGATYPE_EFI_LFB: u32 = 112;
}

abi_structs! {
    "xen.h";
    /// One operation of `HYPERVISOR_mmuext_op`.
    MmuextOp = "struct mmuext_op" {
        /// `MMUEXT_*`.
        cmd: u32,
        _gap0: [u8; 4],
        /// Machine frame (pin, unpin, base pointers, clear and copy page) or linear address (invlpg, LDT).
        arg1: u64,
        /// Number of LDT entries in the lower 32 bits, handle of a vCPU mask, or the source frame of a copy.
        arg2: u64,
    }

    /// One update of `HYPERVISOR_mmu_update`.
    MmuUpdate = "struct mmu_update" {
        /// Machine address of the entry; bits 1:0 are an `MMU_*` command.
        ptr: u64,
        /// The new contents, or the pseudo-physical frame for `MMU_MACHPHYS_UPDATE`.
        val: u64,
    }

    /// One call of `HYPERVISOR_multicall`.
    MulticallEntry = "struct multicall_entry" {
        /// Hypercall number.
        op: u64,
        /// OUT: what the call returned.
        result: u64,
        /// The call's arguments.
        args: [u64; 6],
    }

    /// Clock parameters of a vCPU (the "pvclock" structure), written by the hypervisor under a version counter that
    /// is odd during an update.
    VcpuTimeInfo = "struct vcpu_time_info" {
        /// Odd while the hypervisor writes.
        version: u32,
        pad0: u32,
        /// TSC when `system_time` was taken.
        tsc_timestamp: u64,
        /// Nanoseconds since the hypervisor started, at `tsc_timestamp`.
        system_time: u64,
        /// Nanoseconds per (shifted) TSC tick, as a fraction of 2^32.
        tsc_to_system_mul: u32,
        /// Power of two by which to scale a TSC difference first; negative shifts right.
        tsc_shift: i8,
        /// `XEN_PVCLOCK_*`.
        flags: u8,
        pad1: [u8; 2],
    }

    /// State shared between the hypervisor and one vCPU.
    VcpuInfo = "struct vcpu_info" {
        /// Set to 1 by the hypervisor when an event is pending, cleared by the guest.
        evtchn_upcall_pending: u8,
        /// Non-zero while the guest wants no upcall; the virtual interrupt flag.
        evtchn_upcall_mask: u8,
        _gap0: [u8; 6],
        /// Bit n: word n of `SharedInfo::evtchn_pending` has an unmasked bit (two-level layout).
        evtchn_pending_sel: u64,
        arch: ArchVcpuInfo,
        time: VcpuTimeInfo,
    }

    /// The page shared between the hypervisor and a domain.
    SharedInfo = "struct shared_info" {
        vcpu_info: [VcpuInfo; 32],
        /// One bit per port: an event waits (two-level layout).
        evtchn_pending: [u64; 64],
        /// One bit per port: the guest wants no notification (two-level layout).
        evtchn_mask: [u64; 64],
        /// Odd while the hypervisor writes the wall clock.
        wc_version: u32,
        /// Lower half of the Unix time, in seconds, at system time 0.
        wc_sec: u32,
        /// Nanoseconds that go with the seconds.
        wc_nsec: u32,
        /// Upper half of the seconds.
        wc_sec_hi: u32,
        arch: ArchSharedInfo,
    }

    /// Console part of the start information of an ordinary domain.
    StartInfoConsoleDomU = "__typeof__(((struct start_info *)0)->console.domU)" {
        mfn: u64,
        evtchn: u32,
        _gap0: [u8; 4],
    }

    /// Console part of the start information of dom0: where a `Dom0VgaConsoleInfo` lies.
    StartInfoConsoleDom0 = "__typeof__(((struct start_info *)0)->console.dom0)" {
        /// Offset in bytes from the start information.
        info_off: u32,
        /// Size in bytes.
        info_size: u32,
    }

    /// What a PV kernel finds at the address in RSI when it starts.
    StartInfo = "struct start_info" {
        /// `xen-<version>-<platform>`, NUL-terminated.
        magic: [u8; 32],
        /// Pages that the domain has.
        nr_pages: u64,
        /// Machine address of the shared page.
        shared_info: u64,
        /// `SIF_*`.
        flags: u32,
        _gap0: [u8; 4],
        /// Machine frame of the Xenstore page; 0 for dom0.
        store_mfn: u64,
        /// Port for Xenstore; 0 for dom0.
        store_evtchn: u32,
        _gap1: [u8; 4],
        /// `StartInfoConsoleDomU` or `StartInfoConsoleDom0`.
        console: Union<u64, 2>,
        /// Virtual address of the top-level page table.
        pt_base: u64,
        /// Number of frames of the initial page tables.
        nr_pt_frames: u64,
        /// Virtual address of the physical-to-machine table.
        mfn_list: u64,
        /// Virtual address of the module (the initial RAM disk), or its frame number if `SIF_MOD_START_PFN` is set.
        mod_start: u64,
        /// Size of the module in bytes.
        mod_len: u64,
        /// Kernel command line, NUL-terminated.
        cmd_line: [u8; 1024],
        /// First pseudo-physical frame of the physical-to-machine table, if that is mapped outside the initial
        /// region.
        first_p2m_pfn: u64,
        /// Number of these frames.
        nr_p2m_frames: u64,
    }

    /// A module as dom0 finds it when `SIF_MULTIBOOT_MOD` is set.
    MultibootModList = "struct xen_multiboot_mod_list" {
        mod_start: u32,
        mod_end: u32,
        cmdline: u32,
        pad: u32,
    }

    /// Display in text mode.
    Dom0VgaConsoleInfoTextMode3 = "__typeof__(((struct dom0_vga_console_info *)0)->u.text_mode_3)" {
        font_height: u16,
        cursor_x: u16,
        cursor_y: u16,
        rows: u16,
        columns: u16,
    }

    /// Display with a linear frame buffer, VESA or EFI.
    Dom0VgaConsoleInfoVesaLfb = "__typeof__(((struct dom0_vga_console_info *)0)->u.vesa_lfb)" {
        width: u16,
        height: u16,
        bytes_per_line: u16,
        bits_per_pixel: u16,
        lfb_base: u32,
        lfb_size: u32,
        red_pos: u8,
        red_size: u8,
        green_pos: u8,
        green_size: u8,
        blue_pos: u8,
        blue_size: u8,
        rsvd_pos: u8,
        rsvd_size: u8,
        gbl_caps: u32,
        mode_attrs: u16,
        pad: u16,
        ext_lfb_base: u32,
    }

    /// The display as the boot loader left it.
    Dom0VgaConsoleInfo = "struct dom0_vga_console_info" {
        video_type: u8,
        _gap0: [u8; 3],
        u: Union<u32, 9>,
    }

    /// A UUID.
    Uuid = "xen_uuid_t" {
        a: [u8; 16],
    }

    /// A bitmap in the memory of the tool stack.
    Bitmap = "struct xenctl_bitmap" {
        /// Bits in order, lowest bit of the first byte first.
        bitmap: GuestHandle<u8>,
        /// Size in bits.
        nr_bits: u32,
        _gap0: [u8; 4],
    }
}

/// A domain's UUID, as bytes (`xen_domain_handle_t`).
pub type DomainHandle = [u8; 16];

/// Hypercall number of `HYPERVISOR_mca` (arch-x86/xen-mca.h).
pub const HYPERVISOR_MCA: u32 = HYPERVISOR_ARCH_0;

impl MmuUpdate {
    /// The `MMU_*` command.
    pub const fn command(&self) -> u32 {
        (self.ptr & 3) as u32
    }

    /// Machine address of the entry, without the command.
    pub const fn address(&self) -> u64 {
        self.ptr & !3
    }
}

impl MmuextOp {
    /// The second argument as a number of LDT entries.
    pub const fn nr_ents(&self) -> u32 {
        self.arg2 as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mmu_update_splits_pointer_and_command() {
        let update = MmuUpdate { ptr: 0x1000 | u64::from(MMU_PT_UPDATE_PRESERVE_AD), val: 0 };
        assert_eq!((update.command(), update.address()), (MMU_PT_UPDATE_PRESERVE_AD, 0x1000));
    }

    #[test]
    fn ldt_entries_ignore_the_upper_half() {
        let op = MmuextOp { cmd: MMUEXT_SET_LDT, _gap0: [0; 4], arg1: 0, arg2: 0xdead_0000_0010 };
        assert_eq!(op.nr_ents(), 0x10);
    }
}
