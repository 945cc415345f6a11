//! Every status and error that an operation can answer with, and what it does otherwise.

mod common;

use common::*;
use gnttab::{Access, FrameKind, GrantTable, Limits, MapTrack, Mapping, Status};
use platform::Frames;
use platform::fakes::FakeMachine;
use std::sync::atomic::Ordering;
use types::{DomId, Errno, Gfn, Mfn};

#[test]
fn mapping_needs_a_grant_that_fits() {
    for version in [1, 2] {
        let m = FakeMachine::new(32);
        let t = table(&m, GRANTER, version, 10);
        let map = |reference, peer, access| t.map(&m, reference, peer, access, resolve).map(|granted| granted.mfn);
        let last = if version == 1 { 511 } else { 255 };
        assert_eq!(map(last + 1, MAPPER, READ), Err(Status::BadReference));
        assert_eq!(map(last, MAPPER, READ), Err(Status::GeneralError), "an empty entry");
        let nothing = Access { host: false, device: false, readonly: true };
        grant(&m, &t, 1, PERMIT | READONLY, MAPPER, 20);
        assert_eq!(map(1, MAPPER, nothing), Err(Status::BadReference));
        assert_eq!(map(1, OTHER, READ), Err(Status::GeneralError));
        assert_eq!(map(1, MAPPER, WRITE), Err(Status::GeneralError));
        assert_eq!(marks(&m, &t, 1), 0);
        assert_eq!(map(1, MAPPER, READ), Ok(Mfn(20)));
        assert_eq!(map(1, MAPPER, WRITE), Err(Status::GeneralError), "also when it is mapped already");
        assert_eq!(marks(&m, &t, 1), READING);
        assert_eq!(map(1, OTHER, READ), Err(Status::GeneralError));
        grant(&m, &t, 2, ACCEPT, MAPPER, 20);
        assert_eq!(map(2, MAPPER, READ), Err(Status::GeneralError));
        grant(&m, &t, 3, PERMIT, MAPPER, 1000);
        assert_eq!(map(3, MAPPER, WRITE), Err(Status::BadPage));
        assert_eq!((marks(&m, &t, 3), t.pins(3)), (0, [0; 4]), "a failed attempt leaves nothing");
        grant(&m, &t, 4, PERMIT | SUB_PAGE, MAPPER, 20);
        assert_eq!(map(4, MAPPER, READ), Err(Status::GeneralError));
        grant(&m, &t, 5, TRANSITIVE, MAPPER, 20);
        assert_eq!(map(5, MAPPER, READ), Err(Status::GeneralError));
        assert_eq!(marks(&m, &t, 4) | marks(&m, &t, 5), 0);
    }
}

#[test]
fn marks_go_with_the_last_use_of_their_kind() {
    for version in [1, 2] {
        let m = FakeMachine::new(32);
        let t = table(&m, GRANTER, version, 10);
        grant(&m, &t, 9, PERMIT | 0x40, MAPPER, 20);
        assert_eq!(t.map(&m, 9, MAPPER, READ, resolve).unwrap().cache, 0x40);
        let _ = t.map(&m, 9, MAPPER, WRITE, |_, _| panic!("resolved twice")).unwrap();
        let _ = t.map(&m, 9, MAPPER, DEVICE, resolve).unwrap();
        assert_eq!((t.pins(9), marks(&m, &t, 9)), ([0, 1, 1, 1], READING | WRITING));
        assert!(!t.unmap(&m, 9, WRITE).unwrap().last);
        assert_eq!(marks(&m, &t, 9), READING | WRITING);
        let _ = t.unmap(&m, 9, DEVICE).unwrap();
        assert_eq!(marks(&m, &t, 9), READING);
        assert_eq!(t.unmap(&m, 9, WRITE), Err(Status::GeneralError), "it is not mapped so");
        let released = t.unmap(&m, 9, READ).unwrap();
        assert_eq!((released.mfn, released.last, marks(&m, &t, 9)), (Mfn(20), true, 0));
    }
}

#[test]
fn counts_do_not_overflow() {
    let m = FakeMachine::new(32);
    let t = table(&m, GRANTER, 1, 10);
    grant(&m, &t, 0, PERMIT, MAPPER, 20);
    for _ in 0..65535 {
        let _ = t.map(&m, 0, MAPPER, READ, resolve).unwrap();
    }
    assert_eq!(t.map(&m, 0, MAPPER, READ, resolve), Err(Status::GeneralError));
    assert_eq!(t.pins(0), [0, 0, 65535, 0]);
}

#[test]
fn tables_grow_to_their_limit() {
    let m = FakeMachine::new(64);
    let t = GrantTable::new(GRANTER, Limits { frames: 20, version: 2 });
    let pool = Pool::new(10, 30);
    let mut take = || pool.take();
    assert_eq!(t.map(&m, 0, MAPPER, READ, resolve), Err(Status::BadReference));
    m.table(Mfn(10)).unwrap()[5].store(7, Ordering::Relaxed);
    t.grow(&m, 1, &mut take).unwrap();
    assert_eq!(m.table(Mfn(10)).unwrap()[5].load(Ordering::Relaxed), 0, "a new frame is empty");
    assert_eq!(t.size(), (1, 20));
    assert_eq!(t.setup_table(&m, 21, &mut take), Err(Status::GeneralError));
    assert_eq!(t.grow(&m, 2, &mut || None), Err(Errno::NOMEM));
    assert_eq!(t.setup_table(&m, 2, &mut || None), Err(Status::GeneralError));
    assert_eq!(t.setup_table(&m, 2, &mut take), Ok(()));
    assert_eq!(t.frame(FrameKind::Shared, 1), Some(Mfn(11)));
    assert_eq!(t.obtain(&m, FrameKind::Shared, 3, &mut take), Ok(Mfn(13)));
    assert_eq!(t.obtain(&m, FrameKind::Shared, 0, &mut || None), Ok(Mfn(10)));
    assert_eq!(t.obtain(&m, FrameKind::Shared, 20, &mut take), Err(Errno::INVAL));
    assert_eq!(t.obtain(&m, FrameKind::Shared, u32::MAX, &mut take), Err(Errno::INVAL));
    assert_eq!(t.obtain(&m, FrameKind::Status, 0, &mut take), Err(Errno::INVAL), "version 1 has none");
    assert_eq!(t.check_status_frames(1), Err(Status::GeneralError));
    t.set_version(&m, 2, &mut take, &mut |_| Ok(())).unwrap();
    assert_eq!(t.check_status_frames(1), Ok(()));
    assert_eq!(t.check_status_frames(2), Err(Status::GeneralError));
    assert_eq!(t.obtain(&m, FrameKind::Status, 0, &mut take), Ok(Mfn(14)));
    assert!(t.obtain(&m, FrameKind::Status, 1, &mut take).is_ok());
    assert_eq!(t.size().0, 9, "the ninth frame has its status words in the second status frame");
    assert_eq!(t.obtain(&m, FrameKind::Status, u32::MAX / 8, &mut take), Err(Errno::INVAL));

    grant(&m, &t, 0, PERMIT, MAPPER, 20);
    let _ = t.map(&m, 0, MAPPER, READ, resolve).unwrap();
    let mut released = 0;
    assert_eq!(t.destroy(&mut |_| released += 1), Err(Errno::BUSY));
    let mut users = Vec::new();
    t.for_each_active(|reference, mfn, user| users.push((reference, mfn, user)));
    assert_eq!(users, [(0, Mfn(20), MAPPER)]);
    let _ = t.unmap(&m, 0, READ).unwrap();
    assert_eq!(t.destroy(&mut |_| released += 1), Ok(()));
    assert_eq!((released, t.size().0), (11, 0));
    assert_eq!(t.map(&m, 0, MAPPER, READ, resolve), Err(Status::BadReference));
}

#[test]
fn the_first_entries_survive_a_change_of_version() {
    let m = FakeMachine::new(32);
    let t = table(&m, GRANTER, 1, 10);
    let pool = Pool::new(14, 2);
    let mut retracted = Vec::new();
    let mut set = |version, refuse: bool| {
        t.set_version(&m, version, &mut || pool.take(), &mut |frames| {
            retracted.extend(frames.to_vec());
            if refuse { Err(Errno::BUSY) } else { Ok(()) }
        })
    };
    assert_eq!(set(0, false), Err(Errno::INVAL));
    assert_eq!(set(3, false), Err(Errno::INVAL));
    grant(&m, &t, 1, PERMIT, MAPPER, 21);
    grant(&m, &t, 8, PERMIT, MAPPER, 22);
    let _ = t.map(&m, 1, MAPPER, WRITE, resolve).unwrap();
    let _ = t.map(&m, 8, MAPPER, READ, resolve).unwrap();
    assert_eq!(set(2, false), Err(Errno::BUSY));
    let _ = t.unmap(&m, 8, READ).unwrap();
    assert_eq!(set(2, false), Ok(()));
    assert_eq!((t.version(), t.pins(1), marks(&m, &t, 1)), (2, [0, 0, 0, 1], READING | WRITING));
    assert_eq!(t.map(&m, 8, MAPPER, READ, resolve), Err(Status::GeneralError), "entry 8 is empty now");
    assert_eq!(t.map(&m, 1, MAPPER, READ, resolve).unwrap().mfn, Mfn(21));
    grant_part(&m, &t, 2, (TRANSITIVE, MAPPER, 3), u64::from(OTHER.0));
    assert_eq!(set(1, true), Err(Errno::BUSY));
    assert_eq!(t.version(), 2);
    assert_eq!(set(1, false), Ok(()));
    assert_eq!(marks(&m, &t, 1), READING | WRITING);
    assert_eq!(shared(&m, &t)[1].load(Ordering::SeqCst), 21 << 32 | 2 << 16 | 0x19);
    assert_eq!(shared(&m, &t)[2].load(Ordering::SeqCst), 0);
    assert_eq!(set(1, false), Ok(()));
    assert_eq!(retracted, [Mfn(14), Mfn(14)]);

    let old = GrantTable::new(GRANTER, Limits { frames: 4, version: 1 });
    assert_eq!(old.set_version(&m, 2, &mut || None, &mut |_| Ok(())), Err(Errno::NOSYS));
    let poor = GrantTable::new(GRANTER, Limits { frames: 4, version: 2 });
    poor.grow(&m, 1, &mut || Some(Mfn(20))).unwrap();
    assert_eq!(poor.set_version(&m, 2, &mut || None, &mut |_| Ok(())), Err(Errno::NOMEM));
    assert_eq!(poor.version(), 1);
}

#[test]
fn entries_can_be_exchanged_unless_in_use() {
    for version in [1, 2] {
        let m = FakeMachine::new(32);
        let t = table(&m, GRANTER, version, 10);
        grant(&m, &t, 3, PERMIT, MAPPER, 20);
        grant(&m, &t, 4, PERMIT, OTHER, 21);
        assert_eq!(t.swap(&m, 3, 512), Err(Status::BadReference));
        assert_eq!(t.swap(&m, 3, 3), Ok(()));
        assert_eq!(t.swap(&m, 4, 3), Ok(()));
        assert_eq!(t.map(&m, 4, MAPPER, READ, resolve).unwrap().mfn, Mfn(20));
        assert_eq!(t.swap(&m, 4, 3), Err(Status::Again));
        assert_eq!(t.swap(&m, 3, 4), Err(Status::Again));
        assert_eq!(t.map(&m, 3, OTHER, READ, resolve).unwrap().mfn, Mfn(21));
    }
}

#[test]
fn transfers_are_committed_then_completed() {
    for version in [1, 2] {
        let m = FakeMachine::new(32);
        let t = table(&m, GRANTER, version, 10);
        let word = |index: usize| shared(&m, &t)[index].load(Ordering::SeqCst);
        grant(&m, &t, 2, ACCEPT, MAPPER, 33);
        assert_eq!(t.prepare_transfer(&m, 999, MAPPER), Err(Status::GeneralError));
        assert_eq!(t.prepare_transfer(&m, 3, MAPPER), Err(Status::GeneralError));
        assert_eq!(t.prepare_transfer(&m, 2, OTHER), Err(Status::GeneralError));
        assert_eq!(t.prepare_transfer(&m, 2, MAPPER), Ok(()));
        assert_eq!(t.prepare_transfer(&m, 2, MAPPER), Err(Status::GeneralError), "it is taken");
        assert_eq!(t.complete_transfer(&m, 2, Mfn(77)), Some(Gfn(33)), "what the guest calls it");
        assert_eq!(t.complete_transfer(&m, 999, Mfn(77)), None);
        let head = if version == 1 { word(2) & 0xffff } else { word(4) };
        assert_eq!(head as u16, ACCEPT | 4 | 8);
        assert_eq!(if version == 1 { word(2) >> 32 } else { word(5) }, 77);
    }
}

#[test]
fn copies_use_whole_and_part_grants() {
    let m = FakeMachine::new(32);
    let t = table(&m, GRANTER, 2, 10);
    let nobody = World::default();
    let copy = |reference, peer, readonly| t.acquire_for_copy(&m, reference, peer, readonly, &resolve_of, &nobody);
    grant(&m, &t, 1, PERMIT, MAPPER, 20);
    assert_eq!(copy(4000, MAPPER, true), Err(Status::BadReference));
    assert_eq!(copy(1, OTHER, true), Err(Status::GeneralError));
    let whole = copy(1, MAPPER, false).unwrap();
    assert_eq!((whole.mfn, whole.owner, whole.start, whole.length), (Mfn(20), GRANTER, 0, 4096));
    assert!(whole.allows(0, 4096) && whole.allows(4096, 0) && !whole.allows(1, 4096));
    assert_eq!((t.pins(1), marks(&m, &t, 1)), ([0, 0, 0, 1], READING | WRITING));
    t.release_copy(&m, whole, &nobody);
    assert_eq!((t.pins(1), marks(&m, &t, 1)), ([0; 4], 0));

    grant_part(&m, &t, 2, (PERMIT | SUB_PAGE | READONLY, MAPPER, 21), 100 | 50 << 16);
    assert_eq!(copy(2, MAPPER, false), Err(Status::GeneralError));
    let part = copy(2, MAPPER, true).unwrap();
    assert!(part.allows(100, 50) && part.allows(120, 30) && !part.allows(99, 2) && !part.allows(149, 2));
    assert_eq!(t.map(&m, 2, MAPPER, READ, resolve), Err(Status::GeneralError), "a part cannot be mapped");
    t.release_copy(&m, part, &nobody);
    grant_part(&m, &t, 3, (PERMIT | SUB_PAGE, MAPPER, 21), 4000 | 0xffff << 16);
    let beyond = copy(3, MAPPER, true).unwrap();
    assert!(beyond.allows(4000, 96) && !beyond.allows(4000, 97));
    t.release_copy(&m, beyond, &nobody);
}

#[test]
fn copies_pass_through_transitive_grants() {
    let m = FakeMachine::new(32);
    let (t, third) = (table(&m, GRANTER, 2, 10), table(&m, OTHER, 1, 14));
    let world = World { tables: vec![&t, &third], ..World::default() };
    let copy = |reference, readonly| t.acquire_for_copy(&m, reference, MAPPER, readonly, &resolve_of, &world);
    grant(&m, &third, 5, PERMIT | READONLY, GRANTER, 22);
    grant_part(&m, &t, 1, (TRANSITIVE, MAPPER, 5), u64::from(OTHER.0));
    assert_eq!(copy(1, false), Err(Status::GeneralError));
    assert_eq!(marks(&m, &t, 1) | marks(&m, &third, 5), 0);
    let one = copy(1, true).unwrap();
    let two = copy(1, true).unwrap();
    assert_eq!((one.mfn, one.owner), (Mfn(22), OTHER));
    assert_eq!((t.pins(1), third.pins(5)), ([0, 0, 2, 0], [0, 0, 2, 0]));
    assert_eq!((marks(&m, &t, 1), marks(&m, &third, 5)), (READING, READING));
    assert_eq!(t.map(&m, 1, MAPPER, READ, resolve), Err(Status::GeneralError));
    t.release_copy(&m, one, &world);
    t.release_copy(&m, two, &world);
    assert_eq!((t.pins(1), third.pins(5)), ([0; 4], [0; 4]));
    assert_eq!(marks(&m, &t, 1) | marks(&m, &third, 5), 0);

    grant_part(&m, &t, 2, (TRANSITIVE, MAPPER, 1), u64::from(GRANTER.0));
    assert_eq!(copy(2, true), Err(Status::GeneralError), "its own grant");
    grant_part(&m, &t, 3, (TRANSITIVE, MAPPER, 1), 77);
    assert_eq!(copy(3, true), Err(Status::GeneralError), "no such domain");

    // A chain of two, and an entry that changes while the third domain is visited.
    let chain = table(&m, DomId(4), 2, 17);
    grant_part(&m, &chain, 1, (TRANSITIVE, MAPPER, 1), u64::from(GRANTER.0));
    grant_part(&m, &t, 1, (TRANSITIVE, DomId(4), 5), u64::from(OTHER.0));
    let chained = World { tables: vec![&t, &third, &chain], ..World::default() };
    assert_eq!(chain.acquire_for_copy(&m, 1, MAPPER, true, &resolve_of, &chained), Err(Status::GeneralError));
    grant_part(&m, &t, 1, (TRANSITIVE, MAPPER, 5), u64::from(OTHER.0));
    let change = || grant_part(&m, &t, 1, (TRANSITIVE, MAPPER, 6), u64::from(OTHER.0));
    let changing = World { tables: vec![&third], before: Some(&change) };
    assert_eq!(t.acquire_for_copy(&m, 1, MAPPER, true, &resolve_of, &changing), Err(Status::Again));
    assert_eq!((t.pins(1), third.pins(5), marks(&m, &t, 1), marks(&m, &third, 5)), ([0; 4], [0; 4], 0, 0));
}

#[test]
fn handles_are_claimed_once() {
    let track = MapTrack::new(1);
    let both = Access { host: true, device: true, readonly: true };
    let mapping = Mapping { granter: GRANTER, reference: 9, mfn: Mfn(20), access: both, by_entry: true };
    let handle = track.reserve().unwrap();
    assert_eq!(track.get(handle), Err(Status::BadHandle), "not mapped yet");
    assert_eq!(track.claim(handle, true, true), Err(Status::BadHandle));
    track.commit(handle, mapping);
    assert_eq!(track.get(handle), Ok(mapping));
    assert_eq!(track.get(12345), Err(Status::BadHandle));

    let nothing = track.claim(handle, false, false).unwrap();
    track.finish(&nothing);
    let host = track.claim(handle, true, false).unwrap();
    let again = track.claim(handle, true, false).unwrap();
    assert!(host.mapping.access.host && !again.mapping.access.host, "only one caller gets it");
    track.restore(&host);
    assert_eq!(track.get(handle), Ok(mapping));
    let host = track.claim(handle, true, false).unwrap();
    let device = track.claim(handle, false, true).unwrap();
    assert_eq!(track.claim(handle, true, true), Err(Status::BadHandle));
    track.finish(&host);
    let other = track.reserve().unwrap();
    assert_ne!(other, handle, "half of it is still there");
    track.finish(&device);
    track.finish(&device);
    assert_eq!(track.reserve(), Ok(handle));
    track.cancel(handle);
    track.cancel(handle);
    assert_eq!((0..256).map(|_| track.reserve()).filter(Result::is_ok).count(), 255, "one is still out");
    assert_eq!(track.reserve(), Err(Status::NoSpace));
    assert_eq!(track.mappings().count(), 0);
    track.commit(other, mapping);
    assert_eq!(track.mappings().collect::<Vec<_>>(), [(other, mapping)]);
    assert_eq!(MapTrack::new(0).reserve(), Err(Status::NoSpace));
}
