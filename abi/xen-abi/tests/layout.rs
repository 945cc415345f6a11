//! Compares every structure and number of this crate with the C headers of Xen 4.20.

mod headers;

use std::collections::HashSet;
use std::fmt::Write;

use xen_abi::layout::{self, Constant, StructLayout};

fn structures() -> impl Iterator<Item = (&'static str, &'static StructLayout)> {
    layout::STRUCTS
        .iter()
        .flat_map(|(module, parts)| parts.iter().flat_map(move |part| part.iter().map(move |s| (*module, s))))
}

fn numbers() -> impl Iterator<Item = (&'static str, &'static Constant)> {
    layout::CONSTANTS.iter().flat_map(|(module, part)| part.iter().map(move |c| (*module, c)))
}

/// The members that C has too, under their C names.
fn members(structure: &StructLayout) -> impl Iterator<Item = (&'static str, usize, usize)> {
    structure
        .members
        .iter()
        .filter(|(name, ..)| !name.starts_with("_gap"))
        .map(|&(name, offset, size)| (name.strip_prefix("r#").unwrap_or(name), offset, size))
}

/// Asserts that the program's lines are the `expected` ones, and tells every difference.
fn compare(expected: &[String], actual: &[String]) {
    assert_eq!(expected.len(), actual.len(), "number of lines");
    let differences: Vec<String> = expected
        .iter()
        .zip(actual)
        .filter(|(ours, theirs)| ours != theirs)
        .map(|(ours, theirs)| format!("ours:   {ours}\nxen's:  {theirs}"))
        .collect();
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
}

#[test]
fn structures_match_the_headers() {
    let Some(directory) = headers::locate() else {
        println!("SKIPPED: {}=none", headers::VARIABLE);
        return;
    };
    let mut body = String::new();
    let mut expected = Vec::new();
    for (module, s) in structures() {
        let (c, label) = (s.c_name, format!("{module}::{}", s.rust_name));
        writeln!(body, "    printf(\"{label} size %zu align %zu\\n\", sizeof({c}), _Alignof({c}));").unwrap();
        expected.push(format!("{label} size {} align {}", s.size, s.align));
        for (name, offset, size) in members(s) {
            let c_size = format!("sizeof((({c} *)0)->{name})");
            writeln!(body, "    printf(\"{label}.{name} at %zu size %zu\\n\", offsetof({c}, {name}), {c_size});")
                .unwrap();
            expected.push(format!("{label}.{name} at {offset} size {size}"));
        }
    }
    assert!(expected.len() > 1000, "the tables lost most of the interface: {} lines", expected.len());
    compare(&expected, &headers::run(&directory, "structures", &body));
}

#[test]
fn numbers_match_the_headers() {
    let Some(directory) = headers::locate() else {
        println!("SKIPPED: {}=none", headers::VARIABLE);
        return;
    };
    let mut body = String::new();
    let mut expected = Vec::new();
    for (module, number) in numbers() {
        let c = number.c_name;
        writeln!(
            body,
            "    printf(({c}) < 0 ? \"{module} {c} = %lld\\n\" : \"{module} {c} = %llu\\n\", (long long)({c}));"
        )
        .unwrap();
        expected.push(format!("{module} {c} = {}", number.value));
    }
    assert!(expected.len() > 1000, "the tables lost most of the interface: {} lines", expected.len());
    compare(&expected, &headers::run(&directory, "numbers", &body));
}

/// What 32-bit guests see is compared by the compiler alone: a host need not be able to run 32-bit programs.
#[test]
fn narrow_layouts_match_the_headers() {
    let Some(directory) = headers::locate() else {
        println!("SKIPPED: {}=none", headers::VARIABLE);
        return;
    };
    let mut body = String::new();
    let mut claim = |c: String| writeln!(body, "_Static_assert({c}, \"\");").unwrap();
    for s in layout::NARROW_STRUCTS {
        claim(format!("sizeof({}) == {}", s.c_name, s.size));
        for (name, offset, size) in members(s) {
            claim(format!("offsetof({}, {name}) == {offset}", s.c_name));
            claim(format!("sizeof((({} *)0)->{name}) == {size}", s.c_name));
        }
    }
    for number in layout::NARROW_CONSTANTS {
        claim(format!("({}) == {}", number.c_name, number.value));
    }
    headers::compile_narrow(&directory, "narrow", &body).unwrap();
    let wrong = "_Static_assert(sizeof(struct mmuext_op) == 24, \"\");";
    assert!(headers::compile_narrow(&directory, "narrow-wrong", wrong).is_err(), "it compares 64-bit layouts");
}

/// Operation numbers must all be there: an operation that the headers have and this crate does not is one that we would miss.
#[test]
fn no_operation_is_missing() {
    const PREFIXES: &[&str] = &[
        "__HYPERVISOR_",
        "VIRQ_",
        "MMUEXT_",
        "XENMEM_",
        "EVTCHNOP_",
        "GNTTABOP_",
        "SCHEDOP_",
        "VCPUOP_",
        "CALLBACKOP_",
        "PHYSDEVOP_",
        "XENPF_",
        "XENVER_",
        "XENFEAT_",
        "XEN_DOMCTL_",
        "XEN_SYSCTL_",
        "XEN_ELFNOTE_",
        "XEN_DMOP_",
        "HVMOP_",
    ];
    // Names that only old interface versions, the hypervisor itself or Arm have, and names that are not numbers.
    const ABSENT: &[&str] = &[
        "__HYPERVISOR_dom0_op",
        "__HYPERVISOR_VIRT_START",
        "__HYPERVISOR_VIRT_END",
        "XENMEM_add_to_physmap_range",
        "EVTCHNOP_reset_cont",
        "GNTTABOP_error_msgs",
        "PHYSDEVOP_IRQ_STATUS_QUERY",
        "PHYSDEVOP_SET_IOPL",
        "PHYSDEVOP_SET_IOBITMAP",
        "PHYSDEVOP_APIC_READ",
        "PHYSDEVOP_APIC_WRITE",
        "PHYSDEVOP_ASSIGN_VECTOR",
        "PHYSDEVOP_FREE_VECTOR",
        "PHYSDEVOP_IRQ_NEEDS_UNMASK_NOTIFY",
        "PHYSDEVOP_IRQ_SHARED",
        "XENFEAT_grant_map_identity",
        "XEN_DOMCTL_SHADOW_OP_ENABLE_TRANSLATE",
        "XEN_DOMCTL_DT_OVERLAY_ATTACH",
        "XEN_DOMCTL_soft_reset_cont",
        "HVMOP_set_pci_intx_level",
        "HVMOP_set_isa_irq_level",
        "HVMOP_set_pci_link_route",
        "XEN_SYSCTL_PHYSCAP_ARM_SVE_MASK",
        "XEN_SYSCTL_DT_OVERLAY_ADD",
        "XEN_SYSCTL_DT_OVERLAY_REMOVE",
    ];
    let Some(directory) = headers::locate() else {
        println!("SKIPPED: {}=none", headers::VARIABLE);
        return;
    };
    let known: HashSet<&str> = numbers().map(|(_, number)| number.c_name).chain(ABSENT.iter().copied()).collect();
    let missing: Vec<String> = headers::macros(&directory)
        .into_iter()
        .filter(|name| PREFIXES.iter().any(|prefix| name.starts_with(prefix)) && !known.contains(name.as_str()))
        .collect();
    assert!(missing.is_empty(), "the headers have numbers that the crate lacks: {missing:?}");
}
