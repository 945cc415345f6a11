//! Walks of tables as guests make them.

use guest_walk::{Access, Fault, FaultCode, Memory, Mode, Stopped, Translation, for_each_piece, walk};
use std::cell::RefCell;
use std::collections::BTreeMap;
use x86_defs::control::{Cr0, Cr4, Efer};

/// Bytes by address; what was never written is 0 below `limit`, and no memory from there on.
struct Ram {
    bytes: RefCell<BTreeMap<u64, u8>>,
    limit: u64,
}

impl Ram {
    fn new() -> Ram {
        Ram { bytes: RefCell::default(), limit: 1 << 30 }
    }
    fn put(&self, gpa: u64, width: u8, value: u64) {
        for n in 0..u64::from(width) {
            self.bytes.borrow_mut().insert(gpa + n, (value >> (8 * n)) as u8);
        }
    }
    fn get(&self, gpa: u64, width: u8) -> u64 {
        let bytes = self.bytes.borrow();
        (0..u64::from(width)).map(|n| u64::from(*bytes.get(&(gpa + n)).unwrap_or(&0)) << (8 * n)).sum()
    }
}

impl Memory for Ram {
    fn read(&self, gpa: u64, width: u8) -> Option<u64> {
        assert_eq!(gpa % u64::from(width), 0);
        (gpa < self.limit).then(|| self.get(gpa, width))
    }
    fn compare_exchange(&self, gpa: u64, width: u8, old: u64, new: u64) {
        assert_eq!(old & !0x60, new & !0x60, "only accessed and dirty bits change");
        if self.get(gpa, width) == old {
            self.put(gpa, width, new);
        }
    }
}

const P: u64 = 1;
const W: u64 = 2;
const U: u64 = 4;
const A: u64 = 0x20;
const D: u64 = 0x40;
const PS: u64 = 0x80;
const NX: u64 = 1 << 63;
const ALL: u64 = P | W | U;

fn mode(cr4: Cr4, efer: Efer) -> Mode {
    Mode {
        cr0: Cr0::PE | Cr0::PG | Cr0::WP,
        cr4,
        efer,
        cr3: 0x1000,
        alignment_check: false,
        address_bits: 48,
        pse36: true,
        gib_pages: true,
    }
}

fn long() -> Mode {
    mode(Cr4::PAE, Efer::LME | Efer::LMA | Efer::NXE)
}

/// Four levels for the address 0x7f80_4020_1000: slots 255, 1, 1, 1.
const LONG_ADDRESS: u64 = 255 << 39 | 1 << 30 | 1 << 21 | 1 << 12;

fn long_tables(leaf: u64) -> Ram {
    let ram = Ram::new();
    ram.put(0x1000 + 255 * 8, 8, 0x2000 | ALL);
    ram.put(0x2000 + 8, 8, 0x3000 | ALL);
    ram.put(0x3000 + 8, 8, 0x4000 | ALL);
    ram.put(0x4000 + 8, 8, leaf);
    ram
}

fn page(code: FaultCode) -> Result<Translation, Fault> {
    Err(Fault::Page(code))
}

#[test]
fn four_levels() {
    let ram = long_tables(0xabc000 | ALL);
    let found = walk(&ram, &long(), LONG_ADDRESS + 0x123, Access::READ).unwrap();
    assert_eq!(found, Translation { gpa: 0xabc123, page_bits: 12, writable: true, user: true, executable: true });
    for (at, entry) in [(0x1000 + 255 * 8, 0x2000 | ALL | A), (0x2008, 0x3000 | ALL | A), (0x4008, 0xabc000 | ALL | A)]
    {
        assert_eq!(ram.get(at, 8), entry);
    }
    walk(&ram, &long(), LONG_ADDRESS, Access::WRITE).unwrap();
    assert_eq!((ram.get(0x3008, 8), ram.get(0x4008, 8)), (0x4000 | ALL | A, 0xabc000 | ALL | A | D));
    assert_eq!(walk(&ram, &long(), LONG_ADDRESS + 0x1000, Access::READ), page(FaultCode::empty()));
    let user_write = Access::WRITE.from_user();
    assert_eq!(walk(&ram, &long(), LONG_ADDRESS - 0x1000, user_write), page(FaultCode::WRITE | FaultCode::USER));
    assert_eq!(walk(&ram, &long(), 1 << 47, Access::READ), Err(Fault::NotCanonical));
    assert_eq!(walk(&ram, &long(), !0 << 47, Access::READ), page(FaultCode::empty()));
    ram.put(0x3008, 8, 1 << 40 | ALL);
    assert_eq!(walk(&ram, &long(), LONG_ADDRESS, Access::READ), Err(Fault::NoMemory((1 << 40) + 8)));
}

#[test]
fn five_levels() {
    let ram = Ram::new();
    ram.put(0x1000 + 8, 8, 0x2000 | ALL);
    ram.put(0x2000, 8, 0x3000 | ALL);
    ram.put(0x3000, 8, 0x4000_0000 | ALL | PS);
    let five = mode(Cr4::PAE | Cr4::LA57, Efer::LME | Efer::LMA);
    let found = walk(&ram, &five, (1 << 48) + 5, Access::READ).unwrap();
    assert_eq!((found.gpa, found.page_bits), (0x4000_0005, 30));
    assert_eq!(walk(&ram, &five, 1 << 56, Access::READ), Err(Fault::NotCanonical));
}

#[test]
fn large_pages() {
    let ram = Ram::new();
    ram.put(0x1000, 8, 0x2000 | ALL);
    ram.put(0x2000, 8, 0x3000 | ALL);
    ram.put(0x2008, 8, 0x1_4000_1000 | ALL | PS);
    ram.put(0x3008, 8, 0x60_0000 | ALL | PS);
    ram.put(0x3010, 8, 0x60_2000 | ALL | PS);
    let found = walk(&ram, &long(), 0x212345, Access::WRITE).unwrap();
    assert_eq!((found.gpa, found.page_bits), (0x612345, 21));
    assert_eq!(ram.get(0x3008, 8), 0x60_0000 | ALL | PS | A | D);
    let found = walk(&ram, &long(), 0x4abcdef0, Access::READ).unwrap();
    assert_eq!((found.gpa, found.page_bits), (0x1_4abcdef0, 30), "bit 12 chooses the memory type");
    let reserved = page(FaultCode::PRESENT | FaultCode::RESERVED);
    assert_eq!(walk(&ram, &long(), 0x412345, Access::READ), reserved);
    assert_eq!(walk(&ram, &Mode { gib_pages: false, ..long() }, 0x4abcdef0, Access::READ), reserved);
    ram.put(0x1000, 8, 0x2000 | ALL | PS);
    assert_eq!(walk(&ram, &long(), 0x212345, Access::READ), reserved);
}

#[test]
fn rights() {
    let user_read = Access::READ.from_user();
    let fetch = Access { fetch: true, ..Access::READ };
    let at = |leaf: u64, mode: Mode, access| {
        walk(&long_tables(0xabc000 | P | leaf), &mode, LONG_ADDRESS, access).map(|_| ())
    };
    let refused = |code| Err(Fault::Page(FaultCode::PRESENT | code));
    let without = |mode: Mode| Mode { cr0: mode.cr0 - Cr0::WP, ..mode };
    let smep = Mode { cr4: Cr4::PAE | Cr4::SMEP, ..long() };
    let smap = Mode { cr4: Cr4::PAE | Cr4::SMAP, ..long() };
    let no_nx = Mode { efer: Efer::LME | Efer::LMA, ..long() };

    assert_eq!(at(0, long(), Access::WRITE), refused(FaultCode::WRITE));
    assert_eq!(at(0, without(long()), Access::WRITE), Ok(()));
    assert_eq!(at(U, without(long()), Access::WRITE.from_user()), refused(FaultCode::WRITE | FaultCode::USER));
    assert_eq!(at(W, long(), user_read), refused(FaultCode::USER));
    assert_eq!(at(U, long(), user_read), Ok(()));
    assert_eq!(at(NX, long(), fetch), refused(FaultCode::FETCH));
    assert_eq!(at(NX, long(), Access::READ), Ok(()));
    assert_eq!(at(NX, no_nx, Access::READ), refused(FaultCode::RESERVED));
    assert_eq!(at(U, smep, fetch), refused(FaultCode::FETCH));
    assert_eq!(at(0, smep, fetch), Ok(()));
    assert_eq!(at(U, smep, Access::READ), Ok(()));
    assert_eq!(at(U, smap, Access::READ), refused(FaultCode::empty()));
    assert_eq!(at(U, smap, user_read), Ok(()));
    assert_eq!(at(U, smap, fetch), Ok(()));
    let allowed = Mode { alignment_check: true, ..smap };
    assert_eq!(at(U, allowed, Access::READ), Ok(()));
    assert_eq!(at(U, allowed, Access { implicit: true, ..Access::READ }), refused(FaultCode::empty()));
    let ram = long_tables(0xabc000 | P);
    assert!(walk(&ram, &long(), LONG_ADDRESS, Access::WRITE).is_err());
    assert_eq!(ram.get(0x4008, 8), 0xabc000 | P, "a refused access leaves no trace");
}

#[test]
fn two_levels() {
    let pse = mode(Cr4::PSE, Efer::empty());
    let plain = mode(Cr4::empty(), Efer::empty());
    let ram = Ram::new();
    ram.put(0x1000 + 4, 4, 0x2000 | ALL);
    ram.put(0x2000 + 1023 * 4, 4, 0xf000_0000 | ALL);
    let found = walk(&ram, &plain, 0x7f_f123, Access::WRITE).unwrap();
    assert_eq!((found.gpa, found.page_bits), (0xf000_0123, 12));
    assert_eq!(ram.get(0x2000 + 1023 * 4, 4), 0xf000_0000 | ALL | A | D);
    assert_eq!(walk(&ram, &plain, 0x5_007f_f123, Access::READ).unwrap().gpa, 0xf000_0123);
    // Address bits 32 to 39 lie in bits 13 to 20.
    ram.put(0x1000 + 8, 4, 0x3_0000_0000 >> 32 << 13 | 0x0040_0000 | ALL | PS);
    assert_eq!(walk(&ram, &pse, 0x89_abcd, Access::READ).unwrap().gpa, 0x3_0049_abcd);
    let reserved = page(FaultCode::PRESENT | FaultCode::RESERVED);
    assert_eq!(walk(&ram, &Mode { pse36: false, ..pse }, 0x89_abcd, Access::READ), reserved);
    assert_eq!(walk(&ram, &Mode { address_bits: 33, ..pse }, 0x89_abcd, Access::READ), reserved);
    ram.put(0x1000 + 8, 4, 0x0060_0000 | ALL | PS);
    assert_eq!(walk(&ram, &pse, 0x89_abcd, Access::READ), reserved);
    let fetch = Access { fetch: true, ..Access::READ };
    assert_eq!(walk(&ram, &pse, 0, fetch), page(FaultCode::empty()), "fetches look like reads");
}

#[test]
fn three_levels() {
    let pae = Mode { cr3: 0x1020, ..mode(Cr4::PAE, Efer::NXE) };
    let ram = Ram::new();
    ram.put(0x1020 + 3 * 8, 8, 0x2000 | P);
    ram.put(0x2000, 8, 0x3000 | ALL);
    ram.put(0x3000, 8, 0x1_0000_0000 | P | W | U | NX);
    let found = walk(&ram, &pae, 0xc000_0010, Access::WRITE.from_user()).unwrap();
    assert_eq!(found, Translation { gpa: 0x1_0000_0010, page_bits: 12, writable: true, user: true, executable: false });
    assert_eq!(ram.get(0x1020 + 3 * 8, 8), 0x2000 | P, "root entries have no accessed bit");
    let reserved = page(FaultCode::PRESENT | FaultCode::RESERVED);
    for bit in [1, 2, 6, 7, 8, 52, 63] {
        ram.put(0x1020 + 3 * 8, 8, 0x2000 | P | 1 << bit);
        assert_eq!(walk(&ram, &pae, 0xc000_0010, Access::READ), reserved, "{bit}");
    }
    // Bit 5 is set by CPUs that have an accessed bit there.
    ram.put(0x1020 + 3 * 8, 8, 0x2000 | P | 1 << 5);
    assert_eq!(walk(&ram, &pae, 0xc000_0010, Access::READ).unwrap().gpa, 0x1_0000_0010);
    ram.put(0x2000, 8, 0x3000 | ALL | 1 << 52);
    assert_eq!(walk(&ram, &pae, 0xc000_0010, Access::READ), reserved);
}

#[test]
fn without_paging() {
    let real = Mode { cr0: Cr0::PE, ..long() };
    assert_eq!(walk(&Ram::new(), &real, 0x1_2345_6789, Access::WRITE).unwrap().gpa, 0x2345_6789);
}

#[test]
fn pieces_follow_pages() {
    let ram = long_tables(0xabc000 | ALL);
    ram.put(0x4010, 8, 0x7000 | ALL);
    let mut pieces = Vec::new();
    let mut visit = |gpa, offset, length| {
        pieces.push((gpa, offset, length));
        Ok::<(), ()>(())
    };
    let start = LONG_ADDRESS + 0xff0;
    assert_eq!(for_each_piece(&ram, &long(), start, 0x20, Access::READ, &mut visit), Ok(()));
    let beyond = for_each_piece(&ram, &long(), start, 0x1020, Access::READ, &mut visit);
    assert_eq!(beyond, Err(Stopped::Fault(LONG_ADDRESS + 0x2000, Fault::Page(FaultCode::empty()))));
    assert_eq!(pieces, [(0xabcff0, 0, 16), (0x7000, 16, 16), (0xabcff0, 0, 16), (0x7000, 16, 0x1000)]);
    let stop = for_each_piece(
        &ram,
        &long(),
        start,
        0x20,
        Access::READ,
        |_, offset, _| {
            if offset == 0 { Ok(()) } else { Err(7) }
        },
    );
    assert_eq!(stop, Err(Stopped::Visitor(7)));
}
