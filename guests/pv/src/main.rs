//! A bare 64-bit kernel, paravirtualised or translated (PVH or HVM), that asks its hypervisor for what it must give and for what it
//! must refuse: it maps page tables writably, uses frames that it does not own, passes wild pointers and sizes to every hypercall
//! and executes privileged instructions. It prints what came of each as `group.case: answer` on its console.
//!
//! The command line chooses: `run=list` prints what there is, `run=GROUP` runs a group of cases that the kernel
//! survives, `run=crash.NAME` the one case that has to end the domain.
//!
//! On the host it is a program that does nothing: there only its tests run, and lints.

#![cfg_attr(target_os = "none", no_std, no_main)]
#![cfg_attr(not(target_os = "none"), allow(dead_code))]

mod cases;

use guest_kernel::{
    Kernel, attempt, call, entry, grants, memory, pvh, report, say, second, shared, trap, value, with_rax,
};

guest_kernel::kernel!(Kernel {
    run: |guest, name| match name {
        "list" => cases::list(),
        name => cases::run(guest, name),
    },
    second: cases::basic::second_main,
    interrupt: cases::pvh::apic::handle,
});
