//! Walks that are remembered: they end with the entries, registers and places that they rest on.

use guest_walk::{Access, Fault, FaultCode, Memory, Mode, Places, Trail, walk};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use x86_defs::control::{Cr0, Cr4, Efer};

/// Where guest-physical address 0 is.
const BASE: u64 = 1 << 40;
const LIMIT: u64 = 1 << 30;
const ALL: u64 = 7;
const ACCESSED: u64 = 0x20;
const NO_EXECUTE: u64 = 1 << 63;
const FETCH: Access = Access { fetch: true, ..Access::READ };
/// Slots 0, 1, 1, 1.
const CODE: u64 = 1 << 30 | 1 << 21 | 1 << 12;

/// Aligned words by guest-physical address.
#[derive(Default)]
struct Ram {
    words: RefCell<BTreeMap<u64, u64>>,
    stamp: Cell<u32>,
    /// What is added to addresses: frames have moved.
    moved: Cell<u64>,
    walks: Cell<u32>,
}

impl Ram {
    fn put(&self, gpa: u64, value: u64) {
        self.words.borrow_mut().insert(gpa, value);
    }
    fn word(&self, gpa: u64) -> u64 {
        self.words.borrow().get(&(gpa & !7)).copied().unwrap_or(0)
    }
}

impl Memory for Ram {
    fn read(&self, gpa: u64, width: u8) -> Option<u64> {
        self.load(self.place(gpa)?, width)
    }
    fn compare_exchange(&self, gpa: u64, width: u8, old: u64, new: u64) {
        assert_eq!(width, 8);
        if self.word(gpa) == old {
            self.put(gpa, new);
        }
    }
}

impl Places for Ram {
    fn stamp(&self) -> u32 {
        self.stamp.get()
    }
    fn place(&self, gpa: u64) -> Option<u64> {
        self.walks.set(self.walks.get() + 1);
        (gpa < LIMIT).then(|| BASE + self.moved.get() + gpa)
    }
    fn load(&self, place: u64, width: u8) -> Option<u64> {
        let gpa = place - BASE - self.moved.get();
        let word = self.word(gpa);
        Some(if width == 8 { word } else { word >> (8 * (gpa % 8)) & 0xffff_ffff })
    }
}

fn long() -> Mode {
    Mode {
        cr0: Cr0::PE | Cr0::PG,
        cr4: Cr4::PAE,
        efer: Efer::LME | Efer::LMA | Efer::NXE,
        cr3: 0x1000,
        alignment_check: false,
        address_bits: 48,
        pse36: true,
        gib_pages: true,
    }
}

/// Tables that lead from [`CODE`] to `leaf`.
fn tables(leaf: u64) -> Ram {
    let ram = Ram::default();
    for (at, entry) in [(0x1000, 0x2000), (0x2008, 0x3000), (0x3008, 0x4000)] {
        ram.put(at, entry | ALL | ACCESSED);
    }
    ram.put(0x4008, leaf);
    ram
}

/// Whether looking for an address has walked, and what was found.
fn look(trail: &mut Trail, ram: &Ram, mode: &Mode, address: u64, access: Access) -> (bool, Result<u64, Fault>) {
    ram.walks.set(0);
    let found = trail.find(ram, mode, address, access);
    (ram.walks.get() != 0, found)
}

#[test]
fn a_page_is_walked_to_once() {
    let (ram, mut trail) = (tables(0x9000 | ALL | ACCESSED), Trail::default());
    assert_eq!(look(&mut trail, &ram, &long(), CODE | 0x123, FETCH), (true, Ok(BASE + 0x9123)));
    assert_eq!(look(&mut trail, &ram, &long(), CODE | 0xfff, FETCH), (false, Ok(BASE + 0x9fff)));
    // The next page is another, and takes the place.
    ram.put(0x4010, 0x6000 | ALL | ACCESSED);
    assert_eq!(look(&mut trail, &ram, &long(), CODE + 0x1000, FETCH), (true, Ok(BASE + 0x6000)));
    assert_eq!(look(&mut trail, &ram, &long(), CODE, FETCH), (true, Ok(BASE + 0x9000)));
}

#[test]
fn accessed_bits_are_set_and_then_kept_in_mind() {
    let (ram, mut trail) = (tables(0x9000 | ALL), Trail::default());
    assert_eq!(look(&mut trail, &ram, &long(), CODE, FETCH), (true, Ok(BASE + 0x9000)));
    assert_eq!(ram.word(0x4008), 0x9000 | ALL | ACCESSED);
    assert!(look(&mut trail, &ram, &long(), CODE, FETCH).0);
    assert!(!look(&mut trail, &ram, &long(), CODE, FETCH).0);
    // The guest takes the bit away: it is set once more.
    ram.put(0x4008, 0x9000 | ALL);
    assert!(look(&mut trail, &ram, &long(), CODE, FETCH).0);
    assert_eq!(ram.word(0x4008), 0x9000 | ALL | ACCESSED);
}

#[test]
fn any_entry_on_the_way_that_changes_is_seen() {
    for at in [0x1000, 0x2008, 0x3008, 0x4008] {
        let (ram, mut trail) = (tables(0x9000 | ALL | ACCESSED), Trail::default());
        assert!(trail.find(&ram, &long(), CODE, FETCH).is_ok());
        let old = ram.word(at);
        ram.put(at, 0);
        assert_eq!(look(&mut trail, &ram, &long(), CODE, FETCH), (true, Err(Fault::Page(FaultCode::FETCH))));
        // What failed is not remembered either.
        ram.put(at, old);
        assert_eq!(look(&mut trail, &ram, &long(), CODE, FETCH), (true, Ok(BASE + 0x9000)));
        ram.put(at, old | NO_EXECUTE);
        let refused = Err(Fault::Page(FaultCode::FETCH | FaultCode::PRESENT));
        assert_eq!(look(&mut trail, &ram, &long(), CODE, FETCH), (true, refused));
    }
}

#[test]
fn registers_rights_and_places_that_change_are_seen() {
    let (ram, mut trail) = (tables(0x9000 | 3 | ACCESSED), Trail::default());
    for at in [0x5000, 0x1000] {
        ram.put(at, ram.word(0x1000));
    }
    let find = |trail: &mut Trail, mode: &Mode, access| {
        assert!(trail.find(&ram, &long(), CODE, FETCH).is_ok());
        look(trail, &ram, mode, CODE, access)
    };
    assert_eq!(find(&mut trail, &Mode { cr3: 0x5000, ..long() }, FETCH), (true, Ok(BASE + 0x9000)));
    assert!(find(&mut trail, &Mode { cr4: Cr4::PAE | Cr4::SMEP, ..long() }, FETCH).0);
    assert!(find(&mut trail, &Mode { cr0: long().cr0 | Cr0::WP, ..long() }, FETCH).0);
    assert!(find(&mut trail, &Mode { efer: Efer::LME | Efer::LMA, ..long() }, FETCH).0);
    assert!(matches!(find(&mut trail, &long(), FETCH.from_user()), (true, Err(Fault::Page(_)))));
    // Paging is off: the address is the guest-physical one.
    assert_eq!(find(&mut trail, &Mode { cr0: Cr0::PE, ..long() }, FETCH).1, Err(Fault::NoMemory(CODE)));
    assert!(trail.find(&ram, &long(), CODE, FETCH).is_ok());
    ram.moved.set(0x10_0000);
    ram.stamp.set(1);
    assert_eq!(look(&mut trail, &ram, &long(), CODE, FETCH), (true, Ok(BASE + 0x10_9000)));
}

#[test]
fn without_paging_there_is_nothing_to_compare() {
    let (ram, mut trail) = (Ram::default(), Trail::default());
    let real = Mode { cr0: Cr0::empty(), cr4: Cr4::empty(), efer: Efer::empty(), cr3: 0, ..long() };
    assert_eq!(look(&mut trail, &ram, &real, 0xf_fff0, FETCH), (true, Ok(BASE + 0xf_fff0)));
    assert_eq!(look(&mut trail, &ram, &real, 0xf_f123, FETCH), (false, Ok(BASE + 0xf_f123)));
    assert_eq!(look(&mut trail, &ram, &real, LIMIT, FETCH), (true, Err(Fault::NoMemory(LIMIT))));
}

#[test]
fn it_agrees_with_the_walk_whatever_changes() {
    let (ram, mut trail) = (tables(0x9000 | ALL), Trail::default());
    let mut seed = 1u64;
    let mut random = move |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) % below
    };
    let mut remembered = 0;
    for _ in 0..20_000 {
        let bits = [0, ACCESSED, 2, 4, NO_EXECUTE, 0x80][random(6) as usize];
        match random(12) {
            0 => {
                let at = [0x1000, 0x2008, 0x3008, 0x4008][random(4) as usize];
                ram.put(at, ram.word(at) ^ bits);
            }
            1 => ram.put(0x4008, (random(16) << 12) | 1 | ACCESSED),
            // Else the way would soon be lost for good.
            2 => ram.words.borrow_mut().extend(tables(0x9000 | ALL).words.into_inner()),
            _ => {}
        }
        let mode = Mode { cr4: if random(16) == 0 { Cr4::PAE | Cr4::SMEP } else { Cr4::PAE }, ..long() };
        let access = if random(4) == 0 { FETCH.from_user() } else { FETCH };
        let address = CODE + random(0x1000);
        let (walked, found) = look(&mut trail, &ram, &mode, address, access);
        remembered += u32::from(!walked);
        let there = |gpa| if gpa < LIMIT { Ok(BASE + gpa) } else { Err(Fault::NoMemory(gpa)) };
        assert_eq!(found, walk(&ram, &mode, address, access).and_then(|found| there(found.gpa)));
    }
    assert!(remembered > 3000, "{remembered}");
}
