//! Tables of everything that the crate defines, for the check against the C headers.
//!
//! Nothing in the hypervisor uses them, so they cost no byte there.
#![doc(hidden)]

/// Size and member offsets of one structure.
#[derive(Clone, Copy, Debug)]
pub struct StructLayout {
    /// The C type.
    pub c_name: &'static str,
    /// The type in this crate.
    pub rust_name: &'static str,
    /// Size in bytes.
    pub size: usize,
    /// Alignment in bytes.
    pub align: usize,
    /// Members with their offsets and sizes in bytes; names that start with `_gap` have no C counterpart.
    pub members: &'static [(&'static str, usize, usize)],
}

/// One number.
#[derive(Clone, Copy, Debug)]
pub struct Constant {
    /// The C macro or enumerator.
    pub c_name: &'static str,
    /// Its value.
    pub value: i128,
}

/// All structures, module by module.
pub const STRUCTS: &[(&str, &[&[StructLayout]])] = &[
    ("arch_x86", &[crate::arch_x86::LAYOUT]),
    ("callback", &[crate::callback::LAYOUT]),
    ("dm_op", &[crate::dm_op::LAYOUT]),
    ("domctl", crate::domctl::LAYOUT_PARTS),
    ("event_channel", &[crate::event_channel::LAYOUT]),
    ("grant_table", &[crate::grant_table::LAYOUT]),
    ("hvm_op", &[crate::hvm_op::LAYOUT]),
    ("hvm_start_info", &[crate::hvm_start_info::LAYOUT]),
    ("hvm_vcpu", &[crate::hvm_vcpu::LAYOUT]),
    ("hvm_save::clocks", &[crate::hvm_save::clocks::LAYOUT]),
    ("hvm_save::cpu", &[crate::hvm_save::cpu::LAYOUT]),
    ("hvm_save::interrupts", &[crate::hvm_save::interrupts::LAYOUT]),
    ("hvm_save::msrs", &[crate::hvm_save::msrs::LAYOUT]),
    ("hvm_save::viridian", &[crate::hvm_save::viridian::LAYOUT]),
    ("ioreq", &[crate::ioreq::LAYOUT]),
    ("memory", &[crate::memory::LAYOUT]),
    ("nmi", &[crate::nmi::LAYOUT]),
    ("physdev", &[crate::physdev::LAYOUT]),
    ("platform", crate::platform::LAYOUT_PARTS),
    ("sched", &[crate::sched::LAYOUT]),
    ("sysctl", crate::sysctl::LAYOUT_PARTS),
    ("vcpu", &[crate::vcpu::LAYOUT]),
    ("version", &[crate::version::LAYOUT]),
    ("vm_event", &[crate::vm_event::LAYOUT]),
    ("xen", &[crate::xen::LAYOUT]),
];

/// All numbers, module by module.
pub const CONSTANTS: &[(&str, &[Constant])] = &[
    ("arch_x86", crate::arch_x86::CONSTANTS),
    ("callback", crate::callback::CONSTANTS),
    ("cpufeatureset", crate::cpufeatureset::CONSTANTS),
    ("cpuid", crate::cpuid::CONSTANTS),
    ("dm_op", crate::dm_op::CONSTANTS),
    ("domctl", crate::domctl::CONSTANTS_PART),
    ("elfnote", crate::elfnote::CONSTANTS),
    ("event_channel", crate::event_channel::CONSTANTS),
    ("features", crate::features::CONSTANTS),
    ("grant_table", crate::grant_table::CONSTANTS),
    ("hvm_op", crate::hvm_op::CONSTANTS),
    ("hvm_start_info", crate::hvm_start_info::CONSTANTS),
    ("hvm_vcpu", crate::hvm_vcpu::CONSTANTS),
    ("hvm_params", crate::hvm_params::CONSTANTS),
    ("hvm_save::clocks", crate::hvm_save::clocks::CONSTANTS),
    ("hvm_save::cpu", crate::hvm_save::cpu::CONSTANTS),
    ("hvm_save::interrupts", crate::hvm_save::interrupts::CONSTANTS),
    ("hvm_save::msrs", crate::hvm_save::msrs::CONSTANTS),
    ("hvm_save::viridian", crate::hvm_save::viridian::CONSTANTS),
    ("ioreq", crate::ioreq::CONSTANTS),
    ("kexec", crate::kexec::CONSTANTS),
    ("memory", crate::memory::CONSTANTS),
    ("nmi", crate::nmi::CONSTANTS),
    ("physdev", crate::physdev::CONSTANTS),
    ("platform", crate::platform::CONSTANTS_PART),
    ("sched", crate::sched::CONSTANTS),
    ("sysctl", crate::sysctl::CONSTANTS_PART),
    ("vcpu", crate::vcpu::CONSTANTS),
    ("version", crate::version::CONSTANTS),
    ("vm_event", crate::vm_event::CONSTANTS),
    ("xen", crate::xen::CONSTANTS),
];

/// Structures of 32-bit guests, for a compiler that makes 32-bit code.
pub const NARROW_STRUCTS: &[StructLayout] = crate::compat::LAYOUT;

/// Numbers of 32-bit guests, likewise.
pub const NARROW_CONSTANTS: &[Constant] = crate::compat::CONSTANTS;
