//! What the architecture adds to a domain and a vCPU, and what it does for them.

use crate::{Creation, Domain, Hypervisor, Vcpu};
use alloc::sync::Arc;
use core::ops::Range;
use memory::PvPolicy;
use platform::{Clock, Frames, GuestMemory, Kick, Preempt, Tlb};
use types::{CpuId, DomId, Errno, Mfn, Result, VcpuId};
use xen_abi::memory::E820Entry;
use xen_abi::vm_event::VmEvent;

/// What the toolstack asks about the host.
#[derive(Clone, Copy, Debug, Default)]
pub struct HostFacts {
    /// Frequency of the time-stamp counter, in kHz.
    pub cpu_khz: u32,
    /// Logical CPUs in a core.
    pub threads_per_core: u32,
    /// Cores in a package.
    pub cores_per_socket: u32,
    /// First words of the host's feature set, as `xl info` shows them in hw_caps.
    pub hw_caps: [u32; 8],
    /// Whether the host can run HVM guests.
    pub hvm: bool,
    /// Width of a guest-physical address, in bits.
    pub address_bits: u8,
}

/// How the machine's work ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MachineEnd {
    /// All CPUs halt; turning the power off is the control domain's, which knows how.
    Halt,
    /// It starts anew.
    Restart,
    /// It starts anew after five seconds, for somebody to read the console, unless the command line says `noreboot`.
    RestartAfterFault,
}

/// What a device emulator or the toolstack does to the devices of a translated domain that are in the hypervisor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BoardSignal {
    /// A PCI device's interrupt wire (device below 32, wire below 4) goes up, or down.
    PciIntx {
        /// Number of the device on bus 0.
        device: u8,
        /// 0 is INTA.
        intx: u8,
        /// Whether it goes up.
        up: bool,
    },
    /// An ISA interrupt (below 16) goes up, or down.
    IsaIrq {
        /// Its number.
        irq: u8,
        /// Whether it goes up.
        up: bool,
    },
    /// A PCI link (below 4) leads to an ISA interrupt (below 16), 0 to none.
    LinkRoute {
        /// Number of the link.
        link: u8,
        /// The interrupt.
        irq: u8,
    },
    /// A message-signalled interrupt.
    Msi {
        /// Where the device writes it.
        address: u64,
        /// What it writes.
        data: u32,
    },
    /// The power button is pressed.
    PowerButton,
    /// The sleep button is pressed.
    SleepButton,
}

/// An exception or interrupt that a vCPU of a translated domain is to take, as dm_op.h has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GivenEvent {
    /// Its vector.
    pub vector: u8,
    /// `XEN_DMOP_EVENT_*`.
    pub kind: u8,
    /// Length of the instruction that it stands for.
    pub length: u8,
    /// The error code, all ones for none.
    pub error_code: u32,
    /// The address of a page fault.
    pub cr2: u64,
}

/// One architecture: the machine below the hypervisor, and the part of domains and vCPUs that only it understands.
pub trait Arch: Frames + Tlb + PvPolicy + Clock + Kick + GuestMemory + Preempt + Send + Sync + Sized + 'static {
    /// Architecture's part of a domain; shared by all CPUs.
    type Domain: Send + Sync;
    /// Architecture's part of a vCPU that other CPUs may look at; shared.
    type Shared: Send + Sync + Default;
    /// Architecture's part of a vCPU that only the CPU that runs it, or one that has stopped it, touches.
    type State: Send;
    /// How the machine wants the second-stage tables of translated domains.
    type Format: p2m::Format + 'static;

    /// Makes the part of a new domain.
    ///
    /// # Errors
    /// `ENOMEM`, or what the creation asks for and cannot be had.
    fn new_domain(&self, creation: &Creation) -> Result<Self::Domain>;
    /// Makes the part of a new vCPU, not yet started.
    ///
    /// # Errors
    /// `ENOMEM`.
    fn new_vcpu(&self, domain: &Domain<Self>, id: VcpuId) -> Result<Self::State>;

    /// Facts about the host.
    fn host(&self) -> HostFacts;
    /// NUMA node of a CPU; `None` where firmware does not tell.
    fn node_of(&self, cpu: CpuId) -> Option<u32>;
    /// The CPU this runs on.
    fn this_cpu(&self) -> CpuId;

    /// Programs this CPU's timer for a time in nanoseconds of system time; `None` stops it.
    fn set_deadline(&self, deadline: Option<u64>);

    /// Releases what the architecture holds for a dying domain: page-table roots, descriptor tables, interrupts. The vCPUs
    /// do not run. The frames themselves are taken back afterwards.
    ///
    /// # Errors
    /// `EAGAIN` where it was cut off and must be called again.
    fn relinquish(&self, hypervisor: &Hypervisor<Self>, domain: &Arc<Domain<Self>>) -> Result<()>;

    /// Gives a vCPU its registers (VCPUOP_initialise), from the guest's address `context`. It is down.
    ///
    /// # Errors
    /// `EFAULT`, `EINVAL` for values that a guest must not have, `EEXIST` if it has registers.
    fn initialise_vcpu(
        &self,
        hypervisor: &Hypervisor<Self>,
        domain: &Arc<Domain<Self>>,
        vcpu: &Arc<Vcpu<Self>>,
        context: u64,
    ) -> Result<()>;

    /// Writes the vCPU's time record, for the CPU this runs on.
    fn update_time(&self, hypervisor: &Hypervisor<Self>, vcpu: &Vcpu<Self>);
    /// Writes the vCPU's time record to [`Vcpu::time_record`], for the CPU that runs it, else for this one. False if it has none.
    fn record_time(&self, vcpu: &Vcpu<Self>) -> bool;
    /// Writes these bytes of a frame back from the caches to memory, and drops them from there.
    fn flush_cache(&self, mfn: Mfn, bytes: Range<usize>);
    /// Writes the wall clock to the domain's shared_info.
    fn update_wall_clock(&self, domain: &Domain<Self>);

    /// How many physical interrupts a new domain can name.
    fn pirqs(&self, creation: &Creation) -> u32;
    /// A guest has bound a physical interrupt to an event channel; `share` where it may be shared.
    ///
    /// # Errors
    /// `EINVAL` for no such interrupt, `EBUSY` if it is another's, `EPERM`.
    fn pirq_bound(&self, hypervisor: &Hypervisor<Self>, domain: &Domain<Self>, pirq: u32, share: bool) -> Result<()>;
    /// It is bound no more. Called under the domain's event lock.
    fn pirq_unbound(&self, hypervisor: &Hypervisor<Self>, domain: &Domain<Self>, pirq: u32);
    /// A guest has unmasked the port of a physical interrupt.
    fn pirq_unmasked(&self, hypervisor: &Hypervisor<Self>, domain: &Domain<Self>, pirq: u32);
    /// The port of a physical interrupt belongs to another vCPU now: the interrupt may follow it.
    fn pirq_moved(&self, domain: &Domain<Self>, pirq: u32, vcpu: VcpuId) {
        let _ = (domain, pirq, vcpu);
    }

    /// The machine-to-physical table's entry for a frame, `!0` where there is none.
    fn m2p(&self, mfn: Mfn) -> u64;

    /// First frame of the memory behind the machine-to-physical table's 2 MiB number `block`; `None` for a hole in it.
    fn m2p_block(&self, block: u64) -> Option<Mfn> {
        let _ = block;
        None
    }

    /// Root of the page tables that this CPU has loaded for the guest that runs on it; `None` if it has none.
    fn current_root(&self) -> Option<Mfn>;

    /// Visits the machine's memory map as the control domain is to see it (XENMEM_machine_memory_map): the firmware's, in
    /// order, with what the control domain may not touch as reserved.
    fn machine_memory_map(&self, visit: &mut dyn FnMut(E820Entry));

    /// Writes text of a guest to the console: `guest` is the number it is marked with, `None` is dom0's raw text.
    fn console_write(&self, guest: Option<DomId>, bytes: &[u8]);
    /// Takes input that the console has for dom0; the number of bytes.
    fn console_read(&self, to: &mut [u8]) -> usize;
    /// Copies from the console's ring, as XEN_SYSCTL_readconsole: from position `from` or from the oldest byte on; empties it
    /// if `clear`. The number of bytes and the position after them.
    fn console_ring(&self, from: Option<u32>, clear: bool, to: &mut [u8]) -> (usize, u32);

    /// A domctl that concerns the architecture: `payload` is the command's structure, in and out. `None` if it does not;
    /// `Ok(true)` copies the structure back. `caller` is the toolstack's domain.
    ///
    /// # Errors
    /// As the command, with why in the log; `ERESTART` where it was cut off and must be issued again.
    fn domctl(
        &self,
        hypervisor: &Hypervisor<Self>,
        caller: &Arc<Domain<Self>>,
        cmd: u32,
        domain: Option<&Arc<Domain<Self>>>,
        payload: &mut [u8; 128],
    ) -> Option<Result<bool>> {
        let _ = (hypervisor, caller, cmd, domain, payload);
        None
    }

    /// A sysctl that concerns the architecture, likewise.
    ///
    /// # Errors
    /// As the command.
    fn sysctl(&self, hypervisor: &Hypervisor<Self>, cmd: u32, payload: &mut [u8; 128]) -> Option<Result<bool>> {
        let _ = (hypervisor, cmd, payload);
        None
    }

    /// A translated domain's parameter (HVM_PARAM_*) is to have this value, and the architecture has something to do for that:
    /// it is the callback interrupt, the firmware's places of registers, clocks, sleep states, enlightenments. Others are just kept.
    ///
    /// # Errors
    /// `EINVAL` for a value that it cannot have, `EOPNOTSUPP` for what is not there.
    fn set_hvm_parameter(
        &self,
        hypervisor: &Hypervisor<Self>,
        domain: &Arc<Domain<Self>>,
        index: u32,
        value: u64,
    ) -> Result<()> {
        let _ = (hypervisor, domain, index, value);
        Err(Errno::OPNOTSUPP)
    }

    /// Does something to the devices of a translated domain. One that has no such device takes no notice.
    ///
    /// # Errors
    /// `EINVAL` for what cannot be, `EOPNOTSUPP` where there are no such devices at all.
    fn signal_board(
        &self,
        hypervisor: &Hypervisor<Self>,
        domain: &Arc<Domain<Self>>,
        signal: BoardSignal,
    ) -> Result<()> {
        let _ = (hypervisor, domain, signal);
        Err(Errno::OPNOTSUPP)
    }

    /// The time has come that [`crate::TimerEvent::Board`] was set to.
    fn tick_board(&self, hypervisor: &Hypervisor<Self>, domain: &Arc<Domain<Self>>) {
        let _ = (hypervisor, domain);
    }

    /// Has a vCPU of a translated domain take an event when it next runs.
    ///
    /// # Errors
    /// `EBUSY` if it has not yet taken the last one, `EOPNOTSUPP`.
    fn give_event(&self, hypervisor: &Hypervisor<Self>, vcpu: &Vcpu<Self>, event: GivenEvent) -> Result<()> {
        let _ = (hypervisor, vcpu, event);
        Err(Errno::OPNOTSUPP)
    }

    /// The domain's watcher has answered to an event of a vCPU, which waits still.
    fn event_answered(&self, vcpu: &Vcpu<Self>, answer: &VmEvent) {
        let _ = (vcpu, answer);
    }

    /// A vCPU of a translated domain wants to hear of events by an interrupt of its own.
    ///
    /// # Errors
    /// `EOPNOTSUPP` where it cannot.
    fn set_upcall_vector(&self, hypervisor: &Hypervisor<Self>, vcpu: &Vcpu<Self>, vector: u8) -> Result<()> {
        let _ = (hypervisor, vcpu, vector);
        Err(Errno::OPNOTSUPP)
    }

    /// `evtchn_upcall_pending` of a vCPU was clear and is set: the edge by which the interrupt of its own comes that it may have asked
    /// for. It is told to look afterwards.
    #[inline]
    fn upcall_raised(&self, vcpu: &Vcpu<Self>) {
        let _ = vcpu;
    }

    /// Bytes of the hypervisor's heap that are in use, and its size.
    fn heap_usage(&self) -> (usize, usize) {
        (0, 0)
    }

    /// Whether that heap has, or finds, room for what making a domain or a vCPU allocates without an error path.
    fn has_heap_room(&self) -> bool {
        true
    }

    /// Debug keys that only the architecture knows, with what each is for.
    fn debug_keys(&self) -> &'static [(u8, &'static str)] {
        &[]
    }

    /// Logs what a debug key of [`Arch::debug_keys`] asks for.
    fn debug_key(&self, hypervisor: &Hypervisor<Self>, key: u8) {
        let _ = (hypervisor, key);
    }

    /// Ends the machine's work. Returns only if the machine refuses, with why.
    fn machine_off(&self, end: MachineEnd) -> Errno;
}
