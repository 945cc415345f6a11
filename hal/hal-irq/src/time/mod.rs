//! Time: a calibrated TSC, what calibrated it, the one-shot timer of each CPU, and the wall clock.

mod calendar;
mod calibrate;
mod clock;
mod offset;
mod reference;
mod rtc;
mod scale;

pub use calendar::Date;
pub use clock::{
    TimeRecord, delay, init, set_deadline, set_offset, system_time, system_time_at, time_record, tsc, tsc_at, tsc_hz,
};
pub use clock::{is_stable, scale, skewed};
pub use offset::Offset;
pub use reference::Reference;
pub use rtc::read_wall_clock;
pub use scale::{SECOND, Scale, mul_div};
