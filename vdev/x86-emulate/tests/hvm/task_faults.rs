//! Task switches that fail: what the guest gets, and whose fault it is.

use crate::tables::*;
use x86_emulate::hvm::SegmentName::*;
use x86_emulate::hvm::*;

const NEXT: u64 = 0x1000_0007;
const INTERRUPT: Cause = Cause::Event(Delivered::Interrupt);
const TS: u8 = 10;
const NP: u8 = 11;
const SS_FAULT: u8 = 12;
const GP: u8 = 13;
const EXT: u32 = 1;
const PRESENT: u64 = 1 << 47;

fn fault(vector: u8, code: u32) -> Stop {
    Stop::Exception { vector, error_code: Some(code) }
}

/// Tries to make a task switch, which fails: with what, and what there is then.
fn failed(switch: &TaskSwitch, prepare: impl FnOnce(&mut Task, &mut Ram)) -> (Stop, Task, Ram) {
    let (mut task, mut ram) = world();
    prepare(&mut task, &mut ram);
    let stop = switch_task(&mut task, NEXT, switch, &mut ram).expect_err("it fails");
    (stop, task, ram)
}

/// The same where nothing is to have changed.
fn refused(switch: &TaskSwitch, prepare: impl Fn(&mut Task, &mut Ram)) -> Stop {
    let (mut before, mut memory) = world();
    prepare(&mut before, &mut memory);
    let (stop, task, ram) = failed(switch, prepare);
    assert!(task == before && ram.memory == memory.memory, "{switch:?}");
    stop
}

/// The same where the new task is to be there, with this register at fault. Those behind it have their selectors alone.
fn left(name: Option<SegmentName>, prepare: impl Fn(&mut Task, &mut Ram)) -> Stop {
    let (stop, task, ram) = failed(&by(Cause::Call), prepare);
    assert_eq!((task.tr.selector, task.state.rip, ram.get16(NEW + LINK)), (NEW_TSS, 0x8000_1234, OLD_TSS));
    assert!(descriptor(&ram, NEW_TSS) & BUSY != 0 && task.state.flags & 0x4000 != 0);
    let order = [Cs, Ss, Ds, Es, Fs, Gs];
    let at_fault = name.map_or(0, |name| order.iter().position(|other| *other == name).expect("one of them"));
    for (index, other) in order.into_iter().enumerate() {
        let found = task.state.segment(other);
        assert_eq!(found.selector, ram.get16(NEW + ES + 4 * other as u32));
        let is_loaded = found.attributes != 0 || found.selector & !3 == 0;
        assert_eq!(is_loaded, index < at_fault || found.selector & !3 == 0, "{other:?}");
    }
    // Without a stack, the handler is to have its own.
    let has_stack = at_fault > 1;
    assert_eq!(task.state.level, if has_stack { (ram.get16(NEW + CS) & 3) as u8 } else { 3 });
    assert_eq!(task.ldtr.attributes == 0x82, name.is_some());
    stop
}

#[test]
fn descriptors_of_a_tss() {
    let wrong = |kind: u64| move |_: &mut Task, ram: &mut Ram| describe(ram, NEW_TSS, system(kind, NEW, 0x67));
    for cause in [Cause::Jump, Cause::Call, Cause::Event(Delivered::Exception(0)), INTERRUPT] {
        let ext = u32::from(!cause.is_by_instruction()) * EXT;
        for kind in [0, 2, 3, 4, 5, 8, 10, 11, 12, 14] {
            assert_eq!(refused(&by(cause), wrong(kind)), fault(GP, 0x38 | ext), "{kind}");
        }
        // Data, and beyond the table; in the LDT; null.
        assert_eq!(refused(&by(cause), wrong(0x13)), fault(GP, 0x38 | ext));
        let beyond = TaskSwitch { selector: 0x60, ..by(cause) };
        assert_eq!(refused(&beyond, |_, _| {}), fault(GP, 0x60 | ext));
        let local = TaskSwitch { selector: 0x3f, ..by(cause) };
        assert_eq!(refused(&local, |_, _| {}), fault(GP, 0x3c | ext));
        let null = TaskSwitch { selector: 3, ..by(cause) };
        assert_eq!(refused(&null, |_, ram| describe(ram, 0, system(9, NEW, 0x67))), fault(GP, ext));
        // Absent, and too short.
        let absent = |_: &mut Task, ram: &mut Ram| describe(ram, NEW_TSS, system(9, NEW, 0x66) & !PRESENT);
        assert_eq!(refused(&by(cause), absent), fault(NP, 0x38 | ext));
        for (kind, limit) in [(9, 0x66), (1, 0x2a)] {
            let short = |_: &mut Task, ram: &mut Ram| describe(ram, NEW_TSS, system(kind, NEW, limit));
            assert_eq!(refused(&by(cause), short), fault(TS, 0x38 | ext));
        }
    }
    for kind in [0, 1, 2, 5, 9, 12, 0x1b] {
        assert_eq!(refused(&by(Cause::Iret), wrong(kind)), fault(TS, 0x38), "{kind}");
    }
    assert_eq!(refused(&TaskSwitch { selector: 0x60, ..by(Cause::Iret) }, |_, _| {}), fault(TS, 0x60));
    let short = |_: &mut Task, ram: &mut Ram| describe(ram, NEW_TSS, system(11, NEW, 0x66));
    assert_eq!(refused(&by(Cause::Iret), short), fault(TS, 0x38));
}

#[test]
fn the_old_tss_has_room() {
    assert_eq!(refused(&by(Cause::Jump), |task, _| task.tr.limit = 0x5e), fault(TS, 0x30));
    let narrow = |limit| move |task: &mut Task, _: &mut Ram| (task.tr.attributes, task.tr.limit) = (0x83, limit);
    assert_eq!(refused(&by(INTERRUPT), narrow(0x28)), fault(TS, 0x30 | EXT));
    let (mut task, mut ram) = world();
    narrow(0x29)(&mut task, &mut ram);
    assert!(switch_task(&mut task, NEXT, &by(Cause::Jump), &mut ram).is_ok());
}

#[test]
fn there_are_none_in_other_modes() {
    assert_eq!(refused(&by(Cause::Jump), |task, _| task.state.cr0 = 0x10), Stop::GP);
    assert_eq!(refused(&by(Cause::Jump), |task, _| task.state.efer = 0x500), Stop::GP);
}

#[test]
fn gates_that_software_may_not_use() {
    let switch = by(Cause::Event(Delivered::Software(0x80)));
    let gate = |kind: u64, dpl: u64| u64::from(NEW_TSS) << 16 | kind << 40 | dpl << 45 | PRESENT;
    let at_level = |level, gate| {
        move |task: &mut Task, ram: &mut Ram| {
            task.state.level = level;
            ram.put64(IDT + 0x400, gate);
        }
    };
    for (level, gate) in [(3, gate(5, 0)), (3, gate(5, 2)), (1, gate(5, 0)), (0, gate(14, 3)), (0, gate(0x15, 3))] {
        assert_eq!(refused(&switch, at_level(level, gate)), fault(GP, 0x402));
    }
    assert_eq!(refused(&switch, |task, _| task.idtr.limit = 0x406), fault(GP, 0x402));
    let absent = Stop::PageFault { address: u64::from(IDT) + 0x400, error_code: 0 };
    assert_eq!(refused(&switch, |_, ram| _ = ram.absent.insert(IDT)), absent);
}

#[test]
fn local_tables_of_the_new_task() {
    let select = |selector: u16, found: u64| {
        move |_: &mut Task, ram: &mut Ram| {
            ram.put16(NEW + LDTR, selector);
            describe(ram, SPARE, found);
        }
    };
    let good = system(2, LDT, 0x3f);
    for (selector, found, code) in [
        (SPARE, good & !PRESENT, 0x48),
        (SPARE, system(9, LDT, 0x3f), 0x48),
        (SPARE, system(0x12, LDT, 0x3f), 0x48),
        (SPARE | 4, good, 0x4c),
        (0x60, good, 0x60),
    ] {
        assert_eq!(left(None, select(selector, found)), fault(TS, code));
    }
    // Without one, selectors of it are bad.
    let (stop, task, _) = failed(&by(Cause::Call), select(0, good));
    assert_eq!((stop, task.ldtr), (fault(TS, 0x0c), Segment::default()));
    let short = system(2, LDT, 0x0e);
    assert_eq!(left(Some(Ds), select(SPARE, short)), fault(TS, 0x0c));
    // A task in virtual-8086 mode has its segments nevertheless.
    let (stop, task, _) = failed(&by(INTERRUPT), |_, ram| {
        ram.put32(NEW + EFLAGS, 0x2_0002);
        ram.put16(NEW + LDTR, 0x60);
    });
    assert_eq!((stop, task.state.level), (fault(TS, 0x60 | EXT), 3));
    assert_eq!(task.state.segment(Cs).base, u64::from(CODE) << 4);
}

/// A segment of 4 GiB, accessed and present, of a level.
const fn flat(kind: u64, dpl: u64) -> u64 {
    0x00cf_0000_0000_ffff | (kind | 0x11) << 40 | dpl << 45 | PRESENT
}

const READ_ONLY: u64 = 0;
const WRITABLE: u64 = 2;
const EXECUTABLE: u64 = 8;
const READABLE: u64 = 10;
const CONFORMING: u64 = 12;

/// Has SPARE be this segment, and a register of the new task, in code of a level, be loaded by a selector of it.
fn select(name: SegmentName, selector: u16, found: u64, level: u16) -> impl Fn(&mut Task, &mut Ram) {
    move |_, ram| {
        if level == 3 {
            for (at, selector) in [(CS, USER_CODE), (SS, USER_DATA), (ES, USER_DATA)] {
                ram.put16(NEW + at, selector);
            }
        }
        ram.put16(NEW + ES + 4 * name as u32, selector);
        describe(ram, SPARE, found);
    }
}

#[test]
fn code_of_the_new_task() {
    let bad = |selector, found| left(Some(Cs), select(Cs, selector, found, 0));
    for found in [flat(WRITABLE, 0), system(12, 0, 0), flat(EXECUTABLE, 1), flat(CONFORMING, 1)] {
        assert_eq!(bad(SPARE, found), fault(TS, 0x48));
    }
    assert_eq!(bad(SPARE | 3, flat(EXECUTABLE, 0)), fault(TS, 0x48));
    assert_eq!(bad(SPARE, flat(EXECUTABLE, 0) & !PRESENT), fault(NP, 0x48));
    assert_eq!((bad(0, 0), bad(2, 0), bad(0x60, 0)), (fault(TS, 0), fault(TS, 0), fault(TS, 0x60)));
}

#[test]
fn stack_of_the_new_task() {
    for level in [0, 3] {
        let dpl = u64::from(level);
        let bad = |selector, found| left(Some(Ss), select(Ss, selector, found, level));
        for found in [flat(READ_ONLY, dpl), flat(READABLE, dpl), system(2, 0, 0), flat(WRITABLE, 1)] {
            assert_eq!(bad(SPARE | level, found), fault(TS, 0x48));
        }
        assert_eq!(bad(SPARE | 1, flat(WRITABLE, dpl)), fault(TS, 0x48));
        assert_eq!(bad(SPARE | level, flat(WRITABLE, dpl) & !PRESENT), fault(SS_FAULT, 0x48));
        assert_eq!((bad(level, 0), bad(0x60, 0)), (fault(TS, 0), fault(TS, 0x60)));
    }
}

#[test]
fn data_of_the_new_task() {
    for name in [Ds, Es, Fs, Gs] {
        let bad = |selector, found, level| left(Some(name), select(name, selector, found, level));
        for found in [flat(EXECUTABLE, 3), flat(CONFORMING, 3), system(2, 0, 0), flat(WRITABLE, 2), flat(READABLE, 0)] {
            assert_eq!(bad(SPARE, found, 3), fault(TS, 0x48), "{name:?}");
            assert_eq!(bad(SPARE | 3, found, 0), fault(TS, 0x48), "{name:?}");
        }
        assert_eq!(bad(SPARE, flat(WRITABLE, 0) & !PRESENT, 0), fault(NP, 0x48));
        assert_eq!(bad(0x60, 0, 0), fault(TS, 0x60));
        for (found, level) in [(flat(READ_ONLY, 3), 3), (flat(READABLE | CONFORMING, 0), 3), (flat(READABLE, 0), 0)] {
            let (mut task, mut ram) = world();
            select(name, SPARE, found, level)(&mut task, &mut ram);
            assert!(switch_task(&mut task, NEXT, &by(Cause::Call), &mut ram).is_ok(), "{name:?}");
            assert_eq!(*task.state.segment(name), segment(&ram, SPARE));
        }
    }
}

#[test]
fn stacks_without_room() {
    let switch = TaskSwitch { error_code: Some(0), ..by(INTERRUPT) };
    let (stop, task, _) = failed(&switch, |_, ram| {
        describe(ram, SPARE, 0x0040_9300_0000_7efe);
        ram.put16(NEW + SS, SPARE);
    });
    assert_eq!((stop, task.state.general[4]), (fault(SS_FAULT, EXT), 0x7f00));
    // A stack of 16 bits that would go on in itself.
    let (stop, ..) = failed(&TaskSwitch { selector: NEW_TSS16, ..switch }, |_, ram| ram.put16(NEW16 + AX + 8, 1));
    assert_eq!(stop, fault(SS_FAULT, EXT));
    let (stop, task, _) = failed(&switch, |_, ram| _ = ram.absent.insert(0x7000));
    assert_eq!(stop, Stop::PageFault { address: 0x7efc, error_code: 2 });
    assert_eq!((task.state.general[4], task.state.level), (0x7f00, 0));
}

/// A task switch of each kind that reads and writes all that one can, with how many accesses precede the commitment.
fn kinds() -> [(TaskSwitch, usize); 5] {
    let software = Cause::Event(Delivered::Software(0x80));
    // Descriptor; old TSS read and written; new TSS; its link; the busy bit.
    let nested = 6;
    [
        (by(Cause::Call), nested),
        (TaskSwitch { error_code: Some(8), ..by(INTERRUPT) }, nested),
        (by(software), nested + 1),
        // No link, but the old descriptor: looked at twice, and written.
        (by(Cause::Jump), nested - 1 + 3),
        (by(Cause::Iret), nested - 2 + 3),
    ]
}

fn kind(switch: &TaskSwitch) -> (Task, Ram) {
    let (task, mut ram) = world();
    if switch.cause == Cause::Iret {
        describe(&mut ram, NEW_TSS, system(11, NEW, 0x67));
    }
    ram.put64(IDT + 0x400, u64::from(NEW_TSS) << 16 | 5 << 40 | PRESENT);
    // To be noted as accessed.
    describe(&mut ram, CODE, 0x00cf_9a00_0000_ffff);
    (task, ram)
}

#[test]
fn every_access_may_fault() {
    for (switch, before_commitment) in kinds() {
        let (mut task, mut ram) = kind(&switch);
        assert!(switch_task(&mut task, NEXT, &switch, &mut ram).is_ok());
        let (made, accesses) = (task, ram.accesses);
        // LDT; CS read and written; SS, DS, ES, FS; the error code.
        assert_eq!(accesses.len(), before_commitment + 7 + usize::from(switch.error_code.is_some()), "{switch:?}");
        for (number, address) in accesses.iter().enumerate() {
            let (mut task, mut ram) = kind(&switch);
            let (before, descriptors) = (task, [OLD_TSS, NEW_TSS].map(|selector| descriptor(&ram, selector)));
            ram.fails_at = Some(number);
            let stop = switch_task(&mut task, NEXT, &switch, &mut ram);
            assert_eq!(stop, Err(Stop::PageFault { address: (*address).into(), error_code: INJECTED }));
            assert_eq!(ram.accesses.len(), number + 1);
            if number < before_commitment {
                assert!(task == before && ram.roots_loaded.is_empty(), "{switch:?}, access {number}");
                // The descriptor of the new task is written, then that of the old one; the CPU has looked at that before.
                let old_is_last = switch.cause == Cause::Jump && number >= before_commitment - 2;
                let is_kept = [OLD_TSS, NEW_TSS].map(|selector| descriptor(&ram, selector)) == descriptors;
                assert_eq!(is_kept, !old_is_last, "{switch:?}, access {number}");
            } else {
                assert_eq!((task.tr, task.state.rip, task.state.flags), (made.tr, made.state.rip, made.state.flags));
                assert_eq!(
                    (task.dr7, task.state.cr0, &ram.roots_loaded[..]),
                    (made.dr7, made.state.cr0, &[NEW_ROOT][..])
                );
            }
        }
    }
}

#[test]
fn read_only_tables_of_the_old_task_are_found_early() {
    for (page, address) in [(OLD, OLD + EIP), (GDT, GDT + 0x38)] {
        let stop = Stop::PageFault { address: address.into(), error_code: 3 };
        assert_eq!(refused(&by(Cause::Jump), |_, ram| _ = ram.read_only.insert(page)), stop);
    }
    // The old descriptor in a page of its own.
    let apart = |task: &mut Task, ram: &mut Ram| {
        let table: [u8; 0x60] = ram.get(GDT);
        ram.put(0xe000 - 0x38, &table);
        task.gdtr.base = 0xe000 - 0x38;
        ram.read_only.insert(0xd000);
    };
    assert_eq!(refused(&by(Cause::Jump), apart), Stop::PageFault { address: 0xdff8, error_code: 3 });
    let absent = Stop::PageFault { address: u64::from(OLD + EIP), error_code: 2 };
    assert_eq!(refused(&by(Cause::Jump), |_, ram| _ = ram.absent.insert(OLD)), absent);
    let (stop, task, _) = failed(&by(Cause::Call), |_, ram| _ = ram.read_only.insert(NEW));
    assert_eq!((stop, task.tr.selector), (Stop::PageFault { address: NEW.into(), error_code: 3 }, OLD_TSS));
}

#[test]
fn other_cpus_may_be_quicker() {
    for cause in [Cause::Jump, Cause::Call] {
        let (mut task, mut ram) = world();
        ram.is_raced = 3;
        assert!(switch_task(&mut task, NEXT, &by(cause), &mut ram).is_ok());
        assert_eq!((task.tr.selector, ram.is_raced), (NEW_TSS, 0));
        let (mut task, mut ram) = world();
        ram.is_raced = u32::MAX;
        assert_eq!(switch_task(&mut task, NEXT, &by(cause), &mut ram), Err(Stop::Crash));
        assert!(task == world().0 && ram.accesses.len() < 200);
    }
}

#[test]
fn double_faults() {
    const PF: u8 = 14;
    const DF: u8 = 8;
    let page = Stop::PageFault { address: 0x1000, error_code: 2 };
    let double = Some(fault(DF, 0));
    let during = |vector| Cause::Event(Delivered::Exception(vector));
    // #DE, #TS to #GP, #CP.
    for first in [0, TS, NP, SS_FAULT, GP, 21] {
        for second in [TS, NP, SS_FAULT, GP] {
            assert_eq!(during(first).combined(fault(second, 8)), double, "{first} {second}");
        }
        assert_eq!(during(first).combined(page), Some(page));
    }
    assert_eq!([during(PF).combined(page), during(PF).combined(fault(TS, 8))], [double, double]);
    assert_eq!([during(DF).combined(page), during(DF).combined(fault(TS, 8))], [None, None]);
    // Others, and what is no exception.
    for cause in [during(1), during(6), during(17), INTERRUPT, Cause::Event(Delivered::Software(13)), Cause::Iret] {
        assert_eq!([cause.combined(page), cause.combined(fault(TS, 8))], [Some(page), Some(fault(TS, 8))]);
    }
    assert_eq!(during(DF).combined(Stop::Crash), Some(Stop::Crash));
}
