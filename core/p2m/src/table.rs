//! The table of one domain, and reading it.

use crate::Host;
use crate::entry::{Access, Entry};
use crate::format::{Decoded, Format};
use crate::generation::Generation;
use crate::pod::Pod;
use crate::pool::Pool;
use crate::release::Retired;
use arrayvec::ArrayVec;
use core::marker::PhantomData;
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use platform::Preempt;
use platform::sync::{Mutex, MutexGuard};
use types::{DomId, Errno, Gfn, Mfn, Progress, Result};

/// No table.
const NO_ROOT: u64 = !0;
/// How often a reader tries without the lock.
const ATTEMPTS: u32 = 8;
/// Entries that can be retired before a flush is due.
pub(crate) const RETIRED: usize = 64;

/// For work that is bounded by itself.
pub(crate) struct Never;

impl Preempt for Never {
    fn should_yield(&self) -> bool {
        false
    }
}

/// The second-stage table of a domain, of format `F`.
pub struct P2m<H, F> {
    pub(crate) host: H,
    pub(crate) domain: DomId,
    root: AtomicU64,
    pub(crate) generation: Generation,
    highest: AtomicU64,
    /// What the guest may do with what is put into the table from now on: an [`Access`].
    default_access: AtomicU8,
    inner: Mutex<Inner>,
    format: PhantomData<fn() -> F>,
}

/// What the lock guards.
pub(crate) struct Inner {
    pub pool: Pool,
    pub retired: ArrayVec<Retired, RETIRED>,
    /// CPUs may have translations that no longer hold.
    pub stale: bool,
    /// The table is being taken down.
    pub closed: bool,
    /// Guest frames of [`crate::Type::IoreqServer`].
    pub claimed: u64,
    pub pod: Pod,
}

/// The word that decides about a guest frame.
pub(crate) struct Place<'a> {
    pub word: &'a AtomicU64,
    pub value: u64,
    pub level: u8,
}

/// Base-2 logarithm of the guest frames that an entry at `level` is for.
pub(crate) const fn order_of(level: u8) -> u8 {
    9 * (level - 1)
}

/// The slot of a guest frame in a table of `level`.
pub(crate) const fn slot(gfn: Gfn, level: u8) -> usize {
    (gfn.0 >> order_of(level)) as usize & 511
}

impl<H: Host, F: Format> P2m<H, F> {
    /// A domain's table, which has no root yet, and no frame in its pool.
    pub fn new(host: H, domain: DomId) -> P2m<H, F> {
        P2m {
            host,
            domain,
            root: AtomicU64::new(NO_ROOT),
            generation: Generation::new(),
            highest: AtomicU64::new(0),
            default_access: AtomicU8::new(Access::Rwx as u8),
            inner: Mutex::new(Inner {
                pool: Pool::default(),
                retired: ArrayVec::new_const(),
                stale: false,
                closed: false,
                claimed: 0,
                pod: Pod::new(),
            }),
            format: PhantomData,
        }
    }

    /// What was given to [`P2m::new`].
    pub fn host(&self) -> &H {
        &self.host
    }

    /// Makes the pool `pages` frames (`XEN_DOMCTL_set_paging_mempool_size`, `XEN_DOMCTL_SHADOW_OP_SET_ALLOCATION`); those
    /// that are tables stay. `ENOMEM`: it has grown in part. `Again`: repeat.
    pub fn resize_pool(&self, pages: u64, preempt: &dyn Preempt) -> Result<Progress<()>> {
        self.inner.lock().pool.resize(&self.host, pages, preempt)
    }

    /// Frames of the pool in all, and how many of them are tables.
    pub fn pool_pages(&self) -> (u64, u64) {
        let inner = self.inner.lock();
        (inner.pool.total(), inner.pool.used())
    }

    /// Makes the root. `ENOMEM` if the pool is empty, `EEXIST` if there is one, `EINVAL` after [`P2m::teardown`].
    pub fn open(&self) -> Result<Mfn> {
        let mut inner = self.change()?;
        if self.root().is_some() {
            return Err(Errno::EXIST);
        }
        let root = inner.pool.take(&self.host)?;
        self.root.store(root.0, Ordering::Release);
        Ok(root)
    }

    /// The root table, for the CPU (nested CR3).
    pub fn root(&self) -> Option<Mfn> {
        let root = self.root.load(Ordering::Acquire);
        (root != NO_ROOT).then_some(Mfn(root))
    }

    pub(crate) fn take_root(&self) -> Option<Mfn> {
        let root = self.root.swap(NO_ROOT, Ordering::AcqRel);
        (root != NO_ROOT).then_some(Mfn(root))
    }

    /// The highest guest frame at which something was ever put (`max_mapped_pfn`); 0 at first.
    pub fn max_mapped_gfn(&self) -> Gfn {
        Gfn(self.highest.load(Ordering::Acquire))
    }

    pub(crate) fn note_mapped(&self, last: u64) {
        self.highest.fetch_max(last, Ordering::AcqRel);
    }

    /// What the guest may do with what is new in the table, unless its type allows less (`XENMEM_access_op`, of no page).
    pub fn default_access(&self) -> Access {
        Access::from_number(self.default_access.load(Ordering::Relaxed)).unwrap_or(Access::Rwx)
    }

    /// Sets that.
    pub fn set_default_access(&self, access: Access) {
        self.default_access.store(access as u8, Ordering::Relaxed);
    }

    /// Guest frames that are [`crate::Type::IoreqServer`].
    pub fn claimed_entries(&self) -> u64 {
        self.inner.lock().claimed
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }

    /// The lock, to put something into the table. `EINVAL` once it is being taken down.
    pub(crate) fn change(&self) -> Result<MutexGuard<'_, Inner>> {
        let inner = self.inner.lock();
        if inner.closed { Err(Errno::INVAL) } else { Ok(inner) }
    }

    /// Whether there is such a guest frame at all.
    pub(crate) fn exists(gfn: Gfn) -> bool {
        gfn.0 >> F::GFN_BITS == 0
    }

    /// What is at a guest frame. Takes no lock. The answer may be out of date by the time it is here: see [`P2m::pin`].
    pub fn get(&self, gfn: Gfn) -> Entry {
        for _ in 0..ATTEMPTS {
            let noted = self.generation.note();
            let entry = self.entry(gfn);
            if self.generation.is_same(noted) {
                return entry;
            }
        }
        let _still = self.inner.lock();
        self.entry(gfn)
    }

    /// What is at a guest frame, together with what `take` took of it: a reference to the frame, dropped with the value. As
    /// long as it is held the frame is not freed; and it was at the guest frame when the reference was taken. The error is
    /// `take`'s.
    pub fn pin<R>(&self, gfn: Gfn, mut take: impl FnMut(&Entry) -> Result<R>) -> Result<(Entry, R)> {
        for _ in 0..ATTEMPTS {
            let entry = self.get(gfn);
            let taken = take(&entry);
            if (Entry { order: entry.order, ..self.get(gfn) }) == entry {
                return taken.map(|taken| (entry, taken));
            }
        }
        let _still = self.inner.lock();
        let entry = self.entry(gfn);
        take(&entry).map(|taken| (entry, taken))
    }

    /// What is at a guest frame; only to be believed under the lock or in one generation.
    pub(crate) fn entry(&self, gfn: Gfn) -> Entry {
        match self.find(gfn) {
            Some(place) => Self::entry_at(gfn, place.value, place.level),
            None => Entry::hole(0),
        }
    }

    /// What a word at `level` says of a guest frame below it.
    pub(crate) fn entry_at(gfn: Gfn, value: u64, level: u8) -> Entry {
        let order = order_of(level);
        match F::decode(value, level) {
            Decoded::Leaf(leaf) if !leaf.ty.is_hole() => {
                let below = gfn.0 & ((1 << order) - 1);
                let mfn = if leaf.ty.has_frame() { leaf.mfn.offset(below) } else { Mfn::INVALID };
                Entry { mfn, ty: leaf.ty, access: leaf.access, order }
            }
            _ => Entry::hole(order),
        }
    }

    /// The word that decides about a guest frame; `None` if there is no such frame, or no table.
    pub(crate) fn find(&self, gfn: Gfn) -> Option<Place<'_>> {
        self.find_down_to(gfn, 1)
    }

    /// The word that decides about a guest frame, or that leads there and is at `lowest`.
    pub(crate) fn find_down_to(&self, gfn: Gfn, lowest: u8) -> Option<Place<'_>> {
        if !Self::exists(gfn) {
            return None;
        }
        let mut table = self.host.table(self.root()?)?;
        let mut level = F::LEVELS;
        loop {
            let word = &table[slot(gfn, level)];
            let value = word.load(Ordering::Acquire);
            match F::decode(value, level) {
                Decoded::Table(next) if level > lowest => table = self.host.table(next)?,
                _ => return Some(Place { word, value, level }),
            }
            level -= 1;
        }
    }
}
