//! A guest's registers, and the way into ring 3 and back. Soundness: docs/soundness/hal-cpu.md.

use crate::area;
use alloc::alloc::{Layout, alloc};
use alloc::boxed::Box;
use core::arch::{asm, global_asm};
use core::mem::offset_of;
use x86_defs::control::{RFlags, Vector};
use x86_defs::descriptor::selector;

/// A guest's general registers and the frame by which it is entered, in the order of Xen's `cpu_user_regs`
/// (arch-x86/xen-x86_64.h). The CPU pushes the last five, so that the upper bytes of `cs` and `ss` carry no meaning.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
#[allow(missing_docs)]
pub struct GuestRegs {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    /// Error code of the exception that the guest left by; 0 where it has none.
    pub error_code: u32,
    /// What the guest left by: a vector below 256, or [`GuestRegs::BY_SYSCALL`] and beyond. With `BY_SYSCALL` the next entry
    /// uses SYSRET where it can, hence restores neither rcx and r11 (they become rip and rflags) nor ss.
    pub vector: u32,
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}

impl GuestRegs {
    /// Value of `vector` after a SYSCALL of 64-bit code.
    pub const BY_SYSCALL: u32 = 0x100;
    /// Value of `vector` after a SYSCALL of 32-bit code.
    pub const BY_SYSCALL32: u32 = 0x101;
    /// Value of `vector` after a SYSENTER.
    pub const BY_SYSENTER: u32 = 0x102;
    /// Value of `vector` that stands for no exit.
    pub const BY_NOTHING: u32 = 0x1ff;

    /// A general register by its number in instructions, of which the lower four bits count.
    #[inline]
    pub fn general(&mut self, number: u8) -> &mut u64 {
        match number & 15 {
            0 => &mut self.rax,
            1 => &mut self.rcx,
            2 => &mut self.rdx,
            3 => &mut self.rbx,
            4 => &mut self.rsp,
            5 => &mut self.rbp,
            6 => &mut self.rsi,
            7 => &mut self.rdi,
            8 => &mut self.r8,
            9 => &mut self.r9,
            10 => &mut self.r10,
            11 => &mut self.r11,
            12 => &mut self.r12,
            13 => &mut self.r13,
            14 => &mut self.r14,
            _ => &mut self.r15,
        }
    }

    /// Makes the next entry restore every register, rcx, r11 and ss too. To be called when the registers were replaced (an
    /// upcall, an iret, a new context) after a system call.
    pub fn restore_all(&mut self) {
        self.vector = Self::BY_NOTHING;
    }
}

/// A guest's registers while it runs: traps store straight into it.
#[repr(C, align(16))]
pub struct GuestContext {
    host_rsp: u64,
    /// What the privilege in `cs` and `ss` is at least: ring 3, or ring 1.
    ring: u32,
    _reserved: [u32; 3],
    /// The registers.
    pub regs: GuestRegs,
}

impl GuestContext {
    /// Registers that are all zero, in flat ring-3 segments, with interrupts on.
    ///
    /// # Panics
    /// Before this CPU is set up ([`crate::start_bsp`]): a context is the licence to call [`enter`].
    pub fn new() -> GuestContext {
        area::cpu_id();
        let regs = GuestRegs {
            vector: GuestRegs::BY_NOTHING,
            cs: selector::FLAT_RING3_CS64.into(),
            ss: selector::FLAT_RING3_SS.into(),
            rflags: (RFlags::IF | RFlags::ONE).bits(),
            ..GuestRegs::default()
        };
        GuestContext { host_rsp: 0, ring: 3, _reserved: [0; 3], regs }
    }

    /// Lets the guest's kernel run in ring 1, as a 32-bit guest's does. Whoever enters it then promises that no descriptor which
    /// the guest can use is of 64-bit code with a privilege below 3 (the flat segments are [`crate::FlatSegments::Narrow`], and
    /// those of [`crate::set_guest_gdt`] and [`crate::set_guest_ldt`] were checked): from 32-bit code no address of the
    /// hypervisor can be named, and ring 1 has no other barrier.
    pub fn allow_ring1(&mut self) {
        self.ring = 1;
    }

    /// The same on the heap; `None` if that is full.
    pub fn new_boxed() -> Option<Box<GuestContext>> {
        // SAFETY: the layout has a size; the memory is written whole before it becomes a box of the same layout.
        unsafe {
            let memory = alloc(Layout::new::<GuestContext>()).cast::<GuestContext>();
            if memory.is_null() {
                return None;
            }
            memory.write(GuestContext::new());
            Some(Box::from_raw(memory))
        }
    }
}

impl Default for GuestContext {
    fn default() -> GuestContext {
        GuestContext::new()
    }
}

/// Why a guest left ring 3.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// SYSCALL of 64-bit code: rcx is rip, r11 is rflags.
    Syscall,
    /// SYSCALL of 32-bit code (AMD).
    Syscall32,
    /// SYSENTER: rip and rsp are lost and read 0, rflags are made up.
    Sysenter,
    /// An exception, #MC too. After a page fault [`crate::fault_address`] has the address.
    Exception {
        /// Its number, below 32.
        vector: u8,
        /// Its error code; 0 where it has none.
        error_code: u32,
    },
    /// An interrupt of this number, which is not yet acknowledged.
    Interrupt(u8),
    /// An NMI. Further ones are held back until the next IRET.
    Nmi,
    /// IRETQ refused the context, which is unchanged: the guest did not run.
    BadFrame {
        /// The exception that IRETQ raised.
        vector: u8,
        /// Its error code.
        error_code: u32,
    },
}

/// Bit of an exit's code that stands for [`Exit::BadFrame`].
const BAD_FRAME: u32 = 0x200;

/// How a guest left, as the entry code says it: the kind in bits 0 to 31, for a bad frame the error code above. Apart from
/// [`Exit`], so that the most frequent reason is told by one comparison.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Left(u64);

impl Left {
    /// Whether it is [`Exit::Syscall`].
    #[inline(always)]
    pub fn is_syscall(self) -> bool {
        self.0 == u64::from(GuestRegs::BY_SYSCALL)
    }

    /// Why the guest left that has this context.
    #[inline(always)]
    pub fn exit(self, context: &GuestContext) -> Exit {
        Exit::decode(self.0, context.regs.error_code)
    }
}

impl Exit {
    /// From what the entry code returns. The error code of an exception is in the context.
    #[inline(always)]
    fn decode(code: u64, error_code: u32) -> Exit {
        let kind = code as u32;
        match kind {
            GuestRegs::BY_SYSCALL => Exit::Syscall,
            GuestRegs::BY_SYSCALL32 => Exit::Syscall32,
            GuestRegs::BY_SYSENTER => Exit::Sysenter,
            2 => Exit::Nmi,
            0..32 => Exit::Exception { vector: kind as u8, error_code },
            32..256 => Exit::Interrupt(kind as u8),
            _ => Exit::BadFrame { vector: kind as u8, error_code: (code >> 32) as u32 },
        }
    }
}

/// Flags that a guest may have. IF is forced on; IOPL, VM, VIF and VIP are not for ring 3 under a hypervisor.
const USER_FLAGS: u64 = 0x25_4dd5 | RFlags::RF.bits();
/// Flags that must have their usual value (IF set, the others clear) for SYSRET to do.
const NOT_FOR_SYSRET: u64 = RFlags::TF.bits()
    | RFlags::RF.bits()
    | RFlags::IF.bits()
    | RFlags::IOPL.bits()
    | RFlags::VM.bits()
    | RFlags::VIF.bits()
    | RFlags::VIP.bits();

// The CPU aligns the stack to 16 bytes before it pushes a frame (SDM vol. 3, 6.14.2).
const _: () = assert!(size_of::<GuestContext>() % 16 == 0);
const _: () = assert!(size_of::<GuestContext>() == offset_of!(GuestContext, regs) + size_of::<GuestRegs>());

global_asm!(
    ".macro expect_fault, fault, target",
    crate::ex_table_section!(),
    ".long \\fault - .",
    ".long \\target - .",
    ".popsection",
    ".endm",
    include_str!("entry.S"),
    HOST_RSP = const offset_of!(GuestContext, host_rsp),
    RING = const offset_of!(GuestContext, ring),
    REGS = const offset_of!(GuestContext, regs),
    CTX_END = const size_of::<GuestContext>(),
    VECTOR = const offset_of!(GuestContext, regs) + offset_of!(GuestRegs, vector),
    RIP = const offset_of!(GuestContext, regs) + offset_of!(GuestRegs, rip),
    CS = const offset_of!(GuestContext, regs) + offset_of!(GuestRegs, cs),
    RFLAGS = const offset_of!(GuestContext, regs) + offset_of!(GuestRegs, rflags),
    RSP = const offset_of!(GuestContext, regs) + offset_of!(GuestRegs, rsp),
    SS = const offset_of!(GuestContext, regs) + offset_of!(GuestRegs, ss),
    AREA_SIZE = const area::AREA_SIZE,
    INFO = const area::INFO,
    RSP0 = const 16,
    SYSCALL = const GuestRegs::BY_SYSCALL,
    SYSCALL32 = const GuestRegs::BY_SYSCALL32,
    SYSENTER = const GuestRegs::BY_SYSENTER,
    BAD_FRAME = const BAD_FRAME,
    CS64 = const selector::FLAT_RING3_CS64,
    CS32 = const selector::FLAT_RING3_CS32,
    SS64 = const selector::FLAT_RING3_SS,
    IF = const RFlags::IF.bits(),
    NOT_FOR_SYSRET = const NOT_FOR_SYSRET,
    USER_FLAGS = const USER_FLAGS,
    WITH_ERROR_CODE = const Vector::WITH_ERROR_CODE,
    host_trap = sym crate::traps::host_trap,
);

unsafe extern "sysv64" {
    fn hal_cpu_enter(context: *mut GuestContext) -> u64;
}

/// Runs the guest until it leaves ring 3. Interrupts are off before and after, on while the guest runs. Whatever the registers
/// hold, the guest runs in ring 3 (or 1, see [`GuestContext::allow_ring1`]): the privilege in `cs` and `ss` is forced, and so
/// are the flags. Segments, page tables and descriptor tables are as loaded before.
#[inline]
pub fn enter(context: &mut GuestContext) -> Left {
    if context.ring == 1 { enter_ring1(context) } else { enter_unguarded(context) }
}

/// Ring 1 is no user mode to the CPU: with SMEP and SMAP on, a kernel there could neither run user code's pages nor access
/// them.
#[cold]
fn enter_ring1(context: &mut GuestContext) -> Left {
    let guards = crate::registers::lift_guards();
    let left = enter_unguarded(context);
    crate::registers::restore_guards(guards);
    left
}

#[inline(always)]
fn enter_unguarded(context: &mut GuestContext) -> Left {
    let code: u64;
    // SAFETY: a context exists, hence this CPU is set up. The entry code writes into the context only, returns on the same stack,
    // and all registers that it does not keep are named here. Ring 3 reaches no memory of the hypervisor.
    unsafe {
        asm!(
            "call {enter}",
            enter = sym hal_cpu_enter,
            inout("rdi") core::ptr::from_mut(context) => _,
            lateout("rax") code,
            lateout("r12") _,
            lateout("r13") _,
            lateout("r14") _,
            lateout("r15") _,
            clobber_abi("sysv64"),
        );
    }
    Left(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exits_decode() {
        assert_eq!(Exit::decode(0x100, 7), Exit::Syscall);
        assert!(Left(0x100).is_syscall() && !Left(0x101).is_syscall() && !Left(14).is_syscall());
        assert_eq!(Exit::decode(0x101, 7), Exit::Syscall32);
        assert_eq!(Exit::decode(0x102, 7), Exit::Sysenter);
        assert_eq!(Exit::decode(14, 7), Exit::Exception { vector: 14, error_code: 7 });
        assert_eq!(Exit::decode(2, 0), Exit::Nmi);
        assert_eq!(Exit::decode(18, 0), Exit::Exception { vector: 18, error_code: 0 });
        assert_eq!(Exit::decode(32, 0), Exit::Interrupt(32));
        assert_eq!(Exit::decode(255, 0), Exit::Interrupt(255));
        assert_eq!(Exit::decode(0xe030_0000_020d, 7), Exit::BadFrame { vector: 13, error_code: 0xe030 });
    }

    #[test]
    fn an_exit_fits_a_register() {
        assert_eq!(size_of::<Exit>(), 8);
    }

    #[test]
    fn no_dangerous_flag_reaches_a_guest() {
        let user = RFlags::from_bits_retain(USER_FLAGS);
        assert!(!user.intersects(RFlags::IOPL | RFlags::VM | RFlags::VIF | RFlags::VIP | RFlags::IF));
        let wanted = RFlags::TF | RFlags::DF | RFlags::AC | RFlags::ID | RFlags::RF | RFlags::NT | RFlags::OF;
        assert!(user.contains(wanted));
        assert_eq!(USER_FLAGS & NOT_FOR_SYSRET, (RFlags::TF | RFlags::RF).bits());
    }

    #[test]
    fn layout_is_xens() {
        assert_eq!(offset_of!(GuestRegs, rax), 10 * 8);
        assert_eq!(offset_of!(GuestRegs, error_code), 15 * 8);
        assert_eq!(offset_of!(GuestRegs, rip), 16 * 8);
        assert_eq!(size_of::<GuestRegs>(), 21 * 8);
    }
}
