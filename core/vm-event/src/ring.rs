//! The hypervisor's end of the ring: requests go out, responses come back in the same slots (io/ring.h).

use core::mem::{offset_of, size_of};
use core::sync::atomic::Ordering;
use platform::{Table, read_bytes, write_bytes};
use types::{Mfn, PAGE_SIZE};
use xen_abi::vm_event::{VmEvent, VmEventSring};
use zerocopy::{FromZeros, IntoBytes};

/// Requests that wait for a response at most: the power of two that fits into the page.
pub const SLOTS: u32 = 1 << ((PAGE_SIZE - size_of::<VmEventSring>()) / size_of::<VmEvent>()).ilog2();

/// Words of the page with `req_prod` and `rsp_prod` in their lower halves.
const REQUESTS: usize = offset_of!(VmEventSring, req_prod) / 8;
const RESPONSES: usize = offset_of!(VmEventSring, rsp_prod) / 8;
/// How often a word that the watcher keeps changing is tried to be changed.
const ATTEMPTS: usize = 8;

/// A ring. What its page holds is not to be trusted.
#[derive(Debug)]
pub(crate) struct Ring {
    pub page: Mfn,
    pub port: u32,
    /// Some vCPU waits for room.
    pub is_awaited: bool,
    /// Requests written, and responses taken, since the beginning.
    requests: u32,
    responses: u32,
    /// The log has it that the watcher writes nonsense.
    is_told: bool,
}

/// There are more responses than requests.
#[derive(Debug)]
pub(crate) struct Nonsense;

fn slot(number: u32) -> usize {
    size_of::<VmEventSring>() + (number % SLOTS) as usize * size_of::<VmEvent>()
}

fn with_low(word: u64, low: u32) -> u64 {
    word & !0xffff_ffff | u64::from(low)
}

impl Ring {
    pub fn new(page: Mfn, port: u32) -> Ring {
        Ring { page, port, is_awaited: false, requests: 0, responses: 0, is_told: false }
    }

    /// Requests without a response.
    pub fn outstanding(&self) -> u32 {
        self.requests.wrapping_sub(self.responses)
    }

    /// Whether a request can be written.
    pub fn has_room(&self) -> bool {
        self.outstanding() < SLOTS
    }

    /// Writes a request, for which there is room.
    pub fn put(&mut self, table: &Table, request: &VmEvent) {
        write_bytes(table, slot(self.requests), request.as_bytes());
        self.requests = self.requests.wrapping_add(1);
        // The upper half asks for notifications, which come in any case: it does no harm if the watcher's last word is lost.
        let word = &table[REQUESTS];
        word.store(with_low(word.load(Ordering::Relaxed), self.requests), Ordering::Release);
    }

    /// Takes a response, if there is one.
    pub fn take(&mut self, table: &Table) -> Result<Option<VmEvent>, Nonsense> {
        let produced = table[RESPONSES].load(Ordering::Acquire) as u32;
        match produced.wrapping_sub(self.responses) {
            0 => Ok(None),
            count if count > self.outstanding() => Err(Nonsense),
            _ => {
                let mut response = VmEvent::new_zeroed();
                read_bytes(table, slot(self.responses), response.as_mut_bytes());
                self.responses = self.responses.wrapping_add(1);
                self.ask_for_more(table);
                Ok(Some(response))
            }
        }
    }

    /// Asks to be notified of the next response.
    fn ask_for_more(&self, table: &Table) {
        let (word, next) = (&table[RESPONSES], self.responses.wrapping_add(1));
        for _ in 0..ATTEMPTS {
            let old = word.load(Ordering::Relaxed);
            let new = old & 0xffff_ffff | u64::from(next) << 32;
            if word.compare_exchange(old, new, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                return;
            }
        }
    }

    /// Whether the log is to have it that the watcher writes nonsense: once.
    pub fn is_news(&mut self) -> bool {
        !core::mem::replace(&mut self.is_told, true)
    }
}
