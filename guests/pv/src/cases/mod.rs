//! The cases, by group.

mod bad;
pub mod basic;
mod crash;
mod events;
mod extents;
mod grants;
mod mmu;
mod pages;
mod pair;
mod privileged;
mod processor;
mod scrub;
mod sharing;
mod sizes;
mod tables;
mod wild;

use crate::memory::Guest;
use crate::report::Outcome;
use crate::{call, say, trap};
use xen_abi::sched::SHUTDOWN_CRASH;

/// One case: its name, and what it does.
pub type Case = (&'static str, fn(&Guest) -> Outcome);

/// How a group is run.
type Group = (&'static str, fn(&Guest));

const GROUPS: &[Group] = &[
    ("self", basic::run),
    ("wild", wild::run),
    ("sizes", sizes::run),
    ("bad-memory", |guest| bad::run(guest, "memory")),
    ("bad-mmu", |guest| bad::run(guest, "mmu")),
    ("bad-grants", |guest| bad::run(guest, "grants")),
    ("bad-events", |guest| bad::run(guest, "events")),
    ("bad-processor", |guest| bad::run(guest, "processor")),
    ("bad-devices", |guest| bad::run(guest, "devices")),
    ("mmu", mmu::run),
    ("tables", tables::run),
    ("pages", pages::run),
    ("privileged", privileged::run),
    ("processor", processor::run),
    ("events", events::run),
    ("grants", grants::run),
    ("sharing", sharing::run),
    ("extents", extents::run),
    ("fill", scrub::fill),
    ("find", scrub::find),
];

/// Two groups that run at the same time in two domains, whose numbers follow each other.
const PAIR: &[Group] = &[("pair.give", pair::give), ("pair.take", pair::take)];

/// Prints what there is: `group NAME` and `crash NAME`.
pub fn list() {
    for (name, _) in GROUPS {
        say!("group {name}");
    }
    for (name, _) in crash::CASES {
        say!("crash {name}");
    }
}

/// Runs a group, or the case `crash.NAME`.
pub fn run(guest: &Guest, name: &str) {
    basic::prepare(guest);
    if let Some((_, group)) = GROUPS.iter().chain(PAIR).find(|(n, _)| *n == name) {
        group(guest);
        return;
    }
    let wanted = name.strip_prefix("crash.");
    let Some((name, case)) = crash::CASES.iter().find(|(n, _)| Some(*n) == wanted) else {
        say!("there is no {name}");
        call::shutdown(SHUTDOWN_CRASH);
    };
    say!("crash.{name}: begins");
    let outcome = case(guest);
    say!("crash.{name}: survived with {outcome}");
}

/// Runs a table of cases.
fn table(guest: &Guest, group: &str, cases: &[Case]) {
    for (name, case) in cases {
        let outcome = case(guest);
        say!("{group}.{name}: {outcome}");
        trap::forget();
    }
}
