//! Feature sets: what CPUs can, as a list of bits (arch-x86/cpufeatureset.h).

use crate::policy::{EXTENDED, Leaf, Policy};
use xen_abi::cpufeatureset::*;

/// Bits of leaf 1's edx that AMD repeats in leaf 0x80000001's.
pub(crate) const COMMON: u32 = 0x0183_f3ff;
/// Words of a feature set that the toolstack gets.
pub const FEATURESET_WORDS: usize = FEATURESET_NR_ENTRIES;

/// A set of features.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FeatureSet(pub [u32; FEATURESET_NR_ENTRIES]);

impl FeatureSet {
    /// No feature.
    pub const EMPTY: FeatureSet = FeatureSet([0; FEATURESET_NR_ENTRIES]);

    /// Whether a feature (`XEN_X86_FEATURE_*`) is in it.
    pub fn has(&self, feature: u32) -> bool {
        self.0[feature as usize / 32] >> (feature % 32) & 1 != 0
    }

    /// Puts a feature in or takes it out.
    pub fn set(&mut self, feature: u32, value: bool) {
        let word = &mut self.0[feature as usize / 32];
        *word = *word & !(1 << (feature % 32)) | u32::from(value) << (feature % 32);
    }

    /// What both have.
    pub fn and(mut self, other: &FeatureSet) -> FeatureSet {
        for (word, other) in self.0.iter_mut().zip(other.0) {
            *word &= other;
        }
        self
    }

    /// All features whose attributes contain one of `attributes`.
    pub fn with_attributes(attributes: &str) -> FeatureSet {
        let mut set = FeatureSet::EMPTY;
        for feature in FEATURES.iter().filter(|feature| feature.attributes.contains(|c| attributes.contains(c))) {
            set.set(feature.index, true);
        }
        set
    }

    /// Takes out what cannot be without something that is missing.
    pub fn drop_dependents(&mut self) {
        // Those with dependents of their own come before these.
        for (needed, dependents) in DEPENDENCIES {
            if !self.has(*needed) {
                dependents.iter().for_each(|dependent| self.set(*dependent, false));
            }
        }
    }

    /// All features that have a name. OSXSAVE is not among them: it follows CR4 of who asks, hence is no matter of policy.
    pub fn known() -> FeatureSet {
        let mut set = FeatureSet::EMPTY;
        FEATURES.iter().for_each(|feature| set.set(feature.index, feature.index != XEN_X86_FEATURE_OSXSAVE));
        set.0[2] |= COMMON;
        set
    }

    /// The features that a policy shows.
    pub fn of(policy: &Policy) -> FeatureSet {
        let mut set = FeatureSet::EMPTY;
        for (word, source) in set.0.iter_mut().zip(WORDS) {
            *word = match source {
                Source::Cpuid { leaf, subleaf, register } => policy.kept(leaf, subleaf)[position(register)],
                Source::Msr { register: Register::Eax, .. } => policy.arch_caps as u32,
                Source::Msr { .. } => (policy.arch_caps >> 32) as u32,
            };
        }
        set
    }

    /// Makes a policy show these features and no others.
    pub fn put(&self, policy: &mut Policy) {
        policy.arch_caps = 0;
        for (word, source) in self.0.iter().zip(WORDS) {
            match source {
                Source::Cpuid { leaf, subleaf, register } => {
                    if let Some(kept) = policy.kept_mut(leaf, subleaf) {
                        kept[position(register)] = *word;
                    }
                }
                Source::Msr { register: Register::Eax, .. } => policy.arch_caps |= u64::from(*word),
                Source::Msr { .. } => policy.arch_caps |= u64::from(*word) << 32,
            }
        }
    }
}

const fn position(register: Register) -> usize {
    match register {
        Register::Eax => 0,
        Register::Ebx => 1,
        Register::Ecx => 2,
        Register::Edx => 3,
    }
}

impl Policy {
    fn kept(&self, leaf: u32, subleaf: u32) -> Leaf {
        match leaf {
            7 => self.feat[subleaf as usize],
            0xd => self.xstate[subleaf as usize],
            EXTENDED.. => self.extd[(leaf - EXTENDED) as usize],
            _ => self.basic[leaf as usize],
        }
    }

    fn kept_mut(&mut self, leaf: u32, subleaf: u32) -> Option<&mut Leaf> {
        match leaf {
            7 => self.feat.get_mut(subleaf as usize),
            0xd => self.xstate.get_mut(subleaf as usize),
            EXTENDED.. => self.extd.get_mut((leaf - EXTENDED) as usize),
            _ => self.basic.get_mut(leaf as usize),
        }
    }
}

/// Features that are of no use, or misleading, without the first.
const DEPENDENCIES: &[(u32, &[u32])] = &[
    (XEN_X86_FEATURE_FPU, &[XEN_X86_FEATURE_FXSR, XEN_X86_FEATURE_MMX]),
    (XEN_X86_FEATURE_MMX, &[XEN_X86_FEATURE_MMXEXT, XEN_X86_FEATURE_3DNOW]),
    (XEN_X86_FEATURE_3DNOW, &[XEN_X86_FEATURE_3DNOWEXT]),
    (XEN_X86_FEATURE_FXSR, &[XEN_X86_FEATURE_FFXSR, XEN_X86_FEATURE_SSE]),
    (XEN_X86_FEATURE_SSE, &[XEN_X86_FEATURE_SSE2, XEN_X86_FEATURE_MISALIGNSSE]),
    (
        XEN_X86_FEATURE_SSE2,
        &[
            XEN_X86_FEATURE_SSE3,
            XEN_X86_FEATURE_LM,
            XEN_X86_FEATURE_AESNI,
            XEN_X86_FEATURE_PCLMULQDQ,
            XEN_X86_FEATURE_SHA,
            XEN_X86_FEATURE_GFNI,
        ],
    ),
    (XEN_X86_FEATURE_SSE3, &[XEN_X86_FEATURE_SSSE3, XEN_X86_FEATURE_SSE4A]),
    (XEN_X86_FEATURE_SSSE3, &[XEN_X86_FEATURE_SSE4_1]),
    (XEN_X86_FEATURE_SSE4_1, &[XEN_X86_FEATURE_SSE4_2]),
    (
        XEN_X86_FEATURE_LM,
        &[
            XEN_X86_FEATURE_CX16,
            XEN_X86_FEATURE_LAHF_LM,
            XEN_X86_FEATURE_PAGE1GB,
            XEN_X86_FEATURE_FSGSBASE,
            XEN_X86_FEATURE_NO_LMSL,
        ],
    ),
    (
        XEN_X86_FEATURE_XSAVE,
        &[
            XEN_X86_FEATURE_XSAVEOPT,
            XEN_X86_FEATURE_XSAVEC,
            XEN_X86_FEATURE_XGETBV1,
            XEN_X86_FEATURE_XSAVES,
            XEN_X86_FEATURE_AVX,
            XEN_X86_FEATURE_MPX,
            XEN_X86_FEATURE_PKU,
        ],
    ),
    (
        XEN_X86_FEATURE_AVX,
        &[
            XEN_X86_FEATURE_FMA,
            XEN_X86_FEATURE_FMA4,
            XEN_X86_FEATURE_F16C,
            XEN_X86_FEATURE_XOP,
            XEN_X86_FEATURE_AVX2,
            XEN_X86_FEATURE_SHA512,
            XEN_X86_FEATURE_SM3,
            XEN_X86_FEATURE_SM4,
        ],
    ),
    (
        XEN_X86_FEATURE_AVX2,
        &[
            XEN_X86_FEATURE_AVX512F,
            XEN_X86_FEATURE_VAES,
            XEN_X86_FEATURE_VPCLMULQDQ,
            XEN_X86_FEATURE_AVX_VNNI,
            XEN_X86_FEATURE_AVX_IFMA,
            XEN_X86_FEATURE_AVX_VNNI_INT8,
            XEN_X86_FEATURE_AVX_NE_CONVERT,
            XEN_X86_FEATURE_AVX_VNNI_INT16,
        ],
    ),
    (
        XEN_X86_FEATURE_AVX512F,
        &[
            XEN_X86_FEATURE_AVX512DQ,
            XEN_X86_FEATURE_AVX512_IFMA,
            XEN_X86_FEATURE_AVX512CD,
            XEN_X86_FEATURE_AVX512BW,
            XEN_X86_FEATURE_AVX512VL,
            XEN_X86_FEATURE_AVX512_VBMI,
            XEN_X86_FEATURE_AVX512_VBMI2,
            XEN_X86_FEATURE_AVX512_VNNI,
            XEN_X86_FEATURE_AVX512_BITALG,
            XEN_X86_FEATURE_AVX512_VPOPCNTDQ,
            XEN_X86_FEATURE_AVX512_VP2INTERSECT,
            XEN_X86_FEATURE_AVX512_BF16,
            XEN_X86_FEATURE_AVX512_FP16,
        ],
    ),
    (XEN_X86_FEATURE_IBRSB, &[XEN_X86_FEATURE_STIBP, XEN_X86_FEATURE_SSBD, XEN_X86_FEATURE_INTEL_PSFD]),
    (
        XEN_X86_FEATURE_IBRS,
        &[
            XEN_X86_FEATURE_AMD_STIBP,
            XEN_X86_FEATURE_AMD_SSBD,
            XEN_X86_FEATURE_PSFD,
            XEN_X86_FEATURE_AUTO_IBRS,
            XEN_X86_FEATURE_IBRS_ALWAYS,
            XEN_X86_FEATURE_IBRS_FAST,
            XEN_X86_FEATURE_IBRS_SAME_MODE,
        ],
    ),
    (XEN_X86_FEATURE_AMD_STIBP, &[XEN_X86_FEATURE_STIBP_ALWAYS]),
    (XEN_X86_FEATURE_RTM, &[XEN_X86_FEATURE_TSXLDTRK]),
    (XEN_X86_FEATURE_PCID, &[XEN_X86_FEATURE_INVPCID]),
];
