//! Domain 2 is watched by a program in dom0.

use super::translated::Hvm;
use super::*;
use domain::{PauseFlags, Refused};
use hypercall::domctl::domctl;
use hypercall::event::event_channel_op;
use hypercall::memory::memory_op;
use p2m::{Access, Type};
use std::sync::atomic::Ordering::SeqCst;
use types::Gfn;
use xen_abi::Union;
use xen_abi::domctl::*;
use xen_abi::event_channel::{BindInterdomain, EVTCHNOP_BIND_INTERDOMAIN, EVTCHNOP_SEND, Send};
use xen_abi::hvm_op::{HVMOP_SET_PARAM, HvmParam};
use xen_abi::hvm_params::HVM_PARAM_MONITOR_RING_PFN;
use xen_abi::memory::*;
use xen_abi::vm_event::*;
use zerocopy::FromZeros;

/// Where the ring is.
const RING: u64 = 0x100;

impl Hvm {
    /// A domctl of dom0's.
    fn control<T: FromBytes + IntoBytes + Immutable>(&self, cmd: u32, domain: u16, value: &mut T) -> i64 {
        let interface_version = XEN_DOMCTL_INTERFACE_VERSION;
        let mut op = Domctl { cmd, interface_version, domain, _pad: [0; 3], u: Union([0; 16]) };
        op.u.write(value);
        self.world.put(AT, &op);
        let result = self.world.finish(&self.world.dom0, domctl, &[AT]);
        *value = self.world.get::<Domctl>(AT).u.read();
        result
    }

    /// XEN_DOMCTL_vm_event_op: the result, and the port or version.
    fn vm_event(&self, domain: u16, op: u32, mode: u32) -> (i64, u32) {
        let mut call = VmEventOp { op, mode, u: Union([0]) };
        (self.control(XEN_DOMCTL_VM_EVENT_OP, domain, &mut call), call.u.read())
    }

    fn monitor(&self, op: u32) -> i64 {
        self.vm_event(2, op, XEN_DOMCTL_VM_EVENT_OP_MONITOR).0
    }

    /// Watches, from the page that was set aside for it: the watcher's port, and the page.
    fn watch(&self) -> (u32, Mfn) {
        self.populate(&[RING], 0);
        let mut call = HvmParam { domid: 2, pad: 0, index: HVM_PARAM_MONITOR_RING_PFN, value: RING };
        assert_eq!(self.world.with(&self.world.dom0, hypercall::hvm::hvm_op, HVMOP_SET_PARAM, &mut call, &[]), 0);
        let (result, remote_port) = self.vm_event(2, XEN_VM_EVENT_ENABLE, XEN_DOMCTL_VM_EVENT_OP_MONITOR);
        assert_eq!(result, 0);
        let mut bind = BindInterdomain { remote_dom: 2, _gap0: [0; 2], remote_port, local_port: 0 };
        let dom0 = &self.world.dom0;
        assert_eq!(self.world.with(dom0, event_channel_op, EVTCHNOP_BIND_INTERDOMAIN, &mut bind, &[]), 0);
        (bind.local_port, self.at(RING).1)
    }

    fn notify(&self, port: u32) {
        let dom0 = &self.world.dom0;
        assert_eq!(self.world.with(dom0, event_channel_op, EVTCHNOP_SEND, &mut Send { port }, &[]), 0);
    }

    fn access_op(&self, op: u32, access: u32, pfn: u64, nr: u32) -> (i64, u32) {
        let mut call = MemAccessOp {
            op: op as u8,
            access: access as u8,
            domid: 2,
            nr,
            pfn,
            pfn_list: list(),
            access_list: GuestHandle::new(LIST + 512),
        };
        let result = self.world.with(&self.world.dom0, memory_op, XENMEM_ACCESS_OP, &mut call, &[]);
        (result, call.access.into())
    }

    fn set_access(&self, access: u32, pfn: u64, nr: u32) -> i64 {
        self.access_op(XENMEM_ACCESS_OP_SET_ACCESS, access, pfn, nr).0
    }

    fn access(&self, pfn: u64) -> (i64, u32) {
        self.access_op(XENMEM_ACCESS_OP_GET_ACCESS, 99, pfn, 0)
    }

    /// vCPU 0 makes an access that rights refuse.
    fn attempt(&self, gfn: u64, access: Access, write: bool) -> types::Result<()> {
        let refused = Refused { gfn: Gfn(gfn), access, write };
        self.world.hypervisor.access_refused(&self.hvm, refused, || {
            let mut event = VmEvent::new_zeroed();
            event.reason = VM_EVENT_REASON_MEM_ACCESS;
            event.u.write(&gfn);
            event
        })
    }

    fn waits(&self) -> u32 {
        self.hvm.vcpus()[0].flags.load(SeqCst) & (PauseFlags::ANSWER | PauseFlags::ROOM)
    }
}

#[test]
fn who_may_watch_whom() {
    let hvm = Hvm::new();
    let mode = XEN_DOMCTL_VM_EVENT_OP_MONITOR;
    let vm_event = |domain, op| hvm.vm_event(domain, op, mode);
    assert_eq!(vm_event(DomId::INVALID.0, XEN_VM_EVENT_GET_VERSION), (0, VM_EVENT_INTERFACE_VERSION));
    assert_eq!(vm_event(1, XEN_VM_EVENT_GET_VERSION), (0, 7), "whatever the domain");
    assert_eq!(vm_event(DomId::INVALID.0, XEN_VM_EVENT_ENABLE).0, error(Errno::SRCH));
    assert_eq!(vm_event(77, XEN_VM_EVENT_ENABLE).0, error(Errno::SRCH));
    assert_eq!(vm_event(0, XEN_VM_EVENT_ENABLE).0, error(Errno::INVAL), "oneself");
    assert_eq!(vm_event(1, XEN_VM_EVENT_ENABLE).0, error(Errno::OPNOTSUPP), "a PV domain");
    assert_eq!(vm_event(2, XEN_VM_EVENT_ENABLE).0, error(Errno::OPNOTSUPP), "no page was set aside");
    assert_eq!((vm_event(2, XEN_VM_EVENT_DISABLE).0, vm_event(2, 9).0), (error(Errno::INVAL), error(Errno::NOSYS)));
    assert_eq!(vm_event(2, XEN_VM_EVENT_RESUME).0, error(Errno::NODEV));
    for other in [XEN_DOMCTL_VM_EVENT_OP_PAGING, XEN_DOMCTL_VM_EVENT_OP_SHARING, 9] {
        assert_eq!(hvm.vm_event(2, XEN_VM_EVENT_ENABLE, other).0, error(Errno::NOSYS));
    }
    hvm.watch();
    assert_eq!(hvm.monitor(XEN_VM_EVENT_ENABLE), error(Errno::BUSY));
    assert_eq!((hvm.monitor(XEN_VM_EVENT_RESUME), hvm.monitor(XEN_VM_EVENT_DISABLE)), (0, 0));
    assert_eq!(hvm.monitor(XEN_VM_EVENT_DISABLE), error(Errno::INVAL));
    assert_eq!(hvm.monitor(XEN_VM_EVENT_ENABLE), 0, "the next one");
    let creation = Creation { flags: XEN_DOMCTL_CDF_HVM, ..Creation::of_test(false, 1) };
    let young = hvm.world.hypervisor.create_domain(DomId(3), creation).unwrap();
    assert_eq!(vm_event(3, XEN_VM_EVENT_ENABLE).0, error(Errno::INVAL), "it has no vCPUs");
    hvm.world.hypervisor.destroy(&young).unwrap();
    hvm.end();
}

#[test]
fn other_events_are_not_told() {
    let hvm = Hvm::new();
    let ask = |domain, op, event| {
        let mut call = MonitorOp { op, event, u: Union([0; 2]) };
        (hvm.control(XEN_DOMCTL_MONITOR_OP, domain, &mut call), call.event)
    };
    assert_eq!(ask(2, XEN_DOMCTL_MONITOR_OP_GET_CAPABILITIES, 9), (0, 0));
    assert_eq!(ask(1, XEN_DOMCTL_MONITOR_OP_GET_CAPABILITIES, 9), (0, 0));
    assert_eq!(ask(0, XEN_DOMCTL_MONITOR_OP_GET_CAPABILITIES, 9).0, error(Errno::PERM), "oneself");
    assert_eq!(ask(2, XEN_DOMCTL_MONITOR_OP_ENABLE, 32).0, error(Errno::INVAL));
    for op in [XEN_DOMCTL_MONITOR_OP_ENABLE, XEN_DOMCTL_MONITOR_OP_DISABLE] {
        assert_eq!(ask(2, op, XEN_DOMCTL_MONITOR_EVENT_SOFTWARE_BREAKPOINT).0, error(Errno::OPNOTSUPP));
    }
    assert_eq!(ask(2, 99, 0).0, error(Errno::OPNOTSUPP));
    let required = |domain| hvm.control(XEN_DOMCTL_SET_ACCESS_REQUIRED, domain, &mut 1u8);
    assert_eq!([required(0), required(1), required(2)], [error(Errno::PERM), 0, 0]);
    hvm.end();
}

#[test]
fn rights_to_pages() {
    let hvm = Hvm::new();
    hvm.populate(&[512], 9);
    assert_eq!(
        (hvm.set_access(XENMEM_ACCESS_RX, 512, 1), hvm.access(512).0),
        (error(Errno::NODEV), error(Errno::NODEV))
    );
    hvm.watch();
    assert_eq!(hvm.access(u64::MAX), (0, XENMEM_ACCESS_RWX));
    assert_eq!(hvm.set_access(XENMEM_ACCESS_RX, u64::MAX, 0), 0);
    assert_eq!((hvm.access(u64::MAX), hvm.access(512)), ((0, XENMEM_ACCESS_RX), (0, XENMEM_ACCESS_RWX)));
    let flushes = || hvm.world.machine().flushes.lock().unwrap().get(&2).copied().unwrap_or(0);
    let before = flushes();
    assert_eq!(hvm.set_access(XENMEM_ACCESS_DEFAULT, 0, 1024), 0);
    assert_eq!(flushes(), before + 1, "no CPU keeps rights that were taken");
    assert_eq!(hvm.hvm.p2m().unwrap().get(Gfn(600)).order, 9, "one page still");
    assert_eq!((hvm.access(1022), hvm.access(RING)), ((0, XENMEM_ACCESS_RX), (0, XENMEM_ACCESS_RX)));
    assert_eq!(hvm.set_access(XENMEM_ACCESS_RWX, 600, 1), 0);
    assert_eq!([hvm.access(599).1, hvm.access(600).1], [XENMEM_ACCESS_RX, XENMEM_ACCESS_RWX]);
    // What comes later has the default.
    hvm.populate(&[5], 0);
    assert_eq!((hvm.access(5), hvm.at(5).0), ((0, XENMEM_ACCESS_RX), Type::RamRw));

    let bad = error(Errno::INVAL);
    assert_eq!([hvm.set_access(XENMEM_ACCESS_RX, 1023, 1), hvm.set_access(XENMEM_ACCESS_RX, 1023, 2)], [0, bad]);
    assert_eq!([hvm.set_access(XENMEM_ACCESS_RX, 0, 0), hvm.set_access(XENMEM_ACCESS_RX, 7, 0)], [bad; 2]);
    assert_eq!([hvm.set_access(XENMEM_ACCESS_R_PW, 5, 1), hvm.set_access(12, 5, 1)], [bad; 2]);
    assert_eq!([hvm.set_access(12, u64::MAX, 1), hvm.set_access(0, u64::MAX - 1, 3)], [bad; 2]);
    assert_eq!((hvm.access(1024).0, hvm.access(6).0), (bad, error(Errno::SRCH)));
    assert_eq!(hvm.access_op(2, 0, 5, 1).0, error(Errno::NOSYS));
    let mut call = MemAccessOp { domid: 2, ..MemAccessOp::new_zeroed() };
    assert_eq!(hvm.world.with(&hvm.world.guest, memory_op, XENMEM_ACCESS_OP, &mut call, &[]), error(Errno::PERM));
    hvm.end();
}

#[test]
fn rights_to_single_pages_of_a_list() {
    let hvm = Hvm::new();
    hvm.populate(&[512], 9);
    hvm.watch();
    let multi = |nr| hvm.access_op(XENMEM_ACCESS_OP_SET_ACCESS_MULTI, 0, 0, nr).0;
    hvm.world.put(LIST, &[600u64, 5000, 602]);
    hvm.world.put(LIST + 512, &[XENMEM_ACCESS_N as u8, XENMEM_ACCESS_R as u8, XENMEM_ACCESS_N2RWX as u8]);
    assert_eq!(multi(3), 0, "where nothing is, nothing is changed");
    assert_eq!([600, 601, 602].map(|gfn| hvm.access(gfn).1), [XENMEM_ACCESS_N, XENMEM_ACCESS_RWX, XENMEM_ACCESS_N2RWX]);
    hvm.world.put(LIST, &[601u64, u64::MAX]);
    assert_eq!((multi(2), hvm.access(601).1), (error(Errno::INVAL), XENMEM_ACCESS_N));
    hvm.world.put(LIST, &[600u64, 601]);
    hvm.world.put(LIST + 512, &[XENMEM_ACCESS_RWX as u8, 99]);
    assert_eq!((multi(2), hvm.access(600).1), (error(Errno::INVAL), XENMEM_ACCESS_RWX), "what came before is done");
    hvm.end();
}

#[test]
fn many_pages_go_piece_by_piece() {
    let hvm = Hvm::new();
    hvm.populate(&core::array::from_fn::<u64, 200, _>(|index| 1000 + index as u64), 0);
    hvm.watch();
    let cut = |op, list: &[u64]| {
        hvm.world.put(LIST, list);
        hvm.world.put(LIST + 2048, &[XENMEM_ACCESS_R as u8; 200]);
        let (pfn_list, access_list) = (list_handle(), GuestHandle::new(LIST + 2048));
        let (access, nr) = (XENMEM_ACCESS_RX as u8, 200);
        hvm.world.put(AT, &MemAccessOp { op, access, domid: 2, nr, pfn: 1000, pfn_list, access_list });
        hvm.world.machine().yield_after.store(50, SeqCst);
        let outcome = hvm.world.call(&hvm.world.dom0, memory_op, &[XENMEM_ACCESS_OP.into(), AT]);
        hvm.world.machine().yield_after.store(u64::MAX, SeqCst);
        let Outcome::Again(args) = outcome else { panic!("{outcome:?}") };
        assert!((1..200).contains(&(args[0] >> 6)), "{args:?}");
        assert_eq!(hvm.world.finish(&hvm.world.dom0, memory_op, &args), 0);
    };
    fn list_handle() -> GuestHandle<u64> {
        list()
    }
    cut(XENMEM_ACCESS_OP_SET_ACCESS as u8, &[]);
    assert!((1000..1200).all(|gfn| hvm.access(gfn) == (0, XENMEM_ACCESS_RX)));
    let gfns: Vec<u64> = (1000..1200).collect();
    cut(XENMEM_ACCESS_OP_SET_ACCESS_MULTI as u8, &gfns);
    assert!((1000..1200).all(|gfn| hvm.access(gfn) == (0, XENMEM_ACCESS_R)));
    hvm.end();
}

#[test]
fn a_vcpu_waits_for_its_watcher() {
    let hvm = Hvm::new();
    hvm.populate(&[5], 0);
    let (port, page) = hvm.watch();
    assert_eq!(hvm.set_access(XENMEM_ACCESS_RX, 5, 1), 0);
    assert_eq!((hvm.attempt(5, Access::Rx, true), hvm.waits()), (Ok(()), PauseFlags::ANSWER));
    let word = |index| hvm.world.word(page, index);
    assert_eq!((word(0).load(SeqCst) as u32, word(8).load(SeqCst)), (1, 7 | 1 << 32), "version and flag");
    assert_eq!(word(11).load(SeqCst), 5, "the page");
    assert_eq!(hvm.access(5).1, XENMEM_ACCESS_RX, "it is the watcher's to change that");
    hvm.notify(port);
    assert_eq!(hvm.waits(), PauseFlags::ANSWER, "nothing was answered");
    word(1).fetch_add(1, SeqCst);
    hvm.notify(port);
    assert_eq!(hvm.waits(), 0);
    // By the other way too.
    assert_eq!((hvm.attempt(5, Access::Rx, true), hvm.waits()), (Ok(()), PauseFlags::ANSWER));
    word(1).fetch_add(1, SeqCst);
    assert_eq!((hvm.monitor(XEN_VM_EVENT_RESUME), hvm.waits()), (0, 0));
    // Without a watcher it goes on.
    assert_eq!((hvm.attempt(5, Access::Rx, true), hvm.waits()), (Ok(()), PauseFlags::ANSWER));
    assert_eq!((hvm.monitor(XEN_VM_EVENT_DISABLE), hvm.waits()), (0, 0));
    hvm.end();
}

#[test]
fn rights_that_change_by_themselves() {
    let hvm = Hvm::new();
    hvm.populate(&[5, 6, 7, 8], 0);
    let (_, page) = hvm.watch();
    let sent = || hvm.world.word(page, 0).load(SeqCst) as u32;
    assert_eq!(hvm.set_access(XENMEM_ACCESS_RX2RW, 5, 1), 0);
    assert_eq!((hvm.attempt(5, Access::Rx2Rw, true), hvm.access(5).1), (Ok(()), XENMEM_ACCESS_RW));
    assert_eq!((sent(), hvm.waits()), (0, 0), "nobody is told");
    assert_eq!(hvm.set_access(XENMEM_ACCESS_N2RWX, 6, 1), 0);
    assert_eq!((hvm.attempt(6, Access::N2Rwx, false), hvm.access(6).1), (Ok(()), XENMEM_ACCESS_RWX));
    assert_eq!((sent(), hvm.waits()), (1, 0), "who watches is told, and nobody waits");
    // Others have been quicker.
    assert_eq!((hvm.attempt(6, Access::N2Rwx, false), hvm.access(6).1), (Ok(()), XENMEM_ACCESS_RWX));
    assert_eq!(hvm.set_access(XENMEM_ACCESS_R, 7, 2), 0);
    assert_eq!(hvm.monitor(XEN_VM_EVENT_DISABLE), 0);

    let access = |gfn| hvm.hvm.p2m().unwrap().get(Gfn(gfn)).access;
    assert_eq!((hvm.attempt(7, Access::R, true), access(7), access(8)), (Ok(()), Access::Rwx, Access::R));
    assert_eq!(hvm.control(XEN_DOMCTL_SET_ACCESS_REQUIRED, 2, &mut 1u8), 0);
    assert_eq!((hvm.attempt(8, Access::R, true), access(8)), (Err(Errno::PERM), Access::R));
    hvm.end();
}

#[test]
fn without_room_for_tables_all_of_a_page_is_opened() {
    let hvm = Hvm::new();
    hvm.populate(&[512], 9);
    hvm.watch();
    assert_eq!((hvm.set_access(XENMEM_ACCESS_RX, 512, 512), hvm.monitor(XEN_VM_EVENT_DISABLE)), (0, 0));
    let p2m = hvm.hvm.p2m().unwrap();
    let (_, used) = p2m.pool_pages();
    let _shrunk = p2m.resize_pool(used, hvm.world.hypervisor.machine()).unwrap();
    assert_eq!(hvm.attempt(600, Access::Rx, true), Ok(()));
    assert_eq!([512, 600, 1023].map(|gfn| p2m.get(Gfn(gfn)).access), [Access::Rwx; 3]);
    hvm.end();
}

#[test]
fn a_domain_ends_while_it_is_watched() {
    let hvm = Hvm::new();
    hvm.populate(&[5], 0);
    hvm.watch();
    assert_eq!((hvm.attempt(5, Access::Rx, true), hvm.waits()), (Ok(()), PauseFlags::ANSWER));
    hvm.end();
}
