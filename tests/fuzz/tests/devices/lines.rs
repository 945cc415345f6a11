//! Interrupt lines: random devices and guests, and a recount of who holds which pin up.

use fuzz::Random;
use virq::{Bus, Callback, Controllers, Msi, Pending, Source, Virq, isa_gsi, pci_gsi, pci_link};
use x86_defs::apic::{DeliveryMode, InterruptMessage};
use xen_abi::hvm_save::interrupts::{HwIsaIrqs, HwPciIrqs, HwPciLink};

const STEPS: u64 = 200;
const PINS: u8 = 48;
const LEVEL: u32 = 1 << 15;

/// Notes what it is told.
#[derive(Default)]
struct Owner {
    messages: Vec<InterruptMessage>,
    rose: usize,
    unmasked: usize,
    ended: Vec<u8>,
    events: usize,
    /// The pin whose interrupt goes to an event channel.
    bound: Option<u8>,
}

impl Bus for Owner {
    fn send(&mut self, message: InterruptMessage) {
        self.messages.push(message);
    }
    fn pic_rose(&mut self) {
        self.rose += 1;
    }
    fn unmasked(&mut self) {
        self.unmasked += 1;
    }
    fn ended(&mut self, gsi: u8) {
        self.ended.push(gsi);
    }
    fn is_event_channel(&mut self, gsi: u8, rises: bool) -> bool {
        let is_bound = self.bound == Some(gsi);
        self.events += usize::from(is_bound && rises);
        is_bound
    }
}

struct Board {
    virq: Virq,
    /// How many hold a pin of the I/O APIC alone, which is none of the first 16.
    gsis: [u16; PINS as usize],
    is_pending: bool,
    /// Its records may be anybody's.
    is_restored: bool,
}

impl Board {
    /// All pins unmasked with vector 0x40 and its number, those of PCI by level; the 8259s at vectors 0x20 and 0x28.
    fn new() -> Board {
        let (mut virq, mut owner) = (Virq::new(Controllers::All), Owner::default());
        for pin in 1..PINS {
            virq.write_ioapic(0, 0x10 + 2 * u32::from(pin), &mut owner);
            let level = if pin < 16 { 0 } else { LEVEL };
            virq.write_ioapic(0x10, (0x40 + u32::from(pin)) | level, &mut owner);
        }
        for (port, base) in [(0x20, 0x20), (0xa0, 0x28)] {
            for (port, value) in [(port, 0x11), (port + 1, base), (port + 1, 0), (port + 1, 1)] {
                virq.write_pic(port, value, &mut owner);
            }
        }
        Board { virq, gsis: [0; PINS as usize], is_pending: false, is_restored: false }
    }

    /// How many hold each pin up, from the lines' records.
    fn holders(&self) -> [u16; PINS as usize] {
        let mut count = self.gsis;
        let (pci, isa, links) = (self.virq.save_pci(), self.virq.save_isa(), self.virq.save_links());
        let mut links_up = [false; 4];
        for (device, intx) in (0..32).flat_map(|device| (0..4).map(move |intx| (device, intx))) {
            let at = device * 4 + intx;
            if pci.pad[usize::from(at / 64)] >> (at % 64) & 1 != 0 {
                count[usize::from(pci_gsi(device, intx))] += 1;
                links_up[usize::from(pci_link(device, intx))] = true;
            }
        }
        let routes = links.route.iter().zip(links_up).filter(|(irq, up)| **irq != 0 && *up);
        routes.for_each(|(irq, _)| count[usize::from(*irq)] += 1);
        (0..16).filter(|irq| isa.pad[0] >> irq & 1 != 0).for_each(|irq| count[usize::from(isa_gsi(irq))] += 1);
        count
    }

    fn check(&self) {
        // The line of event channels is in no record.
        let mut quiet = Board { virq: self.virq.clone(), ..*self };
        quiet.virq.update_callback(false, &mut Owner::default());
        let up = |board: &Board| board.virq.ioapic().expect("there is one").lines();
        let held = quiet.holders().iter().enumerate().fold(0, |up, (pin, count)| up | u64::from(*count != 0) << pin);
        assert_eq!(up(&quiet), held, "pins");
        let moved = up(self) & !held;
        // An INTx has its own pin, and that of its link's route.
        assert!(moved.count_ones() <= 2 * u32::from(self.virq.callback_asserted()));
        assert_eq!(self.virq.callback_asserted(), self.is_pending);
    }

    /// All lines let go: nothing stays up.
    fn check_release(mut self, is_bound: bool) {
        let owner = &mut Owner::default();
        self.virq.update_callback(false, owner);
        for device in 0..32 {
            (0..4).for_each(|intx| self.virq.deassert_pci(device, intx, owner));
        }
        (0..16).for_each(|irq| self.virq.deassert_isa(irq, owner));
        for (gsi, count) in (0..).zip(self.gsis) {
            (0..count).for_each(|_| self.virq.deassert_gsi(gsi, owner));
        }
        assert_eq!(self.virq.ioapic().expect("there is one").lines(), 0);
        // What goes to an event channel is not let go at the 8259s, as on Xen; line 2 is the slave's.
        let pic = self.virq.pic().expect("there are two");
        let requested: Vec<u8> = (0..16).filter(|irq| *irq != 2 && pic.is_requested(*irq)).collect();
        assert!(is_bound || requested.is_empty(), "{requested:?}");
    }

    /// What was saved and loaded is the same, but for lines that are in no record.
    fn check_records(&self) {
        let mut from = self.virq.clone();
        from.update_callback(false, &mut Owner::default());
        for (gsi, count) in (0..).zip(self.gsis) {
            (0..count).for_each(|_| from.deassert_gsi(gsi, &mut Owner::default()));
        }
        let mut copy = Virq::new(Controllers::All);
        for (instance, pic) in (0..).zip(from.save_pic().expect("there are two")) {
            copy.load_pic(instance, &pic).expect("its own record");
        }
        copy.load_ioapic(&from.save_ioapic().expect("there is one")).expect("its own record");
        copy.load_pci(&from.save_pci());
        copy.load_isa(&from.save_isa());
        copy.load_links(&from.save_links()).expect("its own record");
        assert_eq!((copy.ioapic(), copy.pic()), (from.ioapic(), from.pic()));
    }

    fn load(&mut self, r: &mut Random) {
        self.virq.load_pci(&HwPciIrqs { pad: [r.next(), r.next()] });
        self.virq.load_isa(&HwIsaIrqs { pad: [r.next()] });
        let route = if r.one_in(2) { r.bytes() } else { r.bytes().map(|irq: u8| irq & 15) };
        let loaded = self.virq.load_links(&HwPciLink { route, pad0: [0; 4] });
        assert_eq!(loaded.is_ok(), route.iter().all(|irq| *irq < 16));
        // Lines that others hold are theirs to raise again.
        (self.gsis, self.is_pending) = ([0; PINS as usize], false);
    }
}

fn pull(r: &mut Random, board: &mut Board, owner: &mut Owner) {
    let (virq, up) = (&mut board.virq, !r.one_in(2));
    let is_free = virq.save_isa().pad[0] & 1 == 0;
    let (device, intx, irq, gsi) = (r.below(34) as u8, r.below(5) as u8, r.below(18) as u8, 16 + r.below(34) as u8);
    match (r.below(9), up) {
        (0..=3, true) => virq.assert_pci(device, intx, owner),
        (0..=3, false) => virq.deassert_pci(device, intx, owner),
        (4..=6, true) => virq.assert_isa(irq, owner),
        (4..=6, false) => virq.deassert_isa(irq, owner),
        (_, true) => {
            virq.assert_gsi(gsi, owner);
            board.gsis.get_mut(usize::from(gsi)).into_iter().for_each(|count| *count += 1);
        }
        (_, false) => {
            let held = board.gsis.get_mut(usize::from(gsi)).filter(|count| **count != 0);
            if let Some(count) = held {
                virq.deassert_gsi(gsi, owner);
                *count -= 1;
            }
        }
    }
    let is_requested = board.virq.pic().is_some_and(|pic| pic.is_requested(0));
    let has_risen = is_free && board.virq.save_isa().pad[0] & 1 != 0;
    assert!(!has_risen || is_requested, "the timer's edge got lost");
    assert!(owner.messages.len() <= 2, "one line, {} messages", owner.messages.len());
}

fn callback(r: &mut Random, board: &mut Board, owner: &mut Owner) {
    if r.one_in(2) {
        board.is_pending = r.one_in(2);
        board.virq.update_callback(board.is_pending, owner);
        return;
    }
    let low = if r.one_in(2) { r.below(64) } else { r.below(1 << 16) };
    let callback = Callback::from_parameter(r.below(4) << 56 | low);
    board.virq.set_callback(callback, owner);
    assert_eq!(board.virq.callback(), callback);
}

fn program(r: &mut Random, board: &mut Board, owner: &mut Owner) {
    let virq = &mut board.virq;
    match r.below(3) {
        0 => virq.write_ioapic(r.pick(&[0, 0x10]), r.value() as u32, owner),
        1 => virq.write_pic(r.pick(&[0x20, 0x21, 0xa0, 0xa1, 0x4d0, 0x4d1]), r.next() as u8, owner),
        _ => _ = virq.read_pic(r.pick(&[0x20, 0x21, 0xa0, 0xa1])),
    }
    assert!(owner.messages.len() <= 1 && owner.unmasked <= 1 && owner.rose <= 1);
}

/// The order in which a vCPU takes what is pending.
fn check_next(r: &mut Random, virq: &Virq) {
    let [nmi, machine_check, upcall, takes_pic] = [(); 4].map(|()| r.one_in(3));
    let apic = r.one_in(2).then_some(r.next() as u8);
    let vector = match virq.callback() {
        Callback::Vector(vector) if upcall => Some(Source::Upcall(vector)),
        _ => None,
    };
    let has_one = takes_pic && virq.pic().is_some_and(|pic| pic.output());
    let all = [
        nmi.then_some(Source::Nmi),
        machine_check.then_some(Source::MachineCheck),
        vector,
        has_one.then_some(Source::Pic),
        apic.map(Source::Apic),
    ];
    let first = all.into_iter().flatten().next().unwrap_or(Source::None);
    assert_eq!(virq.next(Pending { nmi, machine_check, upcall, takes_pic, apic }), first);
    if let Some(Msi::Message(message)) = Msi::decode(r.next(), r.next() as u32) {
        assert!(message.vector != 0 && matches!(message.mode, DeliveryMode::Fixed | DeliveryMode::LowestPriority));
    }
}

fn step(r: &mut Random, board: &mut Board, owner: &mut Owner) {
    match r.below(32) {
        0..=12 => pull(r, board, owner),
        13..=15 => {
            let (link, irq) = (r.below(5) as u8, r.below(18) as u8);
            assert_eq!(board.virq.set_link_route(link, irq, owner), link < 4 && irq < 16);
        }
        16..=19 => callback(r, board, owner),
        20..=23 => program(r, board, owner),
        24..=26 => {
            let ioapic = board.virq.ioapic().expect("there is one").clone();
            let vector = if r.one_in(4) { r.next() as u8 } else { 0x40 + r.below(48) as u8 };
            board.virq.eoi(vector, owner);
            let sent = |pin: &u8| ioapic.entry(*pin).0 & 1 << 14 != 0 && ioapic.entry(*pin).vector() == vector;
            assert_eq!(owner.ended, (0..PINS).filter(sent).collect::<Vec<u8>>());
            assert!(owner.messages.len() <= owner.ended.len());
        }
        27..=28 => {
            let has_one = board.virq.pic().is_some_and(|pic| pic.output());
            assert_eq!(board.virq.acknowledge_pic().is_some(), has_one);
        }
        29 if board.is_restored && r.one_in(20) => board.load(r),
        30 if r.one_in(20) => {
            let lines = board.virq.ioapic().expect("there is one").lines();
            board.virq.reset();
            assert_eq!(board.virq.ioapic().expect("there is one").lines(), lines);
        }
        _ => check_next(r, &board.virq),
    }
}

pub fn case(r: &mut Random) -> u64 {
    let mut board = Board { is_restored: r.one_in(4), ..Board::new() };
    let bound = r.one_in(2).then_some(r.below(48) as u8);
    let mut reached = 0;
    for _ in 0..STEPS {
        let mut owner = Owner { bound, ..Owner::default() };
        step(r, &mut board, &mut owner);
        reached += owner.messages.len() as u64;
        board.check();
    }
    board.check_records();
    let is_restored = board.is_restored;
    board.check_release(bound.is_some() || is_restored);
    reached
}
