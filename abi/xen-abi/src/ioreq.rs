//! hvm/ioreq.h: requests to device emulators, and the pages in which they travel.

abi_constants! {
    "hvm/ioreq.h";
    IOREQ_READ: u8 = 1;
    IOREQ_WRITE: u8 = 0;

    STATE_IOREQ_NONE: u8 = 0;
    STATE_IOREQ_READY: u8 = 1;
    STATE_IOREQ_INPROCESS: u8 = 2;
    STATE_IORESP_READY: u8 = 3;

    IOREQ_TYPE_PIO: u8 = 0;
    IOREQ_TYPE_COPY: u8 = 1;
    IOREQ_TYPE_PCI_CONFIG: u8 = 2;
    IOREQ_TYPE_TIMEOFFSET: u8 = 7;
    IOREQ_TYPE_INVALIDATE: u8 = 8;

    /// Slots of the ring of buffered requests.
    IOREQ_BUFFER_SLOT_NUM: u32 = 511;

    ACPI_PM1A_EVT_BLK_ADDRESS_V0: u16 = 0x1f40;
    ACPI_PM1A_CNT_BLK_ADDRESS_V0: u16 = 0x1f44;
    ACPI_PM_TMR_BLK_ADDRESS_V0: u16 = 0x1f48;
    ACPI_GPE0_BLK_ADDRESS_V0: u16 = 0x1f68;
    ACPI_GPE0_BLK_LEN_V0: u16 = 8;
    ACPI_PM1A_EVT_BLK_ADDRESS_V1: u16 = 0xb000;
    ACPI_PM1A_CNT_BLK_ADDRESS_V1: u16 = 0xb004;
    ACPI_PM_TMR_BLK_ADDRESS_V1: u16 = 0xb008;
    ACPI_GPE0_BLK_ADDRESS_V1: u16 = 0xafe0;
    ACPI_GPE0_BLK_LEN_V1: u16 = 4;
}

abi_structs! {
    "hvm/ioreq.h";
    /// A request of one vCPU and, in the same place, the answer. Its bit-fields are one byte here.
    Ioreq = "struct ioreq" {
        /// Guest-physical address, port, or configuration register with the device in bits 32 and up.
        addr: u64,
        /// The datum, or the guest-physical address of it.
        data: u64,
        /// Repetitions.
        count: u32,
        /// Bytes of one access.
        size: u32,
        /// Event channel on which either side tells the other.
        vp_eport: u32,
        _pad0: u16,
        /// Bits 0 to 3 state, 4 `data_is_ptr`, 5 `dir`, 6 `df`.
        _gap_flags: u8,
        r#type: u8,
    }

    /// The page of requests that wait for their answers: one for each vCPU. The header declares one.
    SharedIopage = "struct shared_iopage" {
        vcpu_ioreq: [Ioreq; 1],
    }

    /// A request that needs no answer.
    BufIoreq = "struct buf_ioreq" {
        r#type: u8,
        /// Bit 1 `dir`, bits 2 and 3 base-2 logarithm of the size, bits 4 to 23 address.
        _gap_fields: [u8; 3],
        data: u32,
    }

    /// The ring of buffered requests. The pointers only grow; a slot is its pointer modulo [`IOREQ_BUFFER_SLOT_NUM`].
    BufferedIopage = "struct buffered_iopage" {
        read_pointer: u32,
        write_pointer: u32,
        buf_ioreq: [BufIoreq; IOREQ_BUFFER_SLOT_NUM as usize],
    }
}
