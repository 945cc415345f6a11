//! An architecture on a desk: [`platform::fakes::FakeMachine`] with domains and vCPUs that have nothing of their own.

use crate::{Arch, BoardSignal, Creation, Domain, GivenEvent, HostFacts, Hypervisor, MachineEnd, Vcpu};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::Ordering::SeqCst;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use memory::{FrameInfo, FrameTable, Memory, PvPolicy};
use platform::fakes::FakeMachine;
use platform::sync::Mutex;
use platform::{Clock, Frames, GuestMemory, Kick, Nodes, Preempt, Table, Tlb};
use types::{CpuId, DomId, Errno, Gfn, Mfn, Result, VcpuId};
use xen_abi::hvm_params::{HVM_PARAM_CALLBACK_IRQ, HVM_PARAM_HPET_ENABLED, HVM_PARAM_TIMER_MODE};
use xen_abi::memory::{E820_RAM, E820_RESERVED, E820Entry};

/// The architecture.
pub struct FakeArch {
    /// Frames, clock and guest memory.
    pub machine: FakeMachine,
    /// The CPU that the test plays.
    pub cpu: AtomicU32,
    /// Lines that guests wrote, with the number they are marked with.
    pub written: Mutex<Vec<(Option<u16>, Vec<u8>)>>,
    /// What the console has for dom0.
    pub input: Mutex<Vec<u8>>,
    /// What the console's ring holds.
    pub ring: Mutex<Vec<u8>>,
    /// The deadline that was set last; `u64::MAX` for none.
    pub deadline: AtomicU64,
    /// Physical interrupts that are bound: domain and number.
    pub pirqs: Mutex<Vec<(u16, u32)>>,
    /// Root of the page tables of the guest that the test plays.
    pub root: Mutex<Option<Mfn>>,
    /// What was written back from the caches.
    pub flushed: Mutex<Vec<(Mfn, Range<usize>)>>,
    /// Whether it runs HVM guests.
    pub hvm: AtomicBool,
    /// HVM parameters for which the architecture had to do something, and upcall vectors of vCPUs.
    pub parameters: Mutex<Vec<(u32, u64)>>,
    /// What was done to devices, and in whose domain.
    pub signals: Mutex<Vec<(u16, BoardSignal)>>,
    /// Events that vCPUs are to take; of each domain one.
    pub given: Mutex<Vec<(u32, GivenEvent)>>,
    /// How the machine's work was ended.
    pub ended: Mutex<Option<MachineEnd>>,
    /// Number of NUMA nodes; the CPUs are in them by turns.
    nodes: u32,
    m2p: Mutex<Vec<u64>>,
}

impl FakeArch {
    /// A machine with `frames` frames of RAM and `nodes` NUMA nodes.
    fn new(frames: usize, nodes: u32) -> FakeArch {
        FakeArch {
            machine: FakeMachine::new(frames),
            cpu: AtomicU32::new(0),
            written: Mutex::default(),
            input: Mutex::default(),
            ring: Mutex::default(),
            deadline: AtomicU64::new(u64::MAX),
            pirqs: Mutex::default(),
            root: Mutex::default(),
            flushed: Mutex::default(),
            hvm: AtomicBool::new(false),
            parameters: Mutex::default(),
            signals: Mutex::default(),
            given: Mutex::default(),
            ended: Mutex::default(),
            nodes,
            m2p: Mutex::new(alloc::vec![!0; frames]),
        }
    }

    /// A hypervisor on such a machine, with all frames but frame 0 free.
    pub fn hypervisor(frames: usize, cpus: u32) -> Hypervisor<FakeArch> {
        FakeArch::hypervisor_of_nodes(frames, cpus, Nodes::ONE)
    }

    /// The same on a machine of several NUMA nodes.
    pub fn hypervisor_of_nodes(frames: usize, cpus: u32, nodes: Nodes) -> Hypervisor<FakeArch> {
        let infos: Vec<FrameInfo> = (0..frames).map(|_| FrameInfo::new()).collect();
        let arch = FakeArch::new(frames, nodes.count());
        let mut memory = Memory::new(arch, FrameTable::new(Box::leak(infos.into_boxed_slice())));
        memory.set_nodes(nodes);
        memory.add_free(Mfn(1), frames as u64 - 1, true);
        let hypervisor = Hypervisor::new(memory, cpus, String::from("dom0_mem=1G"), ["cc", "me", "here", "today"]);
        for cpu in 0..cpus {
            // A new scheduler takes any CPU.
            let _ = sched::Scheduler::add_cpu(&mut *hypervisor.scheduler.lock(), CpuId(cpu));
        }
        hypervisor
    }
}

impl Creation {
    /// What a small guest is created with, for tests.
    pub fn of_test(privileged: bool, vcpus: u32) -> Creation {
        Creation {
            handle: [7; 16],
            privileged,
            max_vcpus: vcpus,
            max_evtchn_port: 4095,
            max_grant_frames: 4,
            max_maptrack_frames: 4,
            max_grant_version: 2,
            flags: 0,
            emulation_flags: 0,
            misc_flags: 0,
            cpupool: 0,
            max_frames: 1024,
        }
    }
}

impl Frames for FakeArch {
    fn table(&self, mfn: Mfn) -> Option<&Table> {
        self.machine.table(mfn)
    }
}

impl Tlb for FakeArch {
    fn flush_domain(&self, domain: DomId) {
        self.machine.flush_domain(domain);
    }

    fn flush_all(&self) {
        self.machine.flush_all();
    }
}

impl Clock for FakeArch {
    fn system_time(&self) -> u64 {
        self.machine.system_time()
    }
}

impl Kick for FakeArch {
    fn kick(&self, cpu: CpuId) {
        self.machine.kick(cpu);
    }
}

impl GuestMemory for FakeArch {
    fn copy_in(&self, address: u64, to: &mut [u8]) -> Result<()> {
        self.machine.copy_in(address, to)
    }

    fn copy_out(&self, address: u64, from: &[u8]) -> Result<()> {
        self.machine.copy_out(address, from)
    }

    fn is_guest_range(&self, address: u64, length: u64) -> bool {
        self.machine.is_guest_range(address, length)
    }
}

impl Preempt for FakeArch {
    fn should_yield(&self) -> bool {
        self.machine.should_yield()
    }
}

impl PvPolicy for FakeArch {
    fn may_map_io(&self, domain: DomId, _mfn: Mfn) -> bool {
        domain == DomId::DOM0
    }

    fn may_map_foreign(&self, mapper: DomId, _owner: DomId) -> bool {
        mapper == DomId::DOM0
    }

    fn may_choose_caching(&self, domain: DomId) -> bool {
        domain == DomId::DOM0
    }

    fn hypervisor_slots(&self) -> [u64; 16] {
        [0; 16]
    }

    fn set_m2p(&self, mfn: Mfn, gfn: Gfn) {
        if let Some(entry) = self.m2p.lock().get_mut(mfn.0 as usize) {
            *entry = gfn.0;
        }
    }
}

impl Arch for FakeArch {
    type Domain = ();
    type Shared = ();
    type State = ();
    type Format = p2m::Npt;

    fn new_domain(&self, _creation: &Creation) -> Result<()> {
        Ok(())
    }

    fn new_vcpu(&self, _domain: &Domain<Self>, _id: VcpuId) -> Result<()> {
        Ok(())
    }

    fn host(&self) -> HostFacts {
        let hvm = self.hvm.load(SeqCst);
        HostFacts { cpu_khz: 1_000_000, threads_per_core: 1, cores_per_socket: 2, hvm, ..HostFacts::default() }
    }

    fn node_of(&self, cpu: CpuId) -> Option<u32> {
        Some(cpu.0 % self.nodes)
    }

    fn this_cpu(&self) -> CpuId {
        CpuId(self.cpu.load(SeqCst))
    }

    fn set_deadline(&self, deadline: Option<u64>) {
        self.deadline.store(deadline.unwrap_or(u64::MAX), SeqCst);
    }

    fn relinquish(&self, _hypervisor: &Hypervisor<Self>, _domain: &Arc<Domain<Self>>) -> Result<()> {
        Ok(())
    }

    fn initialise_vcpu(
        &self,
        _hypervisor: &Hypervisor<Self>,
        _domain: &Arc<Domain<Self>>,
        vcpu: &Arc<Vcpu<Self>>,
        _context: u64,
    ) -> Result<()> {
        if vcpu.initialised.swap(true, SeqCst) { Err(Errno::EXIST) } else { Ok(()) }
    }

    fn update_time(&self, _hypervisor: &Hypervisor<Self>, _vcpu: &Vcpu<Self>) {}

    fn record_time(&self, vcpu: &Vcpu<Self>) -> bool {
        let now = self.machine.system_time().to_le_bytes();
        vcpu.time_record.with(&self.machine, |table, at| platform::write_bytes(table, at + 16, &now))
    }

    fn flush_cache(&self, mfn: Mfn, bytes: Range<usize>) {
        self.flushed.lock().push((mfn, bytes));
    }

    fn update_wall_clock(&self, _domain: &Domain<Self>) {}

    fn pirqs(&self, _creation: &Creation) -> u32 {
        crate::PIRQS
    }

    fn pirq_bound(&self, _hypervisor: &Hypervisor<Self>, domain: &Domain<Self>, pirq: u32, share: bool) -> Result<()> {
        let mut bound = self.pirqs.lock();
        if !share && bound.iter().any(|&(_, other)| other == pirq) {
            return Err(Errno::BUSY);
        }
        bound.push((domain.id.0, pirq));
        Ok(())
    }

    fn pirq_unbound(&self, _hypervisor: &Hypervisor<Self>, domain: &Domain<Self>, pirq: u32) {
        self.pirqs.lock().retain(|&bound| bound != (domain.id.0, pirq));
    }

    fn pirq_unmasked(&self, _hypervisor: &Hypervisor<Self>, _domain: &Domain<Self>, _pirq: u32) {}

    fn m2p(&self, mfn: Mfn) -> u64 {
        self.m2p.lock().get(mfn.0 as usize).copied().unwrap_or(!0)
    }

    fn current_root(&self) -> Option<Mfn> {
        *self.root.lock()
    }

    fn machine_memory_map(&self, visit: &mut dyn FnMut(E820Entry)) {
        let frames = self.m2p.lock().len() as u64;
        visit(E820Entry { addr: 0, size: frames << 12, kind: E820_RAM });
        visit(E820Entry { addr: 0xfee0_0000, size: 0x1000, kind: E820_RESERVED });
    }

    fn console_write(&self, guest: Option<DomId>, bytes: &[u8]) {
        self.written.lock().push((guest.map(|domain| domain.0), bytes.to_vec()));
    }

    fn console_read(&self, to: &mut [u8]) -> usize {
        let mut input = self.input.lock();
        let count = to.len().min(input.len());
        to[..count].copy_from_slice(&input[..count]);
        input.drain(..count);
        count
    }

    fn console_ring(&self, from: Option<u32>, clear: bool, to: &mut [u8]) -> (usize, u32) {
        let mut ring = self.ring.lock();
        let start = (from.unwrap_or(0) as usize).min(ring.len());
        let count = to.len().min(ring.len() - start);
        to[..count].copy_from_slice(&ring[start..start + count]);
        if clear {
            ring.clear();
        }
        (count, (start + count) as u32)
    }

    fn set_hvm_parameter(
        &self,
        _hypervisor: &Hypervisor<Self>,
        _domain: &Arc<Domain<Self>>,
        index: u32,
        value: u64,
    ) -> Result<()> {
        if !matches!(index, HVM_PARAM_CALLBACK_IRQ | HVM_PARAM_TIMER_MODE | HVM_PARAM_HPET_ENABLED) {
            return Err(Errno::OPNOTSUPP);
        }
        self.parameters.lock().push((index, value));
        Ok(())
    }

    fn signal_board(&self, _: &Hypervisor<Self>, domain: &Arc<Domain<Self>>, signal: BoardSignal) -> Result<()> {
        self.signals.lock().push((domain.id.0, signal));
        Ok(())
    }

    fn give_event(&self, _: &Hypervisor<Self>, vcpu: &Vcpu<Self>, event: GivenEvent) -> Result<()> {
        let mut given = self.given.lock();
        if given.iter().any(|(other, _)| *other == vcpu.id.0) {
            return Err(Errno::BUSY);
        }
        given.push((vcpu.id.0, event));
        Ok(())
    }

    fn set_upcall_vector(&self, _hypervisor: &Hypervisor<Self>, vcpu: &Vcpu<Self>, vector: u8) -> Result<()> {
        self.parameters.lock().push((vcpu.id.0, vector.into()));
        Ok(())
    }

    fn machine_off(&self, end: MachineEnd) -> Errno {
        *self.ended.lock() = Some(end);
        Errno::NOSYS
    }
}
