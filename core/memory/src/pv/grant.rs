//! Entries that map granted frames. The references behind them are the grant table's until the entry is written, the
//! entry's while it stands, and the grant table's again once it is cleared.

use super::Context;
use super::entry::adjusted;
use super::update::{Keep, write};
use crate::denied::{Denied, Outcome, Why};
use crate::memory::Memory;
use crate::policy::Host;
use core::sync::atomic::Ordering;
use types::{DomId, Errno, Mfn};
use x86_defs::pte::{Pte, PteFlags};

/// Where a grant is mapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GrantTarget {
    /// At a virtual address of the address space with this root.
    Address {
        /// The root of the address space.
        root: Mfn,
        /// The virtual address.
        address: u64,
    },
    /// In the entry at this machine address (`GNTMAP_contains_pte`).
    Entry(u64),
}

impl<H: Host> Memory<H> {
    fn locate(&self, target: GrantTarget) -> Outcome<(Mfn, usize)> {
        match target {
            GrantTarget::Address { root, address } => self.find_l1(root, address),
            GrantTarget::Entry(address) if address & 7 == 0 => {
                Ok((Mfn::containing(address), (address & 0xfff) as usize / 8))
            }
            GrantTarget::Entry(address) => Err(Denied::new(Errno::INVAL, Why::BadRequest { value: address })),
        }
    }

    /// Writes the mapping of a granted frame: `new` is a present entry whose reference (and writable use, if writable) the
    /// caller took, and which are the entry's from now on. What the entry held before is dropped. `EINVAL`: nothing changed.
    pub fn map_grant(&self, context: &Context, target: GrantTarget, new: Pte) -> Outcome<()> {
        let (table, slot) = self.locate(target)?;
        self.with_l1(context.tables.id(), table, |ty, words| {
            let old = Pte(words[slot].load(Ordering::Relaxed));
            write(&words[slot], table, slot, old, adjusted(ty, new), Keep::Nothing)?;
            self.put_l1(old);
            Ok(())
        })
    }

    /// Takes the mapping of a granted frame away: the entry must map `mfn`, writable or not as told. Its reference (and
    /// writable use) are the caller's again, to be dropped after a flush. `EINVAL`: nothing changed.
    pub fn unmap_grant(&self, domain: DomId, target: GrantTarget, mfn: Mfn, writable: bool) -> Outcome<()> {
        self.replace_grant(domain, target, mfn, writable, Pte::EMPTY)
    }

    /// As [`Memory::unmap_grant`], and moves the mapping that the address `from` has to the place that becomes free
    /// (`GNTTABOP_unmap_and_replace`). `EINVAL`.
    pub fn move_over_grant(
        &self,
        domain: DomId,
        target: GrantTarget,
        mfn: Mfn,
        writable: bool,
        from: GrantTarget,
    ) -> Outcome<()> {
        let (table, slot) = self.locate(from)?;
        if self.locate(target)? == (table, slot) {
            return Err(Denied::new(Errno::INVAL, Why::BadRequest { value: slot as u64 }));
        }
        // The references go along with the entry; taking it out first leaves no moment with two entries on one reference.
        let moved = self.with_l1(domain, table, |_, words| {
            let moved = Pte(words[slot].load(Ordering::Relaxed));
            write(&words[slot], table, slot, moved, Pte::EMPTY, Keep::Nothing)?;
            Ok(moved)
        })?;
        self.replace_grant(domain, target, mfn, writable, moved).inspect_err(|_| {
            let back = self
                .with_l1(domain, table, |_, words| write(&words[slot], table, slot, Pte::EMPTY, moved, Keep::Nothing));
            // The guest wrote another entry there meanwhile: that one stands.
            if back.is_err() {
                self.put_l1(moved);
            }
        })
    }

    fn replace_grant(&self, domain: DomId, target: GrantTarget, mfn: Mfn, writable: bool, new: Pte) -> Outcome<()> {
        let (table, slot) = self.locate(target)?;
        self.with_l1(domain, table, |_, words| {
            let old = Pte(words[slot].load(Ordering::Relaxed));
            let fits = old.is_present() && old.frame() == mfn.0 && old.has(PteFlags::WRITABLE) == writable;
            if !fits {
                return Err(Denied::new(Errno::INVAL, Why::WrongMapping { entry: old.0, mfn }));
            }
            write(&words[slot], table, slot, old, new, Keep::Nothing)
        })
    }
}
