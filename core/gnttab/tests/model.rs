//! Random mapping and unmapping against a count of what is mapped, and a guest that takes its grants back meanwhile.

mod common;

use common::*;
use gnttab::{Access, GrantTable, Granted, Handle, MapTrack, Mapping, Status};
use platform::fakes::FakeMachine;
use proptest::prelude::*;
use std::sync::atomic::{AtomicBool, Ordering};
use types::DomId;

const REFERENCES: u32 = 4;

#[derive(Clone, Debug)]
enum Step {
    Grant { reference: u32, readonly: bool, peer: usize },
    Revoke(u32),
    Map { mapper: usize, reference: u32, access: Access },
    Unmap { mapper: usize, pick: usize, host: bool, device: bool, fails: bool },
    Die(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let access = (1..4_u8, any::<bool>()).prop_map(|(parts, readonly)| Access {
        host: parts & 1 != 0,
        device: parts & 2 != 0,
        readonly,
    });
    let (reference, mapper) = (0..REFERENCES, 0..2_usize);
    prop_oneof![
        3 => (reference.clone(), any::<bool>(), mapper.clone())
            .prop_map(|(reference, readonly, peer)| Step::Grant { reference, readonly, peer }),
        2 => reference.clone().prop_map(Step::Revoke),
        6 => (mapper.clone(), reference, access)
            .prop_map(|(mapper, reference, access)| Step::Map { mapper, reference, access }),
        6 => (mapper.clone(), any::<usize>(), any::<bool>(), any::<bool>(), any::<bool>())
            .prop_map(|(mapper, pick, host, device, fails)| Step::Unmap { mapper, pick, host, device, fails }),
        1 => mapper.prop_map(Step::Die),
    ]
}

struct Machine {
    frames: FakeMachine,
    table: GrantTable,
    tracks: [MapTrack; 2],
}

const DOMAINS: [DomId; 2] = [MAPPER, OTHER];

impl Machine {
    /// The whole of GNTTABOP_map_grant_ref.
    fn map(&self, mapper: usize, reference: u32, access: Access) -> Result<Handle, Status> {
        let handle = self.tracks[mapper].reserve()?;
        match self.table.map(&self.frames, reference, DOMAINS[mapper], access, resolve) {
            Ok(Granted { mfn, .. }) => {
                let mapping = Mapping { granter: GRANTER, reference, mfn, access, by_entry: false };
                self.tracks[mapper].commit(handle, mapping);
                Ok(handle)
            }
            Err(status) => {
                self.tracks[mapper].cancel(handle);
                Err(status)
            }
        }
    }

    /// The whole of GNTTABOP_unmap_grant_ref; the page table entry may not fit.
    fn unmap(&self, mapper: usize, handle: Handle, (host, device): (bool, bool), fails: bool) -> Result<(), Status> {
        let claim = self.tracks[mapper].claim(handle, host, device)?;
        if fails {
            self.tracks[mapper].restore(&claim);
            return Err(Status::GeneralError);
        }
        self.table.unmap(&self.frames, claim.mapping.reference, claim.mapping.access)?;
        self.tracks[mapper].finish(&claim);
        Ok(())
    }

    /// Linux's gnttab_end_foreign_access_ref: whether the guest has its grant back.
    fn revoke(&self, reference: u32) -> bool {
        let words = shared(&self.frames, &self.table);
        if self.table.version() == 1 {
            let word = &words[reference as usize];
            let free = |word: u64| word as u16 & (READING | WRITING) == 0;
            word.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |old| free(old).then_some(old & !0xffff)).is_ok()
        } else {
            words[reference as usize * 2].fetch_and(!0xffff, Ordering::SeqCst);
            marks(&self.frames, &self.table, reference) == 0
        }
    }

    fn check(&self) -> Result<(), TestCaseError> {
        let mut expected = [[0; 4]; REFERENCES as usize];
        for (_, mapping) in self.tracks.iter().flat_map(MapTrack::mappings) {
            let pins = &mut expected[mapping.reference as usize];
            let write = usize::from(!mapping.access.readonly);
            pins[write] += u16::from(mapping.access.device);
            pins[2 + write] += u16::from(mapping.access.host);
        }
        for (reference, pins) in (0..).zip(expected) {
            prop_assert_eq!(self.table.pins(reference), pins);
            let reading = if pins != [0; 4] { READING } else { 0 };
            let writing = if pins[1] + pins[3] != 0 { WRITING } else { 0 };
            prop_assert_eq!(marks(&self.frames, &self.table, reference), reading | writing);
        }
        Ok(())
    }
}

proptest! {
    /// Pins equal the mappings that exist, and the guest's marks say exactly whether there are any.
    #[test]
    fn pins_equal_mappings(version in 1..3_u32, steps in prop::collection::vec(step(), 1..120)) {
        let frames = FakeMachine::new(32);
        let table = table(&frames, GRANTER, version, 10);
        let machine = Machine { frames, table, tracks: [MapTrack::new(1), MapTrack::new(1)] };
        for step in steps {
            match step {
                Step::Grant { reference, readonly, peer } => {
                    if machine.table.pins(reference) == [0; 4] {
                        let flags = PERMIT | if readonly { READONLY } else { 0 };
                        grant(&machine.frames, &machine.table, reference, flags, DOMAINS[peer], 20);
                    }
                }
                Step::Revoke(reference) => {
                    prop_assert_eq!(machine.revoke(reference), machine.table.pins(reference) == [0; 4]);
                }
                Step::Map { mapper, reference, access } => {
                    let _ = machine.map(mapper, reference, access);
                }
                Step::Unmap { mapper, pick, host, device, fails } => {
                    let handles: Vec<_> = machine.tracks[mapper].mappings().map(|(handle, _)| handle).collect();
                    if !handles.is_empty() {
                        let _ = machine.unmap(mapper, handles[pick % handles.len()], (host, device), fails);
                    }
                }
                Step::Die(mapper) => {
                    let mut from = 0;
                    while let Some((handle, _)) = machine.tracks[mapper].next(from) {
                        machine.unmap(mapper, handle, (true, true), false).unwrap();
                        from = handle + 1;
                    }
                    prop_assert_eq!(machine.tracks[mapper].mappings().count(), 0);
                }
            }
            machine.check()?;
        }
    }
}

fn wait(rounds: u32) {
    (0..rounds).for_each(|_| std::hint::spin_loop());
}

/// One thread grants and takes back as Linux does, others map and unmap. While a mapping exists the guest must not believe
/// that its frame is its own again.
fn race(version: u32) {
    let frames = FakeMachine::new(32);
    let table = table(&frames, GRANTER, version, 10);
    let machine = Machine { frames, table, tracks: [MapTrack::new(1), MapTrack::new(1)] };
    let (done, private) = (AtomicBool::new(false), AtomicBool::new(true));
    let mut mapped = 0;
    std::thread::scope(|scope| {
        let guest = scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                private.store(false, Ordering::SeqCst);
                grant(&machine.frames, &machine.table, 1, PERMIT, MAPPER, 20);
                wait(20);
                while !machine.revoke(1) {
                    std::hint::spin_loop();
                }
                private.store(true, Ordering::SeqCst);
                wait(300);
            }
        });
        let mappers: Vec<_> = (0..1)
            .map(|_| {
                scope.spawn(|| {
                    let mapped = std::cell::Cell::new(0);
                    // On a loaded machine the other thread may sleep through all of them: then more are needed.
                    for attempt in (0..20_000_000_u64).take_while(|&done| done < 100_000 || mapped.get() == 0) {
                        let access = if attempt % 3 == 0 { WRITE } else { READ };
                        if let Ok(handle) = machine.map(0, 1, access) {
                            wait(100);
                            assert!(!private.load(Ordering::SeqCst), "mapped after it was taken back");
                            mapped.set(mapped.get() + 1);
                            machine.unmap(0, handle, (true, true), false).unwrap();
                        }
                    }
                    mapped.get()
                })
            })
            .collect();
        let results: Vec<_> = mappers.into_iter().map(|thread| thread.join()).collect();
        done.store(true, Ordering::SeqCst);
        mapped = results.into_iter().map(Result::unwrap).sum();
        guest.join().unwrap();
    });
    assert!(mapped > 0, "nothing was ever mapped");
    assert_eq!((machine.table.pins(1), marks(&machine.frames, &machine.table, 1)), ([0; 4], 0));
}

#[test]
fn a_grant_is_not_taken_back_while_mapped_v1() {
    race(1);
}

#[test]
fn a_grant_is_not_taken_back_while_mapped_v2() {
    race(2);
}
