//! What the logic asks of x86 beyond the machine itself.

use crate::machine::X86;
use crate::pv::compat::context::Given;
use crate::vcpu::VcpuState;
use crate::{console, domctl, facts, hvm, irq, memory_map, pv, time, wallclock};
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::ops::Range;
use core::sync::atomic::Ordering::SeqCst;
use domain::{Arch, BoardSignal, Creation, Domain, GivenEvent, HostFacts, Hypervisor, MachineEnd, Vcpu};
use types::{CpuId, DomId, Errno, Mfn, Progress, Result, VcpuId};
use xen_abi::memory::E820Entry;
use xen_abi::vm_event::{VM_EVENT_FLAG_SET_REGISTERS, VmEvent};

impl Arch for X86 {
    type Domain = facts::X86Domain;
    type Shared = hvm::Shared;
    type State = VcpuState;
    type Format = p2m::Npt;

    fn new_domain(&self, creation: &Creation) -> Result<facts::X86Domain> {
        facts::X86Domain::new(creation)
    }

    fn new_vcpu(&self, domain: &Domain<X86>, id: VcpuId) -> Result<VcpuState> {
        Ok(match &domain.arch.maps {
            None => VcpuState::Pv(Box::new(pv::VcpuState::new()?)),
            Some(maps) => VcpuState::Hvm(Box::new(hvm::VcpuState::new(id, maps)?)),
        })
    }

    fn host(&self) -> HostFacts {
        facts::host()
    }

    fn set_hvm_parameter(
        &self,
        hypervisor: &Hypervisor<X86>,
        domain: &Arc<Domain<X86>>,
        index: u32,
        value: u64,
    ) -> Result<()> {
        hvm::set_parameter(hypervisor, domain, index, value)
    }

    fn signal_board(&self, hypervisor: &Hypervisor<X86>, domain: &Arc<Domain<X86>>, signal: BoardSignal) -> Result<()> {
        hvm::board::signal(hypervisor, domain, signal)
    }

    fn tick_board(&self, hypervisor: &Hypervisor<X86>, domain: &Arc<Domain<X86>>) {
        if let Some(board) = &domain.arch.board {
            board.tick(hypervisor, domain);
        }
    }

    fn give_event(&self, hypervisor: &Hypervisor<X86>, vcpu: &Vcpu<X86>, event: GivenEvent) -> Result<()> {
        vcpu.arch.given.put(event)?;
        hypervisor.notify(vcpu);
        Ok(())
    }

    fn event_answered(&self, vcpu: &Vcpu<X86>, answer: &VmEvent) {
        if answer.flags & VM_EVENT_FLAG_SET_REGISTERS != 0 {
            *vcpu.arch.answer.lock() = Some(answer.data.read());
        }
    }

    fn set_upcall_vector(&self, hypervisor: &Hypervisor<X86>, vcpu: &Vcpu<X86>, vector: u8) -> Result<()> {
        vcpu.arch.set_upcall_vector(vector);
        hypervisor.notify(vcpu);
        Ok(())
    }

    #[inline]
    fn upcall_raised(&self, vcpu: &Vcpu<X86>) {
        vcpu.arch.raise_upcall();
    }

    fn node_of(&self, cpu: CpuId) -> Option<u32> {
        X86::node_of(self, cpu)
    }

    fn this_cpu(&self) -> CpuId {
        hal_cpu::cpu_id()
    }

    fn current_root(&self) -> Option<Mfn> {
        Some(hal_cpu::current_root())
    }

    fn set_deadline(&self, deadline: Option<u64>) {
        hal_irq::time::set_deadline(deadline);
    }

    fn relinquish(&self, hypervisor: &Hypervisor<X86>, domain: &Arc<Domain<X86>>) -> Result<()> {
        for vcpu in domain.vcpus() {
            hypervisor.forget_timer(&vcpu.arch.timer);
            if let VcpuState::Pv(state) = &mut *vcpu.state.lock() {
                pv::guest_context::release(hypervisor, state);
                pv::compat::release(hypervisor, state);
            }
        }
        if let Some(board) = &domain.arch.board {
            board.release(hypervisor);
        }
        irq::release(hypervisor, domain.id);
        match hypervisor.memory.settle(&domain.memory, self) {
            Progress::Done(()) => Ok(()),
            Progress::Again(_) => Err(Errno::AGAIN),
        }
    }

    fn initialise_vcpu(
        &self,
        hypervisor: &Hypervisor<X86>,
        domain: &Arc<Domain<X86>>,
        vcpu: &Arc<Vcpu<X86>>,
        context: u64,
    ) -> Result<()> {
        if domain.is_translated() {
            return hvm::vcpu_op::initialise(self, domain, vcpu, context);
        }
        if vcpu.initialised.load(SeqCst) {
            return Err(Errno::EXIST);
        }
        let context = Given::read(self, domain, context)?;
        context.apply(hypervisor, domain, vcpu, vcpu.state.lock().pv()?)
    }

    fn update_time(&self, hypervisor: &Hypervisor<X86>, vcpu: &Vcpu<X86>) {
        if let Some(domain) = vcpu.domain.upgrade() {
            time::update_record(domain.evtchn.info(hypervisor.machine(), vcpu.id));
            time::copy_record(hypervisor.machine(), vcpu);
        }
    }

    fn record_time(&self, vcpu: &Vcpu<X86>) -> bool {
        time::record_by_frame(self, vcpu)
    }

    fn flush_cache(&self, mfn: Mfn, bytes: Range<usize>) {
        self.lendable().flush_cache(mfn, bytes);
    }

    fn update_wall_clock(&self, domain: &Domain<X86>) {
        wallclock::update(self, domain);
    }

    fn pirqs(&self, creation: &Creation) -> u32 {
        irq::numbers(creation.privileged)
    }

    fn pirq_bound(&self, hypervisor: &Hypervisor<X86>, domain: &Domain<X86>, pirq: u32, share: bool) -> Result<()> {
        irq::bound(hypervisor, domain, pirq, share)
    }

    fn pirq_unbound(&self, hypervisor: &Hypervisor<X86>, domain: &Domain<X86>, pirq: u32) {
        irq::unbound(hypervisor, domain, pirq);
    }

    fn pirq_unmasked(&self, hypervisor: &Hypervisor<X86>, domain: &Domain<X86>, pirq: u32) {
        irq::unmasked(hypervisor, domain, pirq);
    }

    fn m2p(&self, mfn: Mfn) -> u64 {
        hal::m2p::get(mfn)
    }

    fn pirq_moved(&self, domain: &Domain<X86>, pirq: u32, vcpu: VcpuId) {
        irq::moved(domain, pirq, vcpu);
    }

    fn heap_usage(&self) -> (usize, usize) {
        hal::heap::usage()
    }

    fn has_heap_room(&self) -> bool {
        hal::heap::has_room()
    }

    fn debug_keys(&self) -> &'static [(u8, &'static str)] {
        &[(b'i', "dump interrupt bindings")]
    }

    fn debug_key(&self, _hypervisor: &Hypervisor<X86>, key: u8) {
        if key == b'i' {
            irq::dump();
        }
    }

    fn machine_memory_map(&self, visit: &mut dyn FnMut(E820Entry)) {
        memory_map::machine_map().into_iter().for_each(visit);
    }

    fn console_write(&self, guest: Option<DomId>, bytes: &[u8]) {
        console::write(guest, bytes);
    }

    fn console_read(&self, to: &mut [u8]) -> usize {
        console::read(to)
    }

    fn console_ring(&self, from: Option<u32>, clear: bool, to: &mut [u8]) -> (usize, u32) {
        hal::console::read(from, clear, to)
    }

    fn domctl(
        &self,
        hypervisor: &Hypervisor<X86>,
        caller: &Arc<Domain<X86>>,
        cmd: u32,
        domain: Option<&Arc<Domain<X86>>>,
        payload: &mut [u8; 128],
    ) -> Option<Result<bool>> {
        domctl::machine_domctl(hypervisor, caller, cmd, domain, payload)
    }

    fn sysctl(&self, hypervisor: &Hypervisor<X86>, cmd: u32, payload: &mut [u8; 128]) -> Option<Result<bool>> {
        domctl::machine_sysctl(hypervisor, cmd, payload)
    }

    fn machine_off(&self, end: MachineEnd) -> Errno {
        let halts = match end {
            MachineEnd::Halt => true,
            MachineEnd::Restart => false,
            MachineEnd::RestartAfterFault => hal::panic::is_noreboot(),
        };
        if end == MachineEnd::RestartAfterFault {
            let text = if halts { "'noreboot' set - not rebooting." } else { "rebooting machine in 5 seconds." };
            log::error!("{text}");
        }
        hal_irq::ipi::stop_other_cpus();
        if halts {
            hal::cpu::halt_forever();
        }
        if end == MachineEnd::RestartAfterFault {
            hal_irq::time::delay(5 * hal_irq::time::SECOND);
        }
        hal_irq::power::reboot()
    }
}
