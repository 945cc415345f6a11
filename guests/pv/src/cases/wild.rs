//! Every hypercall and every command of it with pointers that point nowhere good.

use crate::memory::Guest;
use crate::report::{Outcome, sign};
use crate::{call, say, trap};
use core::fmt;
use core::ops::RangeInclusive;
use xen_abi::vcpu::{VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA, VCPUOP_REGISTER_VCPU_TIME_MEMORY_AREA};
use xen_abi::xen::*;

/// Addresses that no hypercall may follow.
const POINTERS: &[(&str, u64)] = &[
    ("null", 0),
    ("unmapped", 0x7000_0000_0000),
    ("end-of-lower-half", 0x7fff_ffff_fffc),
    ("non-canonical", 0x8000_0000_0000_0000),
    ("table-of-frames", 0xffff_8000_0000_0000),
    ("hypervisor", 0xffff_82d0_8020_0000),
    ("all-memory", 0xffff_8300_0000_0000),
    ("end-of-hypervisor", 0xffff_87ff_ffff_fffc),
    ("last", 0xffff_ffff_ffff_fffc),
];

/// One hypercall: which argument is the command, if any, which commands, which argument is the pointer, and the others.
struct Call {
    name: &'static str,
    number: u32,
    command: Option<(usize, RangeInclusive<u64>)>,
    pointer: usize,
    others: [u64; 5],
}

const SELF: u64 = DOMID_SELF as u64;

const fn plain(name: &'static str, number: u32, pointer: usize, others: [u64; 5]) -> Call {
    Call { name, number, command: None, pointer, others }
}

const fn commands(
    name: &'static str,
    number: u32,
    commands: RangeInclusive<u64>,
    pointer: usize,
    others: [u64; 5],
) -> Call {
    Call { name, number, command: Some((0, commands)), pointer, others }
}

const CALLS: &[Call] = &[
    plain("set_trap_table", HYPERVISOR_SET_TRAP_TABLE, 0, [0; 5]),
    plain("mmu_update", HYPERVISOR_MMU_UPDATE, 0, [0, 1, 0, SELF, 0]),
    plain("set_gdt", HYPERVISOR_SET_GDT, 0, [0, 16, 0, 0, 0]),
    plain("platform_op", HYPERVISOR_PLATFORM_OP, 0, [0; 5]),
    commands("memory_op", HYPERVISOR_MEMORY_OP, 0..=29, 1, [0; 5]),
    plain("multicall", HYPERVISOR_MULTICALL, 0, [0, 1, 0, 0, 0]),
    plain("event_channel_op_compat", HYPERVISOR_EVENT_CHANNEL_OP_COMPAT, 0, [0; 5]),
    commands("xen_version", HYPERVISOR_XEN_VERSION, 0..=15, 1, [0; 5]),
    commands("console_io", HYPERVISOR_CONSOLE_IO, 0..=2, 2, [0, 16, 0, 0, 0]),
    plain("physdev_op_compat", HYPERVISOR_PHYSDEV_OP_COMPAT, 0, [0; 5]),
    commands("grant_table_op", HYPERVISOR_GRANT_TABLE_OP, 0..=13, 1, [0, 0, 1, 0, 0]),
    plain("vcpu_op.initialise", HYPERVISOR_VCPU_OP, 2, [0, 2, 0, 0, 0]),
    commands("vcpu_op", HYPERVISOR_VCPU_OP, 4..=10, 2, [0; 5]),
    commands("vcpu_op", HYPERVISOR_VCPU_OP, 12..=16, 2, [0; 5]),
    plain("mmuext_op", HYPERVISOR_MMUEXT_OP, 0, [0, 1, 0, SELF, 0]),
    plain("xsm_op", HYPERVISOR_XSM_OP, 0, [0; 5]),
    commands("nmi_op", HYPERVISOR_NMI_OP, 0..=2, 1, [0; 5]),
    commands("sched_op", HYPERVISOR_SCHED_OP, 2..=8, 1, [0; 5]),
    commands("callback_op", HYPERVISOR_CALLBACK_OP, 0..=2, 1, [0; 5]),
    commands("xenoprof_op", HYPERVISOR_XENOPROF_OP, 0..=3, 1, [0; 5]),
    commands("event_channel_op", HYPERVISOR_EVENT_CHANNEL_OP, 0..=14, 1, [0; 5]),
    commands("physdev_op", HYPERVISOR_PHYSDEV_OP, 0..=33, 1, [0; 5]),
    commands("hvm_op", HYPERVISOR_HVM_OP, 0..=26, 1, [0; 5]),
    plain("sysctl", HYPERVISOR_SYSCTL, 0, [0; 5]),
    plain("domctl", HYPERVISOR_DOMCTL, 0, [0; 5]),
    commands("kexec_op", HYPERVISOR_KEXEC_OP, 0..=6, 1, [0; 5]),
    plain("tmem_op", HYPERVISOR_TMEM_OP, 0, [0; 5]),
    commands("argo_op", HYPERVISOR_ARGO_OP, 0..=5, 1, [0; 5]),
    commands("xenpmu_op", HYPERVISOR_XENPMU_OP, 0..=8, 1, [0; 5]),
    plain("dm_op", HYPERVISOR_DM_OP, 2, [SELF, 1, 0, 0, 0]),
    commands("hypfs_op", HYPERVISOR_HYPFS_OP, 0..=5, 1, [0; 5]),
    plain("mca", HYPERVISOR_ARCH_0, 0, [0; 5]),
];

/// Runs the group.
pub fn run(_guest: &Guest) {
    for call in CALLS {
        match &call.command {
            None => one(call, None),
            Some((at, range)) => {
                for command in range.clone() {
                    one(call, Some((*at, command)));
                }
            }
        }
    }
    for number in (43..=47).chain(49..=64).chain([0x7fff_ffff, 0xffff_ffff, 1 << 32 | 17, !0]) {
        let outcome = Outcome::Code(call::call(number, [0; 5]));
        say!("wild.number-{number:#x}: {outcome}");
    }
}

/// One command with every pointer; one line where the answer is always the same.
fn one(call: &Call, command: Option<(usize, u64)>) {
    let mut arguments = call.others;
    if let Some((at, command)) = command {
        arguments[at] = command;
    }
    let mut answers = [Outcome::Code(0); POINTERS.len()];
    for ((_, pointer), answer) in POINTERS.iter().zip(&mut answers) {
        arguments[call.pointer] = *pointer;
        *answer = sign(call::call(u64::from(call.number), arguments));
        repair(call.number, command.map(|(_, command)| command));
    }
    let name = Name(call.name, command.map(|(_, command)| command));
    if answers.iter().all(|a| *a == answers[0]) {
        say!("wild.{name}: {}", answers[0]);
        return;
    }
    for ((pointer, _), answer) in POINTERS.iter().zip(&answers) {
        say!("wild.{name}.{pointer}: {answer}");
    }
}

/// A hypercall's name, and the command if it has such.
struct Name(&'static str, Option<u64>);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            Some(command) => write!(f, "{}.{command}", self.0),
            None => f.write_str(self.0),
        }
    }
}

/// Undoes what a call without a pointer means.
fn repair(number: u32, command: Option<u64>) {
    match (number, command.map(|c| c as u32)) {
        (HYPERVISOR_SET_TRAP_TABLE, _) => trap::install(),
        (HYPERVISOR_VCPU_OP, Some(VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA | VCPUOP_REGISTER_VCPU_TIME_MEMORY_AREA)) => {
            let none = 0u64;
            call::call3(number, command.unwrap_or(0), 0, (&raw const none) as u64);
        }
        _ => {}
    }
}
