//! The toolstack's calls, made by dom0 of a machine on a desk.

mod create;
mod host;
mod refusals;
mod settings;
mod small;

use domain::fakes::FakeArch;
use domain::{Creation, Domain, Hypervisor};
use hypercall::{Args, Caller, Outcome, domctl, sysctl};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use types::{DomId, Errno};
use xen_abi::domctl::{CreateDomain, Domctl, MaxVcpus, XEN_DOMCTL_CREATEDOMAIN, XEN_DOMCTL_MAX_VCPUS};
use xen_abi::{GuestHandle, Union};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

/// Where structures lie in the caller's memory.
const AT: u64 = 0x1_0000;
/// Where lists lie.
const LIST: u64 = 0x2_0000;

struct World {
    hypervisor: Hypervisor<FakeArch>,
    dom0: Arc<Domain<FakeArch>>,
    /// Who calls; dom0 to begin with.
    caller: Arc<Domain<FakeArch>>,
}

impl World {
    /// A machine of two CPUs with dom0.
    fn new() -> World {
        World::of_nodes(platform::Nodes::ONE)
    }

    /// The same on a machine of several NUMA nodes.
    fn of_nodes(nodes: platform::Nodes) -> World {
        World::of_hypervisor(FakeArch::hypervisor_of_nodes(512, 2, nodes))
    }

    /// A machine that runs HVM guests.
    fn with_hvm() -> World {
        let world = World::of_hypervisor(FakeArch::hypervisor(1024, 2));
        world.hypervisor.machine().hvm.store(true, Relaxed);
        world
    }

    fn of_hypervisor(hypervisor: Hypervisor<FakeArch>) -> World {
        let dom0 = hypervisor.create_domain(DomId::DOM0, Creation::of_test(true, 2)).unwrap();
        hypervisor.create_vcpus(&dom0).unwrap();
        let world = World { hypervisor, caller: dom0.clone(), dom0 };
        world.machine().map_guest(AT, &[0; 8192]);
        world.machine().map_guest(LIST, &[0; 8192]);
        world
    }

    fn machine(&self) -> &platform::fakes::FakeMachine {
        &self.hypervisor.machine().machine
    }

    fn put<T: IntoBytes + Immutable>(&self, at: u64, value: &T) {
        self.machine().map_guest(at, value.as_bytes());
    }

    fn get<T: FromBytes + IntoBytes>(&self, at: u64) -> T {
        let mut value = T::new_zeroed();
        platform::GuestMemory::copy_in(self.machine(), at, value.as_mut_bytes()).unwrap();
        value
    }

    fn call(&self, call: fn(&Caller<'_, FakeArch>, Args) -> Outcome, args: &[u64]) -> i64 {
        let mut all = [0; 6];
        all[..args.len()].copy_from_slice(args);
        let (hypervisor, domain) = (&self.hypervisor, &self.caller);
        // A domain whose vCPUs are not made cannot call; the tests let dom0's call in its name.
        let vcpu = domain.vcpus().first().unwrap_or(&self.dom0.vcpus()[0]);
        for _ in 0..1000 {
            match call(&Caller { hypervisor, domain, vcpu, is_loaded: true }, all) {
                Outcome::Done(value) => return value,
                Outcome::Again(args) => all = args,
            }
        }
        panic!("the call never ends");
    }

    /// A domctl; the structure is what it becomes.
    fn domctl<T: FromBytes + IntoBytes + Immutable>(&self, cmd: u32, domain: u16, value: &mut T) -> i64 {
        self.domctl_with(cmd, domain, value).0
    }

    /// A domctl, with the domain number that comes back.
    fn domctl_with<T: FromBytes + IntoBytes + Immutable>(&self, cmd: u32, domain: u16, value: &mut T) -> (i64, u16) {
        let mut op = Domctl { cmd, interface_version: 0x17, domain, _pad: [0; 3], u: Union([0; 16]) };
        op.u.write(value);
        self.put(AT, &op);
        let result = self.call(domctl::domctl, &[AT]);
        let op = self.get::<Domctl>(AT);
        *value = op.u.read();
        (result, op.domain)
    }

    fn sysctl<T: FromBytes + IntoBytes + Immutable>(&self, cmd: u32, value: &mut T) -> i64 {
        let mut op = sysctl_envelope(cmd);
        op.u.write(value);
        self.put(AT, &op);
        let result = self.call(sysctl::sysctl, &[AT]);
        *value = self.get::<xen_abi::sysctl::Sysctl>(AT).u.read();
        result
    }

    /// Makes a domain with two vCPUs; its number.
    fn guest(&self) -> u16 {
        let (result, id) = self.domctl_with(XEN_DOMCTL_CREATEDOMAIN, 0, &mut configuration());
        assert_eq!(result, 0);
        assert_eq!(self.domctl(XEN_DOMCTL_MAX_VCPUS, id, &mut MaxVcpus { max: 2 }), 0);
        id
    }
}

fn sysctl_envelope(cmd: u32) -> xen_abi::sysctl::Sysctl {
    xen_abi::sysctl::Sysctl { cmd, interface_version: 0x15, u: Union([0; 16]) }
}

/// What xl creates a PV guest of two vCPUs with.
fn configuration() -> CreateDomain {
    let mut config = CreateDomain::new_zeroed();
    config.handle = [9; 16];
    config.max_vcpus = 2;
    config.max_evtchn_port = 1023;
    config.max_grant_frames = 64;
    config.max_maptrack_frames = -1;
    config.grant_opts = 2;
    config
}

fn error(errno: Errno) -> i64 {
    errno.as_return()
}

fn bitmap(at: u64, nr_bits: u32) -> xen_abi::xen::Bitmap {
    xen_abi::xen::Bitmap { bitmap: GuestHandle::new(at), nr_bits, _gap0: [0; 4] }
}
