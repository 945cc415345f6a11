//! When the alarm goes off.

/// Hour, minute and second of the alarm; nothing: any will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alarm {
    pub hour: Option<u8>,
    pub minute: Option<u8>,
    pub second: Option<u8>,
}

const DAY: u32 = 86_400;

impl Alarm {
    /// Seconds from `time`, a second of the day, until the alarm's next moment after it: 1 to 86400. Nothing if it names a
    /// moment that does not exist.
    pub fn after(self, time: u32) -> Option<u32> {
        let beyond = |part: Option<u8>, limit| part.is_some_and(|part| part >= limit);
        if beyond(self.hour, 24) || beyond(self.minute, 60) || beyond(self.second, 60) {
            return None;
        }
        let mut at = time + 1;
        loop {
            let wrong = |part: Option<u8>, now: u32| part.is_some_and(|part| u32::from(part) != now);
            // The first part that is wrong is right no earlier than when it next changes. That is at most 23, then 59, then
            // 59 steps.
            if wrong(self.hour, at / 3600 % 24) {
                at = (at / 3600 + 1) * 3600;
            } else if wrong(self.minute, at / 60 % 60) {
                at = (at / 60 + 1) * 60;
            } else if wrong(self.second, at % 60) {
                at += 1;
            } else {
                return Some(at - time).filter(|&seconds| seconds <= DAY);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn part(limit: u8) -> impl Strategy<Value = Option<u8>> {
        prop::option::of(0..limit)
    }

    proptest! {
        #[test]
        fn first_second_that_fits(hour in part(24), minute in part(60), second in part(60), time in 0u32..DAY) {
            let fits = |at: u32| {
                let is = |part: Option<u8>, now: u32| part.is_none_or(|part| u32::from(part) == now);
                is(hour, at / 3600 % 24) && is(minute, at / 60 % 60) && is(second, at % 60)
            };
            let expected = (1..=DAY).find(|seconds| fits(time + seconds));
            prop_assert_eq!(Alarm { hour, minute, second }.after(time), expected);
        }

        #[test]
        fn moment_that_does_not_exist_never_comes(which in 0usize..3, part in 60u8.., time in 0u32..DAY) {
            let mut parts = [Some(1); 3];
            parts[which] = Some(part);
            prop_assert_eq!(Alarm { hour: parts[0], minute: parts[1], second: parts[2] }.after(time), None);
        }
    }

    #[test]
    fn hour_24_does_not_exist() {
        assert_eq!(Alarm { hour: Some(24), minute: None, second: None }.after(0), None);
    }
}
