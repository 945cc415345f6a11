//! Credits: who runs burns credit, the faster the smaller its weight; who has most credit runs; when the best has none left,
//! everyone gets the same amount again. So CPU time is shared by weight, and a unit that sleeps much is served at once.
//! Units of a group that has a cap also spend its budget; without one they are parked, outside of the queue.

use crate::budget::Budgets;
use crate::{Affinity, Decision, GroupId, Replenished, Scheduler, Share, UnitId};
use alloc::vec::Vec;
use types::{CpuId, CpuMask, Errno, Result};

/// Credit that everyone gets at a reset. Credit is measured in nanoseconds of running at the highest weight.
const CREDIT: i64 = 10_000_000;
/// Most credit after a reset of a unit that sleeps, so that it cannot save up.
const MAX_ASLEEP: i64 = CREDIT + 500_000;
/// Most credit after a reset of a unit that runs or waits. Waiting must not cost it what it has, but one that is bound to a
/// crowded CPU must not pile up without end either.
const MAX_AWAKE: i64 = 2 * CREDIT;
/// A unit moves to another CPU only if that gains this much credit.
const MOVE_RESISTANCE: i64 = 500_000;
/// Least time before somebody else is to run, in nanoseconds.
const MIN_SLICE: u64 = 500_000;
/// Longest time until the next decision, in nanoseconds.
const MAX_SLICE: u64 = 10_000_000;

/// A unit and what is known of it.
#[derive(Clone, Copy, Debug)]
struct Unit {
    group: GroupId,
    share: Share,
    affinity: Affinity,
    credit: i64,
    /// Nanoseconds times weight that were too few to burn a whole credit.
    residue: u64,
    /// Until when its running was paid for.
    paid: u64,
    awake: bool,
    /// The CPU that runs it or has not yet saved its context.
    holder: Option<CpuId>,
    /// Whether `holder` runs it.
    running: bool,
    /// Whether it is in the run queue: it is exactly if it is awake, nobody holds it and it is not parked.
    queued: bool,
    /// Whether it waits, awake and held by nobody, for its group's next budget.
    parked: bool,
    /// Lets others go first in the next decision.
    yields: bool,
    /// Where it ran last.
    last: Option<CpuId>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Cpu {
    present: bool,
    current: Option<UnitId>,
    /// When `current` began to run.
    started: u64,
    /// When the last time slice ends.
    deadline: u64,
}

/// The credit scheduler with one run queue for all its CPUs.
#[derive(Debug)]
pub struct Credit2 {
    units: Vec<Option<Unit>>,
    cpus: [Cpu; CpuMask::CPUS],
    present: CpuMask,
    /// CPUs that run nothing.
    idle: CpuMask,
    /// CPUs that were asked to decide and have not done so yet.
    kicked: CpuMask,
    /// Runnable units that nobody holds, best first. Has room for all units, so it never allocates when units move.
    queue: Vec<UnitId>,
    budgets: Budgets,
    members: usize,
    max_weight: u16,
    /// In nanoseconds.
    rate_limit: u64,
}

impl Default for Credit2 {
    fn default() -> Self {
        Credit2::new()
    }
}

/// Credit left and the new residue after running for `time` nanoseconds.
fn burnt(unit: &Unit, time: u64, max_weight: u16) -> (i64, u64) {
    let weight = u64::from(unit.share.weight);
    // A vCPU that ran for centuries owes no more than one that ran for a day.
    let time = time.min(1 << 46);
    let cost = time * u64::from(max_weight) + unit.residue;
    (unit.credit - (cost / weight) as i64, cost % weight)
}

impl Credit2 {
    /// A scheduler without CPUs and units, with a rate limit of 1000 microseconds.
    pub const fn new() -> Self {
        Credit2 {
            units: Vec::new(),
            cpus: [Cpu { present: false, current: None, started: 0, deadline: 0 }; CpuMask::CPUS],
            present: CpuMask::EMPTY,
            idle: CpuMask::EMPTY,
            kicked: CpuMask::EMPTY,
            queue: Vec::new(),
            budgets: Budgets::new(),
            members: 0,
            max_weight: 1,
            rate_limit: 1_000_000,
        }
    }

    fn unit(&self, id: UnitId) -> Option<&Unit> {
        self.units.get(id.0 as usize)?.as_ref()
    }

    fn unit_mut(&mut self, id: UnitId) -> Option<&mut Unit> {
        self.units.get_mut(id.0 as usize)?.as_mut()
    }

    /// Credit that the unit has at `now`, what it is burning included.
    fn credit_at(&self, unit: &Unit, now: u64) -> i64 {
        if unit.running { burnt(unit, now.saturating_sub(unit.paid), self.max_weight).0 } else { unit.credit }
    }

    /// Makes a running unit pay until `now`.
    fn burn(&mut self, id: UnitId, now: u64) {
        let max_weight = self.max_weight;
        let Some(unit) = self.unit_mut(id).filter(|unit| unit.running) else { return };
        let time = now.saturating_sub(unit.paid);
        (unit.credit, unit.residue) = burnt(unit, time, max_weight);
        unit.paid = unit.paid.max(now);
        let group = unit.group;
        if self.budgets.spend(group, time) {
            self.park(group);
        }
    }

    /// Units of the group that wait for a CPU now wait for its next budget.
    fn park(&mut self, group: GroupId) {
        let Credit2 { queue, units, .. } = self;
        queue.retain(|&id| {
            let Some(unit) = units.get_mut(id.0 as usize).and_then(Option::as_mut) else { return false };
            unit.parked = unit.group == group;
            unit.queued = !unit.parked;
            unit.queued
        });
    }

    /// Units of the group wait for a CPU again; gives the CPUs to kick.
    fn unpark(&mut self, group: GroupId, now: u64) -> CpuMask {
        let mut kicked = CpuMask::EMPTY;
        for index in 0..self.units.len() {
            let id = UnitId(index as u32);
            let Some(unit) = self.unit_mut(id).filter(|unit| unit.parked && unit.group == group) else { continue };
            unit.parked = false;
            self.enqueue(id);
            if let Some(cpu) = self.kick_for(id, now) {
                kicked.insert(cpu);
            }
        }
        kicked
    }

    /// Lets a unit that is awake and held by nobody wait for a CPU; gives the CPU to kick.
    fn queue_up(&mut self, id: UnitId, now: u64) -> Option<CpuId> {
        let group = self.unit(id)?.group;
        if self.budgets.is_spent(group) {
            self.unit_mut(id)?.parked = true;
            return None;
        }
        self.enqueue(id);
        self.kick_for(id, now)
    }

    fn enqueue(&mut self, id: UnitId) {
        let Some(unit) = self.unit_mut(id) else { return };
        unit.queued = true;
        let credit = unit.credit;
        // Behind its equals, so that they take turns.
        let at = self.queue.partition_point(|&other| self.unit(other).is_some_and(|unit| unit.credit >= credit));
        self.queue.insert(at, id);
    }

    fn dequeue(&mut self, id: UnitId) {
        self.queue.retain(|&other| other != id);
        if let Some(unit) = self.unit_mut(id) {
            unit.queued = false;
        }
    }

    /// Everyone gets new credit, as the best has none left. Units in the queue keep their order.
    fn reset(&mut self, best: i64, now: u64) {
        for index in 0..self.units.len() {
            self.burn(UnitId(index as u32), now);
        }
        let rounds = if best < -CREDIT { best / -CREDIT + 1 } else { 1 };
        for unit in self.units.iter_mut().flatten() {
            let most = if unit.awake { MAX_AWAKE } else { MAX_ASLEEP };
            unit.credit = unit.credit.saturating_add(rounds.saturating_mul(CREDIT)).min(most);
        }
    }

    fn update_max_weight(&mut self) {
        self.max_weight = self.units.iter().flatten().map(|unit| unit.share.weight).max().unwrap_or(1);
    }

    /// The CPU that should decide anew because `id` was queued.
    fn kick_for(&mut self, id: UnitId, now: u64) -> Option<CpuId> {
        let unit = self.unit(id)?;
        let allowed = unit.affinity.hard.and(&self.present).without(&self.kicked);
        let preferred = allowed.and(&unit.affinity.soft);
        let choices = [preferred, allowed];
        let choices = if preferred == allowed { &choices[..1] } else { &choices[..] };
        let idle = choices.iter().find_map(|among| self.idle_cpu(unit, among));
        let cpu = idle.or_else(|| choices.iter().find_map(|among| self.worst_cpu(unit, among, now)))?;
        self.kicked.insert(cpu);
        Some(cpu)
    }

    fn idle_cpu(&self, unit: &Unit, among: &CpuMask) -> Option<CpuId> {
        let idle = among.and(&self.idle);
        unit.last.filter(|&last| idle.contains(last)).or_else(|| idle.first())
    }

    /// The busy CPU whose unit has the least credit, if `unit` has more, or will have before that CPU decides by itself. Where
    /// a unit has just begun, a decision changes nothing before the one that follows the rate limit.
    fn worst_cpu(&self, unit: &Unit, among: &CpuMask, now: u64) -> Option<CpuId> {
        let gain = |cpu: CpuId| {
            let state = &self.cpus[cpu.index()];
            if self.limited(state, now).is_some() {
                return None;
            }
            let current = self.unit(state.current?)?;
            let resistance = if unit.last.is_none_or(|last| last == cpu) { 0 } else { MOVE_RESISTANCE };
            Some((unit.credit - self.credit_at(current, now) - resistance, cpu))
        };
        let best = among.iter().filter_map(gain).max_by_key(|&(gain, cpu)| (gain, core::cmp::Reverse(cpu)));
        let (gain, cpu) = best?;
        let current = self.unit(self.cpus[cpu.index()].current?)?;
        let left = self.cpus[cpu.index()].deadline.saturating_sub(now);
        (gain > 0 || left > self.lasting(-gain, current) + MIN_SLICE).then_some(cpu)
    }

    /// For how long what the CPU runs has it to itself because it has just begun.
    fn limited(&self, cpu: &Cpu, now: u64) -> Option<u64> {
        (cpu.started + self.rate_limit).checked_sub(now).filter(|&left| left > 0)
    }

    /// How long a unit takes to burn `credit`, in nanoseconds.
    fn lasting(&self, credit: i64, unit: &Unit) -> u64 {
        credit.clamp(0, CREDIT) as u64 * u64::from(unit.share.weight) / u64::from(self.max_weight)
    }

    /// The unit of the queue that `cpu` should run rather than one with the credit `current`, or than idling.
    fn candidate(&self, cpu: CpuId, current: Option<i64>) -> Option<UnitId> {
        let mut second = None;
        for &id in &self.queue {
            let Some(unit) = self.unit(id) else { continue };
            if !unit.affinity.hard.contains(cpu) {
                continue;
            }
            let resistance = if unit.last.is_none_or(|last| last == cpu) { 0 } else { MOVE_RESISTANCE };
            if current.is_some_and(|current| unit.credit.saturating_sub(resistance) <= current) {
                // The units after it have no more credit, but one of them may be at home here.
                if current.is_some_and(|current| unit.credit <= current) {
                    break;
                }
                continue;
            }
            // One that would rather run on a CPU that is idle now is left to that CPU, if it was told.
            let Affinity { hard, soft } = &unit.affinity;
            if soft.contains(cpu) || soft.and(hard).and(&self.idle).and(&self.kicked).is_empty() {
                return Some(id);
            }
            second = second.or(Some(id));
        }
        second
    }

    /// How long the unit may run: to the end of the rate limit, or from there until somebody else has more credit.
    fn time_slice(&self, cpu: CpuId, unit: &Unit, now: u64) -> u64 {
        if let Some(left) = self.limited(&self.cpus[cpu.index()], now) {
            return left;
        }
        let waiting = self.queue.iter().filter_map(|&id| self.unit(id)).find(|unit| unit.affinity.hard.contains(cpu));
        let lead = unit.credit - waiting.map_or(0, |unit| unit.credit);
        self.lasting(lead, unit).clamp(MIN_SLICE.max(self.rate_limit.min(MAX_SLICE)), MAX_SLICE)
    }

    /// How long the units of the group that run now may go on for its budget; those that run share what is left.
    fn affordable(&self, group: GroupId) -> Option<u64> {
        let left = self.budgets.left(group)?;
        let runs_it =
            |cpu: &CpuId| self.cpus[cpu.index()].current.and_then(|id| self.unit(id)).is_some_and(|u| u.group == group);
        let running = self.present.iter().filter(runs_it).count();
        Some((left / running.max(1) as u64).max(MIN_SLICE))
    }

    /// What `cpu` runs now, if it may go on.
    fn continuing(&self, cpu: CpuId) -> Option<(UnitId, &Unit)> {
        let id = self.cpus[cpu.index()].current?;
        let unit = self.unit(id)?;
        let may = unit.awake && unit.affinity.hard.contains(cpu) && !self.budgets.is_spent(unit.group);
        may.then_some((id, unit))
    }

    /// Who is to run on `cpu`.
    fn choose(&self, cpu: CpuId, now: u64) -> Option<UnitId> {
        let Some((id, unit)) = self.continuing(cpu) else {
            return self.candidate(cpu, None);
        };
        if unit.yields {
            return self.candidate(cpu, None).or(Some(id));
        }
        if self.limited(&self.cpus[cpu.index()], now).is_some() {
            return Some(id);
        }
        self.candidate(cpu, Some(unit.credit)).or(Some(id))
    }

    /// Makes `chosen` what `cpu` runs.
    fn switch(&mut self, cpu: CpuId, chosen: Option<UnitId>, now: u64) {
        let previous = core::mem::replace(&mut self.cpus[cpu.index()].current, chosen);
        if previous == chosen {
            return;
        }
        self.cpus[cpu.index()].started = now;
        if let Some(unit) = previous.and_then(|id| self.unit_mut(id)) {
            unit.running = false;
        }
        if let Some(id) = chosen {
            self.dequeue(id);
            if let Some(unit) = self.unit_mut(id) {
                unit.holder = Some(cpu);
                unit.running = true;
                unit.last = Some(cpu);
                unit.paid = now;
            }
        }
    }
}

fn check(share: Share) -> Result<()> {
    if share.weight == 0 { Err(Errno::INVAL) } else { Ok(()) }
}

impl Scheduler for Credit2 {
    fn id(&self) -> u32 {
        6
    }

    fn name(&self) -> &'static str {
        "SMP Credit Scheduler rev2"
    }

    fn add_cpu(&mut self, cpu: CpuId) -> Result<()> {
        let state = self.cpus.get_mut(cpu.index()).ok_or(Errno::INVAL)?;
        if state.present {
            return Err(Errno::EXIST);
        }
        *state = Cpu { present: true, current: None, started: 0, deadline: 0 };
        self.present.insert(cpu);
        self.idle.insert(cpu);
        Ok(())
    }

    fn remove_cpu(&mut self, cpu: CpuId) -> Result<()> {
        let state = self.cpus.get_mut(cpu.index()).filter(|state| state.present).ok_or(Errno::NOENT)?;
        if state.current.is_some() || self.units.iter().flatten().any(|unit| unit.holder == Some(cpu)) {
            return Err(Errno::BUSY);
        }
        state.present = false;
        self.present.remove(cpu);
        self.idle.remove(cpu);
        self.kicked.remove(cpu);
        Ok(())
    }

    fn insert(&mut self, unit: UnitId, group: GroupId, share: Share, affinity: Affinity) -> Result<()> {
        check(share)?;
        let index = unit.0 as usize;
        if self.unit(unit).is_some() {
            return Err(Errno::EXIST);
        }
        if index >= self.units.len() {
            self.units.try_reserve(index + 1 - self.units.len()).map_err(|_| Errno::NOMEM)?;
            self.units.resize(index + 1, None);
        }
        let room = self.members + 1 - self.queue.len();
        self.queue.try_reserve(room).map_err(|_| Errno::NOMEM)?;
        self.units[index] = Some(Unit {
            group,
            share,
            affinity,
            credit: CREDIT,
            residue: 0,
            paid: 0,
            awake: false,
            holder: None,
            running: false,
            queued: false,
            parked: false,
            yields: false,
            last: None,
        });
        self.members += 1;
        self.max_weight = self.max_weight.max(share.weight);
        Ok(())
    }

    fn remove(&mut self, unit: UnitId) -> Result<()> {
        let state = self.unit(unit).ok_or(Errno::NOENT)?;
        if state.awake || state.holder.is_some() {
            return Err(Errno::BUSY);
        }
        let group = state.group;
        self.units[unit.0 as usize] = None;
        if !self.units.iter().flatten().any(|unit| unit.group == group) {
            self.budgets.lift(group);
        }
        self.members -= 1;
        self.update_max_weight();
        Ok(())
    }

    fn wake(&mut self, unit: UnitId, now: u64) -> Option<CpuId> {
        let state = self.unit_mut(unit).filter(|unit| !unit.awake)?;
        state.awake = true;
        if state.holder.is_some() {
            return None;
        }
        self.queue_up(unit, now)
    }

    fn sleep(&mut self, unit: UnitId, _now: u64) -> Option<CpuId> {
        let state = self.unit_mut(unit).filter(|unit| unit.awake)?;
        state.awake = false;
        state.parked = false;
        if state.queued {
            self.dequeue(unit);
            return None;
        }
        if state.running { state.holder } else { None }
    }

    fn yield_now(&mut self, unit: UnitId) {
        if let Some(state) = self.unit_mut(unit) {
            state.yields = state.running;
        }
    }

    fn schedule(&mut self, cpu: CpuId, now: u64) -> Decision {
        const IDLE: Decision = Decision { unit: None, time_slice: None };
        if !self.cpus.get(cpu.index()).is_some_and(|state| state.present) {
            return IDLE;
        }
        self.kicked.remove(cpu);
        let previous = self.cpus[cpu.index()].current;
        if let Some(id) = previous {
            self.burn(id, now);
        }
        let chosen = self.choose(cpu, now);
        if let Some(unit) = previous.and_then(|id| self.unit_mut(id)) {
            unit.yields = false;
        }
        self.switch(cpu, chosen, now);
        if let Some(unit) = chosen.and_then(|id| self.unit(id)).filter(|unit| unit.credit <= 0) {
            self.reset(unit.credit, now);
        }
        let Some(unit) = chosen.and_then(|id| self.unit(id)) else {
            self.idle.insert(cpu);
            return IDLE;
        };
        let slice = self.time_slice(cpu, unit, now);
        let slice = self.affordable(unit.group).map_or(slice, |affordable| slice.min(affordable));
        self.idle.remove(cpu);
        self.cpus[cpu.index()].deadline = now.saturating_add(slice);
        Decision { unit: chosen, time_slice: Some(slice) }
    }

    fn context_saved(&mut self, unit: UnitId, now: u64) -> Option<CpuId> {
        let state = self.unit_mut(unit).filter(|unit| !unit.running && unit.holder.is_some())?;
        state.holder = None;
        if !state.awake {
            return None;
        }
        self.queue_up(unit, now)
    }

    fn cpu_of(&self, unit: UnitId) -> Option<CpuId> {
        self.unit(unit)?.holder
    }

    fn share(&self, unit: UnitId) -> Option<Share> {
        Some(self.unit(unit)?.share)
    }

    fn set_share(&mut self, unit: UnitId, share: Share) -> Result<()> {
        check(share)?;
        let state = self.unit_mut(unit).ok_or(Errno::NOENT)?;
        state.share = share;
        state.residue = 0;
        self.update_max_weight();
        Ok(())
    }

    fn cap(&self, group: GroupId) -> u16 {
        self.budgets.cap(group)
    }

    fn set_cap(&mut self, group: GroupId, cap: u16, now: u64) -> Result<Replenished> {
        if cap != 0 {
            self.budgets.set(group, cap, now)?;
        } else {
            self.budgets.lift(group);
        }
        Ok(self.replenish(group, now))
    }

    fn replenish(&mut self, group: GroupId, now: u64) -> Replenished {
        self.budgets.replenish(group, now);
        let kicked = if self.budgets.is_spent(group) { CpuMask::EMPTY } else { self.unpark(group, now) };
        Replenished { kicked, next: self.budgets.due(group) }
    }

    fn affinity(&self, unit: UnitId) -> Option<Affinity> {
        Some(self.unit(unit)?.affinity)
    }

    fn set_affinity(&mut self, unit: UnitId, affinity: Affinity, now: u64) -> Result<Option<CpuId>> {
        let present = self.present;
        let state = self.unit_mut(unit).ok_or(Errno::NOENT)?;
        if affinity.hard.and(&present).is_empty() {
            return Err(Errno::INVAL);
        }
        state.affinity = affinity;
        let (queued, running, holder) = (state.queued, state.running, state.holder);
        if queued {
            return Ok(self.kick_for(unit, now));
        }
        Ok(holder.filter(|&cpu| running && !affinity.hard.contains(cpu)))
    }

    fn rate_limit(&self) -> u32 {
        (self.rate_limit / 1000) as u32
    }

    fn set_rate_limit(&mut self, microseconds: u32) -> Result<()> {
        if !matches!(microseconds, 0 | 100..=500_000) {
            return Err(Errno::INVAL);
        }
        self.rate_limit = u64::from(microseconds) * 1000;
        Ok(())
    }
}
