//! The leaves and MSRs that one kind of guest sees.

use x86_defs::control::Xcr0;
use xen_abi::cpufeatureset::XEN_X86_FEATURE_OSXSAVE;

/// Registers of a leaf: eax, ebx, ecx, edx.
pub type Leaf = [u32; 4];

/// Basic leaves that are kept.
pub const BASIC: usize = 0xe;
/// Subleaves of leaf 4.
pub const CACHE: usize = 6;
/// Subleaves of leaf 7.
pub const FEAT: usize = 3;
/// Subleaves of leaf 0xb.
pub const TOPO: usize = 2;
/// Subleaves of leaf 0xd.
pub const XSTATE: usize = 63;
/// Leaves from 0x80000000 on.
pub const EXTD: usize = 0x22;

/// In MSR 0xce: CPUID can be made to fault (SDM vol. 4).
pub const CPUID_FAULTING: u64 = 1 << 31;

/// First extended leaf.
pub const EXTENDED: u32 = 0x8000_0000;

/// Makers of CPUs that differ in what leaves mean.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Vendor {
    /// Intel.
    Intel,
    /// AMD, and Hygon, which is alike.
    Amd,
    /// Another one.
    Other,
}

/// What one kind of guest sees, without what depends on the vCPU and its state.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Policy {
    pub(crate) basic: [Leaf; BASIC],
    pub(crate) cache: [Leaf; CACHE],
    pub(crate) feat: [Leaf; FEAT],
    pub(crate) topo: [Leaf; TOPO],
    pub(crate) xstate: [Leaf; XSTATE],
    pub(crate) extd: [Leaf; EXTD],
    /// Highest hypervisor leaf that the toolstack allows; 0 for all.
    pub(crate) hv_limit: u32,
    /// The same for the second set of hypervisor leaves.
    pub(crate) hv2_limit: u32,
    /// MSR 0xce: only [`CPUID_FAULTING`] is known.
    pub platform_info: u64,
    /// MSR 0x10a.
    pub arch_caps: u64,
}

impl Policy {
    /// Nothing at all.
    pub const fn empty() -> Policy {
        Policy {
            basic: [[0; 4]; BASIC],
            cache: [[0; 4]; CACHE],
            feat: [[0; 4]; FEAT],
            topo: [[0; 4]; TOPO],
            xstate: [[0; 4]; XSTATE],
            extd: [[0; 4]; EXTD],
            hv_limit: 0,
            hv2_limit: 0,
            platform_info: 0,
            arch_caps: 0,
        }
    }

    /// What `cpuid(leaf, subleaf)` reports, as far as it is kept.
    pub fn read(mut cpuid: impl FnMut(u32, u32) -> Leaf) -> Policy {
        let mut policy = Policy::empty();
        policy.basic[0] = cpuid(0, 0);
        let last = (policy.max_leaf() as usize).min(BASIC - 1);
        for leaf in 1..=last {
            match leaf {
                4 => fill(&mut policy.cache, is_cache, |subleaf| cpuid(4, subleaf)),
                7 => {
                    policy.feat[0] = cpuid(7, 0);
                    let subleaves = (policy.feat[0][0] as usize).min(FEAT - 1);
                    for subleaf in 1..=subleaves {
                        policy.feat[subleaf] = cpuid(7, subleaf as u32);
                    }
                }
                0xb => fill(&mut policy.topo, is_level, |subleaf| cpuid(0xb, subleaf)),
                0xd => policy.read_xstate(&mut cpuid),
                1 => {
                    policy.basic[1] = cpuid(1, 0);
                    // Follows CR4 of who asks.
                    policy.basic[1][2] &= !(1 << (XEN_X86_FEATURE_OSXSAVE % 32));
                }
                _ => policy.basic[leaf] = cpuid(leaf as u32, 0),
            }
        }
        policy.extd[0] = cpuid(EXTENDED, 0);
        // A CPU without such leaves answers with its last basic one.
        if policy.extd[0][0] >> 16 == EXTENDED >> 16 {
            let last = ((policy.extd[0][0] & 0xffff) as usize).min(EXTD - 1);
            for leaf in 1..=last {
                policy.extd[leaf] = cpuid(EXTENDED + leaf as u32, 0);
            }
        } else {
            policy.extd[0] = [0; 4];
        }
        policy
    }

    fn read_xstate(&mut self, cpuid: &mut impl FnMut(u32, u32) -> Leaf) {
        self.xstate[0] = cpuid(0xd, 0);
        self.xstate[1] = cpuid(0xd, 1);
        // Sizes for the present XCR0 and IA32_XSS of who asks.
        self.xstate[0][1] = 0;
        self.xstate[1][1] = 0;
        let user = pair(self.xstate[0][3], self.xstate[0][0]);
        let supervisor = pair(self.xstate[1][3], self.xstate[1][2]);
        for state in 2..XSTATE {
            if (user | supervisor) >> state & 1 != 0 {
                self.xstate[state] = cpuid(0xd, state as u32);
            }
        }
    }

    /// Highest basic leaf.
    pub fn max_leaf(&self) -> u32 {
        self.basic[0][0]
    }

    /// Highest subleaf of leaf 7.
    pub fn max_subleaf(&self) -> u32 {
        self.feat[0][0]
    }

    /// Highest extended leaf, 0 for none.
    pub fn max_extended(&self) -> u32 {
        self.extd[0][0]
    }

    /// The CPU's family, with its extension (APM vol. 3, E.3.2).
    pub fn family(&self) -> u32 {
        let [signature, ..] = self.basic[1];
        let (base, extension) = (signature >> 8 & 0xf, signature >> 20 & 0xff);
        if base == 0xf { base + extension } else { base }
    }

    /// Who made the CPU.
    pub fn vendor(&self) -> Vendor {
        match (&self.basic[0][1].to_le_bytes(), &self.basic[0][3].to_le_bytes(), &self.basic[0][2].to_le_bytes()) {
            (b"Genu", b"ineI", b"ntel") => Vendor::Intel,
            (b"Auth", b"enti", b"cAMD") | (b"Hygo", b"nGen", b"uine") => Vendor::Amd,
            _ => Vendor::Other,
        }
    }

    /// States that XCR0 may have.
    pub fn xcr0(&self) -> Xcr0 {
        Xcr0::from_bits_retain(pair(self.xstate[0][3], self.xstate[0][0]))
    }

    /// Bytes of an XSAVE area in standard form with these states (SDM vol. 1, 13.4.3).
    pub fn xstate_size(&self, states: Xcr0) -> u32 {
        self.states(states).map(|[size, offset, ..]| offset.saturating_add(size)).fold(LEGACY_AND_HEADER, u32::max)
    }

    /// Bytes of an XSAVE area in compacted form with these states.
    pub fn compacted_size(&self, states: Xcr0) -> u32 {
        self.states(states).fold(LEGACY_AND_HEADER, |total, [size, _, align, _]| {
            let start = if align & 2 != 0 { total.next_multiple_of(64) } else { total };
            start.saturating_add(size).min(1 << 20)
        })
    }

    fn states(&self, states: Xcr0) -> impl Iterator<Item = Leaf> + '_ {
        (2..XSTATE).filter(move |state| states.bits() >> state & 1 != 0).map(|state| self.xstate[state])
    }
}

/// Bytes of the FXSAVE image and the XSAVE header.
const LEGACY_AND_HEADER: u32 = 512 + 64;

pub(crate) const fn pair(high: u32, low: u32) -> u64 {
    (high as u64) << 32 | low as u64
}

/// Reads subleaves up to the first of no type.
fn fill(leaves: &mut [Leaf], typed: fn(&Leaf) -> bool, mut read: impl FnMut(u32) -> Leaf) {
    for (subleaf, leaf) in leaves.iter_mut().enumerate() {
        let found = read(subleaf as u32);
        if !typed(&found) {
            break;
        }
        *leaf = found;
    }
}

/// Whether a subleaf of leaf 4 is about a cache.
pub(crate) fn is_cache(leaf: &Leaf) -> bool {
    leaf[0] & 0x1f != 0
}

/// Whether a subleaf of leaf 0xb is about a level of the topology.
pub(crate) fn is_level(leaf: &Leaf) -> bool {
    leaf[2] & 0xff00 != 0
}
