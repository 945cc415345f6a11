//! Guests, devices and toolstacks at random, one fuzzer for each crate of `vdev/`: nothing panics, nothing runs long, and after each
//! step what can be seen of the device is what its manual says.

mod board;
mod emulator;
mod hpet;
mod hyperv;
mod ioapic;
mod lapic;
mod lines;
#[path = "../../../../vdev/x86-emulate/tests/hvm/machine.rs"]
#[allow(dead_code, reason = "made for the emulation's own tests")]
mod machine;
mod pic;
mod pit;
mod pmtimer;
mod policy;
mod rtc;
mod tables;
#[path = "../../../../vdev/x86-emulate/tests/hvm/tables.rs"]
#[allow(dead_code, reason = "made for the emulation's own tests")]
mod task_machine;
mod tasks;

use fuzz::{Random, run};
use vtimer::{MissedTicks, Rules};

/// What becomes of missed ticks, as a toolstack may choose.
fn rules(r: &mut Random) -> Rules {
    let missed = MissedTicks::try_from(r.below(4)).expect("there are four");
    Rules { missed, align: r.one_in(4) }
}

/// Bytes of an access: what CPUs do, and now and then what they do not.
fn size(r: &mut Random, usual: &[u8]) -> u8 {
    if r.one_in(10) { r.next() as u8 } else { r.pick(usual) }
}

#[test]
fn vlapic() {
    run(lapic::case);
}

#[test]
fn vioapic() {
    run(ioapic::case);
}

#[test]
fn vpic() {
    run(pic::case);
}

#[test]
fn vpit() {
    run(pit::case);
}

#[test]
fn vrtc() {
    run(rtc::case);
}

#[test]
fn vhpet() {
    run(hpet::case);
}

#[test]
fn vpmtimer() {
    run(pmtimer::case);
}

#[test]
fn viridian() {
    run(hyperv::case);
}

#[test]
fn virq() {
    run(lines::case);
}

#[test]
fn chipset() {
    run(board::case);
}

#[test]
fn x86_emulate() {
    run(emulator::case);
}

#[test]
fn x86_emulate_tasks() {
    run(tasks::case);
}

#[test]
fn guest_walk() {
    run(tables::case);
}

#[test]
fn cpu_policy() {
    run(policy::case);
}
