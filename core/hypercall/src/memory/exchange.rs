//! Trading frames for others of the same total size, as a guest does that needs contiguous or low memory for a device.

use super::reservation::{name_frames, probe_list};
use super::{address_bits, max_order};
use crate::{Args, Caller, Outcome};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::mem::offset_of;
use domain::{Arch, Domain};
use memory::Request;
use types::{Errno, Gfn, Mfn, Result};
use xen_abi::GuestHandle;
use xen_abi::memory::*;

/// A request that has been checked. A chunk is the least number of extents that makes whole extents on both sides.
struct Exchange<A: Arch> {
    domain: Arc<Domain<A>>,
    call: MemoryExchange,
    bits: u32,
    /// Binary logarithms of the number of extents of a chunk.
    chunk_in: u32,
    chunk_out: u32,
}

/// A frame that was taken, and what its owner called it.
type Taken = (Mfn, u64);

/// XENMEM_exchange. `nr_exchanged` in the guest's structure says how far it came, also when it is cut off.
pub fn exchange<A: Arch>(caller: &Caller<'_, A>, args: Args) -> Outcome {
    let at = GuestHandle::<MemoryExchange>::new(args[1]);
    let call = match caller.read(at) {
        Ok(call) => call,
        Err(errno) => return errno.into(),
    };
    let exchange = match accept(caller, call) {
        Ok(Some(exchange)) => exchange,
        Ok(None) => return Outcome::Done(0),
        Err(errno) => return finish(caller, at, call.nr_exchanged, Err(errno)),
    };
    let first = call.nr_exchanged >> exchange.chunk_in;
    let chunks = call.r#in.nr_extents >> exchange.chunk_in;
    for chunk in first..chunks {
        let result = if chunk != first && caller.machine().should_yield() {
            let outcome = finish(caller, at, chunk << exchange.chunk_in, Ok(()));
            return if outcome == Outcome::Done(0) { Outcome::Again(args) } else { outcome };
        } else {
            exchange.trade(caller, chunk)
        };
        if result.is_err() {
            return finish(caller, at, chunk << exchange.chunk_in, result);
        }
    }
    finish(caller, at, call.r#in.nr_extents, Ok(()))
}

/// Tells the guest how far it came.
fn finish<A: Arch>(
    caller: &Caller<'_, A>,
    at: GuestHandle<MemoryExchange>,
    exchanged: u64,
    result: Result<()>,
) -> Outcome {
    let field = at.address().wrapping_add(offset_of!(MemoryExchange, nr_exchanged) as u64);
    caller.write(GuestHandle::new(field), &exchanged).and(result).into()
}

/// The request, checked; `None` where there is nothing to do.
fn accept<A: Arch>(caller: &Caller<'_, A>, call: MemoryExchange) -> Result<Option<Exchange<A>>> {
    let (from, to) = (&call.r#in, &call.out);
    if from.extent_order.max(to.extent_order) > max_order(caller) {
        return Err(Errno::PERM);
    }
    let frames = |list: &MemoryReservation| {
        let fits = u64::MAX >> list.extent_order >= list.nr_extents;
        fits.then_some(list.nr_extents << list.extent_order)
    };
    let same_size = frames(from).is_some() && frames(from) == frames(to);
    if call.nr_exchanged > from.nr_extents || from.domid != to.domid || !same_size {
        return Err(Errno::INVAL);
    }
    if call.nr_exchanged == from.nr_extents {
        return Ok(None);
    }
    probe_list(caller, from.extent_start, from.nr_extents)?;
    if !caller.machine().is_guest_range(to.extent_start.address(), 0) {
        return Err(Errno::FAULT);
    }
    let domain = caller.controlled_domain(from.domid)?;
    if domain.is_translated() {
        return Err(Errno::OPNOTSUPP);
    }
    let bits = address_bits(to.mem_flags)?;
    let chunk_in = to.extent_order.saturating_sub(from.extent_order);
    let chunk_out = from.extent_order.saturating_sub(to.extent_order);
    Ok(Some(Exchange { domain, call, bits, chunk_in, chunk_out }))
}

impl<A: Arch> Exchange<A> {
    /// Trades one chunk: either all of it, or nothing.
    fn trade(&self, caller: &Caller<'_, A>, chunk: u64) -> Result<()> {
        let mut taken = Vec::new();
        let given = match self.take(caller, chunk, &mut taken) {
            Ok(()) => self.allocate(caller),
            Err(errno) => Err(errno),
        };
        let given = given.inspect_err(|_| self.put_back(caller, &taken))?;
        for (mfn, _) in taken {
            caller.hypervisor.memory.free_anonymous(mfn, 0);
        }
        self.give(caller, chunk, &given)
    }

    /// Takes a chunk's frames from the domain.
    fn take(&self, caller: &Caller<'_, A>, chunk: u64, taken: &mut Vec<Taken>) -> Result<()> {
        let list = &self.call.r#in;
        taken.try_reserve_exact(1 << (self.chunk_in + list.extent_order)).map_err(|_| Errno::NOMEM)?;
        for extent in 0..1u64 << self.chunk_in {
            let first: u64 = caller.read(list.extent_start.offset((chunk << self.chunk_in) + extent))?;
            for frame in first..first.saturating_add(1 << list.extent_order) {
                let mfn = Mfn(frame);
                let name = caller.machine().m2p(mfn);
                if let Err(denied) = caller.hypervisor.memory.steal(&self.domain.memory, mfn) {
                    return Err(caller.explain("exchange", denied));
                }
                taken.push((mfn, name));
            }
        }
        Ok(())
    }

    fn put_back(&self, caller: &Caller<'_, A>, taken: &[Taken]) {
        for &(mfn, name) in taken {
            match caller.hypervisor.memory.assign(&self.domain.memory, mfn, 0) {
                Ok(()) => caller.machine().set_m2p(mfn, Gfn(name)),
                Err(denied) => {
                    // The domain grew or died meanwhile.
                    log::warn!("{}: exchange: frame {mfn:#x} is lost: {denied}", self.domain.id);
                    caller.hypervisor.memory.free_anonymous(mfn, 0);
                }
            }
        }
    }

    fn allocate(&self, caller: &Caller<'_, A>) -> Result<Vec<Mfn>> {
        let order = self.call.out.extent_order as u8;
        let count = 1usize << self.chunk_out;
        let mut given = Vec::new();
        given.try_reserve_exact(count).map_err(|_| Errno::NOMEM)?;
        for _ in 0..count {
            match caller.hypervisor.memory.allocate_anonymous(Request { order, bits: self.bits, zero: true }) {
                Ok(mfn) => given.push(mfn),
                Err(denied) => {
                    given.iter().for_each(|&mfn| caller.hypervisor.memory.free_anonymous(mfn, order));
                    return Err(caller.explain("exchange", denied));
                }
            }
        }
        Ok(given)
    }

    /// Gives the domain its new frames, and tells it which. A fault does not stop it: the frames are the domain's already.
    fn give(&self, caller: &Caller<'_, A>, chunk: u64, given: &[Mfn]) -> Result<()> {
        let list = &self.call.out;
        let order = list.extent_order as u8;
        let mut result = Ok(());
        for (index, &mfn) in (0u64..).zip(given) {
            if let Err(denied) = caller.hypervisor.memory.assign(&self.domain.memory, mfn, order) {
                caller.hypervisor.memory.free_anonymous(mfn, order);
                result = Err(caller.explain("exchange", denied));
                continue;
            }
            let entry = list.extent_start.offset((chunk << self.chunk_out) + index);
            let told = caller.read(entry).and_then(|gfn| {
                name_frames(caller, mfn, gfn, order);
                caller.write(entry, &mfn.0)
            });
            result = result.and(told);
        }
        result
    }
}
