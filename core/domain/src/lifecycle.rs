//! A domain's beginning and end.

use crate::cap::group_of;
use crate::translated::Never;
use crate::{Arch, Creation, Domain, Hypervisor, Life, MachineEnd, PauseFlags, ShutdownCode, Translated, Vcpu};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::SeqCst;
use evtchn::EventChannels;
use gnttab::{GrantTable, Limits, MapTrack};
use memory::{DomainMemory, Request};
use sched::{Affinity, Scheduler, Share, UnitId};
use types::{DomId, Errno, Mfn, Progress, Result, VcpuId};
use xen_abi::xen::VIRQ_DOM_EXC;

/// Physical interrupt lines that a domain can name at most.
pub const PIRQS: u32 = 1024;

impl<A: Arch> Hypervisor<A> {
    /// Makes a domain: paused, without vCPUs and memory.
    ///
    /// # Errors
    /// `EEXIST` where the number is taken, `ENOMEM`, `EINVAL` for limits that cannot be met.
    pub fn create_domain(&self, id: DomId, creation: Creation) -> Result<Arc<Domain<A>>> {
        if self.domains.get(id).is_some() {
            return Err(Errno::EXIST);
        }
        self.need_heap()?;
        let memory = self.memory.create_domain(id, creation.max_frames)?;
        let made = self.assemble(id, creation, &memory);
        made.inspect_err(|_| {
            // Nothing was given to it yet, so its account can only be empty.
            let _ = self.memory.remove_domain(id);
        })
    }

    /// `ENOMEM` where the heap has too little left for a domain or a vCPU.
    fn need_heap(&self) -> Result<()> {
        if self.machine().has_heap_room() { Ok(()) } else { Err(Errno::NOMEM) }
    }

    fn assemble(&self, id: DomId, creation: Creation, memory: &Arc<DomainMemory>) -> Result<Arc<Domain<A>>> {
        let arch = self.machine().new_domain(&creation)?;
        let limits = Limits { frames: creation.max_grant_frames, version: creation.max_grant_version as u8 };
        let gnttab = GrantTable::new(id, limits);
        let maptrack = MapTrack::new(creation.max_maptrack_frames);
        let shared_info = self.allocate_shared_info(memory)?;
        let channels = EventChannels::new(evtchn::Config {
            domain: id,
            shared_info,
            vcpus: creation.max_vcpus,
            max_port: creation.max_evtchn_port,
            pirqs: self.machine().pirqs(&creation).min(PIRQS),
        });
        let channels = channels.inspect_err(|_| self.free_shared(shared_info))?;
        let translated = self.translation(&creation, memory).inspect_err(|_| self.free_shared(shared_info))?;
        let tables = (gnttab, maptrack, translated);
        let domain = Arc::new(Domain::new(id, creation, memory.clone(), shared_info, channels, tables, arch));
        domain.pauses.store(1, SeqCst);
        domain.toolstack_pauses.store(1, SeqCst);
        self.mask_upcalls(&domain);
        self.domains.insert(domain.clone()).inspect_err(|_| {
            self.free_shared(shared_info);
            // An empty table is taken down at once.
            let _ = domain.translated.as_ref().map(|translated| translated.tear_down(&Never));
        })?;
        Ok(domain)
    }

    /// What a translated domain has beyond others.
    fn translation(&self, creation: &Creation, memory: &Arc<DomainMemory>) -> Result<Option<Box<Translated<A>>>> {
        creation.is_translated().then(|| Translated::new(&self.memory, memory)).transpose()
    }

    /// Every vCPU starts with events masked.
    fn mask_upcalls(&self, domain: &Domain<A>) {
        for vcpu in 0..domain.creation.max_vcpus {
            domain.evtchn.set_upcall_mask(self.machine(), VcpuId(vcpu), true);
        }
    }

    /// Makes the vCPUs of a domain, all down.
    ///
    /// # Errors
    /// `EEXIST` where it has them, `ENOMEM`.
    pub fn create_vcpus(&self, domain: &Arc<Domain<A>>) -> Result<()> {
        if !domain.vcpus().is_empty() {
            return Err(Errno::EXIST);
        }
        let now = self.machine().system_time();
        let mut vcpus = Vec::new();
        vcpus.try_reserve_exact(domain.creation.max_vcpus as usize).map_err(|_| Errno::NOMEM)?;
        for number in 0..domain.creation.max_vcpus {
            self.need_heap()?;
            let state = self.machine().new_vcpu(domain, VcpuId(number))?;
            let unit = self.claim_unit(domain.id)?;
            let vcpu = Arc::new(Vcpu::new(domain, VcpuId(number), unit, state, now));
            if let Some(slot) = self.units.write().get_mut(unit.0 as usize) {
                *slot = Some(vcpu.clone());
            }
            vcpus.push(vcpu);
        }
        domain.set_vcpus(vcpus.into_boxed_slice());
        Ok(())
    }

    fn claim_unit(&self, domain: DomId) -> Result<UnitId> {
        let mut units = self.units.write();
        let free = units.iter().position(Option::is_none);
        let index = match free {
            Some(index) => index,
            None => {
                units.try_reserve(1).map_err(|_| Errno::NOMEM)?;
                units.push(None);
                units.len() - 1
            }
        };
        let unit = UnitId(index as u32);
        self.scheduler.lock().insert(unit, group_of(domain), Share::default(), Affinity::default())?;
        Ok(unit)
    }

    /// Brings a vCPU up.
    pub fn bring_up(&self, vcpu: &Vcpu<A>) {
        if vcpu.flags.fetch_and(!PauseFlags::DOWN, SeqCst) & PauseFlags::DOWN != 0 {
            self.wake(vcpu);
        }
    }

    /// Takes a vCPU down. If it is the caller's, it stops when it would return to the guest.
    pub fn bring_down(&self, vcpu: &Vcpu<A>) {
        if vcpu.flags.fetch_or(PauseFlags::DOWN, SeqCst) & PauseFlags::DOWN == 0 {
            self.sleep(vcpu);
        }
    }

    /// A vCPU goes down for the guest's own reasons. The last one to do so takes the domain with it.
    pub fn go_down(&self, domain: &Arc<Domain<A>>, vcpu: &Vcpu<A>) {
        let is_last = || !domain.vcpus().iter().any(|other| other.id != vcpu.id && other.is_up());
        if !is_last() {
            self.bring_down(vcpu);
            // The others may have gone down at the same time.
            if !is_last() {
                return;
            }
        }
        self.shut_down(domain, ShutdownCode::POWEROFF);
    }

    /// A domain ends its work, or is made to. Its vCPUs stop; the toolstack is told. For dom0 the machine itself ends.
    /// A code that the domain has given before ([`Domain::latch_shutdown_code`]) counts more than `code`.
    pub fn shut_down(&self, domain: &Arc<Domain<A>>, code: ShutdownCode) {
        let code = domain.latch_shutdown_code(code);
        if domain.id == DomId::DOM0 {
            self.end_of_dom0(code);
            return;
        }
        if domain.shutting_down.swap(true, SeqCst) {
            return;
        }
        self.pause_domain_nosync(domain);
        domain.set_shutdown_code(Some(code));
        let port = domain.suspend_port.load(SeqCst);
        if code == ShutdownCode::SUSPEND && port != 0 {
            // A port that is not connected is the toolstack's mistake, and nobody's business here.
            let _ = self.send(domain, port);
        } else {
            self.raise_global_virq(VIRQ_DOM_EXC);
        }
    }

    fn end_of_dom0(&self, code: ShutdownCode) {
        let (text, end) = match code {
            ShutdownCode::POWEROFF => ("halted: halting machine", MachineEnd::Halt),
            ShutdownCode::REBOOT => ("shutdown: rebooting machine", MachineEnd::Restart),
            ShutdownCode::CRASH => ("crashed", MachineEnd::RestartAfterFault),
            ShutdownCode::WATCHDOG => ("watchdog rebooting machine", MachineEnd::Restart),
            ShutdownCode::SOFT_RESET => ("did unsupported soft reset, rebooting", MachineEnd::Restart),
            _ => ("shutdown (unknown reason)", MachineEnd::RestartAfterFault),
        };
        log::error!("Hardware Dom0 {text}");
        let errno = self.machine().machine_off(end);
        log::error!("The machine would not go off: {errno}");
    }

    /// Takes a suspended or shut-down domain back into work (XEN_DOMCTL_resumedomain).
    pub fn resume(&self, domain: &Domain<A>) {
        if domain.shutdown_code().is_none() {
            return;
        }
        domain.set_shutdown_code(None);
        domain.forget_latched_code();
        domain.shutting_down.store(false, SeqCst);
        self.unpause_domain(domain);
    }

    /// Destroys a domain step by step.
    ///
    /// # Errors
    /// `EAGAIN`: call again, it has been cut off. `EINVAL` for dom0.
    pub fn destroy(&self, domain: &Arc<Domain<A>>) -> Result<()> {
        if domain.id == DomId::DOM0 {
            return Err(Errno::INVAL);
        }
        if domain.destroying.swap(true, SeqCst) {
            return Err(Errno::AGAIN);
        }
        let result = self.destroy_step(domain);
        domain.destroying.store(false, SeqCst);
        result
    }

    fn destroy_step(&self, domain: &Arc<Domain<A>>) -> Result<()> {
        match domain.life() {
            Life::Dead => return Ok(()),
            Life::Dying => {}
            Life::Alive => {
                self.pause_domain(domain);
                domain.set_life(Life::Dying);
                self.stop_timers(domain);
                // A claim of nothing is never refused.
                let _ = self.memory.claim(&domain.memory, 0);
            }
        }
        if let Some(servers) = self.servers(domain) {
            servers.destroy_all();
        }
        if let Some(monitor) = self.monitor(domain) {
            // Nobody may watch.
            let _ = monitor.disable();
        }
        self.close_ports(domain)?;
        self.release_records(domain);
        self.release_grants(domain)?;
        self.machine().relinquish(self, domain)?;
        if let Some(translated) = &domain.translated {
            translated.tear_down(self.machine())?;
        }
        if let Progress::Again(_) = self.memory.relinquish(&domain.memory, self.machine()) {
            return Err(Errno::AGAIN);
        }
        self.free_shared(domain.shared_info);
        domain.set_life(Life::Dead);
        self.dead.fetch_add(1, SeqCst);
        self.forget_vcpus(domain);
        self.raise_global_virq(VIRQ_DOM_EXC);
        self.reap_dead();
        Ok(())
    }

    /// Removes a dead domain whose last frame has gone; called whenever a frame of a dead domain may have been the last.
    pub fn reap(&self, domain: &Domain<A>) {
        if domain.life() != Life::Dead {
            return;
        }
        self.release_grant_table(domain);
        if self.memory.remove_domain(domain.id).is_err() {
            return;
        }
        self.domains.remove(domain.id);
        self.dead.fetch_sub(1, SeqCst);
        self.raise_global_virq(VIRQ_DOM_EXC);
    }

    /// Removes all dead domains whose last frame has gone. Costs next to nothing while there are none: to be called from time
    /// to time, since others give back frames of a dead domain without a word (a mapping that the control domain clears).
    pub fn reap_dead(&self) {
        let mut from = DomId::DOM0;
        while self.dead.load(SeqCst) != 0 {
            let Some(domain) = self.domains.first_from(from) else {
                return;
            };
            self.reap(&domain);
            from = DomId(domain.id.0 + 1);
        }
    }

    fn forget_vcpus(&self, domain: &Domain<A>) {
        for vcpu in domain.vcpus() {
            if let Err(errno) = self.scheduler.lock().remove(vcpu.unit) {
                log::error!("{}v{}: cannot leave the scheduler: {errno}", domain.id, vcpu.id.0);
                continue;
            }
            if let Some(slot) = self.units.write().get_mut(vcpu.unit.0 as usize) {
                *slot = None;
            }
        }
    }

    fn stop_timers(&self, domain: &Domain<A>) {
        domain.watchdogs.iter().for_each(|watchdog| self.forget_timer(&watchdog.timer));
        self.forget_timer(&domain.budget_timer);
        for vcpu in domain.vcpus() {
            self.forget_timer(&vcpu.singleshot);
            self.forget_timer(&vcpu.periodic);
            self.forget_timer(&vcpu.poll_timer);
        }
    }

    /// A fresh zeroed frame that the domain may map but that is the hypervisor's to give and take (shared_info, grant
    /// frames).
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn allocate_shared(&self, owner: &DomainMemory) -> Result<Mfn> {
        self.allocate_shared_within(owner, u64::BITS)
    }

    /// The same at an address of so many bits.
    fn allocate_shared_within(&self, owner: &DomainMemory, bits: u32) -> Result<Mfn> {
        let mfn = self.memory.allocate_anonymous(Request { bits, ..Request::order(0) })?;
        self.memory.share(mfn, Some(owner), false)?;
        Ok(mfn)
    }

    /// A domain's shared_info: below 4 GiB while there is room, for a 32-bit guest is told its machine address in one word
    /// (`start_info`, xen.h).
    fn allocate_shared_info(&self, owner: &DomainMemory) -> Result<Mfn> {
        self.allocate_shared_within(owner, u32::BITS).or_else(|_| self.allocate_shared(owner))
    }

    /// Takes such a frame back; it becomes free when the last mapping of it goes.
    pub fn free_shared(&self, mfn: Mfn) {
        if let Err(denied) = self.memory.unshare(mfn) {
            log::error!("shared frame: {denied}");
        }
    }
}
