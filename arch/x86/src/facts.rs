//! Facts about the host and about a domain that only x86 has.

use crate::hvm::{Board, Maps};
use alloc::boxed::Box;
use core::sync::atomic::{AtomicBool, AtomicUsize};
use domain::{Creation, HostFacts};
use platform::sync::{Mutex, RwLock};
use types::Result;

/// x86's part of a domain.
pub struct X86Domain {
    /// What CPUID and MSRs show it.
    pub policy: RwLock<Box<cpu_policy::Policy>>,
    /// How the toolstack wants it to see the time-stamp counter.
    pub tsc: Mutex<Tsc>,
    /// What the vCPUs of an HVM guest reach themselves.
    pub maps: Option<Maps>,
    /// The emulated devices of an HVM guest that is no PVH guest.
    pub board: Option<Box<Board>>,
    /// Whether it sleeps (ACPI S3): one of its pauses is for that.
    pub asleep: AtomicBool,
    /// What it has if it knows Hyper-V.
    pub viridian: RwLock<Option<viridian::Partition>>,
    /// Whose local APIC got the last message for the one of lowest priority.
    pub turn: AtomicUsize,
}

/// How a domain sees the time-stamp counter (XEN_DOMCTL_settscinfo).
#[derive(Clone, Copy, Default, Debug)]
pub struct Tsc {
    /// XEN_CPUID_TSC_MODE_*.
    pub mode: u32,
    /// Frequency in kHz; 0 is the host's.
    pub khz: u32,
    /// How often the domain was moved.
    pub incarnation: u32,
    /// System time at which the guest's time began, in nanoseconds.
    pub began: u64,
}

impl X86Domain {
    /// Starts with the default policy of guests of its kind.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(creation: &Creation) -> Result<X86Domain> {
        let is_hvm = creation.is_translated();
        let all = policies();
        let policy = match creation.privileged {
            _ if is_hvm => &all.hvm_default,
            true => &all.control_domain,
            false => &all.pv_default,
        };
        Ok(X86Domain {
            policy: RwLock::new(policy.of_domain()),
            tsc: Mutex::default(),
            maps: is_hvm.then(Maps::new).transpose()?,
            board: Board::of(creation.emulation_flags, hal_irq::time::system_time()),
            asleep: AtomicBool::new(false),
            viridian: RwLock::new(None),
            turn: AtomicUsize::new(0),
        })
    }
}

/// The time-stamp counter as CPUID tells a domain of it.
pub fn tsc(domain: &X86Domain) -> cpu_policy::Tsc {
    let wanted = *domain.tsc.lock();
    let scale = hal_irq::time::scale();
    let host_khz = u32::try_from(hal_irq::time::tsc_hz() / 1000).unwrap_or(u32::MAX);
    cpu_policy::Tsc {
        mode: wanted.mode,
        // Nothing scales the counter: every guest sees the host's.
        khz: host_khz,
        host_khz,
        shift: scale.shift,
        multiplier: scale.mul,
        incarnation: wanted.incarnation,
        is_reliable: !hal_irq::time::skewed(),
    }
}

/// The policies of this host.
pub fn policies() -> &'static cpu_policy::Policies {
    static POLICIES: spin::Once<cpu_policy::Policies> = spin::Once::new();
    POLICIES.call_once(|| {
        cpu_policy::Policies::of_host(|leaf, subleaf| {
            let found = hal_cpu::cpuid(leaf, subleaf);
            [found.eax, found.ebx, found.ecx, found.edx]
        })
    })
}

/// Logical CPUs in a core, and cores in a package (CPUID 0xb, else 0x80000008; SDM vol. 2, APM vol. 3).
fn topology() -> (u32, u32) {
    let threads = hal_cpu::cpuid(0xb, 0).ebx & 0xffff;
    let package = hal_cpu::cpuid(0xb, 1).ebx & 0xffff;
    if threads != 0 && package >= threads {
        return (threads, package / threads);
    }
    (1, (hal_cpu::cpuid(0x8000_0008, 0).ecx & 0xff) + 1)
}

/// What the toolstack asks about the host.
pub fn host() -> HostFacts {
    let leaf1 = hal_cpu::cpuid(1, 0);
    let extended = hal_cpu::cpuid(0x8000_0001, 0);
    let leaf7 = hal_cpu::cpuid(7, 0);
    let power = hal_cpu::cpuid(0x8000_0007, 0);
    let xsave = hal_cpu::cpuid(0xd, 1);
    let (threads_per_core, cores_per_socket) = topology();
    HostFacts {
        cpu_khz: (hal_irq::time::tsc_hz() / 1000) as u32,
        threads_per_core,
        cores_per_socket,
        // The order of the feature set's words (arch-x86/cpufeatureset.h).
        hw_caps: [leaf1.edx, leaf1.ecx, extended.edx, extended.ecx, xsave.eax, leaf7.ebx, leaf7.ecx, power.edx],
        hvm: hal_cpu::svm::current().is_some(),
        address_bits: crate::machine::physical_address_bits() as u8,
    }
}
