//! The CMOS clock (MC146818A).

use super::calendar::Date;
use hal::ports;
use platform::sync::Mutex;

/// Held between selecting a register and reading it.
static CMOS: Mutex<()> = Mutex::new(());

fn read(register: u8) -> u8 {
    ports::write8(0x70, register);
    ports::read8(0x71)
}

fn snapshot(century: u8) -> ([u8; 6], u8) {
    let registers = [0, 2, 4, 7, 8, 9].map(read);
    (registers, if century != 0 { read(century) } else { 0 })
}

/// Seconds since 1970 in UTC, assuming that the clock runs in UTC; `None` if it shows no date. `century` is the FADT's
/// register number, 0 if there is none. Takes up to 2 ms of waiting, if an update is under way.
pub fn read_wall_clock(century: u8) -> Option<u64> {
    let _guard = CMOS.lock();
    let century = if (0x0e..0x80).contains(&century) { century } else { 0 };
    let mut last = snapshot(century);
    for _ in 0..1000 {
        while_updating();
        let now = snapshot(century);
        if now == last && read(0x0a) & 0x80 == 0 {
            let status_b = read(0x0b);
            return Date::from_cmos(now.0, (century != 0).then_some(now.1), status_b).to_unix();
        }
        last = now;
    }
    None
}

fn while_updating() {
    for _ in 0..10_000 {
        if read(0x0a) & 0x80 == 0 {
            break;
        }
    }
}
