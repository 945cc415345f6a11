//! One domain.

use crate::watchdog::{WATCHDOGS, Watchdog};
use crate::{Arch, TimerSlot, Translated, Vcpu};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::{Add, Sub};
use core::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU32, Ordering::SeqCst};
use evtchn::EventChannels;
use gnttab::{GrantTable, MapTrack};
use memory::DomainMemory;
use platform::sync::Mutex;
use spin::Once;
use types::{DomId, Errno, Mfn, Result, VcpuId};

/// What a domain is created with (XEN_DOMCTL_createdomain).
#[derive(Clone, Debug)]
pub struct Creation {
    /// Universal identifier that the toolstack gave.
    pub handle: [u8; 16],
    /// It may use the toolstack's calls and the machine's devices.
    pub privileged: bool,
    /// Number of vCPUs it may have, 1 at least.
    pub max_vcpus: u32,
    /// Highest usable event channel port.
    pub max_evtchn_port: u32,
    /// Limit of grant-table frames.
    pub max_grant_frames: u32,
    /// Limit of frames of its own grant mappings.
    pub max_maptrack_frames: u32,
    /// Highest grant-table version, 1 or 2.
    pub max_grant_version: u32,
    /// XEN_DOMCTL_CDF_* flags, as given.
    pub flags: u32,
    /// XEN_X86_EMU_* flags, as given.
    pub emulation_flags: u32,
    /// XEN_X86_* miscellaneous flags, as given.
    pub misc_flags: u32,
    /// CPU pool.
    pub cpupool: u32,
    /// Limit of frames, before the toolstack sets one.
    pub max_frames: u64,
}

/// How far a domain's end has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Life {
    /// Ordinary.
    Alive = 0,
    /// Its resources are being taken back.
    Dying = 1,
    /// All that could be taken back was; frames that others still use remain.
    Dead = 2,
}

/// Why a domain shut down (SHUTDOWN_*, sched.h).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ShutdownCode(pub u8);

impl ShutdownCode {
    /// Powered off.
    pub const POWEROFF: ShutdownCode = ShutdownCode(0);
    /// Asks to be started again.
    pub const REBOOT: ShutdownCode = ShutdownCode(1);
    /// Suspended.
    pub const SUSPEND: ShutdownCode = ShutdownCode(2);
    /// Crashed.
    pub const CRASH: ShutdownCode = ShutdownCode(3);
    /// Its watchdog expired.
    pub const WATCHDOG: ShutdownCode = ShutdownCode(4);
    /// Asks to be reset.
    pub const SOFT_RESET: ShutdownCode = ShutdownCode(5);
}

const NO_CODE: u8 = 0xff;

/// What of the machine a domain may reach.
#[derive(Default)]
pub struct Rights {
    /// Ranges of frames, first and last, of memory-mapped I/O.
    pub iomem: alloc::vec::Vec<(u64, u64)>,
    /// Ranges of I/O ports, first and last.
    pub ioports: alloc::vec::Vec<(u32, u32)>,
    /// Interrupts, by GSI.
    pub irqs: alloc::vec::Vec<(u32, u32)>,
}

impl Rights {
    fn covers<T: PartialOrd + Copy>(ranges: &[(T, T)], first: T, last: T) -> bool {
        ranges.iter().any(|&(low, high)| low <= first && last <= high)
    }

    /// Whether the frames from `first` to `last` may be mapped.
    pub fn may_map(&self, first: u64, last: u64) -> bool {
        Self::covers(&self.iomem, first, last)
    }

    /// Gives or takes interrupts.
    ///
    /// # Errors
    /// `ENOMEM`; `ENOSPC` for more than [`MAX_RANGES`] ranges.
    pub fn change_irqs(&mut self, first: u32, last: u32, give: bool) -> Result<()> {
        change(&mut self.irqs, first, last, give)
    }

    /// Gives or takes I/O ports, likewise.
    ///
    /// # Errors
    /// As [`Rights::change_irqs`].
    pub fn change_ports(&mut self, first: u32, last: u32, give: bool) -> Result<()> {
        change(&mut self.ioports, first, last, give)
    }

    /// Gives or takes frames of memory-mapped I/O, likewise.
    ///
    /// # Errors
    /// As [`Rights::change_irqs`].
    pub fn change_iomem(&mut self, first: u64, last: u64, give: bool) -> Result<()> {
        change(&mut self.iomem, first, last, give)
    }

    /// Whether the interrupt of a pin may be bound.
    pub fn may_bind(&self, gsi: u32) -> bool {
        Self::covers(&self.irqs, gsi, gsi)
    }

    /// Whether any device can be reached, by memory or ports.
    pub fn has_devices(&self) -> bool {
        !self.iomem.is_empty() || !self.ioports.is_empty()
    }

    /// Whether the ports from `first` to `last` may be used.
    pub fn may_use_ports(&self, first: u32, last: u32) -> bool {
        Self::covers(&self.ioports, first, last)
    }
}

/// Ranges of one kind that a domain may have.
const MAX_RANGES: usize = 256;

/// Adds a range to sorted, disjoint ones, or takes it out.
fn change<T>(ranges: &mut Vec<(T, T)>, mut first: T, mut last: T, give: bool) -> Result<()>
where
    T: Copy + Ord + From<u8> + Add<Output = T> + Sub<Output = T>,
{
    let one = T::from(1);
    let mut changed = Vec::new();
    changed.try_reserve_exact(ranges.len() + 2).map_err(|_| Errno::NOMEM)?;
    for &(low, high) in ranges.iter() {
        if high < first || low > last {
            changed.push((low, high));
            continue;
        }
        if give {
            (first, last) = (first.min(low), last.max(high));
            continue;
        }
        if low < first {
            changed.push((low, first - one));
        }
        if high > last {
            changed.push((last + one, high));
        }
    }
    if give {
        changed.push((first, last));
        changed.sort_unstable();
        changed.dedup_by(|next, range| {
            let adjoins = next.0 <= range.1 || next.0 - one == range.1;
            if adjoins {
                range.1 = range.1.max(next.1);
            }
            adjoins
        });
    }
    if changed.len() > MAX_RANGES {
        return Err(Errno::NOSPC);
    }
    *ranges = changed;
    Ok(())
}

/// A domain.
pub struct Domain<A: Arch> {
    /// Its number.
    pub id: DomId,
    /// What it was created with.
    pub creation: Creation,
    /// Universal identifier, which the toolstack may change.
    pub handle: Mutex<[u8; 16]>,
    /// Its frames.
    pub memory: Arc<DomainMemory>,
    /// The frame of its shared_info.
    pub shared_info: Mfn,
    /// Its event channels.
    pub evtchn: EventChannels,
    /// What it grants to others.
    pub gnttab: GrantTable,
    /// What of others' grants it has mapped.
    pub maptrack: MapTrack,
    /// Its vCPUs, made by the toolstack's max_vcpus call.
    vcpus: Once<Box<[Arc<Vcpu<A>>]>>,
    life: AtomicU8,
    shutdown_code: AtomicU8,
    /// Why it will say that it shut down, whatever ends it.
    latched_code: AtomicU8,
    /// Timers that end it unless it sets them again and again.
    pub(crate) watchdogs: [Watchdog; WATCHDOGS],
    /// Begins the periods of its CPU time while it has a cap.
    pub(crate) budget_timer: TimerSlot,
    /// A shutdown was asked for: vCPUs stop on their way.
    pub shutting_down: AtomicBool,
    /// How many have asked that it stop.
    pub pauses: Arc<AtomicU32>,
    /// How often the toolstack has asked that it stop.
    pub toolstack_pauses: AtomicU32,
    /// The toolstack has let it run for the first time.
    pub started: AtomicBool,
    /// Whether the store is to be told of its end.
    pub is_store: AtomicBool,
    /// Seconds between the host's wall clock and the guest's.
    pub time_offset: AtomicI64,
    /// What of the machine it may reach.
    pub rights: Mutex<Rights>,
    /// Port that is notified when the domain suspends (XEN_DOMCTL_subscribe); 0 for none.
    pub suspend_port: AtomicU32,
    /// VMASST_TYPE_* bits that are on.
    pub vm_assist: AtomicU32,
    /// XENMEM_set_memory_map's entries.
    pub memory_map: Mutex<alloc::vec::Vec<[u8; 20]>>,
    /// Used by one destroying call at a time.
    pub(crate) destroying: AtomicBool,
    /// What only a translated domain has.
    pub translated: Option<Box<Translated<A>>>,
    /// The architecture's part.
    pub arch: A::Domain,
}

impl<A: Arch> Domain<A> {
    pub(crate) fn new(
        id: DomId,
        creation: Creation,
        memory: Arc<DomainMemory>,
        shared_info: Mfn,
        evtchn: EventChannels,
        (gnttab, maptrack, translated): (GrantTable, MapTrack, Option<Box<Translated<A>>>),
        arch: A::Domain,
    ) -> Domain<A> {
        Domain {
            id,
            handle: Mutex::new(creation.handle),
            memory,
            shared_info,
            evtchn,
            gnttab,
            maptrack,
            vcpus: Once::new(),
            life: AtomicU8::new(Life::Alive as u8),
            shutdown_code: AtomicU8::new(NO_CODE),
            latched_code: AtomicU8::new(NO_CODE),
            watchdogs: Default::default(),
            budget_timer: TimerSlot::default(),
            shutting_down: AtomicBool::new(false),
            pauses: Arc::new(AtomicU32::new(0)),
            toolstack_pauses: AtomicU32::new(0),
            started: AtomicBool::new(false),
            is_store: AtomicBool::new(false),
            time_offset: AtomicI64::new(0),
            rights: Mutex::default(),
            suspend_port: AtomicU32::new(0),
            vm_assist: AtomicU32::new(0),
            memory_map: Mutex::default(),
            destroying: AtomicBool::new(false),
            translated,
            arch,
            creation,
        }
    }

    /// Whether it is the control domain or has its rights.
    pub fn is_privileged(&self) -> bool {
        self.creation.privileged
    }

    /// Its vCPUs; empty before they are made.
    pub fn vcpus(&self) -> &[Arc<Vcpu<A>>] {
        self.vcpus.get().map_or(&[], |vcpus| vcpus)
    }

    /// The vCPU with this number.
    pub fn vcpu(&self, id: VcpuId) -> Option<&Arc<Vcpu<A>>> {
        self.vcpus().get(id.index())
    }

    pub(crate) fn set_vcpus(&self, vcpus: Box<[Arc<Vcpu<A>>]>) {
        self.vcpus.call_once(|| vcpus);
    }

    /// How far its end has come.
    pub fn life(&self) -> Life {
        match self.life.load(SeqCst) {
            0 => Life::Alive,
            1 => Life::Dying,
            _ => Life::Dead,
        }
    }

    pub(crate) fn set_life(&self, life: Life) {
        self.life.store(life as u8, SeqCst);
    }

    /// Why it shut down; `None` while it has not.
    pub fn shutdown_code(&self) -> Option<ShutdownCode> {
        match self.shutdown_code.load(SeqCst) {
            NO_CODE => None,
            code => Some(ShutdownCode(code)),
        }
    }

    /// Keeps a reason for its next shutdown (SCHEDOP_shutdown_code): the first one that is given counts, and is returned.
    pub fn latch_shutdown_code(&self, code: ShutdownCode) -> ShutdownCode {
        match self.latched_code.compare_exchange(NO_CODE, code.0, SeqCst, SeqCst) {
            Ok(_) => code,
            Err(earlier) => ShutdownCode(earlier),
        }
    }

    pub(crate) fn forget_latched_code(&self) {
        self.latched_code.store(NO_CODE, SeqCst);
    }

    pub(crate) fn set_shutdown_code(&self, code: Option<ShutdownCode>) {
        self.shutdown_code.store(code.map_or(NO_CODE, |code| code.0), SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_joined_and_split() {
        let mut rights = Rights::default();
        rights.change_ports(0x60, 0x6f, true).unwrap();
        rights.change_ports(0x70, 0x71, true).unwrap();
        assert_eq!(rights.ioports, [(0x60, 0x71)]);
        assert!(rights.may_use_ports(0x6e, 0x71));
        rights.change_ports(0x64, 0x64, false).unwrap();
        assert_eq!(rights.ioports, [(0x60, 0x63), (0x65, 0x71)]);
        assert!(!rights.may_use_ports(0x63, 0x65));
        rights.change_ports(0, u32::MAX, false).unwrap();
        assert!(rights.ioports.is_empty());
        rights.change_iomem(0, u64::MAX, true).unwrap();
        rights.change_iomem(u64::MAX, u64::MAX, false).unwrap();
        assert_eq!(rights.iomem, [(0, u64::MAX - 1)]);
    }

    #[test]
    fn ranges_are_limited() {
        let mut rights = Rights::default();
        for number in 0..MAX_RANGES as u32 {
            rights.change_irqs(number * 2, number * 2, true).unwrap();
        }
        assert_eq!(rights.change_irqs(9999, 9999, true), Err(Errno::NOSPC));
        assert_eq!(rights.irqs.len(), MAX_RANGES);
    }
}
