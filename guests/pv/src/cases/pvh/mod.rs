//! Cases that only a translated guest has.

pub mod apic;
pub mod crash;
pub mod exceptions;
pub mod grants;
pub mod physmap;
pub mod processor;
pub mod registers;
pub mod wild_code;

use crate::memory::Guest;
use crate::report::Outcome;

/// One case, and what it says.
use super::{Case, table};
use crate::trap::with_value;

/// An address with no memory behind it, and no device: in the fourth GiB, which is mapped.
pub const NOWHERE: u64 = 0xffff_ffff_d000_0000;

fn code(result: i64) -> Outcome {
    Outcome::Code(result)
}

/// Physical address of a play page.
fn address(guest: &Guest, index: usize) -> u64 {
    guest.page_frame(index) << 12
}
