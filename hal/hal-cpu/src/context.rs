//! A guest's registers, and the way into ring 3 and back. Soundness: docs/soundness/hal-cpu.md.

use crate::area;
use core::arch::{asm, global_asm};
use core::marker::PhantomData;
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
    /// uses SYSRET where it can, hence restores neither rcx and r11 (they become rip and rflags) nor cs and ss (they become the
    /// flat ones).
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

    /// Lets the next entry use SYSRET: neither rcx nor r11 need be what they are, and the segments are the flat ones.
    pub fn spare_rcx_and_r11(&mut self) {
        self.vector = Self::BY_SYSCALL;
    }

    /// Makes the next entry restore every register, rcx, r11, cs and ss too. To be called when the registers were replaced (an
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
}

impl Default for GuestContext {
    fn default() -> GuestContext {
        GuestContext::new()
    }
}

/// Why a guest left ring 3, but by SYSCALL of 64-bit code or an exception.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// SYSCALL of 32-bit code (AMD).
    Syscall32,
    /// SYSENTER: rip and rsp are lost and read 0, rflags are made up.
    Sysenter,
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
/// Vectors of exceptions; NMI is among them.
const EXCEPTIONS: u64 = 32;

impl Exit {
    /// From the entry code's word: the kind in bits 0 to 31, for a bad frame the error code above.
    fn decode(code: u64) -> Exit {
        match code as u32 {
            GuestRegs::BY_SYSCALL32 => Exit::Syscall32,
            GuestRegs::BY_SYSENTER => Exit::Sysenter,
            kind if kind == u32::from(Vector::NMI) => Exit::Nmi,
            kind if kind & BAD_FRAME != 0 => Exit::BadFrame { vector: kind as u8, error_code: (code >> 32) as u32 },
            kind => Exit::Interrupt(kind as u8),
        }
    }
}

/// Flags that a guest may have. IF is forced on; IOPL, VM, VIF and VIP are not for ring 3 under a hypervisor.
const USER_FLAGS: u64 = 0x25_4dd5 | RFlags::RF.bits();
/// Flags that must be clear for SYSRET to do. IF is forced on there too.
const NOT_FOR_SYSRET: u64 = RFlags::TF.bits()
    | RFlags::RF.bits()
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
    LEAVES = const LEAVES,
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
    fn hal_cpu_enter();
}

/// Whoever runs a guest, and serves what it leaves for between two entries: without the detour by the caller of [`enter`] most
/// of that is over in a few instructions.
pub trait Server {
    /// The guest's registers.
    fn context(&mut self) -> &mut GuestContext;

    /// Serves a SYSCALL of 64-bit code: rcx is rip, r11 is rflags. Of the registers, rbx, rbp and r12 to r15 are not in the
    /// context meanwhile: what they hold there is old, and what is stored there is lost.
    fn syscall(&mut self) -> Served<'_>;

    /// Serves an exception, #MC too; its error code is 0 where it has none. After a page fault [`crate::fault_address`] has the
    /// address.
    fn exception(&mut self, vector: u8, error_code: u32) -> Served<'_>;

    /// Serves all else.
    fn exit(&mut self, exit: Exit) -> Served<'_>;
}

/// What came of an exit: the guest's registers, and whether the guest goes on. A single word, the context's address with
/// [`LEAVES`] added where it does not: so functions that answer can end with a jump to each other.
#[repr(transparent)]
pub struct Served<'a>(*mut GuestContext, PhantomData<&'a mut GuestContext>);

/// Bit of a [`Served`] that makes [`enter`] return.
const LEAVES: usize = 1;

impl<'a> Served<'a> {
    /// The guest goes on with these registers, or `leaves`.
    #[inline(always)]
    pub fn new(context: &'a mut GuestContext, leaves: bool) -> Served<'a> {
        Served(core::ptr::from_mut(context).wrapping_byte_add(usize::from(leaves) * LEAVES), PhantomData)
    }

    fn leaves(&self) -> bool {
        self.0.addr() & LEAVES != 0
    }
}

extern "sysv64" fn serve_syscall<'a, S: Server + 'a>(server: *mut S) -> Served<'a> {
    // SAFETY: the entry code calls this with what `enter_with` gave it, which borrows the server until it returns, and uses
    // the context that it is given here, up to the next call of this or `serve_exit`.
    unsafe { (*server).syscall() }
}

extern "sysv64" fn serve_exit<'a, S: Server + 'a>(server: *mut S, code: u64) -> Served<'a> {
    // SAFETY: as in `serve_syscall`.
    let server = unsafe { &mut *server };
    if code < EXCEPTIONS && code != u64::from(Vector::NMI) {
        let error_code = server.context().regs.error_code;
        return server.exception(code as u8, error_code);
    }
    server.exit(Exit::decode(code))
}

/// Ring 1 is no user mode to the CPU: with SMEP and SMAP on, a kernel there could neither run user code's pages nor access
/// them. So they are off while it runs, and only then.
struct Ring1;

impl Ring1 {
    extern "sysv64" fn serve_syscall<'a, S: Server + 'a>(server: *mut S) -> Served<'a> {
        Self::guarded(|| serve_syscall(server))
    }

    extern "sysv64" fn serve_exit<'a, S: Server + 'a>(server: *mut S, code: u64) -> Served<'a> {
        Self::guarded(|| serve_exit(server, code))
    }

    fn guarded<'a>(serve: impl FnOnce() -> Served<'a>) -> Served<'a> {
        crate::registers::restore_guards();
        let served = serve();
        if !served.leaves() {
            crate::registers::lift_guards();
        }
        served
    }
}

/// Runs the guest until its server has it leave. Interrupts are off before and after, on while the guest runs. Whatever the
/// registers hold, the guest runs in ring 3 (or 1, see [`GuestContext::allow_ring1`]): the privilege in `cs` and `ss` is forced,
/// and so are the flags. Segments, page tables and descriptor tables are as loaded before.
#[inline]
pub fn enter<S: Server>(server: &mut S) {
    if server.context().ring == 1 {
        crate::registers::lift_guards();
        enter_with(server, Ring1::serve_syscall, Ring1::serve_exit);
    } else {
        enter_with(server, serve_syscall, serve_exit);
    }
}

#[inline(always)]
fn enter_with<'a, S: Server + 'a>(
    server: &mut S,
    syscall: extern "sysv64" fn(*mut S) -> Served<'a>,
    exit: extern "sysv64" fn(*mut S, u64) -> Served<'a>,
) {
    let context = core::ptr::from_mut(server.context());
    // SAFETY: a context exists, hence this CPU is set up. The entry code writes into the context, and from each call of a function
    // that serves into the one that this gives; it returns on the same stack, and all registers that it does not keep are named
    // here. Ring 3 reaches no memory of the hypervisor.
    unsafe {
        asm!(
            "call {enter}",
            enter = sym hal_cpu_enter,
            inout("rdi") context => _,
            inout("rsi") syscall => _,
            inout("rdx") exit => _,
            inout("rcx") core::ptr::from_mut(server) => _,
            lateout("r12") _,
            lateout("r13") _,
            lateout("r14") _,
            lateout("r15") _,
            clobber_abi("sysv64"),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exits_decode() {
        assert_eq!(Exit::decode(0x101), Exit::Syscall32);
        assert_eq!(Exit::decode(0x102), Exit::Sysenter);
        assert_eq!(Exit::decode(2), Exit::Nmi);
        assert_eq!(Exit::decode(32), Exit::Interrupt(32));
        assert_eq!(Exit::decode(255), Exit::Interrupt(255));
        assert_eq!(Exit::decode(0xe030_0000_020d), Exit::BadFrame { vector: 13, error_code: 0xe030 });
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
