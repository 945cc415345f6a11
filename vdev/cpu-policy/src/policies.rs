//! The policies of a host.

use crate::features::{COMMON, FeatureSet};
use crate::policy::{BASIC, CPUID_FAULTING, EXTD, EXTENDED, FEAT, Leaf, Policy, Vendor};
use alloc::boxed::Box;
use x86_defs::control::Xcr0;
use xen_abi::cpufeatureset::*;

/// In ecx of a state's leaf: it is in IA32_XSS, not in XCR0.
const SUPERVISOR_STATE: u32 = 1;
/// The same: it begins at a multiple of 64 bytes in a compacted area.
const ALIGNED_STATE: u32 = 2;
/// Highest extended leaf on Intel that guests see.
const LAST_EXTENDED_INTEL: u32 = EXTENDED + 8;
/// Features that say how the CPU differs, not what it can: guests see them as they are.
const FACTS: [u32; 2] = [XEN_X86_FEATURE_FDP_EXCP_ONLY, XEN_X86_FEATURE_NO_FPU_SEL];

/// Features that any guest may be told of, as guests that come from other hosts may know them: topology, which is the toolstack's
/// choice; x2APIC, which PV guests cannot use; an instruction that clears buffers here or does nothing.
const HARMLESS: [(u32, Option<Vendor>); 4] = [
    (XEN_X86_FEATURE_HTT, None),
    (XEN_X86_FEATURE_CMP_LEGACY, None),
    (XEN_X86_FEATURE_X2APIC, None),
    (XEN_X86_FEATURE_VERW_CLEAR, Some(Vendor::Amd)),
];

/// Features whose MSRs are not served: speculation control would have to follow the guest.
const UNSERVED: [u32; 8] = [
    XEN_X86_FEATURE_IBRSB,
    XEN_X86_FEATURE_IBRS,
    XEN_X86_FEATURE_IBPB,
    XEN_X86_FEATURE_IBPB_RET,
    XEN_X86_FEATURE_SBPB,
    XEN_X86_FEATURE_STIBP,
    XEN_X86_FEATURE_SSBD,
    XEN_X86_FEATURE_INTEL_PSFD,
];

/// Features of HVM guests that are not the CPU's: local APICs, and that EFER has no LMSLE, which it never has for them.
const HVM_EMULATED: [u32; 3] = [XEN_X86_FEATURE_APIC, XEN_X86_FEATURE_X2APIC, XEN_X86_FEATURE_NO_LMSL];

/// Features that would need registers or states that are not served: VT-x, a moved counter, supervisor states, keys.
const HVM_UNSERVED: [u32; 6] = [
    XEN_X86_FEATURE_VMX,
    XEN_X86_FEATURE_TSC_ADJUST,
    XEN_X86_FEATURE_XSAVES,
    XEN_X86_FEATURE_PKU,
    XEN_X86_FEATURE_CET_SS,
    XEN_X86_FEATURE_CET_IBT,
];

/// SVM's leaf (APM vol. 3, E.4.9).
const SVM_LEAF: usize = 0xa;
/// In its edx what guests of an HVM guest would be served by the CPU: nested paging, virtual branch records, next rip, pause
/// filter, decode assists.
const SVM_BY_CPU: u32 = 1 | 1 << 1 | 1 << 3 | 1 << 7 | 1 << 10;
/// And what is a matter of the hypervisor alone: clean bits of a control block.
const SVM_BY_HYPERVISOR: u32 = 1 << 5;
/// AMD's families whose MSR LS_CFG holds back speculative stores.
const STORE_BYPASS_FAMILIES: core::ops::RangeInclusive<u32> = 0x15..=0x18;

/// What the host has and what guests may have of it, as the toolstack is shown it: a domain's own is [`Policy::of_domain`] of one.
/// Each policy is some KiB, hence on the heap.
#[derive(Clone, Debug)]
pub struct Policies {
    /// As the CPU reports.
    pub raw: Box<Policy>,
    /// As far as the hypervisor knows it.
    pub host: Box<Policy>,
    /// All that a PV guest may be given.
    pub pv_max: Box<Policy>,
    /// What a PV guest is given unless asked for otherwise.
    pub pv_default: Box<Policy>,
    /// What the PV control domain is given.
    pub control_domain: Box<Policy>,
    /// All that an HVM guest may be given: nothing without HVM.
    pub hvm_max: Box<Policy>,
    /// What an HVM guest is given unless asked for otherwise.
    pub hvm_default: Box<Policy>,
}

impl Policies {
    /// Derives all from what the CPU's `cpuid(leaf, subleaf)` reports: eax, ebx, ecx, edx.
    pub fn of_host(cpuid: impl FnMut(u32, u32) -> Leaf) -> Policies {
        let raw = Box::new(Policy::read(cpuid));
        let mut host = raw.clone();
        host.clip();
        let mut known = FeatureSet::of(&host).and(&FeatureSet::known());
        // Without MSR 0x10a the feature that announces it says nothing.
        known.set(XEN_X86_FEATURE_ARCH_CAPS, host.arch_caps != 0);
        // AMD's CPUs have no SYSENTER in long mode (APM vol. 3), in which the kernel of a PV guest always runs.
        if host.vendor() == Vendor::Amd {
            known.set(XEN_X86_FEATURE_SEP, false);
        }
        known.drop_dependents();
        host.derive(known, &raw);
        host.repeat_common();

        let max = harmless_too(known.and(&with_facts("Aa")), &host);
        let default = known.and(&with_facts("A"));
        let pv_max = host.widened().for_pv(max);
        let pv_default = host.for_pv(default);
        let mut control = default;
        control.set(XEN_X86_FEATURE_ITSC, known.has(XEN_X86_FEATURE_ITSC));
        let control_domain = host.for_pv(control);
        let most = hvm_features(&known, &raw, "AaSsHh");
        let hvm_max = host.widened().for_hvm(harmless_too(most, &host));
        let hvm_default = host.for_hvm(hvm_features(&known, &raw, "ASH"));
        Policies { raw, host, pv_max, pv_default, control_domain, hvm_max, hvm_default }
    }
}

fn with_facts(attributes: &str) -> FeatureSet {
    let mut set = FeatureSet::with_attributes(attributes);
    FACTS.iter().for_each(|fact| set.set(*fact, true));
    UNSERVED.iter().for_each(|feature| set.set(*feature, false));
    set
}

fn harmless_too(mut features: FeatureSet, host: &Policy) -> FeatureSet {
    let harmless = HARMLESS.iter().filter(|(_, vendor)| vendor.is_none_or(|vendor| vendor == host.vendor()));
    harmless.for_each(|(feature, _)| features.set(*feature, true));
    features
}

/// Of what is known of a host, features with these attributes that an HVM guest may be told of.
fn hvm_features(known: &FeatureSet, raw: &Policy, attributes: &str) -> FeatureSet {
    let mut features = known.and(&with_facts(attributes));
    HVM_UNSERVED.iter().for_each(|feature| features.set(*feature, false));
    HVM_EMULATED.iter().for_each(|feature| features.set(*feature, true));
    // Such a guest need not run in long mode.
    features.set(XEN_X86_FEATURE_SEP, FeatureSet::of(raw).has(XEN_X86_FEATURE_SEP));
    features.set(XEN_X86_FEATURE_VIRT_SSBD, raw.holds_back_stores());
    features
}

impl Policy {
    /// Whether there is a way to hold back speculative stores that guests cannot be shown as it is.
    fn holds_back_stores(&self) -> bool {
        let features = FeatureSet::of(self);
        let by_family = !features.has(XEN_X86_FEATURE_SSB_NO) && STORE_BYPASS_FAMILIES.contains(&self.family());
        let possible = features.has(XEN_X86_FEATURE_VIRT_SSBD) || by_family;
        self.vendor() == Vendor::Amd && !features.has(XEN_X86_FEATURE_AMD_SSBD) && possible
    }

    /// Cuts off leaves that nothing is known about.
    pub(crate) fn clip(&mut self) {
        self.basic[0][0] = self.max_leaf().min(BASIC as u32 - 1);
        self.feat[0][0] = self.max_subleaf().min(FEAT as u32 - 1);
        let last = match self.vendor() {
            Vendor::Intel => LAST_EXTENDED_INTEL,
            _ => EXTENDED + EXTD as u32 - 1,
        };
        let has_extended = self.max_extended() >> 16 == EXTENDED >> 16;
        self.extd[0][0] = if has_extended { self.max_extended().min(last) } else { 0 };
        let used = (self.extd[0][0] & 0xffff) as usize;
        self.extd[if has_extended { used + 1 } else { 0 }..].fill([0; 4]);
        let (basic, feat) = (self.basic[0][0] as usize, self.feat[0][0] as usize);
        self.basic[basic + 1..].fill([0; 4]);
        self.feat[if basic < 7 { 0 } else { feat + 1 }..].fill([0; 4]);
        if basic < 4 {
            self.cache.fill([0; 4]);
        }
        if basic < 0xb {
            self.topo.fill([0; 4]);
        }
        if basic < 0xd {
            self.xstate.fill([0; 4]);
        }
    }

    /// The part of this host's policy that an HVM guest with these features sees: nothing without HVM. (Nested virtualization is
    /// listed by its leaf at least; no domain has it.)
    fn for_hvm(&self, features: FeatureSet) -> Box<Policy> {
        if !FeatureSet::of(self).has(XEN_X86_FEATURE_SVM) {
            return Box::new(Policy::empty());
        }
        let mut policy = self.for_guest(features);
        let [.., nested] = &mut policy.extd[SVM_LEAF];
        *nested = *nested & SVM_BY_CPU | SVM_BY_HYPERVISOR;
        policy.platform_info = CPUID_FAULTING;
        policy
    }

    /// The part of this host's policy that a PV guest with these features sees.
    fn for_pv(&self, features: FeatureSet) -> Box<Policy> {
        let mut policy = self.for_guest(features);
        policy.extd[SVM_LEAF] = [0; 4];
        policy
    }

    fn for_guest(&self, mut features: FeatureSet) -> Box<Policy> {
        features.set(XEN_X86_FEATURE_HYPERVISOR, true);
        let mut policy = Box::new(self.clone());
        policy.derive(features, self);
        policy
    }

    /// The same with as many leaves as there are in any policy; those that this host lacks are empty.
    fn widened(&self) -> Box<Policy> {
        let mut wide = Box::new(self.clone());
        wide.basic[0][0] = BASIC as u32 - 1;
        wide.feat[0][0] = FEAT as u32 - 1;
        wide.extd[0][0] = EXTENDED + EXTD as u32 - 1;
        wide
    }

    /// The one that a domain begins with.
    pub fn of_domain(&self) -> Box<Policy> {
        let mut own = Box::new(self.clone());
        own.settle(FeatureSet::of(self), self);
        own
    }

    /// Empties leaves that are of no use or of the CPU that was asked: MONITOR, power, performance counters, SEV, topology.
    fn hide(&mut self) {
        for leaf in [3, 5, 6, 8, 9, 0xa, 0xc] {
            self.basic[leaf] = [0; 4];
        }
        self.topo.fill([0; 4]);
        // Without the processor's type, which only Intel has.
        self.basic[1][0] &= 0x0fff_0fff;
        // The APIC's number is of the CPU that was asked.
        self.basic[1][1] &= 0x00ff_ffff;
        self.extd[7] = [0, 0, 0, self.extd[7][3]];
        // Without how wide a guest's own guests' addresses may be.
        self.extd[8][0] &= 0xffff;
        self.extd[8][3] = 0;
        match self.vendor() {
            Vendor::Intel => self.hide_intel(),
            Vendor::Amd => self.hide_amd(),
            Vendor::Other => {}
        }
        self.extd[0xb..=0x18].fill([0; 4]);
        self.extd[0x1b..=0x20].fill([0; 4]);
        self.extd[0x21] = [self.extd[0x21][0], 0, self.extd[0x21][2], 0];
    }

    fn hide_intel(&mut self) {
        // One query tells all of leaf 2.
        self.basic[2][0] = self.basic[2][0] & !0xff | 1;
        let [last, ..] = self.extd[0];
        self.extd[0] = [last, 0, 0, 0];
        self.extd[1][..2].fill(0);
        self.extd[5] = [0; 4];
        self.extd[6] = [0, 0, self.extd[6][2], 0];
        self.extd[8][2] = 0;
    }

    fn hide_amd(&mut self) {
        self.basic[2] = [0; 4];
        self.cache.fill([0; 4]);
        let ([last, ..], [_, b, c, d]) = (self.extd[0], self.basic[0]);
        self.extd[0] = [last, b, c, d];
        self.extd[1][0] = self.basic[1][0];
        self.extd[1][1] &= 0xff00_ffff;
        // Threads of the package, the size of its APIC numbers, and the timer's.
        self.extd[8][2] &= 0x0003_f0ff;
        self.extd[9] = [0; 4];
    }

    /// Makes all that depends on features fit them, for a domain, with `max` for the rest. It has no guests of its own.
    pub(crate) fn settle(&mut self, mut features: FeatureSet, max: &Policy) {
        features.set(XEN_X86_FEATURE_SVM, false);
        self.extd[SVM_LEAF] = [0; 4];
        self.derive(features, max);
        self.repeat_common();
    }

    /// The same as far as it is listed for domains in general: with SVM's leaf, without AMD's copies.
    fn derive(&mut self, mut features: FeatureSet, max: &Policy) {
        // Some leaves repeat what is in others, of which there is to be nothing if these are none of its own.
        self.clip();
        self.hide();
        features.drop_dependents();
        features.0[2] &= !COMMON;
        features.put(self);
        self.clip();
        // What was in a leaf that is not there any more is missed by others.
        let mut features = FeatureSet::of(self);
        features.drop_dependents();
        features.put(self);
        self.settle_xstate(&features, max);
        self.clip();
    }

    /// Makes AMD's copies of features in leaf 1.
    fn repeat_common(&mut self) {
        if self.vendor() == Vendor::Amd {
            self.extd[1][3] |= self.basic[1][3] & COMMON;
        }
    }

    fn settle_xstate(&mut self, features: &FeatureSet, max: &Policy) {
        let mut states = Xcr0::empty();
        if features.has(XEN_X86_FEATURE_XSAVE) {
            states = Xcr0::X87 | Xcr0::SSE;
            states.set(Xcr0::AVX, features.has(XEN_X86_FEATURE_AVX));
            states.set(Xcr0::BNDREGS | Xcr0::BNDCSR, features.has(XEN_X86_FEATURE_MPX));
            states.set(Xcr0::PKRU, features.has(XEN_X86_FEATURE_PKU));
            states.set(Xcr0::OPMASK | Xcr0::ZMM_HI256 | Xcr0::HI16_ZMM, features.has(XEN_X86_FEATURE_AVX512F));
            states &= max.xcr0();
        }
        let instructions = self.xstate[1][0];
        self.xstate.fill([0; 4]);
        if states.is_empty() {
            return;
        }
        let mut attributes = 0;
        if features.has(XEN_X86_FEATURE_XSAVES) {
            attributes |= SUPERVISOR_STATE;
        }
        if features.has(XEN_X86_FEATURE_XSAVEC) {
            attributes |= ALIGNED_STATE;
        }
        for state in 2..self.xstate.len() {
            if states.bits() >> state & 1 != 0 {
                let [size, offset, about, _] = max.xstate[state];
                self.xstate[state] = [size, offset, about & attributes, 0];
            }
        }
        // The size for the guest's XCR0 goes into ebx when it asks.
        let size = self.xstate_size(states);
        self.xstate[0] = [states.bits() as u32, 0, size, (states.bits() >> 32) as u32];
        self.xstate[1] = [instructions, 0, 0, 0];
    }
}
