//! Hypercalls.

use crate::{memory, pvh};
use core::arch::asm;
use xen_abi::sched::{SCHEDOP_BLOCK, SCHEDOP_POLL, SCHEDOP_SHUTDOWN, Shutdown};
use xen_abi::xen::{DOMID_SELF, MmuUpdate, MmuextOp};
use xen_abi::xen::{HYPERVISOR_MMU_UPDATE, HYPERVISOR_MMUEXT_OP, HYPERVISOR_SCHED_OP, HYPERVISOR_UPDATE_VA_MAPPING};
use xen_abi::{GuestHandle, sched};

/// One hypercall by the given instruction.
macro_rules! by {
    ($instruction:literal, $number:expr, $arguments:expr) => {{
        let result: i64;
        // SAFETY: a hypercall changes these registers, and memory only where this test kernel told it to; a test that
        // hands out a wild address expects it to be refused.
        unsafe {
            asm!(
                $instruction,
                inlateout("rax") $number => result,
                inlateout("rdi") $arguments[0] => _,
                inlateout("rsi") $arguments[1] => _,
                inlateout("rdx") $arguments[2] => _,
                inlateout("r10") $arguments[3] => _,
                inlateout("r8") $arguments[4] => _,
                lateout("r9") _,
                lateout("rcx") _,
                lateout("r11") _,
            );
        }
        result
    }};
}

/// Makes hypercall `number` (all of RAX) with five arguments; what it returns, a negative errno where it failed.
pub fn call(number: u64, arguments: [u64; 5]) -> i64 {
    if pvh::is_translated() { by!("vmmcall", number, arguments) } else { by!("syscall", number, arguments) }
}

/// With one argument.
pub fn call1(number: u32, a: u64) -> i64 {
    call(u64::from(number), [a, 0, 0, 0, 0])
}

/// With two arguments.
pub fn call2(number: u32, a: u64, b: u64) -> i64 {
    call(u64::from(number), [a, b, 0, 0, 0])
}

/// With three arguments.
pub fn call3(number: u32, a: u64, b: u64, c: u64) -> i64 {
    call(u64::from(number), [a, b, c, 0, 0])
}

/// With four arguments.
pub fn call4(number: u32, a: u64, b: u64, c: u64, d: u64) -> i64 {
    call(u64::from(number), [a, b, c, d, 0])
}

/// The command `command` of hypercall `number` with the structure `argument`, which the hypervisor may write.
pub fn op<T>(number: u32, command: u32, argument: &mut T) -> i64 {
    call2(number, u64::from(command), (&raw mut *argument) as u64)
}

/// One update of a page-table entry (or other command in the lower bits of `pointer`).
pub fn mmu_update(pointer: u64, value: u64) -> i64 {
    mmu_update_of(pointer, value, u64::from(DOMID_SELF))
}

/// The same with frames of domain `domain`.
pub fn mmu_update_of(pointer: u64, value: u64, domain: u64) -> i64 {
    let update = MmuUpdate { ptr: pointer, val: value };
    call4(HYPERVISOR_MMU_UPDATE, (&raw const update) as u64, 1, 0, domain)
}

/// One extended memory-management operation.
pub fn mmuext(command: u32, arg1: u64, arg2: u64) -> i64 {
    mmuext_of(command, arg1, arg2, u64::from(DOMID_SELF))
}

/// The same on domain `domain`.
pub fn mmuext_of(command: u32, arg1: u64, arg2: u64, domain: u64) -> i64 {
    let op = MmuextOp { cmd: command, _gap0: [0; 4], arg1, arg2 };
    call4(HYPERVISOR_MMUEXT_OP, (&raw const op) as u64, 1, 0, domain)
}

/// Writes the page-table entry that maps `address`. A translated guest does so itself.
pub fn update_va(address: u64, entry: u64, flags: u64) -> i64 {
    if pvh::is_translated() {
        // SAFETY: callers change entries of pages that nothing of Rust's is in.
        unsafe { memory::write_entry(address, entry) };
        return 0;
    }
    call3(HYPERVISOR_UPDATE_VA_MAPPING, address, entry, flags)
}

/// Ends the domain.
pub fn shutdown(reason: u32) -> ! {
    loop {
        op(HYPERVISOR_SCHED_OP, SCHEDOP_SHUTDOWN, &mut Shutdown { reason });
    }
}

/// Waits until one of `ports` has an event or system time `timeout` (ns; 0: none) comes.
pub fn poll(ports: &[u32], timeout: u64) -> i64 {
    let mut poll = sched::Poll {
        ports: GuestHandle::new(ports.as_ptr() as u64),
        nr_ports: ports.len() as u32,
        _gap0: [0; 4],
        timeout,
    };
    op(HYPERVISOR_SCHED_OP, SCHEDOP_POLL, &mut poll)
}

/// Unmasks events and waits for one. A translated guest takes it, and no further one.
pub fn block() -> i64 {
    if pvh::is_translated() {
        pvh::halt();
        return 0;
    }
    call1(HYPERVISOR_SCHED_OP, u64::from(SCHEDOP_BLOCK))
}
