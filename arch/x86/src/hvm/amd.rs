//! AMD-V as an [`Engine`].

use super::engine::{Attempt, Code, Control, Engine, Exit, Injection, System};
use alloc::sync::Arc;
use hal_cpu::GuestRegs;
use hal_cpu::svm::{self, HvmExit, MsrMap, PortMap, Vmcb, enter_hvm};
use types::{Mfn, Result};
use x86_defs::control::{Efer, Vector};
use x86_defs::msr;
use x86_defs::svm::{
    Attributes, Event, EventKind, ExitCode, Features, IoAccess, Misc1, NestedFault, SaveArea, TaskSwitch,
};
use x86_emulate::hvm::{self, Cause, CodeSize, Delivered, DescriptorTable, Segment};

/// MSRs that a guest reaches itself: they are the guest's own while it runs.
const OWN_MSRS: [u32; 10] = [
    msr::SYSENTER_CS,
    msr::SYSENTER_ESP,
    msr::SYSENTER_EIP,
    msr::STAR,
    msr::LSTAR,
    msr::CSTAR,
    msr::FMASK,
    msr::FS_BASE,
    msr::GS_BASE,
    msr::KERNEL_GS_BASE,
];

/// Ports that mainboards show or drop, and that kernels write to for the time it takes: Xen too lets guests reach them, since an exit
/// is a delay many times as long.
const DELAY_PORTS: [u16; 2] = [0x80, 0xed];

/// What the vCPUs of a domain share.
pub struct Maps {
    msrs: Arc<MsrMap>,
    ports: Arc<PortMap>,
}

impl Maps {
    /// A guest's usual rights: MSRs of its own, and [`DELAY_PORTS`].
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new() -> Result<Maps> {
        let (msrs, ports) = (MsrMap::new()?, PortMap::new()?);
        for number in OWN_MSRS {
            msrs.intercept(number, false, false)?;
        }
        // Nothing is added to the machine's counter.
        msrs.intercept(msr::TSC, false, true)?;
        DELAY_PORTS.into_iter().for_each(|port| ports.intercept(port..=port, false));
        Ok(Maps { msrs: Arc::new(msrs), ports: Arc::new(ports) })
    }
}

/// A vCPU by AMD-V.
pub struct Amd {
    vmcb: Vmcb,
}

/// Pauses after which a vCPU is taken to wait for one that does not run, and ticks that may lie between two of them. A spinlock that
/// is free soon is not worth an exit: the figures that Xen has.
const PAUSES: (u16, u16) = (4000, 1000);

impl Amd {
    /// A vCPU that has no second-stage table yet.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(maps: &Maps) -> Result<Amd> {
        let mut vmcb = Vmcb::new(maps.msrs.clone(), maps.ports.clone())?;
        if svm::current().is_some_and(|svm| svm.features().contains(Features::PAUSE_FILTER)) {
            let (count, threshold) = PAUSES;
            vmcb.set_pause_filter(count, threshold);
            let mut intercepts = vmcb.intercepts();
            intercepts.misc1.insert(Misc1::PAUSE);
            vmcb.set_intercepts(intercepts);
        }
        Ok(Amd { vmcb })
    }

    /// What the exit is, by AMD's number.
    fn sort(&mut self, code: ExitCode) -> Exit {
        let (info1, info2) = self.vmcb.exit_info();
        match code {
            ExitCode::VINTR => {
                self.vmcb.cancel_window();
                Exit::Window
            }
            ExitCode::IRET => {
                // The instruction is still to come, and with it what was masked.
                self.set_nmi_masked(false);
                self.vmcb.set_in_shadow(true);
                Exit::Nothing
            }
            ExitCode::HLT => Exit::Halt,
            ExitCode::PAUSE => Exit::Spin,
            ExitCode::CPUID => Exit::Cpuid,
            ExitCode::VMMCALL => Exit::Hypercall,
            ExitCode::MSR if info1 & 1 == 0 => Exit::ReadMsr,
            ExitCode::MSR => Exit::WriteMsr,
            ExitCode::XSETBV => Exit::SetXcr,
            ExitCode::WBINVD | ExitCode::INVD => Exit::Caches,
            ExitCode::IO => self.port(IoAccess(info1), info2),
            ExitCode::NESTED_FAULT => {
                let fault = NestedFault::from_bits_retain(info1);
                let (write, fetch) = (fault.contains(NestedFault::WRITE), fault.contains(NestedFault::FETCH));
                let is_final = fault.contains(NestedFault::FINAL);
                Exit::Memory(Attempt { gpa: info2, write, fetch, is_final })
            }
            ExitCode::TASK_SWITCH => Exit::TaskSwitch,
            ExitCode::SHUTDOWN => Exit::Shutdown,
            ExitCode::RDPMC => Exit::Forbidden,
            ExitCode::FERR_FREEZE => Exit::Nothing,
            ExitCode::VMRUN
            | ExitCode::VMLOAD
            | ExitCode::VMSAVE
            | ExitCode::STGI
            | ExitCode::CLGI
            | ExitCode::SKINIT
            | ExitCode::INVLPGA
            | ExitCode::INVLPGB
            | ExitCode::INVLPGB_ILLEGAL
            | ExitCode::TLBSYNC
            | ExitCode::MONITOR
            | ExitCode::MWAIT
            | ExitCode::RDPRU
            | ExitCode::MCOMMIT => Exit::Undefined,
            ExitCode::ICEBP => Exit::Exception { vector: Vector::DEBUG, error_code: None },
            code if code.dr_read().is_some() || code.dr_write().is_some() => Exit::Instruction,
            code if code.cr_write() == Some(8) => Exit::Instruction,
            code => match code.exception() {
                Some(Vector::MACHINE_CHECK) => Exit::MachineCheck,
                Some(vector) => {
                    Exit::Exception { vector, error_code: Vector::has_error_code(vector).then_some(info1 as u32) }
                }
                None => Exit::Unknown(code.0),
            },
        }
    }

    /// An access to a port: the CPU has checked that the guest may make it (APM vol. 2, 15.10.2).
    fn port(&self, access: IoAccess, next: u64) -> Exit {
        if access.is_string() || !matches!(access.size(), 1 | 2 | 4) {
            return Exit::Instruction;
        }
        // Emulators were seen not to let a narrow pointer wrap around.
        let save = self.vmcb.state();
        let next = CodeSize::of(save.efer, &segment(&save.cs)).behind(next, 0);
        Exit::Port { number: access.port(), size: access.size(), is_input: access.is_in(), next }
    }

    /// Has an event delivered anew whose delivery the exit has interrupted. An instruction that raises one is simply executed again.
    fn repeat_interrupted(&mut self) {
        let Some(event) = self.vmcb.interrupted_event() else { return };
        if !matches!(delivered(event), Delivered::Software(_)) {
            self.vmcb.inject(event);
        }
    }
}

/// What kind of event it is (APM vol. 2, 15.7.2). INT3 and INTO count as exceptions there.
fn delivered(event: Event) -> Delivered {
    match (event.kind(), event.vector()) {
        (Some(EventKind::Interrupt | EventKind::Nmi), _) => Delivered::Interrupt,
        (Some(EventKind::Exception), vector) if !matches!(vector, Vector::BREAKPOINT | Vector::OVERFLOW) => {
            Delivered::Exception(vector)
        }
        (_, vector) => Delivered::Software(vector),
    }
}

/// The task switch of an exit (15.14.1), at which an event was being delivered or not.
fn task_switch(info1: u64, info2: TaskSwitch, event: Option<Event>) -> hvm::TaskSwitch {
    let cause = if info2.by_iret() {
        Cause::Iret
    } else if info2.by_jump() {
        Cause::Jump
    } else {
        event.map_or(Cause::Call, |event| Cause::Event(delivered(event)))
    };
    let (error_code, resume_flag) = (info2.error_code(), info2.resume_flag());
    hvm::TaskSwitch { selector: info1 as u16, cause, error_code, resume_flag }
}

impl Engine for Amd {
    fn enter(&mut self, regs: &mut GuestRegs) -> Exit {
        let Some(svm) = svm::current() else { return Exit::Refused };
        let exit = enter_hvm(svm, &mut self.vmcb, regs);
        if !matches!(exit, HvmExit::Invalid | HvmExit::Guest(ExitCode::TASK_SWITCH)) {
            self.repeat_interrupted();
        }
        match exit {
            HvmExit::Interrupt(vector) => Exit::Interrupt(vector),
            HvmExit::Nmi => Exit::Nmi,
            HvmExit::Nothing => Exit::Nothing,
            HvmExit::Invalid => Exit::Refused,
            HvmExit::Guest(code) => self.sort(code),
        }
    }

    fn set_root(&mut self, root: Mfn) -> Result<()> {
        self.vmcb.set_nested_root(root)
    }

    fn flush(&mut self) {
        self.vmcb.flush_translations();
    }

    fn flush_page(&mut self, linear: u64) {
        self.vmcb.flush_page(linear);
    }

    fn task_switch(&self) -> hvm::TaskSwitch {
        let (info1, info2) = self.vmcb.exit_info();
        task_switch(info1, TaskSwitch(info2), self.vmcb.interrupted_event())
    }

    fn next_rip(&self) -> Option<u64> {
        self.vmcb.next_rip()
    }

    fn code(&self) -> Code {
        let save = self.vmcb.state();
        Code { control: self.control(), segment: segment(&save.cs), level: save.cpl }
    }

    fn level(&self) -> u8 {
        self.vmcb.state().cpl
    }

    fn control(&self) -> Control {
        let save = self.vmcb.state();
        let efer = save.efer & !Efer::SVME.bits();
        Control { cr0: save.cr0, cr2: save.cr2, cr3: save.cr3, cr4: save.cr4, efer }
    }

    fn set_control(&mut self, control: &Control) {
        self.vmcb.set_control_registers(control.cr0, control.cr3, control.cr4, Efer::from_bits_retain(control.efer));
        self.vmcb.set_cr2(control.cr2);
        self.vmcb.flush_translations();
    }

    fn system(&self) -> System {
        let save = self.vmcb.state();
        System {
            control: self.control(),
            segments: [&save.es, &save.cs, &save.ss, &save.ds, &save.fs, &save.gs].map(segment),
            ldtr: segment(&save.ldtr),
            tr: segment(&save.tr),
            gdtr: DescriptorTable { base: save.gdtr.base, limit: save.gdtr.limit as u16 },
            idtr: DescriptorTable { base: save.idtr.base, limit: save.idtr.limit as u16 },
            level: save.cpl,
            dr6: save.dr6,
            dr7: save.dr7,
            star: save.star,
            lstar: save.lstar,
            cstar: save.cstar,
            fmask: save.sfmask,
            kernel_gs_base: save.kernel_gs_base,
            sysenter_cs: save.sysenter_cs,
            sysenter_esp: save.sysenter_esp,
            sysenter_eip: save.sysenter_eip,
            pat: save.g_pat,
        }
    }

    fn set_system(&mut self, system: &System) {
        write(self.vmcb.state_mut(), system);
        self.set_control(&system.control);
    }

    fn injection(&self) -> Option<Injection> {
        Injection::of(self.vmcb.injected()?)
    }

    fn has_injection(&self) -> bool {
        self.vmcb.injected().is_some()
    }

    fn inject(&mut self, event: Injection) {
        if event == Injection::Nmi {
            self.set_nmi_masked(true);
        }
        self.vmcb.inject(event.event());
    }

    fn await_window(&mut self, vector: Option<u8>, ignores_priority: bool) {
        match vector {
            Some(vector) => self.vmcb.request_window(vector >> 4, ignores_priority),
            None => self.vmcb.cancel_window(),
        }
    }

    fn is_in_shadow(&self) -> bool {
        self.vmcb.is_in_shadow()
    }

    fn set_in_shadow(&mut self, on: bool) {
        self.vmcb.set_in_shadow(on);
    }

    fn is_nmi_masked(&self) -> bool {
        self.vmcb.intercepts().misc1.contains(Misc1::IRET)
    }

    fn set_nmi_masked(&mut self, masked: bool) {
        let mut intercepts = self.vmcb.intercepts();
        intercepts.misc1.set(Misc1::IRET, masked);
        self.vmcb.set_intercepts(intercepts);
    }

    fn task_priority(&self) -> u8 {
        self.vmcb.task_priority()
    }

    fn set_task_priority(&mut self, priority: u8) {
        self.vmcb.set_task_priority(priority);
    }
}

fn segment(from: &x86_defs::svm::Segment) -> Segment {
    Segment { selector: from.selector, attributes: from.attributes.0, limit: from.limit, base: from.base }
}

fn hidden(from: &Segment) -> x86_defs::svm::Segment {
    let attributes = Attributes(from.attributes);
    x86_defs::svm::Segment { selector: from.selector, attributes, limit: from.limit, base: from.base }
}

fn table(from: DescriptorTable) -> x86_defs::svm::Segment {
    hidden(&Segment { base: from.base, limit: from.limit.into(), ..Segment::default() })
}

/// All but control registers.
fn write(save: &mut SaveArea, system: &System) {
    let [es, cs, ss, ds, fs, gs] = system.segments.each_ref().map(hidden);
    (save.es, save.cs, save.ss, save.ds, save.fs, save.gs) = (es, cs, ss, ds, fs, gs);
    (save.ldtr, save.tr) = (hidden(&system.ldtr), hidden(&system.tr));
    (save.gdtr, save.idtr) = (table(system.gdtr), table(system.idtr));
    save.cpl = system.level;
    (save.dr6, save.dr7) = (system.dr6, system.dr7);
    (save.star, save.lstar, save.cstar, save.sfmask) = (system.star, system.lstar, system.cstar, system.fmask);
    save.kernel_gs_base = system.kernel_gs_base;
    save.sysenter_cs = system.sysenter_cs;
    (save.sysenter_esp, save.sysenter_eip) = (system.sysenter_esp, system.sysenter_eip);
    save.g_pat = system.pat;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn task_switches_by_what_led_to_them() {
        const IRET: u64 = 1 << 36;
        const JUMP: u64 = 1 << 38;
        let cause = |info, event| task_switch(0x18, TaskSwitch(info), event).cause;
        let fault = Event::exception(Vector::GENERAL_PROTECTION, Some(8));
        assert_eq!([cause(IRET, None), cause(JUMP, None), cause(0, None)], [Cause::Iret, Cause::Jump, Cause::Call]);
        for (event, expected) in [
            (Event::interrupt(0x30), Delivered::Interrupt),
            (Event::nmi(), Delivered::Interrupt),
            (fault, Delivered::Exception(13)),
            (Event::exception(1, None), Delivered::Exception(1)),
            (Event::exception(3, None), Delivered::Software(3)),
            (Event::exception(4, None), Delivered::Software(4)),
            (Event::software(0x80), Delivered::Software(0x80)),
        ] {
            assert_eq!(cause(0, Some(event)), Cause::Event(expected));
        }
        let switch = task_switch(0xffff_0018, TaskSwitch(1 << 48 | 1 << 44 | 8), Some(fault));
        assert_eq!((switch.selector, switch.error_code, switch.resume_flag), (0x18, Some(8), true));
        assert_eq!(task_switch(0, TaskSwitch(8), None).error_code, None);
    }
}
