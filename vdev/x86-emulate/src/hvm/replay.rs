//! Answers of devices to an instruction that had to be begun again.
//!
//! An instruction may reach devices several times: to read an operand, to write it back, in two pieces where it crosses a page. If
//! a device model has to be asked, emulation stops and the instruction is begun again once the answer is there. What devices
//! answered before must then not be asked again, for reads of devices have effects. The client therefore sends each access to a
//! device through [`Replay::access`], which answers from what it has, in order, or lets the client ask.

use super::{Result, Stop};

/// Accesses that one instruction can make. The most are those that replace 16 bytes in two pages: five pieces of 1, 2, 4 or 8 bytes,
/// read and then written.
const MOST: usize = 16;

/// Where a device is reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Space {
    /// At a guest-physical address.
    #[default]
    Memory,
    /// At a port.
    Port,
}

/// One access to a device: what an `ioreq` says (ioreq.h).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DeviceAccess {
    /// Where.
    pub space: Space,
    /// Guest-physical address or port.
    pub address: u64,
    /// Bytes: 1, 2, 4 or 8.
    pub size: u8,
    /// Whether the device is written.
    pub is_write: bool,
    /// What is written; with `is_pointer`, the guest-physical address of it, or of where to put what is read.
    pub data: u64,
    /// Whether `data` is an address.
    pub is_pointer: bool,
    /// Units; 1 but for bursts.
    pub count: u64,
    /// Whether each unit is below the one before.
    pub is_backward: bool,
}

/// What the client can say about an access.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// It is made. What was read; anything for a write.
    Now(u64),
    /// The device model was asked; [`Replay::answer`] will have what it says.
    Later,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Entry {
    access: DeviceAccess,
    /// `None` while the device model has not answered.
    answer: Option<u64>,
}

/// The accesses of one instruction so far. The client keeps one for each virtual CPU.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Replay {
    entries: [Entry; MOST],
    used: usize,
    /// Accesses that this attempt has made.
    made: usize,
}

impl Default for Replay {
    fn default() -> Self {
        Replay { entries: [Entry::default(); MOST], used: 0, made: 0 }
    }
}

impl Replay {
    /// An attempt at the instruction begins. To be called before [`super::emulate`].
    pub fn begin(&mut self) {
        self.made = 0;
    }

    /// The answer to an access; `ask` is called only for one that has not been made before.
    ///
    /// # Errors
    /// [`Stop::Pending`] while there is no answer. [`Stop::Crash`] if the instruction does not do what it did in its first attempt,
    /// since the guest has changed it or its page tables meanwhile: what the devices were told cannot be taken back.
    pub fn access(&mut self, access: DeviceAccess, ask: impl FnOnce(&DeviceAccess) -> Answer) -> Result<u64> {
        match self.known(&access)? {
            Some(answer) => Ok(answer),
            None => self.note(access, ask(&access)),
        }
    }

    /// The first half of [`Replay::access`], for a client of which the replay is a part: the answer to an access that was made before;
    /// `None` for a new one, which is to be made and given to [`Replay::note`].
    ///
    /// # Errors
    /// As there.
    pub fn known(&mut self, access: &DeviceAccess) -> Result<Option<u64>> {
        if self.made == self.used {
            return if self.used < MOST { Ok(None) } else { Err(Stop::Crash) };
        }
        let entry = &self.entries[self.made];
        if entry.access != *access {
            return Err(Stop::Crash);
        }
        let answer = entry.answer.ok_or(Stop::Pending)?;
        self.made += 1;
        Ok(Some(answer))
    }

    /// The second half: what has come of an access that was not known.
    ///
    /// # Errors
    /// [`Stop::Pending`] if that is no answer yet.
    pub fn note(&mut self, access: DeviceAccess, answer: Answer) -> Result<u64> {
        let answer = match answer {
            Answer::Now(value) => Some(value),
            Answer::Later => None,
        };
        *self.entries.get_mut(self.used).ok_or(Stop::Crash)? = Entry { access, answer };
        self.used += 1;
        let answer = answer.ok_or(Stop::Pending)?;
        self.made += 1;
        Ok(answer)
    }

    /// The access that the device model has not answered.
    pub fn pending(&self) -> Option<DeviceAccess> {
        let last = self.entries[..self.used].last()?;
        last.answer.is_none().then_some(last.access)
    }

    /// The device model's answer to the pending access. False, and nothing happens, if there is none: the instruction was forgotten.
    pub fn answer(&mut self, value: u64) -> bool {
        match self.entries[..self.used].last_mut() {
            Some(entry) if entry.answer.is_none() => {
                entry.answer = Some(value);
                true
            }
            _ => false,
        }
    }

    /// Forgets all accesses: for [`super::Memory::commit`], when the guest gets an exception instead, and when its registers are
    /// replaced.
    pub fn forget(&mut self) {
        (self.used, self.made) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(address: u64) -> DeviceAccess {
        DeviceAccess { address, size: 4, count: 1, ..DeviceAccess::default() }
    }

    #[test]
    fn each_access_is_asked_for_once_and_in_order() {
        let mut replay = Replay::default();
        replay.begin();
        assert_eq!(replay.access(read(1), |_| Answer::Now(11)), Ok(11));
        assert_eq!(replay.access(read(1), |_| Answer::Later), Err(Stop::Pending));
        assert_eq!(replay.pending(), Some(read(1)));
        replay.begin();
        assert_eq!(replay.access(read(1), |_| unreachable!("known")), Ok(11));
        assert_eq!(replay.access(read(1), |_| unreachable!("asked")), Err(Stop::Pending));
        assert!(replay.answer(12));
        assert_eq!(replay.pending(), None);
        assert!(!replay.answer(13));
        replay.begin();
        assert_eq!(replay.access(read(1), |_| unreachable!("known")), Ok(11));
        assert_eq!(replay.access(read(1), |_| unreachable!("known")), Ok(12));
        replay.forget();
        assert_eq!(replay.access(read(1), |_| Answer::Now(14)), Ok(14));
    }

    #[test]
    fn another_access_than_in_the_first_attempt_is_the_end() {
        let mut replay = Replay::default();
        assert_eq!(replay.access(read(1), |_| Answer::Later), Err(Stop::Pending));
        assert!(replay.answer(0));
        replay.begin();
        assert_eq!(replay.access(read(2), |_| unreachable!("not asked")), Err(Stop::Crash));
    }

    #[test]
    fn an_answer_to_what_was_forgotten_is_nobodys() {
        let mut replay = Replay::default();
        assert_eq!(replay.access(read(1), |_| Answer::Later), Err(Stop::Pending));
        replay.forget();
        assert!(!replay.answer(12));
        assert_eq!(replay.access(read(2), |_| Answer::Now(2)), Ok(2));
    }

    #[test]
    fn the_number_of_accesses_is_limited() {
        let mut replay = Replay::default();
        for address in 0..MOST as u64 {
            assert_eq!(replay.access(read(address), |_| Answer::Now(address)), Ok(address));
        }
        assert_eq!(replay.access(read(0), |_| Answer::Now(0)), Err(Stop::Crash));
    }
}
