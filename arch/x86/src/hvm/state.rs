//! What a vCPU of an HVM guest has.

use super::amd::{Amd, Maps};
use super::engine::{Control, Engine, System};
use super::mtrr::Mtrr;
use crate::vectors::Vectors;
use alloc::boxed::Box;
use arrayvec::ArrayVec;
use domain::TimerSlot;
use evtchn::Info;
use hal_cpu::GuestRegs;
use types::{Result, VcpuId};
use vlapic::{Lapic, Port};
use x86_defs::control::Cr0;
use x86_emulate::hvm::{Replay, Segment, State};

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

/// What others see of a vCPU.
#[derive(Default)]
pub struct Shared {
    /// Its local APIC.
    pub apic: Port,
    /// The timer that wakes it for its local APIC's.
    pub timer: TimerSlot,
}

/// The state of an HVM vCPU that belongs to whoever runs it.
pub struct VcpuState {
    /// General registers, rip and flags.
    pub regs: GuestRegs,
    /// All other registers of the guest that the CPU switches, and the way in.
    pub engine: Box<dyn Engine>,
    /// Vector registers.
    pub vectors: Vectors,
    /// DR0 to DR3.
    pub debug: [u64; 4],
    /// TSC_AUX, which RDTSCP and RDPID show.
    pub tsc_aux: u32,
    /// Its local APIC, without what others reach.
    pub lapic: Lapic,
    /// Memory type range registers.
    pub mtrr: Mtrr,
    /// Where its vcpu_info is; found anew whenever it begins to run.
    pub info: Option<Info<'static>>,
    /// What devices have answered to the instruction that is being emulated.
    pub replay: Replay,
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
            vectors: Vectors::new()?,
            debug: [0; 4],
            tsc_aux: 0,
            // Its port is another's; whoever has both resets it.
            lapic: Lapic::new(id.0 as u8, &Port::new()),
            mtrr: Mtrr::default(),
            info: None,
            replay: Replay::default(),
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
        self.regs = GuestRegs { rip, rflags: FLAGS, rdx: 0x60f, ..GuestRegs::default() };
        self.debug = [0; 4];
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
