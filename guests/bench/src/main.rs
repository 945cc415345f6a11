//! A bare 64-bit kernel, paravirtualised or translated (PVH or HVM), that counts by the time-stamp counter what its hypervisor's operations
//! cost. On a machine whose counter counts instructions (QEMU's icount) a figure repeats to the instruction.
//!
//! It prints `cost GROUP.NAME COUNT` on its console when all is measured. With `run=only.GROUP.NAME` on its command line it carries out
//! that one operation for long; with `run=answer` it answers another domain's events, with `run=wait` it does nothing. On the host it is
//! a program that does nothing.

#![cfg_attr(target_os = "none", no_std, no_main)]
#![cfg_attr(not(target_os = "none"), allow(dead_code))]

mod common;
mod hvm;
mod meter;
mod pair;
mod peer;
mod pv;
mod pvh;
mod stubs;

use guest_kernel::memory::Guest;
use guest_kernel::shared::{self, MS};
use guest_kernel::{Kernel, call, pvh as translated};
use meter::Meter;

/// How long dom0 gets to finish with what it does about this domain, in milliseconds.
const QUIET: u64 = 1500;

/// Lets dom0 do what it has to, so that nothing else is measured.
fn let_dom0_finish() {
    let end = shared::now() + QUIET * MS;
    while shared::now() < end {
        call::poll(&[], end);
    }
}

guest_kernel::kernel!(Kernel { run, second: pair::second, interrupt: |_| {} });

fn run(guest: &Guest, name: &str) {
    shared::prepare(guest);
    match name {
        "answer" => peer::answer(),
        "wait" => peer::wait(),
        _ => {}
    }
    pair::start_others(guest);
    let_dom0_finish();
    let mut meter = Meter::new(name.strip_prefix("only.").unwrap_or(""));
    common::run(guest, &mut meter);
    if translated::is_translated() {
        pvh::run(guest, &mut meter);
        if translated::has_board() {
            hvm::run(&mut meter);
        }
    } else {
        pv::run(guest, &mut meter);
    }
    pair::run(guest, &mut meter);
    peer::run(&mut meter);
    meter.report();
}
