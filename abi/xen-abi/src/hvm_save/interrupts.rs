//! Records of interrupt controllers and interrupt lines.

abi_constants! {
    "arch-x86/hvm/save.h";
    /// One record for each of the two chips: instance 0 is the master.
    HVM_SAVE_CODE_PIC: u16 = 3 => "HVM_SAVE_CODE(PIC)";
    HVM_SAVE_CODE_IOAPIC: u16 = 4 => "HVM_SAVE_CODE(IOAPIC)";
    /// The instance is the vCPU.
    HVM_SAVE_CODE_LAPIC: u16 = 5 => "HVM_SAVE_CODE(LAPIC)";
    /// The instance is the vCPU.
    HVM_SAVE_CODE_LAPIC_REGS: u16 = 6 => "HVM_SAVE_CODE(LAPIC_REGS)";
    HVM_SAVE_CODE_PCI_IRQ: u16 = 7 => "HVM_SAVE_CODE(PCI_IRQ)";
    HVM_SAVE_CODE_ISA_IRQ: u16 = 8 => "HVM_SAVE_CODE(ISA_IRQ)";
    HVM_SAVE_CODE_PCI_LINK: u16 = 9 => "HVM_SAVE_CODE(PCI_LINK)";

    /// Pins of the I/O APIC.
    VIOAPIC_NUM_PINS: usize = 48;
}

/// In `HwLapic::disabled`: IA32_APIC_BASE has the APIC off.
pub const VLAPIC_HW_DISABLED: u32 = 1;
/// In `HwLapic::disabled`: the spurious-interrupt register has the APIC off.
pub const VLAPIC_SW_DISABLED: u32 = 2;

/// In `HwVpic::flags`: reads of the first port give the in-service register.
pub const VPIC_READ_ISR: u8 = 1 << 0;
/// In `HwVpic::flags`: the next read polls.
pub const VPIC_POLL: u8 = 1 << 1;
/// In `HwVpic::flags`: automatic end of interrupt.
pub const VPIC_AUTO_EOI: u8 = 1 << 2;
/// In `HwVpic::flags`: rotate on automatic end of interrupt.
pub const VPIC_ROTATE_ON_AUTO_EOI: u8 = 1 << 3;
/// In `HwVpic::flags`: special fully nested mode.
pub const VPIC_SPECIAL_FULLY_NESTED: u8 = 1 << 4;
/// In `HwVpic::flags`: special mask mode.
pub const VPIC_SPECIAL_MASK: u8 = 1 << 5;
/// In `HwVpic::flags`: this is the master.
pub const VPIC_MASTER: u8 = 1 << 6;

abi_structs! {
    "arch-x86/hvm/save.h";
    /// One 8259. Two of its bytes are bit-fields in C; [`HwVpic::new`] and the methods name them.
    HwVpic = "struct hvm_hw_vpic" {
        /// Requests.
        irr: u8,
        /// Masks.
        imr: u8,
        /// Interrupts in service.
        isr: u8,
        /// Vector of line 0.
        irq_base: u8,
        _gap_state: u8,
        _gap_flags: u8,
        /// Lines triggered by level.
        elcr: u8,
        /// Whether the chip asserts its output.
        int_output: u8,
    }

    /// The I/O APIC.
    HwVioapic = "struct hvm_hw_vioapic" {
        /// Guest-physical address.
        base_address: u64,
        /// Selected register.
        ioregsel: u32,
        /// The APIC's id.
        id: u32,
        /// Redirection entries (82093AA, 3.2.4).
        redirtbl: [u64; VIOAPIC_NUM_PINS],
    }

    /// What a local APIC has beside its registers.
    HwLapic = "struct hvm_hw_lapic" {
        /// IA32_APIC_BASE.
        apic_base_msr: u64,
        /// `VLAPIC_*_DISABLED`.
        disabled: u32,
        /// Bus cycles for each count of the timer: 1, 2, 4 .. 128.
        timer_divisor: u32,
        /// IA32_TSC_DEADLINE.
        tdt_msr: u64,
        /// Errors that the next write of the error status register shows.
        pending_esr: u32,
        _gap0: [u8; 4],
    }

    /// A local APIC's registers: the first KiB of its page.
    HwLapicRegs = "struct hvm_hw_lapic_regs" {
        data: [u8; 1024],
    }

    /// Interrupt lines of PCI devices: bit `device * 4 + INTx`.
    HwPciIrqs = "struct hvm_hw_pci_irqs" {
        pad: [u64; 2],
    }

    /// Interrupt lines of ISA devices, a bit each.
    HwIsaIrqs = "struct hvm_hw_isa_irqs" {
        pad: [u64; 1],
    }

    /// The router from PCI links to ISA interrupts.
    HwPciLink = "struct hvm_hw_pci_link" {
        /// ISA interrupt of each link; 0 is none.
        route: [u8; 4],
        pad0: [u8; 4],
    }
}

impl HwVpic {
    /// A record of which C has the bit-fields `init_state` and `priority_add` (four bits each) and `flags` (`VPIC_*`).
    pub const fn new(init_state: u8, priority_add: u8, flags: u8) -> HwVpic {
        HwVpic {
            irr: 0,
            imr: 0,
            isr: 0,
            irq_base: 0,
            _gap_state: init_state & 15 | priority_add << 4,
            _gap_flags: flags,
            elcr: 0,
            int_output: 0,
        }
    }

    /// Where the initialisation stands: 0 outside of one; else bits 0 and 1 say which ICW comes next (less 1), bit 2 that
    /// ICW4 comes, bit 3 that ICW3 does not.
    pub const fn init_state(&self) -> u8 {
        self._gap_state & 15
    }

    /// The line of highest priority.
    pub const fn priority_add(&self) -> u8 {
        self._gap_state >> 4
    }

    /// `VPIC_*`.
    pub const fn flags(&self) -> u8 {
        self._gap_flags
    }
}
