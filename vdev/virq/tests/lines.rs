//! Lines, their routes and what comes out of them.

use virq::{Bus, Callback, Controllers, Msi, Pending, Source, Virq, pci_gsi, pci_link};
use x86_defs::apic::{DeliveryMode, InterruptMessage};
use xen_abi::hvm_save::interrupts::HwPciIrqs;

#[derive(Default)]
struct Owner {
    sent: Vec<u8>,
    rose: usize,
    routes: usize,
    unmasked: usize,
    ended: Vec<u8>,
    bound: Option<u8>,
    events: usize,
}

impl Bus for Owner {
    fn send(&mut self, message: InterruptMessage) {
        self.sent.push(message.vector);
    }
    fn pic_rose(&mut self) {
        self.rose += 1;
    }
    fn pic_route_changed(&mut self) {
        self.routes += 1;
    }
    fn unmasked(&mut self) {
        self.unmasked += 1;
    }
    fn ended(&mut self, gsi: u8) {
        self.ended.push(gsi);
    }
    fn is_event_channel(&mut self, gsi: u8, rises: bool) -> bool {
        let bound = self.bound == Some(gsi);
        self.events += usize::from(bound && rises);
        bound
    }
}

const LEVEL: u32 = 1 << 15;

/// All pins unmasked with vector 0x40 + pin, PCI pins by level; the 8259s at vectors 0x20 and 0x28.
fn machine() -> (Virq, Owner) {
    let (mut virq, mut owner) = (Virq::new(Controllers::All), Owner::default());
    for pin in 1..48 {
        set_pin(&mut virq, &mut owner, pin, (0x40 + u32::from(pin)) | if pin < 16 { 0 } else { LEVEL });
    }
    for (port, base) in [(0x20, 0x20), (0xa0, 0x28)] {
        for (port, value) in [(port, 0x11), (port + 1, base), (port + 1, 0), (port + 1, 1)] {
            virq.write_pic(port, value, &mut owner);
        }
    }
    (virq, Owner::default())
}

fn set_pin(virq: &mut Virq, owner: &mut Owner, pin: u8, low: u32) {
    virq.write_ioapic(0, u32::from(0x10 + 2 * pin), owner);
    virq.write_ioapic(0x10, low, owner);
}

#[test]
fn isa_interrupts_reach_both_controllers() {
    let (mut virq, mut owner) = machine();
    virq.assert_isa(4, &mut owner);
    virq.assert_isa(4, &mut owner);
    assert_eq!((&owner.sent[..], owner.rose), (&[0x44][..], 1));
    assert_eq!(virq.acknowledge_pic(), Some(0x24));
    virq.deassert_isa(4, &mut owner);
    virq.assert_isa(4, &mut owner);
    assert_eq!((&owner.sent[..], owner.rose), (&[0x44, 0x44][..], 1), "the first is in service at the 8259");
    virq.assert_isa(0, &mut owner);
    assert_eq!(owner.sent.last(), Some(&0x42), "interrupt 0 is pin 2");
    virq.assert_isa(16, &mut owner);
    assert_eq!(owner.sent.len(), 3);
}

#[test]
fn pci_interrupts_are_routed() {
    assert_eq!([pci_gsi(0, 0), pci_gsi(3, 1), pci_gsi(8, 0), pci_gsi(31, 3)], [16, 29, 17, 18]);
    assert_eq!([pci_link(0, 0), pci_link(3, 2), pci_link(31, 3)], [0, 1, 2]);
    let (mut virq, mut owner) = machine();
    assert!(virq.set_link_route(0, 5, &mut owner));
    assert!(!virq.set_link_route(4, 5, &mut owner) && !virq.set_link_route(0, 16, &mut owner));
    virq.assert_pci(4, 0, &mut owner);
    assert_eq!((&owner.sent[..], owner.rose), (&[0x60, 0x45][..], 1), "pin 32, and link 0 to interrupt 5");
    virq.assert_pci(3, 1, &mut owner);
    assert_eq!(owner.sent[2..], [0x40 + 29], "the link is up already");
    virq.deassert_pci(4, 0, &mut owner);
    assert!(virq.pic().unwrap().output());
    assert!(virq.set_link_route(0, 0, &mut owner));
    assert!(!virq.pic().unwrap().output(), "a link without route");
    assert!(virq.set_link_route(0, 6, &mut owner));
    assert_eq!(
        (owner.sent[3..].to_vec(), virq.acknowledge_pic()),
        (vec![0x46], Some(0x26)),
        "a route to a raised link"
    );
    virq.assert_pci(32, 0, &mut owner);
    virq.assert_pci(0, 4, &mut owner);
    assert_eq!(owner.sent.len(), 4);
}

#[test]
fn shared_pins_fall_with_the_last_source() {
    let (mut virq, mut owner) = machine();
    virq.assert_pci(0, 0, &mut owner);
    virq.assert_gsi(16, &mut owner);
    virq.deassert_pci(0, 0, &mut owner);
    virq.eoi(0x50, &mut owner);
    assert_eq!((&owner.sent[..], &owner.ended[..]), (&[0x50, 0x50][..], &[16][..]), "still up, sent again");
    virq.deassert_gsi(16, &mut owner);
    virq.eoi(0x50, &mut owner);
    assert_eq!((owner.sent.len(), owner.ended.len()), (2, 2));
    virq.deassert_gsi(16, &mut owner);
    virq.assert_gsi(48, &mut owner);
    virq.deassert_gsi(255, &mut owner);
    virq.pulse_gsi(16, &mut owner);
    assert_eq!(owner.sent.len(), 3, "a pulse is one interrupt");
    virq.eoi(0x50, &mut owner);
    virq.assert_gsi(16, &mut owner);
    assert_eq!(owner.sent.len(), 4, "a release too many holds nothing back");
}

#[test]
fn writes_are_passed_on() {
    let (mut virq, mut owner) = machine();
    set_pin(&mut virq, &mut owner, 0, 0x700);
    assert_eq!((owner.routes, owner.unmasked), (1, 1));
    assert_eq!(virq.ioapic().unwrap().extint_destination(), Some(0));
    virq.write_pic(0x21, 0xff, &mut owner);
    virq.assert_isa(3, &mut owner);
    virq.write_pic(0x21, 0, &mut owner);
    assert_eq!((owner.unmasked, owner.rose, virq.read_pic(0x20)), (2, 1, 8));
    virq.write_pic(0x20, 0x63, &mut owner);
    assert_eq!(owner.ended, [3]);
}

#[test]
fn event_channels_take_pins_over() {
    let (mut virq, mut owner) = machine();
    owner.bound = Some(20);
    virq.assert_pci(1, 0, &mut owner);
    virq.pulse_gsi(20, &mut owner);
    assert_eq!((&owner.sent[..], owner.events), (&[][..], 2));
    assert_eq!(virq.ioapic().unwrap().lines(), 1 << 20, "the line is up all the same");
}

#[test]
fn callback_parameter() {
    let device = Callback::PciIntx { device: 3, intx: 1 };
    let cases = [
        (0, Callback::None),
        (28, Callback::Gsi(28)),
        (48, Callback::None),
        (1 << 56 | 3 << 11 | 1, device),
        (2 << 56 | 0xf3, Callback::Vector(0xf3)),
        (3 << 56 | 1, Callback::None),
        (0x102 << 48 | 0xff, Callback::PciIntx { device: 0, intx: 3 }),
    ];
    for (value, callback) in cases {
        assert_eq!(Callback::from_parameter(value), callback, "{value:#x}");
    }
}

#[test]
fn callback_as_a_line() {
    let (mut virq, mut owner) = machine();
    virq.set_callback(Callback::Gsi(9), &mut owner);
    virq.update_callback(true, &mut owner);
    virq.update_callback(true, &mut owner);
    assert_eq!((&owner.sent[..], owner.rose, virq.callback_asserted()), (&[0x49][..], 1, true));
    virq.set_callback(Callback::PciIntx { device: 3, intx: 0 }, &mut owner);
    assert_eq!((owner.sent[1..].to_vec(), virq.pic().unwrap().output()), (vec![0x40 + 28], false), "the line moved");
    assert_eq!(virq.save_pci(), HwPciIrqs { pad: [0, 0] }, "it is no device's");
    virq.update_callback(false, &mut owner);
    assert_eq!(virq.ioapic().unwrap().lines(), 0);
    owner.bound = Some(30);
    virq.set_callback(Callback::Gsi(30), &mut owner);
    virq.update_callback(true, &mut owner);
    assert_eq!((owner.events, owner.sent.last()), (0, Some(&0x5e)), "the signal of events is no event");
}

#[test]
fn pvh_guests_have_vectors_only() {
    let (mut virq, mut owner) = (Virq::new(Controllers::None), Owner::default());
    virq.set_callback(Callback::Gsi(9), &mut owner);
    assert_eq!(virq.callback(), Callback::None);
    virq.set_callback(Callback::Vector(0xf3), &mut owner);
    let pending = Pending { upcall: true, takes_pic: true, apic: Some(0xff), ..Pending::default() };
    assert_eq!(virq.next(pending), Source::Upcall(0xf3));
    virq.assert_isa(3, &mut owner);
    virq.write_ioapic(0x10, 0, &mut owner);
    virq.write_pic(0x20, 0, &mut owner);
    virq.eoi(0x40, &mut owner);
    assert_eq!((virq.read_ioapic(0), virq.read_pic(0x21), virq.acknowledge_pic()), (u32::MAX, 0xff, None));
    assert!(virq.save_pic().is_none() && virq.save_ioapic().is_none());
    let other = Virq::new(Controllers::All);
    assert!(virq.load_ioapic(&other.save_ioapic().unwrap()).is_err());
    assert!(virq.load_pic(0, &other.save_pic().unwrap()[0]).is_err());
}

#[test]
fn order_of_sources() {
    let (mut virq, mut owner) = machine();
    virq.set_callback(Callback::Vector(0xf3), &mut owner);
    virq.assert_isa(1, &mut owner);
    let mut pending = Pending { nmi: true, machine_check: true, upcall: true, takes_pic: true, apic: Some(0xee) };
    assert_eq!(virq.next(pending), Source::Nmi);
    pending.nmi = false;
    assert_eq!(virq.next(pending), Source::MachineCheck);
    pending.machine_check = false;
    assert_eq!(virq.next(pending), Source::Upcall(0xf3));
    pending.upcall = false;
    assert_eq!(virq.next(pending), Source::Pic);
    assert_eq!(virq.next(Pending { takes_pic: false, ..pending }), Source::Apic(0xee));
    assert_eq!(virq.acknowledge_pic(), Some(0x21));
    assert_eq!(virq.next(pending), Source::Apic(0xee));
    pending.apic = None;
    assert_eq!(virq.next(pending), Source::None);
}

#[test]
fn messages_of_devices() {
    let message = InterruptMessage {
        vector: 0x31,
        mode: DeliveryMode::LowestPriority,
        level: false,
        logical: true,
        destination: 3,
    };
    assert_eq!(Msi::decode(0xfee0_3004, 0x131), Some(Msi::Message(message)));
    assert_eq!(Msi::decode(0xfee0_3004, 0x431), None, "an NMI");
    assert_eq!(Msi::decode(0xfee0_3004, 0x331), None, "reserved");
    assert_eq!(Msi::decode(0x100_fee1_7000, 0), Some(Msi::Pirq(0x117)));
    assert_eq!(Msi::decode(0x1_fee0_0000, 0), None, "no interrupt's number");
    assert_eq!(Msi::decode(0x8000_0000_fee0_1000, 0), None, "a negative one");
}

#[test]
fn timer_line_is_its_own_though_its_pin_is_shared() {
    let (mut virq, mut owner) = machine();
    let is_up = |virq: &Virq| (virq.pic().unwrap().is_requested(0), virq.ioapic().unwrap().lines() >> 2 & 1 != 0);
    assert!(virq.set_link_route(0, 2, &mut owner));
    virq.assert_pci(0, 0, &mut owner);
    assert_eq!((is_up(&virq), owner.rose), ((false, true), 0));
    virq.assert_isa(0, &mut owner);
    assert_eq!((is_up(&virq), owner.rose), ((true, true), 1));
    virq.deassert_isa(0, &mut owner);
    assert_eq!(is_up(&virq), (false, true));
    virq.deassert_pci(0, 0, &mut owner);
    assert_eq!(is_up(&virq), (false, false));
}
