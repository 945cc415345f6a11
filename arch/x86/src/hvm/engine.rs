//! What runs a vCPU of an HVM guest: the CPU's virtualization, of which nothing else here knows the form.

use hal_cpu::GuestRegs;
use types::{Mfn, Result};
use x86_defs::control::Vector;
use x86_defs::svm::{Event, EventKind};
use x86_emulate::hvm::{CodeSize, DescriptorTable, Segment, TaskSwitch};

/// An access to memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attempt {
    /// Guest-physical address.
    pub gpa: u64,
    /// Whether it was a write.
    pub write: bool,
    /// Whether it was for an instruction.
    pub fetch: bool,
    /// Whether the address is what the access was to, not that of a page table on the way.
    pub is_final: bool,
}

/// Why a guest left. Instructions are not carried out yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// A machine interrupt of this number.
    Interrupt(u8),
    /// A machine NMI, which is handled.
    Nmi,
    /// For nothing that concerns the guest.
    Nothing,
    /// The CPU does not run a guest in this state.
    Refused,
    /// An interrupt can be taken now, as was asked for.
    Window,
    /// HLT.
    Halt,
    /// PAUSE again and again.
    Spin,
    /// CPUID.
    Cpuid,
    /// VMMCALL.
    Hypercall,
    /// RDMSR.
    ReadMsr,
    /// WRMSR.
    WriteMsr,
    /// XSETBV.
    SetXcr,
    /// WBINVD, INVD.
    Caches,
    /// An instruction that is to be emulated: of a control or a debug register, or a string instruction of a port.
    Instruction,
    /// IN or OUT, to which the guest has the right.
    Port {
        /// The port.
        number: u16,
        /// Bytes: 1, 2 or 4.
        size: u8,
        /// Whether it is IN.
        is_input: bool,
        /// rip behind the instruction.
        next: u64,
    },
    /// An instruction that guests do not have.
    Undefined,
    /// An instruction that guests must not execute.
    Forbidden,
    /// An exception that is the guest's own, but had to be looked at.
    Exception {
        /// Its number.
        vector: u8,
        /// Its error code, where it has one.
        error_code: Option<u32>,
    },
    /// The machine has failed.
    MachineCheck,
    /// An access that the second-stage table does not allow.
    Memory(Attempt),
    /// A hardware task switch, of which [`Engine::task_switch`] tells. The event that led to it is not injected again.
    TaskSwitch,
    /// A triple fault.
    Shutdown,
    /// Something else, with the CPU's number for it.
    Unknown(u64),
}

/// What a vCPU is to be given when it is entered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Injection {
    /// An interrupt.
    Interrupt(u8),
    /// A non-maskable interrupt.
    Nmi,
    /// An exception, with its error code where it has one.
    Exception(u8, Option<u32>),
}

impl Injection {
    /// As AMD's CPUs (APM vol. 2, 15.20) and Xen's save records (`pending_event` in hvm/save.h) have it.
    pub fn event(self) -> Event {
        match self {
            Injection::Interrupt(vector) => Event::interrupt(vector),
            Injection::Nmi => Event::nmi(),
            Injection::Exception(vector, error_code) => Event::exception(vector, error_code),
        }
    }

    /// Back from there; `None` for no event, and for an instruction's (INT3, INTO, INTn), which comes again by itself.
    pub fn of(event: Event) -> Option<Injection> {
        let vector = event.vector();
        match event.kind()? {
            _ if !event.is_valid() => None,
            EventKind::Interrupt => Some(Injection::Interrupt(vector)),
            EventKind::Nmi => Some(Injection::Nmi),
            EventKind::Exception if !matches!(vector, Vector::BREAKPOINT | Vector::OVERFLOW) => {
                Some(Injection::Exception(vector, event.error_code()))
            }
            EventKind::Exception | EventKind::Software => None,
        }
    }
}

/// Registers that decide how addresses are translated and code is executed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs, reason = "the names are the registers' names")]
pub struct Control {
    pub cr0: u64,
    pub cr2: u64,
    pub cr3: u64,
    pub cr4: u64,
    pub efer: u64,
}

/// Registers beside the general ones, which switch with the guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs, reason = "the names are the registers' names")]
pub struct System {
    pub control: Control,
    /// ES, CS, SS, DS, FS, GS.
    pub segments: [Segment; 6],
    pub ldtr: Segment,
    pub tr: Segment,
    pub gdtr: DescriptorTable,
    pub idtr: DescriptorTable,
    /// Current privilege level.
    pub level: u8,
    pub dr6: u64,
    pub dr7: u64,
    pub star: u64,
    pub lstar: u64,
    pub cstar: u64,
    pub fmask: u64,
    pub kernel_gs_base: u64,
    pub sysenter_cs: u64,
    pub sysenter_esp: u64,
    pub sysenter_eip: u64,
    pub pat: u64,
}

/// Registers that say what code runs, and where it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Code {
    /// How its addresses are translated.
    pub control: Control,
    /// CS.
    pub segment: Segment,
    /// Current privilege level.
    pub level: u8,
}

impl Code {
    /// The size of the code.
    #[inline]
    pub fn size(&self) -> CodeSize {
        CodeSize::of(self.control.efer, &self.segment)
    }
}

/// The CPU's virtualization of one vCPU.
pub trait Engine: Send {
    /// Enters the guest until it leaves. An event whose delivery the exit has interrupted is injected again, unless another
    /// takes its place, or the exit is about its delivery.
    fn enter(&mut self, regs: &mut GuestRegs) -> Exit;
    /// Where its second-stage table is.
    ///
    /// # Errors
    /// `EPERM` for a frame that is not lendable.
    fn set_root(&mut self, root: Mfn) -> Result<()>;
    /// Drops all translations that any CPU has of the guest's addresses, before it runs again.
    fn flush(&mut self);
    /// Drops those of one linear address.
    fn flush_page(&mut self, linear: u64);
    /// The task switch that the guest has just left for. It is rare, and larger than all that other exits tell.
    fn task_switch(&self) -> TaskSwitch;
    /// rip behind the instruction that the guest left by, if the CPU tells.
    fn next_rip(&self) -> Option<u64>;

    /// The registers of [`Code`] alone.
    fn code(&self) -> Code;
    /// The current privilege level alone.
    fn level(&self) -> u8;
    /// The registers of [`System::control`] alone.
    fn control(&self) -> Control;
    /// Sets them. Translations that they make void are dropped.
    fn set_control(&mut self, control: &Control);
    /// All registers.
    fn system(&self) -> System;
    /// Sets them all.
    fn set_system(&mut self, system: &System);

    /// The event that the next entry delivers, unless it is an instruction's.
    fn injection(&self) -> Option<Injection>;
    /// Whether the next entry delivers any event.
    fn has_injection(&self) -> bool;
    /// Has the next entry deliver an event, in place of the one that it was to deliver.
    fn inject(&mut self, event: Injection);
    /// Has the guest leave once it can take an interrupt of this vector; with `None` not any more. `ignores_priority` where CR8
    /// does not hold it back.
    fn await_window(&mut self, vector: Option<u8>, ignores_priority: bool);
    /// Whether no interrupt comes before the next instruction (STI, MOV SS).
    fn is_in_shadow(&self) -> bool;
    /// Sets that.
    fn set_in_shadow(&mut self, on: bool);
    /// Whether an NMI was delivered, and its handler has not come to its IRET: no other is delivered meanwhile.
    fn is_nmi_masked(&self) -> bool;
    /// Sets that.
    fn set_nmi_masked(&mut self, masked: bool);
    /// CR8.
    fn task_priority(&self) -> u8;
    /// Sets CR8.
    fn set_task_priority(&mut self, priority: u8);
}
