//! The wall clock: Unix time, as guests compute it from `shared_info` and system time (xen.h, `wc_sec`).

use crate::machine::X86;
use chipset::WallTime;
use core::mem::offset_of;
use core::sync::atomic::{AtomicU64, Ordering::SeqCst};
use domain::{Domain, Hypervisor};
use platform::{Clock, Frames, write_bytes};
use types::DomId;
use xen_abi::compat;
use xen_abi::xen::SharedInfo;

/// Nanoseconds in a second.
const SECOND: u64 = 1_000_000_000;
/// Unix time at system time 0, in nanoseconds.
static BASE: AtomicU64 = AtomicU64::new(0);

const VERSION_WORD: usize = offset_of!(SharedInfo, wc_version) / 8;
/// The same in a 32-bit guest's page, where `wc_sec_hi` is not behind the others.
const NARROW_VERSION_WORD: usize = offset_of!(compat::SharedInfo, wc_version) / 8;
const NARROW_SEC_HI: usize = offset_of!(compat::SharedInfo, arch) + offset_of!(compat::ArchSharedInfo, wc_sec_hi);
const _: () = assert!(offset_of!(compat::SharedInfo, wc_version) % 8 == 0);
const _: () = assert!(offset_of!(compat::SharedInfo, wc_nsec) == offset_of!(compat::SharedInfo, wc_version) + 8);
const _: () = assert!(offset_of!(SharedInfo, wc_version) % 8 == 0);
const _: () = assert!(offset_of!(SharedInfo, wc_sec) == offset_of!(SharedInfo, wc_version) + 4);
const _: () = assert!(offset_of!(SharedInfo, wc_nsec) == offset_of!(SharedInfo, wc_version) + 8);
const _: () = assert!(offset_of!(SharedInfo, wc_sec_hi) == offset_of!(SharedInfo, wc_version) + 12);

/// Reads the machine's clock. Once, at boot.
pub fn init() {
    let century = hal_irq::power::fadt().map_or(0, |fadt| fadt.century);
    let Some(seconds) = hal_irq::time::read_wall_clock(century) else {
        log::warn!("The machine's clock shows no date: guests start in 1970 until dom0 sets it");
        return;
    };
    BASE.store(base(seconds, 0, hal_irq::time::system_time()), SeqCst);
    log::info!("Wall clock: {seconds} s since 1970");
}

/// Unix time at system time 0, if it was that much at `system_time`. Times before 1970 become 0.
fn base(seconds: u64, nanoseconds: u32, system_time: u64) -> u64 {
    let now = seconds.saturating_mul(SECOND).saturating_add(nanoseconds.into());
    now.saturating_sub(system_time)
}

/// Sets the clock for all domains (XENPF_settime): it was that much at `system_time`.
pub fn set(hypervisor: &Hypervisor<X86>, seconds: u64, nanoseconds: u32, system_time: u64) {
    BASE.store(base(seconds, nanoseconds, system_time), SeqCst);
    let mut next = hypervisor.domains.first_from(DomId(0));
    while let Some(domain) = next {
        update(hypervisor.machine(), &domain);
        next = hypervisor.domains.first_from(DomId(domain.id.0 + 1));
    }
}

/// The clock of a domain that is `offset` seconds ahead, at system time 0.
pub fn at_start(offset: i64) -> WallTime {
    let base = BASE.load(SeqCst);
    // Both parts are far below the limits of their types.
    WallTime { seconds: ((base / SECOND) as i64).saturating_add(offset), nanos: (base % SECOND) as u32 }
}

/// Writes the clock to a domain's `shared_info`, where the version is odd meanwhile, so that the guest reads it again, and to its
/// real-time clock.
pub fn update(machine: &X86, domain: &Domain<X86>) {
    if let Some(board) = &domain.arch.board {
        board.set_wall_clock(at_start(domain.time_offset.load(SeqCst)), machine.system_time());
    }
    let Some(table) = machine.table(domain.shared_info) else {
        return;
    };
    let (first, second) = words(BASE.load(SeqCst), domain.time_offset.load(SeqCst));
    let narrow = domain.evtchn.is_narrow();
    let word = &table[if narrow { NARROW_VERSION_WORD } else { VERSION_WORD }];
    let version = (word.load(SeqCst) as u32).wrapping_add(1) | 1;
    word.store(first | u64::from(version), SeqCst);
    if narrow {
        let [low, high] = compat::halves(second);
        write_bytes(table, (NARROW_VERSION_WORD + 1) * 8, &low.to_le_bytes());
        write_bytes(table, NARROW_SEC_HI, &high.to_le_bytes());
    } else {
        table[VERSION_WORD + 1].store(second, SeqCst);
    }
    word.store(first | u64::from(version.wrapping_add(1)), SeqCst);
}

/// The words `version | wc_sec` (version 0) and `wc_nsec | wc_sec_hi`, for a domain whose clock is `offset` seconds ahead.
fn words(base: u64, offset: i64) -> (u64, u64) {
    let seconds = (base / SECOND).saturating_add_signed(offset);
    (seconds << 32, (base % SECOND) | (seconds >> 32 << 32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_base_and_system_time_make_the_clock() {
        let base = base(1_700_000_000, 5, 3 * SECOND);
        assert_eq!(base, 1_699_999_997 * SECOND + 5);
        assert_eq!(words(base, 0), (1_699_999_997 << 32, 5));
        assert_eq!(words(base, -7).0, 1_699_999_990 << 32);
    }

    #[test]
    fn seconds_beyond_32_bits_have_an_upper_half() {
        assert_eq!(words(5 * SECOND, 1 << 32), (5 << 32, 1 << 32));
        assert_eq!(super::base(1, 0, 2 * SECOND), 0);
    }
}
