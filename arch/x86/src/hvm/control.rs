//! Which bits of control registers a guest may have, by the features that it has.

use cpu_policy::FeatureSet;
use x86_defs::control::{Cr4, Efer};
use xen_abi::cpufeatureset::*;

/// Bits of CR4, and the features any of which a guest needs to set them.
const CR4: [(Cr4, &[u32]); 17] = [
    (Cr4::VME.union(Cr4::PVI), &[XEN_X86_FEATURE_VME]),
    (Cr4::TSD, &[XEN_X86_FEATURE_TSC]),
    (Cr4::DE, &[XEN_X86_FEATURE_DE]),
    (Cr4::PSE, &[XEN_X86_FEATURE_PSE]),
    (Cr4::PAE, &[XEN_X86_FEATURE_PAE]),
    (Cr4::MCE, &[XEN_X86_FEATURE_MCE, XEN_X86_FEATURE_MCA]),
    (Cr4::PGE, &[XEN_X86_FEATURE_PGE]),
    (Cr4::OSFXSR, &[XEN_X86_FEATURE_FXSR]),
    (Cr4::OSXMMEXCPT, &[XEN_X86_FEATURE_SSE]),
    (Cr4::UMIP, &[XEN_X86_FEATURE_UMIP]),
    (Cr4::FSGSBASE, &[XEN_X86_FEATURE_FSGSBASE]),
    (Cr4::PCIDE, &[XEN_X86_FEATURE_PCID]),
    (Cr4::OSXSAVE, &[XEN_X86_FEATURE_XSAVE]),
    (Cr4::SMEP, &[XEN_X86_FEATURE_SMEP]),
    (Cr4::SMAP, &[XEN_X86_FEATURE_SMAP]),
    (Cr4::PKE, &[XEN_X86_FEATURE_PKU]),
    (Cr4::PKS, &[XEN_X86_FEATURE_PKS]),
];
/// Bits of EFER, likewise.
const EFER: [(Efer, &[u32]); 4] = [
    (Efer::SCE, &[XEN_X86_FEATURE_SYSCALL]),
    (Efer::LME.union(Efer::LMA), &[XEN_X86_FEATURE_LM]),
    (Efer::NXE, &[XEN_X86_FEATURE_NX]),
    (Efer::FFXSR, &[XEN_X86_FEATURE_FFXSR]),
];

fn allowed(features: &FeatureSet, table: &[(u64, &[u32])]) -> u64 {
    let has = |needed: &[u32]| needed.iter().any(|feature| features.has(*feature));
    table.iter().filter(|(_, needed)| has(needed)).fold(0, |bits, (more, _)| bits | more)
}

/// Bits of CR4 that a guest may set.
pub fn cr4_bits(features: &FeatureSet) -> u64 {
    let table = CR4.map(|(bits, needed)| (bits.bits(), needed));
    // Performance counters are read by nobody, but whether user code may has always been there.
    allowed(features, &table) | Cr4::PCE.bits()
}

/// Bits of EFER that a guest may have.
pub fn efer_bits(features: &FeatureSet) -> u64 {
    allowed(features, &EFER.map(|(bits, needed)| (bits.bits(), needed)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_follow_features() {
        let mut features = FeatureSet::EMPTY;
        assert_eq!((cr4_bits(&features), efer_bits(&features)), (Cr4::PCE.bits(), 0));
        features.set(XEN_X86_FEATURE_MCA, true);
        features.set(XEN_X86_FEATURE_VME, true);
        assert_eq!(cr4_bits(&features), (Cr4::PCE | Cr4::MCE | Cr4::VME | Cr4::PVI).bits());
        features.set(XEN_X86_FEATURE_LM, true);
        assert_eq!(efer_bits(&features), (Efer::LME | Efer::LMA).bits());
    }
}
