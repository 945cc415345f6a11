//! xen_version, console_io and vm_assist.

use crate::{LIST, World, error};
use hypercall::{assist, console, version};
use std::sync::atomic::Ordering::SeqCst;
use types::{DomId, Errno};
use xen_abi::features::*;
use xen_abi::version::*;
use xen_abi::xen::*;

fn ask(world: &World, command: u32) -> i64 {
    world.call(version::xen_version, &[command.into(), LIST])
}

fn text<const N: usize>(world: &World) -> String {
    let bytes = world.get::<[u8; N]>(LIST);
    assert_eq!(bytes[N - 1], 0);
    bytes.iter().take_while(|byte| **byte != 0).map(|byte| char::from(*byte)).collect()
}

#[test]
fn strings_fill_their_fields() {
    let mut world = World::new();
    world.put(LIST, &[0xff_u8; 1024]);
    assert_eq!(ask(&world, XENVER_VERSION), 4 << 16 | 20);
    assert_eq!((ask(&world, XENVER_EXTRAVERSION), text::<16>(&world)), (0, ".0-xenolith".into()));
    assert_eq!(world.get::<u8>(LIST + 16), 0xff, "16 bytes and no more");
    assert_eq!((ask(&world, XENVER_CAPABILITIES), text::<1024>(&world)), (0, "xen-3.0-x86_64 xen-3.0-x86_32p ".into()));
    assert_eq!((ask(&world, XENVER_COMMANDLINE), text::<1024>(&world)), (0, "dom0_mem=1G".into()));
    assert_eq!(ask(&world, XENVER_COMPILE_INFO), 0);
    assert_eq!(&world.get::<CompileInfo>(LIST).compile_date[..6], b"today\0");
    assert_eq!(ask(&world, XENVER_GUEST_HANDLE), 0);
    assert_eq!(world.get::<[u8; 16]>(LIST), [7; 16]);
    assert_eq!(ask(&world, XENVER_PLATFORM_PARAMETERS), 0);
    assert_eq!(world.get::<u64>(LIST), 0xffff_8000_0000_0000);
    assert_eq!(ask(&world, XENVER_PAGESIZE), error(Errno::INVAL));
    assert_eq!(world.call(version::xen_version, &[XENVER_PAGESIZE.into(), 0]), 4096);
    assert_eq!(ask(&world, 99), error(Errno::NOSYS));
    assert_eq!(world.call(version::xen_version, &[XENVER_CHANGESET.into(), 0]), error(Errno::FAULT));

    world.caller = world.hypervisor.domains.get(DomId(world.guest())).unwrap();
    assert_eq!((ask(&world, XENVER_COMMANDLINE), text::<9>(&world)), (0, "<denied>".into()));
    assert_eq!(ask(&world, XENVER_COMMANDLINE2), error(Errno::PERM));
}

#[test]
fn strings_of_any_length() {
    let world = World::new();
    let size = |command: u32| world.call(version::xen_version, &[command.into(), 0]);
    assert_eq!(size(XENVER_EXTRAVERSION2), 11);
    assert_eq!(size(XENVER_COMMANDLINE2), 11);
    assert_eq!(size(XENVER_BUILD_ID), error(Errno::NODATA));
    world.put(LIST, &Varbuf { len: 10 });
    assert_eq!(ask(&world, XENVER_EXTRAVERSION2), error(Errno::NOBUFS));
    world.put(LIST, &Varbuf { len: 11 });
    world.put(LIST + 4, &[0xff_u8; 12]);
    assert_eq!(ask(&world, XENVER_EXTRAVERSION2), 11);
    assert_eq!(&world.get::<[u8; 12]>(LIST + 4), b".0-xenolith\xff");
}

#[test]
fn features_of_dom0_and_guests() {
    let mut world = World::new();
    let features = |world: &World| {
        world.put(LIST, &FeatureInfo { submap_idx: 0, submap: 0 });
        assert_eq!(ask(world, XENVER_GET_FEATURES), 0);
        world.get::<FeatureInfo>(LIST).submap
    };
    let pv = 1 << 5 | 1 << 6 | 1 << 7 | 1 << 13 | 1 << 17 | 1 << 18 | 1 << 19 | 1 << 20;
    assert_eq!(features(&world), pv | 1 << XENFEAT_DOM0);
    let enable = |kind: u32| world.call(assist::vm_assist, &[VMASST_CMD_ENABLE.into(), kind.into()]);
    assert_eq!(enable(VMASST_TYPE_PAE_EXTENDED_CR3), 0);
    assert_eq!(features(&world), pv | 1 << XENFEAT_DOM0 | 1 << XENFEAT_PAE_PGDIR_ABOVE_4GB);
    world.put(LIST, &FeatureInfo { submap_idx: 1, submap: 0 });
    assert_eq!(ask(&world, XENVER_GET_FEATURES), error(Errno::INVAL));
    world.caller = world.hypervisor.domains.get(DomId(world.guest())).unwrap();
    assert_eq!(features(&world), pv);
}

#[test]
fn assists_are_switched() {
    let world = World::new();
    let assist = |command: u32, kind: u32| world.call(assist::vm_assist, &[command.into(), kind.into()]);
    assert_eq!(assist(VMASST_CMD_ENABLE, VMASST_TYPE_WRITABLE_PAGETABLES), 0);
    assert_eq!(assist(VMASST_CMD_ENABLE, VMASST_TYPE_RUNSTATE_UPDATE_FLAG), 0);
    assert_eq!(assist(VMASST_CMD_ENABLE, VMASST_TYPE_M2P_STRICT), 0);
    assert_eq!(world.dom0.vm_assist.load(SeqCst), 0x24);
    assert_eq!(assist(VMASST_CMD_DISABLE, VMASST_TYPE_WRITABLE_PAGETABLES), 0);
    assert_eq!(world.dom0.vm_assist.load(SeqCst), 0x20);
    assert_eq!(assist(VMASST_CMD_ENABLE, 6), error(Errno::INVAL));
    assert_eq!(assist(VMASST_CMD_ENABLE, 64), error(Errno::INVAL));
    assert_eq!(assist(9, VMASST_TYPE_WRITABLE_PAGETABLES), error(Errno::NOSYS));
}

#[test]
fn the_console_is_dom0s() {
    let mut world = World::new();
    world.machine().map_guest(LIST, &[b'x'; 300]);
    let write: u64 = CONSOLEIO_WRITE.into();
    assert_eq!(world.call(console::console_io, &[write, 300, LIST]), 0);
    world.machine().yield_after.store(0, SeqCst);
    assert_eq!(world.call(console::console_io, &[write, 300, LIST]), 0);
    world.machine().yield_after.store(u64::MAX, SeqCst);
    let written = core::mem::take(&mut *world.hypervisor.machine().written.lock());
    assert!(written.iter().all(|(mark, _)| mark.is_none()));
    assert_eq!(written.iter().map(|(_, bytes)| bytes.len()).sum::<usize>(), 600);
    assert_eq!(world.call(console::console_io, &[write, 1, 0xdead_0000]), error(Errno::FAULT));

    *world.hypervisor.machine().input.lock() = b"help\n".to_vec();
    assert_eq!(world.call(console::console_io, &[CONSOLEIO_READ.into(), 4, LIST]), 4);
    assert_eq!(world.call(console::console_io, &[CONSOLEIO_READ.into(), 4, LIST + 4]), 1);
    assert_eq!(&world.get::<[u8; 5]>(LIST), b"help\n");
    assert_eq!(world.call(console::console_io, &[CONSOLEIO_READ.into(), 1 << 31, LIST]), error(Errno::INVAL));
    assert_eq!(world.call(console::console_io, &[7, 0, 0]), error(Errno::NOSYS));
    world.caller = world.hypervisor.domains.get(DomId(world.guest())).unwrap();
    assert_eq!(world.call(console::console_io, &[write, 1, LIST]), error(Errno::PERM));
}
