//! Memory that is populated on demand.

mod common;
mod random;

use common::*;
use p2m::{Access, Type};
use platform::Frames;
use random::Random;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use types::{Errno, Gfn, Mfn, Progress};

/// A word that the guest writes, past those at which the hypervisor looks first.
const WORD: usize = 300;

fn read(map: &Map, gfn: u64) -> Result<u64, Errno> {
    let entry = map.populate(Gfn(gfn), &Never)?;
    assert_eq!(entry.ty, Type::RamRw);
    let table = map.host().table(entry.mfn).unwrap();
    assert!(table.iter().enumerate().all(|(index, word)| index == WORD || word.load(Ordering::Relaxed) == 0));
    Ok(table[WORD].load(Ordering::Relaxed))
}

fn write(map: &Map, gfn: u64, value: u64) -> Result<(), Errno> {
    let entry = map.populate(Gfn(gfn), &Never)?;
    map.host().table(entry.mfn).unwrap()[WORD].store(value, Ordering::Relaxed);
    Ok(())
}

#[test]
fn what_is_populated_has_the_rights_of_what_is_new() {
    let map = started(1, 4, 8);
    assert_eq!(map.default_access(), Access::Rwx);
    map.set_default_access(Access::Rx);
    write(&map, 7, 1).unwrap();
    assert_eq!((map.get(Gfn(7)).access, map.get(Gfn(8)).ty), (Access::Rx, Type::PopulateOnDemand));
}

fn started(marked_large: u64, target: u64, ram: u64) -> Map {
    let map = map(24, ram);
    for large in 0..marked_large {
        map.mark_on_demand(Gfn(large * 512), 9).unwrap();
    }
    assert_eq!(map.set_demand_target(target, &Never), Ok(Progress::Done(())));
    assert_eq!(map.demand_pages(), (marked_large * 512, target));
    map
}

#[test]
fn what_is_touched_comes_out_of_the_cache() {
    let map = started(2, 512 + 3, 1024);
    write(&map, 7, 1).unwrap();
    assert_eq!(map.get(Gfn(8)).order, 9, "a large page for a large mark");
    assert_eq!(map.demand_pages(), (512, 3));
    for gfn in 512..515 {
        write(&map, gfn, 2).unwrap();
        assert_eq!(map.get(Gfn(gfn)).order, 0);
    }
    assert_eq!(map.demand_pages(), (509, 0));
    assert_eq!(map.mark_on_demand(Gfn(0), 9), Err(Errno::BUSY));
    // All of the large page but one frame holds zeroes, so the sweep finds something; what was written stays.
    write(&map, 600, 3).unwrap();
    assert_eq!((read(&map, 7), read(&map, 512), read(&map, 600)), (Ok(1), Ok(2), Ok(3)));
}

#[test]
fn too_much_is_an_error() {
    let map = started(1, 3, 64);
    for gfn in 0..3 {
        write(&map, gfn, 9).unwrap();
    }
    assert_eq!(read(&map, 3), Err(Errno::NOMEM));
    assert_eq!(map.get(Gfn(3)).ty, Type::PopulateOnDemand);
    assert_eq!(map.demand_pages(), (509, 0));
}

#[test]
fn a_search_that_is_cut_off_comes_to_an_end() {
    let map = started(4, 1500, 1600);
    for gfn in 0..1500 {
        write(&map, gfn, 9).unwrap();
    }
    let touch = || map.populate(Gfn(2047), &Always).map(|_| ());
    assert_eq!((touch(), touch()), (Err(Errno::AGAIN), Err(Errno::NOMEM)));
    write(&map, 5, 0).unwrap();
    assert_eq!((touch(), touch()), (Err(Errno::AGAIN), Ok(())));
    assert_eq!(map.get(Gfn(2047)).ty, Type::RamRw);
    assert_eq!(map.get(Gfn(5)).ty, Type::PopulateOnDemand);
}

#[test]
fn a_gib_is_marked_at_once() {
    let map = map(24, 600);
    map.mark_on_demand(Gfn(1 << 18), 18).unwrap();
    assert_eq!(map.set_demand_target(513, &Always), Ok(Progress::Again(0)));
    while map.set_demand_target(513, &Always) != Ok(Progress::Done(())) {}
    write(&map, (1 << 18) + 5, 1).unwrap();
    assert_eq!(map.demand_pages(), ((1 << 18) - 512, 1));
    assert_eq!(map.get(Gfn(1 << 18)).order, 9);
}

#[test]
fn frames_that_come_back_serve_marks() {
    let map = started(1, 4, 64);
    for gfn in 0..4 {
        write(&map, gfn, 9).unwrap();
    }
    assert_eq!(map.decrease_on_demand(Gfn(1), 0), Ok(true));
    assert_eq!((map.demand_pages(), map.get(Gfn(1)).ty), ((508, 1), Type::MmioDm));
    assert_eq!(read(&map, 5), Ok(0), "what the guest gets was cleared");
    // Marks go, and once fewer are left than the cache has, so do its frames.
    assert_eq!(map.decrease_on_demand(Gfn(256), 8), Ok(true));
    assert_eq!(map.demand_pages(), (251, 0));
    // Where somebody else has a reference, the frame is given back and not used again.
    let held = map.get(Gfn(2)).mfn;
    map.host().books.borrow_mut().ram.insert(held.0, 1);
    assert_eq!(map.decrease_on_demand(Gfn(2), 0), Ok(true));
    assert_eq!(map.demand_pages(), (251, 0));
    assert!(!map.host().books.borrow().ram.contains_key(&held.0));
    assert!(!map.host().books.borrow().free.contains(&held.0));
}

#[test]
fn random_guests_keep_what_they_wrote() {
    let steps = std::env::var("XENOLITH_FUZZ_STEPS").ok().and_then(|text| text.parse().ok()).unwrap_or(900u64);
    const LARGE: u64 = 4;
    let mut found = [0u32; 3];
    for round in 0..steps / 150 {
        let mut random = Random(0xde3a_0001 + round * 77);
        let map = started(LARGE, 600 + random.below(600), 1600);
        let mut written: BTreeMap<u64, u64> = BTreeMap::new();
        let mut given_back = std::collections::BTreeSet::new();
        for _ in 0..150 {
            let gfn = if random.one_in(2) { random.below(LARGE * 512) } else { random.below(24) * 61 };
            match random.below(8) {
                0..=3 if !given_back.contains(&gfn) => {
                    let value = if random.one_in(2) { 0 } else { random.next() };
                    match write(&map, gfn, value) {
                        Ok(()) => drop(written.insert(gfn, value)),
                        Err(error) => assert_eq!(error, Errno::NOMEM),
                    }
                    found[0] += 1;
                }
                4 => {
                    let order = random.pick(&[0, 0, 0, 3, 9]);
                    let first = gfn & !((1 << order) - 1);
                    let all = map.decrease_on_demand(Gfn(first), order).unwrap();
                    for gfn in first..first + (1 << order) {
                        let entry = map.get(Gfn(gfn));
                        if entry.ty.has_frame() {
                            assert!(!all);
                            let _ = map.clear(Gfn(gfn), 0).unwrap();
                            let _ = map.flush(&Never);
                            map.host().free_ram_of(entry.mfn);
                            found[1] += 1;
                        }
                        written.remove(&gfn);
                        given_back.insert(gfn);
                    }
                }
                5 => {
                    let target = random.below(1600);
                    let _full = map.set_demand_target(target, &Never);
                }
                6 => {
                    // Somebody maps a frame for a while: it must not become a mark.
                    let entry = map.get(Gfn(gfn));
                    if entry.ty.is_ram() {
                        let mut books = map.host().books.borrow_mut();
                        let others = books.ram.get_mut(&entry.mfn.0).unwrap();
                        *others = 1 - *others;
                        found[2] += 1;
                    }
                }
                _ => {}
            }
            check(&map);
        }
        for (gfn, value) in written {
            match read(&map, gfn) {
                Ok(found) => assert_eq!(found, value, "at {gfn:#x}"),
                Err(error) => assert!(error == Errno::NOMEM && value == 0),
            }
        }
    }
    assert!(found.iter().all(|count| *count > 10), "{found:?}");
}

impl World {
    fn free_ram_of(&self, mfn: Mfn) {
        p2m::Demand::free_ram(self, mfn, 0);
    }
}

fn check(map: &Map) {
    assert_eq!(map.flush(&Never), Progress::Done(()));
    let walked = walk(map);
    let books = map.host().books.borrow();
    assert_eq!(books.mapped, walked.frames);
    let (pages, most) = walked.frames.summary();
    assert!(most <= 1, "a frame is at two places");
    let (marked, cached) = map.demand_pages();
    assert_eq!(marked, walked.on_demand);
    assert!(cached <= books.ram.len() as u64 - pages as u64);
    assert!(walked.frames.frames().all(|frame| books.ram.contains_key(&frame)));
}

#[test]
fn foreign_frames_are_no_ram() {
    let map = started(1, 2, 64);
    write(&map, 0, 1).unwrap();
    let mine = map.get(Gfn(0)).mfn;
    let _ = map.set(Gfn(1), mine, 0, Type::MapForeign, Access::Rwx).unwrap();
    assert_eq!(map.decrease_on_demand(Gfn(1), 0), Ok(false));
    assert_eq!(map.get(Gfn(1)).ty, Type::MapForeign);
}
