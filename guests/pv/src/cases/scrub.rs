//! What a domain leaves in its memory when it goes. Run one after the other, in domains of their own: `fill` writes a pattern
//! wherever it can, `find` looks for it.

use crate::call::update_va;
use crate::memory::{Guest, WRITABLE, page, read, write};
use crate::say;
use xen_abi::xen::UVMF_INVLPG;

/// A page through which others are reached.
const WINDOW: usize = 8;
/// What nothing but `fill` writes.
const PATTERN: u64 = 0x7e57_ed5e_c2e7_0000;
/// Pages behind the page tables that the domain builder uses, stack and padding, at most.
const BUILDER: u64 = 256;

/// Writes the pattern to all pages that hold nothing of the kernel's.
pub fn fill(guest: &Guest) {
    let mut pages = 0;
    each(guest, |at, number| {
        // SAFETY: the page is mapped there, and nothing is in it.
        (0..512).for_each(|word| unsafe { write(at + 8 * word, PATTERN + number) });
        pages += 1;
    });
    say!("fill.pages: {}", if pages > 4096 { "thousands" } else { "few" });
}

/// Counts pages that begin or end with a pattern of another domain's.
pub fn find(guest: &Guest) {
    let mut found = 0;
    each(guest, |at, _| {
        // SAFETY: the page is mapped there.
        let is_pattern = |word: u64| unsafe { read(at + 8 * word) } & !0xffff == PATTERN;
        found += u64::from((0..512).step_by(73).any(is_pattern) || is_pattern(511));
    });
    say!("find.pages-with-the-pattern: {found}");
}

fn each(guest: &Guest, mut action: impl FnMut(u64, u64)) {
    let start = guest.start();
    let tables = start.pt_base - (page(0) & !0x7fff_ffff);
    let first = (tables >> 12) + start.nr_pt_frames + BUILDER;
    for number in first..start.nr_pages {
        let result = update_va(page(WINDOW), guest.frame(number) << 12 | WRITABLE, UVMF_INVLPG);
        assert!(result == 0, "cannot map page {number:#x}: {result}");
        action(page(WINDOW), number);
    }
    update_va(page(WINDOW), guest.page_frame(WINDOW) << 12 | WRITABLE, UVMF_INVLPG);
}
