//! Debug keys: each logs a report. They come from the serial console and from the toolstack (`xl debug-keys`).

use alloc::sync::Arc;
use core::sync::atomic::Ordering::Relaxed;
use domain::{Arch, Domain, Hypervisor, Life, Vcpu, group_of};
use evtchn::State;
use sched::{Runstate, Scheduler};
use types::{CpuId, DomId};
use xen_abi::xen::VIRQ_DEBUG;

/// Ports in a report at most, for each domain.
const MAX_PORTS: u32 = 1024;
/// Domains in a report at most.
const MAX_DOMAINS: usize = 64;

/// A report on the hypervisor.
type Report<A> = fn(&Hypervisor<A>);

/// The keys that every architecture has.
fn reports<A: Arch>() -> [(u8, &'static str, Report<A>); 8] {
    [
        (b'h', "show this help", help),
        (b'*', "print all reports", all),
        (b'e', "event channels", ports),
        (b'g', "grant tables", grants),
        (b'm', "memory", memory),
        (b'q', "domains and their vCPUs", domains),
        (b'r', "run queues", schedule),
        (b't', "time and timers", time),
    ]
}

/// Acts on a key; one that stands for nothing is named.
pub fn press<A: Arch>(hypervisor: &Hypervisor<A>, key: u8) {
    if let Some((_, title, report)) = reports::<A>().into_iter().find(|known| known.0 == key) {
        log::info!("'{}' pressed -> {title}", char::from(key));
        report(hypervisor);
    } else if let Some((_, title)) = hypervisor.machine().debug_keys().iter().find(|known| known.0 == key) {
        log::info!("'{}' pressed -> {title}", char::from(key));
        hypervisor.machine().debug_key(hypervisor, key);
    } else {
        log::info!("'{}' pressed -> no such key; 'h' lists them", char::from(key).escape_default());
    }
}

fn help<A: Arch>(hypervisor: &Hypervisor<A>) {
    let own = reports::<A>().map(|(key, title, _)| (key, title));
    for (key, title) in own.iter().chain(hypervisor.machine().debug_keys()) {
        log::info!(" key '{}' => {title}", char::from(*key));
    }
}

fn all<A: Arch>(hypervisor: &Hypervisor<A>) {
    for (key, title, report) in reports::<A>() {
        if key != b'h' && key != b'*' {
            log::info!("[{}: {title}]", char::from(key));
            report(hypervisor);
        }
    }
    for (key, title) in hypervisor.machine().debug_keys() {
        log::info!("[{}: {title}]", char::from(*key));
        hypervisor.machine().debug_key(hypervisor, *key);
    }
}

fn each_domain<A: Arch>(hypervisor: &Hypervisor<A>) -> impl Iterator<Item = Arc<Domain<A>>> + '_ {
    let mut from = DomId(0);
    let all = core::iter::from_fn(move || {
        let domain = hypervisor.domains.first_from(from)?;
        from = DomId(domain.id.0 + 1);
        Some(domain)
    });
    all.take(MAX_DOMAINS)
}

fn domains<A: Arch>(hypervisor: &Hypervisor<A>) {
    let now = hypervisor.machine().system_time();
    for domain in each_domain(hypervisor) {
        let life = match domain.life() {
            Life::Alive => "alive",
            Life::Dying => "dying",
            Life::Dead => "dead, its frames are still in use",
        };
        log::info!(
            "{}: {life}, {} pages of at most {}, pauses {} ({} by the toolstack), shared_info {:#x}{}",
            domain.id,
            domain.memory.total_pages(),
            domain.memory.max_pages(),
            domain.pauses.load(Relaxed),
            domain.toolstack_pauses.load(Relaxed),
            domain.shared_info,
            if domain.is_privileged() { ", privileged" } else { "" },
        );
        if let Some(code) = domain.shutdown_code() {
            log::info!("{}: has shut down, reason {}", domain.id, code.0);
        }
        for vcpu in domain.vcpus() {
            report_vcpu(hypervisor, &domain, vcpu, now);
            // Guests that have bound it report on themselves.
            hypervisor.raise_vcpu_virq(&domain, vcpu.id, VIRQ_DEBUG);
        }
    }
}

fn report_vcpu<A: Arch>(hypervisor: &Hypervisor<A>, domain: &Domain<A>, vcpu: &Vcpu<A>, now: u64) {
    let clock = *vcpu.runstate.lock();
    let (pending, masked) = domain.evtchn.upcall_state(hypervisor.machine(), vcpu.id);
    log::info!(
        "  {}v{}: {:?}{}, flags {:#x}, upcall pending {} masked {}, ran {} ms",
        domain.id,
        vcpu.id.0,
        clock.state(),
        if vcpu.running_on().is_some() { " on a CPU" } else { "" },
        vcpu.flags.load(Relaxed),
        u8::from(pending),
        u8::from(masked),
        clock.times_at(now)[Runstate::Running as usize] / 1_000_000,
    );
}

fn ports<A: Arch>(hypervisor: &Hypervisor<A>) {
    for domain in each_domain(hypervisor) {
        log::info!("{}: event channels, [pending masked]", domain.id);
        for port in 0..domain.evtchn.port_count().min(MAX_PORTS) {
            let Ok(status) = domain.evtchn.status(port) else {
                continue;
            };
            if matches!(status.state, State::Free | State::Reserved) {
                continue;
            }
            let pending = domain.evtchn.is_pending(hypervisor.machine(), port);
            let masked = domain.evtchn.is_masked(hypervisor.machine(), port);
            log::info!(
                "  {port:4} [{} {}]: {:?}, v{}",
                u8::from(pending),
                u8::from(masked),
                status.state,
                status.vcpu.0
            );
        }
    }
}

fn grants<A: Arch>(hypervisor: &Hypervisor<A>) {
    for domain in each_domain(hypervisor) {
        let (frames, most) = domain.gnttab.size();
        let mut used = 0;
        domain.gnttab.for_each_active(|_, _, _| used += 1);
        let mapped = domain.maptrack.mappings().count();
        log::info!(
            "{}: grant table version {}, {frames} of {most} frames, {used} grants in use, {mapped} mapped of others",
            domain.id,
            domain.gnttab.version()
        );
    }
}

fn memory<A: Arch>(hypervisor: &Hypervisor<A>) {
    let memory = &hypervisor.memory;
    log::info!(
        "{} pages, {} free, {} of them to be scrubbed, {} claimed",
        memory.total_pages(),
        memory.free_pages(),
        memory.dirty_pages(),
        memory.claimed_pages()
    );
    let (used, size) = hypervisor.machine().heap_usage();
    log::info!("Heap: {} of {} KiB in use", used >> 10, size >> 10);
    for domain in each_domain(hypervisor) {
        let own = &domain.memory;
        let (pages, shared, most) = (own.total_pages(), own.shared_pages(), own.max_pages());
        log::info!("{}: {pages} pages, {shared} shared by the hypervisor, at most {most}", domain.id);
    }
}

fn schedule<A: Arch>(hypervisor: &Hypervisor<A>) {
    let (name, limit) = {
        let scheduler = hypervisor.scheduler.lock();
        (scheduler.name(), scheduler.rate_limit())
    };
    log::info!("Scheduler: {name}, rate limit {limit} us");
    for domain in each_domain(hypervisor) {
        for vcpu in domain.vcpus() {
            let (on, share, cap) = {
                let scheduler = hypervisor.scheduler.lock();
                let share = scheduler.share(vcpu.unit).unwrap_or_default();
                (scheduler.cpu_of(vcpu.unit), share, scheduler.cap(group_of(domain.id)))
            };
            let state = vcpu.runstate.lock().state();
            let place = on.map_or(-1, |cpu| i64::from(cpu.0));
            log::info!("  {}v{}: {state:?}, CPU {place}, weight {}, cap {cap}", domain.id, vcpu.id.0, share.weight);
        }
    }
}

fn time<A: Arch>(hypervisor: &Hypervisor<A>) {
    let now = hypervisor.machine().system_time();
    let khz = hypervisor.machine().host().cpu_khz;
    log::info!("System time {now} ns, time-stamp counter {khz} kHz");
    for (number, cpu) in hypervisor.cpus.iter().enumerate() {
        let (count, next) = {
            let timers = hypervisor.cpu(CpuId(number as u32)).timers.lock();
            (timers.len(), timers.next_deadline())
        };
        let next = next.map_or(-1, |next| next.saturating_sub(now) as i64 / 1000);
        let idle = cpu.idle_time.load(Relaxed) / 1_000_000;
        log::info!("  CPU {number}: idle for {idle} ms, {count} timers, the next in {next} us");
    }
}
