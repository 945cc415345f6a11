//! The two-level ABI, against a model of its bits; upcalls, polls, and registered `vcpu_info`.

mod common;

use common::{MASK, PENDING, SPARE, World, bit, send, set_bit, table};
use evtchn::Raised;
use platform::fakes::FakeMachine;
use platform::{Frames, Table};
use proptest::prelude::*;
use types::{DomId, Errno, Mfn, VcpuId};

fn upcall_byte(table: &Table, vcpu: usize) -> u8 {
    let mut byte = [0];
    platform::read_bytes(table, vcpu * 64, &mut byte);
    byte[0]
}

#[test]
fn an_event_sets_pending_then_selector_then_upcall() {
    let m = FakeMachine::new(32);
    let t = table(1, 2, 200);
    let shared = m.table(Mfn(1)).unwrap();
    for _ in 0..130 {
        t.bind_ipi(&m, 1).unwrap();
    }
    assert_eq!(t.set_pending(&m, 70).upcall, Some(VcpuId(1)));
    assert!(bit(shared, PENDING, 70) && bit(shared, 64 + 8, 1));
    assert_eq!(upcall_byte(shared, 1), 1);
    assert_eq!(t.set_pending(&m, 71).upcall, None, "the selector bit is set already");
    assert_eq!(t.set_pending(&m, 129).upcall, None, "the upcall is pending already");
    assert!(bit(shared, 64 + 8, 2));
    set_bit(shared, MASK, 5, true);
    assert_eq!(t.set_pending(&m, 5).upcall, None);
    assert!(bit(shared, PENDING, 5) && !bit(shared, 64 + 8, 0));
    set_bit(shared, 64, 0, false);
    assert_eq!(t.unmask(&m, 5).unwrap().upcall, Some(VcpuId(1)));
    assert!(!t.is_masked(&m, 5) && t.is_masked(&m, 199));
    assert_eq!(t.unmask(&m, 5).unwrap().upcall, None);
}

#[test]
fn narrow_guests_have_words_of_32_bits() {
    let m = FakeMachine::new(32);
    let t = table(1, 1, 200);
    t.set_narrow(true);
    let shared = m.table(Mfn(1)).unwrap();
    for _ in 0..40 {
        t.bind_ipi(&m, 0).unwrap();
    }
    assert_eq!(t.set_pending(&m, 33).upcall, Some(VcpuId(0)));
    assert!(bit(shared, PENDING, 33) && bit(shared, 4, 1));
    set_bit(shared, 2048 + 128, 34, true);
    let _ = t.set_pending(&m, 34);
    assert!(t.is_masked(&m, 34) && bit(shared, PENDING, 34));
}

#[test]
fn upcalls_are_due_when_pending_and_not_masked() {
    let m = FakeMachine::new(32);
    let t = table(1, 1, 200);
    let vcpu = VcpuId(0);
    assert!(!t.upcall_due(&m, vcpu));
    assert!(t.mark_upcall(&m, vcpu));
    assert!(t.upcall_due(&m, vcpu));
    t.set_upcall_mask(&m, vcpu, true);
    assert!(!t.upcall_due(&m, vcpu));
    assert_eq!(t.upcall_state(&m, vcpu), (true, true));
    t.set_upcall_mask(&m, vcpu, false);
    assert!(t.upcall_due(&m, vcpu) && !t.upcall_due(&m, VcpuId(7)));
}

#[test]
fn registering_vcpu_info_moves_it_and_loses_nothing() {
    let m = FakeMachine::new(32);
    let t = table(1, 40, 200);
    let check = |vcpu, offset| t.register_vcpu_info(&m, VcpuId(vcpu), Mfn(SPARE), offset);
    assert_eq!(check(40, 0), Err(Errno::NOENT));
    assert_eq!(check(0, 4096), Err(Errno::INVAL));
    assert_eq!(check(0, 4040), Err(Errno::NXIO));
    assert_eq!(check(0, 4), Err(Errno::NXIO));
    assert_eq!(t.register_vcpu_info(&m, VcpuId(0), Mfn(999), 0), Err(Errno::INVAL));

    // vCPU 0 brings what it had, vCPU 39 had none: events for it were kept in the bitmap only.
    let late = t.bind_ipi(&m, 39).unwrap();
    assert_eq!(t.set_pending(&m, late), Raised { port: late, ..Raised::default() });
    platform::write_bytes(m.table(Mfn(1)).unwrap(), 16, &[7; 48]);
    assert_eq!(check(0, 64), Ok(()));
    assert_eq!(check(39, 128), Ok(()));
    assert_eq!(check(0, 64), Err(Errno::BUSY));
    let area = m.table(Mfn(SPARE)).unwrap();
    let mut bytes = [0; 128];
    platform::read_bytes(area, 64, &mut bytes);
    assert_eq!(bytes[..2], [1, 0]);
    assert_eq!(bytes[8..16], [0xff; 8]);
    assert_eq!(bytes[16..64], [7; 48]);
    assert_eq!(bytes[64..66], [1, 1], "upcalls are masked at first");
    assert_eq!(bytes[72..80], [0xff; 8]);
    assert_eq!(t.vcpu_info(VcpuId(0)), Some((Mfn(SPARE), 64)));

    // Events go to the new place.
    platform::write_bytes(area, 64, &[0; 16]);
    let port = t.bind_ipi(&m, 0).unwrap();
    assert_eq!(t.set_pending(&m, port).upcall, Some(VcpuId(0)));
    assert!(bit(area, 64 + 8, 0));
    assert_eq!(t.unregister_vcpu_info(VcpuId(0)), Some(Mfn(SPARE)));
    assert_eq!(t.unregister_vcpu_info(VcpuId(0)), None);
    assert_eq!(t.vcpu_info(VcpuId(0)), None);
}

#[test]
fn pollers_are_named_once() {
    let m = FakeMachine::new(32);
    let t = table(1, 4, 5000);
    let ports: Vec<_> = (0..3).map(|_| t.bind_ipi(&m, 0).unwrap()).collect();
    assert_eq!(t.begin_poll(&m, VcpuId(4), &[1]), Err(Errno::NOENT));
    assert_eq!(t.begin_poll(&m, VcpuId(0), &[4096]), Err(Errno::INVAL));
    assert!(!t.set_pending(&m, ports[2]).pollers, "nobody polls");
    assert_eq!(t.begin_poll(&m, VcpuId(0), &[ports[0], ports[2]]), Ok(false));
    assert_eq!(t.begin_poll(&m, VcpuId(1), &[ports[0]]), Ok(true));
    assert_eq!(t.begin_poll(&m, VcpuId(2), &[ports[1]]), Ok(true));
    assert_eq!(t.begin_poll(&m, VcpuId(3), &[ports[0], ports[1]]), Ok(true));
    assert!(t.set_pending(&m, ports[0]).pollers);
    assert_eq!(t.take_pollers(ports[0]).collect::<Vec<_>>(), [VcpuId(1), VcpuId(3)]);
    assert_eq!(t.take_pollers(ports[0]).count(), 0);
    assert!(!t.set_pending(&m, ports[0]).pollers, "it was pending already");
    assert!(t.end_poll(VcpuId(2)) && !t.end_poll(VcpuId(2)) && !t.end_poll(VcpuId(3)));
    assert!(!t.set_pending(&m, ports[1]).pollers);
}

#[derive(Clone, Debug)]
enum Step {
    Send(u32),
    Mask(u32, bool),
    Unmask(u32),
    Take(u32),
    Move(u32, u32),
    Reopen(u32),
}

fn step() -> impl Strategy<Value = Step> {
    let port = 1..90_u32;
    prop_oneof![
        4 => port.clone().prop_map(Step::Send),
        1 => (port.clone(), any::<bool>()).prop_map(|(port, on)| Step::Mask(port, on)),
        1 => port.clone().prop_map(Step::Unmask),
        2 => (0..2_u32).prop_map(Step::Take),
        1 => (port.clone(), 0..2_u32).prop_map(|(port, vcpu)| Step::Move(port, vcpu)),
        1 => port.prop_map(Step::Reopen),
    ]
}

/// Takes a vCPU's upcall as a guest does: upcall byte, selector, pending words; the ports found.
fn take(shared: &Table, vcpu: usize) -> Vec<u32> {
    platform::write_bytes(shared, vcpu * 64, &[0]);
    let selector = shared[vcpu * 8 + 1].swap(0, std::sync::atomic::Ordering::SeqCst);
    let words = (0..64).filter(|word| selector >> word & 1 != 0);
    let ports: Vec<u32> = words.flat_map(|word| word * 64..word * 64 + 64).collect();
    let found: Vec<u32> =
        ports.into_iter().filter(|&port| bit(shared, PENDING, port) && !bit(shared, MASK, port)).collect();
    found.iter().for_each(|&port| set_bit(shared, PENDING, port, false));
    found
}

proptest! {
    /// Pending bits equal a model's; a vCPU is kicked exactly when its upcall byte goes from 0 to 1; and each event that is
    /// pending and unmasked is within what some vCPU will look at.
    #[test]
    fn bits_follow_the_model(steps in prop::collection::vec(step(), 1..200)) {
        let m = FakeMachine::new(32);
        let (a, b) = (table(1, 1, 100), table(2, 2, 100));
        let world = World { domains: vec![&a, &b], ..World::default() };
        let shared = m.table(Mfn(2)).unwrap();
        for port in 1..90 {
            prop_assert_eq!(a.alloc_unbound(&m, DomId(2)), Ok(port));
            prop_assert_eq!(b.bind_interdomain(&m, &a, port).unwrap().0, port);
        }
        take(shared, 0);
        let mut pending = [false; 90];
        let mut masked = [false; 90];
        for step in steps {
            let before = [upcall_byte(shared, 0), upcall_byte(shared, 1)];
            let raised = match step {
                Step::Send(port) => {
                    let raised = send(&m, &world, &a, port).unwrap();
                    pending[port as usize] = true;
                    raised
                }
                Step::Mask(port, on) => {
                    // Unmasking goes through the hypervisor, as guests do for other vCPUs' ports.
                    masked[port as usize] |= on;
                    if on {
                        set_bit(shared, MASK, port, true);
                    }
                    Raised::default()
                }
                Step::Unmask(port) => {
                    masked[port as usize] = false;
                    b.unmask(&m, port).unwrap()
                }
                Step::Take(vcpu) => {
                    for port in take(shared, vcpu as usize) {
                        prop_assert!(pending[port as usize] && !masked[port as usize]);
                        pending[port as usize] = false;
                    }
                    continue;
                }
                Step::Move(port, vcpu) => {
                    // A guest masks a port while it moves it, and unmasks it through the hypervisor.
                    set_bit(shared, MASK, port, true);
                    b.bind_vcpu(port, vcpu).unwrap();
                    masked[port as usize] = false;
                    b.unmask(&m, port).unwrap()
                }
                Step::Reopen(port) => {
                    b.close(&m, &world, port).unwrap();
                    prop_assert!(!bit(shared, PENDING, port));
                    let (again, raised) = b.bind_interdomain(&m, &a, port).unwrap();
                    prop_assert_eq!(again, port);
                    pending[port as usize] = true;
                    raised
                }
            };
            for (vcpu, before) in before.into_iter().enumerate() {
                let rose = before == 0 && upcall_byte(shared, vcpu) == 1;
                prop_assert_eq!(rose, raised.upcall == Some(VcpuId(vcpu as u32)));
            }
            for port in 1..90_u32 {
                prop_assert_eq!(bit(shared, PENDING, port), pending[port as usize]);
                if pending[port as usize] && !masked[port as usize] {
                    let seen = (0..2).any(|vcpu| {
                        upcall_byte(shared, vcpu) == 1 && bit(shared, vcpu * 64 + 8, port / 64)
                    });
                    prop_assert!(seen, "port {} is pending and nobody will look", port);
                }
            }
        }
    }
}
