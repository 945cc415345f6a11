//! The page that the hypervisor shares with the domain: events, time; and waiting for either.

use crate::memory::{Guest, WRITABLE, page};
use crate::trap::UPCALLS;
use crate::{call, pvh};
use core::arch::asm;
use core::mem::offset_of;
use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::*};
use xen_abi::event_channel::*;
use xen_abi::memory::XENMAPSPACE_SHARED_INFO;
use xen_abi::xen::*;

/// The play page where the shared page is mapped.
const SHARED: usize = 0;
/// Events that came, by port.
static FIRED: [AtomicU32; 64] = [const { AtomicU32::new(0) }; 64];

/// Maps the shared page; nothing else works without it.
pub fn prepare(guest: &Guest) {
    if pvh::is_translated() {
        let result = pvh::add_to_physmap(XENMAPSPACE_SHARED_INFO, 0, guest.page_frame(SHARED));
        let heard = pvh::hear_events();
        assert!((result, heard) == (0, 0), "no shared page: {result}, no events: {heard}");
        return;
    }
    let entry = guest.start().shared_info | WRITABLE;
    let result = call::update_va(page(SHARED), entry, UVMF_INVLPG);
    assert!(result == 0, "cannot map the shared page: {result}");
}

/// Address of byte `at` of the shared page.
pub fn shared(at: usize) -> u64 {
    page(SHARED) + at as u64
}

/// A word of the shared page.
pub fn word(at: usize) -> &'static AtomicU64 {
    // SAFETY: the shared page stays mapped; both sides use its words as atomics.
    unsafe { &*(shared(at) as *const AtomicU64) }
}

fn byte(at: usize) -> &'static AtomicU8 {
    // SAFETY: as in `word`.
    unsafe { &*(shared(at) as *const AtomicU8) }
}

/// Whether this processor takes no events.
pub fn mask_events(masked: bool) {
    if pvh::is_translated() {
        pvh::allow_interrupts(!masked);
        return;
    }
    byte(offset_of!(VcpuInfo, evtchn_upcall_mask)).store(u8::from(masked), SeqCst);
}

/// Sets or clears the mask of a port below 64.
pub fn mask_port(port: u32, masked: bool) {
    let mask = word(offset_of!(SharedInfo, evtchn_mask));
    if masked {
        mask.fetch_or(1 << port, SeqCst);
    } else {
        mask.fetch_and(!(1 << port), SeqCst);
    }
}

/// Whether an event of a port below 64 waits.
pub fn pending(port: u32) -> bool {
    word(offset_of!(SharedInfo, evtchn_pending)).load(SeqCst) >> port & 1 != 0
}

/// Forgets an event of a port below 64.
pub fn clear(port: u32) {
    word(offset_of!(SharedInfo, evtchn_pending)).fetch_and(!(1 << port), SeqCst);
}

/// Forgets that an upcall is due.
pub fn forget_upcalls() {
    byte(offset_of!(VcpuInfo, evtchn_upcall_pending)).store(0, SeqCst);
    word(offset_of!(VcpuInfo, evtchn_pending_sel)).store(0, SeqCst);
}

/// An upcall: takes the events of ports 0 to 63.
pub fn upcall() {
    UPCALLS.fetch_add(1, SeqCst);
    byte(offset_of!(VcpuInfo, evtchn_upcall_pending)).store(0, SeqCst);
    word(offset_of!(VcpuInfo, evtchn_pending_sel)).swap(0, SeqCst);
    let mask = word(offset_of!(SharedInfo, evtchn_mask)).load(SeqCst);
    let pending = word(offset_of!(SharedInfo, evtchn_pending)).load(SeqCst) & !mask;
    for port in (0..64).filter(|p| pending >> p & 1 != 0) {
        clear(port);
        FIRED[port as usize].fetch_add(1, SeqCst);
    }
}

/// Events of a port so far.
pub fn fired(port: u32) -> u32 {
    FIRED[port as usize].load(SeqCst)
}

/// One event-channel operation.
pub fn event_op<T>(command: u32, argument: &mut T) -> i64 {
    call::op(HYPERVISOR_EVENT_CHANNEL_OP, command, argument)
}

/// A new port for events to processor 0 itself, not masked.
pub fn ipi_port() -> u32 {
    let mut bind = BindIpi { vcpu: 0, port: 0 };
    let result = event_op(EVTCHNOP_BIND_IPI, &mut bind);
    assert!(result == 0 && bind.port < 64, "no port: {result}");
    mask_port(bind.port, false);
    bind.port
}

/// This domain's number, which no hypercall tells: the peer of a port that was opened for oneself.
pub fn own_domain() -> u16 {
    let mut alloc = AllocUnbound { dom: DOMID_SELF, remote_dom: DOMID_SELF, port: 0 };
    let result = event_op(EVTCHNOP_ALLOC_UNBOUND, &mut alloc);
    assert!(result == 0, "no port: {result}");
    let union = xen_abi::Union([0; 2]);
    let mut status = Status { dom: DOMID_SELF, _gap0: [0; 2], port: alloc.port, status: !0, vcpu: !0, u: union };
    let result = event_op(EVTCHNOP_STATUS, &mut status);
    event_op(EVTCHNOP_CLOSE, &mut Close { port: alloc.port });
    if result == 0 { status.u.0[0] as u16 } else { 0 }
}

/// One operation on processor `vcpu`.
pub fn vcpu_op<T>(command: u32, vcpu: u32, argument: &mut T) -> i64 {
    call::call3(HYPERVISOR_VCPU_OP, u64::from(command), u64::from(vcpu), (&raw mut *argument) as u64)
}

/// System time in nanoseconds, by the shared page's clock.
pub fn now() -> u64 {
    let at = offset_of!(VcpuInfo, time);
    loop {
        let version = word(at).load(Acquire) as u32;
        let stamp = word(at + offset_of!(VcpuTimeInfo, tsc_timestamp)).load(Acquire);
        let base = word(at + offset_of!(VcpuTimeInfo, system_time)).load(Acquire);
        let scale = word(at + offset_of!(VcpuTimeInfo, tsc_to_system_mul)).load(Acquire);
        let (low, high): (u64, u64);
        // SAFETY: reads the time-stamp counter.
        unsafe { asm!("lfence", "rdtsc", out("rax") low, out("rdx") high) };
        if version & 1 != 0 || version != word(at).load(Acquire) as u32 {
            continue;
        }
        let delta = (high << 32 | low).wrapping_sub(stamp);
        let shift = (scale >> 32) as i8;
        let delta = if shift < 0 { delta >> -shift } else { delta << shift };
        return base + ((u128::from(delta) * u128::from(scale as u32)) >> 32) as u64;
    }
}

/// Milliseconds in nanoseconds.
pub const MS: u64 = 1_000_000;

/// Waits for `ready`, at most two seconds.
pub fn wait(ready: impl Fn() -> bool) -> bool {
    let end = now() + 2000 * MS;
    while !ready() {
        if now() > end {
            return false;
        }
        call::poll(&[], now() + MS);
    }
    true
}
