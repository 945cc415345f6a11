//! Properties of a domain and its vCPUs.

use crate::{LIST, World, bitmap, error};
use std::sync::atomic::Ordering::SeqCst;
use types::{DomId, Errno};
use xen_abi::domctl::*;
use xen_abi::xen::{VIRQ_CONSOLE, VIRQ_DOM_EXC, VIRQ_TIMER};
use zerocopy::FromZeros;

fn affinity(flags: u32, bits: u32) -> VcpuAffinity {
    VcpuAffinity { vcpu: 1, flags, cpumap_hard: bitmap(LIST, bits), cpumap_soft: bitmap(LIST + 64, bits) }
}

#[test]
fn affinity_is_cut_to_what_there_is() {
    let world = World::new();
    let id = world.guest();
    world.put(LIST, &[0xff_u8; 8]);
    world.put(LIST + 64, &[2_u8, 0, 0, 0, 0, 0, 0, 0]);
    let both = XEN_VCPUAFFINITY_HARD | XEN_VCPUAFFINITY_SOFT;
    assert_eq!(world.domctl(XEN_DOMCTL_SETVCPUAFFINITY, id, &mut affinity(both, 64)), 0);
    assert_eq!(world.get::<u64>(LIST), 3);
    assert_eq!(world.get::<u64>(LIST + 64), 2);
    world.put(LIST, &[0xff_u8; 512]);
    assert_eq!(world.domctl(XEN_DOMCTL_GETVCPUAFFINITY, id, &mut affinity(XEN_VCPUAFFINITY_HARD, 4096)), 0);
    let mut expected = [0_u8; 512];
    expected[0] = 3;
    assert_eq!(world.get::<[u8; 512]>(LIST), expected, "all of the toolstack's bitmap is written");
    world.put(LIST, &[0xff_u8; 2]);
    assert_eq!(world.domctl(XEN_DOMCTL_GETVCPUAFFINITY, id, &mut affinity(XEN_VCPUAFFINITY_HARD, 1)), 0);
    assert_eq!(world.get::<u16>(LIST), 0xff01, "one bit only");

    world.put(LIST, &4_u64);
    assert_eq!(
        world.domctl(XEN_DOMCTL_SETVCPUAFFINITY, id, &mut affinity(XEN_VCPUAFFINITY_HARD, 64)),
        error(Errno::INVAL),
        "a CPU that is not there"
    );
    assert_eq!(world.domctl(XEN_DOMCTL_SETVCPUAFFINITY, id, &mut affinity(0, 64)), error(Errno::INVAL));
    let mut no_map = affinity(XEN_VCPUAFFINITY_SOFT, 64);
    no_map.cpumap_soft = bitmap(0, 64);
    assert_eq!(world.domctl(XEN_DOMCTL_SETVCPUAFFINITY, id, &mut no_map), error(Errno::INVAL));
    let mut no_vcpu = affinity(XEN_VCPUAFFINITY_SOFT, 64);
    no_vcpu.vcpu = 2;
    assert_eq!(world.domctl(XEN_DOMCTL_SETVCPUAFFINITY, id, &mut no_vcpu), error(Errno::INVAL));
}

#[test]
fn there_is_one_node() {
    let world = World::new();
    let id = world.guest();
    world.put(LIST, &0_u64);
    let mut op = NodeAffinity { nodemap: bitmap(LIST, 64) };
    assert_eq!(world.domctl(XEN_DOMCTL_SETNODEAFFINITY, id, &mut op), error(Errno::INVAL));
    assert_eq!(world.domctl(XEN_DOMCTL_GETNODEAFFINITY, id, &mut op), 0);
    assert_eq!(world.get::<u64>(LIST), 1);
    assert_eq!(world.domctl(XEN_DOMCTL_SETNODEAFFINITY, id, &mut op), 0);
}

#[test]
fn shares_are_kept() {
    let world = World::new();
    let id = world.guest();
    let operation = |cmd, sched_id, weight, cap| {
        let mut op = SchedulerOp { sched_id, cmd, u: xen_abi::Union([0; 2]) };
        op.u.write(&SchedCredit2 { weight, cap });
        let result = world.domctl(XEN_DOMCTL_SCHEDULER_OP, id, &mut op);
        let now = op.u.read::<SchedCredit2>();
        (result, now.weight, now.cap)
    };
    let (get, put) = (XEN_DOMCTL_SCHEDOP_GETINFO, XEN_DOMCTL_SCHEDOP_PUTINFO);
    assert_eq!(operation(get, XEN_SCHEDULER_CREDIT2, 0, 0), (0, 256, 0));
    assert_eq!(operation(put, XEN_SCHEDULER_CREDIT2, 512, 50), (0, 512, 50));
    assert_eq!(operation(put, XEN_SCHEDULER_CREDIT2, 0, 0).0, 0);
    assert_eq!(operation(get, XEN_SCHEDULER_CREDIT2, 0, 9), (0, 512, 0), "weight 0 leaves it, cap 0 is none");
    assert_eq!(operation(get, XEN_SCHEDULER_CREDIT, 0, 0).0, error(Errno::INVAL));
    assert_eq!(operation(7, XEN_SCHEDULER_CREDIT2, 0, 0).0, error(Errno::INVAL));
}

#[test]
fn a_cap_has_a_timer_until_it_is_lifted_or_the_domain_goes() {
    const PERIOD: u64 = 10_000_000;
    let world = World::new();
    let id = world.guest();
    let set = |cap| {
        let mut op =
            SchedulerOp { sched_id: XEN_SCHEDULER_CREDIT2, cmd: XEN_DOMCTL_SCHEDOP_PUTINFO, u: xen_abi::Union([0; 2]) };
        op.u.write(&SchedCredit2 { weight: 0, cap });
        assert_eq!(world.domctl(XEN_DOMCTL_SCHEDULER_OP, id, &mut op), 0);
    };
    let timers = &world.hypervisor.cpus[0].timers;
    let next = || timers.lock().next_deadline();
    let before = next();
    set(40);
    assert_eq!((before, next()), (None, Some(PERIOD)));
    let (_, event) = timers.lock().expire(PERIOD).unwrap();
    world.hypervisor.timer_expired(event, PERIOD);
    assert_eq!(next(), Some(2 * PERIOD), "the next period follows");
    set(0);
    assert_eq!(next(), None);
    set(40);
    while world.domctl(XEN_DOMCTL_DESTROYDOMAIN, id, &mut [0_u64; 16]) != 0 {}
    assert_eq!(next(), None);
}

#[test]
fn vcpus_are_shown() {
    let world = World::new();
    let id = world.guest();
    let mut op = GetVcpuInfo { vcpu: 1, ..GetVcpuInfo::new_zeroed() };
    assert_eq!(world.domctl(XEN_DOMCTL_GETVCPUINFO, id, &mut op), 0);
    assert_eq!((op.online, op.blocked, op.running, op.cpu_time, op.cpu), (0, 0, 0, 0, 0));
    op.vcpu = 2;
    assert_eq!(world.domctl(XEN_DOMCTL_GETVCPUINFO, id, &mut op), error(Errno::INVAL));
    let vcpu = &world.dom0.vcpus()[0];
    world.hypervisor.bring_up(vcpu);
    vcpu.set_running_on(Some(types::CpuId(1)));
    vcpu.runstate.lock().change(sched::Runstate::Running, 0);
    world.machine().set_time(5000);
    op.vcpu = 0;
    assert_eq!(world.domctl(XEN_DOMCTL_GETVCPUINFO, 0, &mut op), 0);
    assert_eq!((op.online, op.running, op.cpu_time, op.cpu), (1, 1, 5000, 1));
    let mut info = GetDomainInfo::new_zeroed();
    assert_eq!(world.domctl(XEN_DOMCTL_GETDOMAININFO, 0, &mut info), 0);
    assert_eq!((info.cpu_time, info.nr_online_vcpus), (5000, 1));
    assert_eq!(info.flags & (XEN_DOMINF_RUNNING | XEN_DOMINF_BLOCKED), XEN_DOMINF_RUNNING);
}

#[test]
fn single_values() {
    let world = World::new();
    let id = world.guest();
    let domain = world.hypervisor.domains.get(DomId(id)).unwrap();
    assert_eq!(world.domctl(XEN_DOMCTL_MAX_MEM, id, &mut MaxMem { max_memkb: 4099 }), 0);
    assert_eq!(domain.memory.max_pages(), 1024);
    assert_eq!(world.domctl(XEN_DOMCTL_MAX_MEM, id, &mut MaxMem { max_memkb: u64::MAX }), 0);
    assert_eq!(domain.memory.max_pages(), u32::MAX.into());
    assert_eq!(world.domctl(XEN_DOMCTL_SETDOMAINHANDLE, id, &mut SetDomainHandle { handle: [3; 16] }), 0);
    assert_eq!(*domain.handle.lock(), [3; 16]);
    assert_eq!(world.domctl(XEN_DOMCTL_SETTIMEOFFSET, id, &mut SetTimeOffset { time_offset_seconds: -7 }), 0);
    assert_eq!(domain.time_offset.load(SeqCst), -7);
    assert_eq!(world.domctl(XEN_DOMCTL_SUBSCRIBE, id, &mut Subscribe { port: 5 }), 0);
    assert_eq!(domain.suspend_port.load(SeqCst), 5);
    let handler = |virq| world.domctl(XEN_DOMCTL_SET_VIRQ_HANDLER, id, &mut SetVirqHandler { virq });
    assert_eq!(handler(VIRQ_DOM_EXC), 0);
    assert_eq!(world.hypervisor.virqs.handler(VIRQ_DOM_EXC), DomId(id));
    assert_eq!(world.hypervisor.virqs.handler(VIRQ_CONSOLE), DomId::DOM0);
    assert_eq!(handler(VIRQ_TIMER), error(Errno::INVAL));
    assert_eq!(handler(99), error(Errno::INVAL));
}

#[test]
fn triggers_and_permissions() {
    let world = World::new();
    let id = world.guest();
    let domain = world.hypervisor.domains.get(DomId(id)).unwrap();
    let trigger = |trigger, vcpu| world.domctl(XEN_DOMCTL_SENDTRIGGER, id, &mut SendTrigger { trigger, vcpu });
    assert_eq!(trigger(XEN_DOMCTL_SENDTRIGGER_NMI, 1), 0);
    assert!(domain.vcpus()[1].nmi_pending.load(SeqCst));
    assert_eq!(trigger(XEN_DOMCTL_SENDTRIGGER_NMI, 2), error(Errno::SRCH));
    assert_eq!(trigger(XEN_DOMCTL_SENDTRIGGER_POWER, 0), error(Errno::INVAL));
    assert_eq!(trigger(XEN_DOMCTL_SENDTRIGGER_RESET, 0), error(Errno::NOSYS));

    let mut memory =
        IoMemPermission { first_mfn: 0xfe000, nr_mfns: 2, allow_access: 1, ..IoMemPermission::new_zeroed() };
    assert_eq!(world.domctl(XEN_DOMCTL_IOMEM_PERMISSION, id, &mut memory), 0);
    assert!(domain.rights.lock().may_map(0xfe000, 0xfe001));
    memory.nr_mfns = 0;
    assert_eq!(world.domctl(XEN_DOMCTL_IOMEM_PERMISSION, id, &mut memory), error(Errno::INVAL));
    (memory.first_mfn, memory.nr_mfns) = (u64::MAX, 2);
    assert_eq!(world.domctl(XEN_DOMCTL_IOMEM_PERMISSION, id, &mut memory), error(Errno::INVAL));
    let mut irq = IrqPermission { pirq: 9, allow_access: 1, pad: [0; 3] };
    assert_eq!(world.domctl(XEN_DOMCTL_IRQ_PERMISSION, id, &mut irq), error(Errno::PERM), "not the caller's own");
    world.dom0.rights.lock().change_irqs(1, 23, true).unwrap();
    assert_eq!(world.domctl(XEN_DOMCTL_IRQ_PERMISSION, id, &mut irq), 0);
    assert_eq!(domain.rights.lock().irqs, [(9, 9)]);
    irq.pirq = 256;
    assert_eq!(world.domctl(XEN_DOMCTL_IRQ_PERMISSION, id, &mut irq), error(Errno::INVAL));
}
