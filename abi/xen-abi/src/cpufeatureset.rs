//! CPU features as Xen counts them (arch-x86/cpufeatureset.h): bit `n % 32` of word `n / 32` of a featureset.
//!
//! [`WORDS`] says which CPUID register or MSR half each word comes from, [`FEATURES`] what Xen offers of each to which
//! guests.

/// The register (or, for an MSR, the half) that makes a featureset word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    /// EAX, or bits 31:0 of an MSR.
    Eax,
    /// EBX.
    Ebx,
    /// ECX.
    Ecx,
    /// EDX, or bits 63:32 of an MSR.
    Edx,
}

/// Where a featureset word comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// One register of a CPUID leaf; `subleaf` is 0 for a leaf without subleaves.
    Cpuid {
        /// EAX on entry.
        leaf: u32,
        /// ECX on entry.
        subleaf: u32,
        /// The register on return.
        register: Register,
    },
    /// One half of a model-specific register.
    Msr {
        /// The MSR's number.
        index: u32,
        /// Which half.
        register: Register,
    },
}

/// Number of words in a full featureset.
pub const FEATURESET_NR_ENTRIES: usize = WORDS.len();

/// The sources of the featureset words, in order.
pub const WORDS: [Source; 19] = [
    Source::Cpuid { leaf: 0x1, subleaf: 0, register: Register::Edx },
    Source::Cpuid { leaf: 0x1, subleaf: 0, register: Register::Ecx },
    Source::Cpuid { leaf: 0x8000_0001, subleaf: 0, register: Register::Edx },
    Source::Cpuid { leaf: 0x8000_0001, subleaf: 0, register: Register::Ecx },
    Source::Cpuid { leaf: 0xd, subleaf: 1, register: Register::Eax },
    Source::Cpuid { leaf: 0x7, subleaf: 0, register: Register::Ebx },
    Source::Cpuid { leaf: 0x7, subleaf: 0, register: Register::Ecx },
    Source::Cpuid { leaf: 0x8000_0007, subleaf: 0, register: Register::Edx },
    Source::Cpuid { leaf: 0x8000_0008, subleaf: 0, register: Register::Ebx },
    Source::Cpuid { leaf: 0x7, subleaf: 0, register: Register::Edx },
    Source::Cpuid { leaf: 0x7, subleaf: 1, register: Register::Eax },
    Source::Cpuid { leaf: 0x8000_0021, subleaf: 0, register: Register::Eax },
    Source::Cpuid { leaf: 0x7, subleaf: 1, register: Register::Ebx },
    Source::Cpuid { leaf: 0x7, subleaf: 2, register: Register::Edx },
    Source::Cpuid { leaf: 0x7, subleaf: 1, register: Register::Ecx },
    Source::Cpuid { leaf: 0x7, subleaf: 1, register: Register::Edx },
    Source::Msr { index: 0x10a, register: Register::Eax },
    Source::Msr { index: 0x10a, register: Register::Edx },
    Source::Cpuid { leaf: 0x8000_0021, subleaf: 0, register: Register::Ecx },
];

/// A feature and the guests it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feature {
    /// The C name, `XEN_X86_FEATURE_...`.
    pub name: &'static str,
    /// Number of the bit in the featureset: `word * 32 + bit`.
    pub index: u32,
    /// Attribute characters from the header: `A` all guests, `S` all HVM guests, `H` HVM guests with hardware-assisted
    /// paging; in lower case only on request; `!` handled specially; `|` to be accumulated across a migration pool.
    pub attributes: &'static str,
}

impl Feature {
    /// The featureset word that holds the feature.
    pub const fn word(&self) -> usize {
        (self.index / 32) as usize
    }

    /// The feature's bit in its word.
    pub const fn mask(&self) -> u32 {
        1 << (self.index % 32)
    }
}

macro_rules! features {
    ($(word $word:literal { $($name:ident: $bit:literal, $attributes:literal;)* })*) => {
        $($(
            #[doc = concat!("Bit ", $bit, " of word ", $word, " (attributes \"", $attributes, "\").")]
            pub const $name: u32 = $word * 32 + $bit;
        )*)*

        /// All features, in the order of their bits.
        pub const FEATURES: &[Feature] = &[
            $($(Feature { name: stringify!($name), index: $name, attributes: $attributes },)*)*
        ];

        /// Values under their C names, for the check against the C headers.
        pub(crate) const CONSTANTS: &[crate::layout::Constant] = &[
            $($(crate::layout::Constant { c_name: stringify!($name), value: $name as i128 },)*)*
        ];
    };
}

features! {
    word 0 {
        XEN_X86_FEATURE_FPU: 0, "A";
        XEN_X86_FEATURE_VME: 1, "S";
        XEN_X86_FEATURE_DE: 2, "A";
        XEN_X86_FEATURE_PSE: 3, "S";
        XEN_X86_FEATURE_TSC: 4, "A";
        XEN_X86_FEATURE_MSR: 5, "A";
        XEN_X86_FEATURE_PAE: 6, "A";
        XEN_X86_FEATURE_MCE: 7, "A";
        XEN_X86_FEATURE_CX8: 8, "A";
        XEN_X86_FEATURE_APIC: 9, "!A";
        XEN_X86_FEATURE_SEP: 11, "A";
        XEN_X86_FEATURE_MTRR: 12, "S";
        XEN_X86_FEATURE_PGE: 13, "S";
        XEN_X86_FEATURE_MCA: 14, "A";
        XEN_X86_FEATURE_CMOV: 15, "A";
        XEN_X86_FEATURE_PAT: 16, "A";
        XEN_X86_FEATURE_PSE36: 17, "S";
        XEN_X86_FEATURE_CLFLUSH: 19, "A";
        XEN_X86_FEATURE_DS: 21, "";
        XEN_X86_FEATURE_ACPI: 22, "A";
        XEN_X86_FEATURE_MMX: 23, "A";
        XEN_X86_FEATURE_FXSR: 24, "A";
        XEN_X86_FEATURE_SSE: 25, "A";
        XEN_X86_FEATURE_SSE2: 26, "A";
        XEN_X86_FEATURE_SS: 27, "A";
        XEN_X86_FEATURE_HTT: 28, "!A";
        XEN_X86_FEATURE_TM1: 29, "";
        XEN_X86_FEATURE_PBE: 31, "";
    }
    word 1 {
        XEN_X86_FEATURE_SSE3: 0, "A";
        XEN_X86_FEATURE_PCLMULQDQ: 1, "A";
        XEN_X86_FEATURE_DTES64: 2, "";
        XEN_X86_FEATURE_MONITOR: 3, "";
        XEN_X86_FEATURE_DSCPL: 4, "";
        XEN_X86_FEATURE_VMX: 5, "h";
        XEN_X86_FEATURE_SMX: 6, "";
        XEN_X86_FEATURE_EIST: 7, "";
        XEN_X86_FEATURE_TM2: 8, "";
        XEN_X86_FEATURE_SSSE3: 9, "A";
        XEN_X86_FEATURE_SDBG: 11, "";
        XEN_X86_FEATURE_FMA: 12, "A";
        XEN_X86_FEATURE_CX16: 13, "A";
        XEN_X86_FEATURE_XTPR: 14, "";
        XEN_X86_FEATURE_PDCM: 15, "";
        XEN_X86_FEATURE_PCID: 17, "H";
        XEN_X86_FEATURE_DCA: 18, "";
        XEN_X86_FEATURE_SSE4_1: 19, "A";
        XEN_X86_FEATURE_SSE4_2: 20, "A";
        XEN_X86_FEATURE_X2APIC: 21, "!S";
        XEN_X86_FEATURE_MOVBE: 22, "A";
        XEN_X86_FEATURE_POPCNT: 23, "A";
        XEN_X86_FEATURE_TSC_DEADLINE: 24, "S";
        XEN_X86_FEATURE_AESNI: 25, "A";
        XEN_X86_FEATURE_XSAVE: 26, "A";
        XEN_X86_FEATURE_OSXSAVE: 27, "!";
        XEN_X86_FEATURE_AVX: 28, "A";
        XEN_X86_FEATURE_F16C: 29, "A";
        XEN_X86_FEATURE_RDRAND: 30, "!A";
        XEN_X86_FEATURE_HYPERVISOR: 31, "!A";
    }
    word 2 {
        XEN_X86_FEATURE_SYSCALL: 11, "A";
        XEN_X86_FEATURE_NX: 20, "A";
        XEN_X86_FEATURE_MMXEXT: 22, "A";
        XEN_X86_FEATURE_FFXSR: 25, "A";
        XEN_X86_FEATURE_PAGE1GB: 26, "H";
        XEN_X86_FEATURE_RDTSCP: 27, "A";
        XEN_X86_FEATURE_LM: 29, "A";
        XEN_X86_FEATURE_3DNOWEXT: 30, "A";
        XEN_X86_FEATURE_3DNOW: 31, "A";
    }
    word 3 {
        XEN_X86_FEATURE_LAHF_LM: 0, "A";
        XEN_X86_FEATURE_CMP_LEGACY: 1, "!A";
        XEN_X86_FEATURE_SVM: 2, "h";
        XEN_X86_FEATURE_EXTAPIC: 3, "";
        XEN_X86_FEATURE_CR8_LEGACY: 4, "S";
        XEN_X86_FEATURE_ABM: 5, "A";
        XEN_X86_FEATURE_SSE4A: 6, "A";
        XEN_X86_FEATURE_MISALIGNSSE: 7, "A";
        XEN_X86_FEATURE_3DNOWPREFETCH: 8, "A";
        XEN_X86_FEATURE_OSVW: 9, "";
        XEN_X86_FEATURE_IBS: 10, "";
        XEN_X86_FEATURE_XOP: 11, "A";
        XEN_X86_FEATURE_SKINIT: 12, "";
        XEN_X86_FEATURE_WDT: 13, "";
        XEN_X86_FEATURE_LWP: 15, "";
        XEN_X86_FEATURE_FMA4: 16, "A";
        XEN_X86_FEATURE_NODEID_MSR: 19, "";
        XEN_X86_FEATURE_TBM: 21, "A";
        XEN_X86_FEATURE_TOPOEXT: 22, "";
        XEN_X86_FEATURE_DBEXT: 26, "A";
        XEN_X86_FEATURE_MONITORX: 29, "";
        XEN_X86_FEATURE_ADDR_MSK_EXT: 30, "A";
    }
    word 4 {
        XEN_X86_FEATURE_XSAVEOPT: 0, "A";
        XEN_X86_FEATURE_XSAVEC: 1, "A";
        XEN_X86_FEATURE_XGETBV1: 2, "A";
        XEN_X86_FEATURE_XSAVES: 3, "S";
        XEN_X86_FEATURE_XFD: 4, "";
    }
    word 5 {
        XEN_X86_FEATURE_FSGSBASE: 0, "A";
        XEN_X86_FEATURE_TSC_ADJUST: 1, "S";
        XEN_X86_FEATURE_SGX: 2, "";
        XEN_X86_FEATURE_BMI1: 3, "A";
        XEN_X86_FEATURE_HLE: 4, "!a";
        XEN_X86_FEATURE_AVX2: 5, "A";
        XEN_X86_FEATURE_FDP_EXCP_ONLY: 6, "!";
        XEN_X86_FEATURE_SMEP: 7, "S";
        XEN_X86_FEATURE_BMI2: 8, "A";
        XEN_X86_FEATURE_ERMS: 9, "A";
        XEN_X86_FEATURE_INVPCID: 10, "H";
        XEN_X86_FEATURE_RTM: 11, "!A";
        XEN_X86_FEATURE_PQM: 12, "";
        XEN_X86_FEATURE_NO_FPU_SEL: 13, "!";
        XEN_X86_FEATURE_MPX: 14, "s";
        XEN_X86_FEATURE_PQE: 15, "";
        XEN_X86_FEATURE_AVX512F: 16, "A";
        XEN_X86_FEATURE_AVX512DQ: 17, "A";
        XEN_X86_FEATURE_RDSEED: 18, "A";
        XEN_X86_FEATURE_ADX: 19, "A";
        XEN_X86_FEATURE_SMAP: 20, "S";
        XEN_X86_FEATURE_AVX512_IFMA: 21, "A";
        XEN_X86_FEATURE_CLFLUSHOPT: 23, "A";
        XEN_X86_FEATURE_CLWB: 24, "!A";
        XEN_X86_FEATURE_PROC_TRACE: 25, "";
        XEN_X86_FEATURE_AVX512PF: 26, "";
        XEN_X86_FEATURE_AVX512ER: 27, "";
        XEN_X86_FEATURE_AVX512CD: 28, "A";
        XEN_X86_FEATURE_SHA: 29, "A";
        XEN_X86_FEATURE_AVX512BW: 30, "A";
        XEN_X86_FEATURE_AVX512VL: 31, "A";
    }
    word 6 {
        XEN_X86_FEATURE_PREFETCHWT1: 0, "A";
        XEN_X86_FEATURE_AVX512_VBMI: 1, "A";
        XEN_X86_FEATURE_UMIP: 2, "S";
        XEN_X86_FEATURE_PKU: 3, "H";
        XEN_X86_FEATURE_OSPKE: 4, "!";
        XEN_X86_FEATURE_WAITPKG: 5, "";
        XEN_X86_FEATURE_AVX512_VBMI2: 6, "A";
        XEN_X86_FEATURE_CET_SS: 7, "";
        XEN_X86_FEATURE_GFNI: 8, "A";
        XEN_X86_FEATURE_VAES: 9, "A";
        XEN_X86_FEATURE_VPCLMULQDQ: 10, "A";
        XEN_X86_FEATURE_AVX512_VNNI: 11, "A";
        XEN_X86_FEATURE_AVX512_BITALG: 12, "A";
        XEN_X86_FEATURE_TME: 13, "";
        XEN_X86_FEATURE_AVX512_VPOPCNTDQ: 14, "A";
        XEN_X86_FEATURE_LA57: 16, "";
        XEN_X86_FEATURE_RDPID: 22, "A";
        XEN_X86_FEATURE_BLD: 24, "";
        XEN_X86_FEATURE_CLDEMOTE: 25, "A";
        XEN_X86_FEATURE_MOVDIRI: 27, "a";
        XEN_X86_FEATURE_MOVDIR64B: 28, "a";
        XEN_X86_FEATURE_ENQCMD: 29, "";
        XEN_X86_FEATURE_SGX_LC: 30, "";
        XEN_X86_FEATURE_PKS: 31, "H";
    }
    word 7 {
        XEN_X86_FEATURE_HW_PSTATE: 7, "";
        XEN_X86_FEATURE_ITSC: 8, "a";
        XEN_X86_FEATURE_CPB: 9, "";
        XEN_X86_FEATURE_EFRO: 10, "";
    }
    word 8 {
        XEN_X86_FEATURE_CLZERO: 0, "A";
        XEN_X86_FEATURE_RSTR_FP_ERR_PTRS: 2, "A";
        XEN_X86_FEATURE_WBNOINVD: 9, "";
        XEN_X86_FEATURE_IBPB: 12, "A";
        XEN_X86_FEATURE_IBRS: 14, "S";
        XEN_X86_FEATURE_AMD_STIBP: 15, "S";
        XEN_X86_FEATURE_IBRS_ALWAYS: 16, "S";
        XEN_X86_FEATURE_STIBP_ALWAYS: 17, "S";
        XEN_X86_FEATURE_IBRS_FAST: 18, "S";
        XEN_X86_FEATURE_IBRS_SAME_MODE: 19, "S";
        XEN_X86_FEATURE_NO_LMSL: 20, "S|";
        XEN_X86_FEATURE_AMD_PPIN: 23, "";
        XEN_X86_FEATURE_AMD_SSBD: 24, "S";
        XEN_X86_FEATURE_VIRT_SSBD: 25, "!";
        XEN_X86_FEATURE_SSB_NO: 26, "A";
        XEN_X86_FEATURE_PSFD: 28, "S";
        XEN_X86_FEATURE_BTC_NO: 29, "A";
        XEN_X86_FEATURE_IBPB_RET: 30, "A";
    }
    word 9 {
        XEN_X86_FEATURE_SGX_KEYS: 1, "";
        XEN_X86_FEATURE_AVX512_4VNNIW: 2, "";
        XEN_X86_FEATURE_AVX512_4FMAPS: 3, "";
        XEN_X86_FEATURE_FSRM: 4, "A";
        XEN_X86_FEATURE_UINTR: 5, "";
        XEN_X86_FEATURE_AVX512_VP2INTERSECT: 8, "a";
        XEN_X86_FEATURE_SRBDS_CTRL: 9, "";
        XEN_X86_FEATURE_MD_CLEAR: 10, "!A|";
        XEN_X86_FEATURE_RTM_ALWAYS_ABORT: 11, "!";
        XEN_X86_FEATURE_TSX_FORCE_ABORT: 13, "";
        XEN_X86_FEATURE_SERIALIZE: 14, "A";
        XEN_X86_FEATURE_HYBRID: 15, "";
        XEN_X86_FEATURE_TSXLDTRK: 16, "a";
        XEN_X86_FEATURE_PCONFIG: 18, "";
        XEN_X86_FEATURE_ARCH_LBR: 19, "";
        XEN_X86_FEATURE_CET_IBT: 20, "";
        XEN_X86_FEATURE_AMX_BF16: 22, "";
        XEN_X86_FEATURE_AVX512_FP16: 23, "A";
        XEN_X86_FEATURE_AMX_TILE: 24, "";
        XEN_X86_FEATURE_AMX_INT8: 25, "";
        XEN_X86_FEATURE_IBRSB: 26, "A";
        XEN_X86_FEATURE_STIBP: 27, "A";
        XEN_X86_FEATURE_L1D_FLUSH: 28, "S";
        XEN_X86_FEATURE_ARCH_CAPS: 29, "!A";
        XEN_X86_FEATURE_CORE_CAPS: 30, "";
        XEN_X86_FEATURE_SSBD: 31, "A";
    }
    word 10 {
        XEN_X86_FEATURE_SHA512: 0, "A";
        XEN_X86_FEATURE_SM3: 1, "A";
        XEN_X86_FEATURE_SM4: 2, "A";
        XEN_X86_FEATURE_AVX_VNNI: 4, "A";
        XEN_X86_FEATURE_AVX512_BF16: 5, "A";
        XEN_X86_FEATURE_CMPCCXADD: 7, "a";
        XEN_X86_FEATURE_FZRM: 10, "A";
        XEN_X86_FEATURE_FSRS: 11, "A";
        XEN_X86_FEATURE_FSRCS: 12, "A";
        XEN_X86_FEATURE_FRED: 17, "";
        XEN_X86_FEATURE_WRMSRNS: 19, "S";
        XEN_X86_FEATURE_AMX_FP16: 21, "";
        XEN_X86_FEATURE_AVX_IFMA: 23, "A";
    }
    word 11 {
        XEN_X86_FEATURE_NO_NEST_BP: 0, "A";
        XEN_X86_FEATURE_FS_GS_NS: 1, "S|";
        XEN_X86_FEATURE_LFENCE_DISPATCH: 2, "A";
        XEN_X86_FEATURE_VERW_CLEAR: 5, "!A|";
        XEN_X86_FEATURE_NSCB: 6, "A";
        XEN_X86_FEATURE_AUTO_IBRS: 8, "S";
        XEN_X86_FEATURE_AMD_FSRS: 10, "A";
        XEN_X86_FEATURE_AMD_FSRC: 11, "A";
        XEN_X86_FEATURE_CPUID_USER_DIS: 17, "";
        XEN_X86_FEATURE_EPSF: 18, "A";
        XEN_X86_FEATURE_FSRSC: 19, "A";
        XEN_X86_FEATURE_AMD_PREFETCHI: 20, "A";
        XEN_X86_FEATURE_SBPB: 27, "A";
        XEN_X86_FEATURE_IBPB_BRTYPE: 28, "A";
        XEN_X86_FEATURE_SRSO_NO: 29, "A";
        XEN_X86_FEATURE_SRSO_US_NO: 30, "A!";
        XEN_X86_FEATURE_SRSO_MSR_FIX: 31, "";
    }
    word 12 {
        XEN_X86_FEATURE_INTEL_PPIN: 0, "";
    }
    word 13 {
        XEN_X86_FEATURE_INTEL_PSFD: 0, "A";
        XEN_X86_FEATURE_IPRED_CTRL: 1, "S";
        XEN_X86_FEATURE_RRSBA_CTRL: 2, "S";
        XEN_X86_FEATURE_DDP_CTRL: 3, "";
        XEN_X86_FEATURE_BHI_CTRL: 4, "S";
        XEN_X86_FEATURE_MCDT_NO: 5, "A";
    }
    word 15 {
        XEN_X86_FEATURE_AVX_VNNI_INT8: 4, "A";
        XEN_X86_FEATURE_AVX_NE_CONVERT: 5, "A";
        XEN_X86_FEATURE_AMX_COMPLEX: 8, "";
        XEN_X86_FEATURE_AVX_VNNI_INT16: 10, "A";
        XEN_X86_FEATURE_PREFETCHI: 14, "A";
        XEN_X86_FEATURE_CET_SSS: 18, "";
    }
    word 16 {
        XEN_X86_FEATURE_RDCL_NO: 0, "A";
        XEN_X86_FEATURE_EIBRS: 1, "A";
        XEN_X86_FEATURE_RSBA: 2, "!";
        XEN_X86_FEATURE_SKIP_L1DFL: 3, "";
        XEN_X86_FEATURE_INTEL_SSB_NO: 4, "A";
        XEN_X86_FEATURE_MDS_NO: 5, "A";
        XEN_X86_FEATURE_IF_PSCHANGE_MC_NO: 6, "A";
        XEN_X86_FEATURE_TSX_CTRL: 7, "";
        XEN_X86_FEATURE_TAA_NO: 8, "A";
        XEN_X86_FEATURE_MCU_CTRL: 9, "";
        XEN_X86_FEATURE_MISC_PKG_CTRL: 10, "";
        XEN_X86_FEATURE_ENERGY_FILTERING: 11, "";
        XEN_X86_FEATURE_DOITM: 12, "";
        XEN_X86_FEATURE_SBDR_SSDP_NO: 13, "A";
        XEN_X86_FEATURE_FBSDP_NO: 14, "A";
        XEN_X86_FEATURE_PSDP_NO: 15, "A";
        XEN_X86_FEATURE_FB_CLEAR: 17, "!A|";
        XEN_X86_FEATURE_FB_CLEAR_CTRL: 18, "";
        XEN_X86_FEATURE_RRSBA: 19, "!";
        XEN_X86_FEATURE_BHI_NO: 20, "A";
        XEN_X86_FEATURE_XAPIC_STATUS: 21, "";
        XEN_X86_FEATURE_OVRCLK_STATUS: 23, "";
        XEN_X86_FEATURE_PBRSB_NO: 24, "A";
        XEN_X86_FEATURE_GDS_CTRL: 25, "";
        XEN_X86_FEATURE_GDS_NO: 26, "A";
        XEN_X86_FEATURE_RFDS_NO: 27, "A";
        XEN_X86_FEATURE_RFDS_CLEAR: 28, "!A|";
        XEN_X86_FEATURE_PB_OPT_CTRL: 32, "";
        XEN_X86_FEATURE_ITS_NO: 62, "!A";
    }
    word 18 {
        XEN_X86_FEATURE_TSA_SQ_NO: 1, "A";
        XEN_X86_FEATURE_TSA_L1_NO: 2, "A";
    }
}
