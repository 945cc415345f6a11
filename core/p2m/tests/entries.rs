//! Entries one by one.

mod common;

use common::*;
use p2m::{Access, Decoded, Entry, Flush, Format, Npt, Type};
use platform::Frames;
use std::sync::atomic::Ordering;
use types::{Errno, Gfn, Mfn, Progress};

const RAM: u64 = 2048;

/// A table with RAM of which everything is the domain's, and nothing mapped yet.
fn with_ram() -> Map {
    let map = map(16, RAM);
    let mut books = map.host().books.borrow_mut();
    books.free.clear();
    books.ram = (FIRST_RAM..FIRST_RAM + RAM).map(|frame| (frame, 0)).collect();
    drop(books);
    map
}

fn ram(mfn: u64, order: u8) -> Entry {
    Entry { mfn: Mfn(mfn), ty: Type::RamRw, access: Access::Rwx, order }
}

fn put(map: &Map, gfn: u64, mfn: u64, order: u8) -> p2m::Set {
    map.set(Gfn(gfn), Mfn(mfn), order, Type::RamRw, Access::Rwx).unwrap()
}

#[test]
fn a_large_page_is_split_and_made_whole() {
    let map = with_ram();
    assert_eq!(put(&map, 512, 1024, 9).flush, Flush::Unneeded);
    assert_eq!(map.get(Gfn(600)), ram(1024 + 88, 9));
    assert_eq!((map.max_mapped_gfn(), map.pool_pages()), (Gfn(1023), (16, 3)));
    let set = put(&map, 600, 2048, 0);
    assert_eq!(set, p2m::Set { before: Some(ram(1024 + 88, 0)), flush: Flush::Needed });
    assert_eq!((map.get(Gfn(599)), map.get(Gfn(600)), map.get(Gfn(601))), (ram(1111, 0), ram(2048, 0), ram(1113, 0)));
    assert_eq!(map.pool_pages().1, 4);
    assert_eq!(map.coalesce(Gfn(600), 9), Ok(false));
    assert_eq!(put(&map, 600, 1024 + 88, 0).before, Some(ram(2048, 0)));
    assert_eq!(map.coalesce(Gfn(600), 9), Ok(true));
    assert_eq!(map.get(Gfn(600)), ram(1024 + 88, 9));
    assert_eq!(map.pool_pages().1, 4, "a CPU may still walk the table");
    let before = map.host().books.borrow().flushes;
    assert_eq!(map.flush(&Never), Progress::Done(()));
    assert_eq!((map.pool_pages().1, map.host().books.borrow().flushes), (3, before + 1));
    assert_eq!(map.flush(&Never), Progress::Done(()));
    assert_eq!(map.host().books.borrow().flushes, before + 1, "nothing was stale");
    assert_eq!(map.host().books.borrow().mapped.summary(), (512, 1));
}

#[test]
fn a_reference_outlives_the_flush_only() {
    let map = with_ram();
    let _ = put(&map, 5, 700, 0);
    let removed = map.clear(Gfn(5), 0).unwrap();
    assert_eq!(removed, p2m::Set { before: Some(ram(700, 0)), flush: Flush::Needed });
    assert_eq!(map.get(Gfn(5)), Entry::hole(0));
    assert_eq!(map.host().books.borrow().mapped.of(700), 1);
    assert_eq!(map.flush(&Never), Progress::Done(()));
    assert_eq!(map.host().books.borrow().mapped.summary(), (0, 0));
    let again = map.clear(Gfn(5), 0).unwrap();
    assert_eq!(again, p2m::Set { before: Some(Entry::hole(0)), flush: Flush::Unneeded });
}

#[test]
fn a_full_list_flushes_by_itself() {
    let map = with_ram();
    for gfn in 0..200 {
        let _ = put(&map, gfn, FIRST_RAM + gfn, 0);
        let _ = map.clear(Gfn(gfn), 0).unwrap();
        assert!(map.host().books.borrow().mapped.summary().0 <= 64);
    }
    assert!(map.host().books.borrow().flushes >= 2);
}

#[test]
fn what_is_no_page_is_refused() {
    let map = with_ram();
    let set = |gfn, mfn, order| map.set(Gfn(gfn), Mfn(mfn), order, Type::RamRw, Access::Rwx);
    for (gfn, mfn, order) in
        [(0, 1024, 1), (1, 1024, 9), (0, 1025, 9), (1 << 36, 1024, 0), (!0, 1024, 0), (0, 1024, 27), (0, 1 << 40, 0)]
    {
        assert_eq!(set(gfn, mfn, order), Err(Errno::INVAL), "{gfn:#x} {mfn:#x} {order}");
    }
    assert_eq!(set(0, 5, 0), Err(Errno::INVAL), "not the domain's");
    assert_eq!(map.get(Gfn(1 << 36)), Entry::hole(0));
    assert_eq!(map.get(Gfn(!0)), Entry::hole(0));
    assert_eq!(map.pool_pages().1, 1);
    assert_eq!(map.host().books.borrow().mapped.summary(), (0, 0));
}

#[test]
fn an_empty_pool_changes_nothing() {
    let map = with_ram();
    let _ = put(&map, 512, 1024, 9);
    assert_eq!(map.resize_pool(0, &Never), Ok(Progress::Done(())));
    assert_eq!(map.pool_pages(), (3, 3));
    assert_eq!(map.set(Gfn(600), Mfn(2048), 0, Type::RamRw, Access::Rwx), Err(Errno::NOMEM));
    assert_eq!(map.set(Gfn(1 << 18), Mfn(2048), 0, Type::RamRw, Access::Rwx), Err(Errno::NOMEM));
    assert_eq!(map.get(Gfn(600)), ram(1024 + 88, 9));
    assert_eq!(map.host().books.borrow().mapped.summary(), (512, 1));
    assert_eq!(map.resize_pool(40, &Never), Err(Errno::NOMEM), "the machine has 16");
    assert_eq!(map.pool_pages(), (16, 3));
}

#[test]
fn types_change_in_place() {
    let map = with_ram();
    let _ = put(&map, 512, 1024, 9);
    let _ = put(&map, 1024, 2048, 0);
    let range = |end, from, to| map.change_type_range(Gfn(0), Gfn(end), from, to, &Never);
    assert_eq!(range(u64::MAX, Type::RamRw, Type::RamLogdirty), Ok(Progress::Done(())));
    assert_eq!((map.get(Gfn(600)).ty, map.get(Gfn(600)).order), (Type::RamLogdirty, 9));
    assert_eq!(map.get(Gfn(1024)).ty, Type::RamLogdirty);
    assert_eq!(map.change_type(Gfn(600), Type::RamRw, Type::RamRo), Err(Errno::BUSY));
    assert_eq!(map.change_type(Gfn(600), Type::RamLogdirty, Type::RamRw), Ok(Flush::Unneeded), "more rights");
    assert_eq!(map.change_type(Gfn(600), Type::RamRw, Type::RamLogdirty), Ok(Flush::Needed));
    assert_eq!(map.get(Gfn(600)).order, 0);
    assert_eq!(range(700, Type::RamLogdirty, Type::IoreqServer), Ok(Progress::Done(())));
    assert_eq!(map.claimed_entries(), 700 - 512);
    assert_eq!((map.get(Gfn(699)).ty, map.get(Gfn(700)).ty), (Type::IoreqServer, Type::RamLogdirty));
    assert_eq!(range(u64::MAX, Type::RamRw, Type::MmioDm), Err(Errno::INVAL));
    assert_eq!(map.change_type(Gfn(9), Type::RamRw, Type::MapForeign), Err(Errno::INVAL));
    let mut cursor = Gfn(0);
    let mut rounds = 0;
    while let Progress::Again(next) = map.set_access_range(cursor, Gfn(1 << 20), Access::R, &Always).unwrap() {
        assert!(next > cursor);
        (cursor, rounds) = (next, rounds + 1);
    }
    assert!(rounds > 500);
    assert_eq!(map.get(Gfn(1024)).access, Access::R);
    assert_eq!(map.host().books.borrow().mapped.summary(), (513, 1));
    let _ = map.clear(Gfn(512), 9).unwrap();
    assert_eq!(map.claimed_entries(), 0);
}

#[test]
fn rights_to_one_frame_change_if_they_are_as_expected() {
    let map = with_ram();
    let _ = put(&map, 512, 1024, 9);
    assert_eq!(map.change_access(Gfn(600), Access::Rx, Access::Rw), Ok(Flush::Unneeded));
    assert_eq!(map.get(Gfn(600)).order, 9, "nothing was done");
    assert_eq!(map.change_access(Gfn(600), Access::Rwx, Access::Rx), Ok(Flush::Needed));
    assert_eq!((map.get(Gfn(600)).access, map.get(Gfn(601)).access), (Access::Rx, Access::Rwx));
    assert_eq!(map.change_access(Gfn(600), Access::Rx, Access::Rwx), Ok(Flush::Unneeded), "more rights");
    assert_eq!(map.change_access(Gfn(5), Access::Rwx, Access::R), Ok(Flush::Unneeded), "nothing is there");
}

#[test]
fn rights_refuse_what_the_hardware_would() {
    let kinds =
        |access: Access| [access.refuses(false, false), access.refuses(true, false), access.refuses(false, true)];
    assert_eq!([kinds(Access::N), kinds(Access::N2Rwx)], [[true; 3]; 2]);
    assert_eq!([kinds(Access::R), kinds(Access::W)], [[false, true, true], [false, false, true]]);
    assert_eq!([kinds(Access::X), kinds(Access::Rx2Rw)], [[false, true, false]; 2]);
    assert_eq!([kinds(Access::Rw), kinds(Access::Rwx)], [[false, false, true], [false; 3]]);
}

#[test]
fn pinning_asks_again() {
    let map = with_ram();
    let _ = put(&map, 5, 700, 0);
    let mut calls = 0;
    let found = map.pin(Gfn(5), |entry| {
        calls += 1;
        if calls == 1 {
            let _ = put(&map, 5, 701, 0);
        }
        Ok(entry.mfn)
    });
    assert_eq!((found, calls), (Ok((ram(701, 0), Mfn(701))), 2));
    assert_eq!(map.pin(Gfn(6), |_| Err::<(), _>(Errno::INVAL)), Err(Errno::INVAL));
}

#[test]
fn teardown_in_pieces_leaves_nothing() {
    let map = with_ram();
    let _ = put(&map, 512, 1024, 9);
    let _ = put(&map, 600, 700, 0);
    let _ = put(&map, 1 << 18, 701, 0);
    let _ = map.set(Gfn(2 << 18), Mfn(DEVICE), 18, Type::MmioDirect, Access::Rwx).unwrap();
    let mut rounds = 0;
    while map.teardown(&Always) != Progress::Done(()) {
        rounds += 1;
    }
    assert!(rounds > 2);
    assert_eq!(map.host().books.borrow().mapped.summary(), (0, 0));
    assert_eq!((map.root(), map.pool_pages()), (None, (16, 0)));
    assert_eq!(map.get(Gfn(600)).ty, Type::MmioDm);
    assert_eq!(map.set(Gfn(0), Mfn(700), 0, Type::RamRw, Access::Rwx), Err(Errno::INVAL));
    assert_eq!(map.open(), Err(Errno::INVAL));
    assert_eq!(map.resize_pool(0, &Never), Ok(Progress::Done(())));
    assert_eq!(map.host().books.borrow().spare.len(), 16);
}

#[test]
fn a_reader_with_a_table_that_is_something_else_comes_to_no_harm() {
    let map = with_ram();
    let _ = put(&map, 0, 700, 0);
    let root = map.root().unwrap();
    let words = map.host().table(root).unwrap();
    for garbage in [!0, Npt::table(Mfn(1 << 39)), Npt::table(root), 1, 1 << 9 | 0x1f << 52 | 0xf << 57] {
        words[0].store(garbage, Ordering::Relaxed);
        let entry = map.get(Gfn(0));
        assert!(entry.ty.is_hole() || matches!(Npt::decode(garbage, 4), Decoded::Leaf(_)), "{garbage:#x}");
    }
}
