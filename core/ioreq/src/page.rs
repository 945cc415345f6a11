//! The two pages of a server.

use crate::request::Request;
use core::sync::atomic::{AtomicU64, Ordering};
use platform::Table;
use types::VcpuId;
use xen_abi::ioreq::*;

/// Words of an `ioreq_t`.
const WORDS: usize = 4;
/// The state in its last word.
const STATE: u64 = 0xf << 48;
/// Slots of the ring.
const SLOTS: u32 = IOREQ_BUFFER_SLOT_NUM;

/// A request that a vCPU has made and that is not answered yet. Kept with the vCPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pending {
    pub(crate) server: u16,
    pub(crate) serial: u64,
    pub(crate) vcpu: VcpuId,
    pub(crate) port: u32,
    /// The state last seen, which only goes up.
    pub(crate) seen: u8,
}

impl Pending {
    /// The event channel that the emulator raises with the answer.
    pub fn port(&self) -> u32 {
        self.port
    }
}

/// Whether a request was answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "the vCPU must not run before the answer is there"]
pub enum Polled {
    /// Not yet.
    Waiting,
    /// It was, with this datum; with all ones if the emulator has gone.
    Done(u64),
    /// The state went this way, which it never does: the domain has to be crashed.
    Broken {
        /// State seen before (`STATE_*`).
        before: u8,
        /// State now.
        now: u8,
    },
}

/// The words of a vCPU's request in the page of requests.
fn words(page: &Table, vcpu: VcpuId) -> Option<&[AtomicU64]> {
    let first = vcpu.index().checked_mul(WORDS)?;
    page.get(first..first.checked_add(WORDS)?)
}

fn state_of(word: u64) -> u8 {
    ((word & STATE) >> 48) as u8
}

/// Notes a vCPU's event channel in the page.
pub(crate) fn set_port(page: &Table, vcpu: VcpuId, port: u32) {
    if let Some([.., last]) = words(page, vcpu) {
        let old = last.load(Ordering::Relaxed);
        last.store(old & !0xffff_ffff | u64::from(port), Ordering::Release);
    }
}

/// Writes a vCPU's request. False, with nothing written, if the place is taken or has another event channel.
pub(crate) fn put(page: &Table, vcpu: VcpuId, port: u32, request: &Request) -> bool {
    let Some([address, data, sizes, last]) = words(page, vcpu) else { return false };
    let now = last.load(Ordering::Acquire);
    if state_of(now) != STATE_IOREQ_NONE || now as u32 != port {
        log::error!("ioreq: emulator left state {} and port {} at {vcpu:?}", state_of(now), now as u32);
        return false;
    }
    address.store(request.address, Ordering::Relaxed);
    data.store(request.data, Ordering::Relaxed);
    sizes.store(u64::from(request.count) | u64::from(request.size) << 32, Ordering::Relaxed);
    let word = request.last_word(port);
    last.store(word | u64::from(STATE_IOREQ_READY) << 48, Ordering::Release);
    true
}

/// Looks for the answer to a vCPU's request.
pub(crate) fn poll(page: &Table, vcpu: VcpuId, seen: &mut u8) -> Polled {
    let Some([_, data, _, last]) = words(page, vcpu) else { return Polled::Done(!0) };
    let now = state_of(last.load(Ordering::Acquire));
    let before = *seen;
    match now {
        // The page was cleared, since the emulator has gone.
        STATE_IOREQ_NONE => Polled::Done(!0),
        STATE_IOREQ_READY | STATE_IOREQ_INPROCESS if now >= before => {
            *seen = now;
            Polled::Waiting
        }
        STATE_IORESP_READY => {
            let answer = data.load(Ordering::Relaxed);
            last.fetch_and(!STATE, Ordering::AcqRel);
            Polled::Done(answer)
        }
        _ => Polled::Broken { before, now },
    }
}

/// Puts a request into the ring; the caller is the only one that does. `wraps`: the emulator is content with the pointers
/// being set back (`HVM_IOREQSRV_BUFIOREQ_ATOMIC`). False if it does not fit.
pub(crate) fn put_buffered(page: &Table, wraps: bool, request: &Request) -> bool {
    let Some((first, second)) = request.as_slots() else { return false };
    let (pointers, slots) = (&page[0], &page[1..]);
    let (read, write) = split(pointers.load(Ordering::Acquire));
    let count = 1 + u32::from(second.is_some());
    if write.wrapping_sub(read) > SLOTS - count {
        return false;
    }
    slots[(write % SLOTS) as usize].store(first, Ordering::Relaxed);
    if let Some(second) = second {
        slots[(write.wrapping_add(1) % SLOTS) as usize].store(second, Ordering::Relaxed);
    }
    // The emulator may move the other pointer at the same time; carries leave the word at its top.
    pointers.fetch_add(u64::from(count) << 32, Ordering::Release);
    if wraps {
        set_back(pointers);
    }
    true
}

fn split(pointers: u64) -> (u32, u32) {
    (pointers as u32, (pointers >> 32) as u32)
}

/// Takes whole rounds off both pointers, lest they overflow: 2^32 is no multiple of the number of slots. An emulator that
/// keeps changing its pointer has this done next time.
fn set_back(pointers: &AtomicU64) {
    for _ in 0..SLOTS {
        let old = pointers.load(Ordering::Relaxed);
        let (read, write) = split(old);
        if read < SLOTS {
            return;
        }
        let rounds = read / SLOTS * SLOTS;
        let new = u64::from(read - rounds) | u64::from(write.wrapping_sub(rounds)) << 32;
        if pointers.compare_exchange(old, new, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            return;
        }
    }
}
