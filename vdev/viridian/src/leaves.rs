//! CPUID (TLFS, 2.4).

use xen_abi::hvm_params::*;

const FIRST: u32 = 0x4000_0000;
const LAST: u32 = FIRST + 6;
/// "Microsoft Hv", "Hv#1".
const SIGNATURE: [u32; 3] = [0x7263_694d, 0x666f_736f, 0x7648_2074];
const INTERFACE: u32 = 0x3123_7648;
/// Build, and major and minor version: those of Windows Server 2008, as on Xen.
const BUILD: u32 = 0x1772;
const VERSION: u32 = 6 << 16;

/// Leaf 3, eax: what a guest may use.
const TIME_REFERENCE: u32 = 1 << 1;
const INTERRUPT_CONTROL: u32 = 1 << 4;
const HYPERCALLS: u32 = 1 << 5;
const VP_INDEX: u32 = 1 << 6;
const REFERENCE_TSC: u32 = 1 << 9;
const FREQUENCIES: u32 = 1 << 11;
/// Leaf 3, edx.
const CPU_HOTPLUG: u32 = 1 << 3;
const CRASH_MSRS: u32 = 1 << 10;
/// Leaf 4, eax: what it had better use.
const FLUSH_BY_CALL: u32 = 1 << 2;
const APIC_BY_MSR: u32 = 1 << 3;
const RELAX_TIMERS: u32 = 1 << 5;
/// Leaf 4, ebx: how often to try a lock before [`crate::Owner::give_way`].
const SPINS: u32 = 2047;
/// The first kind of guest that those recommendations are for, in the identification that it gives itself.
const WINDOWS_NT: u64 = 4;
/// Leaf 6, eax: what of the hardware is in use.
const MSR_MAP: u32 = 1 << 1;
const NESTED_PAGING: u32 = 1 << 3;

/// What CPUID answers to a leaf from 0x40000000 to 0x400000ff, a guest with these parts (`HVMPV_*`) that has said that it is
/// `os_id`: eax, ebx, ecx, edx.
pub fn leaf(parts: u32, os_id: u64, leaf: u32) -> [u32; 4] {
    let has = |part: u32, bit: u32| if parts & part != 0 { bit } else { 0 };
    match leaf.wrapping_sub(FIRST) {
        0 => [LAST, SIGNATURE[0], SIGNATURE[1], SIGNATURE[2]],
        1 => [INTERFACE, 0, 0, 0],
        2 if os_id != 0 => [BUILD, VERSION, 0, 0],
        3 => {
            let may_use = INTERRUPT_CONTROL
                | HYPERCALLS
                | VP_INDEX
                | (has(HVMPV_NO_FREQ, FREQUENCIES) ^ FREQUENCIES)
                | has(HVMPV_TIME_REF_COUNT, TIME_REFERENCE)
                | has(HVMPV_REFERENCE_TSC, REFERENCE_TSC);
            [may_use, 0, 0, has(HVMPV_CPU_HOTPLUG, CPU_HOTPLUG) | has(HVMPV_CRASH_CTL, CRASH_MSRS)]
        }
        4 if os_id >> 40 & 0xff >= WINDOWS_NT => {
            [RELAX_TIMERS | APIC_BY_MSR | has(HVMPV_HCALL_REMOTE_TLB_FLUSH, FLUSH_BY_CALL), SPINS, 0, 0]
        }
        5 => [has(HVMPV_NO_VP_LIMIT, u32::MAX), 0, 0, 0],
        6 => [MSR_MAP | NESTED_PAGING, 0, 0, 0],
        _ => [0; 4],
    }
}
