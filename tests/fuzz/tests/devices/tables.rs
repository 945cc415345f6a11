//! Page tables at random, against a slow walk that is written from the manual (SDM vol. 3, chapter 4; APM vol. 2, chapter 5).

use fuzz::Random;
use guest_walk::{Access, Fault, FaultCode, Memory, Mode, Places, Stopped, Trail, Translation, for_each_piece, walk};
use std::cell::RefCell;
use x86_defs::control::{Cr0, Cr4, Efer};

/// Pages of memory; there is none behind them.
const PAGES: u64 = 12;
const WALKS: u64 = 60;

const PRESENT: u64 = 1;
const WRITABLE: u64 = 2;
const USER: u64 = 4;
const ACCESSED: u64 = 0x20;
const DIRTY: u64 = 0x40;
const LARGE: u64 = 0x80;
const NO_EXECUTE: u64 = 1 << 63;

struct Ram(RefCell<Vec<u8>>);

impl Ram {
    fn put(&self, gpa: u64, width: u8, value: u64) {
        let width = usize::from(width);
        self.0.borrow_mut()[gpa as usize..][..width].copy_from_slice(&value.to_le_bytes()[..width]);
    }

    fn copy(&self) -> Ram {
        Ram(self.0.clone())
    }

    fn has(gpa: u64, width: u8) -> bool {
        gpa < PAGES << 12 && gpa + u64::from(width) <= PAGES << 12
    }
}

impl Memory for Ram {
    fn read(&self, gpa: u64, width: u8) -> Option<u64> {
        assert!(matches!(width, 4 | 8) && gpa % u64::from(width) == 0);
        let mut bytes = [0; 8];
        let (at, width_bytes) = (gpa as usize, usize::from(width));
        Ram::has(gpa, width).then(|| bytes[..width_bytes].copy_from_slice(&self.0.borrow()[at..][..width_bytes]))?;
        Some(u64::from_le_bytes(bytes))
    }
    fn compare_exchange(&self, gpa: u64, width: u8, old: u64, new: u64) {
        assert_eq!(old | ACCESSED | DIRTY, new | ACCESSED | DIRTY, "other bits change");
        if self.read(gpa, width) == Some(old) {
            self.put(gpa, width, new);
        }
    }
}

impl Places for Ram {
    fn stamp(&self) -> u32 {
        7
    }
    fn place(&self, gpa: u64) -> Option<u64> {
        Ram::has(gpa, 1).then_some(gpa)
    }
    fn load(&self, place: u64, width: u8) -> Option<u64> {
        self.read(place, width)
    }
}

/// A kind of tables.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Legacy,
    Pae,
    Long,
}

/// A level of a kind: the first bit of an address that chooses its entry, and how many do.
type Level = (u32, u32);

fn levels(mode: &Mode) -> (Kind, Vec<Level>) {
    if mode.efer.contains(Efer::LMA) {
        let count = if mode.cr4.contains(Cr4::LA57) { 5 } else { 4 };
        (Kind::Long, (0..count).rev().map(|level| (12 + 9 * level, 9)).collect())
    } else if mode.cr4.contains(Cr4::PAE) {
        (Kind::Pae, vec![(30, 2), (21, 9), (12, 9)])
    } else {
        (Kind::Legacy, vec![(22, 10), (12, 10)])
    }
}

fn bits(value: u64, from: u32, count: u32) -> u64 {
    value >> from & ((1 << count) - 1)
}

/// Whether the entry of this level is for a page, and whether a bit that must be 0 is not.
fn kind_of(mode: &Mode, kind: Kind, (shift, _): Level, entry: u64) -> (bool, bool) {
    let is_large = entry & LARGE != 0;
    let width = u32::from(mode.address_bits);
    let has_no_execute = mode.efer.contains(Efer::NXE);
    match (kind, shift) {
        (Kind::Legacy, 12) => (true, false),
        (Kind::Legacy, _) if is_large && mode.cr4.contains(Cr4::PSE) => {
            let high = bits(entry, 13, 8);
            let allowed = if mode.pse36 { width.min(40) - 32 } else { 0 };
            (true, bits(entry, 21, 1) != 0 || high >> allowed != 0)
        }
        (Kind::Legacy, _) => (false, false),
        (Kind::Pae, 30) => {
            // Bit 5 is reserved too, but set by CPUs that have an accessed bit there.
            let is_bad = [1, 2, 6, 7, 8].iter().any(|bit| bits(entry, *bit, 1) != 0);
            (false, is_bad || bits(entry, width, 64 - width) != 0)
        }
        _ => {
            let may_be_page = shift == 12 || shift == 21 || shift == 30 && kind == Kind::Long && mode.gib_pages;
            let is_page = shift == 12 || is_large && may_be_page;
            let high = match kind {
                Kind::Pae => 63 - width,
                _ => 52 - width,
            };
            let mut is_bad = bits(entry, width, high) != 0 || entry & NO_EXECUTE != 0 && !has_no_execute;
            is_bad |= is_large && !may_be_page && shift > 12;
            is_bad |= is_page && shift > 12 && bits(entry, 13, shift - 13) != 0;
            (is_page, is_bad)
        }
    }
}

/// The guest-physical address that an entry has.
fn address_of(kind: Kind, (shift, _): Level, is_page: bool, entry: u64) -> u64 {
    match kind {
        Kind::Legacy if is_page && shift == 22 => bits(entry, 22, 10) << 22 | bits(entry, 13, 8) << 32,
        Kind::Legacy => bits(entry, 12, 20) << 12,
        _ if is_page => bits(entry, shift, 52 - shift) << shift,
        _ => bits(entry, 12, 40) << 12,
    }
}

/// What the CPU does, step by step; entries that it marks are put into `ram`.
fn slow(ram: &Ram, mode: &Mode, address: u64, access: Access) -> Result<Translation, Fault> {
    if !mode.cr0.contains(Cr0::PG) {
        let gpa = address & 0xffff_ffff;
        return Ok(Translation { gpa, page_bits: 12, writable: true, user: true, executable: true });
    }
    let (kind, levels) = levels(mode);
    let mut address = address & 0xffff_ffff | if kind == Kind::Long { address >> 32 << 32 } else { 0 };
    if kind == Kind::Long {
        let top = levels[0].0 + 9 - 1;
        let sign = address >> top;
        if sign != 0 && sign != u64::MAX >> top {
            return Err(Fault::NotCanonical);
        }
        address &= u64::MAX >> (63 - top);
    }
    let knows_fetches = mode.efer.contains(Efer::NXE) && kind != Kind::Legacy;
    let mut code = FaultCode::empty();
    code.set(FaultCode::WRITE, access.write);
    code.set(FaultCode::USER, access.user);
    code.set(FaultCode::FETCH, access.fetch && (knows_fetches || mode.cr4.contains(Cr4::SMEP)));
    let width = if kind == Kind::Legacy { 4 } else { 8 };
    let mut table = match kind {
        Kind::Legacy => bits(mode.cr3, 12, 20) << 12,
        Kind::Pae => bits(mode.cr3, 5, 27) << 5,
        Kind::Long => bits(mode.cr3, 12, 40) << 12,
    };
    let mut found = Translation { gpa: 0, page_bits: 0, writable: true, user: true, executable: true };
    let mut used = Vec::new();
    for level in levels {
        let gpa = table + bits(address, level.0, level.1) * u64::from(width);
        let entry = ram.read(gpa, width).ok_or(Fault::NoMemory(gpa))?;
        if entry & PRESENT == 0 {
            return Err(Fault::Page(code));
        }
        let (is_page, is_bad) = kind_of(mode, kind, level, entry);
        if is_bad {
            return Err(Fault::Page(code | FaultCode::PRESENT | FaultCode::RESERVED));
        }
        if !(kind == Kind::Pae && level.0 == 30) {
            found.writable &= entry & WRITABLE != 0;
            found.user &= entry & USER != 0;
            found.executable &= !(knows_fetches && entry & NO_EXECUTE != 0);
            used.push((gpa, entry));
        }
        table = address_of(kind, level, is_page, entry);
        if is_page {
            (found.gpa, found.page_bits) = (table + bits(address, 0, level.0), level.0 as u8);
            break;
        }
    }
    if !may(mode, &found, access) {
        return Err(Fault::Page(code | FaultCode::PRESENT));
    }
    let last = used.len() - 1;
    for (index, (gpa, entry)) in used.into_iter().enumerate() {
        ram.put(gpa, width, entry | ACCESSED | if access.write && index == last { DIRTY } else { 0 });
    }
    Ok(found)
}

/// The table of rights (SDM vol. 3, 4.6.1).
fn may(mode: &Mode, page: &Translation, access: Access) -> bool {
    let Access { write, fetch, user, implicit } = access;
    match (user, page.user) {
        (true, false) => return false,
        (false, true) if fetch && mode.cr4.contains(Cr4::SMEP) => return false,
        (false, true) if !fetch && mode.cr4.contains(Cr4::SMAP) && (implicit || !mode.alignment_check) => return false,
        _ => {}
    }
    if fetch { page.executable } else { !write || page.writable || !user && !mode.cr0.contains(Cr0::WP) }
}

/// An entry that leads on more often than not.
fn entry(r: &mut Random, width: u8) -> u64 {
    let mut entry = r.below(PAGES + 1) << 12 | PRESENT | ACCESSED & r.next() | DIRTY & r.next();
    entry |= if r.one_in(6) { 0 } else { WRITABLE } | if r.one_in(4) { 0 } else { USER };
    if r.one_in(6) {
        entry = (entry | LARGE | r.next() & 0x3f_e000_0000) & !(if r.one_in(2) { 0x3fff_e000 } else { 0x1f_e000 });
    }
    match r.below(40) {
        0 => entry ^= 1 << r.below(64),
        1 => entry ^= PRESENT,
        2 | 3 => entry |= NO_EXECUTE,
        4 => return r.next(),
        _ => {}
    }
    // Of a root with four entries, most bits are reserved.
    if width == 8 && r.one_in(4) { entry & !0x1c6 } else { entry }
}

fn mode(r: &mut Random) -> Mode {
    let flag = |r: &mut Random, bits: u64, odds: u64| if r.one_in(odds) { 0 } else { bits };
    let cr0 = Cr0::PE.bits() | flag(r, Cr0::PG.bits(), 20) | flag(r, Cr0::WP.bits(), 3);
    let all = [Cr4::PSE, Cr4::PAE, Cr4::SMEP, Cr4::SMAP, Cr4::LA57];
    let cr4 = all.iter().fold(0, |cr4, bit| cr4 | flag(r, bit.bits(), 2));
    let is_long = r.one_in(2);
    let cr4 = cr4 | if is_long { Cr4::PAE.bits() } else { 0 };
    let efer = if is_long { Efer::LMA.bits() } else { 0 } | flag(r, Efer::NXE.bits(), 3);
    Mode {
        cr0: Cr0::from_bits_retain(cr0),
        cr4: Cr4::from_bits_retain(cr4),
        efer: Efer::from_bits_retain(efer),
        cr3: r.below(PAGES) << 12 | r.below(128) << 5 | r.below(32),
        alignment_check: r.one_in(2),
        address_bits: 36 + r.below(17) as u8,
        pse36: !r.one_in(3),
        gib_pages: !r.one_in(3),
    }
}

fn address(r: &mut Random) -> u64 {
    let address = r.next();
    match r.below(8) {
        0 => address,
        1 => r.value(),
        // Canonical with four levels, or with five.
        2..=5 => (address << 16) as i64 as u64 >> 16 | if address >> 47 & 1 != 0 { 0xffff << 48 } else { 0 },
        _ => ((address << 7) as i64 >> 7) as u64,
    }
}

/// Pieces of a range are those that its bytes lead to, up to the first that leads nowhere.
fn check_pieces(r: &mut Random, ram: &Ram, mode: &Mode, address: u64, access: Access) {
    let length = r.below(0x2800) as usize;
    // Entries are marked on the way, which may change what the next piece finds.
    let copy = ram.copy();
    let mut pieces = Vec::new();
    let result = for_each_piece(ram, mode, address, length, access, |gpa, at, length| {
        pieces.push((gpa, at, length));
        Ok::<(), ()>(())
    });
    let mut done = 0;
    for (gpa, at, piece) in pieces {
        let first = address.wrapping_add(at as u64);
        assert!(at == done && piece > 0 && (first & 0xfff) as usize + piece <= 0x1000);
        assert_eq!(slow(&copy, mode, first, access).map(|found| found.gpa), Ok(gpa));
        done += piece;
    }
    let next = address.wrapping_add(done as u64);
    match result {
        Ok(()) => assert_eq!(done, length),
        Err(Stopped::Fault(at, fault)) => {
            assert_eq!((at, Err(fault)), (next, slow(&copy, mode, next, access).map(|found| found.gpa)));
        }
        Err(Stopped::Visitor(())) => unreachable!("it has no errors"),
    }
}

pub fn case(r: &mut Random) -> u64 {
    let ram = Ram(RefCell::new(vec![0; (PAGES << 12) as usize]));
    let width = if r.one_in(3) { 4 } else { 8 };
    (0..PAGES << 12).step_by(width.into()).for_each(|gpa| ram.put(gpa, width, entry(r, width)));
    let Mode { address_bits, pse36, gib_pages, .. } = mode(r);
    let mut trail = Trail::default();
    let mut found = 0;
    let mut setting = None;
    for _ in 0..WALKS {
        let bits = r.next();
        let access =
            Access { write: bits & 1 != 0, fetch: bits & 3 == 2, user: bits & 4 != 0, implicit: bits & 0xe == 8 };
        let (mode, address, access) = match setting {
            // The same once more, perhaps with another entry under it.
            Some(setting) if r.one_in(3) => setting,
            _ => (Mode { address_bits, pse36, gib_pages, ..mode(r) }, address(r), access),
        };
        setting = Some((mode, address, access));
        let by_trail = trail.find(&ram.copy(), &mode, address, access);
        let copy = ram.copy();
        let expected = slow(&copy, &mode, address, access);
        let place = |found: Translation| copy.place(found.gpa).ok_or(Fault::NoMemory(found.gpa));
        assert_eq!(by_trail, expected.and_then(place), "{address:#x} {access:?} {mode:?}");
        assert_eq!(walk(&ram, &mode, address, access), expected, "{address:#x} {access:?} {mode:?}");
        assert!(*ram.0.borrow() == *copy.0.borrow(), "other entries were marked");
        found += u64::from(expected.is_ok());
        if r.one_in(8) {
            check_pieces(r, &ram, &mode, address, access);
        }
        if r.one_in(2) {
            let (gpa, value) = (r.below((PAGES << 12) / 8) * 8, entry(r, width));
            ram.put(gpa, width, value);
        }
    }
    found
}
