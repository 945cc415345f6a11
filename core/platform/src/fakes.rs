//! A machine on a desk: frames in ordinary memory, a clock that moves when told, and requests that are counted.

use crate::{Clock, Frames, GuestMemory, Kick, Preempt, Table, Tlb};
use core::sync::atomic::{AtomicU64, Ordering};
use std::collections::BTreeMap;
use std::sync::Mutex;
use types::{CpuId, DomId, Errno, Mfn, Result};

/// A fake machine with `count` frames from frame 0 on.
pub struct FakeMachine {
    frames: Vec<Box<Table>>,
    now: AtomicU64,
    /// How often each domain's translations were flushed.
    pub flushes: Mutex<BTreeMap<u16, u64>>,
    /// How often every translation was flushed.
    pub flushes_of_all: AtomicU64,
    /// CPUs kicked, in order.
    pub kicks: Mutex<Vec<u32>>,
    /// Answer of [`Preempt::should_yield`] after so many further calls; `u64::MAX` is never.
    pub yield_after: AtomicU64,
    guest: Mutex<BTreeMap<u64, u8>>,
}

impl FakeMachine {
    /// A machine with that many zeroed frames.
    pub fn new(count: usize) -> FakeMachine {
        FakeMachine {
            frames: (0..count).map(|_| Box::new([const { AtomicU64::new(0) }; 512])).collect(),
            now: AtomicU64::new(0),
            flushes: Mutex::default(),
            flushes_of_all: AtomicU64::new(0),
            kicks: Mutex::default(),
            yield_after: AtomicU64::new(u64::MAX),
            guest: Mutex::default(),
        }
    }

    /// Sets the clock, in nanoseconds.
    pub fn set_time(&self, now: u64) {
        self.now.store(now, Ordering::Relaxed);
    }

    /// Makes guest addresses `address..address + bytes.len()` valid, with these bytes.
    pub fn map_guest(&self, address: u64, bytes: &[u8]) {
        let mut guest = self.guest.lock().unwrap();
        for (index, byte) in bytes.iter().enumerate() {
            guest.insert(address + index as u64, *byte);
        }
    }
}

impl Frames for FakeMachine {
    fn table(&self, mfn: Mfn) -> Option<&Table> {
        self.frames.get(usize::try_from(mfn.0).ok()?).map(|frame| &**frame)
    }
}

impl Clock for FakeMachine {
    fn system_time(&self) -> u64 {
        self.now.load(Ordering::Relaxed)
    }
}

impl GuestMemory for FakeMachine {
    fn copy_in(&self, address: u64, to: &mut [u8]) -> Result<()> {
        let guest = self.guest.lock().unwrap();
        for (index, byte) in to.iter_mut().enumerate() {
            *byte = *guest.get(&address.wrapping_add(index as u64)).ok_or(Errno::FAULT)?;
        }
        Ok(())
    }

    fn copy_out(&self, address: u64, from: &[u8]) -> Result<()> {
        let mut guest = self.guest.lock().unwrap();
        for (index, byte) in from.iter().enumerate() {
            *guest.get_mut(&address.wrapping_add(index as u64)).ok_or(Errno::FAULT)? = *byte;
        }
        Ok(())
    }

    fn is_guest_range(&self, address: u64, length: u64) -> bool {
        address.checked_add(length).is_some_and(|end| end <= 1 << 47)
    }
}

impl Tlb for FakeMachine {
    fn flush_domain(&self, domain: DomId) {
        *self.flushes.lock().unwrap().entry(domain.0).or_default() += 1;
    }

    fn flush_all(&self) {
        self.flushes_of_all.fetch_add(1, Ordering::Relaxed);
    }
}

impl Kick for FakeMachine {
    fn kick(&self, cpu: CpuId) {
        self.kicks.lock().unwrap().push(cpu.0);
    }
}

impl Preempt for FakeMachine {
    fn should_yield(&self) -> bool {
        self.yield_after
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                Some(if left == u64::MAX { left } else { left.saturating_sub(1) })
            })
            .is_ok_and(|left| left == 0)
    }
}
