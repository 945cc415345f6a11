//! Model-specific registers: their numbers (SDM vol. 4; APM vol. 2, appendix A).

/// Time-stamp counter.
pub const TSC: u32 = 0x10;
/// Local APIC's base address and mode.
pub const APIC_BASE: u32 = 0x1b;
/// Feature control (VMX, SMX).
pub const FEATURE_CONTROL: u32 = 0x3a;
/// Offset added to the TSC.
pub const TSC_ADJUST: u32 = 0x3b;
/// Speculation control.
pub const SPEC_CTRL: u32 = 0x48;
/// Prediction command.
pub const PRED_CMD: u32 = 0x49;
/// Microcode update (Intel).
pub const INTEL_UCODE_WRITE: u32 = 0x79;
/// Microcode revision.
pub const UCODE_REV: u32 = 0x8b;
/// Performance counter 0.
pub const PERFCTR0: u32 = 0xc1;
/// Platform information (Intel).
pub const INTEL_PLATFORM_INFO: u32 = 0xce;
/// MTRR capabilities.
pub const MTRR_CAP: u32 = 0xfe;
/// Architectural capabilities.
pub const ARCH_CAPABILITIES: u32 = 0x10a;
/// L1 data cache flush.
pub const FLUSH_CMD: u32 = 0x10b;
/// How transactional memory is set by microcode (Intel).
pub const TSX_FORCE_ABORT: u32 = 0x10f;
/// Transactional memory's switches (Intel).
pub const TSX_CTRL: u32 = 0x122;
/// Switches of microcode's protections, of random numbers among them (Intel).
pub const MCU_OPT_CTRL: u32 = 0x123;
/// Misc. features enables (Intel): CPUID faulting.
pub const INTEL_MISC_FEATURES_ENABLES: u32 = 0x140;
/// Code segment for SYSENTER.
pub const SYSENTER_CS: u32 = 0x174;
/// Stack pointer for SYSENTER.
pub const SYSENTER_ESP: u32 = 0x175;
/// Entry point for SYSENTER.
pub const SYSENTER_EIP: u32 = 0x176;
/// Machine-check capabilities.
pub const MCG_CAP: u32 = 0x179;
/// Machine-check status.
pub const MCG_STATUS: u32 = 0x17a;
/// Machine-check control.
pub const MCG_CTL: u32 = 0x17b;
/// Performance event select 0.
pub const PERFEVTSEL0: u32 = 0x186;
/// Misc. enables (Intel).
pub const MISC_ENABLE: u32 = 0x1a0;
/// Debug control: branch tracing.
pub const DEBUGCTL: u32 = 0x1d9;
/// First variable-range MTRR: base 0, mask 0, base 1, ...
pub const MTRR_PHYS_BASE0: u32 = 0x200;
/// Fixed-range MTRR: 64 KiB ranges.
pub const MTRR_FIX_64K: u32 = 0x250;
/// Fixed-range MTRRs: 16 KiB ranges, two of them.
pub const MTRR_FIX_16K: u32 = 0x258;
/// Fixed-range MTRRs: 4 KiB ranges, eight of them.
pub const MTRR_FIX_4K: u32 = 0x268;
/// Page attribute table.
pub const PAT: u32 = 0x277;
/// Default memory type.
pub const MTRR_DEF_TYPE: u32 = 0x2ff;
/// Machine-check bank 0: control, status, address, misc.; four MSRs a bank.
pub const MC0_CTL: u32 = 0x400;
/// First of VMX's capability MSRs.
pub const VMX_BASIC: u32 = 0x480;
/// Deadline of the local APIC's timer, in TSC ticks.
pub const TSC_DEADLINE: u32 = 0x6e0;
/// First of the x2APIC's registers.
pub const X2APIC_FIRST: u32 = 0x800;
/// Last of the x2APIC's registers.
pub const X2APIC_LAST: u32 = 0x8ff;
/// Supervisor state components of XSAVES.
pub const XSS: u32 = 0xda0;
/// First MSR that a hypervisor makes up.
pub const HYPERVISOR_FIRST: u32 = 0x4000_0000;
/// Extended features.
pub const EFER: u32 = 0xc000_0080;
/// Selector bases for SYSCALL and SYSRET.
pub const STAR: u32 = 0xc000_0081;
/// Entry point of SYSCALL from 64-bit code.
pub const LSTAR: u32 = 0xc000_0082;
/// Entry point of SYSCALL from 32-bit code.
pub const CSTAR: u32 = 0xc000_0083;
/// Flags that SYSCALL clears.
pub const FMASK: u32 = 0xc000_0084;
/// Base of FS.
pub const FS_BASE: u32 = 0xc000_0100;
/// Base of GS.
pub const GS_BASE: u32 = 0xc000_0101;
/// The base that SWAPGS exchanges with GS's.
pub const KERNEL_GS_BASE: u32 = 0xc000_0102;
/// Value that RDTSCP returns in ECX.
pub const TSC_AUX: u32 = 0xc000_0103;
/// System configuration (AMD).
pub const AMD_SYSCFG: u32 = 0xc001_0010;
/// Hardware configuration (AMD).
pub const AMD_HWCR: u32 = 0xc001_0015;
/// Northbridge configuration (AMD).
pub const AMD_NB_CFG: u32 = 0xc001_001f;
/// Microcode update (AMD).
pub const AMD_PATCH_LOADER: u32 = 0xc001_0020;
/// Current P-state (AMD).
pub const AMD_PSTATE_STATUS: u32 = 0xc001_0063;
/// First P-state definition (AMD).
pub const AMD_PSTATE_DEF0: u32 = 0xc001_0064;
/// SVM control (AMD).
pub const AMD_VM_CR: u32 = 0xc001_0114;
/// Physical address of SVM's host save area (AMD).
pub const AMD_VM_HSAVE_PA: u32 = 0xc001_0117;
/// Speculative stores held back, as hypervisors show it to guests (AMD).
pub const VIRT_SPEC_CTRL: u32 = 0xc001_011f;
/// Load-store configuration (AMD).
pub const AMD_LS_CFG: u32 = 0xc001_1020;
/// Decode configuration (AMD).
pub const AMD_DE_CFG: u32 = 0xc001_1029;
