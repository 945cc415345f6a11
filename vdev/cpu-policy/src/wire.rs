//! Policies as the toolstack reads and writes them (domctl get/set_cpu_policy, sysctl get_cpu_policy).

use crate::features::FeatureSet;
use crate::policy::{
    BASIC, CACHE, CPUID_FAULTING, EXTD, EXTENDED, FEAT, Leaf, Policy, TOPO, XSTATE, is_cache, is_level, pair,
};
use types::Errno;
use x86_defs::msr;
use xen_abi::arch_x86::{CpuidLeaf, MsrEntry};

/// Stands for the subleaf of a leaf that has none (XEN_CPUID_NO_SUBLEAF).
pub const NO_SUBLEAF: u32 = u32::MAX;
/// Leaves that a policy is written as, at most.
pub const MAX_LEAVES: usize = BASIC + (FEAT - 1) + (CACHE - 1) + (TOPO - 1) + (XSTATE - 1) + EXTD + 2;
/// MSRs that a policy is written as.
pub const MAX_MSRS: usize = 2;

/// First hypervisor leaf.
const HYPERVISOR: u32 = 0x4000_0000;
/// First leaf of the second set.
const HYPERVISOR2: u32 = 0x4000_0100;

/// What of a proposal is wrong; all ones stand for nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bad {
    /// `ERANGE` for what no policy has, `EINVAL` for what this guest cannot have.
    pub errno: Errno,
    /// Leaf.
    pub leaf: u32,
    /// Subleaf.
    pub subleaf: u32,
    /// MSR.
    pub msr: u32,
}

impl Bad {
    fn leaf(errno: Errno, leaf: u32, subleaf: u32) -> Bad {
        Bad { errno, leaf, subleaf, msr: u32::MAX }
    }

    fn msr(errno: Errno, msr: u32) -> Bad {
        Bad { errno, leaf: u32::MAX, subleaf: u32::MAX, msr }
    }
}

fn entry(leaf: u32, subleaf: u32, [a, b, c, d]: Leaf) -> CpuidLeaf {
    CpuidLeaf { leaf, subleaf, a, b, c, d }
}

/// Subleaves up to the first of no type, which is handed out too.
fn through_last(leaves: &[Leaf], typed: fn(&Leaf) -> bool) -> &[Leaf] {
    let last = leaves.iter().position(|leaf| !typed(leaf));
    &leaves[..last.map_or(leaves.len(), |last| last + 1)]
}

impl Policy {
    /// Subleaves of leaf 0xd up to that of the last state.
    fn state_leaves(&self) -> usize {
        let supervisor = pair(self.xstate[1][3], self.xstate[1][2]);
        let states = self.xcr0().bits() | supervisor;
        ((u64::BITS - states.leading_zeros()) as usize).clamp(2, XSTATE)
    }

    /// Hands out all leaves in order, [`MAX_LEAVES`] at most.
    ///
    /// # Errors
    /// The first that `each` has.
    pub fn write_leaves<E>(&self, mut each: impl FnMut(CpuidLeaf) -> Result<(), E>) -> Result<(), E> {
        let last = (self.max_leaf() as usize).min(BASIC - 1);
        for leaf in 0..=last {
            let subleaves: &[Leaf] = match leaf {
                4 => through_last(&self.cache, is_cache),
                7 => &self.feat[..=(self.max_subleaf() as usize).min(FEAT - 1)],
                0xb => through_last(&self.topo, is_level),
                0xd => &self.xstate[..self.state_leaves()],
                _ => {
                    each(entry(leaf as u32, NO_SUBLEAF, self.basic[leaf]))?;
                    continue;
                }
            };
            for (subleaf, registers) in subleaves.iter().enumerate() {
                each(entry(leaf as u32, subleaf as u32, *registers))?;
            }
        }
        each(entry(HYPERVISOR, NO_SUBLEAF, [self.hv_limit, 0, 0, 0]))?;
        each(entry(HYPERVISOR2, NO_SUBLEAF, [self.hv2_limit, 0, 0, 0]))?;
        let last = ((self.max_extended() & 0xffff) as usize).min(EXTD - 1);
        for (leaf, registers) in self.extd[..=last].iter().enumerate() {
            each(entry(EXTENDED + leaf as u32, NO_SUBLEAF, *registers))?;
        }
        Ok(())
    }

    /// The MSRs.
    pub fn write_msrs(&self) -> [MsrEntry; MAX_MSRS] {
        let entry = |idx, val| MsrEntry { idx, flags: 0, val };
        [entry(msr::INTEL_PLATFORM_INFO, self.platform_info), entry(msr::ARCH_CAPABILITIES, self.arch_caps)]
    }

    /// Puts in one leaf of a proposal.
    ///
    /// # Errors
    /// See [`Bad`].
    pub fn propose_leaf(&mut self, leaf: &CpuidLeaf) -> Result<(), Bad> {
        let registers = [leaf.a, leaf.b, leaf.c, leaf.d];
        let subleaf = leaf.subleaf as usize;
        let plain = leaf.subleaf == NO_SUBLEAF;
        let place = match leaf.leaf {
            4 => self.cache.get_mut(subleaf),
            7 => self.feat.get_mut(subleaf),
            0xb => self.topo.get_mut(subleaf),
            0xd => self.xstate.get_mut(subleaf),
            HYPERVISOR if plain => {
                self.hv_limit = leaf.a;
                return Ok(());
            }
            HYPERVISOR2 if plain => {
                self.hv2_limit = leaf.a;
                return Ok(());
            }
            number if plain && number < BASIC as u32 => self.basic.get_mut(number as usize),
            number @ EXTENDED.. if plain => self.extd.get_mut((number - EXTENDED) as usize),
            _ => None,
        };
        *place.ok_or(Bad::leaf(Errno::RANGE, leaf.leaf, leaf.subleaf))? = registers;
        Ok(())
    }

    /// Puts in one MSR of a proposal.
    ///
    /// # Errors
    /// See [`Bad`].
    pub fn propose_msr(&mut self, entry: &MsrEntry) -> Result<(), Bad> {
        if entry.flags != 0 {
            return Err(Bad::msr(Errno::INVAL, entry.idx));
        }
        match entry.idx {
            msr::INTEL_PLATFORM_INFO if entry.val & !CPUID_FAULTING == 0 => self.platform_info = entry.val,
            msr::INTEL_PLATFORM_INFO => return Err(Bad::msr(Errno::OVERFLOW, entry.idx)),
            msr::ARCH_CAPABILITIES => self.arch_caps = entry.val,
            _ => return Err(Bad::msr(Errno::RANGE, entry.idx)),
        }
        Ok(())
    }

    /// Whether guests with this policy can run where `max` is what there is.
    ///
    /// # Errors
    /// See [`Bad`].
    pub fn check(&self, max: &Policy) -> Result<(), Bad> {
        if self.max_leaf() > max.max_leaf() {
            return Err(Bad::leaf(Errno::INVAL, 0, NO_SUBLEAF));
        }
        if self.max_subleaf() > max.max_subleaf() {
            return Err(Bad::leaf(Errno::INVAL, 7, 0));
        }
        if self.max_extended() > max.max_extended() {
            return Err(Bad::leaf(Errno::INVAL, EXTENDED, NO_SUBLEAF));
        }
        if self.platform_info & !max.platform_info != 0 {
            return Err(Bad::msr(Errno::INVAL, msr::INTEL_PLATFORM_INFO));
        }
        if self.arch_caps & !max.arch_caps != 0 {
            return Err(Bad::msr(Errno::INVAL, msr::ARCH_CAPABILITIES));
        }
        Ok(())
    }

    /// Checks a complete proposal, and cuts it to what `max` has.
    ///
    /// # Errors
    /// See [`Bad`].
    pub fn accept(&mut self, max: &Policy) -> Result<(), Bad> {
        self.check(max)?;
        let features = FeatureSet::of(self).and(&FeatureSet::of(max));
        self.settle(features, max);
        Ok(())
    }
}
