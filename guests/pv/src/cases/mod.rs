//! The cases, by group.

mod bad;
pub mod basic;
mod crash;
mod events;
mod extents;
mod grants;
mod hvm;
mod mmu;
mod pages;
mod pair;
mod privileged;
mod processor;
pub mod pvh;
mod scrub;
mod sharing;
mod sizes;
mod tables;
mod wild;

use crate::memory::Guest;
use crate::pvh::{has_board, is_translated};
use crate::report::Outcome;
use crate::{call, say, trap};
use xen_abi::sched::SHUTDOWN_CRASH;

/// One case: its name, and what it does.
pub type Case = (&'static str, fn(&Guest) -> Outcome);

/// How a group is run.
type Group = (&'static str, fn(&Guest));

/// The groups of every guest.
const COMMON: &[Group] = &[
    ("self", basic::run),
    ("wild", wild::run),
    ("sizes", sizes::run),
    ("bad-memory", |guest| bad::run(guest, "memory")),
    ("bad-mmu", |guest| bad::run(guest, "mmu")),
    ("bad-grants", |guest| bad::run(guest, "grants")),
    ("bad-events", |guest| bad::run(guest, "events")),
    ("bad-processor", |guest| bad::run(guest, "processor")),
    ("bad-devices", |guest| bad::run(guest, "devices")),
];

/// More groups of a PV guest.
const GROUPS: &[Group] = &[
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

/// More groups of a translated guest: what does not depend on page tables and traps of the hypervisor's, and what only it has.
const TRANSLATED: &[Group] = &[
    ("events", events::run),
    ("physmap", pvh::physmap::run),
    ("grants", pvh::grants::run),
    ("processor", pvh::processor::run),
    ("exceptions", pvh::exceptions::run),
    ("nothing", pvh::exceptions::run_nothing),
    ("random", pvh::wild_code::run),
    ("registers", pvh::registers::run),
    ("apic", pvh::apic::run),
];

/// The groups beside those of every guest, and the cases that end the domain, by kind of guest.
fn all() -> (&'static [Group], &'static [Case]) {
    if is_translated() { (TRANSLATED, pvh::crash::CASES) } else { (GROUPS, crash::CASES) }
}

/// All groups of this guest. What becomes of bad arguments of hypercalls does not depend on a board.
fn groups() -> impl Iterator<Item = &'static Group> {
    let (common, board) = if has_board() { (&COMMON[..1], hvm::GROUPS) } else { (COMMON, [].as_slice()) };
    common.iter().chain(all().0).chain(board)
}

/// Prints what there is: `group NAME` and `crash NAME`.
pub fn list() {
    for (name, _) in groups() {
        say!("group {name}");
    }
    for (name, _) in all().1 {
        say!("crash {name}");
    }
}

/// Runs a group, or the case `crash.NAME`.
pub fn run(guest: &Guest, name: &str) {
    crate::shared::prepare(guest);
    let crashes = all().1;
    if let Some((_, group)) = groups().chain(PAIR).find(|(n, _)| *n == name) {
        group(guest);
        return;
    }
    let wanted = name.strip_prefix("crash.");
    let Some((name, case)) = crashes.iter().find(|(n, _)| Some(*n) == wanted) else {
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
