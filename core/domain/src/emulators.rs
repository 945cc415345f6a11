//! A translated domain's device emulators outside of the hypervisor, joined with its event channels and its memory.

use crate::{Arch, Domain, Hypervisor, PauseFlags, ShutdownCode, Vcpu};
use alloc::sync::Arc;
use core::num::NonZeroU8;
use core::sync::atomic::Ordering::SeqCst;
use evtchn::Consumer;
use ioreq::{Host, Servers};
use p2m::Type;
use platform::{Frames, Table};
use types::{DomId, Gfn, Mfn, Result, VcpuId};

/// Takes the events with which emulators answer.
const ANSWERS: Consumer = Consumer(NonZeroU8::MIN);

/// What a domain's servers need around them.
pub struct ServerHost<'a, A: Arch> {
    hypervisor: &'a Hypervisor<A>,
    domain: &'a Arc<Domain<A>>,
}

impl<A: Arch> Hypervisor<A> {
    /// The servers of a domain, which no domain has that is not translated.
    pub fn servers<'a>(&'a self, domain: &'a Arc<Domain<A>>) -> Option<Servers<'a, ServerHost<'a, A>>> {
        let translated = domain.translated.as_ref()?;
        Some(Servers::new(&translated.servers, ServerHost { hypervisor: self, domain }))
    }

    /// Keeps a vCPU from running until an emulator says that it has done something. Whoever asks for that looks for the answer
    /// once more afterwards.
    pub fn wait_for_device(&self, vcpu: &Vcpu<A>) {
        vcpu.flags.fetch_or(PauseFlags::DEVICE, SeqCst);
        self.sleep(vcpu);
    }

    /// An emulator says that it has done something for a vCPU, which may wait for that.
    pub fn end_wait_for_device(&self, vcpu: &Vcpu<A>) {
        if vcpu.flags.fetch_and(!PauseFlags::DEVICE, SeqCst) & PauseFlags::DEVICE != 0 {
            self.wake(vcpu);
        }
    }
}

impl<A: Arch> ServerHost<'_, A> {
    /// The domain cannot go on: its memory is not as its emulator believes.
    fn crash(&self, gfn: Gfn, why: &str) {
        log::error!("{}: page of a device emulator at {:#x}: {why}", self.domain.id, gfn.0);
        self.hypervisor.shut_down(self.domain, ShutdownCode::CRASH);
    }

    fn flush(&self) {
        if let Some(p2m) = self.domain.p2m() {
            // What it does not come to is released by whatever flushes next.
            let _rest = p2m.flush(self.hypervisor.machine());
        }
    }
}

impl<A: Arch> Frames for ServerHost<'_, A> {
    fn table(&self, mfn: Mfn) -> Option<&Table> {
        self.hypervisor.machine().table(mfn)
    }

    fn zero(&self, mfn: Mfn) -> bool {
        self.hypervisor.machine().zero(mfn)
    }
}

impl<A: Arch> Host for ServerHost<'_, A> {
    fn open_port(&self, vcpu: VcpuId, emulator: DomId) -> Result<u32> {
        self.domain.evtchn.alloc_for_consumer(self.hypervisor.machine(), vcpu, emulator, ANSWERS)
    }

    fn close_port(&self, port: u32) {
        self.hypervisor.close_own_port(self.domain, port);
    }

    fn notify(&self, port: u32) {
        self.hypervisor.send_own(self.domain, port);
    }

    fn allocate_page(&self) -> Result<Mfn> {
        self.hypervisor.allocate_shared(&self.domain.memory)
    }

    fn free_page(&self, mfn: Mfn) {
        self.hypervisor.free_shared(mfn);
    }

    fn hold(&self, gfn: Gfn) -> Result<Mfn> {
        Ok(self.hypervisor.hold(self.domain, gfn.0, true)?.keep())
    }

    fn release(&self, mfn: Mfn) {
        self.hypervisor.memory.put_writable(mfn);
    }

    fn hide(&self, gfn: Gfn, mfn: Mfn) {
        let Some(p2m) = self.domain.p2m() else { return };
        if p2m.get(gfn).mfn != mfn || p2m.clear(gfn, 0).is_err() {
            return self.crash(gfn, "it is not there any more");
        }
        self.hypervisor.machine().set_m2p(mfn, Gfn::INVALID);
        self.flush();
    }

    fn show(&self, gfn: Gfn, mfn: Mfn) {
        let Some(p2m) = self.domain.p2m() else { return };
        if p2m.set(gfn, mfn, 0, Type::RamRw, p2m.default_access()).is_err() {
            return self.crash(gfn, "it cannot be put back");
        }
        self.flush();
    }
}
