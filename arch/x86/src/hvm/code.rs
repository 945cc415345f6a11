//! The code at which a guest has left, for what its CPU does not tell of it: where it goes on, and what it wanted of a device.
//!
//! The usual instructions are told from their bytes, at the end of a way that was walked before ([`guest_walk::Trail`]); the decoder has
//! the rest ([`super::emulate`]).

use super::VcpuState;
use super::space::{self, Physical};
use super::{devices, emulate};
use crate::current::Current;
use guest_walk::{Access, Places};
use types::PAGE_SIZE;
use x86_emulate::hvm::{CodeSize, DeviceAccess, Moved, Opcode, PlainMove, Space};

/// What is looked at of a move.
const MOVE: u64 = 16;

/// rip behind the instruction that the guest has left by, which is `opcode`, with prefixes or without. `None` where it has gone since:
/// then the guest executes what there is now.
#[inline]
pub fn next(current: &mut Current<'_, VcpuState>, opcode: Opcode) -> Option<u64> {
    let told = current.state.engine.next_rip();
    told.or_else(|| behind(current, opcode)).or_else(|| emulate::describe(current).map(|found| found.next))
}

/// The same, by the bytes alone.
fn behind(current: &mut Current<'_, VcpuState>, opcode: Opcode) -> Option<u64> {
    let (size, place) = find(current)?;
    let code = bytes(current, place, 4)?;
    opcode.begins(code as u32).then(|| size.behind(current.state.regs.rip, opcode.length()))
}

/// The size of the code, and the place of the byte at rip.
fn find(current: &mut Current<'_, VcpuState>) -> Option<(CodeSize, u64)> {
    let (state, machine) = (&mut *current.state, current.hypervisor.machine());
    let code = state.engine.code();
    let size = code.size();
    let linear = size.linear(state.regs.rip, code.segment.base);
    let mode = space::mode(machine, &code.control, state.regs.rflags);
    let access = Access { fetch: true, user: code.level == 3, ..Access::READ };
    let place = state.trail.find(&Physical { machine, domain: current.domain }, &mode, linear, access);
    place.ok().map(|place| (size, place))
}

/// At least `count` bytes from a place on, 16 at most, the first one lowest; `None` if they go beyond its page. `load` reads the aligned
/// word at a place.
#[inline]
fn gather(place: u64, count: u64, load: impl Fn(u64) -> Option<u64>) -> Option<u128> {
    if place % PAGE_SIZE as u64 > PAGE_SIZE as u64 - count {
        return None;
    }
    let (first, skipped) = (place & !7, place % 8);
    let word = |index: u64| load(first + 8 * index).map(u128::from);
    // Words without a byte that is wanted may be in another page.
    let last = (skipped + count - 1) / 8;
    let low = if last == 0 { word(0)? } else { word(0)? | word(1)? << 64 };
    let code = low >> (8 * skipped);
    Some(if last == 2 { code | word(2)? << (128 - 8 * skipped) } else { code })
}

fn bytes(current: &Current<'_, VcpuState>, place: u64, count: u64) -> Option<u128> {
    let physical = Physical { machine: current.hypervisor.machine(), domain: current.domain };
    gather(place, count, |place| physical.load(place, 8))
}

/// Carries out a plain move from or to a device inside the hypervisor, by which the guest has left: the CPU has computed the address
/// and found the access allowed. False where the instruction is another one, or there is no such device: nothing is done.
pub fn plain_move(current: &mut Current<'_, VcpuState>, gpa: u64, is_write: bool) -> bool {
    // What it left by may have been the delivery of an event.
    if current.state.engine.has_injection() || !devices::is_inside(current, gpa) {
        return false;
    }
    let Some(found) = find(current) else { return false };
    let Some(found) = bytes(current, found.1, MOVE).and_then(|code| Some((PlainMove::of(code, found.0)?, found.0)))
    else {
        return false;
    };
    let (PlainMove { what, size, length }, code_size) = found;
    if is_write == matches!(what, Moved::Load(_)) || gpa % u64::from(size) != 0 {
        return false;
    }
    let data = match what {
        Moved::Load(_) => 0,
        Moved::Store(number) => *current.state.regs.general(number) & u64::MAX >> (64 - 8 * u32::from(size)),
        Moved::StoreValue(value) => value,
    };
    let access =
        DeviceAccess { space: Space::Memory, address: gpa, size, is_write, data, count: 1, ..DeviceAccess::default() };
    let Some(value) = devices::inside(current, &access) else { return false };
    if let Moved::Load(number) = what {
        *current.state.regs.general(number) = value & u64::MAX >> (64 - 8 * u32::from(size));
    }
    let next = code_size.behind(current.state.regs.rip, length);
    super::exits::go_on(current, next);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_from_one_page() {
        const BASE: u64 = 0x7000;
        let load = |place: u64| {
            assert!(place % 8 == 0 && (BASE..BASE + 0x1000).contains(&place), "{place:x}");
            Some(u64::from_le_bytes([0, 1, 2, 3, 4, 5, 6, 7].map(|index| ((place + index) * 7 % 251) as u8)))
        };
        for offset in 0..0x1000 {
            for count in [1, 4, MOVE] {
                let expected =
                    (0..count).rev().fold(0, |code, index| code << 8 | u128::from((BASE + offset + index) * 7 % 251));
                let mask = u128::MAX >> (128 - 8 * count);
                let found = gather(BASE + offset, count, load).map(|code| code & mask);
                assert_eq!(found, (offset + count <= 0x1000).then_some(expected), "{offset:x} {count}");
            }
        }
        assert_eq!(gather(BASE + 5, 4, |place| (place == BASE).then_some(0)), None);
    }
}
