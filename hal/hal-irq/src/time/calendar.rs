//! Dates to seconds.

/// What a CMOS clock shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Date {
    /// Year, all four digits.
    pub year: u32,
    /// Month, 1 to 12.
    pub month: u32,
    /// Day, 1 to 31.
    pub day: u32,
    /// Hour, 0 to 23.
    pub hour: u32,
    /// Minute.
    pub minute: u32,
    /// Second.
    pub second: u32,
}

impl Date {
    /// Seconds since 1970-01-01 00:00:00, both in UTC; `None` if this is no date from then on.
    pub fn to_unix(self) -> Option<u64> {
        let valid = (1970..10_000).contains(&self.year)
            && (1..=12).contains(&self.month)
            && (1..=31).contains(&self.day)
            && self.hour < 24
            && self.minute < 60
            && self.second < 61;
        valid.then_some(())?;
        // Years that begin in March have their leap day last; months are then 153 days to five.
        let (year, month) = if self.month > 2 { (self.year, self.month - 3) } else { (self.year - 1, self.month + 9) };
        let days_in_years = u64::from(year) * 365 + u64::from(year / 4) - u64::from(year / 100) + u64::from(year / 400);
        let days = days_in_years + u64::from((153 * month + 2) / 5 + self.day - 1);
        /// Days from 1 March of year 0 to 1 January 1970.
        const EPOCH: u64 = 719_468;
        let seconds = u64::from(self.hour * 3600 + self.minute * 60 + self.second);
        Some(days.checked_sub(EPOCH)? * 86_400 + seconds)
    }

    /// From the CMOS registers 0, 2, 4, 7, 8, 9 and the century's, as status register B says that they are coded (bit 1:
    /// 24 hours, bit 2: binary; MC146818A). Without a century, two-digit years below 70 are of this one.
    pub fn from_cmos(registers: [u8; 6], century: Option<u8>, status_b: u8) -> Date {
        let decode = |value: u8| {
            let (high, low) = (u32::from(value >> 4), u32::from(value & 15));
            if status_b & 4 != 0 { value.into() } else { high * 10 + low }
        };
        let [second, minute, hour, day, month, year] = registers;
        let hour = if status_b & 2 != 0 { decode(hour) } else { decode(hour & 0x7f) % 12 + u32::from(hour >> 7) * 12 };
        let year = decode(year);
        let year = match century.map(decode).filter(|century| (19..100).contains(century)) {
            Some(century) => century * 100 + year,
            None if year < 70 => 2000 + year,
            None => 1900 + year,
        };
        Date { year, month: decode(month), day: decode(day), hour, minute: decode(minute), second: decode(second) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_dates() {
        let date = |year, month, day, hour| Date { year, month, day, hour, minute: 0, second: 0 };
        assert_eq!(date(1970, 1, 1, 0).to_unix(), Some(0));
        assert_eq!(date(2000, 2, 29, 12).to_unix(), Some(951_825_600));
        assert_eq!(date(2038, 1, 19, 3).to_unix(), Some(2_147_482_800));
        assert_eq!(date(2100, 3, 1, 0).to_unix(), Some(4_107_542_400));
        assert_eq!(date(2026, 13, 1, 0).to_unix(), None);
        assert_eq!(date(2026, 0, 1, 0).to_unix(), None);
    }

    #[test]
    fn cmos_codings() {
        let bcd = Date::from_cmos([0x59, 0x30, 0x23, 0x22, 0x11, 0x26], Some(0x20), 2);
        assert_eq!(bcd, Date { year: 2026, month: 11, day: 22, hour: 23, minute: 30, second: 59 });
        assert_eq!(Date::from_cmos([59, 30, 0x80 | 11, 22, 11, 26], None, 4), bcd);
        assert_eq!(Date::from_cmos([0, 0, 0x12, 1, 1, 0x99], None, 0).hour, 0);
        assert_eq!(Date::from_cmos([0, 0, 0x92, 1, 1, 0x99], Some(0), 0).hour, 12);
        assert_eq!(Date::from_cmos([0, 0, 0, 1, 1, 0x99], None, 2).year, 1999);
    }
}
