//! What guests that know Hyper-V find: registers that keep what is written, memory that only changes where they say so, reference time
//! that goes on (TLFS, 2.4, 3, 10.3.5, 12 and appendix C).

use fuzz::Random;
use viridian::{END_OF_MSRS, FIRST_MSR, Fault, Memory, Owner, Partition, Processor, SERVED, Tsc, call, leaf};
use xen_abi::hvm_params::*;

const PAGES: u64 = 8;
const PAGE: u64 = 4096;
const STEPS: u64 = 200;
/// Numbers of registers, from the first on.
const OS_ID: u32 = 0;
const HYPERCALL: u32 = 1;
const REFERENCE_COUNT: u32 = 0x20;
const REFERENCE_PAGE: u32 = 0x21;
const EOI: u32 = 0x70;
const COMMAND: u32 = 0x71;
const PRIORITY: u32 = 0x72;
const ASSIST: u32 = 0x73;
const CRASH: u32 = 0x100;

/// A vCPU's memory, local APIC, and what it asked for.
struct Guest {
    memory: Vec<u8>,
    /// Pages that may be written at the moment.
    open: Vec<u64>,
    ends: u32,
    command: u64,
    priority: u8,
    crashes: Vec<[u64; 5]>,
    ways: u32,
    flushes: Vec<Option<u64>>,
    is_busy: bool,
}

impl Guest {
    fn place(&self, gpa: u64, length: usize) -> Option<std::ops::Range<usize>> {
        let end = gpa.checked_add(length as u64)?;
        (end <= PAGES * PAGE).then_some(gpa as usize..end as usize)
    }
}

impl Memory for Guest {
    fn read_memory(&self, gpa: u64, to: &mut [u8]) -> bool {
        let place = self.place(gpa, to.len());
        place.map(|place| to.copy_from_slice(&self.memory[place])).is_some()
    }
    fn write_memory(&mut self, gpa: u64, from: &[u8]) -> bool {
        let last = gpa.checked_add(from.len() as u64 - 1).expect("no write wraps around");
        assert_eq!(gpa / PAGE, last / PAGE, "a write goes beyond its page");
        assert!(self.open.contains(&(gpa / PAGE)), "a write to page {:#x}", gpa / PAGE);
        let place = self.place(gpa, from.len());
        place.map(|place| self.memory[place].copy_from_slice(from)).is_some()
    }
}

impl Owner for Guest {
    fn end_interrupt(&mut self) {
        self.ends += 1;
    }
    fn command(&self) -> u64 {
        self.command
    }
    fn send(&mut self, command: u64) {
        self.command = command;
    }
    fn task_priority(&self) -> u8 {
        self.priority
    }
    fn set_task_priority(&mut self, priority: u8) {
        self.priority = priority;
    }
    fn crashed(&mut self, parameters: &[u64; 5]) {
        self.crashes.push(*parameters);
    }
    fn give_way(&mut self) {
        self.ways += 1;
    }
    fn flush(&mut self, vcpus: Option<u64>) -> bool {
        self.flushes.push(vcpus);
        !self.is_busy
    }
}

struct World {
    parts: u32,
    partition: Partition,
    processor: Processor,
    guest: Guest,
    tsc: Tsc,
    crash: [u64; 5],
    /// The guest was told that it need not end the interrupt.
    is_spared: bool,
}

impl World {
    fn get(&self, number: u32) -> Result<u64, Fault> {
        self.processor.read(&self.partition, &self.guest, &self.tsc, FIRST_MSR + number)
    }

    /// The page that a register names, which may be written.
    fn named(&self, number: u32) -> Option<u64> {
        self.get(number).ok().filter(|value| value & 1 != 0).map(|value| value / PAGE)
    }

    fn put(&mut self, number: u32, value: u64) -> Result<(), Fault> {
        self.guest.open =
            if matches!(number, HYPERCALL | REFERENCE_PAGE | ASSIST) { vec![value / PAGE] } else { vec![] };
        let (guest, msr) = (&mut self.guest, FIRST_MSR + number);
        if Partition::owns(msr) {
            self.partition.write(guest, &self.tsc, msr, value)
        } else {
            self.processor.write(guest, msr, value)
        }
    }

    fn write(&mut self, number: u32, value: u64) {
        let (ends, crashes) = (self.guest.ends, self.guest.crashes.len());
        let result = self.put(number, value);
        assert_eq!(self.guest.ends - ends, u32::from(number == EOI));
        let keeps = match number {
            OS_ID | HYPERCALL | ASSIST => Some(value),
            COMMAND => Some(value & 0xff00_0000_ffff_efff),
            PRIORITY => Some(value & 0xff),
            REFERENCE_PAGE if self.parts & HVMPV_REFERENCE_TSC != 0 => Some(value),
            CRASH..=0x104 => Some(value),
            _ => None,
        };
        if let Some(kept) = keeps {
            assert_eq!((result, self.get(number)), (Ok(()), Ok(kept)), "register {number:#x}");
        }
        match number {
            CRASH..=0x104 => self.crash[(number - CRASH) as usize] = value,
            0x105 if value >> 63 != 0 => assert_eq!(self.guest.crashes[crashes..], [self.crash]),
            ASSIST => self.is_spared = false,
            _ => assert_eq!(self.guest.crashes.len(), crashes),
        }
    }

    /// Reference time goes on by units of 100 ns, and by the reference page it is the same.
    fn check_time(&mut self, r: &mut Random) {
        let before = self.partition.time.now(&self.tsc);
        let ticks = r.below(1 << 40);
        self.tsc.now = self.tsc.now.wrapping_add(ticks);
        let Some(_) = self.tsc.now.checked_sub(ticks) else { return };
        let passed = self.partition.time.now(&self.tsc).wrapping_sub(before);
        let khz = u64::from(self.tsc.khz.max(1));
        let expected = u128::from(ticks) * 10_000 / u128::from(khz);
        // The scale has 32 bits at least that matter, which all of the counter was multiplied by.
        let tolerance = 2 + u128::from(self.tsc.now >> 31);
        assert!(u128::from(passed).abs_diff(expected) <= tolerance, "{passed}, not {expected}, at {khz} kHz");
        let count = self.get(REFERENCE_COUNT);
        assert_eq!(count.is_ok(), self.parts & HVMPV_TIME_REF_COUNT != 0);
        assert!(count.is_err() || count == Ok(self.partition.time.now(&self.tsc)));
        self.check_page();
    }

    fn check_page(&mut self) {
        let Some(page) = self.named(REFERENCE_PAGE).filter(|page| *page < PAGES) else { return };
        self.guest.open = vec![page];
        self.partition.refresh(&mut self.guest, &self.tsc);
        let word = |at: u64| {
            let mut bytes = [0; 8];
            assert!(self.guest.read_memory(page * PAGE + at, &mut bytes));
            u64::from_le_bytes(bytes)
        };
        if !self.tsc.is_reliable {
            assert_eq!(word(0) as u32, 0);
            return;
        }
        assert_ne!(word(0) as u32, 0);
        let scaled = (u128::from(self.tsc.now) * u128::from(word(8))) >> 64;
        assert_eq!((scaled as u64).wrapping_add(word(16)), self.partition.time.now(&self.tsc));
    }

    /// The guest may be spared the end of an interrupt, and takes notice of that or not.
    fn assist(&mut self, r: &mut Random) -> u64 {
        let page = self.named(ASSIST);
        self.guest.open = page.into_iter().collect();
        assert_eq!(self.processor.has_assist(), page.is_some());
        let at = page.filter(|page| *page < PAGES).map(|page| (page * PAGE) as usize);
        let word = |guest: &Guest| at.map_or(0, |at| guest.memory[at] & 1);
        match r.below(4) {
            0 => {
                self.processor.spare_end(self.parts, &mut self.guest);
                let may = self.parts & HVMPV_APIC_ASSIST != 0 && at.is_some();
                assert!(!may || self.is_spared || word(&self.guest) == 1);
                self.is_spared |= may;
                return may.into();
            }
            1 if at.is_some() => self.guest.memory[at.unwrap_or(0)] &= !1,
            2 => {
                let expected = self.is_spared && at.is_some() && word(&self.guest) == 0;
                assert_eq!(self.processor.takes_end(&self.guest), expected);
                self.is_spared &= !expected;
            }
            _ => {
                self.processor.need_end(&mut self.guest);
                assert!(!self.is_spared || word(&self.guest) == 0);
                self.is_spared = false;
                assert!(!self.processor.takes_end(&self.guest));
            }
        }
        0
    }

    fn call(&mut self, r: &mut Random) {
        let code = if r.one_in(3) { r.next() } else { r.pick(&[2, 3, 8, 0x5c]) };
        let input = code & 0xffff | if r.one_in(3) { r.next() & !0xffff } else { 0 };
        let at = if r.one_in(3) { r.value() } else { r.below(PAGES * PAGE) };
        (self.guest.is_busy, self.guest.open) = (r.one_in(4), vec![]);
        let (ways, flushes) = (self.guest.ways, self.guest.flushes.len());
        let mut parameters = [0; 24];
        let is_there = self.guest.read_memory(at, &mut parameters) && input & 1 << 16 == 0;
        let result = call(&mut self.guest, input, at);
        let expected = match code & 0xffff {
            8 => Some(0),
            2 | 3 if !is_there => Some(5),
            2 | 3 if self.guest.is_busy => None,
            2 | 3 => Some(input & 0xfff << 32),
            _ => Some(2),
        };
        assert_eq!(result, expected, "call {input:#x}");
        assert_eq!(self.guest.ways - ways, u32::from(code & 0xffff == 8));
        assert_eq!(self.guest.flushes.len() - flushes, usize::from(matches!(code & 0xffff, 2 | 3) && is_there));
    }

    /// Records come back on another host.
    fn reload(&mut self, r: &mut Random) {
        let (domain, vcpu) = (self.partition.save(&self.tsc), self.processor.save());
        self.tsc = tsc(r);
        self.partition = Partition::new(self.parts, &self.tsc);
        self.guest.open = if domain.reference_tsc & 1 != 0 { vec![domain.reference_tsc / PAGE] } else { vec![] };
        self.partition.load(&mut self.guest, &self.tsc, &domain);
        self.processor.load(&vcpu);
        assert_eq!((self.partition.save(&self.tsc), self.processor.save()), (domain, vcpu));
    }
}

fn tsc(r: &mut Random) -> Tsc {
    let khz = if r.one_in(10) { r.next() as u32 } else { 1_000_000 + r.below(4_000_000) as u32 };
    Tsc { now: r.below(1 << 50), khz: khz.max(1), is_reliable: !r.one_in(4) }
}

fn check_leaves(world: &World, r: &mut Random) {
    let number = 0x4000_0000 + if r.one_in(4) { r.below(0x100) } else { r.below(8) } as u32;
    let found = leaf(world.parts, world.partition.os_id(), number);
    assert!(number <= 0x4000_0006 || found == [0; 4], "a leaf behind the last one");
    if number == 0x4000_0003 {
        let has = |part: u32, bit: u32| world.parts & part != 0 && found[0] & bit == 0;
        assert!(!has(HVMPV_TIME_REF_COUNT, 2) && !has(HVMPV_REFERENCE_TSC, 1 << 9));
        assert_eq!(found[0] & 2 != 0, world.get(REFERENCE_COUNT).is_ok(), "told, and there");
        assert_eq!(found[0] & 1 << 9 != 0, world.get(REFERENCE_PAGE).is_ok());
        assert_eq!(found[0] & 1 << 11 != 0, world.get(0x22).is_ok() && world.get(0x23).is_ok());
    }
}

pub fn case(r: &mut Random) -> u64 {
    let parts = (if r.one_in(4) { r.next() as u32 } else { r.next() as u32 & SERVED }) | HVMPV_BASE_FREQ;
    let tsc = tsc(r);
    let guest = Guest {
        memory: (0..PAGES * PAGE).map(|_| r.next() as u8).collect(),
        open: vec![],
        ends: 0,
        command: 0,
        priority: 0,
        crashes: vec![],
        ways: 0,
        flushes: vec![],
        is_busy: false,
    };
    let (partition, processor) = (Partition::new(parts, &tsc), Processor::new(r.below(128) as u32));
    let mut world = World { parts, partition, processor, guest, tsc, crash: [0; 5], is_spared: false };
    let known = [OS_ID, HYPERCALL, REFERENCE_PAGE, EOI, COMMAND, PRIORITY, ASSIST, ASSIST, 0x100, 0x104, 0x105];
    let mut reached = 0;
    for _ in 0..STEPS {
        match r.below(16) {
            0..=5 => {
                let number =
                    if r.one_in(3) { r.below((END_OF_MSRS - FIRST_MSR).into()) as u32 } else { r.pick(&known) };
                let value = if r.one_in(3) { r.value() } else { (r.below(PAGES + 1) * PAGE) | r.below(4) };
                world.write(number, value);
            }
            6 => _ = world.get(r.below(0x200) as u32),
            7..=9 => world.check_time(r),
            10..=12 => reached += world.assist(r),
            13 => world.call(r),
            14 if r.one_in(4) => world.reload(r),
            14 => {
                let before = world.partition.time.now(&world.tsc);
                world.partition.time.freeze(&world.tsc);
                world.tsc.now += r.below(1 << 40);
                assert_eq!(world.partition.time.now(&world.tsc), before);
                world.partition.time.thaw(&world.tsc);
                assert_eq!(world.partition.time.now(&world.tsc), before);
            }
            _ => check_leaves(&world, r),
        }
    }
    reached
}
