//! What CPUs ask of each other: attention, flushes, and to stop.

use crate::mailbox::{FlushKind, Mailbox, Posted};
use crate::{MAX_CPUS, cpus, lapic, time, vectors};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use hal::paging;
use spin::Once;
use types::{CpuId, CpuMask};
use x86_defs::apic::DeliveryMode;

static MAILBOXES: Once<Vec<Mailbox>> = Once::new();
/// A kick is on its way and not yet taken.
static KICKED: [AtomicBool; MAX_CPUS] = [const { AtomicBool::new(false) }; MAX_CPUS];
const NOBODY: u32 = u32::MAX;
/// The CPU that has all others stop.
static STOPPER: AtomicU32 = AtomicU32::new(NOBODY);
/// After so long without an answer a flush complains, in nanoseconds.
const PATIENCE: u64 = 5 * time::SECOND;

/// Makes the mailboxes, for the boot CPU to call before any other runs.
pub(crate) fn init() {
    MAILBOXES.call_once(|| (0..MAX_CPUS).map(|_| Mailbox::new()).collect());
    platform::sync::set_relax_hook(poll_mailbox);
}

fn mailbox(cpu: CpuId) -> Option<&'static Mailbox> {
    MAILBOXES.get()?.get(cpu.index())
}

/// Drops translations on this CPU.
pub fn flush_here(kind: FlushKind) {
    match kind {
        FlushKind::All => {
            paging::flush_all_local();
            hal_cpu::svm::forget_translations();
        }
        FlushKind::Page(address) => paging::flush_page(address),
    }
}

/// Answers what other CPUs ask of this one: flushes, or to stop. To be called while spinning (locks do) and by
/// [`crate::dispatch`]; a guest executes nothing before the interrupt that came with the request. Cheap if there is nothing.
#[inline]
pub fn poll_mailbox() {
    let Some(cpu) = hal_cpu::try_cpu_id() else { return };
    if let Some(mailbox) = mailbox(cpu) {
        mailbox.answer(flush_here);
    }
    stop_if_asked();
}

/// Drops translations on all CPUs of `mask` that run, this one among them if it is in, and returns when they are dropped.
/// Idle CPUs drop them as they wake. Interrupts stay off; other CPUs' requests are answered meanwhile.
///
/// The caller has changed the tables before.
pub fn flush_cpus(mask: &CpuMask, kind: FlushKind) {
    let me = hal_cpu::try_cpu_id().unwrap_or(CpuId(0));
    let here = mask.contains(me);
    let mut others = *mask;
    others.remove(me);
    if others.is_empty() {
        if here {
            flush_here(kind);
        }
        return;
    }
    let mut waiting = CpuMask::EMPTY;
    for cpu in others.iter().filter(|cpu| cpus::is_online(*cpu)) {
        if let Some(Posted::Wait(_)) = mailbox(cpu).map(|mailbox| mailbox.post(kind)) {
            waiting.insert(cpu);
        }
    }
    send_mask(&waiting, vectors::FLUSH);
    if here {
        flush_here(kind);
    }
    for cpu in waiting.iter() {
        wait_for(cpu);
    }
}

/// Waits until `cpu` has answered all that it has been asked up to now.
fn wait_for(cpu: CpuId) {
    let Some(mailbox) = mailbox(cpu) else { return };
    let last = mailbox.last_request();
    let mut spins = 0u32;
    let mut start = None;
    while !mailbox.is_done(last) {
        poll_mailbox();
        core::hint::spin_loop();
        spins = spins.wrapping_add(1);
        if spins % 4096 == 0 {
            let now = time::system_time();
            if now.saturating_sub(*start.get_or_insert(now)) > PATIENCE {
                log::error!("CPU{} has not flushed its TLB for {} s; still waiting", cpu.0, PATIENCE / time::SECOND);
                start = Some(now);
            }
        }
    }
}

fn send_mask(mask: &CpuMask, vector: u8) {
    if mask.count() > 1 && mask.count() + 1 == cpus::count() {
        lapic::send_all_but_self(DeliveryMode::Fixed, vector);
        return;
    }
    for apic_id in mask.iter().filter_map(cpus::apic_id) {
        lapic::send(apic_id, DeliveryMode::Fixed, vector);
    }
}

/// Makes another CPU leave its guest or its sleep. Nothing for this CPU, which looks at its work before it enters a guest or
/// sleeps anyway. Several kicks may arrive as one.
#[inline]
pub fn kick(cpu: CpuId) {
    let Some(kicked) = KICKED.get(cpu.index()) else { return };
    if hal_cpu::try_cpu_id() == Some(cpu) || kicked.swap(true, Ordering::SeqCst) {
        return;
    }
    if let Some(apic_id) = cpus::apic_id(cpu) {
        lapic::send(apic_id, DeliveryMode::Fixed, vectors::KICK);
    }
}

/// Whether this CPU was kicked and has not yet noticed.
#[inline]
pub fn is_kicked() -> bool {
    hal_cpu::try_cpu_id().is_some_and(|cpu| KICKED[cpu.index()].load(Ordering::Relaxed))
}

/// The kick has arrived: the next one is sent again. Called before the work is looked at.
pub(crate) fn take_kick(cpu: CpuId) {
    if let Some(kicked) = KICKED.get(cpu.index()) {
        kicked.swap(false, Ordering::SeqCst);
    }
}

/// This CPU goes to sleep: until [`leave_idle`] it uses no guest translation, hence needs no IPI to flush. It must have loaded
/// the hypervisor's own root table before.
pub fn enter_idle() {
    if let Some(mailbox) = hal_cpu::try_cpu_id().and_then(mailbox) {
        mailbox.sleep();
    }
}

/// This CPU is awake: drops what it was asked to drop in its sleep. Before it loads a guest's root table.
pub fn leave_idle() {
    if let Some(mailbox) = hal_cpu::try_cpu_id().and_then(mailbox) {
        mailbox.wake(flush_here);
    }
}

/// Stops all other CPUs for good by NMI, for a panic. They must call [`stop_if_asked`] from their NMI handler. Returns
/// without waiting.
pub fn stop_other_cpus() {
    let me = hal_cpu::try_cpu_id();
    let number = me.map_or(0, |cpu| cpu.0);
    if STOPPER.compare_exchange(NOBODY, number, Ordering::SeqCst, Ordering::Relaxed).is_ok() {
        for apic_id in cpus::online().iter().filter(|cpu| Some(*cpu) != me).filter_map(cpus::apic_id) {
            lapic::send(apic_id, DeliveryMode::Nmi, 0);
        }
    }
}

/// Does not return if another CPU called [`stop_other_cpus`]. Takes no lock and may be called in an NMI handler.
pub fn stop_if_asked() {
    let stopper = STOPPER.load(Ordering::Relaxed);
    if stopper != NOBODY && hal_cpu::try_cpu_id() != Some(CpuId(stopper)) {
        hal::cpu::halt_forever();
    }
}
