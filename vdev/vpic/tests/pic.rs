//! The 8259s, command by command, and against a model; then anything at all. `PROPTEST_CASES` sets how many.

use vpic::{Effect, Vpic};
use xen_abi::hvm_save::interrupts::HwVpic;

const MASTER: u16 = 0x20;
const SLAVE: u16 = 0xa0;

fn effect() -> Effect {
    Effect::default()
}

/// As a PC's firmware leaves them: vectors 0x20 and 0x28, ICW4 as given, nothing masked.
fn programmed(icw4: u8) -> Vpic {
    let mut pic = Vpic::new();
    for (port, base, wiring) in [(MASTER, 0x27, 4), (SLAVE, 0x28, 2)] {
        assert_eq!(pic.write(port, 0x11), effect());
        for value in [base, wiring, icw4] {
            assert_eq!(pic.write(port + 1, value), effect());
        }
    }
    pic
}

fn end(pic: &mut Vpic, port: u16) {
    let _ = pic.write(port, 0x20);
}

/// Request, in-service and mask register of a chip.
fn registers(pic: &mut Vpic, port: u16) -> [u8; 3] {
    let _ = pic.write(port, 0x0a);
    let request = pic.read(port);
    let _ = pic.write(port, 0x0b);
    [request, pic.read(port), pic.read(port + 1)]
}

#[test]
fn vectors_and_cascade() {
    let mut pic = programmed(1);
    assert!(pic.raise(4) && !pic.raise(9), "the output rises once");
    assert_eq!(registers(&mut pic, MASTER), [0x14, 0, 0]);
    assert_eq!(pic.acknowledge(), Some(0x29), "the slave's line is 2");
    assert_eq!((registers(&mut pic, MASTER)[1], registers(&mut pic, SLAVE)[1]), (4, 2));
    assert_eq!(pic.acknowledge(), None, "4 is below 2");
    end(&mut pic, SLAVE);
    end(&mut pic, MASTER);
    assert_eq!(pic.acknowledge(), Some(0x24));
    assert!(pic.raise(0), "0 is above 4");
    assert_eq!(pic.acknowledge(), Some(0x20));
    end(&mut pic, MASTER);
    assert_eq!(registers(&mut pic, MASTER)[1], 0x10, "the highest ends first");
    assert!(!pic.raise(2) && !pic.raise(16), "no such lines");
}

#[test]
fn specific_ends_tell_their_line() {
    let mut pic = programmed(1);
    pic.raise(13);
    assert_eq!(pic.acknowledge(), Some(0x2d));
    assert_eq!(pic.write(SLAVE, 0x65), Effect { ended: Some(13), ..effect() });
    assert_eq!(pic.write(MASTER, 0x62).ended, Some(2));
    assert_eq!((registers(&mut pic, MASTER)[1], registers(&mut pic, SLAVE)[1]), (0, 0));
}

#[test]
fn masks() {
    let mut pic = programmed(1);
    assert_eq!(pic.write(MASTER + 1, 0xfb), effect());
    assert_eq!(pic.write(SLAVE + 1, 0xf0), effect());
    assert!(!pic.raise(4) && !pic.raise(12));
    assert!(pic.is_masked(4) && !pic.is_masked(9) && pic.is_masked(12));
    assert_eq!((pic.vector(4), pic.vector(12)), (0x24, 0x2c));
    assert_eq!(pic.write(SLAVE + 1, 0xe0), Effect { output_rose: true, unmasked: 1 << 12, ended: None });
    pic.lower(12);
    assert!(!pic.output(), "a request that goes away");
    assert_eq!(pic.write(MASTER + 1, 0).unmasked, 0xfb);
    assert_eq!(pic.acknowledge(), Some(0x24));
}

#[test]
fn level_lines_ask_again() {
    let mut pic = programmed(1);
    assert_eq!((pic.write(0x4d0, 0xff), pic.write(0x4d1, 0xff)), (effect(), effect()));
    assert_eq!((pic.read(0x4d0), pic.read(0x4d1)), (0xf8, 0xde), "some lines are edges for ever");
    pic.raise(5);
    pic.raise(1);
    assert_eq!(pic.acknowledge(), Some(0x21));
    end(&mut pic, MASTER);
    assert_eq!(pic.acknowledge(), Some(0x25));
    end(&mut pic, MASTER);
    assert_eq!(pic.acknowledge(), Some(0x25), "still high");
    pic.lower(5);
    end(&mut pic, MASTER);
    assert_eq!(pic.acknowledge(), None);
    pic.raise(5);
    pic.raise(1);
    let _ = pic.write(MASTER, 0x11);
    assert_eq!(registers(&mut pic, MASTER)[0], 0x20, "ICW1 forgets edges");
}

#[test]
fn automatic_end() {
    let mut pic = programmed(3);
    pic.raise(3);
    assert_eq!(pic.acknowledge(), Some(0x23));
    assert_eq!(registers(&mut pic, MASTER)[1], 0);
    let _ = pic.write(MASTER, 0x80);
    pic.raise(3);
    assert_eq!(pic.acknowledge(), Some(0x23));
    pic.raise(3);
    pic.raise(4);
    assert_eq!(pic.acknowledge(), Some(0x24), "3 is lowest now");
    let _ = pic.write(MASTER, 0x00);
    pic.raise(5);
    assert_eq!(pic.acknowledge(), Some(0x25));
    pic.raise(5);
    assert_eq!(pic.acknowledge(), Some(0x25), "5 is still highest: no rotation");
}

#[test]
fn rotation() {
    let mut pic = programmed(1);
    let _ = pic.write(MASTER, 0xc3);
    pic.raise(3);
    pic.raise(4);
    assert_eq!(pic.acknowledge(), Some(0x24), "3 was set lowest");
    let _ = pic.write(MASTER, 0xa0);
    pic.raise(4);
    pic.raise(5);
    assert_eq!(pic.acknowledge(), Some(0x25), "4 ended and is lowest");
    assert_eq!(pic.write(MASTER, 0xe5).ended, Some(5));
    pic.raise(5);
    assert_eq!(pic.acknowledge(), Some(0x23));
}

#[test]
fn special_mask_mode() {
    let mut pic = programmed(1);
    pic.raise(1);
    assert_eq!(pic.acknowledge(), Some(0x21));
    let _ = pic.write(MASTER + 1, 2);
    pic.raise(6);
    assert_eq!(pic.acknowledge(), None);
    assert!(pic.write(MASTER, 0x68).output_rose, "what is masked does not block");
    assert_eq!(pic.acknowledge(), Some(0x26));
    end(&mut pic, MASTER);
    assert_eq!(registers(&mut pic, MASTER)[1], 2, "nor does it end without a name");
    let _ = pic.write(MASTER, 0x48);
    pic.raise(6);
    assert_eq!(pic.acknowledge(), None);
}

#[test]
fn special_fully_nested_mode() {
    let mut pic = programmed(0x11);
    pic.raise(14);
    assert_eq!(pic.acknowledge(), Some(0x2e));
    assert!(pic.raise(8), "a higher line of the slave comes through");
    assert_eq!(pic.acknowledge(), Some(0x28));
    let mut plain = programmed(1);
    plain.raise(14);
    assert_eq!((plain.acknowledge(), plain.raise(8)), (Some(0x2e), false));
}

#[test]
fn polling() {
    let mut pic = programmed(1);
    let _ = pic.write(MASTER, 0x0c);
    assert_eq!(pic.read(MASTER), 0, "nothing");
    pic.raise(10);
    let _ = pic.write(MASTER, 0x0c);
    assert_eq!(pic.read(MASTER + 1), 0x82);
    let _ = pic.write(SLAVE, 0x0c);
    assert_eq!((pic.read(SLAVE), pic.read(SLAVE + 1)), (0x82, 0));
    assert_eq!((pic.output(), registers(&mut pic, SLAVE)[1]), (false, 4), "a poll acknowledges");
}

#[test]
fn short_initialisations() {
    let mut pic = programmed(0x13);
    let _ = pic.write(MASTER, 0x12);
    let _ = pic.write(MASTER + 1, 0x50);
    let _ = pic.write(MASTER + 1, 0xaa);
    assert_eq!(pic.read(MASTER + 1), 0xaa, "alone and without ICW4: a mask");
    pic.raise(0);
    assert_eq!(pic.acknowledge(), Some(0x50));
    assert_eq!(registers(&mut pic, MASTER)[1], 1, "no automatic end without ICW4");
    assert_eq!((pic.read(0x22), pic.write(0x22, 0xff)), (0xff, effect()), "not a port");
}

#[test]
fn records() {
    let mut pic = programmed(0x13);
    let _ = pic.write(MASTER, 0xc3);
    let _ = pic.write(SLAVE, 0x13);
    pic.raise(1);
    let [master, slave] = pic.save();
    assert_eq!((master.init_state(), master.priority_add(), master.irq_base), (0, 4, 0x20));
    assert_eq!((master.flags(), master.irr, master.int_output), (0b101_0100, 2, 1));
    assert_eq!((slave.init_state(), slave.flags()), (1 | 8 | 4, 0b001_0100));
    assert!(Vpic::new().load(2, &slave).is_err());
}

#[test]
fn derived_state_of_records_is_not_believed() {
    let mut pic = Vpic::new();
    let record = HwVpic { irr: 4, int_output: 1, elcr: 0xff, ..HwVpic::new(0xff, 0xff, 0xff) };
    pic.load(0, &record).unwrap();
    assert_eq!((pic.output(), pic.acknowledge(), pic.read(0x4d0)), (false, None, 0xf8));
}
