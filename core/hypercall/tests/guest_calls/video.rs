//! An emulator's calls about memory that it draws from, or moves, for domain 2.

use super::emulator::ask;
use super::translated::Hvm;
use super::*;
use hypercall::hvm::dm_op;
use p2m::Type;
use types::Gfn;
use xen_abi::Union;
use xen_abi::dm_op::*;

/// Where bits of frames go.
const BITS: u64 = AT + 0x100;

/// What was written of the frames from `first_pfn` on, with room for `room` bytes of bits.
fn written(hvm: &Hvm, first_pfn: u64, nr: u32, room: u64) -> Result<u32, i64> {
    let mut call = DmOp { op: XEN_DMOP_TRACK_DIRTY_VRAM, pad: 0, u: Union([0; 3]) };
    call.u.write(&TrackDirtyVram { nr, pad: 0, first_pfn });
    hvm.world.put(AT, &call);
    hvm.world.put(BITS, &0u32);
    let buffer = |at, size| DmOpBuf { h: GuestHandle::new(at), size };
    hvm.world.put(LIST, &[buffer(AT, size_of::<DmOp>() as u64), buffer(BITS, room)]);
    match hvm.world.finish(&hvm.world.dom0, dm_op, &[2, 2, LIST]) {
        0 => Ok(hvm.world.get(BITS)),
        errno => Err(errno),
    }
}

#[test]
fn frames_that_were_written_are_told_once() {
    let hvm = Hvm::new();
    hvm.populate(&[512], 9);
    assert_eq!(written(&hvm, 600, 12, 2), Ok(0xfff), "nothing is known at first");
    assert_eq!((hvm.at(600).0, hvm.at(611).0, hvm.at(612).0), (Type::RamLogdirty, Type::RamLogdirty, Type::RamRw));
    assert_eq!(written(&hvm, 600, 12, 2), Ok(0));
    hvm.hvm.note_write(Gfn(603));
    hvm.hvm.note_write(Gfn(611));
    hvm.hvm.note_write(Gfn(700));
    assert_eq!((written(&hvm, 600, 12, 2), hvm.at(603).0), (Ok(0x808), Type::RamLogdirty));
    assert_eq!(written(&hvm, 600, 12, 2), Ok(0));

    assert_eq!((written(&hvm, 604, 2, 1), hvm.at(600).0), (Ok(3), Type::RamRw), "another range");
    assert_eq!((written(&hvm, 0, 0, 0), hvm.at(604).0), (Ok(0), Type::RamRw), "the end");
    assert_eq!(written(&hvm, 600, 12, 1), Err(error(Errno::TOOBIG)));
    assert_eq!(written(&hvm, 600, 1 << 19, 1 << 16), Err(error(Errno::INVAL)));
    let mut alone = TrackDirtyVram { nr: 1, pad: 0, first_pfn: 600 };
    assert_eq!(ask(&hvm, XEN_DMOP_TRACK_DIRTY_VRAM, &mut alone), error(Errno::INVAL), "no room for bits");
    hvm.end();
}

#[test]
fn memory_moves_to_where_a_device_shows_it() {
    let hvm = Hvm::new();
    hvm.populate(&[512], 9);
    let before = [hvm.at(520).1, hvm.at(521).1];
    let mut call = RelocateMemory { size: 2, pad: 0, src_gfn: 520, dst_gfn: 0xf_0000 };
    assert_eq!((ask(&hvm, XEN_DMOP_RELOCATE_MEMORY, &mut call), call.size), (0, 0));
    assert_eq!([hvm.at(0xf_0000).1, hvm.at(0xf_0001).1], before);
    assert!(hvm.at(520).0.is_hole());
    let mut call = RelocateMemory { size: 2, pad: 0, src_gfn: 519, dst_gfn: 0xf_1000 };
    assert_ne!(ask(&hvm, XEN_DMOP_RELOCATE_MEMORY, &mut call), 0, "nothing is at the second any more");
    assert_ne!(hvm.at(0xf_1000).1, before[0]);
    assert_eq!(hvm.at(0xf_1000).0, Type::RamRw, "the first has moved");
    let mut pin = PinMemoryCacheattr { start: 0, end: 1, r#type: XEN_DMOP_MEM_CACHEATTR_WC, pad: 0 };
    assert_eq!(ask(&hvm, XEN_DMOP_PIN_MEMORY_CACHEATTR, &mut pin), 0);
    pin.r#type = 2;
    assert_eq!(ask(&hvm, XEN_DMOP_PIN_MEMORY_CACHEATTR, &mut pin), error(Errno::INVAL));
    hvm.end();
}
