//! What the counts should be, recomputed from all tables.

use crate::common::*;
use crate::{SLOTS, World};
use memory::{FrameType, FrameView, State};
use platform::Frames;
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use types::Mfn;
use x86_defs::pte::Pte;

/// References and uses as they should be, by looking at all tables.
pub struct Counts {
    references: [u32; FRAMES as usize],
    uses: [u32; FRAMES as usize],
    linear: [i64; FRAMES as usize],
    /// Frames that a domain's tables map writable.
    pub writable: [BTreeSet<u64>; 2],
}

impl Counts {
    pub fn of(world: &World) -> Counts {
        let mut counts = Counts {
            references: [0; FRAMES as usize],
            uses: [0; FRAMES as usize],
            linear: [0; FRAMES as usize],
            writable: Default::default(),
        };
        for held in &world.held {
            held.frames.iter().for_each(|mfn| counts.add(mfn.0, false));
            for mfn in held.roots.iter().chain(&held.writable).chain(&held.descriptors) {
                counts.add(mfn.0, true);
            }
        }
        for mfn in 0..FRAMES {
            let view = world.view(mfn);
            assert!(!view.locked, "frame {mfn:#x} is left locked");
            counts.references[mfn as usize] += u32::from(view.allocated);
            counts.uses[mfn as usize] += u32::from(view.shared && view.state == State::InUse);
            for own in [view.pinned, view.partial, view.demoting] {
                if own {
                    counts.add(mfn, true);
                }
            }
            let entries = if view.validated { 512 } else { view.cursor };
            if view.ty.level() != 0 && view.uses > 0 {
                counts.add_table(world, mfn, &view, entries);
            }
        }
        counts
    }

    fn add(&mut self, mfn: u64, with_use: bool) {
        self.references[mfn as usize] += 1;
        self.uses[mfn as usize] += u32::from(with_use);
    }

    fn add_table(&mut self, world: &World, table: u64, view: &FrameView, entries: usize) {
        let level = view.ty.level();
        let words = world.memory.host().table(Mfn(table)).unwrap();
        let thorough = world.checks % 16 == 0;
        let all = if thorough { 0..entries } else { 0..0 };
        let some = SLOTS.iter().copied().filter(|slot| !thorough && *slot < entries);
        for slot in all.chain(some) {
            let word = &words[slot];
            let entry = Pte(word.load(Ordering::Relaxed));
            if level == 4 && (256..272).contains(&slot) {
                let ours = view.validated.then_some(entry.0);
                assert!(ours.is_none_or(|ours| ours == 0x100_0003 + ((slot as u64 - 256) << 12)), "slot {slot}");
                continue;
            }
            if !entry.is_present() {
                continue;
            }
            let mfn = entry.frame();
            assert!(entry.0 & US != 0, "entry {entry:?} is not the guest's");
            assert!(entry.0 & GLOBAL == 0, "entry {entry:?} is global");
            let writable = entry.0 & RW != 0;
            if world.memory.frames().is_io(Mfn(mfn)) {
                assert_eq!(level, 1, "device frame {mfn:#x} as a table");
                assert!(mfn != IO_READ_ONLY || !writable);
                continue;
            }
            let target = world.view(mfn);
            if level == 1 {
                assert!(
                    !writable || target.ty == FrameType::Writable,
                    "{mfn:#x} is writable in {table:#x}: {target:?}"
                );
                if writable && view.validated {
                    self.writable[usize::from(view.owner.0)].insert(mfn);
                }
                self.add(mfn, writable);
            } else if mfn != table {
                self.add(mfn, true);
                assert_eq!(target.owner, view.owner);
                if target.ty == view.ty {
                    assert!(!writable, "writable linear mapping");
                    self.linear[table as usize] += 1;
                    self.linear[mfn as usize] -= 1;
                } else {
                    assert_eq!(target.ty.level(), level - 1, "{mfn:#x} in {table:#x}: {target:?}");
                }
            } else {
                assert!(!writable, "writable mapping of itself");
            }
        }
    }

    pub fn compare(&self, mfn: u64, view: &FrameView) {
        let index = mfn as usize;
        assert_eq!(view.references, self.references[index], "references of {mfn:#x}: {view:?}");
        assert_eq!(view.uses, self.uses[index], "uses of {mfn:#x}: {view:?}");
        assert_eq!(view.linear, self.linear[index], "linear mappings of {mfn:#x}: {view:?}");
        if view.uses > 0 {
            assert!(view.references > 0, "use without reference of {mfn:#x}: {view:?}");
            let states = [view.validated, view.partial, view.demoting].iter().filter(|state| **state).count();
            assert_eq!(states, 1, "{mfn:#x}: {view:?}");
        } else {
            assert!(!view.validated && !view.pinned && !view.partial && !view.demoting, "{mfn:#x}: {view:?}");
        }
    }
}
