use super::*;
use hypercall::hvm::{dm_op, hvm_op};
use xen_abi::dm_op::DmOpBuf;
use xen_abi::hvm_op::*;
use xen_abi::hvm_params::HVM_NR_PARAMS;

#[test]
fn no_domain_is_an_hvm_guest() {
    let world = World::new();
    let parameter =
        |op, domid, index| world.with(&world.guest, hvm_op, op, &mut HvmParam { domid, pad: 0, index, value: 5 }, &[]);
    for op in [HVMOP_SET_PARAM, HVMOP_GET_PARAM] {
        assert_eq!(parameter(op, DomId::SELF.0, 0), error(Errno::INVAL));
        assert_eq!(parameter(op, 77, 0), error(Errno::SRCH));
        assert_eq!(parameter(op, 77, HVM_NR_PARAMS), error(Errno::INVAL), "the index is looked at first");
    }
    let mut call = HvmGetMemType { domid: 0, mem_type: 0, pad: [0; 2], pfn: 0 };
    assert_eq!(world.with(&world.guest, hvm_op, HVMOP_GET_MEM_TYPE, &mut call, &[]), error(Errno::PERM));
    assert_eq!(world.with(&world.dom0, hvm_op, HVMOP_GET_MEM_TYPE, &mut call, &[]), error(Errno::INVAL));
    let nothing = |op: u32, at| world.call(&world.guest, hvm_op, &[op.into(), at]);
    assert_eq!(nothing(HVMOP_GUEST_REQUEST_VM_EVENT, 0), Outcome::Done(0));
    assert_eq!(nothing(HVMOP_GUEST_REQUEST_VM_EVENT, AT), Errno::INVAL.into());
    assert_eq!(nothing(HVMOP_FLUSH_TLBS, 0), Errno::INVAL.into());
    assert_eq!(nothing(HVMOP_ALTP2M, 0), Errno::OPNOTSUPP.into());
    assert_eq!(nothing(26, 0), Errno::NOSYS.into());
}

#[test]
fn any_guest_may_ask_for_the_time_and_trace() {
    let world = World::new();
    world.machine().set_time(1234);
    let mut time = HvmGetTime { now: 0 };
    assert_eq!(world.with(&world.guest, hvm_op, HVMOP_GET_TIME, &mut time, &[]), 0);
    assert_eq!(time.now, 1234);
    let trace = |event, extra_bytes| {
        let mut call = HvmXentrace { event, extra_bytes, extra: [0; 28] };
        world.with(&world.guest, hvm_op, HVMOP_XENTRACE, &mut call, &[])
    };
    assert_eq!(trace(0xfff, 28), 0);
    assert_eq!(trace(0x1000, 0), error(Errno::INVAL));
    assert_eq!(trace(0, 29), error(Errno::INVAL));
}

#[test]
fn device_models_have_nothing_to_serve() {
    let world = World::new();
    world.put(LIST, &[0u8; 2 * size_of::<DmOpBuf>()]);
    let ask =
        |domain: &Arc<Domain<FakeArch>>, of: u16, count, list| world.call(domain, dm_op, &[of.into(), count, list]);
    assert_eq!(ask(&world.dom0, 1, 3, LIST), Errno::TOOBIG.into());
    assert_eq!(ask(&world.dom0, 1, 2, LIST), Errno::INVAL.into());
    assert_eq!(ask(&world.dom0, 1, 2, 8), Errno::FAULT.into());
    assert_eq!(ask(&world.dom0, 77, 1, LIST), Errno::SRCH.into());
    assert_eq!(ask(&world.guest, DomId::SELF.0, 1, LIST), Errno::SRCH.into());
}
