//! HYPERVISOR_platform_op: dom0 drives the machine itself, its clock, its power and its processors (platform.h).

use crate::current::Current;
use crate::machine::X86;
use crate::microcode::{self, File, Processor};
use crate::{irq, resource, wallclock};
use core::sync::atomic::Ordering::Relaxed;
use hypercall::{Args, Caller, Outcome};
use platform::{Clock, GuestMemory};
use types::{CpuId, Errno, Result};
use xen_abi::GuestHandle;
use xen_abi::platform::*;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Byte of the BIOS data area that holds the keyboard's shift state (INT 16h, AH=2).
const KEYBOARD_FLAGS: u64 = 0x417;
/// Sleep state that turns the machine off (ACPI 6.5, 16.1).
const SOFT_OFF: u32 = 5;
/// Version of the _PDC buffer (Intel's processor vendor-specific ACPI interface).
const PDC_REVISION: u32 = 1;

/// HYPERVISOR_platform_op.
pub fn platform_op(current: &mut Current<'_>, args: Args) -> Outcome {
    let handle = GuestHandle::<PlatformOp>::new(args[0]);
    let caller = current.caller();
    let result = caller.read(handle).and_then(|mut op| {
        if op.interface_version != XENPF_INTERFACE_VERSION {
            return Err(Errno::ACCES);
        }
        caller.require_privilege()?;
        if op.cmd == XENPF_RESOURCE_OP {
            return resource::access(&caller, &op.u.read());
        }
        if carry_out(&caller, &mut op)? {
            caller.write(handle, &op)?;
        }
        Ok(0)
    });
    result.into()
}

/// Changes the operation's variant `T` by `act`; says that it has to be copied back.
fn answer<T: FromBytes + IntoBytes + Immutable>(
    op: &mut PlatformOp,
    act: impl FnOnce(&mut T) -> Result<()>,
) -> Result<bool> {
    let mut value: T = op.u.read();
    act(&mut value)?;
    op.u.write(&value);
    Ok(true)
}

/// Carries out an operation; whether it has to be copied back.
fn carry_out(caller: &Caller<'_, X86>, op: &mut PlatformOp) -> Result<bool> {
    match op.cmd {
        XENPF_SETTIME32 => {
            let call: SetTime32 = op.u.read();
            wallclock::set(caller.hypervisor, call.secs.into(), call.nsecs, call.system_time);
        }
        XENPF_SETTIME64 => {
            let call: SetTime64 = op.u.read();
            if call.mbz != 0 {
                return Err(Errno::INVAL);
            }
            wallclock::set(caller.hypervisor, call.secs, call.nsecs, call.system_time);
        }
        XENPF_READ_MEMTYPE => return answer(op, read_memtype),
        XENPF_PLATFORM_QUIRK => match op.u.read::<PlatformQuirk>().quirk_id {
            // Interrupts are not balanced, and the I/O APIC's index register is written before each access anyway.
            QUIRK_NOIRQBALANCING | QUIRK_IOAPIC_BAD_REGSEL | QUIRK_IOAPIC_GOOD_REGSEL => {}
            _ => return Err(Errno::INVAL),
        },
        XENPF_FIRMWARE_INFO => return answer(op, firmware_info),
        XENPF_ENTER_ACPI_SLEEP => return Err(enter_sleep(&op.u.read())),
        XENPF_GETIDLETIME => return answer(op, |call| idle_time(caller, call)),
        XENPF_SET_PROCESSOR_PMINFO => set_processor_info(caller, &op.u.read())?,
        XENPF_GET_CPUINFO => return answer(op, cpu_info),
        XENPF_GET_CPU_VERSION => return answer(op, cpu_version),
        XENPF_CPU_ONLINE => {
            let cpu = CpuId(op.u.read::<CpuOl>().cpuid);
            return if hal_irq::cpus::is_online(cpu) { Ok(false) } else { Err(Errno::INVAL) };
        }
        XENPF_CORE_PARKING => return answer(op, core_parking),
        XENPF_GET_SYMBOL => return answer(op, |call| symbol(caller, call)),
        XENPF_GET_UCODE_REVISION => return answer(op, microcode_revision),
        XENPF_GET_DOM0_CONSOLE => return Err(Errno::NODEV),
        XENPF_MICROCODE_UPDATE => {
            let call: MicrocodeUpdate = op.u.read();
            return Err(update_microcode(caller, call.data.address(), call.length));
        }
        XENPF_MICROCODE_UPDATE2 => {
            let call: MicrocodeUpdate2 = op.u.read();
            if call.flags & !XENPF_UCODE_FORCE != 0 {
                return Err(Errno::INVAL);
            }
            return Err(update_microcode(caller, call.data.address(), call.length));
        }
        XENPF_CPU_OFFLINE => return Err(offline(CpuId(op.u.read::<CpuOl>().cpuid))),
        XENPF_CPU_HOTADD => return Err(add_cpu(&op.u.read())),
        _ => return Err(Errno::NOSYS),
    }
    Ok(false)
}

/// A variable memory-type range (SDM vol. 3, 12.11.2.3).
fn read_memtype(call: &mut ReadMemtype) -> Result<()> {
    const CAPABILITIES: u32 = 0xfe;
    const FIRST: u32 = 0x200;
    let read = |number| hal_cpu::read_msr(number).map_err(|_| Errno::INVAL);
    if u64::from(call.reg) >= read(CAPABILITIES)? & 0xff {
        return Err(Errno::INVAL);
    }
    let (base, mask) = (read(FIRST + 2 * call.reg)?, read(FIRST + 2 * call.reg + 1)?);
    (call.mfn, call.nr_mfns, call.r#type) = memory_range(base, mask, crate::machine::physical_address_bits());
    Ok(())
}

/// First frame, number of frames and type of a range; all 0 if it is not in use.
fn memory_range(base: u64, mask: u64, address_bits: u32) -> (u64, u64, u32) {
    const VALID: u64 = 1 << 11;
    if mask & VALID == 0 {
        return (0, 0, 0);
    }
    let frames = (1u64 << (address_bits - 12)) - 1;
    let size = (!(mask >> 12) & frames) + 1;
    (base >> 12 & frames, size, base as u32 & 0xff)
}

/// What a BIOS would tell. Disks are not asked for, as no BIOS call is made: each list is empty.
fn firmware_info(call: &mut FirmwareInfo) -> Result<()> {
    match call.r#type {
        XEN_FW_DISK_INFO | XEN_FW_DISK_MBR_SIGNATURE | XEN_FW_VBEDDC_INFO => Err(Errno::SRCH),
        XEN_FW_EFI_INFO => Err(Errno::NOSYS),
        XEN_FW_KBD_SHIFT_FLAGS => {
            if call.index != 0 {
                return Err(Errno::SRCH);
            }
            let flags = hal::read_firmware(KEYBOARD_FLAGS, 1).ok().and_then(|bytes| bytes.first().copied());
            call.u.write(&flags.unwrap_or(0));
            Ok(())
        }
        _ => Err(Errno::INVAL),
    }
}

/// Turns the machine off. Returns only what was wrong with the call.
fn enter_sleep(call: &EnterAcpiSleep) -> Errno {
    let has_registers = hal_irq::power::fadt().is_some_and(|fadt| fadt.pm1a_control.is_some());
    if call.flags & XENPF_ACPI_SLEEP_EXTENDED != 0 || !has_registers {
        return Errno::PERM;
    }
    match call.sleep_state {
        SOFT_OFF => {}
        1..=4 => return Errno::OPNOTSUPP,
        _ => return Errno::INVAL,
    }
    log::info!("Turning the machine off");
    hal_irq::ipi::stop_other_cpus();
    if let Err(errno) = hal_irq::power::power_off(call.val_a, call.val_b) {
        log::error!("The machine does not turn off: {errno}");
    }
    hal::cpu::halt_forever()
}

/// Nanoseconds that CPUs were idle.
fn idle_time(caller: &Caller<'_, X86>, call: &mut GetIdleTime) -> Result<()> {
    let count = (call.cpumap_nr_cpus as usize).min(caller.hypervisor.cpus.len());
    for cpu in 0..count {
        let at = call.cpumap_bitmap.offset(cpu as u64 / 8);
        let mut byte: u8 = caller.read(at)?;
        let bit = 1 << (cpu % 8);
        if byte & bit == 0 {
            continue;
        }
        let time = caller.hypervisor.cpus[cpu].idle_time.load(Relaxed);
        caller.write(call.idletime.offset(cpu as u64), &time)?;
        if !hal_irq::cpus::is_online(CpuId(cpu as u32)) {
            byte &= !bit;
            caller.write(at, &byte)?;
        }
    }
    call.now = caller.machine().system_time();
    Ok(())
}

/// Takes what dom0 has learnt from AML of a processor. The hypervisor idles by HLT and leaves frequencies alone, so it makes no
/// use of it; the bits of _PDC stay as dom0 proposes them.
fn set_processor_info(caller: &Caller<'_, X86>, call: &SetProcessorPmInfo) -> Result<()> {
    match call.r#type {
        XEN_PM_CX | XEN_PM_PX | XEN_PM_TX => Ok(()),
        XEN_PM_PDC => {
            let buffer: [u32; 2] = caller.read(GuestHandle::new(call.u.read::<u64>()))?;
            if buffer[0] != PDC_REVISION || buffer[1] == 0 { Err(Errno::INVAL) } else { Ok(()) }
        }
        _ => Err(Errno::INVAL),
    }
}

fn max_present() -> u32 {
    hal_irq::cpus::count().saturating_sub(1) as u32
}

fn cpu_info(call: &mut PcpuInfo) -> Result<()> {
    let cpu = CpuId(call.xen_cpuid);
    call.max_present = max_present();
    match hal_irq::cpus::apic_id(cpu) {
        Some(apic_id) => {
            call.apic_id = apic_id;
            call.acpi_id = irq::acpi_id(apic_id).unwrap_or(u32::MAX);
            call.flags = if hal_irq::cpus::is_online(cpu) { XEN_PCPU_FLAGS_ONLINE } else { 0 };
        }
        None => call.flags = XEN_PCPU_FLAGS_INVALID,
    }
    Ok(())
}

/// All CPUs are taken to be like this one.
fn cpu_version(call: &mut PcpuVersion) -> Result<()> {
    call.max_present = max_present();
    (call.vendor_id, call.family, call.model, call.stepping) = ([0; 12], 0, 0, 0);
    if hal_irq::cpus::is_online(CpuId(call.xen_cpuid)) {
        let leaf = hal_cpu::cpuid(0, 0);
        for (to, from) in call.vendor_id.chunks_exact_mut(4).zip([leaf.ebx, leaf.edx, leaf.ecx]) {
            to.copy_from_slice(&from.to_le_bytes());
        }
        (call.family, call.model, call.stepping) = signature(hal_cpu::cpuid(1, 0).eax);
    }
    Ok(())
}

/// Family, model and stepping (SDM vol. 2, CPUID, figure 3-6).
fn signature(eax: u32) -> (u32, u32, u32) {
    let (base, extended) = (eax >> 8 & 15, eax >> 20 & 0xff);
    let family = if base == 15 { base + extended } else { base };
    let model = if family >= 6 { eax >> 12 & 0xf0 | eax >> 4 & 15 } else { eax >> 4 & 15 };
    (family, model, eax & 15)
}

/// CPUs stay; why this one does.
fn offline(cpu: CpuId) -> Errno {
    if cpu != CpuId(0) && !hal_irq::cpus::is_online(cpu) { Errno::INVAL } else { Errno::OPNOTSUPP }
}

/// Whatever was there at boot is known, and nothing can be added.
fn add_cpu(call: &CpuHotadd) -> Errno {
    let apic_ids = || (0..hal_irq::cpus::count() as u32).filter_map(|cpu| hal_irq::cpus::apic_id(CpuId(cpu)));
    if apic_ids().any(|apic_id| irq::acpi_id(apic_id) == Some(call.acpi_id) && apic_id != call.apic_id) {
        return Errno::INVAL;
    }
    if apic_ids().any(|apic_id| apic_id == call.apic_id) { Errno::EXIST } else { Errno::OPNOTSUPP }
}

/// No CPU can be parked.
fn core_parking(call: &mut CoreParking) -> Result<()> {
    match call.r#type {
        XEN_CORE_PARKING_GET => {
            call.idle_nums = 0;
            Ok(())
        }
        XEN_CORE_PARKING_SET if call.idle_nums == 0 => Ok(()),
        XEN_CORE_PARKING_SET => Err(Errno::OPNOTSUPP),
        _ => Err(Errno::INVAL),
    }
}

/// The next of the hypervisor's functions. Behind the last, the name is empty.
fn symbol(caller: &Caller<'_, X86>, call: &mut Symdata) -> Result<()> {
    let found = hal::symbols::nth(call.symnum);
    let (address, name) = found.unwrap_or((0, ""));
    let room = (call.namelen as usize).saturating_sub(1);
    let length = name.len().min(room);
    if call.namelen != 0 {
        caller.machine().copy_out(call.name.address(), &name.as_bytes()[..length])?;
        caller.write(call.name.offset(length as u64), &0u8)?;
    }
    if found.is_some() {
        call.symnum += 1;
        call.r#type = b't';
    }
    call.address = address;
    call.namelen = length as u32 + 1;
    Ok(())
}

fn is_intel() -> bool {
    hal_cpu::cpuid(0, 0).ebx == u32::from_le_bytes(*b"Genu")
}

/// The microcode of a CPU; all are taken to have this one's.
fn microcode_revision(call: &mut UcodeRevision) -> Result<()> {
    const REVISION: u32 = 0x8b;
    const PLATFORM_ID: u32 = 0x17;
    if !hal_irq::cpus::is_online(CpuId(call.cpu)) {
        return Err(Errno::NOENT);
    }
    let revision = hal_cpu::read_msr(REVISION).map_err(|_| Errno::OPNOTSUPP)?;
    call.signature = hal_cpu::cpuid(1, 0).eax;
    call.revision = if is_intel() { (revision >> 32) as u32 } else { revision as u32 };
    let platform = hal_cpu::read_msr(PLATFORM_ID).unwrap_or(0);
    call.pf = if is_intel() { 1 << (platform >> 50 & 7) } else { 0 };
    Ok(())
}

/// Looks for an update in a file that dom0 offers. None is ever loaded: the microcode is what the firmware has loaded.
fn update_microcode(caller: &Caller<'_, X86>, at: u64, length: u32) -> Errno {
    let read = |offset: u64, to: &mut [u8]| caller.machine().copy_in(at.wrapping_add(offset), to);
    let file = File { length, read: &read };
    let mut present: UcodeRevision = zerocopy::FromZeros::new_zeroed();
    let found = microcode_revision(&mut present).and_then(|()| {
        let processor = Processor { signature: present.signature, platform: present.pf };
        if is_intel() { microcode::newest_intel(&file, processor) } else { microcode::newest_amd(&file, processor) }
    });
    match found {
        Ok(None) => Errno::NOENT,
        Ok(Some(revision)) if revision <= present.revision => Errno::EXIST,
        Ok(Some(revision)) => {
            log::warn!("Microcode {revision:#x} is offered and not loaded; the CPUs have {:#x}", present.revision);
            Errno::OPNOTSUPP
        }
        Err(errno) => errno,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_counted_in_frames() {
        // 2 GiB from 2 GiB on, uncached, with 36 address bits.
        assert_eq!(memory_range(0x8000_0000, 0xf_8000_0800, 36), (0x8_0000, 0x8_0000, 0));
        assert_eq!(memory_range(6, 0xf_c000_0800, 36), (0, 0x4_0000, 6));
        assert_eq!(memory_range(0x8000_0006, 0xf_8000_0000, 36), (0, 0, 0));
    }

    #[test]
    fn signatures_are_taken_apart() {
        assert_eq!(signature(0x000a_0655), (6, 0xa5, 5));
        assert_eq!(signature(0x00a2_0f12), (0x19, 0x21, 2));
    }

    #[test]
    fn lists_of_disks_end_at_once() {
        let mut call: FirmwareInfo = zerocopy::FromZeros::new_zeroed();
        for kind in [XEN_FW_DISK_INFO, XEN_FW_DISK_MBR_SIGNATURE] {
            call.r#type = kind;
            assert_eq!(firmware_info(&mut call), Err(Errno::SRCH));
        }
    }
}
