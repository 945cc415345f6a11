//! From createdomain to destroydomain.

use crate::{AT, World, configuration, error};
use types::{DomId, Errno};
use xen_abi::domctl::*;
use zerocopy::FromZeros;

fn info(world: &World, id: u16) -> Result<GetDomainInfo, i64> {
    let mut info = GetDomainInfo::new_zeroed();
    match world.domctl(XEN_DOMCTL_GETDOMAININFO, id, &mut info) {
        0 => Ok(info),
        errno => Err(errno),
    }
}

#[test]
fn a_domain_comes_and_goes() {
    let world = World::new();
    let free = world.hypervisor.memory.free_pages();
    let (result, id) = world.domctl_with(XEN_DOMCTL_CREATEDOMAIN, 0, &mut configuration());
    assert_eq!((result, id), (0, 1));

    let fresh = info(&world, 1).unwrap();
    assert_eq!((fresh.domain, fresh.max_vcpu_id, fresh.nr_online_vcpus), (1, XEN_INVALID_MAX_VCPU_ID, 0));
    assert_eq!(fresh.flags, XEN_DOMINF_PAUSED | 0xffff_0000);
    assert_eq!((fresh.handle, fresh.max_pages, fresh.tot_pages), ([9; 16], 0, 0));
    assert_eq!(fresh.shared_info_frame, world.hypervisor.domains.get(DomId(1)).unwrap().shared_info.0);

    assert_eq!(world.domctl(XEN_DOMCTL_MAX_VCPUS, 1, &mut MaxVcpus { max: 1 }), error(Errno::INVAL));
    assert_eq!(world.domctl(XEN_DOMCTL_MAX_VCPUS, 1, &mut MaxVcpus { max: 2 }), 0);
    assert_eq!(world.domctl(XEN_DOMCTL_MAX_VCPUS, 1, &mut MaxVcpus { max: 2 }), 0, "they are there already");
    assert_eq!(info(&world, 1).unwrap().max_vcpu_id, 1);

    assert_eq!(world.domctl(XEN_DOMCTL_DESTROYDOMAIN, 1, &mut [0_u64; 16]), 0);
    assert_eq!(info(&world, 1).unwrap_err(), error(Errno::SRCH));
    assert_eq!(world.hypervisor.memory.free_pages(), free, "nothing is lost");
    assert_eq!(world.domctl(XEN_DOMCTL_DESTROYDOMAIN, 1, &mut [0_u64; 16]), error(Errno::SRCH));
}

#[test]
fn numbers_are_given_in_turn() {
    let world = World::new();
    let create = |id| world.domctl_with(XEN_DOMCTL_CREATEDOMAIN, id, &mut configuration());
    assert_eq!(create(0), (0, 1));
    assert_eq!(create(0), (0, 2));
    assert_eq!(create(2).0, error(Errno::EXIST));
    assert_eq!(create(7), (0, 7));
    assert_eq!(world.domctl(XEN_DOMCTL_DESTROYDOMAIN, 1, &mut [0_u64; 16]), 0);
    assert_eq!(create(DomId::INVALID.0), (0, 3), "a number just freed is not given again at once");
    world.hypervisor.last_domain.store(DomId::FIRST_RESERVED.0 - 1, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(create(0), (0, 1), "after the last number comes the first");
}

#[test]
fn dom0_and_the_caller_are_not_destroyed() {
    let world = World::new();
    assert_eq!(world.domctl(XEN_DOMCTL_DESTROYDOMAIN, 0, &mut [0_u64; 16]), error(Errno::INVAL));
    assert_eq!(world.domctl(XEN_DOMCTL_PAUSEDOMAIN, 0, &mut [0_u64; 16]), error(Errno::INVAL));
    assert_eq!(world.domctl(XEN_DOMCTL_MAX_VCPUS, 0, &mut MaxVcpus { max: 2 }), error(Errno::INVAL));
    // A domain's own number is the only way to name it here.
    assert_eq!(world.domctl(XEN_DOMCTL_PAUSEDOMAIN, DomId::SELF.0, &mut [0_u64; 16]), error(Errno::SRCH));
}

#[test]
fn bad_configurations_are_refused() {
    type Change = fn(&mut CreateDomain);
    let cases: [(&str, Change, Errno); 16] = [
        ("unknown flag", |config| config.flags = 1 << 8, Errno::INVAL),
        ("hvm", |config| config.flags = XEN_DOMCTL_CDF_HVM, Errno::INVAL),
        ("hap without hvm", |config| config.flags = XEN_DOMCTL_CDF_HAP, Errno::INVAL),
        ("suspend integrity", |config| config.flags = XEN_DOMCTL_CDF_S3_INTEGRITY, Errno::INVAL),
        ("iommu", |config| config.flags = XEN_DOMCTL_CDF_IOMMU, Errno::INVAL),
        ("nested", |config| config.flags = XEN_DOMCTL_CDF_NESTED_VIRT, Errno::INVAL),
        ("vpmu", |config| config.flags = XEN_DOMCTL_CDF_VPMU, Errno::INVAL),
        ("iommu options alone", |config| config.iommu_opts = 1, Errno::INVAL),
        ("altp2m", |config| config.altp2m_opts = 1, Errno::INVAL),
        ("no vCPU", |config| config.max_vcpus = 0, Errno::INVAL),
        ("too many vCPUs", |config| config.max_vcpus = 8193, Errno::INVAL),
        ("grant version 0", |config| config.grant_opts = 0, Errno::INVAL),
        ("grant version 3", |config| config.grant_opts = 3, Errno::INVAL),
        ("grant option", |config| config.grant_opts = 0x12, Errno::INVAL),
        ("trace", |config| config.vmtrace_size = 4096, Errno::INVAL),
        ("pool", |config| config.cpupool_id = 1, Errno::SRCH),
    ];
    let world = World::new();
    let free = world.hypervisor.memory.free_pages();
    for (name, change, errno) in cases {
        let mut config = configuration();
        change(&mut config);
        assert_eq!(world.domctl(XEN_DOMCTL_CREATEDOMAIN, 0, &mut config), error(errno), "{name}");
    }
    assert!(world.hypervisor.domains.first_from(DomId(1)).is_none());
    assert_eq!(world.hypervisor.memory.free_pages(), free);
}

#[test]
fn defaults_stand_for_negative_limits() {
    let world = World::new();
    let mut config = configuration();
    (config.max_grant_frames, config.max_maptrack_frames) = (-1, -1);
    config.flags = XEN_DOMCTL_CDF_XS_DOMAIN | XEN_DOMCTL_CDF_OOS_OFF;
    assert_eq!(world.domctl(XEN_DOMCTL_CREATEDOMAIN, 0, &mut config), 0);
    let domain = world.hypervisor.domains.get(DomId(1)).unwrap();
    assert_eq!((domain.creation.max_grant_frames, domain.creation.max_maptrack_frames), (64, 1024));
    assert_ne!(info(&world, 1).unwrap().flags & XEN_DOMINF_XS_DOMAIN, 0);
}

#[test]
fn the_envelope_is_checked_first() {
    let mut world = World::new();
    let id = world.guest();
    let mut op = world.get::<Domctl>(AT);
    op.interface_version = 0x16;
    op.domain = 999;
    world.put(AT, &op);
    assert_eq!(world.call(hypercall::domctl::domctl, &[AT]), error(Errno::ACCES));
    assert_eq!(world.call(hypercall::domctl::domctl, &[0xdead_0000]), error(Errno::FAULT));
    assert_eq!(world.domctl(0x7777, id, &mut [0_u64; 16]), error(Errno::NOSYS));
    assert_eq!(world.domctl(XEN_DOMCTL_SET_LLC_COLORS, id, &mut [0_u64; 16]), error(Errno::OPNOTSUPP));

    world.caller = world.hypervisor.domains.get(DomId(id)).unwrap();
    assert_eq!(world.domctl(XEN_DOMCTL_CREATEDOMAIN, 0, &mut configuration()), error(Errno::PERM));
    assert_eq!(world.domctl(XEN_DOMCTL_GETDOMAININFO, 0, &mut [0_u64; 16]), error(Errno::PERM));
    assert_eq!(world.domctl(XEN_DOMCTL_GETDOMAININFO, 99, &mut [0_u64; 16]), error(Errno::SRCH));
}

#[test]
fn pauses_are_counted() {
    let world = World::new();
    let id = world.guest();
    let mut nothing = [0_u64; 16];
    let is_paused = || info(&world, id).unwrap().flags & XEN_DOMINF_PAUSED != 0;
    assert!(is_paused());
    assert_eq!(world.domctl(XEN_DOMCTL_PAUSEDOMAIN, id, &mut nothing), 0);
    assert_eq!(world.domctl(XEN_DOMCTL_UNPAUSEDOMAIN, id, &mut nothing), 0);
    assert!(is_paused());
    assert_eq!(world.domctl(XEN_DOMCTL_UNPAUSEDOMAIN, id, &mut nothing), 0);
    assert!(!is_paused());
    assert_eq!(world.domctl(XEN_DOMCTL_UNPAUSEDOMAIN, id, &mut nothing), error(Errno::INVAL));
    for _ in 0..255 {
        assert_eq!(world.domctl(XEN_DOMCTL_PAUSEDOMAIN, id, &mut nothing), 0);
    }
    assert_eq!(world.domctl(XEN_DOMCTL_PAUSEDOMAIN, id, &mut nothing), error(Errno::TOOBIG));
}

#[test]
fn another_command_is_waited_for_by_issuing_again() {
    let world = World::new();
    let id = world.guest();
    let guard = world.hypervisor.toolstack.try_lock().unwrap();
    let vcpu = &world.dom0.vcpus()[0];
    let caller = hypercall::Caller { hypervisor: &world.hypervisor, domain: &world.dom0, vcpu, is_loaded: true };
    let op = Domctl { cmd: XEN_DOMCTL_PAUSEDOMAIN, interface_version: 0x17, domain: id, ..Domctl::new_zeroed() };
    world.put(AT, &op);
    let args = [AT, 0, 0, 0, 0, 0];
    assert_eq!(hypercall::domctl::domctl(&caller, args), hypercall::Outcome::Again(args));
    drop(guard);
    assert_eq!(hypercall::domctl::domctl(&caller, args), hypercall::Outcome::Done(0));
}

#[test]
fn a_translated_domain_comes_and_goes() {
    let world = World::with_hvm();
    let free = world.hypervisor.memory.free_pages();
    let mut config = configuration();
    config.flags = XEN_DOMCTL_CDF_HVM;
    assert_eq!(world.domctl(XEN_DOMCTL_CREATEDOMAIN, 0, &mut config), error(Errno::OPNOTSUPP), "hap=0");
    config.flags = XEN_DOMCTL_CDF_HVM | XEN_DOMCTL_CDF_HAP;
    config.max_vcpus = 129;
    assert_eq!(world.domctl(XEN_DOMCTL_CREATEDOMAIN, 0, &mut { config }), error(Errno::INVAL));
    config.max_vcpus = 2;
    assert_eq!(world.domctl_with(XEN_DOMCTL_CREATEDOMAIN, 9, &mut config), (0, 9));
    let fresh = info(&world, 9).unwrap();
    let both = XEN_DOMINF_HVM_GUEST | XEN_DOMINF_HAP;
    assert_eq!((fresh.flags & both, fresh.shared_info_frame), (both, !0));
    assert_eq!(world.domctl(XEN_DOMCTL_DESTROYDOMAIN, 9, &mut [0_u64; 16]), 0);
    assert_eq!(world.hypervisor.memory.free_pages(), free, "nothing is lost");
}

#[test]
fn the_pool_for_tables_is_sized() {
    let world = World::with_hvm();
    let mut config = configuration();
    config.flags = XEN_DOMCTL_CDF_HVM | XEN_DOMCTL_CDF_HAP;
    assert_eq!(world.domctl(XEN_DOMCTL_CREATEDOMAIN, 0, &mut config), 0);
    let pv = world.guest();
    let size = |id| {
        let mut op = PagingMempool { size: 0 };
        (world.domctl(XEN_DOMCTL_GET_PAGING_MEMPOOL_SIZE, id, &mut op), op.size)
    };
    let set = |id, size| world.domctl(XEN_DOMCTL_SET_PAGING_MEMPOOL_SIZE, id, &mut PagingMempool { size });
    assert_eq!(size(1), (0, 1 << 20));
    assert_eq!((set(1, 0x8_1000), size(1).1), (0, 0x8_1000));
    assert_eq!((set(1, 0x8_1001), set(1, 1 << 40)), (error(Errno::INVAL), error(Errno::NOMEM)));
    assert_eq!((size(pv).0, set(pv, 0)), (error(Errno::OPNOTSUPP), error(Errno::OPNOTSUPP)));
    let shadow = |id, op, mb| {
        let mut call = ShadowOp { op, mb, ..ShadowOp::new_zeroed() };
        (world.domctl(XEN_DOMCTL_SHADOW_OP, id, &mut call), call.mb)
    };
    assert_eq!(shadow(1, XEN_DOMCTL_SHADOW_OP_SET_ALLOCATION, 1), (0, 1));
    assert_eq!(set(1, 0x8_1000), 0);
    assert_eq!(shadow(1, XEN_DOMCTL_SHADOW_OP_GET_ALLOCATION, 0), (0, 1), "rounded up");
    assert_eq!(shadow(1, XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY, 0).0, error(Errno::OPNOTSUPP));
    assert_eq!(shadow(pv, XEN_DOMCTL_SHADOW_OP_GET_ALLOCATION, 0).0, error(Errno::OPNOTSUPP));
    assert_eq!((set(1, 0), size(1).1), (0, 0x1000), "the root is a table");
}
