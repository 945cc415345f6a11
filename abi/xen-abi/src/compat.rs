//! The same structures as 32-bit PV guests have them (arch-x86/xen-x86_32.h): `unsigned long`, frame numbers and handles have
//! 32 bits, and 64-bit members are aligned to four bytes, hence spelled as two halves. A structure that looks the same in both
//! widths is in its own module only.

abi_constants! {
    "arch-x86/xen-x86_32.h";
    /// Flat code of the kernel.
    FLAT_RING1_CS: u16 = 0xe019;
    /// Flat data of the kernel.
    FLAT_RING1_DS: u16 = 0xe021;
    /// Flat stack of the kernel.
    FLAT_RING1_SS: u16 = 0xe021;
    /// Flat code of user mode.
    FLAT_RING3_CS: u16 = 0xe02b;
    /// Flat data of user mode.
    FLAT_RING3_DS: u16 = 0xe033;
    /// Flat stack of user mode.
    FLAT_RING3_SS: u16 = 0xe033;
    /// First address that is the hypervisor's; the machine-to-physical table begins there.
    HYPERVISOR_VIRT_START: u64 = 0xf580_0000 => "__HYPERVISOR_VIRT_START_PAE";
    /// Start of the machine-to-physical table, of 32-bit entries.
    MACH2PHYS_VIRT_START: u64 = 0xf580_0000 => "__MACH2PHYS_VIRT_START_PAE";
}

/// End of the machine-to-physical table: a 64-bit hypervisor has more room for it than the header's 32-bit one.
pub const MACH2PHYS_VIRT_END: u64 = 0xffe0_0000;

abi_structs! {
    "arch-x86/xen-x86_32.h";
    /// Registers of a vCPU.
    CpuUserRegs = "struct cpu_user_regs" {
        ebx: u32,
        ecx: u32,
        edx: u32,
        esi: u32,
        edi: u32,
        ebp: u32,
        eax: u32,
        error_code: u16,
        entry_vector: u16,
        eip: u32,
        cs: u16,
        saved_upcall_mask: u8,
        _pad0: u8,
        eflags: u32,
        esp: u32,
        ss: u16,
        _pad1: u16,
        es: u16,
        _pad2: u16,
        ds: u16,
        _pad3: u16,
        fs: u16,
        _pad4: u16,
        gs: u16,
        _pad5: u16,
    }

    /// An entry of a table of traps.
    TrapInfo = "struct trap_info" {
        vector: u8,
        flags: u8,
        cs: u16,
        address: u32,
    }

    /// All of a vCPU's state.
    VcpuGuestContext = "struct vcpu_guest_context" {
        fpu_ctxt: [u8; 512],
        /// `VGCF_*`.
        flags: u32,
        user_regs: CpuUserRegs,
        trap_ctxt: [TrapInfo; 256],
        ldt_base: u32,
        ldt_ents: u32,
        gdt_frames: [u32; 16],
        gdt_ents: u32,
        kernel_ss: u32,
        kernel_sp: u32,
        /// CR3 has a frame number rotated left by 12 bits.
        ctrlreg: [u32; 8],
        debugreg: [u32; 8],
        event_callback_cs: u32,
        event_callback_eip: u32,
        failsafe_callback_cs: u32,
        failsafe_callback_eip: u32,
        vm_assist: u32,
    }

    /// x86's part of `vcpu_info`.
    ArchVcpuInfo = "struct arch_vcpu_info" {
        cr2: u32,
        pad: [u32; 5],
    }

    /// Through which a vCPU learns of events and time.
    VcpuInfo = "struct vcpu_info" {
        evtchn_upcall_pending: u8,
        evtchn_upcall_mask: u8,
        _gap0: [u8; 2],
        evtchn_pending_sel: u32,
        arch: ArchVcpuInfo,
        /// `VcpuTimeInfo`, which is the same in both widths.
        time: [u32; 8],
    }

    /// x86's part of `shared_info`.
    ArchSharedInfo = "struct arch_shared_info" {
        max_pfn: u32,
        pfn_to_mfn_frame_list_list: u32,
        nmi_reason: u32,
        p2m_cr3: u32,
        p2m_vaddr: u32,
        p2m_generation: u32,
        wc_sec_hi: u32,
    }

    /// The page that a domain shares with the hypervisor.
    SharedInfo = "struct shared_info" {
        vcpu_info: [VcpuInfo; 32],
        evtchn_pending: [u32; 32],
        evtchn_mask: [u32; 32],
        wc_version: u32,
        wc_sec: u32,
        wc_nsec: u32,
        arch: ArchSharedInfo,
    }

    /// How a vCPU has spent its time.
    RunstateInfo = "struct vcpu_runstate_info" {
        state: u32,
        state_entry_time: [u32; 2],
        time: [[u32; 2]; 4],
    }

    /// One-shot timer.
    SetSingleshotTimer = "struct vcpu_set_singleshot_timer" {
        timeout_abs_ns: [u32; 2],
        flags: u32,
    }

    /// Waits for ports.
    Poll = "struct sched_poll" {
        ports: u32,
        nr_ports: u32,
        timeout: [u32; 2],
    }

    /// Frames that a domain gets or gives back.
    MemoryReservation = "struct xen_memory_reservation" {
        extent_start: u32,
        nr_extents: u32,
        extent_order: u32,
        mem_flags: u32,
        domid: u16,
        _gap0: [u8; 2],
    }

    /// Extents to trade for others of the same total size.
    MemoryExchange = "struct xen_memory_exchange" {
        r#in: MemoryReservation,
        out: MemoryReservation,
        nr_exchanged: u32,
    }

    /// Where the machine-to-physical table is.
    MachphysMapping = "struct xen_machphys_mapping" {
        v_start: u32,
        v_end: u32,
        max_mfn: u32,
    }

    /// A frame to enter into a domain's physical map.
    AddToPhysmap = "struct xen_add_to_physmap" {
        domid: u16,
        size: u16,
        space: u32,
        idx: u32,
        gpfn: u32,
    }

    /// A frame to take out of it.
    RemoveFromPhysmap = "struct xen_remove_from_physmap" {
        domid: u16,
        _gap0: [u8; 2],
        gpfn: u32,
    }

    /// Where to put a memory map, whose entries are the same in both widths.
    MemoryMap = "struct xen_memory_map" {
        nr_entries: u32,
        buffer: u32,
    }

    /// Sets a grant table up.
    SetupTable = "struct gnttab_setup_table" {
        dom: u16,
        _gap0: [u8; 2],
        nr_frames: u32,
        status: i16,
        _gap1: [u8; 2],
        frame_list: u32,
    }

    /// Gives a frame away.
    Transfer = "struct gnttab_transfer" {
        mfn: u32,
        domid: u16,
        _gap0: [u8; 2],
        r#ref: u32,
        status: i16,
        _gap1: [u8; 2],
    }

    /// One end of a copy.
    CopyPtr = "struct gnttab_copy_ptr" {
        u: u32,
        domid: u16,
        offset: u16,
    }

    /// Copies between grants and frames.
    Copy = "struct gnttab_copy" {
        source: CopyPtr,
        dest: CopyPtr,
        len: u16,
        flags: u16,
        status: i16,
        _gap0: [u8; 2],
    }

    /// Asks for the frames of grants' status; the list's entries have 64 bits in both widths.
    GetStatusFrames = "struct gnttab_get_status_frames" {
        nr_frames: u32,
        dom: u16,
        status: i16,
        frame_list: u32,
    }

    /// An operation on page tables or translations.
    MmuextOp = "struct mmuext_op" {
        cmd: u32,
        arg1: u32,
        arg2: u32,
    }

    /// One of several calls.
    MulticallEntry = "struct multicall_entry" {
        op: u32,
        result: u32,
        args: [u32; 6],
    }

    /// I/O ports that user code may use.
    SetIobitmap = "struct physdev_set_iobitmap" {
        bitmap: u32,
        nr_ports: u32,
    }

    /// A place in the guest that the hypervisor enters.
    Callback = "struct xen_callback" {
        cs: u32,
        eip: u32,
    }

    /// Registers one.
    CallbackRegister = "struct callback_register" {
        r#type: u16,
        flags: u16,
        address: Callback,
    }

    /// Registers a handler of NMIs.
    NmiCallback = "struct xennmi_callback" {
        handler_address: u32,
        pad: u32,
    }

    /// The start of the hypervisor's addresses.
    PlatformParameters = "struct xen_platform_parameters" {
        virt_start: u32,
    }
}

/// The frame number in a 32-bit guest's CR3: rotated, so that it may lie above 4 GiB.
pub const fn cr3_to_pfn(cr3: u32) -> u64 {
    cr3.rotate_right(12) as u64
}

/// CR3 as a 32-bit guest writes the frame number `pfn`, of which the upper half is lost.
pub const fn pfn_to_cr3(pfn: u64) -> u32 {
    (pfn as u32).rotate_left(12)
}

/// A 64-bit number from its halves.
pub const fn join(halves: [u32; 2]) -> u64 {
    halves[0] as u64 | (halves[1] as u64) << 32
}

/// The halves of a 64-bit number.
pub const fn halves(value: u64) -> [u32; 2] {
    [value as u32, (value >> 32) as u32]
}

impl From<&crate::vcpu::RunstateInfo> for RunstateInfo {
    fn from(wide: &crate::vcpu::RunstateInfo) -> RunstateInfo {
        RunstateInfo {
            state: wide.state as u32,
            state_entry_time: halves(wide.state_entry_time),
            time: wide.time.map(halves),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frame_numbers_above_4_gib_fit_cr3() {
        assert_eq!(pfn_to_cr3(0x12345), 0x1234_5000);
        assert_eq!(pfn_to_cr3(0x12_3456), 0x2345_6001);
        for pfn in [1, 0xf_ffff, 0x10_0000, 0xffff_ffff] {
            assert_eq!(cr3_to_pfn(pfn_to_cr3(pfn)), pfn);
        }
    }

    #[test]
    fn halves_make_a_whole() {
        assert_eq!(join([1, 2]), 0x2_0000_0001);
        assert_eq!(halves(join([3, 4])), [3, 4]);
    }
}
