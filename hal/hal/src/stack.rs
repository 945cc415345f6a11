//! Stacks for CPUs, each with an unmapped page below it.

use crate::layout::{WINDOWS, WINDOWS_SIZE};
use crate::{heap, paging};
use core::sync::atomic::{AtomicU64, Ordering};
use types::{Errno, PAGE_SIZE, Result};

/// Start of the part of the windows that holds stacks.
const STACKS: u64 = WINDOWS + WINDOWS_SIZE / 2;
static NEXT: AtomicU64 = AtomicU64::new(STACKS);

/// A stack, there for good.
#[derive(Clone, Copy, Debug)]
pub struct Stack {
    /// Lowest address.
    pub bottom: u64,
    /// Address just above the stack, a multiple of 4 KiB.
    pub top: u64,
}

impl Stack {
    /// Takes `pages` pages from the heap and maps them above an unmapped page. `ENOMEM` if the heap or addresses run out.
    pub fn allocate(pages: usize) -> Result<Stack> {
        let length = (pages * PAGE_SIZE) as u64;
        let bottom = NEXT.fetch_add(length + PAGE_SIZE as u64, Ordering::Relaxed) + PAGE_SIZE as u64;
        if bottom + length > WINDOWS + WINDOWS_SIZE {
            return Err(Errno::NOMEM);
        }
        let physical = heap::take_pages(pages).ok_or(Errno::NOMEM)?;
        // SAFETY: the pages were taken for good, and nothing refers to them.
        unsafe { paging::map_private(bottom, physical, length, paging::DATA) }?;
        Ok(Stack { bottom, top: bottom + length })
    }
}
