//! The two 8259As, whose registers their records show, against a slow reading of the data sheet's priorities.

use fuzz::Random;
use vpic::Vpic;
use xen_abi::hvm_save::interrupts::{HwVpic, VPIC_AUTO_EOI, VPIC_MASTER, VPIC_SPECIAL_FULLY_NESTED, VPIC_SPECIAL_MASK};

const PORTS: [u16; 6] = [0x20, 0x21, 0xa0, 0xa1, 0x4d0, 0x4d1];
const CASCADE: u8 = 2;
const STEPS: u64 = 400;

fn bit(set: u8, line: u8) -> bool {
    set >> line & 1 != 0
}

/// The line that a chip interrupts for: the first, in the order of priorities, that is requested and not masked, unless one before it,
/// or it itself, is in service.
fn pending(chip: &HwVpic) -> Option<u8> {
    let is = |flag: u8| chip.flags() & flag != 0;
    for line in (0..8).map(|rank| (rank + chip.priority_add()) & 7) {
        let is_requested = bit(chip.irr & !chip.imr, line);
        // The slave's own priorities stand behind its line at the master, if that was told so.
        let is_slave = is(VPIC_SPECIAL_FULLY_NESTED) && is(VPIC_MASTER) && line == CASCADE;
        if is_requested && is_slave {
            return Some(line);
        }
        let is_ignored = is(VPIC_SPECIAL_MASK) && bit(chip.imr, line);
        if bit(chip.isr, line) && !is_ignored {
            return None;
        }
        if is_requested {
            return Some(line);
        }
    }
    None
}

fn check(pic: &Vpic) {
    let [master, slave] = pic.save();
    let output = |chip: &HwVpic| u8::from(pending(chip).is_some());
    assert_eq!((master.int_output, slave.int_output), (output(&master), output(&slave)), "{master:?} {slave:?}");
    assert_eq!(master.irr >> CASCADE & 1, slave.int_output, "the slave is on the master's line");
    assert_eq!(pic.output(), master.int_output != 0);
    // Timer, keyboard, clock and coprocessor are by edge; the slave's line is none that shows.
    assert_eq!((master.elcr & 3, slave.elcr & 0x21, master.elcr & 4), (0, 0, 4));
    assert_eq!((master.irq_base & 7, slave.irq_base & 7), (0, 0));
    let mut copy = Vpic::new();
    copy.load(0, &master).expect("its own record");
    copy.load(1, &slave).expect("its own record");
    assert_eq!(copy, *pic, "records hold it all");
}

/// Takes an interrupt: the one that has priority, from the chip that has it.
fn acknowledge(pic: &mut Vpic) -> u64 {
    let [master, slave] = pic.save();
    let expected = pending(&master).map(|line| match line {
        CASCADE => slave.irq_base | pending(&slave).expect("the slave has one"),
        _ => master.irq_base | line,
    });
    let taken = pic.acknowledge();
    assert_eq!(taken, expected);
    for (before, after) in [master, slave].iter().zip(pic.save()) {
        let (is_auto, served) = (before.flags() & VPIC_AUTO_EOI != 0, after.isr & !before.isr);
        assert!(served.count_ones() <= u32::from(!is_auto));
        assert_eq!(before.isr & !after.isr, 0, "an interrupt ended by itself");
        assert_eq!((before.imr, before.irq_base, before.elcr), (after.imr, after.irq_base, after.elcr));
        // But for the slave's line at the master, which follows it.
        let levels = before.elcr & !(1 << CASCADE);
        assert_eq!(before.irr & !after.irr & levels, 0, "a level was forgotten");
    }
    taken.is_some().into()
}

fn pull(r: &mut Random, pic: &mut Vpic) {
    let (irq, was) = (r.below(20) as u8, pic.output());
    let [master, slave] = pic.save();
    let is_line = irq < 16 && irq != CASCADE;
    if r.one_in(3) {
        pic.lower(irq);
        assert!(!is_line || !pic.is_requested(irq));
        assert!(!pic.output() || was || pic.save()[0].irr == master.irr, "an output rose as a line fell");
    } else {
        assert_eq!(pic.raise(irq), pic.output() && !was);
        assert!(!is_line || pic.is_requested(irq));
    }
    for (before, after) in [master, slave].iter().zip(pic.save()) {
        let unchanged = |chip: &HwVpic| (chip.imr, chip.isr, chip.flags(), chip.init_state(), chip.elcr);
        assert_eq!(unchanged(before), unchanged(&after));
    }
}

fn program(r: &mut Random, pic: &mut Vpic) {
    let port = if r.one_in(16) { r.next() as u16 } else { r.pick(&PORTS) };
    let (before, was) = (pic.save(), pic.output());
    let value = r.next() as u8;
    let effect = pic.write(port, value);
    assert_eq!(effect.output_rose, pic.output() && !was);
    let after = pic.save();
    let masks = |chips: &[HwVpic; 2]| u16::from_le_bytes([chips[0].imr, chips[1].imr]);
    assert_eq!(effect.unmasked, masks(&before) & !masks(&after));
    let number = usize::from(port >= 0xa0 && port != 0x4d0);
    if !PORTS.contains(&port) {
        assert_eq!(after, before, "port {port:#x}");
        return;
    }
    assert_eq!(after[1 - number].imr, before[1 - number].imr, "the other chip's mask");
    if matches!(port, 0x21 | 0xa1) && before[number].init_state() & 3 == 0 {
        assert_eq!(after[number].imr, value);
    }
    if matches!(port, 0x20 | 0xa0) && value & 0x10 != 0 {
        assert_eq!((after[number].imr, after[number].isr, after[number].init_state() & 3), (0, 0, 1), "ICW1");
    }
    if let Some(irq) = effect.ended {
        let chip = &after[usize::from(irq >> 3)];
        assert!(!bit(chip.isr, irq & 7), "interrupt {irq} goes on");
    }
}

fn read(r: &mut Random, pic: &mut Vpic) {
    let port = if r.one_in(8) { r.next() as u16 } else { r.pick(&PORTS) };
    let before = pic.save();
    let value = pic.read(port);
    let (again, after) = (pic.read(port), pic.save());
    match port {
        0x4d0 => assert_eq!(value, before[0].elcr & 0xf8),
        0x4d1 => assert_eq!(value, before[1].elcr & 0xde),
        0x20 | 0xa0 => {
            let chip = &after[usize::from(port >> 7)];
            assert!(again == chip.irr || again == chip.isr, "the second read is no poll");
        }
        0x21 | 0xa1 => assert_eq!(again, after[usize::from(port >> 7)].imr),
        _ => assert_eq!((value, after), (0xff, before)),
    }
}

fn load(r: &mut Random, pic: &mut Vpic) {
    let [irr, imr, isr, irq_base, state, flags, elcr, int_output] = r.bytes();
    let record = HwVpic { irr, imr, isr, irq_base, elcr, int_output, ..HwVpic::new(state & 15, state >> 4, flags) };
    let instance = r.below(3) as u16;
    assert_eq!(pic.load(instance, &record).is_ok(), instance < 2);
}

pub fn case(r: &mut Random) -> u64 {
    let mut pic = Vpic::new();
    let (mut taken, is_restored) = (0, r.one_in(4));
    for _ in 0..STEPS {
        match r.below(20) {
            0..=5 => program(r, &mut pic),
            6..=7 => read(r, &mut pic),
            8..=13 => pull(r, &mut pic),
            14 if is_restored => load(r, &mut pic),
            _ => taken += acknowledge(&mut pic),
        }
        check(&pic);
    }
    taken
}
