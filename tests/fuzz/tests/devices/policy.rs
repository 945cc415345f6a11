//! Policies that a toolstack makes up, on hosts that are made up as well: a guest gets nothing that its host lacks, nothing without
//! what it needs, and what was accepted is accepted again.

use cpu_policy::{FeatureSet, Guest, Leaf, MAX_LEAVES, NO_SUBLEAF, Policies, Policy, Tsc};
use fuzz::Random;
use x86_defs::control::Xcr0;
use xen_abi::arch_x86::{CpuidLeaf, MsrEntry};
use xen_abi::cpufeatureset::*;

const PROPOSALS: u64 = 20;

/// What guests may be shown that the host's CPU does not have: that they are guests, their topology, what is emulated or harmless.
const OURS: [u32; 8] = [
    XEN_X86_FEATURE_HYPERVISOR,
    XEN_X86_FEATURE_HTT,
    XEN_X86_FEATURE_CMP_LEGACY,
    XEN_X86_FEATURE_APIC,
    XEN_X86_FEATURE_X2APIC,
    XEN_X86_FEATURE_VERW_CLEAR,
    XEN_X86_FEATURE_NO_LMSL,
    XEN_X86_FEATURE_VIRT_SSBD,
];

/// Features, and what each needs.
const NEEDS: [(u32, u32); 14] = [
    (XEN_X86_FEATURE_SSE, XEN_X86_FEATURE_FXSR),
    (XEN_X86_FEATURE_SSE2, XEN_X86_FEATURE_SSE),
    (XEN_X86_FEATURE_SSE3, XEN_X86_FEATURE_SSE2),
    (XEN_X86_FEATURE_SSSE3, XEN_X86_FEATURE_SSE3),
    (XEN_X86_FEATURE_SSE4_2, XEN_X86_FEATURE_SSE4_1),
    (XEN_X86_FEATURE_LM, XEN_X86_FEATURE_SSE2),
    (XEN_X86_FEATURE_CX16, XEN_X86_FEATURE_LM),
    (XEN_X86_FEATURE_AVX, XEN_X86_FEATURE_XSAVE),
    (XEN_X86_FEATURE_FMA, XEN_X86_FEATURE_AVX),
    (XEN_X86_FEATURE_AVX2, XEN_X86_FEATURE_AVX),
    (XEN_X86_FEATURE_AVX512F, XEN_X86_FEATURE_AVX2),
    (XEN_X86_FEATURE_AVX512BW, XEN_X86_FEATURE_AVX512F),
    (XEN_X86_FEATURE_XSAVEC, XEN_X86_FEATURE_XSAVE),
    (XEN_X86_FEATURE_INVPCID, XEN_X86_FEATURE_PCID),
];

/// A CPU that says of most leaves what nobody expects.
struct Host {
    seed: u64,
    vendor: u64,
    is_sane: bool,
}

impl Host {
    fn cpuid(&self, leaf: u32, subleaf: u32) -> Leaf {
        let place = self.seed ^ u64::from(leaf) << 20 ^ u64::from(subleaf);
        let r = &mut Random::new(place);
        // Features are there more often than not.
        let mut random: [u32; 4] = std::array::from_fn(|_| (r.next() | r.next()) as u32);
        if !self.is_sane && r.one_in(3) {
            return random;
        }
        match (leaf, subleaf) {
            (0, _) | (0x8000_0000, _) => {
                let name = match self.vendor {
                    0 => [0x6874_7541, 0x444d_4163, 0x6974_6e65],
                    1 => [0x756e_6547, 0x6c65_746e, 0x4965_6e69],
                    _ => [random[1], random[2], random[3]],
                };
                let last = if leaf == 0 { 0x20 } else { 0x8000_0030 };
                [last.min(leaf + random[0] % 64), name[0], name[1], name[2]]
            }
            (7, 0) => [random[0] % 4, random[1], random[2], random[3]],
            (0xd, 0) => [random[0] & 0x2ff | 3, 0x240, 0x1000, 0],
            (0xd, 2..) => [random[0] % 0x400, 0x240 + random[1] % 0x1000, random[2] & 3, 0],
            // SVM, mostly, so that there are HVM guests.
            (0x8000_0001, _) => {
                random[2] |= if r.one_in(4) { 0 } else { 4 };
                random
            }
            _ => random,
        }
    }
}

fn leaves(policy: &Policy) -> Vec<CpuidLeaf> {
    let mut all = Vec::new();
    let done: Result<(), ()> = policy.write_leaves(|leaf| {
        all.push(leaf);
        Ok(())
    });
    assert!(done.is_ok() && all.len() <= MAX_LEAVES);
    let order: Vec<_> = all.iter().map(|leaf| (leaf.leaf, leaf.subleaf.wrapping_add(1))).collect();
    assert!(order.is_sorted(), "{order:x?}");
    all
}

fn is_within(set: &FeatureSet, of: &FeatureSet) -> bool {
    set.and(of) == *set
}

/// A policy that a guest may run under, on a host on which there is no more than `max`.
fn check(policy: &Policy, max: &Policy, raw: &Policy) {
    let (mut set, most) = (FeatureSet::of(policy), FeatureSet::of(max));
    // AMD's copies of leaf 1 are no features of their own.
    set.0[2] &= most.0[2] | FeatureSet::of(policy).0[0];
    assert_eq!(FeatureSet::of(policy).0[2] & !set.0[2], 0, "a copy of what is not there");
    set.0[2] &= most.0[2];
    assert!(is_within(&set, &most), "{:x?} of {:x?}", set.0, most.0);
    for (feature, needed) in NEEDS {
        assert!(!set.has(feature) || set.has(needed), "feature {feature} without {needed}");
    }
    assert!(!set.has(XEN_X86_FEATURE_SVM), "a guest of a guest");
    let states = policy.xcr0();
    assert!(raw.xcr0().contains(states), "{states:?}");
    let least = Xcr0::X87 | Xcr0::SSE;
    let has_states = set.has(XEN_X86_FEATURE_XSAVE) && raw.xcr0().contains(least) && policy.max_leaf() >= 0xd;
    assert_eq!(states.contains(least), has_states);
    assert!(!states.contains(Xcr0::AVX) || set.has(XEN_X86_FEATURE_AVX));
    assert!(!states.intersects(Xcr0::OPMASK | Xcr0::ZMM_HI256 | Xcr0::HI16_ZMM) || set.has(XEN_X86_FEATURE_AVX512F));
    let (basic, subleaf, extended) = (policy.max_leaf(), policy.max_subleaf(), policy.max_extended());
    assert!(basic <= max.max_leaf() && subleaf <= max.max_subleaf() && extended <= max.max_extended());
    assert_eq!((policy.arch_caps & !max.arch_caps, policy.platform_info & !max.platform_info), (0, 0));
}

/// What CPUID tells a guest is its policy, and nothing behind its last leaves.
fn check_answers(r: &mut Random, policy: &Policy, host: &Policy) {
    let tsc = Tsc { mode: 2, khz: r.next() as u32, shift: r.next() as i8, ..Tsc::default() };
    let guest = Guest {
        is_pv: r.one_in(2),
        is_kernel: r.one_in(2),
        is_control: false,
        osxsave: r.one_in(2),
        xcr0: r.next(),
        tsc,
    };
    for _ in 0..20 {
        let leaf = r.pick(&[0, 0x4000_0000, 0x4000_0100, 0x8000_0000])
            + if r.one_in(8) { r.value() as u32 >> 3 } else { r.below(0x24) as u32 };
        let subleaf = if r.one_in(8) { r.next() as u32 } else { r.below(70) as u32 };
        let answer = policy.answer(leaf, subleaf, &guest, host);
        let is_behind = match leaf {
            0..0x4000_0000 => leaf > policy.max_leaf(),
            0x4000_0000..0x8000_0000 => leaf > 0x4000_0005,
            _ => leaf > policy.max_extended(),
        };
        assert!(!is_behind || answer == [0; 4], "leaf {leaf:#x}");
        let behind = policy.answer_behind_viridian(leaf, subleaf, &guest, host);
        assert!(behind == answer || (0x4000_0100..0x4000_0200).contains(&leaf));
    }
    let set = FeatureSet::of(policy);
    let told = policy.answer(1, 0, &guest, host);
    let mut expected = set.0[1];
    if policy.max_leaf() >= 1 && set.has(XEN_X86_FEATURE_XSAVE) && (guest.osxsave || guest.is_kernel) {
        expected |= 1 << (XEN_X86_FEATURE_OSXSAVE % 32);
    }
    assert!(policy.max_leaf() < 1 || (told[3], told[2]) == (set.0[0], expected));
    let [_, size, most, _] = policy.answer(0xd, 0, &guest, host);
    assert!(policy.xcr0().is_empty() || policy.max_leaf() < 0xd || (576..=most).contains(&size), "{size} of {most}");
}

/// Leaves and MSRs as a toolstack might send them: some of the policy's own, changed or not, and some of none.
fn propose(r: &mut Random, policy: &mut Policy, known: &[CpuidLeaf]) {
    for _ in 0..PROPOSALS {
        let mut leaf = r.pick(known);
        // The last leaf's number is seldom too high, so that something is accepted.
        let keeps = matches!(leaf.leaf, 0 | 0x8000_0000) || leaf.leaf == 7 && leaf.subleaf == 0;
        let value = |r: &mut Random, old: u32| match r.below(4) {
            0 => r.next() as u32,
            1 => u32::MAX,
            2 => old & r.next() as u32,
            _ => old,
        };
        leaf.a = if keeps && !r.one_in(20) { leaf.a } else { value(r, leaf.a) };
        (leaf.b, leaf.c, leaf.d) = (value(r, leaf.b), value(r, leaf.c), value(r, leaf.d));
        if r.one_in(20) {
            (leaf.leaf, leaf.subleaf) = (r.value() as u32, if r.one_in(2) { NO_SUBLEAF } else { r.value() as u32 });
        }
        let before = policy.clone();
        if let Err(bad) = policy.propose_leaf(&leaf) {
            assert_eq!((bad.leaf, bad.subleaf), (leaf.leaf, leaf.subleaf));
            assert!(*policy == before, "a refused leaf changed something");
        }
    }
    let idx = if r.one_in(4) { r.next() as u32 } else { r.pick(&[0xce, 0x10a]) };
    let entry = MsrEntry { idx, flags: u32::from(r.one_in(8)), val: if r.one_in(2) { 0 } else { r.value() } };
    let _ = policy.propose_msr(&entry);
}

pub fn case(r: &mut Random) -> u64 {
    let host = Host { seed: r.next(), vendor: r.below(3), is_sane: !r.one_in(4) };
    let all = Policies::of_host(|leaf, subleaf| host.cpuid(leaf, subleaf));
    let mut ours = FeatureSet::of(&all.raw);
    OURS.iter().for_each(|feature| ours.set(*feature, true));
    let mut accepted = 0;
    for (max, default) in [(&all.pv_max, &all.pv_default), (&all.hvm_max, &all.hvm_default)] {
        assert!(is_within(&FeatureSet::of(max), &ours), "{:x?} of {:x?}", FeatureSet::of(max).0, ours.0);
        check(&default.of_domain(), max, &all.raw);
        let mut policy = default.of_domain();
        let known = leaves(&policy);
        propose(r, &mut policy, &known);
        if policy.accept(max).is_err() {
            continue;
        }
        accepted += 1;
        check(&policy, max, &all.raw);
        check_answers(r, &policy, &all.host);
        let mut again = policy.clone();
        leaves(&policy).iter().for_each(|leaf| assert!(again.propose_leaf(leaf).is_ok()));
        policy.write_msrs().iter().for_each(|entry| assert!(again.propose_msr(entry).is_ok()));
        assert!(again.accept(max).is_ok() && again == policy, "what was accepted is another");
    }
    accepted * 2
}
