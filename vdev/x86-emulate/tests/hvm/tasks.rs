//! Task switches that are made: what is saved, loaded and noted.

use crate::tables::*;
use x86_emulate::hvm::SegmentName::*;
use x86_emulate::hvm::*;

/// rip of the old task behind its instruction.
const NEXT: u64 = 0x1000_0007;
const NT: u64 = 1 << 14;
const RF: u64 = 1 << 16;
const VM: u64 = 1 << 17;
const INTERRUPT: Cause = Cause::Event(Delivered::Interrupt);

fn made(switch: &TaskSwitch, prepare: impl FnOnce(&mut Task, &mut Ram)) -> (Task, Ram, Switched) {
    let (mut task, mut ram) = world();
    prepare(&mut task, &mut ram);
    let done = switch_task(&mut task, NEXT, switch, &mut ram);
    (task, ram, done.expect("it is made"))
}

/// The new task is as its TSS says, with these flags.
fn check_new(task: &Task, ram: &Ram, flags: u64) {
    assert_eq!(task.state.general[..4], [0x1111_1110, 0x1111_1111, 0x1111_1112, 0x1111_1113]);
    assert_eq!(task.state.general[4..8], [0x7f00, 0x1111_1115, 0x1111_1116, 0x1111_1117]);
    assert_eq!((task.state.rip, task.state.flags, task.state.level), (0x8000_1234, flags, 0));
    assert_eq!(task.state.cr0, 0x8000_0039);
    for (name, selector) in [(Es, DATA), (Cs, CODE), (Ss, DATA), (Fs, USER_DATA)] {
        assert_eq!(*task.state.segment(name), segment(ram, selector), "{name:?}");
    }
    let local = Segment { selector: LOCAL, attributes: 0xcf3, limit: u32::MAX, base: 0x10000 };
    assert_eq!((*task.state.segment(Ds), *task.state.segment(Gs)), (local, Segment::default()));
    assert_eq!(task.ldtr, Segment { selector: TABLE, attributes: 0x82, limit: 0x3f, base: LDT.into() });
    assert_eq!(task.tr, Segment { selector: NEW_TSS, attributes: 0x8b, limit: 0x67, base: NEW.into() });
    assert_eq!((task.dr7, &ram.roots_loaded[..]), (0x6aa, &[NEW_ROOT][..]));
}

/// The old task's TSS has its registers, with these flags.
fn check_old(ram: &Ram, rip: u64, flags: u64) {
    assert_eq!(u64::from(ram.get32(OLD + EIP)), rip);
    assert_eq!(u64::from(ram.get32(OLD + EFLAGS)), flags);
    for number in 0..8 {
        assert_eq!(ram.get32(OLD + EAX + 4 * number), 0x3333_3330 + number);
    }
    for (at, selector) in [(ES, DATA), (CS, CODE), (SS, DATA), (DS, USER_DATA), (FS, 0), (GS, USER_DATA)] {
        assert_eq!(ram.get32(OLD + at), 0xeeee_0000 | u32::from(selector), "{at:x}");
    }
    assert_eq!(ram.get::<0x20>(OLD), [0xee; 0x20]);
    assert_eq!(ram.get::<8>(OLD + LDTR), [0xee; 8]);
}

/// Whether the old task's descriptor and the new one's are busy.
fn busy(ram: &Ram) -> (bool, bool) {
    (descriptor(ram, OLD_TSS) & BUSY != 0, descriptor(ram, NEW_TSS) & BUSY != 0)
}

#[test]
fn a_jump_leaves_the_old_task() {
    let (task, ram, done) = made(&by(Cause::Jump), |_, _| {});
    check_new(&task, &ram, 0x246);
    check_old(&ram, NEXT, 0x4287);
    assert_eq!((busy(&ram), ram.get16(NEW + LINK), done.is_trapped), ((false, true), 0, false));
    // The new task's NT is as it was.
    let (task, ..) = made(&by(Cause::Jump), |_, ram| ram.put32(NEW + EFLAGS, 0x4002));
    assert_eq!(task.state.flags, 0x4002);
}

#[test]
fn calls_and_events_leave_a_way_back() {
    for cause in [Cause::Call, INTERRUPT, Cause::Event(Delivered::Exception(13))] {
        let (task, ram, _) = made(&by(cause), |_, ram| ram.put16(NEW + LINK + 2, 0x5555));
        check_new(&task, &ram, 0x246 | NT);
        check_old(&ram, NEXT, 0x4287);
        assert_eq!((busy(&ram), ram.get32(NEW + LINK)), ((true, true), 0x5555_0000 | u32::from(OLD_TSS)));
    }
}

#[test]
fn iret_goes_that_way() {
    let (task, ram, _) = made(&by(Cause::Iret), |_, ram| describe(ram, NEW_TSS, system(11, NEW, 0x67)));
    check_new(&task, &ram, 0x246);
    check_old(&ram, NEXT, 0x0287);
    assert_eq!((busy(&ram), ram.get16(NEW + LINK)), ((false, true), 0));
}

#[test]
fn a_call_and_its_iret_change_nothing() {
    let (mut task, mut ram, _) = made(&by(Cause::Call), |task, ram| {
        task.ldtr = Segment { selector: TABLE, attributes: 0x82, limit: 0x3f, base: LDT.into() };
        ram.put16(OLD + LDTR, TABLE);
        ram.put32(OLD + ROOT, OLD_ROOT);
        ram.put32(OLD + TRAP, 0);
    });
    let back = TaskSwitch { selector: ram.get16(NEW + LINK), ..by(Cause::Iret) };
    assert!(switch_task(&mut task, 0x8000_1300, &back, &mut ram).is_ok());
    let (before, _) = world();
    let state = State { rip: NEXT, flags: before.state.flags & !RF, cr0: before.state.cr0 | 8, ..before.state };
    assert_eq!(task, Task { state, ldtr: task.ldtr, dr7: 0x6aa, ..before });
    assert_eq!((task.ldtr.selector, busy(&ram)), (TABLE, (true, false)));
    assert_eq!((ram.get32(NEW + EIP), ram.get32(NEW + EFLAGS)), (0x8000_1300, 0x246));
    assert_eq!(ram.roots_loaded, [NEW_ROOT, OLD_ROOT]);
}

#[test]
fn resume_flags_are_the_cpus() {
    let switch = TaskSwitch { resume_flag: true, ..by(Cause::Event(Delivered::Exception(13))) };
    let (_, ram, _) = made(&switch, |task, _| task.state.flags &= !RF);
    assert_eq!(u64::from(ram.get32(OLD + EFLAGS)) & RF, RF);
    let (task, ..) = made(&switch, |_, ram| ram.put32(NEW + EFLAGS, !(VM as u32)));
    assert_eq!(task.state.flags, 0x3d_7fd7);
}

#[test]
fn new_tasks_of_16_bits() {
    let (task, ram, _) = made(&TaskSwitch { selector: NEW_TSS16, ..by(Cause::Jump) }, |task, ram| {
        task.ldtr = Segment { selector: TABLE, attributes: 0x82, limit: 0x3f, base: LDT.into() };
        ram.absent.insert(NEW_ROOT);
    });
    assert_eq!((task.state.rip, task.state.flags), (0x1234, 0x3202));
    assert_eq!(task.state.general[..8], [0x2220, 0x2221, 0x2222, 0x2223, 0x100, 0x2225, 0x2226, 0x2227]);
    let selectors = task.state.segments.map(|segment| segment.selector);
    assert_eq!(selectors, [DATA, CODE16, STACK16, LOCAL, 0, 0]);
    assert_eq!(task.tr, Segment { selector: NEW_TSS16, attributes: 0x83, limit: 0x2b, base: NEW16.into() });
    // It has no CR3.
    assert_eq!((task.ldtr.selector, &ram.roots_loaded[..]), (TABLE, &[][..]));
    check_old(&ram, NEXT, 0x4287);
}

#[test]
fn old_tasks_of_16_bits() {
    let (task, ram, _) = made(&by(Cause::Call), |task, ram| {
        task.tr = Segment { selector: NEW_TSS16, attributes: 0x83, limit: 0x29, base: NEW16.into() };
        ram.put(NEW16, &[0xee; 0x2c]);
    });
    check_new(&task, &ram, 0x246 | NT);
    assert_eq!((ram.get16(NEW16 + IP), ram.get16(NEW16 + FLAGS)), (NEXT as u16, 0x4287));
    for number in 0..8 {
        assert_eq!(ram.get16(NEW16 + AX + 2 * number), 0x3330 + number as u16);
    }
    for (at, selector) in [(ES16, DATA), (CS16, CODE), (SS16, DATA), (DS16, USER_DATA), (LDTR16, 0xeeee)] {
        assert_eq!(ram.get16(NEW16 + at), selector);
    }
    assert_eq!((ram.get::<14>(NEW16), ram.get16(NEW + LINK)), ([0xee; 14], NEW_TSS16));
}

#[test]
fn virtual_8086_tasks() {
    let switch = TaskSwitch { error_code: Some(0xabcd_1234), ..by(Cause::Event(Delivered::Exception(13))) };
    let (task, ram, _) = made(&switch, |_, ram| {
        ram.put32(NEW + EFLAGS, VM as u32 | 0x3002);
        for (index, at) in (ES..LDTR).step_by(4).enumerate() {
            ram.put16(NEW + at, 0xf000 + index as u16);
        }
        ram.put32(NEW + ESP, 0xffff_0000);
    });
    for (index, segment) in task.state.segments.iter().enumerate() {
        let selector = 0xf000 + index as u16;
        let base = u64::from(selector) << 4;
        assert_eq!(*segment, Segment { selector, attributes: 0xf3, limit: 0xffff, base });
    }
    assert!(task.state.is_virtual_8086());
    assert_eq!((task.state.level, task.ldtr.selector), (3, TABLE));
    // The stack is of 16 bits, and of level 3; the error code has the size of the TSS's registers.
    assert_eq!((task.state.general[4], ram.get32(0xf_0020 + 0xfffc)), (0xffff_fffc, 0xabcd_1234));
    // And back from there.
    let (_, ram, _) = made(&by(INTERRUPT), |task, _| {
        task.state.flags |= VM;
        task.state.level = 3;
    });
    check_old(&ram, NEXT, 0x4287 | VM);
}

#[test]
fn error_codes_are_on_the_new_stack() {
    let with_code = |selector| TaskSwitch { selector, error_code: Some(0x1234_5678), ..by(INTERRUPT) };
    let (task, ram, _) = made(&with_code(NEW_TSS), |_, _| {});
    assert_eq!((task.state.general[4], ram.get32(0x7efc)), (0x7efc, 0x1234_5678));
    let (task, ram, _) = made(&with_code(NEW_TSS16), |_, _| {});
    assert_eq!((task.state.general[4], ram.get16(0xfe), ram.get16(0x100)), (0xfe, 0x5678, 0));
    // It wraps around where the stack does.
    let (task, ram, _) = made(&with_code(NEW_TSS16), |_, ram| ram.put16(NEW16 + AX + 8, 0));
    assert_eq!((task.state.general[4], ram.get16(0xfffe)), (0xfffe, 0x5678));
}

#[test]
fn stacks_of_level_3_are_written_as_from_there() {
    let switch = TaskSwitch { error_code: Some(0), ..by(INTERRUPT) };
    let (mut task, mut ram) = world();
    for (at, selector) in [(CS, USER_CODE), (SS, USER_DATA), (ES, 0)] {
        ram.put16(NEW + at, selector);
    }
    ram.supervisor.insert(0x7000);
    let refused = Err(Stop::PageFault { address: 0x7efc, error_code: 7 });
    assert_eq!(switch_task(&mut task, NEXT, &switch, &mut ram), refused);
    assert_eq!((task.tr.selector, task.state.level, task.state.general[4]), (NEW_TSS, 3, 0x7f00));
    // Tables are read by the CPU, whatever level runs.
    for page in [GDT, LDT, OLD, NEW] {
        ram.supervisor.insert(page);
    }
    ram.supervisor.remove(&0x7000);
    let (mut task, _) = world();
    describe(&mut ram, NEW_TSS, system(9, NEW, 0x67));
    assert!(switch_task(&mut task, NEXT, &switch, &mut ram).is_ok());
}

#[test]
fn descriptors_come_from_the_new_address_space() {
    let elsewhere = |ram: &mut Ram| {
        // GDT and LDT of the new task are at 0xb000 and 0xc000, where its stack segment begins at 0x40000.
        for (page, place) in [(GDT, 0xb000), (LDT, 0xc000)] {
            let bytes: [u8; 0x100] = ram.get(page);
            ram.put(place, &bytes);
            ram.moved.insert((NEW_ROOT, page), place);
        }
        ram.put64(0xb000 + u32::from(DATA), 0x00cf_9304_0000_ffff);
        ram.put64(0xc008, 0x00cf_f305_0000_ffff);
    };
    let (task, ..) = made(&by(Cause::Call), |_, ram| elsewhere(ram));
    assert_eq!((task.state.segment(Ss).base, task.state.segment(Ds).base), (0x40000, 0x50000));
    // Without paging CR3 is not loaded.
    let (task, ram, _) = made(&by(Cause::Call), |task, ram| {
        elsewhere(ram);
        task.state.cr0 &= !(1 << 31);
    });
    assert_eq!((task.state.segment(Ss).base, &ram.roots_loaded[..]), (0, &[][..]));
}

#[test]
fn segments_are_noted_as_accessed() {
    let accessed = 1 << 40;
    let (task, ram, _) = made(&by(Cause::Jump), |_, ram| {
        describe(ram, CODE, 0x00cf_9a00_0000_ffff);
        describe(ram, USER_DATA, 0x00cf_f200_0000_ffff);
        ram.put64(LDT + 8, 0x00cf_f200_0000_ffff);
    });
    assert!([CODE, USER_DATA].iter().all(|selector| descriptor(&ram, *selector) & accessed != 0));
    assert!(ram.get64(LDT + 8) & accessed != 0 && task.state.segment(Cs).attributes & 1 != 0);
    // Where they are, nothing is written.
    made(&by(Cause::Jump), |_, ram| _ = ram.read_only.insert(LDT));
}

#[test]
fn t_asks_for_a_trap() {
    let (.., done) = made(&by(Cause::Jump), |_, ram| ram.put16(NEW + TRAP, 1));
    assert!(done.is_trapped);
    let (.., done) = made(&by(Cause::Jump), |_, ram| ram.put16(NEW + TRAP, 0xfffe));
    assert!(!done.is_trapped);
}

#[test]
fn tables_may_wrap_around() {
    const AT: u32 = 0xffff_ffd0;
    let (task, ram, _) = made(&by(Cause::Jump), |_, ram| {
        let bytes: [u8; 0x68] = ram.get(NEW);
        ram.put(AT, &bytes);
        describe(ram, NEW_TSS, system(9, AT, 0x67));
    });
    assert_eq!((task.tr.base, task.state.rip), (AT.into(), 0x8000_1234));
    assert_eq!(task.state.segment(Fs).selector, USER_DATA);
    check_old(&ram, NEXT, 0x4287);
}

#[test]
fn software_interrupts_need_the_gate() {
    let switch = by(Cause::Event(Delivered::Software(0x80)));
    let gate = |dpl: u64| u64::from(NEW_TSS) << 16 | 5 << 40 | dpl << 45 | 1 << 47;
    let (task, ram, _) = made(&switch, |_, ram| ram.put64(IDT + 0x400, gate(0)));
    check_new(&task, &ram, 0x246 | NT);
    check_old(&ram, NEXT, 0x4287);
    let (task, ..) = made(&switch, |task, ram| {
        (task.state.level, task.idtr.limit) = (3, 0x407);
        ram.put64(IDT + 0x400, gate(3));
    });
    assert_eq!(task.state.level, 0);
}
