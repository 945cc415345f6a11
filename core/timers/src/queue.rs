//! The timers of one CPU, soonest first.

use alloc::vec::Vec;
use types::{Errno, Result};

/// A timer of one queue.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TimerId(u32);

/// No place in the heap: the timer is not set.
const UNSET: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Slot<T> {
    /// What the timer is for; `None` is a free slot.
    value: Option<T>,
    /// Index in the heap, or [`UNSET`].
    place: u32,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    deadline: u64,
    /// Counts settings, so that of two timers with one deadline the first that was set is the first to fire.
    order: u64,
    slot: u32,
}

/// A queue of timers, each with a value that says what it is for. Only [`TimerQueue::create`] allocates; setting and
/// cancelling take logarithmic time, looking for the next deadline constant time.
#[derive(Clone, Debug)]
pub struct TimerQueue<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    /// Binary heap. Room for all slots.
    heap: Vec<Entry>,
    settings: u64,
}

impl<T: Copy> Default for TimerQueue<T> {
    fn default() -> Self {
        TimerQueue::new()
    }
}

impl<T: Copy> TimerQueue<T> {
    /// An empty queue.
    pub const fn new() -> Self {
        TimerQueue { slots: Vec::new(), free: Vec::new(), heap: Vec::new(), settings: 0 }
    }

    /// Makes a timer, not set. `ENOMEM` if there is no memory for it.
    pub fn create(&mut self, value: T) -> Result<TimerId> {
        let slot = Slot { value: Some(value), place: UNSET };
        if let Some(index) = self.free.pop() {
            self.slots[index as usize] = slot;
            return Ok(TimerId(index));
        }
        let index = u32::try_from(self.slots.len()).ok().filter(|&index| index != UNSET).ok_or(Errno::NOMEM)?;
        let count = self.slots.len() + 1;
        self.slots.try_reserve(1).map_err(|_| Errno::NOMEM)?;
        self.free.try_reserve(count - self.free.len()).map_err(|_| Errno::NOMEM)?;
        self.heap.try_reserve(count - self.heap.len()).map_err(|_| Errno::NOMEM)?;
        self.slots.push(slot);
        Ok(TimerId(index))
    }

    /// Removes a timer and returns its value; its number may be given to another one.
    pub fn destroy(&mut self, timer: TimerId) -> Option<T> {
        let value = self.value(timer)?;
        self.cancel(timer);
        self.slots[timer.0 as usize].value = None;
        self.free.push(timer.0);
        Some(value)
    }

    /// What the timer is for.
    pub fn value(&self, timer: TimerId) -> Option<T> {
        self.slots.get(timer.0 as usize)?.value
    }

    /// Sets the timer to fire at `deadline`, whatever it was set to; a deadline in the past fires at the next
    /// [`TimerQueue::expire`]. Returns true if it is now the first to fire, so that the hardware has to be set anew. Does
    /// nothing if there is no such timer.
    pub fn set(&mut self, timer: TimerId, deadline: u64) -> bool {
        if self.value(timer).is_none() {
            return false;
        }
        self.cancel(timer);
        self.settings += 1;
        let place = self.heap.len();
        self.heap.push(Entry { deadline, order: self.settings, slot: timer.0 });
        self.rise(place);
        self.slots[timer.0 as usize].place == 0
    }

    /// Makes the timer not fire. Returns whether it was set.
    pub fn cancel(&mut self, timer: TimerId) -> bool {
        let Some(slot) = self.slots.get_mut(timer.0 as usize) else {
            return false;
        };
        let place = core::mem::replace(&mut slot.place, UNSET) as usize;
        if place >= self.heap.len() {
            return false;
        }
        self.heap.swap_remove(place);
        if place < self.heap.len() {
            self.sink(place);
            self.rise(place);
        }
        true
    }

    /// When the timer fires, if it is set.
    pub fn deadline(&self, timer: TimerId) -> Option<u64> {
        let place = self.slots.get(timer.0 as usize)?.place;
        Some(self.heap.get(place as usize)?.deadline)
    }

    /// When the first timer fires.
    pub fn next_deadline(&self) -> Option<u64> {
        Some(self.heap.first()?.deadline)
    }

    /// Takes the first timer that is due at `now`. Call it until it returns `None`; a timer that the caller sets again
    /// meanwhile for a time not after `now` comes again, after the others that are due.
    pub fn expire(&mut self, now: u64) -> Option<(TimerId, T)> {
        let first = self.heap.first().filter(|entry| entry.deadline <= now)?;
        let timer = TimerId(first.slot);
        let value = self.value(timer)?;
        self.cancel(timer);
        Some((timer, value))
    }

    /// Number of timers that are set.
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether no timer is set.
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    fn before(&self, a: usize, b: usize) -> bool {
        let key = |entry: &Entry| (entry.deadline, entry.order);
        key(&self.heap[a]) < key(&self.heap[b])
    }

    fn settle(&mut self, place: usize) {
        self.slots[self.heap[place].slot as usize].place = place as u32;
    }

    /// Moves the entry up to where it belongs.
    fn rise(&mut self, mut place: usize) {
        while place > 0 {
            let parent = (place - 1) / 2;
            if !self.before(place, parent) {
                break;
            }
            self.heap.swap(place, parent);
            self.settle(place);
            place = parent;
        }
        self.settle(place);
    }

    /// Moves the entry down to where it belongs.
    fn sink(&mut self, mut place: usize) {
        loop {
            let left = 2 * place + 1;
            if left >= self.heap.len() {
                break;
            }
            let child = if left + 1 < self.heap.len() && self.before(left + 1, left) { left + 1 } else { left };
            if !self.before(child, place) {
                break;
            }
            self.heap.swap(place, child);
            self.settle(place);
            place = child;
        }
        self.settle(place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    #[test]
    fn the_first_is_announced() {
        let mut queue = TimerQueue::new();
        let (a, b) = (queue.create('a').unwrap(), queue.create('b').unwrap());
        assert!(queue.set(a, 100));
        assert!(!queue.set(b, 200));
        assert!(queue.set(b, 50));
        assert!(!queue.set(b, 100));
        assert_eq!((queue.next_deadline(), queue.deadline(b)), (Some(100), Some(100)));
        assert_eq!(queue.expire(99), None);
        // Set first, fires first.
        assert_eq!(queue.expire(100), Some((a, 'a')));
        assert!(queue.cancel(b) && !queue.cancel(b));
        assert_eq!((queue.expire(u64::MAX), queue.next_deadline()), (None, None));
        assert_eq!((queue.destroy(a), queue.destroy(a), queue.set(a, 1)), (Some('a'), None, false));
        assert_eq!(queue.create('c').unwrap(), a);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Create,
        Destroy(usize),
        Set(usize, u64),
        Cancel(usize),
        Pass(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            1 => Just(Step::Create),
            1 => (0usize..20).prop_map(Step::Destroy),
            5 => (0usize..20, 0u64..200).prop_map(|(timer, in_time)| Step::Set(timer, in_time)),
            2 => (0usize..20).prop_map(Step::Cancel),
            2 => (0u64..100).prop_map(Step::Pass),
        ]
    }

    proptest! {
        #[test]
        fn behaves_like_a_list_that_is_searched(steps in prop::collection::vec(step(), 1..300)) {
            let mut queue = TimerQueue::new();
            let mut timers = Vec::new();
            let mut set: HashMap<TimerId, (u64, usize)> = HashMap::new();
            let mut now = 100;
            for (count, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Create => timers.push(queue.create(timers.len()).unwrap()),
                    Step::Destroy(index) if index < timers.len() => {
                        let timer = timers.swap_remove(index);
                        prop_assert!(queue.destroy(timer).is_some());
                        set.remove(&timer);
                    }
                    Step::Set(index, at) if index < timers.len() => {
                        let deadline = now - 100 + at;
                        let first = queue.set(timers[index], deadline);
                        set.insert(timers[index], (deadline, count));
                        prop_assert_eq!(first, set.values().min() == Some(&(deadline, count)));
                    }
                    Step::Cancel(index) if index < timers.len() => {
                        prop_assert_eq!(queue.cancel(timers[index]), set.remove(&timers[index]).is_some());
                    }
                    Step::Pass(time) => {
                        now += time;
                        while let Some((timer, _)) = queue.expire(now) {
                            let first = set.values().min().copied().unwrap();
                            prop_assert_eq!(set.remove(&timer), Some(first));
                            prop_assert!(first.0 <= now);
                        }
                        prop_assert!(set.values().all(|&(deadline, _)| deadline > now));
                    }
                    _ => {}
                }
                prop_assert_eq!(queue.next_deadline(), set.values().min().map(|&(deadline, _)| deadline));
                prop_assert_eq!(queue.len(), set.len());
            }
        }
    }
}
