//! The proleptic Gregorian calendar, without time zones.

pub const SECONDS_PER_DAY: i64 = 86_400;
/// The calendar repeats after 400 years.
const DAYS_PER_CYCLE: i64 = 146_097;
/// From 1 March of year 0, where cycles are counted from, to 1 January 1970.
const DAYS_TO_1970: i64 = 719_468;

/// A moment in the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Date {
    pub year: i64,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
    pub hour: u8,
    pub minute: u8,
    pub second: u8,
    /// 0 is Sunday.
    pub weekday: u8,
}

/// The date of `seconds` since 1970.
pub fn from_seconds(seconds: i64) -> Date {
    let days = seconds.div_euclid(SECONDS_PER_DAY);
    // All remainders are small.
    let time = seconds.rem_euclid(SECONDS_PER_DAY);
    let shifted = days + DAYS_TO_1970;
    let (cycle, in_cycle) = (shifted.div_euclid(DAYS_PER_CYCLE), shifted.rem_euclid(DAYS_PER_CYCLE));
    // Leap days before this one are taken out, so that all years have 365 days.
    let year = (in_cycle - in_cycle / 1460 + in_cycle / 36_524 - in_cycle / 146_096) / 365;
    let in_year = in_cycle - days_before(year);
    // From March on, months have 30.6 days on average.
    let month = (5 * in_year + 2) / 153;
    let january = month >= 10;
    Date {
        year: cycle * 400 + year + i64::from(january),
        month: (month + if january { -9 } else { 3 }) as u8,
        day: (in_year - (153 * month + 2) / 5 + 1) as u8,
        hour: (time / 3600) as u8,
        minute: (time / 60 % 60) as u8,
        second: (time % 60) as u8,
        weekday: (days + 4).rem_euclid(7) as u8,
    }
}

/// Days of the `years` that begin a cycle.
fn days_before(years: i64) -> i64 {
    365 * years + years / 4 - years / 100
}

/// Days from 1970 to a day. Days beyond the month's, and months beyond the year's, go on into the next.
pub fn days(year: i64, month: i64, day: i64) -> i64 {
    let months = year * 12 + month - 3;
    let (year, month) = (months.div_euclid(12), months.rem_euclid(12));
    let (cycle, year) = (year.div_euclid(400), year.rem_euclid(400));
    cycle * DAYS_PER_CYCLE + days_before(year) + (153 * month + 2) / 5 + day - 1 - DAYS_TO_1970
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn leap(year: i64) -> bool {
        year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
    }

    fn length(year: i64, month: usize) -> i64 {
        let february = if leap(year) { 29 } else { 28 };
        [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][month - 1]
    }

    /// The calendar, day by day, over two cycles and a bit, from 1 January 1600.
    #[test]
    fn every_day_of_a_thousand_years() {
        let (mut year, mut month, mut day) = (1600, 1, 1);
        // 1 January 1600 was a Saturday.
        let mut weekday = 6;
        let mut number = -135_140;
        while year < 2600 {
            let date = from_seconds(number * SECONDS_PER_DAY + 86_399);
            let expected = Date { year, month: month as u8, day: day as u8, hour: 23, minute: 59, second: 59, weekday };
            assert_eq!(date, expected);
            assert_eq!(days(year, month as i64, day), number);
            number += 1;
            weekday = (weekday + 1) % 7;
            day += 1;
            if day > length(year, month) {
                (day, month) = (1, month + 1);
            }
            if month > 12 {
                (month, year) = (1, year + 1);
            }
        }
    }

    #[test]
    fn known_moments() {
        let date = |seconds| {
            let d = from_seconds(seconds);
            (d.year, d.month, d.day, d.hour, d.minute, d.second, d.weekday)
        };
        assert_eq!(date(0), (1970, 1, 1, 0, 0, 0, 4));
        assert_eq!(date(951_782_400), (2000, 2, 29, 0, 0, 0, 2));
        assert_eq!(date(-1), (1969, 12, 31, 23, 59, 59, 3));
        assert_eq!(date(4_102_444_799), (2099, 12, 31, 23, 59, 59, 4));
    }

    #[test]
    fn days_beyond_the_month_go_on() {
        assert_eq!(days(2000, 2, 30), days(2000, 3, 1));
        assert_eq!(days(2000, 13, 1), days(2001, 1, 1));
        assert_eq!(days(2000, 0, 31), days(1999, 12, 31));
        assert_eq!(days(2000, 1, 0), days(1999, 12, 31));
    }

    proptest! {
        #[test]
        fn any_number_of_seconds_has_a_date(seconds in any::<i64>()) {
            let d = from_seconds(seconds);
            prop_assert!((1..=12).contains(&d.month) && (1..=31).contains(&d.day) && d.weekday < 7);
            let time = i128::from(d.hour) * 3600 + i128::from(d.minute) * 60 + i128::from(d.second);
            let whole = i128::from(days(d.year, d.month.into(), d.day.into())) * i128::from(SECONDS_PER_DAY);
            prop_assert_eq!(whole + time, i128::from(seconds));
        }
    }
}
