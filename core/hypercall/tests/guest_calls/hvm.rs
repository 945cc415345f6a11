use super::translated::Hvm;
use super::*;
use hypercall::hvm::{dm_op, hvm_op};
use xen_abi::dm_op::DmOpBuf;
use xen_abi::hvm_op::*;
use xen_abi::hvm_params::*;

#[test]
fn a_pv_guest_has_nothing_of_an_hvm_guest() {
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
fn a_pv_guest_has_no_device_model() {
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

/// Sets a parameter of domain 2, by dom0 or by itself.
fn set(hvm: &Hvm, by: &Arc<Domain<FakeArch>>, index: u32, value: u64) -> i64 {
    let mut call = HvmParam { domid: 2, pad: 0, index, value };
    hvm.world.with(by, hvm_op, HVMOP_SET_PARAM, &mut call, &[])
}

fn get(hvm: &Hvm, by: &Arc<Domain<FakeArch>>, index: u32) -> Result<u64, i64> {
    let mut call = HvmParam { domid: 2, pad: 0, index, value: 77 };
    match hvm.world.with(by, hvm_op, HVMOP_GET_PARAM, &mut call, &[]) {
        0 => Ok(call.value),
        error => Err(error),
    }
}

#[test]
fn parameters_are_kept() {
    let hvm = Hvm::new();
    let (dom0, guest) = (&hvm.world.dom0, &hvm.hvm);
    assert_eq!((get(&hvm, dom0, HVM_PARAM_STORE_PFN), set(&hvm, dom0, HVM_PARAM_STORE_PFN, 0xfefff)), (Ok(0), 0));
    assert_eq!(get(&hvm, guest, HVM_PARAM_STORE_PFN), Ok(0xfefff));
    assert_eq!(set(&hvm, guest, HVM_PARAM_STORE_PFN, 5), error(Errno::PERM));
    assert_eq!((set(&hvm, guest, HVM_PARAM_STORE_EVTCHN, 5), get(&hvm, dom0, HVM_PARAM_STORE_EVTCHN)), (0, Ok(5)));
    assert_eq!(set(&hvm, &hvm.world.guest, HVM_PARAM_STORE_EVTCHN, 6), error(Errno::PERM), "another's");
    assert_eq!(set(&hvm, dom0, HVM_PARAM_PAE_ENABLED, 1), error(Errno::INVAL));
    assert_eq!(get(&hvm, dom0, HVM_PARAM_DM_DOMAIN), Err(error(Errno::INVAL)));
    assert_eq!(
        (get(&hvm, guest, HVM_PARAM_IDENT_PT), get(&hvm, dom0, HVM_PARAM_IDENT_PT)),
        (Err(error(Errno::PERM)), Ok(0))
    );
    assert_eq!(set(&hvm, dom0, HVM_PARAM_ALTP2M, 0), error(Errno::EXIST));
}

#[test]
fn some_parameters_are_set_once() {
    let hvm = Hvm::new();
    let set = |index, value| set(&hvm, &hvm.world.dom0, index, value);
    assert_eq!((set(HVM_PARAM_IOREQ_SERVER_PFN, 8), set(HVM_PARAM_IOREQ_SERVER_PFN, 8)), (0, 0));
    assert_eq!(set(HVM_PARAM_IOREQ_SERVER_PFN, 9), error(Errno::EXIST));
    assert_eq!(set(HVM_PARAM_NR_IOREQ_SERVER_PAGES, 65), error(Errno::INVAL));
    assert_eq!((set(HVM_PARAM_STORE_PFN, 8), set(HVM_PARAM_STORE_PFN, 9)), (0, 0));
}

#[test]
fn values_are_checked() {
    let hvm = Hvm::new();
    let (dom0, set) = (&hvm.world.dom0, |index, value| set(&hvm, &hvm.world.dom0, index, value));
    assert_eq!((set(HVM_PARAM_TIMER_MODE, 3), set(HVM_PARAM_TIMER_MODE, 4)), (0, error(Errno::INVAL)));
    assert_eq!((set(HVM_PARAM_X87_FIP_WIDTH, 4), set(HVM_PARAM_X87_FIP_WIDTH, 5)), (0, error(Errno::INVAL)));
    assert_eq!(set(HVM_PARAM_TRIPLE_FAULT_REASON, 6), error(Errno::INVAL));
    assert_eq!((set(HVM_PARAM_VM86_TSS, 0x1000), get(&hvm, dom0, HVM_PARAM_VM86_TSS)), (0, Ok(0x1000)));
    assert_eq!(get(&hvm, dom0, HVM_PARAM_VM86_TSS_SIZED), Ok(128 << 32 | 0x1000));
    assert_eq!(set(HVM_PARAM_VM86_TSS_SIZED, 103 << 32), error(Errno::INVAL));
    assert_eq!(set(HVM_PARAM_VM86_TSS_SIZED, u64::MAX << 32 | 0x2000), 0);
    assert_eq!(get(&hvm, dom0, HVM_PARAM_VM86_TSS_SIZED), Ok(8329 << 32 | 0x2000));
    assert_eq!(set(HVM_PARAM_VIRIDIAN, 2), error(Errno::INVAL), "not without the base");
    assert_eq!(set(HVM_PARAM_VIRIDIAN, 3), error(Errno::OPNOTSUPP), "the architecture's word");
    assert_eq!(get(&hvm, dom0, HVM_PARAM_VIRIDIAN), Ok(0));
    let vector = 2 << 56 | 0xf3;
    assert_eq!((set(HVM_PARAM_CALLBACK_IRQ, vector), get(&hvm, dom0, HVM_PARAM_CALLBACK_IRQ)), (0, Ok(vector)));
    let expected = [(HVM_PARAM_TIMER_MODE, 3), (HVM_PARAM_CALLBACK_IRQ, vector)];
    assert_eq!(*hvm.world.hypervisor.machine().parameters.lock(), expected);
}

#[test]
fn an_hvm_guest_asks_for_itself() {
    let hvm = Hvm::new();
    let vector = |vcpu, vector| {
        let mut call = HvmEvtchnUpcallVector { vcpu, vector, _gap0: [0; 3] };
        hvm.world.with(&hvm.hvm, hvm_op, HVMOP_SET_EVTCHN_UPCALL_VECTOR, &mut call, &[])
    };
    assert_eq!((vector(0, 15), vector(9, 16), vector(1, 16)), (error(Errno::INVAL), error(Errno::NOENT), 0));
    assert_eq!(*hvm.world.hypervisor.machine().parameters.lock(), [(1, 16)]);
    assert_eq!(hvm.world.call(&hvm.hvm, hvm_op, &[HVMOP_FLUSH_TLBS.into(), 0]), Outcome::Done(0));
    assert_eq!(hvm.world.machine().flushes.lock().unwrap()[&2], 1);
    hvm.populate(&[5], 0);
    let kind = |pfn| {
        let mut call = HvmGetMemType { domid: DomId::SELF.0, mem_type: 9, pad: [0; 2], pfn };
        assert_eq!(hvm.world.with(&hvm.hvm, hvm_op, HVMOP_GET_MEM_TYPE, &mut call, &[]), 0);
        call.mem_type
    };
    assert_eq!((kind(5), kind(6)), (HVMMEM_RAM_RW, HVMMEM_MMIO_DM));
}
