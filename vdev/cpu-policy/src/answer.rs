//! CPUID as a running guest sees it.

use crate::policy::{BASIC, EXTD, EXTENDED, FEAT, Leaf, Policy};
use x86_defs::control::Xcr0;
use xen_abi::cpufeatureset::*;
use xen_abi::cpuid::*;

/// How the guest's time-stamp counter is served.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tsc {
    /// XEN_CPUID_TSC_MODE_*.
    pub mode: u32,
    /// Its frequency, in kHz.
    pub khz: u32,
    /// The host's, in kHz.
    pub host_khz: u32,
    /// Shift from ticks to nanoseconds, as in vcpu_time_info.
    pub shift: i8,
    /// Multiplier from ticks to nanoseconds, likewise.
    pub multiplier: u32,
    /// Number of times that the guest was restored.
    pub incarnation: u32,
    /// Whether the host's counter is reliable, so that the guest may read it.
    pub is_reliable: bool,
}

/// What of CPUID depends on the guest and its state.
#[derive(Clone, Copy, Debug)]
pub struct Guest {
    /// It is paravirtualised, so that its page tables have machine addresses.
    pub is_pv: bool,
    /// Its kernel runs.
    pub is_kernel: bool,
    /// It is the control domain.
    pub is_control: bool,
    /// It has set CR4.OSXSAVE.
    pub osxsave: bool,
    /// Its XCR0.
    pub xcr0: u64,
    /// Its time-stamp counter; only leaf [`Tsc::LEAF`] depends on it.
    pub tsc: Tsc,
}

impl Tsc {
    /// The leaf that tells of it, among Xen's.
    pub const INDEX: u32 = 3;
    /// The same, where these are in their usual place.
    pub const LEAF: u32 = XEN_CPUID_FIRST_LEAF + Tsc::INDEX;

    fn answer(&self, subleaf: u32, has_rdtscp: bool) -> Leaf {
        let mut flags = 0;
        if self.is_reliable {
            flags |= XEN_CPUID_HOST_TSC_RELIABLE;
        }
        if has_rdtscp {
            flags |= XEN_CPUID_RDTSCP_INSTR_AVAIL;
        }
        match subleaf {
            0 => [flags, self.mode, self.khz, self.incarnation],
            1 => [0, 0, self.multiplier, u32::from(self.shift as u8)],
            2 => [self.host_khz, 0, 0, 0],
            _ => [0; 4],
        }
    }
}

/// A feature's bit in its word.
const fn bit(feature: u32) -> u32 {
    1 << (feature % 32)
}

impl Policy {
    /// What CPUID answers: eax, ebx, ecx, edx. `host` is the host's policy.
    pub fn answer(&self, leaf: u32, subleaf: u32, guest: &Guest, host: &Policy) -> Leaf {
        match leaf {
            0x4000_0000..=0x4000_00ff => {
                self.hypervisor_leaf(XEN_CPUID_FIRST_LEAF, self.hv_limit, leaf, subleaf, guest, host)
            }
            EXTENDED.. => self.extended_leaf(leaf),
            _ if leaf > self.max_leaf() || leaf as usize >= BASIC => [0; 4],
            1 => self.leaf1(guest, host),
            4 => self.cache.get(subleaf as usize).copied().unwrap_or_default(),
            7 if subleaf > self.max_subleaf() || subleaf as usize >= FEAT => [0; 4],
            7 => self.feat[subleaf as usize],
            0xb => {
                let [a, b, c, d] = self.topo.get(subleaf as usize).copied().unwrap_or_default();
                [a, b, c & !0xff | subleaf & 0xff, d]
            }
            0xd => self.xstate_leaf(subleaf, guest),
            _ => self.basic[leaf as usize],
        }
    }

    /// The same, of a guest that is shown Hyper-V at the usual place: Xen's leaves are behind those.
    pub fn answer_behind_viridian(&self, leaf: u32, subleaf: u32, guest: &Guest, host: &Policy) -> Leaf {
        match leaf {
            SECOND_LEAF..=SECOND_LAST => self.hypervisor_leaf(SECOND_LEAF, self.hv2_limit, leaf, subleaf, guest, host),
            _ => self.answer(leaf, subleaf, guest, host),
        }
    }

    fn extended_leaf(&self, leaf: u32) -> Leaf {
        if leaf > self.max_extended() {
            return [0; 4];
        }
        let index = (leaf - EXTENDED) as usize;
        if index < EXTD { self.extd[index] } else { [0; 4] }
    }

    fn leaf1(&self, guest: &Guest, host: &Policy) -> Leaf {
        let [a, b, mut c, mut d] = self.basic[1];
        let has_xsave = c & bit(XEN_X86_FEATURE_XSAVE) != 0;
        c &= !bit(XEN_X86_FEATURE_OSXSAVE);
        // A kernel that asks by the forced prefix expects the host's setting, as it may not see its own CR4.
        if has_xsave && (guest.osxsave || guest.is_kernel) {
            c |= bit(XEN_X86_FEATURE_OSXSAVE);
        }
        if guest.is_control && guest.is_kernel {
            let [_, _, host_c, host_d] = host.basic[1];
            c |= host_c & bit(XEN_X86_FEATURE_EIST);
            d |= host_d & bit(XEN_X86_FEATURE_MTRR);
        }
        [a, b, c, d]
    }

    fn xstate_leaf(&self, subleaf: u32, guest: &Guest) -> Leaf {
        let Some(&[a, b, c, d]) = self.xstate.get(subleaf as usize) else {
            return [0; 4];
        };
        let states = Xcr0::from_bits_retain(guest.xcr0) & self.xcr0();
        match subleaf {
            0 if a != 0 => [a, self.xstate_size(states), c, d],
            1 if a & 2 != 0 => [a, self.compacted_size(states), c, d],
            _ => [a, b, c, d],
        }
    }

    /// Leaves that tell of Xen (arch-x86/cpuid.h), which begin at `first`, as many as `limit` says.
    fn hypervisor_leaf(&self, first: u32, limit: u32, leaf: u32, subleaf: u32, guest: &Guest, host: &Policy) -> Leaf {
        let index = leaf - first;
        let last = match limit & 0xff {
            limit @ 2..=XEN_CPUID_MAX_NUM_LEAVES => limit,
            _ => XEN_CPUID_MAX_NUM_LEAVES,
        };
        if index > last {
            return [0; 4];
        }
        match (index, subleaf) {
            (0, _) => [first + last, XEN_CPUID_SIGNATURE_EBX, XEN_CPUID_SIGNATURE_ECX, XEN_CPUID_SIGNATURE_EDX],
            (1, _) => [4 << 16 | 20, 0, 0, 0],
            (2, _) if guest.is_pv => [1, hypercall_msr(first), XEN_CPUID_FEAT1_MMU_PT_UPDATE_PRESERVE_AD, 0],
            (2, _) => [1, hypercall_msr(first), 0, 0],
            (3, _) => guest.tsc.answer(subleaf, self.extd[1][3] & bit(XEN_X86_FEATURE_RDTSCP) != 0),
            (5, 0) if guest.is_pv => [0, host.extd[8][0] & XEN_CPUID_MACHINE_ADDRESS_WIDTH_MASK, 0, 0],
            _ => [0; 4],
        }
    }
}

/// Xen's leaves behind those of Hyper-V.
pub const SECOND_LEAF: u32 = XEN_CPUID_FIRST_LEAF + 0x100;
const SECOND_LAST: u32 = SECOND_LEAF + 0xff;

/// MSR that places the hypercall page. Hyper-V's come first where it is shown.
const fn hypercall_msr(first: u32) -> u32 {
    if first == SECOND_LEAF { 0x4000_0200 } else { 0x4000_0000 }
}
