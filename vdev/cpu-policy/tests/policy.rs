//! Policies of made-up hosts.

use cpu_policy::*;
use types::Errno;
use xen_abi::arch_x86::{CpuidLeaf, MsrEntry};
use xen_abi::cpufeatureset::*;

/// An AMD CPU, much like the one that QEMU calls EPYC.
fn amd(leaf: u32, subleaf: u32) -> Leaf {
    match (leaf, subleaf) {
        (0, _) => [0xd, 0x6874_7541, 0x444d_4163, 0x6974_6e65],
        (1, _) => [0x0080_0f12, 0x0102_0800, 0x7ed8_320b, 0x178b_fbff],
        (5, _) => [64, 64, 3, 17],
        (7, 0) => [0, 0x209c_01a9, 0, 0],
        (0xb, n) => [n, 2, 0x100, 1],
        (0xd, 0) => [7, 832, 832, 0],
        (0xd, 1) => [0xf, 832, 0, 0],
        (0xd, 2) => [256, 576, 0, 0],
        (0x8000_0000, _) => [0x8000_001e, 0x6874_7541, 0x444d_4163, 0x6974_6e65],
        (0x8000_0001, _) => [0x0080_0f12, 0, 0x0040_03f3, 0x2fd3_fbff],
        (0x8000_0007, _) => [0, 0, 0, 0x100],
        (0x8000_0008, _) => [0x3028, 0x1001, 0x7007, 3],
        (0x8000_000a, _) => [1, 0x10, 0, 0xf],
        (0x8000_001e, _) => [1, 2, 3, 4],
        _ => [0; 4],
    }
}

/// An Intel CPU with AVX-512 and PKU.
fn intel(leaf: u32, subleaf: u32) -> Leaf {
    match (leaf, subleaf) {
        (0, _) => [0x1f, 0x756e_6547, 0x6c65_746e, 0x4965_6e69],
        (1, _) => [0x0005_0654, 0, 0xffff_ffff, 0xbfeb_fbff],
        (2, _) => [1, 2, 3, 4],
        (4, 0..=3) => [0x121 + subleaf, 1, 2, 3],
        (7, 0) => [2, 0xffff_ffff, 0xffff_ffff, 0xffff_ffff],
        (0xd, 0) => [0x2ff, 2696, 2696, 0],
        (0xd, 1) => [0xf, 2696, 0x100, 0],
        (0xd, 2) => [256, 576, 0, 0],
        (0xd, 5) => [64, 1088, 0, 0],
        (0xd, 6) => [512, 1152, 0, 0],
        (0xd, 7) => [1024, 1664, 0, 0],
        (0xd, 9) => [8, 2688, 0, 0],
        (0x8000_0000, _) => [0x8000_0008, 0, 0, 0],
        (0x8000_0001, _) => [0, 0, 0x121, 0x2c10_0800],
        (0x8000_0008, _) => [0x302e, 0, 0, 0],
        _ => [0; 4],
    }
}

/// QEMU's EPYC without KVM, with OSXSAVE set and sizes for some XCR0.
fn emulated(leaf: u32, subleaf: u32) -> Leaf {
    match (leaf, subleaf) {
        (0, _) => [0xd, 0x6874_7541, 0x444d_4163, 0x6974_6e65],
        (1, _) => [0x0080_0f12, 0x0002_0800, 0xfed8_3203, 0x178b_fbfd],
        (5, _) => [0, 0, 3, 0],
        (6, _) => [4, 0, 0, 0],
        (7, 0) => [0, 0x209c_01a9, 0, 0],
        (0xb, 0) => [0, 1, 0x100, 0],
        (0xb, 1) => [1, 2, 0x201, 0],
        (0xb, n) => [0, 0, n, 0],
        (0xd, 0) => [7, 0x340, 0x340, 0],
        (0xd, 1) => [5, 0x340, 0, 0],
        (0xd, 2) => [0x100, 0x240, 0, 0],
        (0x8000_0000, _) => [0x8000_001e, 0x6874_7541, 0x444d_4163, 0x6974_6e65],
        (0x8000_0001, _) => [0x0080_0f12, 0, 0x177, 0x25d3_fbfd],
        (0x8000_0006, _) => [0, 0x4200_4200, 0x0200_6140, 0x0040_8140],
        (0x8000_0008, _) => [0x3028, 0, 0x1001, 0],
        (0x8000_000a, _) => [1, 0x10, 0, 1],
        (0x8000_001d, _) => [0x121, 0x01c0_003f, 0x3f, 1],
        _ => [0; 4],
    }
}

fn kernel() -> Guest {
    Guest {
        is_pv: true,
        is_kernel: true,
        is_control: false,
        osxsave: false,
        xcr0: 1,
        tsc: Tsc {
            mode: 2,
            khz: 1_000_000,
            host_khz: 2_000_000,
            shift: -1,
            multiplier: 0x8000_0000,
            incarnation: 3,
            is_reliable: true,
        },
    }
}

fn bit(feature: u32) -> u32 {
    1 << (feature % 32)
}

fn leaves(policy: &Policy) -> Vec<CpuidLeaf> {
    let mut all = Vec::new();
    let done: Result<(), ()> = policy.write_leaves(|leaf| {
        all.push(leaf);
        Ok(())
    });
    done.unwrap();
    all
}

#[test]
fn hvm_guests_have_a_local_apic_but_no_hvm_of_their_own() {
    let all = Policies::of_host(emulated);
    let (most, usual) = (FeatureSet::of(&all.hvm_max), FeatureSet::of(&all.hvm_default));
    let host = FeatureSet::of(&all.host);
    assert!(host.has(XEN_X86_FEATURE_SVM) && !host.has(XEN_X86_FEATURE_X2APIC));
    assert!(most.has(XEN_X86_FEATURE_SVM), "as Xen lists it");
    assert_eq!(usual.and(&most), usual, "the usual ones can be had");
    let mut greedy = all.hvm_max.clone();
    greedy.accept(&all.hvm_max).unwrap();
    for own in [greedy, all.hvm_default.of_domain()] {
        let set = FeatureSet::of(&own);
        for feature in [
            XEN_X86_FEATURE_APIC,
            XEN_X86_FEATURE_X2APIC,
            XEN_X86_FEATURE_HYPERVISOR,
            XEN_X86_FEATURE_LM,
            XEN_X86_FEATURE_PSE36,
        ] {
            assert!(set.has(feature), "{feature}");
        }
        assert!(!set.has(XEN_X86_FEATURE_SVM) && !set.has(XEN_X86_FEATURE_TSC_ADJUST));
        assert_eq!(own.answer(0x8000_000a, 0, &kernel(), &all.host), [0; 4]);
        assert_eq!(own.platform_info, CPUID_FAULTING);
    }
    assert!(!FeatureSet::of(&all.pv_default).has(XEN_X86_FEATURE_X2APIC));
}

/// The same CPU with other features in leaf 0x80000008's ebx, or as another model.
fn with(signature: u32, speculation: u32) -> FeatureSet {
    let all = Policies::of_host(|leaf, subleaf| match leaf {
        1 => [signature, 0x0002_0800, 0xfed8_3203, 0x178b_fbfd],
        0x8000_0008 => [0x3028, speculation, 0x1001, 0],
        _ => emulated(leaf, subleaf),
    });
    FeatureSet::of(&all.hvm_default)
}

#[test]
fn speculation_of_hvm_guests() {
    const EPYC: u32 = 0x0080_0f12;
    const GENOA: u32 = 0x00a1_0f11;
    let virt = |set: FeatureSet| set.has(XEN_X86_FEATURE_VIRT_SSBD);
    assert!(virt(with(EPYC, 0)) && !virt(with(GENOA, 0)));
    assert!(virt(with(GENOA, bit(XEN_X86_FEATURE_VIRT_SSBD))));
    assert!(!virt(with(EPYC, bit(XEN_X86_FEATURE_SSB_NO))) && !virt(with(EPYC, bit(XEN_X86_FEATURE_AMD_SSBD))));
    // What is no matter of MSRs that are not served.
    let set = with(GENOA, !0);
    assert!(set.has(XEN_X86_FEATURE_SSB_NO) && set.has(XEN_X86_FEATURE_CLZERO));
    for hidden in [
        XEN_X86_FEATURE_IBRS,
        XEN_X86_FEATURE_AMD_STIBP,
        XEN_X86_FEATURE_STIBP_ALWAYS,
        XEN_X86_FEATURE_AMD_SSBD,
        XEN_X86_FEATURE_PSFD,
        XEN_X86_FEATURE_IBPB,
    ] {
        assert!(!set.has(hidden), "{hidden}");
    }
}

#[test]
fn a_cpu_without_svm_has_nothing_for_hvm_guests() {
    let all = Policies::of_host(intel);
    assert_eq!((&*all.hvm_max, &*all.hvm_default), (&Policy::empty(), &Policy::empty()));
}

#[test]
fn pv_guests_do_not_see_what_they_cannot_use() {
    let policies = Policies::of_host(amd);
    let seen = FeatureSet::of(&policies.pv_default);
    for hidden in [
        XEN_X86_FEATURE_SVM,
        XEN_X86_FEATURE_PSE,
        XEN_X86_FEATURE_PGE,
        XEN_X86_FEATURE_MTRR,
        XEN_X86_FEATURE_VME,
        XEN_X86_FEATURE_SMEP,
        XEN_X86_FEATURE_SMAP,
        XEN_X86_FEATURE_PAGE1GB,
        XEN_X86_FEATURE_XSAVES,
        XEN_X86_FEATURE_MONITOR,
        XEN_X86_FEATURE_OSXSAVE,
        XEN_X86_FEATURE_IBPB,
        XEN_X86_FEATURE_ITSC,
    ] {
        assert!(!seen.has(hidden), "{hidden}");
    }
    for shown in [
        XEN_X86_FEATURE_FPU,
        XEN_X86_FEATURE_NX,
        XEN_X86_FEATURE_LM,
        XEN_X86_FEATURE_SYSCALL,
        XEN_X86_FEATURE_AVX2,
        XEN_X86_FEATURE_XSAVE,
        XEN_X86_FEATURE_FSGSBASE,
        XEN_X86_FEATURE_HYPERVISOR,
    ] {
        assert!(seen.has(shown), "{shown}");
    }
    assert!(FeatureSet::of(&policies.pv_max).has(XEN_X86_FEATURE_ITSC));
    assert!(FeatureSet::of(&policies.control_domain).has(XEN_X86_FEATURE_ITSC));
    assert_eq!(leaves(&policies.raw)[1].b, 0x0102_0800);
}

#[test]
fn amd_repeats_leaf_1_in_the_extended_one() {
    let policies = Policies::of_host(amd);
    let own = policies.pv_default.of_domain();
    let answer = |leaf| own.answer(leaf, 0, &kernel(), &policies.host);
    assert_ne!(answer(0x8000_0001)[3] & 0x0183_f3ff, 0);
    assert_eq!((answer(1)[3] ^ answer(0x8000_0001)[3]) & 0x0183_f3ff, 0);
    assert_eq!(answer(0x8000_000a), [0; 4]);
    assert_eq!(answer(0x8000_001e), [0; 4]);
    assert_eq!(answer(0x8000_001f), [0; 4]);
    assert_eq!(answer(5), [0; 4]);
}

/// How many leaves a policy is written as, and those with something in them: number, subleaf, registers.
fn listed(policy: &Policy) -> (usize, Vec<(u32, u32, Leaf)>) {
    let all = leaves(policy);
    let used = all.iter().map(|leaf| (leaf.leaf, leaf.subleaf, [leaf.a, leaf.b, leaf.c, leaf.d]));
    (all.len(), used.filter(|(.., registers)| *registers != [0; 4]).collect())
}

/// As `xen-cpuid -p` prints them on Xen, on this CPU.
#[test]
fn the_hosts_policies_are_listed_as_on_xen() {
    const NONE: u32 = NO_SUBLEAF;
    let policies = Policies::of_host(emulated);
    let common = |width: Leaf| {
        vec![
            (0, NONE, [0xd, 0x6874_7541, 0x444d_4163, 0x6974_6e65]),
            (0xd, 0, [7, 0, 0x340, 0]),
            (0xd, 1, [5, 0, 0, 0]),
            (0xd, 2, [0x100, 0x240, 0, 0]),
            (0x8000_0006, NONE, [0, 0x4200_4200, 0x0200_6140, 0x0040_8140]),
            (0x8000_0008, NONE, width),
        ]
    };
    let check = |policy: &Policy, (count, last, subleaves), speculation, own: &[(u32, u32, Leaf)]| {
        let mut expected = common([0x3028, speculation, 0x1001, 0]);
        expected.push((0x8000_0000, NONE, [last, 0x6874_7541, 0x444d_4163, 0x6974_6e65]));
        expected.push((7, 0, [subleaves, own[0].2[1], 0, 0]));
        expected.extend(&own[1..]);
        expected.sort();
        assert_eq!(listed(policy), (count, expected));
        let [(platform, faulting), (capabilities, none)] = policy.write_msrs().map(|entry| (entry.idx, entry.val));
        assert_eq!((platform, capabilities, none), (0xce, 0x10a, 0));
        faulting
    };
    let features = |b| (7, 0, [0, b, 0, 0]);
    let leaf1 = |c, d| (1, NONE, [0x0080_0f12, 0x0002_0800, c, d]);
    let extended = |c, d| (0x8000_0001, NONE, [0x0080_0f12, 0, c, d]);
    let svm = |features| (0x8000_000a, NONE, [1, 0x10, 0, features]);
    let (few, all) = ((49, 0x8000_001e, 0), (54, 0x8000_0021, 2));
    let of_host = [features(0x209c_01a9), leaf1(0xf6d8_3203, 0x178b_f3fd), extended(0x177, 0x25d3_fbfd), svm(1)];
    assert_eq!(check(&policies.host, few, 0, &of_host), 0);
    let mut default = [features(0x208c_0129), leaf1(0xf6d8_3203, 0x1789_c3f5), extended(0x163, 0x2050_0800)];
    assert_eq!(check(&policies.pv_default, few, 0, &default), 0);
    default[1] = leaf1(0xf6f8_3203, 0x1789_c3f5);
    let verw_clear = (0x8000_0021, NONE, [0x20, 0, 0, 0]);
    assert_eq!(check(&policies.pv_max, all, 0, &[&default[..], &[verw_clear]].concat()), 0);
    let mut hvm = vec![features(0x209c_01a9), leaf1(0xf6f8_3203, 0x178b_fbfd), extended(0x173, 0x2450_0800), svm(0x21)];
    assert_eq!(check(&policies.hvm_default, few, 0x0210_0000, &hvm), 0x8000_0000);
    hvm[2] = extended(0x177, 0x2450_0800);
    hvm.push(verw_clear);
    assert_eq!(check(&policies.hvm_max, all, 0x0210_0000, &hvm), 0x8000_0000);

    let raw = listed(&policies.raw);
    assert_eq!(raw.0, 50);
    assert!(raw.1.contains(&leaf1(0xf6d8_3203, 0x178b_fbfd)) && raw.1.contains(&(0xb, 1, [1, 2, 0x201, 0])));
    assert!(raw.1.contains(&(0xd, 0, [7, 0, 0x340, 0])) && raw.1.contains(&(0xd, 1, [5, 0, 0, 0])));
}

#[test]
fn osxsave_follows_the_guest_and_is_shown_to_kernels() {
    let policies = Policies::of_host(amd);
    let shows = |guest| policies.pv_default.answer(1, 0, &guest, &policies.host)[2] & bit(XEN_X86_FEATURE_OSXSAVE) != 0;
    assert!(shows(kernel()));
    assert!(!shows(Guest { is_kernel: false, ..kernel() }));
    assert!(shows(Guest { is_kernel: false, osxsave: true, ..kernel() }));
    let control = Guest { is_control: true, ..kernel() };
    let mtrr = |guest| policies.pv_default.answer(1, 0, &guest, &policies.host)[3] & bit(XEN_X86_FEATURE_MTRR) != 0;
    assert!(mtrr(control) && !mtrr(kernel()));
}

#[test]
fn xstate_sizes_follow_xcr0() {
    let policies = Policies::of_host(intel);
    let answer = |subleaf, xcr0| policies.pv_max.answer(0xd, subleaf, &Guest { xcr0, ..kernel() }, &policies.host);
    // No PKU for PV.
    assert_eq!(answer(0, 1), [0xe7, 576, 2688, 0]);
    assert_eq!(answer(0, 7)[1], 832);
    assert_eq!(answer(0, 0xe7)[1], 2688);
    assert_eq!(answer(1, 0xe7), [7, 576 + 256 + 64 + 512 + 1024, 0, 0]);
    assert_eq!(answer(6, 1), [512, 1152, 0, 0]);
    assert_eq!(answer(9, 1), [0; 4]);
    assert_eq!(answer(63, 1), [0; 4]);
}

/// What a toolstack gets that proposes these changes to the default.
fn updated(policies: &Policies, leaves: &[CpuidLeaf], msrs: &[MsrEntry]) -> Result<Policy, Bad> {
    let mut policy = policies.pv_default.clone();
    leaves.iter().try_for_each(|leaf| policy.propose_leaf(leaf))?;
    msrs.iter().try_for_each(|entry| policy.propose_msr(entry))?;
    policy.accept(&policies.pv_max)?;
    Ok(*policy)
}

#[test]
fn hypervisor_leaves() {
    let policies = Policies::of_host(amd);
    let answer =
        |leaf: u32, subleaf| policies.pv_default.answer(0x4000_0000 + leaf, subleaf, &kernel(), &policies.host);
    assert_eq!(answer(0, 0), [0x4000_0005, 0x566e_6558, 0x6558_4d4d, 0x4d4d_566e]);
    assert_eq!(answer(1, 0)[0], 0x0004_0014);
    assert_eq!(answer(2, 0), [1, 0x4000_0000, 1, 0]);
    assert_eq!(answer(3, 0), [6, 2, 1_000_000, 3]);
    assert_eq!(answer(3, 1), [0, 0, 0x8000_0000, 0xff]);
    assert_eq!(answer(3, 2), [2_000_000, 0, 0, 0]);
    assert_eq!(answer(4, 0), [0; 4]);
    assert_eq!(answer(5, 0), [0, 0x28, 0, 0]);
    assert_eq!(answer(6, 0), [0; 4]);
    // What is about machine addresses is not for translated guests.
    let translated = Guest { is_pv: false, is_kernel: false, ..kernel() };
    let answer = |leaf: u32| policies.pv_default.answer(0x4000_0000 + leaf, 0, &translated, &policies.host);
    assert_eq!((answer(0)[0], answer(2), answer(5)), (0x4000_0005, [1, 0x4000_0000, 0, 0], [0; 4]));
    let limit = CpuidLeaf { leaf: 0x4000_0000, subleaf: NO_SUBLEAF, a: 2, b: 0, c: 0, d: 0 };
    let limited = updated(&policies, &[limit], &[]).unwrap();
    assert_eq!(limited.answer(0x4000_0000, 0, &kernel(), &policies.host)[0], 0x4000_0002);
    assert_eq!(limited.answer(0x4000_0003, 0, &kernel(), &policies.host), [0; 4]);
    // Behind Hyper-V's.
    let behind = |leaf: u32| limited.answer_behind_viridian(0x4000_0000 + leaf, 0, &kernel(), &policies.host);
    assert_eq!(behind(0x100), [0x4000_0105, 0x566e_6558, 0x6558_4d4d, 0x4d4d_566e]);
    assert_eq!((behind(0x102)[1], behind(0x106)), (0x4000_0200, [0; 4]));
    assert_eq!(limited.answer(0x4000_0100, 0, &kernel(), &policies.host), [0; 4]);
}

#[test]
fn a_policy_survives_the_wire() {
    for host in [amd as fn(u32, u32) -> Leaf, intel] {
        let policies = Policies::of_host(host);
        let all = leaves(&policies.pv_default);
        assert!(all.len() <= MAX_LEAVES && MAX_LEAVES == 120);
        let msrs = policies.pv_default.write_msrs();
        assert_eq!(updated(&policies, &all, &msrs), Ok(*policies.pv_default.of_domain()));
        let order: Vec<_> = all.iter().map(|leaf| (leaf.leaf, leaf.subleaf.wrapping_add(1))).collect();
        assert!(order.is_sorted(), "{order:x?}");
    }
}

#[test]
fn proposals_are_cut_to_what_there_is() {
    let policies = Policies::of_host(amd);
    let greedy = CpuidLeaf { leaf: 1, subleaf: NO_SUBLEAF, a: 0, b: !0, c: !0, d: !0 };
    let got = updated(&policies, &[greedy], &[]).unwrap();
    assert_eq!(FeatureSet::of(&got).0[..2], FeatureSet::of(&policies.pv_max).0[..2]);
    // Without XSAVE there is no AVX, nor its state.
    let modest = CpuidLeaf { c: !bit(XEN_X86_FEATURE_XSAVE), ..greedy };
    let got = updated(&policies, &[modest], &[]).unwrap();
    assert!(!FeatureSet::of(&got).has(XEN_X86_FEATURE_AVX) && !FeatureSet::of(&got).has(XEN_X86_FEATURE_AVX2));
    assert!(got.xcr0().is_empty());
}

#[test]
fn wrong_proposals_are_named() {
    let policies = Policies::of_host(amd);
    let leaf = |leaf, subleaf, a| CpuidLeaf { leaf, subleaf, a, b: 0, c: 0, d: 0 };
    let refused = |leaf| updated(&policies, &[leaf], &[]).unwrap_err();
    let bad = |errno, leaf, subleaf| Bad { errno, leaf, subleaf, msr: u32::MAX };
    assert_eq!(refused(leaf(0xe, NO_SUBLEAF, 0)), bad(Errno::RANGE, 0xe, NO_SUBLEAF));
    assert_eq!(refused(leaf(1, 0, 0)), bad(Errno::RANGE, 1, 0));
    assert_eq!(refused(leaf(7, 3, 0)), bad(Errno::RANGE, 7, 3));
    assert_eq!(refused(leaf(0x8000_0022, NO_SUBLEAF, 0)), bad(Errno::RANGE, 0x8000_0022, NO_SUBLEAF));
    assert_eq!(refused(leaf(0, NO_SUBLEAF, 0xe)), bad(Errno::INVAL, 0, NO_SUBLEAF));
    assert_eq!(refused(leaf(7, 0, 3)), bad(Errno::INVAL, 7, 0));
    assert_eq!(refused(leaf(0x8000_0000, NO_SUBLEAF, 0x8000_0022)), bad(Errno::INVAL, 0x8000_0000, NO_SUBLEAF));
    let msr = |idx, flags, val| {
        let entry = MsrEntry { idx, flags, val };
        updated(&policies, &[], &[entry]).unwrap_err()
    };
    assert_eq!((msr(0xce, 0, 1 << 31).errno, msr(0xce, 0, 1).errno), (Errno::INVAL, Errno::OVERFLOW));
    assert_eq!((msr(0x10, 0, 0).errno, msr(0x10a, 1, 0).errno), (Errno::RANGE, Errno::INVAL));
    assert_eq!(msr(0x10a, 0, 1).msr, 0x10a);
}

#[test]
fn leaves_that_are_cut_off_take_along_what_needs_them() {
    let policies = Policies::of_host(amd);
    let max = &policies.pv_max;
    assert!(FeatureSet::of(&policies.pv_default).has(XEN_X86_FEATURE_AVX2));
    let zero = |leaf| CpuidLeaf { leaf, subleaf: NO_SUBLEAF, a: 0, b: 0, c: 0, d: 0 };
    let own = leaves(&policies.pv_default);
    let cut = |at: u32, last: u32| {
        let first = own.iter().find(|leaf| leaf.leaf == at).copied().unwrap_or(zero(at));
        updated(&policies, &[CpuidLeaf { a: last, ..first }], &[]).unwrap()
    };
    // Leaf 7 is behind the last one, and so is that of states.
    let short = cut(0, 1);
    assert!(!FeatureSet::of(&short).has(XEN_X86_FEATURE_AVX2) && FeatureSet::of(&short).has(XEN_X86_FEATURE_AVX));
    assert!(short.xcr0().is_empty() && leaves(&short).iter().all(|leaf| leaf.leaf < 2 || leaf.leaf >= 0x4000_0000));
    // Leaf 1 as well, with AVX, and with the signature that an extended leaf repeats.
    let shortest = cut(0, 0);
    let signature = leaves(&shortest).iter().find(|leaf| leaf.leaf == 0x8000_0001).map(|leaf| leaf.a);
    assert_eq!((FeatureSet::of(&shortest).0[5], signature), (0, Some(0)));
    // There is no long mode, hence nothing that is of use only there.
    let narrow = cut(0x8000_0000, 0x8000_0000);
    let has = |policy: &Policy| FeatureSet::of(policy).has(XEN_X86_FEATURE_CX16);
    assert!(has(&policies.pv_default.of_domain()) && !has(&narrow) && max.max_leaf() == 0xd);
}
