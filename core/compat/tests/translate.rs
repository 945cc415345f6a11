//! Calls as a 32-bit guest makes them, and as they arrive at the families.

use compat::{Window, is_in_window, translate};
use hypercall::{Args, Outcome};
use platform::{GuestMemory, Preempt};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use types::{Errno, Result};
use xen_abi::compat as narrow;
use xen_abi::grant_table::*;
use xen_abi::memory::*;
use xen_abi::sched::{Poll, SCHEDOP_POLL};
use xen_abi::vcpu::{RunstateInfo, VCPUOP_GET_RUNSTATE_INFO, VCPUOP_REGISTER_RUNSTATE_PHYS_AREA};
use xen_abi::version::XENVER_GET_FEATURES;
use xen_abi::xen::*;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

/// A guest's memory with the window above it.
#[derive(Default)]
struct Guest {
    memory: RefCell<BTreeMap<u64, u8>>,
    window: RefCell<Window>,
    /// After so many questions, something more urgent waits.
    patience: Cell<Option<u32>>,
}

impl GuestMemory for Guest {
    fn copy_in(&self, address: u64, to: &mut [u8]) -> Result<()> {
        if is_in_window(address) {
            return self.window.borrow().read(address, to);
        }
        let memory = self.memory.borrow();
        for (at, byte) in (address..).zip(to) {
            *byte = *memory.get(&at).ok_or(Errno::FAULT)?;
        }
        Ok(())
    }

    fn copy_out(&self, address: u64, from: &[u8]) -> Result<()> {
        if is_in_window(address) {
            return self.window.borrow_mut().write(address, from);
        }
        let mut memory = self.memory.borrow_mut();
        for (at, byte) in (address..).zip(from) {
            *memory.get_mut(&at).ok_or(Errno::FAULT)? = *byte;
        }
        Ok(())
    }

    fn is_guest_range(&self, _: u64, _: u64) -> bool {
        true
    }
}

impl Preempt for Guest {
    fn should_yield(&self) -> bool {
        let left = self.patience.get();
        self.patience.set(left.map(|left| left.saturating_sub(1)));
        left == Some(0)
    }
}

impl Guest {
    fn map<T: IntoBytes + Immutable + ?Sized>(&self, address: u64, value: &T) {
        self.memory.borrow_mut().extend((address..).zip(value.as_bytes().iter().copied()));
    }

    fn get<T: FromBytes + IntoBytes>(&self, address: u64) -> T {
        let mut value = T::new_zeroed();
        self.copy_in(address, value.as_mut_bytes()).unwrap();
        value
    }

    fn put<T: IntoBytes + Immutable>(&self, address: u64, value: &T) {
        self.copy_out(address, value.as_bytes()).unwrap();
    }

    fn call(&self, number: u32, args: &[u64], mut native: impl FnMut(Args) -> Outcome) -> Outcome {
        let mut all = [0; 6];
        all[..args.len()].copy_from_slice(args);
        translate(self, number, all, &mut |issued, args| {
            assert_eq!(issued, number);
            native(args)
        })
    }

    /// Makes a call until it is done, as a guest's processor does.
    fn finish(&self, number: u32, args: &[u64], mut native: impl FnMut(Args) -> Outcome) -> (i64, u32) {
        let mut now = args.to_vec();
        for rounds in 1..100 {
            match self.call(number, &now, &mut native) {
                Outcome::Done(value) => return (value, rounds),
                Outcome::Again(rest) => {
                    assert!(rest.iter().all(|value| value >> 32 == 0), "a register has 32 bits: {rest:x?}");
                    now = rest.to_vec();
                }
            }
        }
        panic!("never done");
    }
}

const AT: u64 = 0x1000;
const LIST: u64 = 0x10_0000;

#[test]
fn halves_become_whole_numbers() {
    let guest = Guest::default();
    let outcome = guest.call(HYPERVISOR_SET_TIMER_OP, &[0x89ab_cdef, 0x123], |args| {
        assert_eq!(args[0], 0x123_89ab_cdef);
        Outcome::Done(0)
    });
    assert_eq!(outcome, Outcome::Done(0));
    let _ = guest.call(HYPERVISOR_UPDATE_DESCRIPTOR, &[8, 1, 0xffff, 0xcfba00], |args| {
        assert_eq!(args[..2], [0x1_0000_0008, 0x00cf_ba00_0000_ffff]);
        Outcome::Done(0)
    });
    let args = [0xc000_0000, 0x5067, 0x8000_0000, 2, 7, 0];
    let outcome = guest.call(HYPERVISOR_UPDATE_VA_MAPPING_OTHERDOMAIN, &args, |wide| {
        assert_eq!(wide[..4], [0xc000_0000, 0x8000_0000_0000_5067, 2, 7]);
        Outcome::Again(wide)
    });
    assert_eq!(outcome, Outcome::Again(args), "the guest makes its own call again");
}

#[test]
fn small_structures_are_widened_and_answers_narrowed() {
    let guest = Guest::default();
    guest.map(AT, &narrow::Poll { ports: 0x2000, nr_ports: 3, timeout: [5, 1] });
    let _ = guest.call(HYPERVISOR_SCHED_OP, &[SCHEDOP_POLL.into(), AT], |args| {
        let poll: Poll = guest.get(args[1]);
        assert_eq!((poll.ports.address(), poll.nr_ports, poll.timeout), (0x2000, 3, 0x1_0000_0005));
        Outcome::Done(0)
    });
    guest.map(AT, &[0u8; 44]);
    let outcome = guest.call(HYPERVISOR_VCPU_OP, &[VCPUOP_GET_RUNSTATE_INFO.into(), 0, AT], |args| {
        guest.put(args[2], &RunstateInfo { state: 2, _gap0: [0; 4], state_entry_time: 7, time: [1, 2, 3, 4 << 32] });
        Outcome::Done(0)
    });
    assert_eq!(outcome, Outcome::Done(0));
    let info: narrow::RunstateInfo = guest.get(AT);
    assert_eq!((info.state, info.state_entry_time, info.time[3]), (2, [7, 0], [0, 4]));
}

#[test]
fn a_missing_structure_is_a_fault() {
    let guest = Guest::default();
    let never = |_: Args| panic!("issued");
    for (number, args) in [
        (HYPERVISOR_SCHED_OP, [SCHEDOP_POLL.into(), AT, 0]),
        (HYPERVISOR_GRANT_TABLE_OP, [GNTTABOP_COPY.into(), AT, 1]),
        (HYPERVISOR_GRANT_TABLE_OP, [GNTTABOP_SETUP_TABLE.into(), AT, 1]),
        (HYPERVISOR_MMUEXT_OP, [AT, 1, 0]),
        (HYPERVISOR_MEMORY_OP, [XENMEM_EXCHANGE.into(), AT, 0]),
    ] {
        assert_eq!(guest.call(number, &args, never), Outcome::from(Errno::FAULT), "{number}");
    }
}

fn reservation(count: u32) -> narrow::MemoryReservation {
    narrow::MemoryReservation {
        extent_start: LIST as u32,
        nr_extents: count,
        extent_order: 0,
        mem_flags: 0,
        domid: 0x7ff0,
        _gap0: [0; 2],
    }
}

/// Gives the frame 0x100 + n for the number n.
fn populate(guest: &Guest, args: Args, most: u64) -> Outcome {
    let call: MemoryReservation = guest.get(args[1]);
    let before = args[0] >> 6;
    for index in before..call.nr_extents {
        if index == before + most {
            return Outcome::Again([args[0] & 63 | index << 6, args[1], 0, 0, 0, 0]);
        }
        let at = call.extent_start.offset(index).address();
        guest.put(at, &(0x100 + guest.get::<u64>(at)));
    }
    Outcome::Done(call.nr_extents as i64)
}

#[test]
fn long_lists_go_in_parts_and_go_on_where_they_were_cut_off() {
    for (patience, most) in [(None, u64::MAX), (Some(0), u64::MAX), (None, 100), (Some(1), 300)] {
        let guest = Guest::default();
        let numbers: Vec<u32> = (0..1300).collect();
        guest.map(LIST, numbers.as_slice());
        guest.map(AT, &reservation(1300));
        guest.patience.set(patience);
        let args = [XENMEM_POPULATE_PHYSMAP.into(), AT];
        let (done, rounds) = guest.finish(HYPERVISOR_MEMORY_OP, &args, |args| populate(&guest, args, most));
        assert_eq!(done, 1300);
        assert_eq!(rounds > 1, patience.is_some() || most < 1300);
        let frames: [u32; 1300] = guest.get(LIST);
        assert!(frames.iter().zip(0x100..).all(|(frame, wanted)| *frame == wanted));
    }
}

#[test]
fn a_failing_extent_ends_the_list_with_what_was_done() {
    let guest = Guest::default();
    guest.map(LIST, [1u32; 600].as_slice());
    guest.map(AT, &reservation(600));
    let mut left = 520;
    let outcome = guest.call(HYPERVISOR_MEMORY_OP, &[XENMEM_DECREASE_RESERVATION.into(), AT], |args| {
        let count = guest.get::<MemoryReservation>(args[1]).nr_extents.min(left);
        left -= count;
        Outcome::Done(count as i64)
    });
    assert_eq!(outcome, Outcome::Done(520));
}

#[test]
fn exchanges_keep_whole_extents_together() {
    let guest = Guest::default();
    // Four frames each for one of order 2.
    let count = 2048;
    let numbers: Vec<u32> = (0..count).collect();
    guest.map(LIST, numbers.as_slice());
    guest.map(LIST * 2, vec![0u32; count as usize / 4].as_slice());
    let out = narrow::MemoryReservation {
        extent_start: LIST as u32 * 2,
        nr_extents: count / 4,
        extent_order: 2,
        ..reservation(0)
    };
    guest.map(AT, &narrow::MemoryExchange { r#in: reservation(count), out, nr_exchanged: 0 });
    guest.patience.set(Some(1));
    let (done, rounds) = guest.finish(HYPERVISOR_MEMORY_OP, &[XENMEM_EXCHANGE.into(), AT], |args| {
        let mut call: MemoryExchange = guest.get(args[1]);
        assert_eq!(call.r#in.nr_extents, 4 * call.out.nr_extents);
        for index in 0..call.out.nr_extents {
            let first: u64 = guest.get(call.r#in.extent_start.offset(4 * index).address());
            guest.put(call.out.extent_start.offset(index).address(), &(first + 1));
        }
        call.nr_exchanged = call.r#in.nr_extents;
        guest.put(args[1], &call);
        Outcome::Done(0)
    });
    assert_eq!((done, rounds > 1), (0, true));
    assert_eq!(guest.get::<narrow::MemoryExchange>(AT).nr_exchanged, count);
    let given: [u32; 512] = guest.get(LIST * 2);
    assert!(given.iter().zip((1..).step_by(4)).all(|(frame, wanted)| *frame == wanted));
}

#[test]
fn a_grant_tables_frames_come_back_in_32_bits() {
    let guest = Guest::default();
    let mut call = narrow::SetupTable::new_zeroed();
    (call.dom, call.nr_frames, call.frame_list) = (0x7ff0, 3, LIST as u32);
    guest.map(AT, &call);
    guest.map(LIST, &[0u32; 3]);
    let setup = |args: Args| {
        let mut call: SetupTable = guest.get(args[1]);
        for index in 0..u64::from(call.nr_frames) {
            guest.put(call.frame_list.offset(index).address(), &(0x500 + index));
        }
        call.status = GNTST_OKAY;
        guest.put(args[1], &call);
        Outcome::Done(0)
    };
    let args = [GNTTABOP_SETUP_TABLE.into(), AT, 1];
    assert_eq!(guest.call(HYPERVISOR_GRANT_TABLE_OP, &args, setup), Outcome::Done(0));
    assert_eq!(guest.get::<[u32; 3]>(LIST), [0x500, 0x501, 0x502]);
    call.frame_list = 0x9000;
    guest.map(AT, &call);
    assert_eq!(guest.call(HYPERVISOR_GRANT_TABLE_OP, &args, setup), Outcome::Done(0));
    assert_eq!(guest.get::<narrow::SetupTable>(AT).status, GNTST_BAD_VIRT_ADDR);
}

#[test]
fn batches_of_grants_are_answered_one_by_one() {
    let guest = Guest::default();
    let mut copies = [narrow::Copy::new_zeroed(); 300];
    for (number, copy) in (0..).zip(&mut copies) {
        (copy.source.u, copy.len) = (number, number as u16);
    }
    guest.map(LIST, copies.as_bytes());
    let args = [GNTTABOP_COPY.into(), LIST, 300];
    let (done, rounds) = guest.finish(HYPERVISOR_GRANT_TABLE_OP, &args, |args| {
        // Cut off after 60.
        let count = args[2].min(60);
        for index in 0..count {
            let at = args[1] + index * size_of::<Copy>() as u64;
            let mut copy: Copy = guest.get(at);
            assert_eq!(copy.source.u, u64::from(copy.len));
            copy.status = -(copy.source.u as i16);
            guest.put(at, &copy);
        }
        if count == args[2] {
            return Outcome::Done(0);
        }
        Outcome::Again([args[0], args[1] + count * size_of::<Copy>() as u64, args[2] - count, 0, 0, 0])
    });
    assert_eq!((done, rounds), (0, 5));
    for number in 0..300 {
        let copy: narrow::Copy = guest.get(LIST + number * size_of::<narrow::Copy>() as u64);
        assert_eq!(copy.status, -(number as i16));
    }
}

#[test]
fn extended_operations_report_how_many_were_done() {
    let guest = Guest::default();
    let ops: Vec<narrow::MmuextOp> = (0..400).map(|arg1| narrow::MmuextOp { cmd: 2, arg1, arg2: 9 }).collect();
    guest.map(LIST, ops.as_slice());
    guest.map(AT, &0u32);
    guest.patience.set(Some(0));
    let mut seen = 0;
    let (done, rounds) = guest.finish(HYPERVISOR_MMUEXT_OP, &[LIST, 400, AT, 0x7ff0], |args| {
        for index in 0..args[1] {
            let op: MmuextOp = guest.get(args[0] + index * size_of::<MmuextOp>() as u64);
            assert_eq!((op.cmd, op.arg1, op.arg2), (2, seen, 9));
            seen += 1;
            if seen == 350 {
                guest.put(args[2], &(index as u32));
                return Errno::INVAL.into();
            }
        }
        Outcome::Done(0)
    });
    assert_eq!((done, rounds > 1), (Errno::INVAL.as_return(), true));
    assert_eq!(guest.get::<u32>(AT), 349);
}

#[test]
fn what_is_the_same_in_both_widths_goes_as_it_is() {
    let guest = Guest::default();
    let args = [1, 2, 3, 4, 5, 6];
    let same = |number, args: [u64; 6]| {
        let outcome = guest.call(number, &args, |issued| {
            assert_eq!(issued, args);
            Outcome::Done(9)
        });
        assert_eq!(outcome, Outcome::Done(9));
    };
    for number in [HYPERVISOR_MMU_UPDATE, HYPERVISOR_EVENT_CHANNEL_OP, HYPERVISOR_CONSOLE_IO, HYPERVISOR_VM_ASSIST] {
        same(number, args);
    }
    same(HYPERVISOR_VCPU_OP, [VCPUOP_REGISTER_RUNSTATE_PHYS_AREA.into(), 0, AT, 0, 0, 0]);
    same(HYPERVISOR_XEN_VERSION, [XENVER_GET_FEATURES.into(), AT, 0, 0, 0, 0]);
}

#[test]
fn a_guest_that_has_all_its_addresses_hears_so() {
    use xen_abi::version::{PlatformParameters, XENVER_PLATFORM_PARAMETERS};
    for (wide, expected) in [(0xffff_8000_0000_0000, 0xf580_0000), (0, 0)] {
        let guest = Guest::default();
        guest.map(AT, &narrow::PlatformParameters { virt_start: !0 });
        let outcome = guest.call(HYPERVISOR_XEN_VERSION, &[XENVER_PLATFORM_PARAMETERS.into(), AT], |args| {
            guest.put(args[1], &PlatformParameters { virt_start: wide });
            Outcome::Done(0)
        });
        assert_eq!(outcome, Outcome::Done(0));
        assert_eq!(guest.get::<narrow::PlatformParameters>(AT).virt_start, expected);
    }
}
