//! Locks. The hypervisor runs with interrupts off, so a lock needs no interrupt class; a CPU that spins must still answer
//! other CPUs' requests (TLB shoot-downs), which the hook given to [`set_relax_hook`] does.

use spin::{Once, RelaxStrategy};

static RELAX_HOOK: Once<fn()> = Once::new();

/// Sets what a CPU does in each round of waiting for a lock. The first call counts.
pub fn set_relax_hook(hook: fn()) {
    RELAX_HOOK.call_once(|| hook);
}

/// One round of waiting: runs the hook, or tells the CPU that it spins.
pub struct Relax;

impl RelaxStrategy for Relax {
    fn relax() {
        if let Some(hook) = RELAX_HOOK.get() {
            hook();
        }
        core::hint::spin_loop();
    }
}

/// One round of waiting for another CPU outside of a lock; see [`Relax`].
pub fn relax() {
    Relax::relax();
}

/// A lock that spins.
pub type Mutex<T> = spin::mutex::SpinMutex<T, Relax>;
/// Its guard.
pub type MutexGuard<'a, T> = spin::mutex::SpinMutexGuard<'a, T>;
/// A lock for many readers or one writer, that spins.
pub type RwLock<T> = spin::rwlock::RwLock<T, Relax>;
