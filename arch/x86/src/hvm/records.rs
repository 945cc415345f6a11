//! Xen's save records of an HVM guest (hvm/save.h): the toolstack builds and moves guests by them.

use super::VcpuState;
use super::engine::{Control, Injection, System};
use super::mtrr::{FIXED, VARIABLE};
use super::{enlightened, vcpu_records};
use crate::machine::X86;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::SeqCst;
use domain::{Domain, Hypervisor, Vcpu};
use hal_cpu::GuestRegs;
use platform::Clock;
use types::{Errno, Result, VcpuId};
use x86_defs::svm::Event;
use x86_emulate::hvm::{DescriptorTable, Segment};
use xen_abi::hvm_save::clocks::HVM_SAVE_CODE_PMTIMER;
use xen_abi::hvm_save::cpu::*;
use xen_abi::hvm_save::interrupts::*;
use xen_abi::hvm_save::msrs::*;
use xen_abi::hvm_save::viridian::*;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

/// Bits 8 to 15 of a segment's attributes in old records of Intel's CPUs, and where they belong.
const OLD_FLAGS: (u32, u32) = (0xf000, 0x0f00);
/// RFLAGS bit that is always set.
const ALWAYS_SET: u64 = 2;

/// All records of a domain that does not run.
///
/// # Errors
/// `ENOMEM`; `EINVAL` for a PV domain.
pub fn save(hypervisor: &Hypervisor<X86>, domain: &Domain<X86>) -> Result<Vec<u8>> {
    let mut to = Vec::new();
    let header = SaveHeader {
        magic: HVM_FILE_MAGIC,
        version: HVM_FILE_VERSION,
        changeset: !0,
        cpuid: hal_cpu::cpuid(1, 0).eax,
        gtsc_khz: (hal_irq::time::tsc_hz() / 1000) as u32,
    };
    push(&mut to, HVM_SAVE_CODE_HEADER, 0, &header)?;
    for vcpu in domain.vcpus() {
        let (instance, now) = (vcpu.id.0 as u16, hypervisor.machine().system_time());
        let mut state = vcpu.state.lock();
        let state = state.hvm()?;
        if vcpu.initialised.load(SeqCst) {
            push(&mut to, HVM_SAVE_CODE_CPU, instance, &cpu_record(state))?;
        }
        let (hidden, regs) = state.lapic.save(&vcpu.arch.apic, now);
        push(&mut to, HVM_SAVE_CODE_LAPIC, instance, &hidden)?;
        push(&mut to, HVM_SAVE_CODE_LAPIC_REGS, instance, &regs)?;
        push(&mut to, HVM_SAVE_CODE_MTRR, instance, &mtrr_record(state))?;
        save_optional(&mut to, domain, instance, state)?;
    }
    if let Some(record) = enlightened::save_domain(domain) {
        push(&mut to, HVM_SAVE_CODE_VIRIDIAN_DOMAIN, 0, &record)?;
    }
    if let Some(board) = &domain.arch.board {
        let now = hypervisor.machine().system_time();
        board.save(now, |code, instance, record| push_bytes(&mut to, code, instance, record))?;
    }
    push(&mut to, HVM_SAVE_CODE_END, 0, &[0u8; 0])?;
    Ok(to)
}

/// Those records of a vCPU that depend on what its CPU, its policy or its guest has.
fn save_optional(to: &mut Vec<u8>, domain: &Domain<X86>, instance: u16, state: &VcpuState) -> Result<()> {
    if let Some(record) = vcpu_records::vectors(state)? {
        push_bytes(to, CPU_XSAVE_CODE, instance, &record)?;
    }
    if enlightened::is_on(domain) {
        push(to, HVM_SAVE_CODE_VIRIDIAN_VCPU, instance, &state.viridian.save())?;
    }
    push(to, HVM_SAVE_CODE_VMCE_VCPU, instance, &vcpu_records::MACHINE_CHECKS)?;
    push(to, HVM_SAVE_CODE_TSC_ADJUST, instance, &HvmTscAdjust { tsc_adjust: 0 })?;
    match vcpu_records::msrs(state) {
        Some(record) => push_bytes(to, CPU_MSR_CODE, instance, &record),
        None => Ok(()),
    }
}

fn push<T: IntoBytes + Immutable>(to: &mut Vec<u8>, typecode: u16, instance: u16, record: &T) -> Result<()> {
    push_bytes(to, typecode, instance, record.as_bytes())
}

fn push_bytes(to: &mut Vec<u8>, typecode: u16, instance: u16, record: &[u8]) -> Result<()> {
    let descriptor = SaveDescriptor { typecode, instance, length: record.len() as u32 };
    to.try_reserve(size_of::<SaveDescriptor>() + record.len()).map_err(|_| Errno::NOMEM)?;
    to.extend_from_slice(descriptor.as_bytes());
    to.extend_from_slice(record);
    Ok(())
}

/// One of a domain's records, without its descriptor.
///
/// # Errors
/// `EINVAL` for a kind that there is not, `ENOENT` for an instance that there is not.
pub fn find(mut records: &[u8], kind: u32, instance: u32) -> Result<&[u8]> {
    if !(HVM_SAVE_CODE_HEADER.into()..=CPU_MSR_CODE.into()).contains(&kind) {
        return Err(Errno::INVAL);
    }
    while let Ok((descriptor, rest)) = SaveDescriptor::read_from_prefix(records) {
        let (record, rest) = rest.split_at_checked(descriptor.length as usize).ok_or(Errno::NOENT)?;
        if u32::from(descriptor.typecode) == kind && u32::from(descriptor.instance) == instance {
            return Ok(record);
        }
        records = rest;
    }
    Err(Errno::NOENT)
}

/// Takes over all records that are given, of a domain that does not run; a vCPU with registers is brought up.
///
/// # Errors
/// `EINVAL` for records of no use, `EOPNOTSUPP` for devices that are not there.
pub fn load(hypervisor: &Hypervisor<X86>, domain: &Arc<Domain<X86>>, mut from: &[u8]) -> Result<()> {
    for vcpu in domain.vcpus().iter().filter(|vcpu| !vcpu.initialised.load(SeqCst)) {
        // From here on they are to be reached by messages of others.
        vcpu.state.lock().hvm()?.lapic.reset(&vcpu.arch.apic);
    }
    let mut is_first = true;
    loop {
        let (descriptor, rest) = SaveDescriptor::read_from_prefix(from).map_err(|_| Errno::INVAL)?;
        let record = rest.get(..descriptor.length as usize).ok_or(Errno::INVAL)?;
        from = &rest[record.len()..];
        match descriptor.typecode {
            HVM_SAVE_CODE_HEADER if is_first => check_header(&read(record)?)?,
            _ if is_first => return Err(Errno::INVAL),
            HVM_SAVE_CODE_END => return Ok(()),
            code => load_record(hypervisor, domain, code, descriptor.instance, record)?,
        }
        is_first = false;
    }
}

fn check_header(header: &SaveHeader) -> Result<()> {
    if header.magic == HVM_FILE_MAGIC && header.version == HVM_FILE_VERSION { Ok(()) } else { Err(Errno::INVAL) }
}

/// A record; what is missing of a shorter one is zero.
fn read<T: FromBytes + IntoBytes + Immutable>(bytes: &[u8]) -> Result<T> {
    let mut record = T::new_zeroed();
    let to = record.as_mut_bytes().get_mut(..bytes.len()).ok_or(Errno::INVAL)?;
    to.copy_from_slice(bytes);
    Ok(record)
}

fn load_record(
    hypervisor: &Hypervisor<X86>,
    domain: &Arc<Domain<X86>>,
    code: u16,
    instance: u16,
    record: &[u8],
) -> Result<()> {
    if let (Some(board), HVM_SAVE_CODE_PIC | HVM_SAVE_CODE_IOAPIC | HVM_SAVE_CODE_PCI_IRQ..=HVM_SAVE_CODE_PMTIMER) =
        (&domain.arch.board, code)
    {
        return board.with(hypervisor, domain, |chips, now, wires| chips.load(code, instance, record, now, wires));
    }
    if code == HVM_SAVE_CODE_VIRIDIAN_DOMAIN {
        return enlightened::load_domain(hypervisor.machine(), domain, &read(record)?);
    }
    let vcpu = domain.vcpu(VcpuId(instance.into())).ok_or(Errno::INVAL)?;
    let mut state = vcpu.state.lock();
    let state = state.hvm()?;
    match code {
        HVM_SAVE_CODE_CPU => load_cpu(hypervisor, domain, vcpu, state, &read(record)?),
        HVM_SAVE_CODE_MTRR => load_mtrr(state, &read(record)?),
        HVM_SAVE_CODE_LAPIC => load_apic(hypervisor, vcpu, state, Some(&read(record)?), None),
        HVM_SAVE_CODE_LAPIC_REGS => load_apic(hypervisor, vcpu, state, None, Some(&read(record)?)),
        CPU_XSAVE_CODE => vcpu_records::load_vectors(state, record),
        HVM_SAVE_CODE_VIRIDIAN_VCPU => enlightened::load_vcpu(domain, state, &read(record)?),
        HVM_SAVE_CODE_VMCE_VCPU => vcpu_records::check_machine_checks(&read(record)?),
        HVM_SAVE_CODE_TSC_ADJUST => vcpu_records::check_tsc_adjust(&read(record)?),
        CPU_MSR_CODE => vcpu_records::load_msrs(state, &domain.arch.policy.read(), record),
        _ => Err(Errno::OPNOTSUPP),
    }
}

fn load_apic(
    hypervisor: &Hypervisor<X86>,
    vcpu: &Vcpu<X86>,
    state: &mut VcpuState,
    hidden: Option<&HwLapic>,
    regs: Option<&HwLapicRegs>,
) -> Result<()> {
    let (now, port) = (hypervisor.machine().system_time(), &vcpu.arch.apic);
    let (own_hidden, own_regs) = state.lapic.save(port, now);
    state.lapic.load(port, hidden.unwrap_or(&own_hidden), regs.unwrap_or(&own_regs), now)
}

fn mtrr_record(state: &VcpuState) -> HwMtrr {
    let mtrr = &state.mtrr;
    HwMtrr {
        msr_pat_cr: state.engine.system().pat,
        msr_mtrr_var: mtrr.variable,
        msr_mtrr_fixed: mtrr.fixed,
        msr_mtrr_cap: mtrr.read(x86_defs::msr::MTRR_CAP).unwrap_or(0),
        msr_mtrr_def_type: mtrr.def_type,
    }
}

fn load_mtrr(state: &mut VcpuState, record: &HwMtrr) -> Result<()> {
    use x86_defs::msr::{MTRR_DEF_TYPE, MTRR_PHYS_BASE0};
    const _: () = assert!(VARIABLE == 8 && FIXED == 11);
    let mut mtrr = state.mtrr;
    mtrr.fixed = record.msr_mtrr_fixed;
    let variable = (MTRR_PHYS_BASE0..).zip(record.msr_mtrr_var);
    let written = variable.into_iter().all(|(number, value)| mtrr.write(number, value));
    if !written || !mtrr.write(MTRR_DEF_TYPE, record.msr_mtrr_def_type) {
        return Err(Errno::INVAL);
    }
    let mut system = state.engine.system();
    system.pat = record.msr_pat_cr;
    state.engine.set_system(&system);
    state.mtrr = mtrr;
    Ok(())
}

fn cpu_record(state: &VcpuState) -> HwCpu {
    let (regs, system) = (&state.regs, state.engine.system());
    let mut to = HwCpu::new_zeroed();
    to.fpu_regs.copy_from_slice(state.vectors.legacy());
    to.flags = XEN_X86_FPU_INITIALISED;
    (to.rax, to.rbx, to.rcx, to.rdx) = (regs.rax, regs.rbx, regs.rcx, regs.rdx);
    (to.rbp, to.rsi, to.rdi, to.rsp) = (regs.rbp, regs.rsi, regs.rdi, regs.rsp);
    (to.r8, to.r9, to.r10, to.r11) = (regs.r8, regs.r9, regs.r10, regs.r11);
    (to.r12, to.r13, to.r14, to.r15) = (regs.r12, regs.r13, regs.r14, regs.r15);
    (to.rip, to.rflags) = (regs.rip, regs.rflags);
    let control = system.control;
    (to.cr0, to.cr2, to.cr3, to.cr4, to.msr_efer) = (control.cr0, control.cr2, control.cr3, control.cr4, control.efer);
    [to.dr0, to.dr1, to.dr2, to.dr3] = state.debug;
    (to.dr6, to.dr7) = (system.dr6, system.dr7);
    segments_to(&mut to, &system);
    (to.sysenter_cs, to.sysenter_esp, to.sysenter_eip) = (system.sysenter_cs, system.sysenter_esp, system.sysenter_eip);
    to.shadow_gs = system.kernel_gs_base;
    (to.msr_star, to.msr_lstar, to.msr_cstar) = (system.star, system.lstar, system.cstar);
    to.msr_syscall_mask = system.fmask;
    to.msr_tsc_aux = state.tsc_aux.into();
    to.tsc = hal_cpu::rdtsc();
    (to.pending_event, to.error_code) = event_record(state.engine.injection());
    to
}

/// An event that was not delivered yet, with its error code.
fn event_record(event: Option<Injection>) -> (u32, u32) {
    let bits = event.map_or(0, |event| event.event().0);
    (bits as u32, (bits >> 32) as u32)
}

/// The event of a record.
fn event_of(event: u32, error_code: u32) -> Option<Injection> {
    Injection::of(Event(u64::from(error_code) << 32 | u64::from(event)))
}

fn segments_to(to: &mut HwCpu, system: &System) {
    let [es, cs, ss, ds, fs, gs] = &system.segments;
    macro_rules! put {
        ($($from:expr => $sel:ident $limit:ident $base:ident $arbytes:ident,)*) => {$(
            to.$sel = $from.selector.into();
            to.$limit = $from.limit;
            to.$base = $from.base;
            to.$arbytes = $from.attributes.into();
        )*};
    }
    put! {
        cs => cs_sel cs_limit cs_base cs_arbytes,
        ds => ds_sel ds_limit ds_base ds_arbytes,
        es => es_sel es_limit es_base es_arbytes,
        fs => fs_sel fs_limit fs_base fs_arbytes,
        gs => gs_sel gs_limit gs_base gs_arbytes,
        ss => ss_sel ss_limit ss_base ss_arbytes,
        system.tr => tr_sel tr_limit tr_base tr_arbytes,
        system.ldtr => ldtr_sel ldtr_limit ldtr_base ldtr_arbytes,
    }
    (to.idtr_base, to.idtr_limit) = (system.idtr.base, system.idtr.limit.into());
    (to.gdtr_base, to.gdtr_limit) = (system.gdtr.base, system.gdtr.limit.into());
}

fn segment(selector: u32, limit: u32, base: u64, arbytes: u32) -> Segment {
    let is_old = arbytes & OLD_FLAGS.0 != 0 && arbytes & OLD_FLAGS.1 == 0;
    let attributes = if is_old { arbytes & 0xff | arbytes >> 4 & OLD_FLAGS.1 } else { arbytes & 0xfff };
    Segment { selector: selector as u16, attributes: attributes as u16, limit, base }
}

fn system_of(from: &HwCpu, pat: u64) -> System {
    let control = Control { cr0: from.cr0, cr2: from.cr2, cr3: from.cr3, cr4: from.cr4, efer: from.msr_efer };
    let ss = segment(from.ss_sel, from.ss_limit, from.ss_base, from.ss_arbytes);
    System {
        control,
        segments: [
            segment(from.es_sel, from.es_limit, from.es_base, from.es_arbytes),
            segment(from.cs_sel, from.cs_limit, from.cs_base, from.cs_arbytes),
            ss,
            segment(from.ds_sel, from.ds_limit, from.ds_base, from.ds_arbytes),
            segment(from.fs_sel, from.fs_limit, from.fs_base, from.fs_arbytes),
            segment(from.gs_sel, from.gs_limit, from.gs_base, from.gs_arbytes),
        ],
        ldtr: segment(from.ldtr_sel, from.ldtr_limit, from.ldtr_base, from.ldtr_arbytes),
        tr: segment(from.tr_sel, from.tr_limit, from.tr_base, from.tr_arbytes),
        gdtr: DescriptorTable { base: from.gdtr_base, limit: from.gdtr_limit as u16 },
        idtr: DescriptorTable { base: from.idtr_base, limit: from.idtr_limit as u16 },
        // The privilege level is the stack segment's (APM vol. 2, 15.5.1).
        level: (ss.attributes >> 5 & 3) as u8,
        dr6: from.dr6,
        dr7: from.dr7,
        star: from.msr_star,
        lstar: from.msr_lstar,
        cstar: from.msr_cstar,
        fmask: from.msr_syscall_mask,
        kernel_gs_base: from.shadow_gs,
        sysenter_cs: from.sysenter_cs,
        sysenter_esp: from.sysenter_esp,
        sysenter_eip: from.sysenter_eip,
        pat,
    }
}

fn regs_of(from: &HwCpu) -> GuestRegs {
    GuestRegs {
        r15: from.r15,
        r14: from.r14,
        r13: from.r13,
        r12: from.r12,
        rbp: from.rbp,
        rbx: from.rbx,
        r11: from.r11,
        r10: from.r10,
        r9: from.r9,
        r8: from.r8,
        rax: from.rax,
        rcx: from.rcx,
        rdx: from.rdx,
        rsi: from.rsi,
        rdi: from.rdi,
        rip: from.rip,
        rflags: from.rflags | ALWAYS_SET,
        rsp: from.rsp,
        ..GuestRegs::default()
    }
}

fn load_cpu(
    hypervisor: &Hypervisor<X86>,
    domain: &Domain<X86>,
    vcpu: &Vcpu<X86>,
    state: &mut VcpuState,
    from: &HwCpu,
) -> Result<()> {
    if from.cr0 >> 32 != 0 || from.cr4 >> 32 != 0 || from.flags & !XEN_X86_FPU_INITIALISED != 0 {
        log::warn!("{}v{}: bad CPU record: CR0 {:#x}, CR4 {:#x}", domain.id, vcpu.id.0, from.cr0, from.cr4);
        return Err(Errno::INVAL);
    }
    let pat = state.engine.system().pat;
    state.engine.set_system(&system_of(from, pat));
    state.replace_regs(regs_of(from));
    state.debug = [from.dr0, from.dr1, from.dr2, from.dr3];
    state.tsc_aux = from.msr_tsc_aux as u32;
    if let Some(event) = event_of(from.pending_event, from.error_code) {
        state.engine.inject(event);
    }
    state.vectors.replace((from.flags & XEN_X86_FPU_INITIALISED != 0).then_some(&from.fpu_regs));
    vcpu.initialised.store(true, SeqCst);
    hypervisor.bring_up(vcpu);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use x86_defs::control::Vector;

    #[test]
    fn registers_come_back() {
        let mut from = HwCpu::new_zeroed();
        (from.rip, from.rflags, from.r15, from.rdi) = (0x1000, 0x202, 15, 7);
        (from.cs_sel, from.cs_limit, from.cs_base, from.cs_arbytes) = (8, !0, 0, 0xc9b);
        (from.ss_sel, from.ss_arbytes, from.tr_arbytes) = (0x10, 0xcf3, 0x8b);
        (from.cr0, from.msr_efer, from.gdtr_base, from.gdtr_limit) = (0x11, 0x500, 0x2000, 0xff);
        let (system, regs) = (system_of(&from, 6), regs_of(&from));
        assert_eq!((system.level, system.pat, system.segments[1].attributes), (3, 6, 0xc9b));
        assert_eq!((regs.rip, regs.r15, regs.rdi), (0x1000, 15, 7));
        let mut to = HwCpu::new_zeroed();
        segments_to(&mut to, &system);
        assert_eq!((to.cs_sel, to.cs_limit, to.cs_arbytes, to.ss_arbytes), (8, !0, 0xc9b, 0xcf3));
        assert_eq!((to.gdtr_base, to.gdtr_limit), (0x2000, 0xff));
    }

    #[test]
    fn events_come_back() {
        let page_fault = Injection::Exception(Vector::PAGE_FAULT, Some(7));
        for event in [Injection::Interrupt(0xf3), Injection::Nmi, Injection::Exception(6, None), page_fault] {
            let (record, error_code) = event_record(Some(event));
            assert_eq!(event_of(record, error_code), Some(event));
        }
        assert_eq!(event_record(Some(page_fault)), (0x8000_0b0e, 7));
        assert_eq!(event_record(None), (0, 0));
        assert_eq!(event_of(0xf3, 0), None, "there is none");
        assert_eq!(event_of(0x8000_0303, 0), None, "INT3 is executed again");
        assert_eq!(event_of(0x8000_0480, 0), None, "so is INTn");
    }

    #[test]
    fn attributes_of_old_records() {
        assert_eq!(segment(0, 0, 0, 0xc09b).attributes, 0xc9b);
        assert_eq!(segment(0, 0, 0, 0xa9b).attributes, 0xa9b);
    }

    #[test]
    fn records_are_found_by_kind_and_instance() {
        let mut records = Vec::new();
        push_bytes(&mut records, HVM_SAVE_CODE_HEADER, 0, b"head").unwrap();
        push_bytes(&mut records, HVM_SAVE_CODE_CPU, 0, b"first").unwrap();
        push_bytes(&mut records, HVM_SAVE_CODE_CPU, 1, b"").unwrap();
        push_bytes(&mut records, HVM_SAVE_CODE_MTRR, 1, b"last").unwrap();
        let find = |kind: u16, instance| find(&records, kind.into(), instance);
        assert_eq!(find(HVM_SAVE_CODE_CPU, 0), Ok(&b"first"[..]));
        assert_eq!(find(HVM_SAVE_CODE_CPU, 1), Ok(&b""[..]));
        assert_eq!(find(HVM_SAVE_CODE_MTRR, 1), Ok(&b"last"[..]));
        assert_eq!(find(HVM_SAVE_CODE_MTRR, 0), Err(Errno::NOENT));
        assert_eq!(find(HVM_SAVE_CODE_END, 0), Err(Errno::INVAL));
        assert_eq!(find(CPU_MSR_CODE + 1, 0), Err(Errno::INVAL));
    }

    #[test]
    fn records_may_be_shorter_but_not_longer() {
        assert_eq!(read::<SaveHeader>(&[1; 4]).map(|header| (header.magic, header.version)), Ok((0x0101_0101, 0)));
        assert_eq!(read::<SaveHeader>(&[0; 25]), Err(Errno::INVAL));
    }
}
