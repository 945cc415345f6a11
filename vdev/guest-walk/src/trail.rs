//! A walk that is remembered, so that the next one to the same page only has to look whether its entries are still there.

use crate::walk::{LEVELS, walk};
use crate::{Access, Fault, Memory, Mode};
use core::cell::{Cell, RefCell};
use x86_defs::control::{Cr0, Cr4, Efer};

const OFFSET: u64 = 0xfff;

/// Guest-physical memory of which places can be kept: an owner's addresses, which mean the same as long as its
/// [`Places::stamp`] is the same.
pub trait Places: Memory {
    /// Changes whenever a guest-physical address may have lost the place that it had.
    fn stamp(&self) -> u32;
    /// The place of the byte at a guest-physical address; `None` if there is no memory that can be read.
    fn place(&self, gpa: u64) -> Option<u64>;
    /// Reads the entry of `width` bytes at a place.
    fn load(&self, place: u64, width: u8) -> Option<u64>;
}

/// An entry of a table as it was on the way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Entry {
    place: u64,
    value: u64,
    width: u8,
}

/// What decides about a walk, beside the entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key {
    stamp: u32,
    cr0: Cr0,
    cr4: Cr4,
    efer: Efer,
    cr3: u64,
    alignment_check: bool,
    access: Access,
    page: u64,
}

impl Key {
    fn of(memory: &impl Places, mode: &Mode, page: u64, access: Access) -> Key {
        let Mode { cr0, cr4, efer, cr3, alignment_check, .. } = *mode;
        Key { stamp: memory.stamp(), cr0, cr4, efer, cr3, alignment_check, access, page }
    }
}

/// The way to one page, which was allowed. That the CPU's widths and features ([`Mode::address_bits`] and what follows it) stay
/// as they are is the owner's part.
#[derive(Clone, Debug, Default)]
pub struct Trail {
    /// `None` before the first walk.
    key: Option<Key>,
    entries: [Entry; LEVELS],
    count: usize,
    /// Place of the page's first byte.
    page: u64,
}

impl Trail {
    /// The place that a virtual address leads to: by the last walk if that still holds, else by a new one. It is the same in all of
    /// the address's page. The answer is [`walk`]'s, but that accessed bits are as they were while the entries stay the same.
    ///
    /// # Errors
    /// Those of [`walk`]; [`Fault::NoMemory`] also if there is no memory at the address itself.
    #[inline]
    pub fn find(&mut self, memory: &impl Places, mode: &Mode, address: u64, access: Access) -> Result<u64, Fault> {
        let key = Key::of(memory, mode, address & !OFFSET, access);
        if self.key == Some(key) && self.holds(memory) {
            return Ok(self.page | address & OFFSET);
        }
        self.walk(memory, mode, key, address)
    }

    fn holds(&self, memory: &impl Places) -> bool {
        let entries = self.entries.iter().take(self.count);
        entries.into_iter().all(|entry| memory.load(entry.place, entry.width) == Some(entry.value))
    }

    #[cold]
    fn walk(&mut self, memory: &impl Places, mode: &Mode, key: Key, address: u64) -> Result<u64, Fault> {
        self.key = None;
        let recorder = Recorder { memory, entries: RefCell::default(), count: Cell::new(0) };
        let found = walk(&recorder, mode, address, key.access)?;
        let place = memory.place(found.gpa).ok_or(Fault::NoMemory(found.gpa))?;
        (self.entries, self.count) = (recorder.entries.into_inner(), recorder.count.get());
        self.page = place & !OFFSET;
        // What was noted of entries may hold no more by now; then the next look finds it so.
        self.key = Some(key);
        Ok(place)
    }
}

/// Notes the entries that a walk reads.
struct Recorder<'a, M> {
    memory: &'a M,
    entries: RefCell<[Entry; LEVELS]>,
    count: Cell<usize>,
}

impl<M: Places> Memory for Recorder<'_, M> {
    fn read(&self, gpa: u64, width: u8) -> Option<u64> {
        let place = self.memory.place(gpa)?;
        let value = self.memory.load(place, width)?;
        // A walk reads one entry a level.
        *self.entries.borrow_mut().get_mut(self.count.get())? = Entry { place, value, width };
        self.count.set(self.count.get() + 1);
        Some(value)
    }

    fn compare_exchange(&self, gpa: u64, width: u8, old: u64, new: u64) {
        self.memory.compare_exchange(gpa, width, old, new);
    }
}
