//! Why a guest left: exit codes (APM vol. 2, appendix C) and what goes with them.

use bitflags::bitflags;

/// An exit code; others than those that have names here occur on newer CPUs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ExitCode(pub u64);

macro_rules! exit_codes {
    ($($(#[$meta:meta])* $name:ident = $value:expr;)*) => {
        #[allow(missing_docs, reason = "the names are the instructions' names")]
        impl ExitCode {
            $($(#[$meta])* pub const $name: ExitCode = ExitCode($value);)*

            /// The code's name, if it has one here.
            pub const fn name(self) -> Option<&'static str> {
                match self {
                    $(ExitCode::$name => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }
    };
}

exit_codes! {
    /// The machine's interrupt; it is still pending.
    INTR = 0x60;
    /// The machine's NMI; it is still pending.
    NMI = 0x61;
    SMI = 0x62;
    INIT = 0x63;
    /// The guest can take the virtual interrupt.
    VINTR = 0x64;
    CR0_SELECTIVE = 0x65;
    READ_IDTR = 0x66;
    READ_GDTR = 0x67;
    READ_LDTR = 0x68;
    READ_TR = 0x69;
    WRITE_IDTR = 0x6a;
    WRITE_GDTR = 0x6b;
    WRITE_LDTR = 0x6c;
    WRITE_TR = 0x6d;
    RDTSC = 0x6e;
    RDPMC = 0x6f;
    PUSHF = 0x70;
    POPF = 0x71;
    CPUID = 0x72;
    RSM = 0x73;
    IRET = 0x74;
    /// INTn; EXITINFO1 is the vector with decode assists.
    INT = 0x75;
    INVD = 0x76;
    PAUSE = 0x77;
    HLT = 0x78;
    /// EXITINFO1 is the address with decode assists.
    INVLPG = 0x79;
    INVLPGA = 0x7a;
    /// See [`IoAccess`].
    IO = 0x7b;
    /// EXITINFO1 is 0 for RDMSR, 1 for WRMSR.
    MSR = 0x7c;
    /// See [`TaskSwitch`].
    TASK_SWITCH = 0x7d;
    FERR_FREEZE = 0x7e;
    SHUTDOWN = 0x7f;
    VMRUN = 0x80;
    VMMCALL = 0x81;
    VMLOAD = 0x82;
    VMSAVE = 0x83;
    STGI = 0x84;
    CLGI = 0x85;
    SKINIT = 0x86;
    RDTSCP = 0x87;
    ICEBP = 0x88;
    WBINVD = 0x89;
    MONITOR = 0x8a;
    MWAIT = 0x8b;
    MWAIT_ARMED = 0x8c;
    XSETBV = 0x8d;
    RDPRU = 0x8e;
    EFER_WRITTEN = 0x8f;
    INVLPGB = 0xa0;
    INVLPGB_ILLEGAL = 0xa1;
    INVPCID = 0xa2;
    MCOMMIT = 0xa3;
    TLBSYNC = 0xa4;
    BUS_LOCK = 0xa5;
    IDLE_HLT = 0xa6;
    /// Nested page fault: EXITINFO1 is [`NestedFault`], EXITINFO2 the guest-physical address (15.25.6).
    NESTED_FAULT = 0x400;
    AVIC_INCOMPLETE_IPI = 0x401;
    AVIC_NO_ACCELERATION = 0x402;
    VMGEXIT = 0x403;
    /// VMRUN refused the control block (15.5.1).
    INVALID = -1i64 as u64;
    BUSY = -2i64 as u64;
}

impl ExitCode {
    /// From the field. Emulators were seen to write the negative codes in 32 bits.
    pub const fn from_field(field: u64) -> ExitCode {
        if field >> 32 == 0 && (field as i32) < 0 { ExitCode(field as i32 as i64 as u64) } else { ExitCode(field) }
    }

    const fn offset_from(self, first: u64, count: u64) -> Option<u8> {
        let offset = self.0.wrapping_sub(first);
        if offset < count { Some(offset as u8) } else { None }
    }

    /// The exception's vector. EXITINFO1 is its error code, for a page fault EXITINFO2 its address (15.12).
    pub const fn exception(self) -> Option<u8> {
        self.offset_from(0x40, 32)
    }

    /// The control register that was read.
    pub const fn cr_read(self) -> Option<u8> {
        self.offset_from(0x00, 16)
    }

    /// The control register that was written.
    pub const fn cr_write(self) -> Option<u8> {
        self.offset_from(0x10, 16)
    }

    /// The debug register that was read.
    pub const fn dr_read(self) -> Option<u8> {
        self.offset_from(0x20, 16)
    }

    /// The debug register that was written.
    pub const fn dr_write(self) -> Option<u8> {
        self.offset_from(0x30, 16)
    }
}

impl core::fmt::Debug for ExitCode {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match (self.name(), self.exception()) {
            (Some(name), _) => f.write_str(name),
            (None, Some(vector)) => write!(f, "exception {vector}"),
            (None, None) => write!(f, "exit {:#x}", self.0),
        }
    }
}

/// EXITINFO1 of an access to a control register, with decode assists: the number of the general register, in the encoding's order
/// from rax (15.8.1). `None` if the instruction was no MOV, but CLTS, LMSW or SMSW.
pub const fn cr_operand(exit_info1: u64) -> Option<u8> {
    if exit_info1 >> 63 != 0 { Some(dr_operand(exit_info1)) } else { None }
}

/// The same of an access to a debug register, which is always a MOV (15.8.2).
pub const fn dr_operand(exit_info1: u64) -> u8 {
    (exit_info1 & 15) as u8
}

/// EXITINFO1 of IN and OUT (15.10.2). EXITINFO2 is the rip behind the instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IoAccess(pub u64);

impl IoAccess {
    /// The port.
    pub const fn port(self) -> u16 {
        (self.0 >> 16) as u16
    }

    /// IN, not OUT.
    pub const fn is_in(self) -> bool {
        self.0 & 1 != 0
    }

    /// INS or OUTS.
    pub const fn is_string(self) -> bool {
        self.0 >> 2 & 1 != 0
    }

    /// With a REP prefix.
    pub const fn is_repeated(self) -> bool {
        self.0 >> 3 & 1 != 0
    }

    /// Bytes of an operand: 1, 2 or 4.
    pub const fn size(self) -> u8 {
        (self.0 >> 4 & 7) as u8
    }

    /// Bytes of an address: 2, 4 or 8.
    pub const fn address_size(self) -> u8 {
        ((self.0 >> 7 & 7) << 1) as u8
    }

    /// Number of the segment register of OUTS, from ES as 0; needs decode assists.
    pub const fn segment(self) -> u8 {
        (self.0 >> 10 & 7) as u8
    }
}

bitflags! {
    /// EXITINFO1 of a nested page fault (15.25.6). The low bits are as in a page fault's error code; an access of the CPU to the
    /// guest's tables counts as one of user mode.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct NestedFault: u64 {
        /// The nested translation was present.
        const PRESENT = 1 << 0;
        /// The access was a write.
        const WRITE = 1 << 1;
        /// The access was of user mode; all are.
        const USER = 1 << 2;
        /// A reserved bit was set in a nested entry.
        const RESERVED = 1 << 3;
        /// The access was an instruction fetch.
        const FETCH = 1 << 4;
        /// Shadow stack.
        const SHADOW_STACK = 1 << 6;
        /// It was the final address of the guest's access.
        const FINAL = 1 << 32;
        /// It was an access to the guest's own page tables.
        const TABLE = 1 << 33;
        /// Supervisor shadow stack.
        const SUPERVISOR_SHADOW_STACK = 1 << 37;
        const _ = !0;
    }
}

/// EXITINFO2 of a task switch; EXITINFO1 is the new TSS's selector (15.14.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TaskSwitch(pub u64);

impl TaskSwitch {
    /// By IRET.
    pub const fn by_iret(self) -> bool {
        self.0 >> 36 & 1 != 0
    }

    /// By a far jump.
    pub const fn by_jump(self) -> bool {
        self.0 >> 38 & 1 != 0
    }

    /// The error code to push on the new task's stack.
    pub const fn error_code(self) -> Option<u32> {
        if self.0 >> 44 & 1 != 0 { Some(self.0 as u32) } else { None }
    }

    /// RFLAGS.RF as it would have been saved.
    pub const fn resume_flag(self) -> bool {
        self.0 >> 48 & 1 != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_registers_and_exceptions() {
        assert_eq!(ExitCode(0x4e).exception(), Some(14));
        assert_eq!(ExitCode(0x5f).exception(), Some(31));
        assert_eq!(ExitCode::INTR.exception(), None);
        assert_eq!(ExitCode(0x03).cr_read(), Some(3));
        assert_eq!(ExitCode(0x18).cr_write(), Some(8));
        assert_eq!(ExitCode(0x18).cr_read(), None);
        assert_eq!((ExitCode(0x27).dr_read(), ExitCode(0x37).dr_write()), (Some(7), Some(7)));
        assert_eq!(ExitCode::INVALID.cr_read(), None);
    }

    #[test]
    fn codes_have_names() {
        assert_eq!(format!("{:?}", ExitCode::VMMCALL), "VMMCALL");
        assert_eq!(format!("{:?}", ExitCode(0x41)), "exception 1");
        assert_eq!(format!("{:?}", ExitCode(0x500)), "exit 0x500");
    }

    #[test]
    fn negative_codes_come_in_two_widths() {
        assert_eq!(ExitCode::from_field(0xffff_ffff), ExitCode::INVALID);
        assert_eq!(ExitCode::from_field(!0), ExitCode::INVALID);
        assert_eq!(ExitCode::from_field(0x400), ExitCode::NESTED_FAULT);
    }

    #[test]
    fn an_access_to_a_port() {
        // REP OUTSB to 0x3f8, 32-bit addresses, segment DS.
        let outs = IoAccess(0x03f8_0000 | 3 << 10 | 1 << 8 | 1 << 4 | 1 << 3 | 1 << 2);
        assert_eq!((outs.port(), outs.size(), outs.address_size(), outs.segment()), (0x3f8, 1, 4, 3));
        assert!(!outs.is_in() && outs.is_string() && outs.is_repeated());
        let long = IoAccess(0x0cfc_0000 | 1 << 9 | 1 << 6 | 1);
        assert_eq!((long.port(), long.size(), long.address_size()), (0xcfc, 4, 8));
        assert!(long.is_in() && !long.is_string());
    }

    #[test]
    fn operands_and_task_switches() {
        assert_eq!(cr_operand(1 << 63 | 11), Some(11));
        assert_eq!(cr_operand(11), None);
        assert_eq!(dr_operand(3), 3);
        let call = TaskSwitch(1 << 44 | 0x18);
        assert_eq!(call.error_code(), Some(0x18));
        assert!(!call.by_iret() && !call.by_jump() && !call.resume_flag());
        assert!(TaskSwitch(1 << 36).by_iret() && TaskSwitch(1 << 38).by_jump() && TaskSwitch(1 << 48).resume_flag());
    }
}
