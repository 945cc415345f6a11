//! The toolstack's commands that only x86 understands (domctl.h, sysctl.h).

mod frames;
mod hvm;
mod policy;
mod vcpu;
mod xstate;

use crate::machine::X86;
use alloc::sync::Arc;
use core::fmt;
use domain::{Domain, Hypervisor};
use hal_irq::FlushKind;
pub use hypercall::domctl::domctl;
use platform::{Clock, GuestMemory};
use types::{Errno, Progress, Result};
use xen_abi::arch_x86::{
    XEN_X86_EMU_ALL, XEN_X86_EMU_LAPIC, XEN_X86_EMU_USE_PIRQ, XEN_X86_EMU_VPCI, XEN_X86_MSR_RELAXED,
};
use xen_abi::domctl::*;
use xen_abi::sysctl::{
    CpuLevellingCaps, XEN_SYSCTL_GET_CPU_FEATURESET, XEN_SYSCTL_GET_CPU_LEVELLING_CAPS, XEN_SYSCTL_GET_CPU_POLICY,
};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// What a command did to its structure: `true` has it copied back to the caller.
type Done = Result<bool>;
/// A command's structure, in bytes.
type Payload = [u8; 128];

/// I/O ports of the machine.
const PORTS: u32 = 0x1_0000;
/// Time-stamp counter modes (XEN_CPUID_TSC_MODE_*, arch-x86/cpuid.h): by default, always and never emulated.
const TSC_MODES: u32 = 3;

/// What is copied to and from while a command runs.
#[derive(Clone, Copy)]
struct Call<'a> {
    hypervisor: &'a Hypervisor<X86>,
    /// The toolstack's domain.
    caller: &'a Arc<Domain<X86>>,
}

impl Call<'_> {
    fn read<T: FromBytes + IntoBytes>(&self, address: u64) -> Result<T> {
        let mut value = T::new_zeroed();
        self.hypervisor.machine().copy_in(address, value.as_mut_bytes())?;
        Ok(value)
    }

    fn write<T: IntoBytes + Immutable>(&self, address: u64, value: &T) -> Result<()> {
        self.hypervisor.machine().copy_out(address, value.as_bytes())
    }

    /// Logs why the command is refused; the error for the toolstack.
    fn refuse(&self, errno: Errno, why: fmt::Arguments<'_>) -> Errno {
        self.hypervisor.log_refusal(self.caller.id, errno, why);
        errno
    }

    /// Refuses what a domain cannot do to itself.
    fn not_itself(&self, domain: &Domain<X86>) -> Result<()> {
        if domain.id != self.caller.id {
            return Ok(());
        }
        Err(self.refuse(Errno::INVAL, format_args!("{} cannot do this to itself", domain.id)))
    }

    /// Acts on a domain that is stopped meanwhile. Not for the caller's own.
    fn while_paused<T>(&self, domain: &Domain<X86>, act: impl FnOnce() -> T) -> T {
        self.hypervisor.pause_domain(domain);
        let value = act();
        self.hypervisor.unpause_domain(domain);
        value
    }
}

/// Lets a command work on its own structure.
fn with<T: FromBytes + IntoBytes + Immutable>(payload: &mut Payload, act: impl FnOnce(&mut T) -> Done) -> Done {
    const { assert!(size_of::<T>() <= size_of::<Payload>()) };
    let mut value = T::new_zeroed();
    value.as_mut_bytes().copy_from_slice(&payload[..size_of::<T>()]);
    let done = act(&mut value);
    payload[..size_of::<T>()].copy_from_slice(value.as_bytes());
    done
}

/// Carries out a domctl; `None` if it is none of x86's.
pub fn machine_domctl(
    hypervisor: &Hypervisor<X86>,
    caller: &Arc<Domain<X86>>,
    cmd: u32,
    domain: Option<&Arc<Domain<X86>>>,
    payload: &mut Payload,
) -> Option<Done> {
    let call = Call { hypervisor, caller };
    let Some(domain) = domain else {
        return (cmd == XEN_DOMCTL_CREATEDOMAIN).then(|| with(payload, |op| check_creation(call, op)));
    };
    Some(match cmd {
        XEN_DOMCTL_SETVCPUCONTEXT => with(payload, |op| vcpu::set_context(call, domain, op)),
        XEN_DOMCTL_GETVCPUCONTEXT => with(payload, |op| vcpu::get_context(call, domain, op)),
        XEN_DOMCTL_SET_EXT_VCPUCONTEXT => with(payload, |op| vcpu::set_extended(call, domain, op)),
        XEN_DOMCTL_GET_EXT_VCPUCONTEXT => with(payload, |op| vcpu::get_extended(call, domain, op)),
        XEN_DOMCTL_GETHVMCONTEXT => with(payload, |op| hvm::get(call, domain, op)),
        XEN_DOMCTL_GETHVMCONTEXT_PARTIAL => with(payload, |op| hvm::get_one(call, domain, op)),
        XEN_DOMCTL_SETHVMCONTEXT => with(payload, |op| hvm::set(call, domain, op)),
        XEN_DOMCTL_SETVCPUEXTSTATE => with(payload, |op| xstate::set(call, domain, op)),
        XEN_DOMCTL_GETVCPUEXTSTATE => with(payload, |op| xstate::get(call, domain, op)),
        XEN_DOMCTL_GET_VCPU_MSRS => with(payload, |op| vcpu::get_msrs(call, domain, op)),
        XEN_DOMCTL_SET_VCPU_MSRS => with(payload, |op| vcpu::set_msrs(call, domain, op)),
        XEN_DOMCTL_SET_CPU_POLICY => with(payload, |op| policy::set(call, domain, op)),
        XEN_DOMCTL_GET_CPU_POLICY => with(payload, |op| policy::get(call, domain, op)),
        XEN_DOMCTL_HYPERCALL_INIT => with(payload, |op| frames::hypercall_page(call, domain, op)),
        XEN_DOMCTL_GETPAGEFRAMEINFO3 => with(payload, |op| frames::types(call, domain, op)),
        XEN_DOMCTL_SET_ADDRESS_SIZE => with(payload, |op| set_address_size(call, domain, op)),
        XEN_DOMCTL_GET_ADDRESS_SIZE => with(payload, |op: &mut AddressSize| {
            op.size = if domain.memory.is_pae() { 32 } else { 64 };
            Ok(true)
        }),
        XEN_DOMCTL_SETTSCINFO => with(payload, |op| set_tsc(call, domain, op)),
        XEN_DOMCTL_GETTSCINFO => with(payload, |op| get_tsc(call, domain, op)),
        XEN_DOMCTL_IOPORT_PERMISSION => with(payload, |op| ports(call, domain, op)),
        _ => return None,
    })
}

/// Carries out a sysctl; `None` if it is none of x86's.
pub fn machine_sysctl(hypervisor: &Hypervisor<X86>, cmd: u32, payload: &mut Payload) -> Option<Done> {
    Some(match cmd {
        XEN_SYSCTL_GET_CPU_POLICY => with(payload, |op| policy::of_host(hypervisor, op)),
        XEN_SYSCTL_GET_CPU_FEATURESET => with(payload, |op| policy::features(hypervisor, op)),
        XEN_SYSCTL_GET_CPU_LEVELLING_CAPS => with(payload, |op: &mut CpuLevellingCaps| {
            // No CPU is made to look like another one by its own registers.
            op.caps = 0;
            Ok(true)
        }),
        _ => return None,
    })
}

/// The architecture's part of XEN_DOMCTL_createdomain.
fn check_creation(call: Call<'_>, op: &mut CreateDomain) -> Done {
    let (misc, emulation) = (op.arch.misc_flags, op.arch.emulation_flags);
    if misc & !XEN_X86_MSR_RELAXED != 0 {
        return Err(call.refuse(Errno::INVAL, format_args!("createdomain: unknown bits in misc_flags {misc:#x}")));
    }
    if emulation & !XEN_X86_EMU_ALL != 0 {
        return Err(call.refuse(Errno::INVAL, format_args!("createdomain: emulation_flags {emulation:#x}")));
    }
    let known = if op.flags & XEN_DOMCTL_CDF_HVM == 0 {
        emulation == 0
    } else {
        // PVH, or HVM with all that a PC has.
        emulation == XEN_X86_EMU_LAPIC
            || emulation & !XEN_X86_EMU_USE_PIRQ == XEN_X86_EMU_ALL & !(XEN_X86_EMU_VPCI | XEN_X86_EMU_USE_PIRQ)
    };
    if !known {
        let why = format_args!("createdomain: no domain of this kind has the emulators {emulation:#x}");
        return Err(call.refuse(Errno::OPNOTSUPP, why));
    }
    Ok(false)
}

/// XEN_DOMCTL_set_address_size: makes a domain that has no memory yet a 32-bit guest, or a 64-bit one.
fn set_address_size(call: Call<'_>, domain: &Domain<X86>, op: &mut AddressSize) -> Done {
    let narrow = match op.size {
        64 => false,
        32 => true,
        size => {
            let why = format_args!("set_address_size of {}: {size} bits, 32 or 64 only", domain.id);
            return Err(call.refuse(Errno::INVAL, why));
        }
    };
    if narrow && domain.is_translated() {
        let why = format_args!("set_address_size of {}: a translated domain's vCPUs choose themselves", domain.id);
        return Err(call.refuse(Errno::OPNOTSUPP, why));
    }
    if narrow == domain.memory.is_pae() {
        return Ok(false);
    }
    call.not_itself(domain)?;
    if domain.memory.total_pages() > 0 {
        let why = format_args!("set_address_size of {}: it has memory already", domain.id);
        return Err(call.refuse(Errno::ACCES, why));
    }
    // The first of its kind finds a table that nobody has kept.
    let meet = || hal_irq::ipi::flush_cpus(&hal_irq::cpus::online(), FlushKind::All);
    if narrow && hal::m2p::keep_narrow(meet, call.hypervisor.machine())? != Progress::Done(()) {
        return Err(Errno::RESTART);
    }
    domain.memory.set_pae(narrow);
    domain.evtchn.set_narrow(narrow);
    Ok(false)
}

/// XEN_DOMCTL_settscinfo: the mode is kept for the guest's CPUID leaves; the counter itself is the host's.
fn set_tsc(call: Call<'_>, domain: &Domain<X86>, op: &mut TscInfo) -> Done {
    call.not_itself(domain)?;
    if op.tsc_mode >= TSC_MODES {
        return Err(call.refuse(Errno::INVAL, format_args!("settscinfo of {}: mode {}", domain.id, op.tsc_mode)));
    }
    let began = call.hypervisor.machine().system_time().wrapping_sub(op.elapsed_nsec);
    *domain.arch.tsc.lock() =
        crate::facts::Tsc { mode: op.tsc_mode, khz: op.gtsc_khz, incarnation: op.incarnation, began };
    Ok(false)
}

/// XEN_DOMCTL_gettscinfo.
fn get_tsc(call: Call<'_>, domain: &Domain<X86>, op: &mut TscInfo) -> Done {
    call.not_itself(domain)?;
    let tsc = *domain.arch.tsc.lock();
    *op = TscInfo {
        tsc_mode: tsc.mode,
        gtsc_khz: if tsc.khz == 0 { crate::facts::host().cpu_khz } else { tsc.khz },
        incarnation: tsc.incarnation,
        pad: 0,
        elapsed_nsec: call.hypervisor.machine().system_time().wrapping_sub(tsc.began),
    };
    Ok(true)
}

/// XEN_DOMCTL_ioport_permission.
fn ports(call: Call<'_>, domain: &Domain<X86>, op: &mut IoPortPermission) -> Done {
    let end = op.first_port.checked_add(op.nr_ports);
    let (first, count, id) = (op.first_port, op.nr_ports, domain.id);
    let Some(end) = end.filter(|&end| end > first && end <= PORTS) else {
        return Err(call.refuse(Errno::INVAL, format_args!("ioport_permission of {id}: {count} ports from {first:#x}")));
    };
    if !call.caller.rights.lock().may_use_ports(first, end - 1) {
        let why = format_args!("ioport_permission of {id}: {first:#x} to {:#x} are not the caller's", end - 1);
        return Err(call.refuse(Errno::PERM, why));
    }
    domain.rights.lock().change_ports(op.first_port, end - 1, op.allow_access != 0)?;
    Ok(false)
}
