//! Virtual processors of a translated guest: the states that they may begin in, and what calls about them say.

use super::{Case, code, table};
use crate::call::{call2, call3, op};
use crate::memory::Guest;
use crate::pvh;
use crate::pvh::processor_up;
use crate::report::Outcome;
use crate::second::{initialise_translated as initialise, issue};
use crate::shared::{vcpu_op, wait};
use core::sync::atomic::{AtomicU32, Ordering::SeqCst};
use xen_abi::hvm_op::*;
use xen_abi::hvm_params::*;
use xen_abi::hvm_vcpu::*;
use xen_abi::vcpu::*;
use xen_abi::xen::*;
use xen_abi::{Union, callback};
use zerocopy::{FromZeros, IntoBytes};

/// Attributes of flat 32-bit segments and of a busy task: as in descriptors, without the limit's upper bits.
const CODE: u16 = 0xc9b;
const DATA: u16 = 0xc93;
const TASK: u16 = 0x8b;
/// Where the code of a 32-bit processor is, and what it writes, in the first page, which nothing else uses.
const NARROW_CODE: u64 = 0x800;
const NARROW_WORD: u64 = 0x900;

/// Runs the group.
pub fn run(guest: &Guest) {
    table(guest, "processor", CASES);
    table(guest, "processor", CALLS);
}

/// Gives processor `vcpu` a state that runs 32-bit code, flat and without paging.
fn initialise_narrow(vcpu: u32, change: impl FnOnce(&mut VcpuHvm32)) -> i64 {
    let mut registers = VcpuHvm32 {
        eip: NARROW_CODE as u32,
        eflags: 2,
        cr0: 0x11,
        cs_limit: !0,
        ds_limit: !0,
        ss_limit: !0,
        es_limit: !0,
        tr_limit: 0x67,
        cs_ar: CODE,
        ds_ar: DATA,
        ss_ar: DATA,
        es_ar: DATA,
        tr_ar: TASK,
        ..VcpuHvm32::new_zeroed()
    };
    change(&mut registers);
    issue(vcpu, VCPU_HVM_MODE_32B, registers.as_bytes())
}

/// The next processor that has no state yet; one that got a state keeps it.
static FREE: AtomicU32 = AtomicU32::new(2);

fn initialised(result: i64) -> Outcome {
    if result == 0 {
        FREE.fetch_add(1, SeqCst);
    }
    code(result)
}

/// A 64-bit state that the hypervisor may refuse.
fn wide(change: fn(&mut VcpuHvm64)) -> Outcome {
    initialised(initialise(FREE.load(SeqCst), change))
}

/// A 32-bit one.
fn narrow(change: fn(&mut VcpuHvm32)) -> Outcome {
    initialised(initialise_narrow(FREE.load(SeqCst), change))
}

fn is_up() -> i64 {
    call3(HYPERVISOR_VCPU_OP, VCPUOP_IS_UP.into(), FREE.load(SeqCst).into(), 0)
}

/// Starts a processor in 32-bit code that writes a word.
fn run_narrow() -> Outcome {
    // mov dword ptr [NARROW_WORD], 0x3232; hlt
    const TEXT: [u8; 11] = [0xc7, 0x05, NARROW_WORD as u8, (NARROW_WORD >> 8) as u8, 0, 0, 0x32, 0x32, 0, 0, 0xf4];
    let at = crate::memory::VIRT_BASE + NARROW_CODE;
    // SAFETY: nothing of Rust's is in the first page.
    let word = unsafe {
        core::ptr::copy_nonoverlapping(TEXT.as_ptr(), at as *mut u8, TEXT.len());
        &*((at - NARROW_CODE + NARROW_WORD) as *const AtomicU32)
    };
    word.store(0, SeqCst);
    let processor = FREE.load(SeqCst);
    let made = initialise_narrow(processor, |_| {});
    if made != 0 {
        return code(made);
    }
    processor_up(processor);
    wait(|| word.load(SeqCst) != 0);
    Outcome::Hex(word.load(SeqCst).into())
}

const CASES: &[Case] = &[
    ("initialise-self", |_| code(initialise(0, |_| {}))),
    ("initialise-none", |_| code(initialise(77, |_| {}))),
    ("initialise-mode-2", |_| code(issue(2, 2, &[]))),
    ("initialise-mode-max", |_| code(issue(2, !0, &[]))),
    ("initialise-padding", |_| {
        let registers = Union([0; 15]);
        let mut context = VcpuHvmContext { mode: VCPU_HVM_MODE_64B, pad: 1, cpu_regs: registers };
        code(vcpu_op(VCPUOP_INITIALISE, 2, &mut context))
    }),
    ("initialise-nothing", |_| code(issue(2, VCPU_HVM_MODE_64B, &[]))),
    ("initialise-no-long-mode", |_| wide(|r| r.efer = 0)),
    ("initialise-long-mode-not-active", |_| wide(|r| r.efer = 0x100)),
    ("initialise-unknown-efer", |_| wide(|r| r.efer |= 1 << 40)),
    ("initialise-no-paging", |_| wide(|r| r.cr0 &= !(1 << 31))),
    ("initialise-no-protection", |_| wide(|r| r.cr0 &= !1)),
    ("initialise-cr0-high", |_| wide(|r| r.cr0 |= 1 << 40)),
    ("initialise-cr4-without-pae", |_| wide(|r| r.cr4 &= !0x20)),
    ("initialise-cr4-unknown", |_| wide(|r| r.cr4 |= 1 << 31)),
    ("initialise-cr4-vmx", |_| wide(|r| r.cr4 |= 1 << 13)),
    ("initialise-flags-zero", |_| wide(|r| r.rflags = 0)),
    ("initialise-flags-high", |_| wide(|r| r.rflags = 1 << 40)),
    ("initialise-flags-virtual-8086", |_| wide(|r| r.rflags |= 1 << 17)),
    ("initialise-32-padding-1", |_| narrow(|r| r.pad1 = 1)),
    ("initialise-32-padding-2", |_| narrow(|r| r.pad2[1] = 1)),
    ("initialise-32-flags-zero", |_| narrow(|r| r.eflags = 0)),
    ("initialise-32-flags-virtual-8086", |_| narrow(|r| r.eflags |= 1 << 17)),
    ("initialise-32-long-mode", |_| narrow(|r| r.efer = 0x500)),
    ("initialise-32-eip-beyond", |_| {
        narrow(|r| {
            r.cs_limit = 0xfff;
            r.eip = 0x1000;
        })
    }),
    ("initialise-32-no-code", |_| narrow(|r| r.cs_ar = 0)),
    ("initialise-32-code-absent", |_| narrow(|r| r.cs_ar &= !0x80)),
    ("initialise-32-code-is-data", |_| narrow(|r| r.cs_ar = DATA)),
    ("initialise-32-code-of-64-bits", |_| narrow(|r| r.cs_ar = 0xa9b)),
    ("initialise-32-stack-is-code", |_| narrow(|r| r.ss_ar = CODE)),
    ("initialise-32-stack-read-only", |_| narrow(|r| r.ss_ar &= !2)),
    ("initialise-32-stack-absent", |_| narrow(|r| r.ss_ar &= !0x80)),
    ("initialise-32-other-privilege", |_| narrow(|r| r.ss_ar |= 0x60)),
    ("initialise-32-data-execute-only", |_| narrow(|r| r.ds_ar = 0xc99)),
    ("initialise-32-data-is-system", |_| narrow(|r| r.es_ar &= !0x10)),
    ("initialise-32-task-not-busy", |_| narrow(|r| r.tr_ar = 0x89)),
    ("initialise-32-task-absent", |_| narrow(|r| r.tr_ar = 0xb)),
    ("initialise-32-limit-uneven", |_| narrow(|r| r.cs_limit = 0xffff_f000)),
    ("up-not-initialised", |_| code(processor_up(FREE.load(SeqCst)))),
    ("is-up", |_| code(is_up())),
    ("starts-in-32-bit-code", |_| run_narrow()),
    ("initialise-again", |_| code(initialise(FREE.load(SeqCst), |_| {}))),
    // Halted with interrupts off, it is down for good.
    ("is-down-again", |_| crate::report::yes(wait(|| is_up() == 0))),
    // As many states as processors were taken.
    ("states-taken", |_| Outcome::Code((FREE.load(SeqCst) - 2).into())),
];

fn upcall_vector(vcpu: u32, vector: u8) -> Outcome {
    let mut call = HvmEvtchnUpcallVector { vcpu, vector, _gap0: [0; 3] };
    code(op(HYPERVISOR_HVM_OP, HVMOP_SET_EVTCHN_UPCALL_VECTOR, &mut call))
}

fn parameter(index: u32) -> Outcome {
    match pvh::parameter(index) {
        Ok(value) => Outcome::Hex(value),
        Err(error) => code(error),
    }
}

const CALLS: &[Case] = &[
    ("upcall-vector-of-none", |_| upcall_vector(77, 0x40)),
    ("upcall-vector-15", |_| upcall_vector(1, 15)),
    ("upcall-vector-16", |_| upcall_vector(1, 16)),
    ("upcall-vector-0", |_| upcall_vector(1, 0)),
    ("flush-all", |_| code(call2(HYPERVISOR_HVM_OP, HVMOP_FLUSH_TLBS.into(), 0))),
    ("flush-with-argument", |_| code(call2(HYPERVISOR_HVM_OP, HVMOP_FLUSH_TLBS.into(), 1))),
    ("memory-type", |_| {
        let mut call = HvmGetMemType { domid: DOMID_SELF, mem_type: 99, pad: [0; 2], pfn: 0x100 };
        code(op(HYPERVISOR_HVM_OP, HVMOP_GET_MEM_TYPE, &mut call))
    }),
    ("page-table-dying", |_| {
        let mut call = HvmPagetableDying { domid: DOMID_SELF, pad: [0; 3], gpa: 0x1000 };
        code(op(HYPERVISOR_HVM_OP, HVMOP_PAGETABLE_DYING, &mut call))
    }),
    ("callback-register", |_| {
        let register = callback::CALLBACKOP_REGISTER;
        let mut call = callback::Register { r#type: 0, flags: 0, _gap0: [0; 4], address: 0x1000 };
        code(op(HYPERVISOR_CALLBACK_OP, register, &mut call))
    }),
    ("parameter-console-frame", |_| parameter(HVM_PARAM_CONSOLE_PFN)),
    ("parameter-store-frame", |_| parameter(HVM_PARAM_STORE_PFN)),
    ("parameter-callback", |_| parameter(HVM_PARAM_CALLBACK_IRQ)),
    ("parameter-timer-mode", |_| parameter(HVM_PARAM_TIMER_MODE)),
    ("parameter-identity-table", |_| parameter(HVM_PARAM_IDENT_PT)),
    ("parameter-last", |_| parameter(HVM_NR_PARAMS)),
    ("set-console-frame", |_| code(pvh::set_parameter(HVM_PARAM_CONSOLE_PFN, 5))),
    ("set-nested", |_| code(pvh::set_parameter(HVM_PARAM_NESTEDHVM, 1))),
    ("set-timer-mode", |_| code(pvh::set_parameter(HVM_PARAM_TIMER_MODE, 1))),
    ("callback-by-line", |_| code(pvh::set_parameter(HVM_PARAM_CALLBACK_IRQ, 5))),
    ("callback-by-vector", |_| code(pvh::hear_events())),
];
