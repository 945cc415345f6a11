//! Virtual processors: their state, callbacks, debug registers, segment bases, and what no caller may set.

use super::{Case, table};
use crate::call::{call1, call2, call3, op};
use crate::memory::{Guest, page};
use crate::report::{Outcome, sign};
use crate::second::initialise;
use crate::shared::{now, vcpu_op};
use crate::{entry, trap};
use xen_abi::GuestHandle;
use xen_abi::arch_x86::*;
use xen_abi::callback::*;
use xen_abi::physdev::*;
use xen_abi::sched::*;
use xen_abi::vcpu::*;
use xen_abi::xen::*;

/// An address of the hypervisor's.
const HYPERVISOR: u64 = 0xffff_82d0_8020_0000;
/// An address that is none.
const NON_CANONICAL: u64 = 1 << 63;
/// A page for what the hypervisor writes.
const PLAY: usize = 16;

/// Runs the group.
pub fn run(guest: &Guest) {
    table(guest, "processor", CASES);
    table(guest, "processor", CONTEXTS);
}

fn code(result: i64) -> Outcome {
    Outcome::Code(result)
}

/// A state that the hypervisor has to refuse; processor 2 is never used otherwise.
fn refused(guest: &Guest, change: fn(&mut VcpuGuestContext)) -> Outcome {
    code(initialise(guest, 2, change))
}

const CONTEXTS: &[Case] = &[
    ("initialise-self", |g| code(initialise(g, 0, |_| {}))),
    ("initialise-none", |g| code(initialise(g, 77, |_| {}))),
    ("initialise-last", |g| code(initialise(g, !0, |_| {}))),
    ("initialise-rip-non-canonical", |g| refused(g, |c| c.user_regs.rip = NON_CANONICAL)),
    ("initialise-event-non-canonical", |g| refused(g, |c| c.event_callback_eip = NON_CANONICAL)),
    ("initialise-failsafe-non-canonical", |g| refused(g, |c| c.failsafe_callback_eip = NON_CANONICAL)),
    ("initialise-syscall-non-canonical", |g| refused(g, |c| c.syscall_callback_eip = NON_CANONICAL)),
    ("initialise-fs-non-canonical", |g| refused(g, |c| c.fs_base = NON_CANONICAL)),
    ("initialise-gs-non-canonical", |g| refused(g, |c| c.gs_base_kernel = NON_CANONICAL)),
    ("initialise-trap-non-canonical", |g| {
        refused(g, |c| {
            c.trap_ctxt[14].cs = FLAT_KERNEL_CS;
            c.trap_ctxt[14].address = NON_CANONICAL;
        })
    }),
    ("initialise-top-table-frame-1", |g| refused(g, |c| c.ctrlreg[3] = 0x1000)),
    ("initialise-top-table-none", |g| refused(g, |c| c.ctrlreg[3] = 0)),
    ("initialise-top-table-beyond", |g| refused(g, |c| c.ctrlreg[3] = 1 << 44)),
    ("initialise-user-table-frame-1", |g| refused(g, |c| c.ctrlreg[1] = 0x1000)),
    ("initialise-gdt-frame-1", |g| {
        refused(g, |c| {
            c.gdt_frames[0] = 1;
            c.gdt_ents = 512;
        })
    }),
    ("initialise-gdt-too-long", |g| refused(g, |c| c.gdt_ents = 8193)),
    ("initialise-ldt-too-long", |g| refused(g, |c| c.ldt_ents = 8193)),
    ("initialise-ldt-non-canonical", |g| {
        refused(g, |c| {
            c.ldt_base = NON_CANONICAL;
            c.ldt_ents = 8;
        })
    }),
    ("up-not-initialised", |_| code(call3(HYPERVISOR_VCPU_OP, u64::from(VCPUOP_UP), 2, 0))),
    ("initialise-privileged-selectors", |g| {
        refused(g, |c| {
            c.user_regs.cs = 0xe008;
            c.user_regs.ss = 0;
            c.user_regs.rflags = 0x3202;
        })
    }),
    ("initialise-again", |g| refused(g, |_| {})),
    ("up-none", |_| code(call3(HYPERVISOR_VCPU_OP, u64::from(VCPUOP_UP), 77, 0))),
    ("is-up-self", |_| code(call3(HYPERVISOR_VCPU_OP, u64::from(VCPUOP_IS_UP), 0, 0))),
    ("is-up-1", |_| code(call3(HYPERVISOR_VCPU_OP, u64::from(VCPUOP_IS_UP), 1, 0))),
    ("is-up-none", |_| code(call3(HYPERVISOR_VCPU_OP, u64::from(VCPUOP_IS_UP), 77, 0))),
];

fn set_trap(vector: u8, cs: u16, address: u64) -> Outcome {
    let none = TrapInfo { vector: 0, flags: 0, cs: 0, _gap0: [0; 4], address: 0 };
    let table = [TrapInfo { vector, flags: 0, cs, address, ..none }, none];
    let result = call1(HYPERVISOR_SET_TRAP_TABLE, (&raw const table) as u64);
    trap::install();
    code(result)
}

fn register(kind: u16, address: u64) -> Outcome {
    let mut argument = Register { r#type: kind, flags: 0, _gap0: [0; 4], address };
    let result = op(HYPERVISOR_CALLBACK_OP, CALLBACKOP_REGISTER, &mut argument);
    trap::install();
    code(result)
}

fn debug(number: u64, value: u64) -> Outcome {
    let result = call2(HYPERVISOR_SET_DEBUGREG, number, value);
    if number == 7 {
        call2(HYPERVISOR_SET_DEBUGREG, 7, 0x400);
    }
    code(result)
}

fn base(which: u32, value: u64) -> Outcome {
    code(call2(HYPERVISOR_SET_SEGMENT_BASE, u64::from(which), value))
}

fn periodic(period_ns: u64) -> Outcome {
    let mut argument = SetPeriodicTimer { period_ns };
    let result = vcpu_op(VCPUOP_SET_PERIODIC_TIMER, 0, &mut argument);
    call3(HYPERVISOR_VCPU_OP, u64::from(VCPUOP_STOP_PERIODIC_TIMER), 0, 0);
    code(result)
}

fn vcpu_info(vcpu: u32, mfn: u64, offset: u32) -> Outcome {
    let mut argument = RegisterVcpuInfo { mfn, offset, rsvd: 0 };
    code(vcpu_op(VCPUOP_REGISTER_VCPU_INFO, vcpu, &mut argument))
}

fn watchdog(id: u32, timeout: u32) -> Outcome {
    let mut argument = Watchdog { id, timeout };
    sign(op(HYPERVISOR_SCHED_OP, SCHEDOP_WATCHDOG, &mut argument))
}

fn io_level(iopl: u32) -> Outcome {
    let mut argument = SetIopl { iopl };
    code(op(HYPERVISOR_PHYSDEV_OP, PHYSDEVOP_SET_IOPL, &mut argument))
}

fn io_bitmap(bitmap: u64, nr_ports: u32) -> Outcome {
    let mut argument = SetIobitmap { bitmap: GuestHandle::new(bitmap), nr_ports, _gap0: [0; 4] };
    code(op(HYPERVISOR_PHYSDEV_OP, PHYSDEVOP_SET_IOBITMAP, &mut argument))
}

const CASES: &[Case] = &[
    ("trap-non-canonical", |_| set_trap(14, FLAT_KERNEL_CS, NON_CANONICAL)),
    ("trap-hypervisor", |_| set_trap(14, FLAT_KERNEL_CS, HYPERVISOR)),
    ("trap-privileged-selector", |_| set_trap(40, 0xe008, entry::soft())),
    ("callbacks-non-canonical", |_| {
        let result = call3(HYPERVISOR_SET_CALLBACKS, NON_CANONICAL, NON_CANONICAL, NON_CANONICAL);
        trap::install();
        code(result)
    }),
    ("callback-event-non-canonical", |_| register(CALLBACKTYPE_EVENT, NON_CANONICAL)),
    ("callback-event-hypervisor", |_| register(CALLBACKTYPE_EVENT, HYPERVISOR)),
    ("callback-nmi", |_| register(CALLBACKTYPE_NMI, entry::stub(2))),
    ("callback-sysenter", |_| register(CALLBACKTYPE_SYSENTER, entry::syscall())),
    ("callback-type-6", |_| register(6, entry::event())),
    ("callback-type-max", |_| register(!0, entry::event())),
    ("debug-0-own", |_| debug(0, page(PLAY))),
    ("debug-0-hypervisor", |_| debug(0, HYPERVISOR)),
    ("debug-0-non-canonical", |_| debug(0, NON_CANONICAL)),
    ("debug-0-none", |_| debug(0, 0)),
    ("debug-4", |_| debug(4, 0)),
    ("debug-6-ones", |_| debug(6, !0)),
    ("debug-7-ones", |_| debug(7, !0)),
    ("debug-7-io", |_| debug(7, 0x0002_0402)),
    ("debug-7-general-detect", |_| debug(7, 0x2400)),
    ("debug-8", |_| debug(8, 0)),
    ("debug-max", |_| debug(!0, 0)),
    ("read-debug-0", |_| Outcome::Hex(call1(HYPERVISOR_GET_DEBUGREG, 0) as u64)),
    ("read-debug-7", |_| Outcome::Hex(call1(HYPERVISOR_GET_DEBUGREG, 7) as u64)),
    ("read-debug-8", |_| code(call1(HYPERVISOR_GET_DEBUGREG, 8))),
    ("fs-base-own", |_| base(SEGBASE_FS, page(PLAY))),
    ("fs-base-non-canonical", |_| base(SEGBASE_FS, NON_CANONICAL)),
    ("gs-base-kernel-non-canonical", |_| base(SEGBASE_GS_KERNEL, NON_CANONICAL)),
    ("gs-base-user-non-canonical", |_| base(SEGBASE_GS_USER, NON_CANONICAL)),
    ("gs-selector-hypervisor", |_| base(SEGBASE_GS_USER_SEL, 0xe008)),
    ("gs-selector-bad", |_| base(SEGBASE_GS_USER_SEL, 0x1234)),
    ("gs-selector-none", |_| base(SEGBASE_GS_USER_SEL, 0)),
    ("segment-base-4", |_| base(4, 0)),
    ("stack-non-canonical", |_| {
        let result = call2(HYPERVISOR_STACK_SWITCH, u64::from(FLAT_KERNEL_SS), NON_CANONICAL);
        call2(HYPERVISOR_STACK_SWITCH, u64::from(FLAT_KERNEL_SS), entry::second().1);
        code(result)
    }),
    ("stack-selector-hypervisor", |_| {
        let result = call2(HYPERVISOR_STACK_SWITCH, 0xe010, entry::second().1);
        call2(HYPERVISOR_STACK_SWITCH, u64::from(FLAT_KERNEL_SS), entry::second().1);
        code(result)
    }),
    ("fpu-task-switch", |_| {
        let result = call1(HYPERVISOR_FPU_TASKSWITCH, 1);
        call1(HYPERVISOR_FPU_TASKSWITCH, 0);
        code(result)
    }),
    ("assist-unknown", |_| code(call2(HYPERVISOR_VM_ASSIST, 0, 31))),
    ("assist-64", |_| code(call2(HYPERVISOR_VM_ASSIST, 0, 64))),
    ("assist-max", |_| code(call2(HYPERVISOR_VM_ASSIST, 0, !0))),
    ("assist-command-2", |_| code(call2(HYPERVISOR_VM_ASSIST, 2, 0))),
    ("assist-iopl", |_| {
        let result = call2(HYPERVISOR_VM_ASSIST, 0, u64::from(VMASST_TYPE_ARCHITECTURAL_IOPL));
        call2(HYPERVISOR_VM_ASSIST, 1, u64::from(VMASST_TYPE_ARCHITECTURAL_IOPL));
        code(result)
    }),
    ("io-level-0", |_| io_level(0)),
    ("io-level-1", |_| io_level(1)),
    ("io-level-4", |_| io_level(4)),
    ("io-bitmap-wild", |_| io_bitmap(0x7000_0000_0000, 65536)),
    ("io-bitmap-too-long", |_| io_bitmap(page(PLAY), 65537)),
    ("io-bitmap-none", |_| io_bitmap(0, 0)),
    ("periodic-timer-0", |_| periodic(0)),
    ("periodic-timer-1-ns", |_| periodic(1)),
    ("periodic-timer-max", |_| periodic(!0)),
    ("timer-max", |_| {
        let result = call1(HYPERVISOR_SET_TIMER_OP, !0);
        call1(HYPERVISOR_SET_TIMER_OP, 0);
        code(result)
    }),
    ("timer-past", |_| code(call1(HYPERVISOR_SET_TIMER_OP, now() / 2))),
    ("info-of-none", |g| vcpu_info(77, g.page_frame(PLAY), 0)),
    ("info-frame-1", |_| vcpu_info(1, 1, 0)),
    ("info-beyond-memory", |_| vcpu_info(1, 1 << 28, 0)),
    ("info-off-the-page", |g| vcpu_info(1, g.page_frame(PLAY), 4096 - 32)),
    ("info-unaligned", |g| vcpu_info(1, g.page_frame(PLAY), 3)),
    ("info-in-table", |g| vcpu_info(1, g.table(page(PLAY), 1).1, 0)),
    ("info", |g| vcpu_info(1, g.page_frame(PLAY), 64)),
    ("info-twice", |g| vcpu_info(1, g.page_frame(PLAY), 128)),
    ("watchdog-bad-id", |_| watchdog(99, 10)),
    ("watchdog-not-set", |_| watchdog(1, 10)),
    ("watchdog", |_| {
        let set = watchdog(0, 60);
        for id in 1..=2 {
            watchdog(id, 0);
        }
        set
    }),
    ("sched-command-9", |_| code(call2(HYPERVISOR_SCHED_OP, 9, page(PLAY)))),
    ("remote-shutdown", |_| {
        let mut argument = RemoteShutdown { domain_id: 0, _gap0: [0; 2], reason: SHUTDOWN_CRASH };
        code(op(HYPERVISOR_SCHED_OP, SCHEDOP_REMOTE_SHUTDOWN, &mut argument))
    }),
    ("pin-override", |_| {
        let mut argument = PinOverride { pcpu: 0 };
        code(op(HYPERVISOR_SCHED_OP, SCHEDOP_PIN_OVERRIDE, &mut argument))
    }),
];
