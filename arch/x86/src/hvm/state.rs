//! What a vCPU of an HVM guest has.

use super::amd::{Amd, Maps};
use super::engine::{Control, Engine, System};
use super::exits::PortAccess;
use super::mtrr::Mtrr;
use crate::vectors::Vectors;
use alloc::boxed::Box;
use arrayvec::ArrayVec;
use compat::Window;
use core::sync::atomic::{AtomicBool, AtomicU8, Ordering::SeqCst};
use domain::{GivenEvent, TimerSlot};
use evtchn::Info;
use guest_walk::Trail;
use hal_cpu::GuestRegs;
use ioreq::Pending;
use platform::sync::Mutex;
use types::{Errno, Result, VcpuId};
use viridian::Processor;
use vlapic::{Lapic, Port};
use x86_defs::control::Cr0;
use x86_emulate::hvm::{Replay, Segment, State};
use xen_abi::vm_event::VmEventRegsX86;

/// Longest line of a guest's text in the log.
const LINE: usize = 80;
/// PAT after reset (APM vol. 2, 7.8.1).
const RESET_PAT: u64 = 0x0007_0406_0007_0406;
/// DR6 and DR7 after reset.
const RESET_DR6: u64 = 0xffff_0ff0;
const RESET_DR7: u64 = 0x400;
/// Attributes of segments: code, data, local descriptor table, busy task state.
const CODE: u16 = 0x9b;
const DATA: u16 = 0x93;
const LDT: u16 = 0x82;
const BUSY_TASK: u16 = 0x8b;

/// An event that a vCPU is to take when it is next entered.
#[derive(Default)]
pub struct Given {
    event: Mutex<Option<GivenEvent>>,
    /// Whether there is one: asked at each entry.
    is_there: AtomicBool,
}

impl Given {
    /// Puts it there.
    ///
    /// # Errors
    /// `EBUSY`: another one is there.
    pub fn put(&self, event: GivenEvent) -> Result<()> {
        let mut place = self.event.lock();
        if place.is_some() {
            return Err(Errno::BUSY);
        }
        *place = Some(event);
        self.is_there.store(true, SeqCst);
        Ok(())
    }

    /// Takes it.
    #[inline]
    pub fn take(&self) -> Option<GivenEvent> {
        if !self.is_there.load(SeqCst) {
            return None;
        }
        let mut place = self.event.lock();
        self.is_there.store(false, SeqCst);
        place.take()
    }
}

/// What others see of a vCPU.
#[derive(Default)]
pub struct Shared {
    /// Its local APIC.
    pub apic: Port,
    /// The timer that wakes it for its local APIC's.
    pub timer: TimerSlot,
    /// What a device emulator wants it to take.
    pub given: Given,
    /// Registers that its domain's watcher wants it to go on with; only while it waits for that.
    pub answer: Mutex<Option<VmEventRegsX86>>,
    /// The vector by which its local APIC tells it of events; 0 if it hears of them as its domain does.
    upcall_vector: AtomicU8,
}

impl Shared {
    /// Has its local APIC tell it of events from now on, and once in any event (HVMOP_set_evtchn_upcall_vector).
    pub fn set_upcall_vector(&self, vector: u8) {
        self.upcall_vector.store(vector, SeqCst);
        self.raise_upcall();
    }

    /// Whether its local APIC tells it of events.
    #[inline]
    pub fn has_upcall_vector(&self) -> bool {
        self.upcall_vector.load(SeqCst) != 0
    }

    /// An event is pending, and none was before. The request waits for an APIC that is off: there is no other edge until the guest
    /// has heard of this one.
    #[inline]
    pub fn raise_upcall(&self) {
        let vector = self.upcall_vector.load(SeqCst);
        if vector != 0 {
            self.apic.post(vector, false);
        }
    }
}

/// The state of an HVM vCPU that belongs to whoever runs it.
pub struct VcpuState {
    /// General registers, rip and flags.
    pub regs: GuestRegs,
    /// All other registers of the guest that the CPU switches, and the way in.
    pub engine: Box<dyn Engine>,
    /// Whether the engine may have been told to have the guest leave once it can take an interrupt.
    pub awaits_window: bool,
    /// Vector registers.
    pub vectors: Vectors,
    /// DR0 to DR3.
    pub debug: [u64; 4],
    /// TSC_AUX, which RDTSCP and RDPID show.
    pub tsc_aux: u32,
    /// Whether its kernel wants CPUID to fault elsewhere (MSR 0x140).
    pub faults_cpuid: bool,
    /// Whether it wants speculative stores to be held back (MSR 0xc001011f).
    pub holds_back_stores: bool,
    /// Its local APIC, without what others reach.
    pub lapic: Lapic,
    /// Memory type range registers.
    pub mtrr: Mtrr,
    /// What it has if its guest knows Hyper-V.
    pub viridian: Processor,
    /// Where its vcpu_info is; found anew whenever it begins to run.
    pub info: Option<Info<'static>>,
    /// What devices have answered to the instruction that is being emulated.
    pub replay: Replay,
    /// What a device emulator was asked and has not answered.
    pub pending: Option<Pending>,
    /// Whether it may wait for its domain's watcher.
    pub is_watched: bool,
    /// The access to a port for which that was: its instruction need not be found again.
    pub port: Option<PortAccess>,
    /// The way to the page that code was last fetched from.
    pub trail: Trail,
    /// Where arguments of 32-bit code are laid out anew.
    pub window: Option<Box<Window>>,
    /// Text for the hypervisor's log, of which the end of the line has not come.
    pub line: ArrayVec<u8, LINE>,
    /// Count of the domain's flushes when it last ran.
    pub flushes: u32,
}

impl VcpuState {
    /// A vCPU after reset.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(id: VcpuId, maps: &Maps) -> Result<VcpuState> {
        let mut state = VcpuState {
            regs: GuestRegs::default(),
            engine: Box::new(Amd::new(maps)?),
            awaits_window: false,
            vectors: Vectors::new()?,
            debug: [0; 4],
            tsc_aux: 0,
            faults_cpuid: false,
            holds_back_stores: false,
            // Its port is another's; whoever has both resets it.
            lapic: Lapic::new(id.0 as u8, &Port::new()),
            mtrr: Mtrr::default(),
            viridian: Processor::new(id.0),
            info: None,
            replay: Replay::default(),
            pending: None,
            is_watched: false,
            port: None,
            trail: Trail::default(),
            window: Some(Box::new(Window::new())),
            line: ArrayVec::new(),
            flushes: 0,
        };
        state.reset(0xf000, 0xffff_0000, 0xfff0);
        Ok(state)
    }

    /// Registers as after INIT (APM vol. 2, table 14-1), with code at a place in real mode.
    pub fn reset(&mut self, selector: u16, base: u64, rip: u64) {
        const FLAGS: u64 = 2;
        let real = |selector, attributes, base| Segment { selector, attributes, limit: 0xffff, base };
        let data = real(0, DATA, 0);
        let system = System {
            control: Control { cr0: Cr0::ET.bits(), ..Control::default() },
            segments: [data, real(selector, CODE, base), data, data, data, data],
            ldtr: real(0, LDT, 0),
            tr: real(0, BUSY_TASK, 0),
            dr6: RESET_DR6,
            dr7: RESET_DR7,
            pat: RESET_PAT,
            ..System::default()
        };
        self.engine.set_system(&system);
        self.engine.set_nmi_masked(false);
        self.replace_regs(GuestRegs { rip, rflags: FLAGS, rdx: 0x60f, ..GuestRegs::default() });
        self.debug = [0; 4];
    }

    /// Has the guest leave once it can take an interrupt ([`Engine::await_window`]).
    #[inline]
    pub fn await_window(&mut self, vector: Option<u8>, ignores_priority: bool) {
        if vector.is_some() || self.awaits_window {
            self.awaits_window = vector.is_some();
            self.engine.await_window(vector, ignores_priority);
        }
    }

    /// Puts the vCPU where these registers are. No instruction waits for a device any more; the request that one has made keeps its
    /// place until the emulator answers, since that may be at work on it.
    pub fn replace_regs(&mut self, regs: GuestRegs) {
        self.regs = regs;
        self.replay.forget();
        self.port = None;
    }

    /// The registers as an instruction sees them.
    pub fn emulated(&self) -> State {
        let (regs, system) = (&self.regs, self.engine.system());
        State {
            general: [
                regs.rax, regs.rcx, regs.rdx, regs.rbx, regs.rsp, regs.rbp, regs.rsi, regs.rdi, regs.r8, regs.r9,
                regs.r10, regs.r11, regs.r12, regs.r13, regs.r14, regs.r15,
            ],
            rip: regs.rip,
            flags: regs.rflags,
            segments: system.segments,
            level: system.level,
            cr0: system.control.cr0,
            cr4: system.control.cr4,
            efer: system.control.efer,
        }
    }

    /// Takes over the registers that an emulated instruction may change.
    pub fn take(&mut self, from: &State) {
        let regs = &mut self.regs;
        [regs.rax, regs.rcx, regs.rdx, regs.rbx, regs.rsp, regs.rbp, regs.rsi, regs.rdi] =
            from.general.first_chunk().copied().unwrap_or_default();
        [regs.r8, regs.r9, regs.r10, regs.r11, regs.r12, regs.r13, regs.r14, regs.r15] =
            from.general.last_chunk().copied().unwrap_or_default();
        (regs.rip, regs.rflags) = (from.rip, from.flags);
    }
}
