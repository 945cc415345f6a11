//! Caps: a group of units may run for a budget in each period. Who has spent it waits for the next one.

use crate::GroupId;
use alloc::vec::Vec;
use types::{Errno, Result};

/// Length of a period in nanoseconds.
const PERIOD: u64 = 10_000_000;

/// The budget of one group.
#[derive(Clone, Copy, Debug)]
struct Budget {
    group: GroupId,
    /// Percent of one CPU.
    cap: u16,
    /// Nanoseconds left in this period; below 0 where the group ran on after the end of its budget.
    left: i64,
    /// When the next period begins.
    due: u64,
}

impl Budget {
    /// Nanoseconds that the group gets each period.
    fn total(&self) -> i64 {
        (PERIOD / 100 * u64::from(self.cap)) as i64
    }
}

/// Budgets of all groups that have a cap, by group.
#[derive(Debug)]
pub struct Budgets(Vec<Budget>);

impl Budgets {
    /// No group has a cap.
    pub const fn new() -> Self {
        Budgets(Vec::new())
    }

    fn place(&self, group: GroupId) -> core::result::Result<usize, usize> {
        self.0.binary_search_by_key(&group, |budget| budget.group)
    }

    fn get(&self, group: GroupId) -> Option<&Budget> {
        self.0.get(self.place(group).ok()?)
    }

    /// The group's cap in percent of one CPU; 0 is none.
    pub fn cap(&self, group: GroupId) -> u16 {
        self.get(group).map_or(0, |budget| budget.cap)
    }

    /// Sets a cap other than 0. A new one begins with a full budget.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn set(&mut self, group: GroupId, cap: u16, now: u64) -> Result<()> {
        match self.place(group) {
            Ok(at) => {
                let budget = &mut self.0[at];
                budget.cap = cap;
                budget.left = budget.left.min(budget.total());
            }
            Err(at) => {
                self.0.try_reserve(1).map_err(|_| Errno::NOMEM)?;
                let mut budget = Budget { group, cap, left: 0, due: now.saturating_add(PERIOD) };
                budget.left = budget.total();
                self.0.insert(at, budget);
            }
        }
        Ok(())
    }

    /// Lifts the group's cap.
    pub fn lift(&mut self, group: GroupId) {
        if let Ok(at) = self.place(group) {
            self.0.remove(at);
        }
    }

    /// Takes `time` nanoseconds of running from the group's budget. Whether that was the last of it.
    pub fn spend(&mut self, group: GroupId, time: u64) -> bool {
        let Ok(at) = self.place(group) else { return false };
        let budget = &mut self.0[at];
        let had_some = budget.left > 0;
        budget.left = budget.left.saturating_sub_unsigned(time);
        had_some && budget.left <= 0
    }

    /// Whether the group has to wait for its next period.
    pub fn is_spent(&self, group: GroupId) -> bool {
        self.get(group).is_some_and(|budget| budget.left <= 0)
    }

    /// Nanoseconds that the group may still run in this period; `None` is without limit.
    pub fn left(&self, group: GroupId) -> Option<u64> {
        self.get(group).map(|budget| budget.left.max(0) as u64)
    }

    /// When the group's next period begins.
    pub fn due(&self, group: GroupId) -> Option<u64> {
        self.get(group).map(|budget| budget.due)
    }

    /// Begins the period that `now` is in, if it has not begun. What was left over is lost, what was overdrawn is taken off.
    pub fn replenish(&mut self, group: GroupId, now: u64) {
        let Ok(at) = self.place(group) else { return };
        let budget = &mut self.0[at];
        let Some(late) = now.checked_sub(budget.due) else { return };
        let periods = late / PERIOD + 1;
        let income = budget.total().saturating_mul(periods.min(u32::MAX.into()) as i64);
        budget.left = budget.left.saturating_add(income).min(budget.total());
        budget.due = budget.due.saturating_add(periods.saturating_mul(PERIOD));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: GroupId = GroupId(7);
    const HALF: u64 = PERIOD / 2;

    fn capped(cap: u16) -> Budgets {
        let mut budgets = Budgets::new();
        budgets.set(GROUP, cap, 0).unwrap();
        budgets
    }

    #[test]
    fn a_budget_is_spent_once_and_comes_back_with_the_period() {
        let mut budgets = capped(50);
        assert!(!budgets.spend(GROUP, HALF - 1));
        assert_eq!((budgets.is_spent(GROUP), budgets.left(GROUP)), (false, Some(1)));
        assert!(budgets.spend(GROUP, 1));
        assert!(!budgets.spend(GROUP, 1), "it was spent before");
        budgets.replenish(GROUP, PERIOD - 1);
        assert!(budgets.is_spent(GROUP));
        budgets.replenish(GROUP, PERIOD);
        assert_eq!((budgets.left(GROUP), budgets.due(GROUP)), (Some(HALF - 1), Some(2 * PERIOD)));
    }

    #[test]
    fn what_is_left_is_not_saved_and_debts_are_paid_over_periods() {
        let mut budgets = capped(50);
        budgets.replenish(GROUP, 5 * PERIOD);
        assert_eq!((budgets.left(GROUP), budgets.due(GROUP)), (Some(HALF), Some(6 * PERIOD)));
        budgets.spend(GROUP, 4 * HALF);
        budgets.replenish(GROUP, 6 * PERIOD);
        budgets.replenish(GROUP, 7 * PERIOD);
        assert!(budgets.is_spent(GROUP));
        budgets.replenish(GROUP, 8 * PERIOD);
        budgets.replenish(GROUP, 9 * PERIOD);
        assert_eq!(budgets.left(GROUP), Some(HALF));
    }

    #[test]
    fn caps_change_and_go() {
        let mut budgets = capped(200);
        assert_eq!((budgets.cap(GROUP), budgets.left(GROUP)), (200, Some(2 * PERIOD)));
        budgets.set(GROUP, 10, 0).unwrap();
        assert_eq!((budgets.cap(GROUP), budgets.left(GROUP)), (10, Some(PERIOD / 10)));
        budgets.lift(GROUP);
        assert_eq!((budgets.cap(GROUP), budgets.left(GROUP), budgets.due(GROUP)), (0, None, None));
        assert!(!budgets.spend(GROUP, PERIOD) && !budgets.is_spent(GROUP));
    }
}
