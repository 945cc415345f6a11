//! Credit2 against simulated CPUs and vCPUs.

use proptest::prelude::*;
use sched::{Affinity, Credit2, GroupId, Replenished, Scheduler, Share, UnitId};
use types::{CpuId, CpuMask, Errno};

const TICK: u64 = 50_000;
const MILLISECOND: u64 = 1_000_000;
/// The group of units that have no cap.
const FREE: GroupId = GroupId(0);

/// What a unit does when left alone.
#[derive(Clone, Copy)]
enum Habit {
    /// Runs whenever it may.
    Hog,
    /// Runs for the first time, then sleeps for the second.
    Interactive(u64, u64),
}

struct Model {
    habit: Habit,
    ran: u64,
    /// Until when it runs or sleeps.
    left: u64,
    woken: Option<u64>,
    worst_latency: u64,
    cpus_used: CpuMask,
}

struct Sim {
    sched: Credit2,
    now: u64,
    running: Vec<Option<UnitId>>,
    deadline: Vec<Option<u64>>,
    units: Vec<Model>,
    /// Groups with a cap, and when their next period begins.
    periods: Vec<(GroupId, u64)>,
}

impl Sim {
    fn new(cpus: usize) -> Sim {
        let mut sched = Credit2::new();
        for cpu in 0..cpus {
            sched.add_cpu(CpuId(cpu as u32)).unwrap();
        }
        Sim {
            sched,
            now: 0,
            running: vec![None; cpus],
            deadline: vec![None; cpus],
            units: Vec::new(),
            periods: Vec::new(),
        }
    }

    fn add(&mut self, habit: Habit, weight: u16, hard: CpuMask, soft: CpuMask) -> usize {
        self.add_to(FREE, habit, weight, Affinity { hard, soft })
    }

    fn add_to(&mut self, group: GroupId, habit: Habit, weight: u16, affinity: Affinity) -> usize {
        let id = self.units.len();
        self.sched.insert(UnitId(id as u32), group, Share { weight }, affinity).unwrap();
        let left = match habit {
            Habit::Hog => u64::MAX,
            Habit::Interactive(run, _) => run,
        };
        let cpus_used = CpuMask::EMPTY;
        self.units.push(Model { habit, ran: 0, left, woken: Some(0), worst_latency: 0, cpus_used });
        self.kick(self.units.len() - 1);
        id
    }

    fn hog(&mut self, weight: u16) -> usize {
        self.add(Habit::Hog, weight, CpuMask::ALL, CpuMask::ALL)
    }

    fn grouped_hog(&mut self, group: GroupId) -> usize {
        self.add_to(group, Habit::Hog, 256, Affinity::default())
    }

    fn cap(&mut self, group: GroupId, cap: u16) {
        let set = self.sched.set_cap(group, cap, self.now).unwrap();
        self.follow_budget(group, set);
    }

    fn follow_budget(&mut self, group: GroupId, replenished: Replenished) {
        self.periods.retain(|&(other, _)| other != group);
        self.periods.extend(replenished.next.map(|next| (group, next)));
        replenished.kicked.iter().for_each(|cpu| self.decide(cpu.index()));
    }

    fn kick(&mut self, unit: usize) {
        let kicked = self.sched.wake(UnitId(unit as u32), self.now);
        self.follow(kicked);
    }

    fn follow(&mut self, kicked: Option<CpuId>) {
        if let Some(cpu) = kicked {
            self.decide(cpu.index());
        }
    }

    /// Does on a CPU what the hypervisor would.
    fn decide(&mut self, cpu: usize) {
        let decision = self.sched.schedule(CpuId(cpu as u32), self.now);
        let previous = std::mem::replace(&mut self.running[cpu], decision.unit);
        if let Some(id) = decision.unit {
            let holders = self.running.iter().filter(|&&running| running == Some(id)).count();
            assert_eq!(holders, 1, "{id:?} runs twice");
            assert_eq!(self.sched.cpu_of(id), Some(CpuId(cpu as u32)));
            let unit = &mut self.units[id.0 as usize];
            unit.cpus_used.insert(CpuId(cpu as u32));
            if let Some(woken) = unit.woken.take() {
                unit.worst_latency = unit.worst_latency.max(self.now - woken);
            }
        }
        self.deadline[cpu] = decision.time_slice.map(|slice| self.now + slice);
        assert_eq!(decision.unit.is_some(), decision.time_slice.is_some());
        if let Some(previous) = previous.filter(|_| previous != decision.unit) {
            let kicked = self.sched.context_saved(previous, self.now);
            self.follow(kicked);
        }
    }

    fn tick(&mut self) {
        self.now += TICK;
        for cpu in 0..self.running.len() {
            let Some(id) = self.running[cpu] else { continue };
            let unit = &mut self.units[id.0 as usize];
            unit.ran += TICK;
            unit.left = unit.left.saturating_sub(TICK);
            if unit.left == 0 {
                if let Habit::Interactive(_, sleep) = unit.habit {
                    unit.left = sleep;
                    let kicked = self.sched.sleep(id, self.now);
                    assert_eq!(kicked, Some(CpuId(cpu as u32)));
                    self.follow(kicked);
                }
            } else if self.deadline[cpu].is_some_and(|deadline| deadline <= self.now) {
                self.decide(cpu);
            }
        }
        for index in 0..self.units.len() {
            let unit = &mut self.units[index];
            let Habit::Interactive(run, _) = unit.habit else {
                continue;
            };
            // Neither on a CPU nor waiting for one: asleep.
            if unit.woken.is_none() && !self.running.contains(&Some(UnitId(index as u32))) {
                unit.left = unit.left.saturating_sub(TICK);
                if unit.left == 0 {
                    unit.left = run;
                    unit.woken = Some(self.now);
                    self.kick(index);
                }
            }
        }
        for (group, next) in self.periods.clone() {
            if next <= self.now {
                let replenished = self.sched.replenish(group, self.now);
                self.follow_budget(group, replenished);
            }
        }
    }

    fn run(&mut self, milliseconds: u64) {
        for _ in 0..milliseconds * MILLISECOND / TICK {
            self.tick();
        }
    }

    fn ran(&self, unit: usize) -> f64 {
        self.units[unit].ran as f64
    }
}

fn close(a: f64, b: f64) {
    assert!((a / b - 1.0).abs() < 0.02, "{a} is not within 2 % of {b}");
}

#[test]
fn equal_hogs_share_equally() {
    let mut sim = Sim::new(1);
    let (a, b) = (sim.hog(256), sim.hog(256));
    sim.run(2000);
    close(sim.ran(a), sim.ran(b));
    close(sim.ran(a) + sim.ran(b), 2000.0 * MILLISECOND as f64);
}

#[test]
fn shares_follow_weights() {
    let mut sim = Sim::new(1);
    let (a, b, c) = (sim.hog(256), sim.hog(512), sim.hog(1024));
    sim.run(4000);
    close(sim.ran(b), 2.0 * sim.ran(a));
    close(sim.ran(c), 4.0 * sim.ran(a));
}

#[test]
fn three_hogs_share_two_cpus_and_none_is_left_idle() {
    let mut sim = Sim::new(2);
    let hogs = [sim.hog(256), sim.hog(256), sim.hog(256)];
    sim.run(6000);
    for hog in hogs {
        close(sim.ran(hog), 4000.0 * MILLISECOND as f64);
    }
}

#[test]
fn an_interactive_unit_is_served_soon() {
    let mut sim = Sim::new(1);
    sim.hog(256);
    sim.hog(256);
    let unit = sim.add(Habit::Interactive(200_000, 5 * MILLISECOND), 256, CpuMask::ALL, CpuMask::ALL);
    sim.run(3000);
    // It waits for the end of the rate limit, or until somebody has burnt what little more credit he has.
    assert!(sim.units[unit].worst_latency <= 2 * MILLISECOND, "{}", sim.units[unit].worst_latency);
    assert!(sim.ran(unit) > 3000.0 * MILLISECOND as f64 * 0.03);
}

#[test]
fn without_rate_limit_it_is_served_sooner() {
    let mut sim = Sim::new(1);
    sim.sched.set_rate_limit(0).unwrap();
    sim.hog(256);
    let unit = sim.add(Habit::Interactive(200_000, 5 * MILLISECOND), 256, CpuMask::ALL, CpuMask::ALL);
    sim.run(1000);
    assert!(sim.units[unit].worst_latency <= MILLISECOND, "{}", sim.units[unit].worst_latency);
}

#[test]
fn pinned_units_stay_where_they_are() {
    let mut sim = Sim::new(4);
    let one = CpuMask::single(CpuId(2));
    let pinned = sim.add(Habit::Hog, 256, one, CpuMask::ALL);
    let nervous = sim.add(Habit::Interactive(300_000, 400_000), 256, one, CpuMask::ALL);
    for _ in 0..6 {
        sim.hog(256);
    }
    sim.run(1000);
    assert_eq!((sim.units[pinned].cpus_used, sim.units[nervous].cpus_used), (one, one));
    assert!(sim.ran(pinned) > 0.0 && sim.ran(nervous) > 0.0);
}

#[test]
fn soft_affinity_is_followed_while_there_is_room() {
    let mut sim = Sim::new(2);
    let soft = CpuMask::single(CpuId(1));
    let unit = sim.add(Habit::Interactive(300_000, 400_000), 256, CpuMask::ALL, soft);
    sim.run(200);
    assert_eq!(sim.units[unit].cpus_used, soft);
    // Taken by somebody who cannot go elsewhere: rather another CPU than none.
    let other = sim.add(Habit::Hog, 65535, soft, CpuMask::ALL);
    sim.run(500);
    assert!(sim.units[unit].cpus_used.contains(CpuId(0)) && sim.ran(other) > 0.0);
}

#[test]
fn a_unit_moves_when_its_affinity_changes() {
    let mut sim = Sim::new(2);
    let unit = UnitId(sim.hog(256) as u32);
    let was = sim.sched.cpu_of(unit).unwrap();
    let to = CpuMask::first_cpus(2).without(&CpuMask::single(was));
    let affinity = Affinity { hard: to, soft: CpuMask::ALL };
    let kicked = sim.sched.set_affinity(unit, affinity, sim.now).unwrap();
    assert_eq!(kicked, Some(was));
    sim.follow(kicked);
    assert_eq!(sim.sched.cpu_of(unit), to.first());
    let nowhere = Affinity { hard: CpuMask::single(CpuId(9)), soft: CpuMask::ALL };
    assert_eq!(sim.sched.set_affinity(unit, nowhere, sim.now), Err(Errno::INVAL));
    assert_eq!(sim.sched.affinity(unit), Some(affinity));
}

#[test]
fn yielding_lets_another_go_first() {
    let mut sim = Sim::new(1);
    let (a, b) = (UnitId(sim.hog(256) as u32), UnitId(sim.hog(256) as u32));
    let first = sim.running[0].unwrap();
    sim.sched.yield_now(first);
    sim.decide(0);
    assert_eq!(sim.running[0], Some(if first == a { b } else { a }));
    // Alone, it goes on.
    let second = sim.running[0].unwrap();
    assert_eq!(sim.sched.sleep(first, sim.now), None);
    sim.sched.yield_now(second);
    sim.decide(0);
    assert_eq!(sim.running[0], Some(second));
}

#[test]
fn whoever_has_just_begun_is_not_asked_again_before_the_rate_limit() {
    let mut sim = Sim::new(1);
    let (a, b) = (UnitId(sim.hog(256) as u32), UnitId(sim.hog(256) as u32));
    let sleeper = UnitId(sim.add(Habit::Hog, 256, CpuMask::ALL, CpuMask::ALL) as u32);
    assert_eq!(sim.sched.sleep(sleeper, sim.now), None);
    let first = sim.running[0].unwrap();
    sim.now += 3 * MILLISECOND;
    sim.sched.yield_now(first);
    let decision = sim.sched.schedule(CpuId(0), sim.now);
    assert_eq!(decision.unit, Some(if first == a { b } else { a }));
    assert_eq!(decision.time_slice, Some(MILLISECOND), "then it is asked, whoever waits by then");
    assert_eq!(sim.sched.context_saved(first, sim.now), None);
    assert_eq!(sim.sched.wake(sleeper, sim.now + 1), None, "it has more credit, but has to wait all the same");
    let later = sim.sched.schedule(CpuId(0), sim.now + MILLISECOND / 4);
    assert_eq!((later.unit, later.time_slice), (decision.unit, Some(MILLISECOND * 3 / 4)));
    assert_eq!(sim.sched.schedule(CpuId(0), sim.now + MILLISECOND).unit, Some(sleeper));
}

#[test]
fn a_cap_leaves_the_rest_of_the_time_unused() {
    let mut sim = Sim::new(1);
    let capped = GroupId(1);
    let hog = sim.grouped_hog(capped);
    sim.cap(capped, 30);
    sim.run(2000);
    close(sim.ran(hog), 600.0 * MILLISECOND as f64);
    sim.cap(capped, 0);
    sim.run(1000);
    close(sim.ran(hog), 1600.0 * MILLISECOND as f64);
}

#[test]
fn what_a_capped_group_may_not_use_others_get() {
    let mut sim = Sim::new(1);
    let capped = GroupId(1);
    let (hog, other) = (sim.grouped_hog(capped), sim.hog(256));
    sim.cap(capped, 20);
    sim.run(3000);
    close(sim.ran(hog), 600.0 * MILLISECOND as f64);
    close(sim.ran(other), 2400.0 * MILLISECOND as f64);
}

#[test]
fn units_of_a_group_share_its_cap() {
    let mut sim = Sim::new(4);
    let (one, two) = (GroupId(1), GroupId(2));
    let hogs = [sim.grouped_hog(one), sim.grouped_hog(one), sim.grouped_hog(one)];
    let pair = [sim.grouped_hog(two), sim.grouped_hog(two)];
    sim.cap(one, 60);
    sim.cap(two, 150);
    sim.run(3000);
    let sum = |hogs: &[usize]| hogs.iter().map(|&hog| sim.ran(hog)).sum::<f64>();
    close(sum(&hogs), 1800.0 * MILLISECOND as f64);
    close(sum(&pair), 4500.0 * MILLISECOND as f64);
    assert!(hogs.iter().all(|&hog| sim.ran(hog) > 0.1 * sum(&hogs)));
}

#[test]
fn a_cap_that_is_not_reached_changes_nothing() {
    let mut sim = Sim::new(1);
    let capped = GroupId(1);
    let unit = sim.add_to(capped, Habit::Interactive(MILLISECOND, 4 * MILLISECOND), 256, Affinity::default());
    sim.cap(capped, 40);
    sim.run(1000);
    close(sim.ran(unit), 200.0 * MILLISECOND as f64);
    assert!(sim.units[unit].worst_latency <= TICK);
}

#[test]
fn a_cap_goes_with_the_last_unit_of_its_group() {
    let mut sched = Credit2::new();
    let (group, unit) = (GroupId(5), UnitId(0));
    sched.insert(unit, group, Share::default(), Affinity::default()).unwrap();
    assert!(sched.set_cap(group, 70, 0).unwrap().next.is_some());
    assert_eq!((sched.cap(group), sched.cap(FREE)), (70, 0));
    sched.remove(unit).unwrap();
    assert_eq!((sched.cap(group), sched.replenish(group, 1).next), (0, None));
}

#[test]
fn mistakes_are_refused() {
    let mut sched = Credit2::new();
    let unit = UnitId(3);
    let (share, affinity) = (Share::default(), Affinity::default());
    assert_eq!(sched.insert(unit, FREE, Share { weight: 0 }, affinity), Err(Errno::INVAL));
    sched.insert(unit, FREE, share, affinity).unwrap();
    assert_eq!(sched.insert(unit, FREE, share, affinity), Err(Errno::EXIST));
    assert_eq!(sched.remove(UnitId(2)), Err(Errno::NOENT));
    assert_eq!(sched.set_share(UnitId(9), share), Err(Errno::NOENT));
    assert_eq!((sched.wake(unit, 0), sched.remove(unit)), (None, Err(Errno::BUSY)));
    sched.add_cpu(CpuId(0)).unwrap();
    assert_eq!(sched.add_cpu(CpuId(0)), Err(Errno::EXIST));
    assert_eq!(sched.add_cpu(CpuId(256)), Err(Errno::INVAL));
    assert_eq!(sched.schedule(CpuId(0), 5).unit, Some(unit));
    assert_eq!(sched.remove_cpu(CpuId(0)), Err(Errno::BUSY));
    assert_eq!(sched.sleep(unit, 6), Some(CpuId(0)));
    assert_eq!(sched.remove(unit), Err(Errno::BUSY));
    assert_eq!(sched.schedule(CpuId(0), 7).unit, None);
    assert_eq!(sched.remove(unit), Err(Errno::BUSY));
    assert_eq!(sched.context_saved(unit, 8), None);
    assert_eq!(sched.remove(unit), Ok(()));
    assert_eq!(sched.remove_cpu(CpuId(0)), Ok(()));
    assert_eq!(sched.schedule(CpuId(0), 9).unit, None);
    assert_eq!((sched.set_rate_limit(99), sched.set_rate_limit(100)), (Err(Errno::INVAL), Ok(())));
    assert_eq!(sched.rate_limit(), 100);
}

/// Anything a caller can do, in any order.
#[derive(Clone, Debug)]
enum Step {
    Wake(u32),
    Sleep(u32),
    Yield(u32),
    Schedule(u32),
    Save(u32),
    Pin(u32, u8),
    Weight(u32, u16),
    Remove(u32),
    Insert(u32),
    Cap(u32, u16),
    Replenish(u32),
}

/// Group of a unit in the steps: pairs.
fn group_of(unit: u32) -> GroupId {
    GroupId(unit / 2)
}

fn step() -> impl Strategy<Value = Step> {
    let unit = 0u32..6;
    prop_oneof![
        3 => unit.clone().prop_map(Step::Wake),
        2 => unit.clone().prop_map(Step::Sleep),
        1 => unit.clone().prop_map(Step::Yield),
        6 => (0u32..3).prop_map(Step::Schedule),
        4 => unit.clone().prop_map(Step::Save),
        1 => (unit.clone(), any::<u8>()).prop_map(|(unit, mask)| Step::Pin(unit, mask)),
        1 => (unit.clone(), any::<u16>()).prop_map(|(unit, weight)| Step::Weight(unit, weight)),
        1 => unit.clone().prop_map(Step::Remove),
        1 => unit.prop_map(Step::Insert),
        1 => (0u32..3, 0u16..100).prop_map(|(group, cap)| Step::Cap(group, cap)),
        2 => (0u32..3).prop_map(Step::Replenish),
    ]
}

proptest! {
    #[test]
    fn no_unit_is_ever_on_two_cpus(steps in prop::collection::vec((step(), 0u64..3_000_000), 1..300)) {
        let mut sched = Credit2::new();
        let mut running = [None; 3];
        // Who has a unit: the CPU that runs it, or that still has its state.
        let mut holder = [None; 6];
        let mut awake = [false; 6];
        for cpu in 0..3 {
            sched.add_cpu(CpuId(cpu)).unwrap();
        }
        let mut now = 0;
        for (step, passed) in steps {
            now += passed;
            match step {
                Step::Wake(unit) => {
                    sched.wake(UnitId(unit), now);
                    awake[unit as usize] = sched.share(UnitId(unit)).is_some();
                }
                Step::Sleep(unit) => {
                    let kicked = sched.sleep(UnitId(unit), now);
                    let runs_on = running.iter().position(|&running| running == Some(UnitId(unit)));
                    if kicked.is_some() {
                        prop_assert_eq!(kicked.map(CpuId::index), runs_on);
                    } else {
                        prop_assert!(runs_on.is_none() || !awake[unit as usize]);
                    }
                    awake[unit as usize] = false;
                }
                Step::Yield(unit) => sched.yield_now(UnitId(unit)),
                Step::Schedule(cpu) => {
                    let decision = sched.schedule(CpuId(cpu), now);
                    if let Some(unit) = decision.unit {
                        let index = unit.0 as usize;
                        prop_assert!(awake[index]);
                        prop_assert!(holder[index].is_none() || holder[index] == Some(cpu) && running[cpu as usize] == Some(unit));
                        prop_assert!(sched.affinity(unit).unwrap().hard.contains(CpuId(cpu)));
                        holder[index] = Some(cpu);
                    } else {
                        // Nobody who could run here is left waiting, but for a budget.
                        let waits = |&unit: &u32| awake[unit as usize] && holder[unit as usize].is_none();
                        for unit in (0..6).filter(waits).filter(|&unit| sched.cap(group_of(unit)) == 0) {
                            let hard = sched.affinity(UnitId(unit)).unwrap().hard;
                            prop_assert!(!hard.contains(CpuId(cpu)));
                        }
                    }
                    running[cpu as usize] = decision.unit;
                }
                Step::Save(unit) => {
                    if !running.contains(&Some(UnitId(unit))) {
                        sched.context_saved(UnitId(unit), now);
                        holder[unit as usize] = None;
                    }
                }
                Step::Pin(unit, mask) => {
                    let affinity = Affinity { hard: CpuMask::from_bytes(&[mask]), soft: CpuMask::ALL };
                    let _ = sched.set_affinity(UnitId(unit), affinity, now);
                }
                Step::Weight(unit, weight) => {
                    let _ = sched.set_share(UnitId(unit), Share { weight });
                }
                Step::Remove(unit) => {
                    let was_there = sched.share(UnitId(unit)).is_some();
                    let busy = awake[unit as usize] || holder[unit as usize].is_some();
                    prop_assert_eq!(sched.remove(UnitId(unit)).is_ok(), was_there && !busy);
                }
                Step::Insert(unit) => {
                    let _ = sched.insert(UnitId(unit), group_of(unit), Share::default(), Affinity::default());
                }
                Step::Cap(group, cap) => {
                    sched.set_cap(GroupId(group), cap, now).unwrap();
                }
                Step::Replenish(group) => {
                    sched.replenish(GroupId(group), now);
                }
            }
            for unit in 0..6 {
                prop_assert_eq!(sched.cpu_of(UnitId(unit)), holder[unit as usize].map(CpuId));
            }
        }
    }
}
