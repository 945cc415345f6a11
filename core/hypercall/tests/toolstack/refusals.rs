//! Each refused call leaves one line in the log, which names the call, the domain and what was wrong.

use crate::{LIST, World, configuration};
use log::{Log, Metadata, Record};
use std::cell::RefCell;
use std::sync::Once;
use xen_abi::GuestHandle;
use xen_abi::domctl::*;
use xen_abi::sysctl::{DebugKeys, XEN_SYSCTL_DEBUG_KEYS};

thread_local! {
    static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

struct Capture;

impl Log for Capture {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        LINES.with_borrow_mut(|lines| lines.push(record.args().to_string()));
    }

    fn flush(&self) {}
}

/// What this thread logs while it does this.
fn logged(action: impl FnOnce()) -> Vec<String> {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&Capture).expect("no other logger");
        log::set_max_level(log::LevelFilter::Warn);
    });
    LINES.take();
    action();
    LINES.take()
}

/// The one line that this call leaves.
fn line(call: impl FnOnce() -> i64) -> String {
    let lines = logged(|| assert!(call() < 0, "it is to be refused"));
    assert_eq!(lines.len(), 1, "{lines:?}");
    lines.into_iter().next().unwrap_or_default()
}

#[test]
fn the_line_says_what_was_wrong() {
    let world = World::new();
    let id = world.guest();
    let line = line(|| world.domctl(XEN_DOMCTL_MAX_VCPUS, id, &mut MaxVcpus { max: 9 }));
    assert!(line.starts_with("d0: refused: ") && line.contains("d1") && line.contains('9'), "{line}");
}

#[test]
fn calls_of_each_kind_leave_one() {
    let world = World::new();
    let gone = line(|| world.domctl(XEN_DOMCTL_PAUSEDOMAIN, 4711, &mut [0_u64; 16]));
    assert!(gone.contains("4711"), "{gone}");
    let mut twice = configuration();
    twice.max_vcpus = 0;
    let create = line(|| world.domctl(XEN_DOMCTL_CREATEDOMAIN, 0, &mut twice));
    assert!(create.contains("createdomain") && create.contains("max_vcpus"), "{create}");
    let mut keys = DebugKeys { keys: GuestHandle::new(LIST), nr_keys: 4000, _gap0: [0; 4] };
    let keys = line(|| world.sysctl(XEN_SYSCTL_DEBUG_KEYS, &mut keys));
    assert!(keys.contains("debug_keys") && keys.contains("4000"), "{keys}");
}

#[test]
fn asking_for_a_domain_that_has_gone_is_no_refusal() {
    let world = World::new();
    let lines = logged(|| assert!(world.domctl(XEN_DOMCTL_GETDOMAININFO, 4711, &mut [0_u64; 16]) < 0));
    assert_eq!(lines, [""; 0]);
}

#[test]
fn a_flood_is_cut_off_until_the_next_second() {
    let world = World::new();
    let refused = || world.domctl(XEN_DOMCTL_PAUSEDOMAIN, 4711, &mut [0_u64; 16]);
    let first = logged(|| (0..1000).for_each(|_| assert!(refused() < 0))).len();
    assert!((1..100).contains(&first), "{first} lines");
    world.machine().set_time(5_000_000_000);
    assert_eq!(logged(|| assert!(refused() < 0)).len(), 1);
}
