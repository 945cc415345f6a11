//! Readers without a lock under loom: every interleaving of one with a writer that gives a table's frame another use.

mod atomics {
    pub use loom::sync::atomic::{AtomicU64, Ordering, fence};
}
#[path = "generation.rs"]
mod generation;

use atomics::{AtomicU64, Ordering};
use generation::Generation;
use loom::sync::Arc;
use loom::thread;

/// A root with one word, and the one table that it can lead to.
struct Tree {
    generation: Generation,
    root: AtomicU64,
    table: AtomicU64,
}

const TABLE: u64 = 1;
const PAGE: u64 = 2;
const GARBAGE: u64 = 3;

impl Tree {
    fn new() -> Tree {
        Tree { generation: Generation::new(), root: AtomicU64::new(TABLE), table: AtomicU64::new(PAGE) }
    }

    /// As `P2m::get` does it; `None` where it would try again.
    fn get(&self) -> Option<u64> {
        let noted = self.generation.note();
        let found = match self.root.load(Ordering::Acquire) {
            TABLE => self.table.load(Ordering::Acquire),
            other => other,
        };
        self.generation.is_same(noted).then_some(found)
    }
}

#[test]
fn what_a_frame_is_used_for_next_is_never_taken_for_an_entry() {
    loom::model(|| {
        let tree = Arc::new(Tree::new());
        let writer = {
            let tree = tree.clone();
            thread::spawn(move || {
                tree.root.store(0, Ordering::Release);
                tree.generation.raise();
                tree.table.store(GARBAGE, Ordering::Relaxed);
            })
        };
        for _ in 0..2 {
            assert!(matches!(tree.get(), None | Some(0 | PAGE)));
        }
        writer.join().unwrap();
        assert_eq!(tree.get(), Some(0));
    });
}

#[test]
fn a_page_that_becomes_a_table_is_whole_at_once() {
    loom::model(|| {
        let tree = Arc::new(Tree::new());
        tree.root.store(PAGE, Ordering::Relaxed);
        tree.table.store(GARBAGE, Ordering::Relaxed);
        let writer = {
            let tree = tree.clone();
            thread::spawn(move || {
                tree.table.store(PAGE, Ordering::Relaxed);
                tree.root.store(TABLE, Ordering::Release);
            })
        };
        assert_eq!(tree.get(), Some(PAGE));
        writer.join().unwrap();
    });
}
