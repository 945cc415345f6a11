//! Random task-state segments, descriptors and faults: nothing panics or runs long; a switch that fails early has changed no register;
//! one that is made leaves segments that the new task may have, and its way back leads to the old task.

use crate::task_machine::*;
use fuzz::Random;
use x86_emulate::hvm::*;

/// Switches in a case.
const STEPS: u64 = 40;
/// Accesses that a switch may make: most where other CPUs change descriptors again and again.
const MOST: usize = 200;
const NT: u64 = 1 << 14;
const RF: u64 = 1 << 16;
const VM: u64 = 1 << 17;

/// One of those that mean something, or any.
fn selector(random: &mut Random) -> u16 {
    const KNOWN: [u16; 14] =
        [0, CODE, DATA, USER_CODE, USER_DATA, TABLE, OLD_TSS, NEW_TSS, NEW_TSS16, SPARE, CODE16, STACK16, LOCAL, 0x60];
    match random.below(8) {
        0 => random.next() as u16,
        1 => random.pick(&KNOWN) ^ random.below(8) as u16,
        _ => random.pick(&KNOWN),
    }
}

fn cause(random: &mut Random) -> Cause {
    let delivered = [Delivered::Interrupt, Delivered::Exception(random.below(32) as u8), Delivered::Software(0x80)];
    let event = Cause::Event(random.pick(&delivered));
    random.pick(&[Cause::Iret, Cause::Jump, Cause::Call, event])
}

fn setting(random: &mut Random) -> (Task, Ram, TaskSwitch) {
    let (mut task, mut ram) = world();
    let cause = cause(random);
    if cause == Cause::Iret {
        [NEW_TSS, NEW_TSS16].iter().for_each(|tss| {
            let found = descriptor(&ram, *tss);
            describe(&mut ram, *tss, found | BUSY);
        });
    }
    ram.put64(IDT + 0x400, 5 << 40 | 1 << 47 | random.below(4) << 45);
    describe(&mut ram, SPARE, 0x00cf_9000_0000_ffff ^ random.next() & 0x6f << 40);
    for _ in 0..random.below(3) {
        let (selector, bit) = (random.below(12) as u16 * 8, 1 << random.below(64));
        let found = descriptor(&ram, selector);
        describe(&mut ram, selector, found ^ bit);
    }
    for _ in 0..random.below(3) {
        ram.put16(random.pick(&[NEW + ES, NEW + CS, NEW + SS, NEW + DS, NEW + LDTR, NEW16 + CS16]), selector(random));
    }
    if random.one_in(3) {
        ram.put32(NEW + EFLAGS, random.next() as u32);
        let any = random.next() as u32;
        ram.put32(NEW + ESP, random.pick(&[0, 1, 0xfff, 0xffff, 0xffff_ffff, any]));
    }
    if random.one_in(6) {
        let page = random.below(17) as u32 * 0x1000;
        match random.below(3) {
            0 => ram.absent.insert(page),
            1 => ram.read_only.insert(page),
            _ => ram.supervisor.insert(page),
        };
    }
    if random.one_in(8) {
        ram.is_raced = random.below(40) as u32;
    }
    if random.one_in(8) {
        ram.fails_at = Some(random.below(20) as usize);
    }
    let state = &mut task.state;
    state.general[..8].iter_mut().for_each(|register| *register = random.next() & 0xffff_ffff);
    state.flags ^= random.next() & 0x3f_7fd5;
    state.level = random.pick(&[0, 0, 3]);
    if random.one_in(10) {
        state.cr0 ^= random.pick(&[1, 1 << 31]);
        state.efer = random.pick(&[0, 0x500]);
        task.gdtr.limit = random.next() as u16;
        task.tr.limit = random.below(0x70) as u32;
    }
    let switch = TaskSwitch {
        selector: if random.one_in(8) { selector(random) } else { random.pick(&[NEW_TSS, NEW_TSS, NEW_TSS16]) },
        cause,
        error_code: random.one_in(3).then(|| random.next() as u32),
        resume_flag: random.one_in(2),
    };
    (task, ram, switch)
}

/// The segments of code that runs are as its level may have them (SDM vol. 3, 5.5 to 5.7).
fn check_segments(state: &State) {
    if state.is_virtual_8086() {
        assert!(state.segments.iter().all(|segment| segment.attributes == 0xf3 && segment.limit == 0xffff));
        return assert_eq!(state.level, 3);
    }
    let dpl = |segment: &Segment| (segment.attributes >> 5 & 3) as u8;
    let (code, stack) = (state.segment(SegmentName::Cs), state.segment(SegmentName::Ss));
    assert_eq!((code.selector & 3, stack.selector & 3), (state.level.into(), state.level.into()));
    assert_eq!((code.attributes & 0x99, stack.attributes & 0x9b), (0x99, 0x93));
    assert!(
        dpl(stack) == state.level
            && if code.attributes & 4 != 0 { dpl(code) <= state.level } else { dpl(code) == state.level }
    );
    for name in [SegmentName::Ds, SegmentName::Es, SegmentName::Fs, SegmentName::Gs] {
        let segment = state.segment(name);
        let is_null =
            segment.selector & !3 == 0 && *segment == Segment { selector: segment.selector, ..Segment::default() };
        let is_conforming = segment.attributes & 0xc == 0xc;
        let is_fit = segment.attributes & 0x91 == 0x91 && (is_conforming || dpl(segment) >= state.level);
        assert!(is_null || is_fit, "{name:?} {segment:x?}");
    }
}

/// The called task returns: if it can, the old task is as it was.
fn check_return(random: &mut Random, before: &Task, next: u64, task: &mut Task, ram: &mut Ram, switch: &TaskSwitch) {
    // Their tables apart from each other, as they were at first; what is pushed might be anywhere.
    let is_apart = [NEW, NEW16].map(u64::from).contains(&task.tr.base) && before.tr.base == u64::from(OLD);
    let is_known = descriptor(ram, OLD_TSS) == system(11, OLD, 0x67) && before.tr.limit >= 0x67;
    if !is_apart || !is_known || switch.error_code.is_some() {
        return;
    }
    let old_ldt = before.ldtr.selector;
    ram.put16(OLD + LDTR, old_ldt);
    ram.put32(OLD + ROOT, OLD_ROOT);
    let back = TaskSwitch { selector: OLD_TSS, cause: Cause::Iret, error_code: None, resume_flag: false };
    if switch_task(task, random.next() & 0xffff_ffff, &back, ram).is_err() {
        return;
    }
    let (old, new) = (&before.state, &task.state);
    assert_eq!((new.general, new.rip), (old.general, next));
    let rf = if switch.resume_flag { RF } else { 0 };
    assert_eq!(new.flags, old.flags & !RF | rf);
    let selectors = |state: &State| state.segments.map(|segment| segment.selector);
    assert_eq!(selectors(new), selectors(old));
}

fn check(random: &mut Random) -> u64 {
    let (before, mut ram, switch) = setting(random);
    let mut task = before;
    let next = random.next() & 0xffff_ffff;
    let result = switch_task(&mut task, next, &switch, &mut ram);
    assert!(ram.accesses.len() <= MOST, "{}", ram.accesses.len());
    if task == before {
        assert!(result.is_err() && ram.roots_loaded.is_empty());
        return 0;
    }
    assert_eq!((task.tr.selector, task.tr.attributes & 0x97), (switch.selector, 0x83));
    assert_eq!((task.state.cr0, task.dr7, task.state.cr0 & 1), (before.state.cr0 | 8, before.dr7 & !0x155, 1));
    let nests = !matches!(switch.cause, Cause::Jump | Cause::Iret);
    assert!(!nests || task.state.flags & NT != 0);
    assert!(task.state.flags & 2 != 0 && task.state.flags & !0x3f_7fd7 == 0);
    assert!(task.tr.attributes & 8 != 0 || task.state.flags & VM == 0);
    match result {
        Ok(_) => {
            check_segments(&task.state);
            if nests {
                ram.fails_at = None;
                check_return(random, &before, next, &mut task, &mut ram, &switch);
            }
            1
        }
        Err(Stop::Exception { vector, error_code }) => {
            assert!((10..=13).contains(&vector) && error_code.is_some());
            0
        }
        Err(stop) => {
            assert!(matches!(stop, Stop::PageFault { .. } | Stop::Crash));
            0
        }
    }
}

pub fn case(random: &mut Random) -> u64 {
    (0..STEPS).map(|_| check(random)).sum()
}
