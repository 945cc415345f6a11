//! The policies of a host.

use crate::features::FeatureSet;
use crate::policy::{BASIC, EXTD, EXTENDED, FEAT, Leaf, Policy, Vendor};
use alloc::boxed::Box;
use x86_defs::control::Xcr0;
use xen_abi::cpufeatureset::*;

/// Bits of leaf 1's edx that AMD repeats in leaf 0x80000001's.
const COMMON: u32 = 0x0183_f3ff;
/// Highest extended leaf on Intel that guests see.
const LAST_EXTENDED_INTEL: u32 = EXTENDED + 8;
/// Features that say how the CPU differs, not what it can: guests see them as they are.
const FACTS: [u32; 2] = [XEN_X86_FEATURE_FDP_EXCP_ONLY, XEN_X86_FEATURE_NO_FPU_SEL];

/// Features whose MSRs are not served: speculation control would have to follow the guest.
const UNSERVED: [u32; 7] = [
    XEN_X86_FEATURE_IBRSB,
    XEN_X86_FEATURE_IBPB,
    XEN_X86_FEATURE_IBPB_RET,
    XEN_X86_FEATURE_SBPB,
    XEN_X86_FEATURE_STIBP,
    XEN_X86_FEATURE_SSBD,
    XEN_X86_FEATURE_INTEL_PSFD,
];

/// Features of HVM guests that are not the CPU's.
const HVM_EMULATED: [u32; 3] = [XEN_X86_FEATURE_APIC, XEN_X86_FEATURE_X2APIC, XEN_X86_FEATURE_MTRR];

/// Features that would need registers or states that are not served: nested virtualization, timers, supervisor states, keys.
const HVM_UNSERVED: [u32; 8] = [
    XEN_X86_FEATURE_SVM,
    XEN_X86_FEATURE_VMX,
    XEN_X86_FEATURE_TSC_DEADLINE,
    XEN_X86_FEATURE_TSC_ADJUST,
    XEN_X86_FEATURE_XSAVES,
    XEN_X86_FEATURE_PKU,
    XEN_X86_FEATURE_CET_SS,
    XEN_X86_FEATURE_CET_IBT,
];

/// What the host has and what guests may have of it. Each policy is some KiB, hence on the heap.
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
        let mut known = FeatureSet::of(&host);
        // Without MSR 0x10a the feature that announces it says nothing.
        known.set(XEN_X86_FEATURE_ARCH_CAPS, host.arch_caps != 0);
        // AMD's CPUs have no SYSENTER in long mode (APM vol. 3), in which the kernel of a PV guest always runs.
        if host.vendor() == Vendor::Amd {
            known.set(XEN_X86_FEATURE_SEP, false);
        }
        known.drop_dependents();

        let max = known.and(&with_facts("Aa"));
        let default = known.and(&with_facts("A"));
        let pv_max = host.for_guest(max);
        let pv_default = host.for_guest(default);
        let mut control = default;
        control.set(XEN_X86_FEATURE_ITSC, known.has(XEN_X86_FEATURE_ITSC));
        let control_domain = host.for_guest(control);
        let hvm_max = host.for_hvm(known, "AaSsHh");
        let hvm_default = host.for_hvm(known, "ASH");
        Policies { raw, host, pv_max, pv_default, control_domain, hvm_max, hvm_default }
    }
}

fn with_facts(attributes: &str) -> FeatureSet {
    let mut set = FeatureSet::with_attributes(attributes);
    FACTS.iter().for_each(|fact| set.set(*fact, true));
    UNSERVED.iter().for_each(|feature| set.set(*feature, false));
    // Follows the guest's CR4, hence no matter of policy.
    set.set(XEN_X86_FEATURE_OSXSAVE, false);
    set
}

impl Policy {
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
        self.feat[feat + 1..].fill([0; 4]);
    }

    /// The part of this host's policy that an HVM guest sees, with features of these attributes: nothing without HVM.
    fn for_hvm(&self, mut known: FeatureSet, attributes: &str) -> Box<Policy> {
        if !known.has(XEN_X86_FEATURE_SVM) {
            return Box::new(Policy::empty());
        }
        HVM_UNSERVED.iter().for_each(|feature| known.set(*feature, false));
        HVM_EMULATED.iter().for_each(|feature| known.set(*feature, true));
        self.for_guest(known.and(&with_facts(attributes)))
    }

    /// The part of this host's policy that a guest with these features sees.
    fn for_guest(&self, mut features: FeatureSet) -> Box<Policy> {
        features.set(XEN_X86_FEATURE_HYPERVISOR, true);
        let mut policy = Box::new(self.clone());
        policy.settle(features, self);
        policy
    }

    /// Empties leaves that are about what no PV guest has: MONITOR, power, performance counters, SVM, SEV, topology.
    fn hide(&mut self) {
        for leaf in [3, 5, 6, 8, 9, 0xa, 0xc] {
            self.basic[leaf] = [0; 4];
        }
        if self.vendor() != Vendor::Intel {
            self.basic[2] = [0; 4];
            self.cache.fill([0; 4]);
        }
        self.topo.fill([0; 4]);
        self.extd[0xa..=0x18].fill([0; 4]);
        self.extd[0x1b..=0x20].fill([0; 4]);
    }

    /// Makes all that depends on features fit them, with the host's `max` for the rest.
    pub(crate) fn settle(&mut self, mut features: FeatureSet, max: &Policy) {
        self.hide();
        features.drop_dependents();
        // AMD's copies of features in leaf 1 are derived.
        features.0[2] &= !COMMON;
        features.put(self);
        if self.vendor() == Vendor::Amd {
            self.extd[1][3] |= self.basic[1][3] & COMMON;
        }
        // The APIC's number and the count of threads are of the CPU that was asked.
        self.basic[1][1] &= 0x00ff_ffff;
        self.extd[7] = [0, 0, 0, self.extd[7][3]];
        self.extd[8][3] = 0;
        self.extd[0x21] = [self.extd[0x21][0], 0, self.extd[0x21][2], 0];
        self.settle_xstate(&features, max);
        self.clip();
    }

    fn settle_xstate(&mut self, features: &FeatureSet, max: &Policy) {
        let mut states = Xcr0::empty();
        if features.has(XEN_X86_FEATURE_XSAVE) {
            states = Xcr0::X87 | Xcr0::SSE;
            states.set(Xcr0::AVX, features.has(XEN_X86_FEATURE_AVX));
            states.set(Xcr0::OPMASK | Xcr0::ZMM_HI256 | Xcr0::HI16_ZMM, features.has(XEN_X86_FEATURE_AVX512F));
            states &= max.xcr0();
        }
        let instructions = self.xstate[1][0];
        self.xstate.fill([0; 4]);
        if states.is_empty() {
            return;
        }
        for state in 2..self.xstate.len() {
            if states.bits() >> state & 1 != 0 {
                self.xstate[state] = max.xstate[state];
            }
        }
        let size = self.xstate_size(states);
        self.xstate[0] = [states.bits() as u32, size, size, (states.bits() >> 32) as u32];
        self.xstate[1] = [instructions, 0, 0, 0];
    }
}
