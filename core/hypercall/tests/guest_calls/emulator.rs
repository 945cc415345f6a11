//! A device emulator's calls, for domain 2.

use super::translated::Hvm;
use super::*;
use domain::{BoardSignal, GivenEvent, PauseFlags};
use hypercall::event::event_channel_op;
use hypercall::hvm::dm_op;
use hypercall::memory::memory_op;
use ioreq::{Direction, Kind, Polled, Request, Sent};
use p2m::Type;
use std::sync::atomic::Ordering::SeqCst;
use types::{Gfn, VcpuId};
use xen_abi::Union;
use xen_abi::dm_op::*;
use xen_abi::domctl::*;
use xen_abi::event_channel::{BindInterdomain, EVTCHNOP_BIND_INTERDOMAIN, EVTCHNOP_SEND, Send};
use xen_abi::hvm_op::*;
use xen_abi::memory::*;

/// A request of dom0's.
pub fn ask<T: FromBytes + IntoBytes + Immutable>(hvm: &Hvm, op: u32, value: &mut T) -> i64 {
    let mut call = DmOp { op, pad: 0, u: Union([0; 3]) };
    call.u.write(value);
    hvm.world.put(AT, &call);
    hvm.world.put(LIST, &DmOpBuf { h: GuestHandle::new(AT), size: size_of::<DmOp>() as u64 });
    let result = hvm.world.finish(&hvm.world.dom0, dm_op, &[2, 1, LIST]);
    *value = hvm.world.get::<DmOp>(AT).u.read();
    result
}

/// Makes a server with a ring.
fn server(hvm: &Hvm) -> u16 {
    let mut create = CreateIoreqServer { handle_bufioreq: HVM_IOREQSRV_BUFIOREQ_ATOMIC, pad: [0; 3], id: 99 };
    assert_eq!(ask(hvm, XEN_DMOP_CREATE_IOREQ_SERVER, &mut create), 0);
    create.id
}

fn enable(hvm: &Hvm, id: u16, enabled: u8) -> i64 {
    ask(hvm, XEN_DMOP_SET_IOREQ_SERVER_STATE, &mut SetIoreqServerState { id, enabled, pad: 0 })
}

fn claim_ports(hvm: &Hvm, id: u16) -> i64 {
    let mut range = IoreqServerRange { id, pad: 0, r#type: XEN_DMOP_IO_RANGE_PORT, start: 0x100, end: 0x1ff };
    ask(hvm, XEN_DMOP_MAP_IO_RANGE_TO_IOREQ_SERVER, &mut range)
}

/// Frames of the server's, as dom0 maps them: the ring, and requests.
fn frames(hvm: &Hvm, id: u16) -> [u64; 2] {
    hvm.world.put(LIST, &[0u64; 2]);
    let mut call = MemAcquireResource {
        domid: 2,
        r#type: XENMEM_RESOURCE_IOREQ_SERVER as u16,
        id: id.into(),
        nr_frames: 2,
        pad: 0,
        frame: 0,
        frame_list: list(),
    };
    assert_eq!(hvm.world.with(&hvm.world.dom0, memory_op, XENMEM_ACQUIRE_RESOURCE, &mut call, &[]), 0);
    hvm.world.get(LIST)
}

#[test]
fn a_translated_caller_maps_no_resources() {
    let hvm = Hvm::new();
    let mut call: MemAcquireResource = zerocopy::FromZeros::new_zeroed();
    let caller = &hvm.hvm;
    let asked = hvm.world.with(caller, memory_op, XENMEM_ACQUIRE_RESOURCE, &mut call, &[]);
    assert_eq!(asked, error(Errno::ACCES), "whatever it asks for");
}

#[test]
fn a_request_goes_to_its_emulator_and_back() {
    let hvm = Hvm::new();
    let id = server(&hvm);
    let [_, page] = frames(&hvm, id);
    assert_eq!((claim_ports(&hvm, id), claim_ports(&hvm, id), enable(&hvm, id, 1)), (0, error(Errno::EXIST), 0));
    let servers = hvm.world.hypervisor.servers(&hvm.hvm).unwrap();
    let read = Request::single(Kind::Port, Direction::Read, 0x110, 0, 4);
    let vcpu = &hvm.hvm.vcpus()[1];
    let Sent::Wait(mut pending) = servers.send(VcpuId(1), &read, false) else { panic!("nobody has it") };
    let mut bind = BindInterdomain { remote_dom: 2, _gap0: [0; 2], remote_port: pending.port(), local_port: 0 };
    assert_eq!(hvm.world.with(&hvm.world.dom0, event_channel_op, EVTCHNOP_BIND_INTERDOMAIN, &mut bind, &[]), 0);
    vcpu.flags.store(PauseFlags::DEVICE, SeqCst);
    assert_eq!(servers.poll(&mut pending), Polled::Waiting);
    // The answer: a datum, the state that says so, and an event.
    hvm.world.word(Mfn(page), 4 + 1).store(0x55, SeqCst);
    let last = hvm.world.word(Mfn(page), 4 + 3);
    last.store(last.load(SeqCst) & !(0xf << 48) | 3 << 48, SeqCst);
    let mut send = Send { port: bind.local_port };
    assert_eq!(hvm.world.with(&hvm.world.dom0, event_channel_op, EVTCHNOP_SEND, &mut send, &[]), 0);
    assert_eq!((vcpu.flags.load(SeqCst), servers.poll(&mut pending)), (0, Polled::Done(0x55)));
    hvm.end();
}

#[test]
fn pages_that_were_set_aside_are_taken_from_the_guest() {
    let hvm = Hvm::new();
    hvm.populate(&[0x100, 0x101], 0);
    let parameter = |index, value| {
        let mut call = HvmParam { domid: 2, pad: 0, index, value };
        hvm.world.with(&hvm.world.dom0, hypercall::hvm::hvm_op, HVMOP_SET_PARAM, &mut call, &[])
    };
    use xen_abi::hvm_params::*;
    assert_eq!((parameter(HVM_PARAM_IOREQ_SERVER_PFN, 0x100), parameter(HVM_PARAM_NR_IOREQ_SERVER_PAGES, 2)), (0, 0));
    let id = server(&hvm);
    let mut info = GetIoreqServerInfo { id, flags: 0, bufioreq_port: 0, ioreq_gfn: 0, bufioreq_gfn: 0 };
    assert_eq!(ask(&hvm, XEN_DMOP_GET_IOREQ_SERVER_INFO, &mut info), 0);
    assert_eq!((info.ioreq_gfn, info.bufioreq_gfn), (0x100, 0x101));
    let (_, mfn) = hvm.at(0x100);
    assert_eq!((enable(&hvm, id, 1), hvm.at(0x100).0), (0, Type::MmioDm));
    assert_eq!((enable(&hvm, id, 0), hvm.at(0x100)), (0, (Type::RamRw, mfn)));
    assert_eq!(enable(&hvm, id, 1), 0);
    assert_eq!(ask(&hvm, XEN_DMOP_DESTROY_IOREQ_SERVER, &mut DestroyIoreqServer { id, pad: 0 }), 0);
    assert_eq!((enable(&hvm, id, 1), hvm.at(0x100)), (error(Errno::NOENT), (Type::RamRw, mfn)));
    hvm.end();
}

#[test]
fn a_domain_ends_with_its_emulator_still_there() {
    let hvm = Hvm::new();
    let id = server(&hvm);
    frames(&hvm, id);
    assert_eq!(enable(&hvm, id, 1), 0);
    hvm.end();
}

#[test]
fn what_memory_is_can_be_changed() {
    let hvm = Hvm::new();
    hvm.populate(&[512], 9);
    let set = |first_pfn, nr, mem_type| {
        let mut call = SetMemType { nr, mem_type, pad: 0, first_pfn };
        (ask(&hvm, XEN_DMOP_SET_MEM_TYPE, &mut call), call.nr)
    };
    assert_eq!((set(520, 2, HVMMEM_RAM_RO).0, hvm.at(521).0, hvm.at(522).0), (0, Type::RamRo, Type::RamRw));
    assert_eq!((set(520, 1, HVMMEM_MMIO_DM).0, hvm.at(520).0), (0, Type::MmioDm));
    assert_eq!(hvm.hvm.memory.total_pages(), 512, "it is the domain's still");
    assert_eq!(set(519, 3, HVMMEM_RAM_RO), (error(Errno::INVAL), 3), "a hole is among them");
    assert_eq!(set(1000, 100, HVMMEM_RAM_RO).0, error(Errno::INVAL), "there are none so high");
    assert_eq!(set(600, 1, HVMMEM_IOREQ_SERVER).0, error(Errno::INVAL), "nobody has claimed any");
    let id = server(&hvm);
    let claim = |flags| {
        let r#type = HVMMEM_IOREQ_SERVER;
        ask(&hvm, XEN_DMOP_MAP_MEM_TYPE_TO_IOREQ_SERVER, &mut MapMemTypeToIoreqServer { id, r#type, flags, opaque: 0 })
    };
    assert_eq!(claim(XEN_DMOP_IOREQ_MEM_ACCESS_WRITE), 0);
    assert_eq!((set(600, 2, HVMMEM_IOREQ_SERVER).0, hvm.at(601).0), (0, Type::IoreqServer));
    assert_eq!((claim(0), hvm.at(601).0), (0, Type::RamRw));
    hvm.end();
}

#[test]
fn who_may_not_serve_is_refused() {
    let hvm = Hvm::new();
    hvm.world.put(LIST, &DmOpBuf { h: GuestHandle::new(AT), size: 7 });
    let raw = |by, of: u16| hvm.world.finish(by, dm_op, &[of.into(), 1, LIST]);
    assert_eq!(raw(&hvm.world.dom0, 2), error(Errno::FAULT), "too short");
    assert_eq!((raw(&hvm.world.guest, 2), raw(&hvm.world.dom0, 1)), (error(Errno::PERM), error(Errno::INVAL)));
    assert_eq!(raw(&hvm.hvm, 2), error(Errno::PERM), "nobody serves himself");
    assert_eq!(ask(&hvm, 0, &mut [0u64; 3]), error(Errno::OPNOTSUPP));
    assert_eq!(ask(&hvm, XEN_DMOP_SET_IRQ_LEVEL, &mut [0u64; 3]), error(Errno::OPNOTSUPP));
    assert_eq!(claim_ports(&hvm, 5), error(Errno::NOENT));
    let mut count = NrVcpus { vcpus: 0 };
    assert_eq!((ask(&hvm, XEN_DMOP_NR_VCPUS, &mut count), count.vcpus), (0, 2));
    assert_eq!(ask(&hvm, XEN_DMOP_REMOTE_SHUTDOWN, &mut RemoteShutdown { reason: 3 }), 0);
    assert_eq!(hvm.hvm.shutdown_code(), Some(domain::ShutdownCode::CRASH));
    assert!(hvm.hvm.p2m().unwrap().get(Gfn(0)).ty.is_hole());
}

#[test]
fn an_emulator_moves_interrupt_lines() {
    let hvm = Hvm::new();
    let pci = |domain, bus, device, intx, level| {
        ask(&hvm, XEN_DMOP_SET_PCI_INTX_LEVEL, &mut SetPciIntxLevel { domain, bus, device, intx, level })
    };
    let isa = |isa_irq, level| ask(&hvm, XEN_DMOP_SET_ISA_IRQ_LEVEL, &mut SetIsaIrqLevel { isa_irq, level });
    let route = |link, isa_irq| ask(&hvm, XEN_DMOP_SET_PCI_LINK_ROUTE, &mut SetPciLinkRoute { link, isa_irq });
    let msi = |pad| ask(&hvm, XEN_DMOP_INJECT_MSI, &mut InjectMsi { data: 0x41, pad, addr: 0xfee0_1000 });
    let bad = error(Errno::INVAL);
    let refused = [pci(1, 0, 3, 0, 1), pci(0, 1, 3, 0, 1), pci(0, 0, 32, 0, 1), pci(0, 0, 3, 4, 1), pci(0, 0, 3, 0, 2)];
    assert_eq!(refused, [bad; 5]);
    assert_eq!([isa(16, 1), isa(4, 2), route(4, 5), route(0, 16), msi(1)], [bad; 5]);
    assert_eq!([pci(0, 0, 31, 3, 1), isa(15, 0), route(3, 0), msi(0)], [0; 4]);
    let seen = hvm.world.hypervisor.machine().signals.lock().clone();
    let expected = [
        BoardSignal::PciIntx { device: 31, intx: 3, up: true },
        BoardSignal::IsaIrq { irq: 15, up: false },
        BoardSignal::LinkRoute { link: 3, irq: 0 },
        BoardSignal::Msi { address: 0xfee0_1000, data: 0x41 },
    ];
    assert_eq!(seen, expected.map(|signal| (2, signal)));
}

#[test]
fn an_emulator_gives_events() {
    let hvm = Hvm::new();
    let give = |vcpuid, pad0, pad1| {
        let kind = XEN_DMOP_EVENT_HW_EXC;
        let mut op = InjectEvent { vcpuid, vector: 14, r#type: kind, insn_len: 0, pad0, error_code: 2, pad1, cr2: 8 };
        ask(&hvm, XEN_DMOP_INJECT_EVENT, &mut op)
    };
    let bad = error(Errno::INVAL);
    assert_eq!([give(0, 1, 0), give(0, 0, 1), give(99, 0, 0), give(1, 0, 0)], [bad, bad, bad, 0]);
    assert_eq!(give(1, 0, 0), error(Errno::BUSY));
    let event = GivenEvent { vector: 14, kind: XEN_DMOP_EVENT_HW_EXC, length: 0, error_code: 2, cr2: 8 };
    assert_eq!(*hvm.world.hypervisor.machine().given.lock(), [(1, event)]);
}

#[test]
fn buttons_of_a_translated_domain() {
    let hvm = Hvm::new();
    let (cmd, interface_version) = (XEN_DOMCTL_SENDTRIGGER, XEN_DOMCTL_INTERFACE_VERSION);
    let mut op = Domctl { cmd, interface_version, domain: 2, _pad: [0; 3], u: Union([0; 16]) };
    op.u.write(&SendTrigger { trigger: XEN_DOMCTL_SENDTRIGGER_POWER, vcpu: 0 });
    hvm.world.put(AT, &op);
    assert_eq!(hvm.world.call(&hvm.world.dom0, hypercall::domctl::domctl, &[AT]), Outcome::Done(0));
    assert_eq!(*hvm.world.hypervisor.machine().signals.lock(), [(2, BoardSignal::PowerButton)]);
}
