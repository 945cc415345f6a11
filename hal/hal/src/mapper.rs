//! Building and walking 4-level page tables (SDM vol. 3, 4.5). Pure: the tables are reached through [`Tables`].

use core::sync::atomic::{AtomicU64, Ordering};
use platform::Table;
use types::{Errno, Result};
use x86_defs::pte::{self, Pte, PteFlags};

/// Where page tables live.
pub trait Tables {
    /// The table at physical address `address`, which an entry or a root named.
    fn table(&self, address: u64) -> &Table;
    /// A zeroed page for a new table, as its physical address.
    fn allocate(&self) -> Option<u64>;
}

/// Bytes that an entry of level `level` (1 to 3) maps.
pub const fn page_size(level: u32) -> u64 {
    1 << (12 + 9 * (level - 1))
}

/// The entry of level `level` for `address` under `root`, making missing tables above it with the rights that `flags` ask
/// for; without `flags` nothing is made. `ENOENT` if a table is missing, `EEXIST` if a large page is in the way.
pub fn entry(tables: &impl Tables, root: u64, address: u64, level: u32, flags: Option<PteFlags>) -> Result<&AtomicU64> {
    let mut table = tables.table(root);
    for above in (level + 1..=4).rev() {
        let slot = &table[pte::index(address, above)];
        let mut value = Pte(slot.load(Ordering::Acquire));
        if !value.is_present() {
            let flags = flags.ok_or(Errno::NOENT)?;
            let rights = PteFlags::PRESENT | PteFlags::WRITABLE | PteFlags::ACCESSED | flags & PteFlags::USER;
            value = Pte::new(tables.allocate().ok_or(Errno::NOMEM)? >> 12, rights);
            slot.store(value.0, Ordering::Release);
        } else if value.has(PteFlags::LARGE_OR_PAT) {
            return Err(Errno::EXIST);
        }
        table = tables.table(value.frame() << 12);
    }
    Ok(&table[pte::index(address, level)])
}

/// Maps `length` bytes of physical memory from `physical` at `virt`, all multiples of 4 KiB, in pages as large as fit and
/// level `largest` allows. `EEXIST` if something is mapped there, `ENOMEM` if tables run out.
pub fn map(
    tables: &impl Tables,
    root: u64,
    virt: u64,
    physical: u64,
    length: u64,
    flags: PteFlags,
    largest: u32,
) -> Result<()> {
    let mut done = 0;
    while done < length {
        let (from, to) = (virt + done, physical + done);
        let fits = |level: &u32| (from | to) % page_size(*level) == 0 && length - done >= page_size(*level);
        let level = (1..=largest).rev().find(fits).unwrap_or(1);
        let slot = entry(tables, root, from, level, Some(flags))?;
        let large = if level > 1 { PteFlags::LARGE_OR_PAT } else { PteFlags::empty() };
        let value = Pte::new(to >> 12, flags | large | PteFlags::PRESENT);
        slot.compare_exchange(0, value.0, Ordering::AcqRel, Ordering::Relaxed).map_err(|_| Errno::EXIST)?;
        done += page_size(level);
    }
    Ok(())
}

/// The leaf entry that maps `address` under `root`, and its level; `None` if nothing is mapped there.
pub fn walk(tables: &impl Tables, root: u64, address: u64) -> Option<(Pte, u32)> {
    let mut table = tables.table(root);
    for level in (1..=4).rev() {
        let value = Pte(table[pte::index(address, level)].load(Ordering::Acquire));
        if !value.is_present() {
            return None;
        }
        if level == 1 || (level < 4 && value.has(PteFlags::LARGE_OR_PAT)) {
            return Some((value, level));
        }
        table = tables.table(value.frame() << 12);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::cell::Cell;

    struct Pool {
        pages: Vec<Box<Table>>,
        used: Cell<usize>,
    }

    impl Pool {
        fn new(count: usize) -> Pool {
            Pool {
                pages: (0..count).map(|_| Box::new([const { AtomicU64::new(0) }; 512])).collect(),
                used: Cell::new(1),
            }
        }
    }

    impl Tables for Pool {
        fn table(&self, address: u64) -> &Table {
            &self.pages[(address >> 12) as usize]
        }

        fn allocate(&self) -> Option<u64> {
            let next = self.used.get();
            self.used.set(next + 1);
            (next < self.pages.len()).then_some((next as u64) << 12)
        }
    }

    const FLAGS: PteFlags = PteFlags::WRITABLE;

    #[test]
    fn pages_are_as_large_as_fits() {
        let pool = Pool::new(16);
        let (virt, phys) = (0xffff_8300_0010_0000, 0x10_0000);
        map(&pool, 0, virt, phys, (2 << 30) - phys, FLAGS, 3).unwrap();
        assert_eq!(walk(&pool, 0, virt), Some((Pte::new(0x100, FLAGS | PteFlags::PRESENT), 1)));
        assert_eq!(walk(&pool, 0, virt + 0x10_0000).unwrap().1, 2);
        let (last, level) = walk(&pool, 0, 0xffff_8300_7fff_ffff).unwrap();
        assert_eq!((last.frame(), level), (0x40000, 3));
        assert_eq!(walk(&pool, 0, virt - 1), None);
        assert_eq!(walk(&pool, 0, 0xffff_8300_8000_0000), None);
    }

    #[test]
    fn level_is_limited() {
        let pool = Pool::new(4);
        map(&pool, 0, 0, 0, 1 << 30, FLAGS, 2).unwrap();
        assert_eq!(walk(&pool, 0, 0x3fff_f000).unwrap().1, 2);
    }

    #[test]
    fn overlap_and_shortage_are_errors() {
        let pool = Pool::new(4);
        map(&pool, 0, 0x20_0000, 0, 0x20_0000, FLAGS, 2).unwrap();
        assert_eq!(map(&pool, 0, 0x20_1000, 0, 0x1000, FLAGS, 2), Err(Errno::EXIST));
        map(&pool, 0, 0x40_1000, 0x1000, 0x1000, FLAGS, 2).unwrap();
        assert_eq!(map(&pool, 0, 0x40_1000, 0x1000, 0x1000, FLAGS, 2), Err(Errno::EXIST));
        assert_eq!(map(&pool, 0, 0x60_1000, 0, 0x1000, FLAGS, 2), Err(Errno::NOMEM));
        assert_eq!(entry(&pool, 0, 1 << 40, 1, None).err(), Some(Errno::NOENT));
    }

    #[test]
    fn users_reach_only_what_is_meant_for_them() {
        let pool = Pool::new(16);
        map(&pool, 0, 0, 0, 0x1000, FLAGS | PteFlags::USER, 1).unwrap();
        map(&pool, 0, 1 << 39, 0, 0x1000, FLAGS, 1).unwrap();
        let top = pool.table(0);
        assert!(Pte(top[0].load(Ordering::Relaxed)).has(PteFlags::USER));
        assert!(!Pte(top[1].load(Ordering::Relaxed)).has(PteFlags::USER));
    }
}
