//! Guests' calls, made by domains of a machine on a desk.

mod emulator;
mod event;
mod grant;
mod hvm;
mod memory;
mod monitor;
mod multicall;
mod translated;
mod vcpu;
mod video;

use domain::fakes::FakeArch;
use domain::{Creation, Domain, Hypervisor};
use hypercall::{Args, Caller, Outcome};
use std::sync::Arc;
use types::{DomId, Errno, Mfn};
use xen_abi::GuestHandle;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Where structures lie in guest memory.
const AT: u64 = 0x1_0000;
/// Where lists lie.
const LIST: u64 = 0x2_0000;

type Call = fn(&Caller<'_, FakeArch>, Args) -> Outcome;

struct World {
    hypervisor: Hypervisor<FakeArch>,
    dom0: Arc<Domain<FakeArch>>,
    guest: Arc<Domain<FakeArch>>,
}

impl World {
    /// A machine with dom0 and domain 1, of two vCPUs each.
    fn new() -> World {
        World::with_frames(512)
    }

    fn with_frames(count: usize) -> World {
        let hypervisor = FakeArch::hypervisor(count, 1);
        let make = |id, privileged| {
            let domain = hypervisor.create_domain(DomId(id), Creation::of_test(privileged, 2)).unwrap();
            hypervisor.create_vcpus(&domain).unwrap();
            domain
        };
        let (dom0, guest) = (make(0, true), make(1, false));
        World { hypervisor, dom0, guest }
    }

    fn machine(&self) -> &platform::fakes::FakeMachine {
        &self.hypervisor.machine().machine
    }

    /// Makes a call as the first vCPU of a domain.
    fn call(&self, domain: &Arc<Domain<FakeArch>>, call: Call, args: &[u64]) -> Outcome {
        let mut all = [0; 6];
        all[..args.len()].copy_from_slice(args);
        call(&Caller { hypervisor: &self.hypervisor, domain, vcpu: &domain.vcpus()[0], is_loaded: false }, all)
    }

    /// Makes a call with the operation first and a structure second, which is what it becomes afterwards.
    fn with<T: FromBytes + IntoBytes + Immutable>(
        &self,
        domain: &Arc<Domain<FakeArch>>,
        call: Call,
        op: u32,
        value: &mut T,
        more: &[u64],
    ) -> i64 {
        self.put(AT, value);
        let mut args = [op.into(), AT, 0, 0, 0, 0];
        args[2..2 + more.len()].copy_from_slice(more);
        let result = self.finish(domain, call, &args);
        *value = self.get(AT);
        result
    }

    /// Makes a call until it is done.
    fn finish(&self, domain: &Arc<Domain<FakeArch>>, call: Call, args: &[u64]) -> i64 {
        let mut args = args.to_vec();
        for _ in 0..10_000 {
            match self.call(domain, call, &args) {
                Outcome::Done(value) => return value,
                Outcome::Again(next) => args = next.to_vec(),
            }
        }
        panic!("never done");
    }

    fn put<T: IntoBytes + Immutable + ?Sized>(&self, at: u64, value: &T) {
        self.machine().map_guest(at, value.as_bytes());
    }

    fn get<T: FromBytes + IntoBytes>(&self, at: u64) -> T {
        let mut value = T::new_zeroed();
        platform::GuestMemory::copy_in(self.machine(), at, value.as_mut_bytes()).unwrap();
        value
    }

    /// Frames for a domain.
    fn frames(&self, domain: &Domain<FakeArch>, count: usize) -> Vec<Mfn> {
        let request = ::memory::Request::order(0);
        (0..count).map(|_| self.hypervisor.memory.allocate(&domain.memory, request).unwrap()).collect()
    }

    /// A word of a frame.
    fn word(&self, mfn: Mfn, index: usize) -> &core::sync::atomic::AtomicU64 {
        &platform::Frames::table(self.machine(), mfn).unwrap()[index]
    }
}

fn list() -> GuestHandle<u64> {
    GuestHandle::new(LIST)
}

fn error(errno: Errno) -> i64 {
    errno.as_return()
}
