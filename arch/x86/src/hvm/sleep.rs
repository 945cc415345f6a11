//! ACPI's sleep to memory (S3) and waking from it. The device model does what the guest asks of its power management registers; here
//! the guest is stopped, and all but its memory is as after a reset, so that it wakes in its firmware.

use crate::machine::X86;
use alloc::sync::Arc;
use core::sync::atomic::Ordering::SeqCst;
use domain::{Domain, Hypervisor, Vcpu};
use types::{Errno, Result};

/// Values of HVM_PARAM_ACPI_S_STATE.
const WORKING: u64 = 0;
const SLEEPING: u64 = 3;
/// Where a CPU begins after a reset, in real mode, as firmware below 1 MiB has it.
const RESET: (u16, u64, u64) = (0xf000, 0xf_0000, 0xfff0);

/// The domain is to sleep, or to wake; where it does so already, nothing happens.
///
/// # Errors
/// `EINVAL` for another state.
pub fn enter(hypervisor: &Hypervisor<X86>, domain: &Arc<Domain<X86>>, state: u64) -> Result<()> {
    match state {
        SLEEPING => fall_asleep(hypervisor, domain),
        WORKING => {
            if domain.arch.asleep.swap(false, SeqCst) {
                hypervisor.unpause_domain(domain);
            }
            Ok(())
        }
        _ => Err(Errno::INVAL),
    }
}

/// It stays paused until it wakes.
fn fall_asleep(hypervisor: &Hypervisor<X86>, domain: &Arc<Domain<X86>>) -> Result<()> {
    hypervisor.pause_domain(domain);
    if domain.arch.asleep.swap(true, SeqCst) {
        hypervisor.unpause_domain(domain);
        return Ok(());
    }
    domain.vcpus().iter().try_for_each(|vcpu| reset(hypervisor, vcpu))?;
    if let Some(board) = &domain.arch.board {
        board.reset(hypervisor, domain);
    }
    let first = domain.vcpus().first().ok_or(Errno::INVAL)?;
    first.initialised.store(true, SeqCst);
    hypervisor.bring_up(first);
    Ok(())
}

/// A vCPU is as after power-on, and down.
fn reset(hypervisor: &Hypervisor<X86>, vcpu: &Vcpu<X86>) -> Result<()> {
    hypervisor.bring_down(vcpu);
    // An answer of a device emulator is waited for until it comes: the request has its place.
    hypervisor.end_wait(vcpu);
    vcpu.initialised.store(false, SeqCst);
    vcpu.nmi_pending.store(false, SeqCst);
    hypervisor.cancel_timer(&vcpu.arch.timer);
    let mut state = vcpu.state.lock();
    let state = state.hvm()?;
    state.lapic.reset(&vcpu.arch.apic);
    state.engine.set_task_priority(0);
    let (selector, base, rip) = RESET;
    state.reset(selector, base, rip);
    Ok(())
}
