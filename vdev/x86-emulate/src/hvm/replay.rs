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
        if self.made < self.used {
            let entry = &self.entries[self.made];
            if entry.access != access {
                return Err(Stop::Crash);
            }
            let answer = entry.answer.ok_or(Stop::Pending)?;
            self.made += 1;
            return Ok(answer);
        }
        let entry = self.entries.get_mut(self.used).ok_or(Stop::Crash)?;
        let answer = match ask(&access) {
            Answer::Now(value) => Some(value),
            Answer::Later => None,
        };
        *entry = Entry { access, answer };
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

    /// The device model's answer to the pending access. Nothing happens if there is none.
    pub fn answer(&mut self, value: u64) {
        match self.entries[..self.used].last_mut() {
            Some(entry) if entry.answer.is_none() => entry.answer = Some(value),
            _ => {}
        }
    }

    /// Forgets all accesses: for [`super::Memory::commit`], and when the guest gets an exception instead.
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
        replay.answer(12);
        assert_eq!(replay.pending(), None);
        replay.answer(13);
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
        replay.answer(0);
        replay.begin();
        assert_eq!(replay.access(read(2), |_| unreachable!("not asked")), Err(Stop::Crash));
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
