//! Sysctls.

use crate::{AT, LIST, World, bitmap, error, sysctl_envelope};
use platform::{NodeMemory, Nodes};
use types::{DomId, Errno, Mfn};
use xen_abi::GuestHandle;
use xen_abi::domctl::{GetDomainInfo, XEN_SCHEDULER_CREDIT2};
use xen_abi::sysctl::*;
use zerocopy::FromZeros;

#[test]
fn the_host_is_described() {
    let world = World::new();
    let mut info = PhysInfo::new_zeroed();
    assert_eq!(world.sysctl(XEN_SYSCTL_PHYSINFO, &mut info), 0);
    assert_eq!((info.nr_cpus, info.max_cpu_id, info.nr_nodes, info.cpu_khz), (2, 1, 1, 1_000_000));
    assert_eq!((info.total_pages, info.max_mfn), (512, 511), "all RAM, the hypervisor's own too");
    assert_eq!(info.free_pages, world.hypervisor.memory.free_pages());
    assert_eq!(info.capabilities, 0x302, "PV and both versions of grant tables");

    let mut id = SchedId { sched_id: 0 };
    assert_eq!(world.sysctl(XEN_SYSCTL_SCHED_ID, &mut id), 0);
    assert_eq!(id.sched_id, XEN_SCHEDULER_CREDIT2);

    let mut topology = CpuTopoInfo { num_cpus: 0, _gap0: [0; 4], cputopo: GuestHandle::null() };
    assert_eq!(world.sysctl(XEN_SYSCTL_CPUTOPOINFO, &mut topology), 0);
    assert_eq!(topology.num_cpus, 2);
    topology.cputopo = GuestHandle::new(LIST);
    assert_eq!(world.sysctl(XEN_SYSCTL_CPUTOPOINFO, &mut topology), 0);
    assert_eq!(world.get::<[CpuTopo; 2]>(LIST).map(|place| (place.core, place.socket)), [(0, 0), (1, 0)]);

    let mut nodes = NumaInfo::new_zeroed();
    assert_eq!(world.sysctl(XEN_SYSCTL_NUMAINFO, &mut nodes), 0);
    assert_eq!(nodes.num_nodes, 1);
    (nodes.meminfo, nodes.distance) = (GuestHandle::new(LIST), GuestHandle::new(LIST + 64));
    assert_eq!(world.sysctl(XEN_SYSCTL_NUMAINFO, &mut nodes), 0);
    assert_eq!((world.get::<MemInfo>(LIST).memsize, world.get::<u32>(LIST + 64)), (512 * 4096, 10));

    let mut times = GetCpuInfo { max_cpus: 99, info: GuestHandle::new(LIST), ..GetCpuInfo::new_zeroed() };
    assert_eq!(world.sysctl(XEN_SYSCTL_GETCPUINFO, &mut times), 0);
    assert_eq!(times.nr_cpus, 2);
    let mut heap = AvailHeap { node: -1, ..AvailHeap::new_zeroed() };
    assert_eq!(world.sysctl(XEN_SYSCTL_AVAILHEAP, &mut heap), 0);
    assert_eq!(heap.avail_bytes, info.free_pages * 4096);
}

#[test]
fn nodes_have_their_own_cpus_and_memory() {
    let range = |first, end, node| NodeMemory { first: Mfn(first), end: Mfn(end), node };
    let nodes = Nodes::new(2, vec![range(0, 128, 1), range(128, 512, 0)], vec![10, 21, 31, 10]);
    let world = World::of_nodes(nodes.unwrap());
    let mut info = PhysInfo::new_zeroed();
    assert_eq!(world.sysctl(XEN_SYSCTL_PHYSINFO, &mut info), 0);
    assert_eq!((info.nr_nodes, info.max_node_id), (2, 1));
    let mut topology = CpuTopoInfo { num_cpus: 2, _gap0: [0; 4], cputopo: GuestHandle::new(LIST) };
    assert_eq!(world.sysctl(XEN_SYSCTL_CPUTOPOINFO, &mut topology), 0);
    assert_eq!(world.get::<[CpuTopo; 2]>(LIST).map(|place| place.node), [0, 1]);

    let mut ask = NumaInfo { num_nodes: 64, ..NumaInfo::new_zeroed() };
    (ask.meminfo, ask.distance) = (GuestHandle::new(LIST), GuestHandle::new(LIST + 64));
    assert_eq!(world.sysctl(XEN_SYSCTL_NUMAINFO, &mut ask), 0);
    let memory = world.get::<[MemInfo; 2]>(LIST);
    assert_eq!((ask.num_nodes, memory.each_ref().map(|node| node.memsize)), (2, [384 * 4096, 128 * 4096]));
    assert_eq!(memory[0].memfree + memory[1].memfree, info.free_pages * 4096);
    assert_eq!(world.get::<[u32; 4]>(LIST + 64), [10, 21, 31, 10]);
    for (node, bytes) in [(0, memory[0].memfree), (1, memory[1].memfree), (2, 0), (-1, info.free_pages * 4096)] {
        let mut heap = AvailHeap { node, ..AvailHeap::new_zeroed() };
        assert_eq!(world.sysctl(XEN_SYSCTL_AVAILHEAP, &mut heap), 0);
        assert_eq!(heap.avail_bytes, bytes, "node {node}");
    }
    ask.num_nodes = 1;
    world.put(LIST + 64, &[7u32; 4]);
    assert_eq!(world.sysctl(XEN_SYSCTL_NUMAINFO, &mut ask), 0);
    assert_eq!((ask.num_nodes, world.get::<[u32; 4]>(LIST + 64)), (1, [10, 7, 7, 7]), "as wide as asked for");
}

#[test]
fn domains_are_listed_from_a_number_on() {
    let world = World::new();
    assert_eq!((world.guest(), world.guest()), (1, 2));
    let list = |first_domain, max_domains| {
        let mut op = GetDomainInfoList { first_domain, max_domains, ..GetDomainInfoList::new_zeroed() };
        op.buffer = GuestHandle::new(LIST);
        assert_eq!(world.sysctl(XEN_SYSCTL_GETDOMAININFOLIST, &mut op), 0);
        let size = size_of::<GetDomainInfo>() as u64;
        let at = |index| world.get::<GetDomainInfo>(LIST + u64::from(index) * size).domain;
        (0..op.num_domains).map(at).collect::<Vec<_>>()
    };
    assert_eq!(list(0, 0x7ff0), [0, 1, 2]);
    assert_eq!(list(1, 0x7fef), [1, 2]);
    assert_eq!(list(0, 1), [0]);
    assert!(list(3, 9).is_empty());
    assert!(list(0x7fff, 9).is_empty());
}

#[test]
fn there_is_one_pool() {
    let world = World::new();
    let mut op = CpupoolOp { op: XEN_SYSCTL_CPUPOOL_OP_INFO, cpumap: bitmap(LIST, 64), ..CpupoolOp::new_zeroed() };
    assert_eq!(world.sysctl(XEN_SYSCTL_CPUPOOL_OP, &mut op), 0);
    assert_eq!((op.cpupool_id, op.sched_id, op.n_dom), (0, XEN_SCHEDULER_CREDIT2, 1));
    assert_eq!(world.get::<u64>(LIST), 3);
    op.op = XEN_SYSCTL_CPUPOOL_OP_FREEINFO;
    assert_eq!(world.sysctl(XEN_SYSCTL_CPUPOOL_OP, &mut op), 0);
    assert_eq!(world.get::<u64>(LIST), 0);
    (op.op, op.cpupool_id) = (XEN_SYSCTL_CPUPOOL_OP_INFO, 1);
    assert_eq!(world.sysctl(XEN_SYSCTL_CPUPOOL_OP, &mut op), error(Errno::NOENT));
    op.op = XEN_SYSCTL_CPUPOOL_OP_CREATE;
    assert_eq!(world.sysctl(XEN_SYSCTL_CPUPOOL_OP, &mut op), error(Errno::OPNOTSUPP));
    op.op = 99;
    assert_eq!(world.sysctl(XEN_SYSCTL_CPUPOOL_OP, &mut op), error(Errno::NOSYS));
}

#[test]
fn the_rate_limit_is_checked() {
    let world = World::new();
    let operation = |cmd, limit| {
        let mut op = SchedulerOp { sched_id: XEN_SCHEDULER_CREDIT2, cmd, ..SchedulerOp::new_zeroed() };
        op.u.write(&Credit2Schedule { ratelimit_us: limit });
        let result = world.sysctl(XEN_SYSCTL_SCHEDULER_OP, &mut op);
        (result, op.u.read::<Credit2Schedule>().ratelimit_us)
    };
    assert_eq!(operation(XEN_SYSCTL_SCHEDOP_PUTINFO, 2000).0, 0);
    assert_eq!(operation(XEN_SYSCTL_SCHEDOP_GETINFO, 0), (0, 2000));
    assert_eq!(operation(XEN_SYSCTL_SCHEDOP_PUTINFO, 7).0, error(Errno::INVAL));
    assert_eq!(operation(5, 7).0, error(Errno::INVAL));
}

#[test]
fn the_console_is_read() {
    let world = World::new();
    let text: Vec<u8> = (0..700).map(|index| b'a' + (index % 26) as u8).collect();
    *world.hypervisor.machine().ring.lock() = text.clone();
    let mut op = ReadConsole { buffer: GuestHandle::new(LIST), count: 600, ..ReadConsole::new_zeroed() };
    assert_eq!(world.sysctl(XEN_SYSCTL_READCONSOLE, &mut op), 0);
    assert_eq!((op.count, op.index), (600, 600));
    assert_eq!(world.get::<[u8; 600]>(LIST)[..], text[..600]);
    (op.incremental, op.clear, op.count) = (1, 1, 600);
    assert_eq!(world.sysctl(XEN_SYSCTL_READCONSOLE, &mut op), 0);
    assert_eq!((op.count, op.index), (100, 700));
    assert_eq!(world.get::<[u8; 100]>(LIST)[..], text[600..]);
    assert!(world.hypervisor.machine().ring.lock().is_empty());
}

#[test]
fn every_debug_key_reports() {
    let world = World::new();
    world.guest();
    world.machine().map_guest(LIST, b"hegmqrt*?\x01");
    let mut op = DebugKeys { keys: GuestHandle::new(LIST), nr_keys: 10, _gap0: [0; 4] };
    assert_eq!(world.sysctl(XEN_SYSCTL_DEBUG_KEYS, &mut op), 0);
    op.nr_keys = 65;
    assert_eq!(world.sysctl(XEN_SYSCTL_DEBUG_KEYS, &mut op), error(Errno::INVAL));
    (op.keys, op.nr_keys) = (GuestHandle::new(0xdead_0000), 1);
    assert_eq!(world.sysctl(XEN_SYSCTL_DEBUG_KEYS, &mut op), error(Errno::FAULT));
}

#[test]
fn power_settings_are_kept_and_cpus_have_no_power_data() {
    let world = World::new();
    let mut statistics = GetPmStat { r#type: PMSTAT_GET_MAX_CX, ..GetPmStat::new_zeroed() };
    assert_eq!(world.sysctl(XEN_SYSCTL_GET_PMSTAT, &mut statistics), error(Errno::NODEV));
    statistics.r#type = PMSTAT_GET_MAX_PX;
    assert_eq!(world.sysctl(XEN_SYSCTL_GET_PMSTAT, &mut statistics), error(Errno::NODEV));
    statistics.cpuid = 77;
    assert_eq!(world.sysctl(XEN_SYSCTL_GET_PMSTAT, &mut statistics), error(Errno::INVAL));
    let op = |cmd, cpuid, value: u32| {
        let mut op = PmOp { cmd, cpuid, ..PmOp::new_zeroed() };
        op.u.write(&value);
        (world.sysctl(XEN_SYSCTL_PM_OP, &mut op), op.u.read::<u32>())
    };
    assert_eq!(op(XEN_SYSCTL_PM_OP_GET_MAX_CSTATE, 0, 7), (0, XEN_SYSCTL_CX_UNLIMITED));
    assert_eq!(op(XEN_SYSCTL_PM_OP_SET_MAX_CSTATE, 1, 3).0, 0);
    assert_eq!(op(XEN_SYSCTL_PM_OP_GET_MAX_CSTATE, 0, 7).1, XEN_SYSCTL_CX_UNLIMITED);
    assert_eq!(op(XEN_SYSCTL_PM_OP_GET_MAX_CSTATE, 1, 7), (0, 3));
    assert_eq!(op(XEN_SYSCTL_PM_OP_SET_SCHED_OPT_SMT, 0, 5), (0, 0));
    assert_eq!(op(XEN_SYSCTL_PM_OP_SET_SCHED_OPT_SMT, 0, 0), (0, 1), "the old setting is answered");
    assert_eq!(op(XEN_SYSCTL_PM_OP_ENABLE_TURBO, 0, 0).0, error(Errno::ACCES));
    assert_eq!(op(SET_CPUFREQ_GOV, 0, 0).0, error(Errno::INVAL));
    assert_eq!(op(XEN_SYSCTL_PM_OP_GET_MAX_CSTATE, 2, 0).0, error(Errno::INVAL), "there are two CPUs");
    assert_eq!(op(0x3f, 0, 0).0, error(Errno::NOSYS));
}

#[test]
fn no_part_of_the_machine_can_be_switched_off() {
    let world = World::new();
    let cpu = |cpu, op| world.sysctl(XEN_SYSCTL_CPU_HOTPLUG, &mut CpuHotplug { cpu, op });
    assert_eq!(cpu(1, XEN_SYSCTL_CPU_HOTPLUG_ONLINE), error(Errno::EXIST));
    assert_eq!(cpu(2, XEN_SYSCTL_CPU_HOTPLUG_ONLINE), error(Errno::INVAL));
    assert_eq!(cpu(0, XEN_SYSCTL_CPU_HOTPLUG_OFFLINE), error(Errno::INVAL));
    assert_eq!(cpu(1, XEN_SYSCTL_CPU_HOTPLUG_OFFLINE), error(Errno::OPNOTSUPP));
    assert_eq!(cpu(0, XEN_SYSCTL_CPU_HOTPLUG_SMT_ENABLE), error(Errno::OPNOTSUPP));

    let pages = |cmd, start, end| {
        world.put(LIST, &[7u32; 4]);
        let mut op = PageOfflineOp { cmd, start, end, _gap0: [0; 4], status: GuestHandle::new(LIST) };
        (world.sysctl(XEN_SYSCTL_PAGE_OFFLINE_OP, &mut op), world.get::<[u32; 4]>(LIST))
    };
    let invalid = PG_OFFLINE_INVALID as u32;
    assert_eq!(pages(SYSCTL_QUERY_PAGE_OFFLINE, 20, 21), (0, [0, 0, 7, 7]));
    assert_eq!(pages(SYSCTL_PAGE_ONLINE, 511, 513), (error(Errno::INVAL), [0, invalid, 7, 7]));
    assert_eq!(pages(SYSCTL_PAGE_OFFLINE, 20, 20), (error(Errno::OPNOTSUPP), [invalid, 7, 7, 7]));
    assert_eq!(pages(SYSCTL_QUERY_PAGE_OFFLINE, 21, 20).0, error(Errno::INVAL));
    assert_eq!(pages(SYSCTL_QUERY_PAGE_OFFLINE, 0, u32::MAX).0, error(Errno::NOMEM));
    assert_eq!(pages(9, 20, 20).0, error(Errno::INVAL));
}

#[test]
fn there_are_no_live_patches() {
    let world = World::new();
    let list = |nr, pad| {
        let mut op = LivepatchOp { cmd: XEN_SYSCTL_LIVEPATCH_LIST, ..LivepatchOp::new_zeroed() };
        op.u.write(&LivepatchList { nr, pad, name_total_size: 5, ..LivepatchList::new_zeroed() });
        let result = world.sysctl(XEN_SYSCTL_LIVEPATCH_OP, &mut op);
        let list = op.u.read::<LivepatchList>();
        (result, list.nr, list.name_total_size)
    };
    assert_eq!(list(0, 0), (0, 0, 0));
    assert_eq!(list(1024, 0), (0, 0, 0));
    assert_eq!(list(1025, 0).0, error(Errno::TOOBIG));
    assert_eq!(list(0, 1).0, error(Errno::INVAL));

    let named = |cmd, text: &[u8]| {
        world.machine().map_guest(LIST, text);
        let name = LivepatchName { name: GuestHandle::new(LIST), size: text.len() as u16, pad: [0; 3] };
        let mut op = LivepatchOp { cmd, ..LivepatchOp::new_zeroed() };
        match cmd {
            XEN_SYSCTL_LIVEPATCH_GET => op.u.write(&LivepatchGet { name, ..LivepatchGet::new_zeroed() }),
            _ => op.u.write(&LivepatchAction { name, ..LivepatchAction::new_zeroed() }),
        }
        world.sysctl(XEN_SYSCTL_LIVEPATCH_OP, &mut op)
    };
    for cmd in [XEN_SYSCTL_LIVEPATCH_GET, XEN_SYSCTL_LIVEPATCH_ACTION] {
        assert_eq!(named(cmd, b"xsa\0"), error(Errno::NOENT));
        assert_eq!(named(cmd, b"xsa"), error(Errno::INVAL));
        assert_eq!(named(cmd, b""), error(Errno::INVAL));
        assert_eq!(named(cmd, &[0; 129]), error(Errno::INVAL));
    }
    assert_eq!(named(XEN_SYSCTL_LIVEPATCH_UPLOAD, b"xsa\0"), error(Errno::OPNOTSUPP));
}

#[test]
fn what_is_absent_answers_as_without_it() {
    let mut world = World::new();
    let mut nothing = [0_u64; 16];
    assert_eq!(world.sysctl(XEN_SYSCTL_TBUF_OP, &mut nothing), error(Errno::NOSYS));
    assert_eq!(world.sysctl(4711, &mut nothing), error(Errno::NOSYS));
    let mut op = sysctl_envelope(XEN_SYSCTL_PHYSINFO);
    op.interface_version = 0x14;
    world.put(AT, &op);
    assert_eq!(world.call(hypercall::sysctl::sysctl, &[AT]), error(Errno::ACCES));
    world.caller = world.hypervisor.domains.get(DomId(world.guest())).unwrap();
    assert_eq!(world.sysctl(XEN_SYSCTL_PHYSINFO, &mut nothing), error(Errno::PERM));
}
