//! Which MSRs and I/O ports a guest reaches without an exit: bit maps that the CPU reads (APM vol. 2, 15.10, 15.11).

use super::physical_of;
use alloc::boxed::Box;
use core::ops::RangeInclusive;
use core::sync::atomic::{AtomicU8, Ordering};
use types::{Errno, Result};
use x86_defs::msr;
use zerocopy::FromZeros;

/// First MSRs of the three ranges that the map has, each of 8192, and how many bytes a range takes.
const MSR_RANGES: [u32; 3] = [0, 0xc000_0000, 0xc001_0000];
const MSRS_IN_RANGE: u32 = 0x2000;
const RANGE_BYTES: usize = 0x800;

/// MSRs that a guest may read and write itself: VMRUN and VMLOAD switch them (APM vol. 2, 15.5), or they hold nothing that the
/// hypervisor's memory depends on.
const READ_WRITE: [u32; 12] = [
    msr::SYSENTER_CS,
    msr::SYSENTER_ESP,
    msr::SYSENTER_EIP,
    msr::PAT,
    msr::STAR,
    msr::LSTAR,
    msr::CSTAR,
    msr::FMASK,
    msr::FS_BASE,
    msr::GS_BASE,
    msr::KERNEL_GS_BASE,
    msr::SPEC_CTRL,
];
/// MSRs that a guest may read itself. (The TSC comes with the offset. Of TSC_AUX a record is kept, [`crate::set_tsc_aux`].)
const READ_ONLY: [u32; 2] = [msr::TSC, msr::TSC_AUX];
/// MSRs that a guest may write itself.
const WRITE_ONLY: [u32; 2] = [msr::PRED_CMD, msr::FLUSH_CMD];

#[derive(FromZeros)]
#[repr(C, align(4096))]
struct MsrBits([AtomicU8; 2 * 4096]);

#[derive(FromZeros)]
#[repr(C, align(4096))]
struct PortBits([AtomicU8; 3 * 4096]);

/// Sets or clears bits of a byte. A CPU that runs a guest with the map may read it meanwhile, and sees either.
fn change(byte: &AtomicU8, bits: u8, set: bool) {
    if set {
        byte.fetch_or(bits, Ordering::Relaxed);
    } else {
        byte.fetch_and(!bits, Ordering::Relaxed);
    }
}

/// MSR permission map. MSRs that it has no bits for always cause an exit.
pub struct MsrMap(Box<MsrBits>);

impl MsrMap {
    /// A map that has every access cause an exit. `ENOMEM`.
    pub fn new() -> Result<MsrMap> {
        let bits = MsrBits::new_box_zeroed().map_err(|_| Errno::NOMEM)?;
        bits.0.iter().for_each(|byte| byte.store(0xff, Ordering::Relaxed));
        Ok(MsrMap(bits))
    }

    /// Byte and lowest bit of an MSR: that of reads, writes are next to it.
    fn place(number: u32) -> Option<(usize, u32)> {
        let range = MSR_RANGES.iter().position(|first| number.wrapping_sub(*first) < MSRS_IN_RANGE)?;
        let index = number - MSR_RANGES[range];
        Some((range * RANGE_BYTES + (index / 4) as usize, index % 4 * 2))
    }

    /// Has reads and writes of an MSR cause an exit, or not. `EPERM` for an MSR that a guest may not access itself so, which
    /// then stays as it was. Of those that it may, SPEC_CTRL alone is not switched with the guest: that is the caller's part.
    pub fn intercept(&self, number: u32, read: bool, write: bool) -> Result<()> {
        let free = READ_WRITE.contains(&number);
        let may_read = free || READ_ONLY.contains(&number);
        let may_write = free || WRITE_ONLY.contains(&number);
        if !read && !may_read || !write && !may_write {
            return Err(Errno::PERM);
        }
        let Some((byte, shift)) = Self::place(number) else {
            return Ok(());
        };
        let byte = &self.0.0[byte];
        change(byte, 1 << shift, read);
        change(byte, 2 << shift, write);
        Ok(())
    }

    /// Whether reads, and whether writes of an MSR cause an exit.
    pub fn is_intercepted(&self, number: u32) -> (bool, bool) {
        match Self::place(number) {
            None => (true, true),
            Some((byte, shift)) => {
                let bits = self.0.0[byte].load(Ordering::Relaxed) >> shift;
                (bits & 1 != 0, bits & 2 != 0)
            }
        }
    }

    pub(crate) fn address(&self) -> u64 {
        physical_of(&raw const *self.0)
    }
}

/// I/O permission map.
pub struct PortMap(Box<PortBits>);

impl PortMap {
    /// A map that has every access cause an exit. `ENOMEM`.
    pub fn new() -> Result<PortMap> {
        let bits = PortBits::new_box_zeroed().map_err(|_| Errno::NOMEM)?;
        bits.0.iter().for_each(|byte| byte.store(0xff, Ordering::Relaxed));
        Ok(PortMap(bits))
    }

    /// Has accesses to ports cause an exit, or not. Whoever lets a guest reach ports itself holds the domain's permission to
    /// use them (docs/soundness/ports.md).
    pub fn intercept(&self, ports: RangeInclusive<u16>, on: bool) {
        for port in ports {
            change(&self.0.0[usize::from(port / 8)], 1 << (port % 8), on);
        }
    }

    /// Whether an access to a port causes an exit.
    pub fn is_intercepted(&self, port: u16) -> bool {
        self.0.0[usize::from(port / 8)].load(Ordering::Relaxed) >> (port % 8) & 1 != 0
    }

    pub(crate) fn address(&self) -> u64 {
        physical_of(&raw const *self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(bits: &[AtomicU8]) -> Vec<u8> {
        bits.iter().map(|byte| byte.load(Ordering::Relaxed)).collect()
    }

    #[test]
    fn msrs_are_where_the_cpu_looks() {
        // APM vol. 2, table 15-4.
        assert_eq!(MsrMap::place(0), Some((0, 0)));
        assert_eq!(MsrMap::place(0x1fff), Some((0x7ff, 6)));
        assert_eq!(MsrMap::place(0xc000_0000), Some((0x800, 0)));
        assert_eq!(MsrMap::place(0xc000_0102), Some((0x840, 4)));
        assert_eq!(MsrMap::place(0xc001_1fff), Some((0x17ff, 6)));
        for beyond in [0x2000, 0xbfff_ffff, 0xc000_2000, 0xc001_2000, 0x4000_0000, !0] {
            assert_eq!(MsrMap::place(beyond), None, "{beyond:#x}");
        }
    }

    #[test]
    fn a_fresh_map_lets_nothing_through() {
        let (msrs, ports) = (MsrMap::new().unwrap(), PortMap::new().unwrap());
        assert!(bytes(&msrs.0.0).iter().all(|byte| *byte == 0xff));
        assert!(bytes(&ports.0.0).iter().all(|byte| *byte == 0xff));
        assert_eq!((bytes(&msrs.0.0).len(), bytes(&ports.0.0).len()), (8192, 12288));
    }

    #[test]
    fn an_msr_changes_its_own_bits_only() {
        let map = MsrMap::new().unwrap();
        map.intercept(msr::KERNEL_GS_BASE, false, true).unwrap();
        assert_eq!(map.is_intercepted(msr::KERNEL_GS_BASE), (false, true));
        assert_eq!(map.is_intercepted(msr::GS_BASE), (true, true));
        let zeros: u32 = bytes(&map.0.0).iter().map(|byte| byte.count_zeros()).sum();
        assert_eq!(zeros, 1);
        map.intercept(msr::KERNEL_GS_BASE, true, false).unwrap();
        assert_eq!(map.is_intercepted(msr::KERNEL_GS_BASE), (true, false));
    }

    #[test]
    fn msrs_of_the_hypervisor_stay_its_own() {
        let map = MsrMap::new().unwrap();
        let own = [
            msr::EFER,
            msr::AMD_VM_HSAVE_PA,
            msr::AMD_VM_CR,
            msr::APIC_BASE,
            msr::AMD_SYSCFG,
            msr::MTRR_DEF_TYPE,
            msr::DEBUGCTL,
            msr::XSS,
        ];
        for number in own {
            assert_eq!(map.intercept(number, true, false), Err(Errno::PERM), "{number:#x}");
            assert_eq!(map.intercept(number, false, true), Err(Errno::PERM), "{number:#x}");
            assert_eq!(map.is_intercepted(number), (true, true));
        }
        assert_eq!(map.intercept(msr::TSC, false, false), Err(Errno::PERM));
        assert_eq!(map.intercept(msr::TSC, false, true), Ok(()));
        assert_eq!(map.intercept(msr::PRED_CMD, true, false), Ok(()));
        assert_eq!(map.intercept(0x4000_0000, true, true), Ok(()));
    }

    #[test]
    fn ports_change_their_own_bits_only() {
        let map = PortMap::new().unwrap();
        map.intercept(0xfffe..=0xffff, false);
        map.intercept(0xed..=0xed, false);
        let open: Vec<u16> = (0..=u16::MAX).filter(|port| !map.is_intercepted(*port)).collect();
        assert_eq!(open, [0xed, 0xfffe, 0xffff]);
        assert_eq!(bytes(&map.0.0)[0xed / 8], !(1 << 5));
        // An access of two bytes to the last port looks at a bit beyond it.
        assert_eq!(bytes(&map.0.0)[0x2000], 0xff);
        map.intercept(0..=u16::MAX, true);
        assert!(bytes(&map.0.0).iter().all(|byte| *byte == 0xff));
    }
}
