//! VCPUOP_initialise of HVM guests: the registers with which a vCPU begins that no start-up message has started (hvm/hvm_vcpu.h).

use super::VcpuState;
use super::control::{cr4_bits, efer_bits};
use super::engine::Control;
use crate::machine::X86;
use core::sync::atomic::Ordering::SeqCst;
use cpu_policy::FeatureSet;
use domain::{Domain, Vcpu};
use hal_cpu::GuestRegs;
use platform::GuestMemory;
use types::{Errno, Result};
use x86_defs::control::{Cr0, Cr4, Efer, RFlags, is_canonical};
use x86_emulate::hvm::Segment;
use xen_abi::hvm_vcpu::*;
use zerocopy::{FromZeros, IntoBytes};

/// Fields of a segment's attributes: its type, whether it is no system segment, its privilege level, whether it is there, how
/// its limit counts; and what has to be 0.
const TYPE: u16 = 0xf;
const CODE: u16 = 8;
/// Data can be written, code read.
const OPEN: u16 = 2;
const ACCESSED: u16 = 1;
const BUSY: u16 = 2;
const ORDINARY: u16 = 1 << 4;
const LEVEL: u16 = 3 << 5;
const PRESENT: u16 = 1 << 7;
const PAGES: u16 = 1 << 11;
const RESERVED: u16 = 0xf000;
/// Type of a task-state segment of 32-bit code that is in use.
const BUSY_TASK: u16 = 11;
/// 64-bit mode's segments: code, data, task state.
const WIDE_CODE: Segment = Segment { selector: 0, attributes: 0xa9b, limit: !0, base: 0 };
const WIDE_DATA: Segment = Segment { selector: 0, attributes: 0xc93, limit: !0, base: 0 };
const WIDE_TASK: Segment = Segment { selector: 0, attributes: 0x8b, limit: 0x67, base: 0 };

/// Registers that a guest has chosen, checked.
struct Given {
    regs: GuestRegs,
    control: Control,
    code: Segment,
    stack: Segment,
    data: Segment,
    extra: Segment,
    task: Segment,
}

/// Gives a vCPU that has none the registers at the guest's address `context`.
///
/// # Errors
/// `EFAULT`; `EINVAL` for values that a guest must not have; `EEXIST` if it has registers.
pub fn initialise(machine: &X86, domain: &Domain<X86>, vcpu: &Vcpu<X86>, context: u64) -> Result<()> {
    let mut given = VcpuHvmContext::new_zeroed();
    machine.copy_in(context, given.as_mut_bytes())?;
    // Who holds it runs it, or gives it registers.
    let mut state = vcpu.state.try_lock().ok_or(Errno::EXIST)?;
    if vcpu.initialised.load(SeqCst) {
        return Err(Errno::EXIST);
    }
    let features = FeatureSet::of(&domain.arch.policy.read());
    let given = check(&given, &features).map_err(|why| {
        log::debug!("{}v{}: VCPUOP_initialise: {why}", domain.id, vcpu.id.0);
        Errno::INVAL
    })?;
    given.apply(state.hvm()?);
    vcpu.initialised.store(true, SeqCst);
    Ok(())
}

impl Given {
    fn apply(&self, state: &mut VcpuState) {
        let mut system = state.engine.system();
        let [_, _, _, _, fs, gs] = system.segments;
        system.segments = [self.extra, self.code, self.stack, self.data, fs, gs];
        (system.tr, system.control) = (self.task, self.control);
        system.level = level(self.stack) as u8;
        state.engine.set_system(&system);
        state.replace_regs(self.regs);
    }
}

/// What is wrong with registers.
type Checked<T> = core::result::Result<T, &'static str>;

fn check(context: &VcpuHvmContext, features: &FeatureSet) -> Checked<Given> {
    let mut given = match (context.mode, context.pad) {
        (VCPU_HVM_MODE_32B, 0) => narrow(&context.cpu_regs.read())?,
        (VCPU_HVM_MODE_64B, 0) => wide(&context.cpu_regs.read())?,
        _ => return Err("mode"),
    };
    let control = &mut given.control;
    if control.cr4 & !cr4_bits(features) != 0 {
        return Err("CR4");
    }
    if control.efer & !efer_bits(features) != 0 {
        return Err("EFER");
    }
    let is_long = control.efer & Efer::LME.bits() != 0 && control.cr0 & Cr0::PG.bits() != 0;
    control.efer = control.efer & !Efer::LMA.bits() | if is_long { Efer::LMA.bits() } else { 0 };
    control.cr0 |= Cr0::ET.bits();
    given.regs.rflags = RFlags::loaded(given.regs.rflags);
    Ok(given)
}

fn wide(from: &VcpuHvm64) -> Checked<Given> {
    if !is_canonical(from.rip) {
        return Err("RIP is no address");
    }
    if from.cr0 & Cr0::PG.bits() == 0 || from.cr4 & Cr4::PAE.bits() == 0 || from.efer & Efer::LME.bits() == 0 {
        return Err("no paging, PAE or long mode");
    }
    let regs = GuestRegs {
        rax: from.rax,
        rcx: from.rcx,
        rdx: from.rdx,
        rbx: from.rbx,
        rsp: from.rsp,
        rbp: from.rbp,
        rsi: from.rsi,
        rdi: from.rdi,
        rip: from.rip,
        rflags: from.rflags,
        ..GuestRegs::default()
    };
    let control = Control { cr0: from.cr0, cr2: 0, cr3: from.cr3, cr4: from.cr4, efer: from.efer };
    let (code, data, task) = (WIDE_CODE, WIDE_DATA, WIDE_TASK);
    Ok(Given { regs, control, code, stack: data, data, extra: data, task })
}

fn narrow(from: &VcpuHvm32) -> Checked<Given> {
    if (from.pad1, from.pad2) != (0, [0; 3]) {
        return Err("padding");
    }
    let code = segment(from.cs_base, from.cs_limit, from.cs_ar, is_code)?;
    let stack = segment(from.ss_base, from.ss_limit, from.ss_ar, is_stack)?;
    let data = data_segment(from.ds_base, from.ds_limit, from.ds_ar)?;
    let extra = data_segment(from.es_base, from.es_limit, from.es_ar)?;
    let task = task_segment(from.tr_base, from.tr_limit, from.tr_ar)?;
    let limit = if code.attributes & PAGES != 0 { code.limit << 12 | 0xfff } else { code.limit };
    if from.eip > limit {
        return Err("EIP is beyond its segment");
    }
    let is_above = |segment: Segment| segment.attributes & PRESENT != 0 && level(segment) > level(code);
    if level(stack) != level(code) || is_above(data) || is_above(extra) {
        return Err("levels of segments");
    }
    if from.efer & Efer::LMA.bits() != 0 && from.efer & Efer::LME.bits() == 0 {
        return Err("long mode is active but not enabled");
    }
    let regs = GuestRegs {
        rax: from.eax.into(),
        rcx: from.ecx.into(),
        rdx: from.edx.into(),
        rbx: from.ebx.into(),
        rsp: from.esp.into(),
        rbp: from.ebp.into(),
        rsi: from.esi.into(),
        rdi: from.edi.into(),
        rip: from.eip.into(),
        rflags: from.eflags.into(),
        ..GuestRegs::default()
    };
    let control = Control { cr0: from.cr0.into(), cr2: 0, cr3: from.cr3.into(), cr4: from.cr4.into(), efer: from.efer };
    Ok(Given { regs, control, code, stack, data, extra, task })
}

fn level(segment: Segment) -> u16 {
    (segment.attributes & LEVEL) >> 5
}

fn is_code(ty: u16) -> bool {
    ty & CODE != 0
}

fn is_stack(ty: u16) -> bool {
    ty & (CODE | OPEN) == OPEN
}

fn is_readable(ty: u16) -> bool {
    ty & CODE == 0 || ty & OPEN != 0
}

/// A segment of code or data, marked as accessed.
fn segment(base: u32, limit: u32, attributes: u16, is_good: fn(u16) -> bool) -> Checked<Segment> {
    if attributes & RESERVED != 0 || attributes & (ORDINARY | PRESENT) != ORDINARY | PRESENT || !is_good(attributes) {
        return Err("attributes of a segment");
    }
    Ok(Segment { selector: 0, attributes: attributes | ACCESSED, limit, base: base.into() })
}

/// One of DS and ES, which may be none.
fn data_segment(base: u32, limit: u32, attributes: u16) -> Checked<Segment> {
    if attributes == 0 {
        return Ok(Segment { selector: 0, attributes, limit, base: base.into() });
    }
    segment(base, limit, attributes, is_readable)
}

fn task_segment(base: u32, limit: u32, attributes: u16) -> Checked<Segment> {
    let attributes = attributes | BUSY;
    if attributes & (RESERVED | ORDINARY | PRESENT) != PRESENT || attributes & TYPE != BUSY_TASK {
        return Err("attributes of the task-state segment");
    }
    Ok(Segment { selector: 0, attributes, limit, base: base.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> FeatureSet {
        FeatureSet::known()
    }

    /// Flat 32-bit segments without paging.
    fn flat() -> VcpuHvm32 {
        let mut regs = VcpuHvm32::new_zeroed();
        (regs.eip, regs.esp, regs.cr0, regs.eflags) = (0x10_0000, 0x8000, 1, 0xffff_ffff);
        (regs.cs_limit, regs.ds_limit, regs.ss_limit, regs.es_limit, regs.tr_limit) = (!0, !0, !0, !0, 0x67);
        (regs.cs_ar, regs.ds_ar, regs.ss_ar, regs.es_ar, regs.tr_ar) = (0xc9a, 0xc92, 0xc92, 0, 0x89);
        regs
    }

    fn long() -> VcpuHvm64 {
        let mut regs = VcpuHvm64::new_zeroed();
        (regs.cr0, regs.cr4, regs.efer, regs.rip) = (0x8000_0001, 0x20, 0x100, 0xffff_8000_0000_0000);
        regs
    }

    fn of<T: IntoBytes + zerocopy::Immutable>(mode: u32, regs: &T) -> VcpuHvmContext {
        let mut context = VcpuHvmContext::new_zeroed();
        context.mode = mode;
        context.cpu_regs.write(regs);
        context
    }

    fn refused(change: impl FnOnce(&mut VcpuHvm32)) -> &'static str {
        let mut regs = flat();
        change(&mut regs);
        check(&of(VCPU_HVM_MODE_32B, &regs), &all()).err().unwrap_or("nothing")
    }

    #[test]
    fn a_flat_vcpu_begins() {
        let given = check(&of(VCPU_HVM_MODE_32B, &flat()), &all()).unwrap();
        assert_eq!((given.code.attributes, given.task.attributes, given.extra.attributes), (0xc9b, 0x8b, 0));
        assert_eq!((given.regs.rip, given.regs.rsp, given.regs.rflags), (0x10_0000, 0x8000, 0x3f_7fd7));
        assert_eq!((given.control.cr0, given.control.efer), (0x11, 0));
    }

    #[test]
    fn a_vcpu_begins_in_long_mode() {
        let given = check(&of(VCPU_HVM_MODE_64B, &long()), &all()).unwrap();
        assert_eq!((given.control.efer, given.code.attributes, given.regs.rip), (0x500, 0xa9b, 0xffff_8000_0000_0000));
        let bad = VcpuHvm64 { rip: 1 << 47, ..long() };
        assert!(check(&of(VCPU_HVM_MODE_64B, &bad), &all()).is_err());
        for bad in [VcpuHvm64 { cr0: 1, ..long() }, VcpuHvm64 { cr4: 0, ..long() }, VcpuHvm64 { efer: 0, ..long() }] {
            assert!(check(&of(VCPU_HVM_MODE_64B, &bad), &all()).is_err());
        }
        assert!(check(&of(VCPU_HVM_MODE_64B, &long()), &FeatureSet::EMPTY).is_err());
    }

    #[test]
    fn what_is_no_segment_is_refused() {
        const BAD: &str = "attributes of a segment";
        assert_eq!(refused(|regs| regs.cs_ar = 0xc92), BAD);
        assert_eq!(refused(|regs| regs.cs_ar = 0), BAD);
        assert_eq!(refused(|regs| regs.cs_ar |= 0x1000), BAD);
        assert_eq!(refused(|regs| regs.ss_ar = 0xc90), BAD);
        assert_eq!(refused(|regs| regs.ss_ar = 0xc12), BAD);
        assert_eq!(refused(|regs| regs.ds_ar = 0xc98), BAD);
        assert_eq!(refused(|regs| regs.ds_ar = 0xc9a), "nothing");
        assert_eq!(refused(|regs| regs.es_ar = 0x82), BAD);
        assert_eq!(refused(|regs| regs.tr_ar = 0x82), "attributes of the task-state segment");
        assert_eq!(refused(|regs| regs.tr_ar = 0x99), "attributes of the task-state segment");
    }

    #[test]
    fn segments_have_to_agree() {
        assert_eq!(refused(|regs| regs.ss_ar |= LEVEL), "levels of segments");
        assert_eq!(refused(|regs| regs.ds_ar |= LEVEL), "levels of segments");
        assert_eq!(refused(|regs| (regs.cs_ar, regs.cs_limit) = (0x49a, 0xf_ffff)), "EIP is beyond its segment");
        assert_eq!(refused(|regs| (regs.cs_ar, regs.cs_limit) = (0xc9a, 0x100)), "nothing");
    }

    #[test]
    fn registers_have_bounds() {
        assert_eq!(refused(|regs| regs.pad1 = 1), "padding");
        assert_eq!(refused(|regs| regs.pad2[2] = 1), "padding");
        assert_eq!(refused(|regs| regs.efer = Efer::LMA.bits()), "long mode is active but not enabled");
        assert_eq!(refused(|regs| regs.efer = Efer::SVME.bits()), "EFER");
        assert_eq!(refused(|regs| regs.cr4 = 1 << 13), "CR4");
        assert!(check(&of(2, &flat()), &all()).is_err());
        assert!(check(&VcpuHvmContext { pad: 1, ..of(0, &flat()) }, &all()).is_err());
    }
}
