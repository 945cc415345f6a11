//! event_channel_op (event_channel.h).

use crate::{Args, Caller, Outcome};
use core::mem::offset_of;
use domain::Arch;
use evtchn::{LINK_BITS, State};
use types::{DomId, Errno, Mfn, Progress, Result, VcpuId};
use xen_abi::GuestHandle;
use xen_abi::event_channel::*;

/// Goes on with a reset that was cut off; its third argument is the next port.
const RESET_CONTINUED: u32 = 14;

/// HYPERVISOR_event_channel_op: operation, address of its structure.
#[inline(always)]
pub fn event_channel_op<A: Arch>(caller: &Caller<'_, A>, args: Args) -> Outcome {
    // Nearly all calls are this one.
    if args[0] as u32 == EVTCHNOP_SEND {
        return send(caller, GuestHandle::new(args[1])).into();
    }
    other_op(caller, args)
}

#[inline(never)]
fn other_op<A: Arch>(caller: &Caller<'_, A>, args: Args) -> Outcome {
    let at = args[1];
    let result = match args[0] as u32 {
        EVTCHNOP_UNMASK => unmask(caller, GuestHandle::new(at)),
        EVTCHNOP_ALLOC_UNBOUND => alloc_unbound(caller, GuestHandle::new(at)),
        EVTCHNOP_BIND_INTERDOMAIN => bind_interdomain(caller, GuestHandle::new(at)),
        EVTCHNOP_BIND_VIRQ => bind_virq(caller, GuestHandle::new(at)),
        EVTCHNOP_BIND_IPI => bind_ipi(caller, GuestHandle::new(at)),
        EVTCHNOP_BIND_PIRQ => bind_pirq(caller, GuestHandle::new(at)),
        EVTCHNOP_BIND_VCPU => bind_vcpu(caller, GuestHandle::new(at)),
        EVTCHNOP_CLOSE => close(caller, GuestHandle::new(at)),
        EVTCHNOP_STATUS => status(caller, GuestHandle::new(at)),
        EVTCHNOP_INIT_CONTROL => init_control(caller, GuestHandle::new(at)),
        EVTCHNOP_EXPAND_ARRAY => expand_array(caller, GuestHandle::new(at)),
        EVTCHNOP_SET_PRIORITY => set_priority(caller, GuestHandle::new(at)),
        EVTCHNOP_RESET => return reset(caller, args, 0),
        RESET_CONTINUED => return reset(caller, args, args[2] as u32),
        _ => Err(Errno::NOSYS),
    };
    result.into()
}

/// HYPERVISOR_event_channel_op_compat, the older form: the address of an envelope with the operation and its structure.
pub fn event_channel_op_compat<A: Arch>(caller: &Caller<'_, A>, args: Args) -> Outcome {
    let operation = match caller.read(GuestHandle::<EvtchnOp>::new(args[0])) {
        Ok(envelope) => envelope.cmd,
        Err(errno) => return errno.into(),
    };
    // What came later has no room in the envelope.
    if operation > EVTCHNOP_UNMASK {
        return Errno::NOSYS.into();
    }
    let structure = args[0].wrapping_add(offset_of!(EvtchnOp, u) as u64);
    event_channel_op(caller, [operation.into(), structure, 0, 0, 0, 0])
}

#[inline(never)]
fn send<A: Arch>(caller: &Caller<'_, A>, at: GuestHandle<Send>) -> Result<()> {
    let call = caller.read(at)?;
    caller.hypervisor.send(caller.domain, call.port)
}

fn unmask<A: Arch>(caller: &Caller<'_, A>, at: GuestHandle<Unmask>) -> Result<()> {
    let call = caller.read(at)?;
    let raised = caller.domain.evtchn.unmask(caller.machine(), call.port)?;
    caller.hypervisor.follow(caller.domain, raised);
    if let Ok(State::Pirq(line)) = caller.domain.evtchn.status(call.port).map(|status| status.state) {
        caller.machine().pirq_unmasked(caller.hypervisor, caller.domain, line);
    }
    Ok(())
}

/// The domain's number, if the guest may have written DOMID_SELF for its own.
fn resolve_self<A: Arch>(caller: &Caller<'_, A>, raw: u16) -> DomId {
    if DomId(raw) == DomId::SELF { caller.domain.id } else { DomId(raw) }
}

fn alloc_unbound<A: Arch>(caller: &Caller<'_, A>, at: GuestHandle<AllocUnbound>) -> Result<()> {
    let mut call = caller.read(at)?;
    let domain = caller.controlled_domain(call.dom)?;
    call.port = domain.evtchn.alloc_unbound(caller.machine(), resolve_self(caller, call.remote_dom))?;
    caller.write(at, &call)
}

fn bind_interdomain<A: Arch>(caller: &Caller<'_, A>, at: GuestHandle<BindInterdomain>) -> Result<()> {
    let mut call = caller.read(at)?;
    let remote = caller.any_domain(call.remote_dom)?;
    let (port, raised) = caller.domain.evtchn.bind_interdomain(caller.machine(), &remote.evtchn, call.remote_port)?;
    caller.hypervisor.follow(caller.domain, raised);
    call.local_port = port;
    caller.write(at, &call)
}

fn bind_virq<A: Arch>(caller: &Caller<'_, A>, at: GuestHandle<BindVirq>) -> Result<()> {
    let mut call = caller.read(at)?;
    call.port = caller.domain.evtchn.bind_virq(caller.machine(), call.virq, call.vcpu)?;
    caller.write(at, &call)
}

fn bind_ipi<A: Arch>(caller: &Caller<'_, A>, at: GuestHandle<BindIpi>) -> Result<()> {
    let mut call = caller.read(at)?;
    call.port = caller.domain.evtchn.bind_ipi(caller.machine(), call.vcpu)?;
    caller.write(at, &call)
}

fn bind_pirq<A: Arch>(caller: &Caller<'_, A>, at: GuestHandle<BindPirq>) -> Result<()> {
    let mut call = caller.read(at)?;
    let share = call.flags & BIND_PIRQ__WILL_SHARE != 0;
    let attach = || caller.machine().pirq_bound(caller.hypervisor, caller.domain, call.pirq, share);
    call.port = caller.domain.evtchn.bind_pirq(caller.machine(), call.pirq, attach)?;
    caller.write(at, &call)
}

fn bind_vcpu<A: Arch>(caller: &Caller<'_, A>, at: GuestHandle<BindVcpu>) -> Result<()> {
    let call = caller.read(at)?;
    if let Some(pirq) = caller.domain.evtchn.bind_vcpu(call.port, call.vcpu)? {
        caller.machine().pirq_moved(caller.domain, pirq, VcpuId(call.vcpu));
    }
    Ok(())
}

fn close<A: Arch>(caller: &Caller<'_, A>, at: GuestHandle<Close>) -> Result<()> {
    let call = caller.read(at)?;
    caller.hypervisor.close_port(caller.domain, call.port)
}

fn status<A: Arch>(caller: &Caller<'_, A>, at: GuestHandle<Status>) -> Result<()> {
    let mut call = caller.read(at)?;
    let domain = caller.controlled_domain(call.dom)?;
    let found = domain.evtchn.status(call.port)?;
    call.status = found.state.number();
    call.vcpu = found.vcpu.0;
    match found.state {
        State::Unbound { remote } => call.u.write(&StatusUnbound { dom: remote.0 }),
        State::Interdomain { remote, port } => {
            call.u.write(&StatusInterdomain { dom: remote.0, _gap0: [0; 2], port });
        }
        State::Pirq(line) | State::Virq(line) => call.u.write(&line),
        State::Free | State::Reserved | State::Ipi => {}
    }
    caller.write(at, &call)
}

/// A frame of the caller with a reference and a writable use, for the FIFO layout.
fn take_writable<A: Arch>(caller: &Caller<'_, A>, gfn: u64) -> Result<Mfn> {
    let held = caller.hypervisor.hold(caller.domain, gfn, true);
    held.map(|frame| frame.keep()).map_err(|denied| caller.explain("event_channel_op", denied))
}

fn init_control<A: Arch>(caller: &Caller<'_, A>, at: GuestHandle<InitControl>) -> Result<()> {
    let mut call = caller.read(at)?;
    let channels = &caller.domain.evtchn;
    channels.init_control(caller.machine(), call.vcpu, call.offset, || take_writable(caller, call.control_gfn))?;
    call.link_bits = LINK_BITS;
    caller.write(at, &call)
}

fn expand_array<A: Arch>(caller: &Caller<'_, A>, at: GuestHandle<ExpandArray>) -> Result<()> {
    let call = caller.read(at)?;
    let resolve = || take_writable(caller, call.array_gfn);
    let mut follow = |raised| caller.hypervisor.follow(caller.domain, raised);
    caller.domain.evtchn.expand_array(caller.machine(), resolve, &mut follow)
}

fn set_priority<A: Arch>(caller: &Caller<'_, A>, at: GuestHandle<SetPriority>) -> Result<()> {
    let call = caller.read(at)?;
    caller.domain.evtchn.set_priority(call.port, call.priority)
}

/// Another domain's ports may be reset only while the toolstack has it paused.
fn reset<A: Arch>(caller: &Caller<'_, A>, args: Args, cursor: u32) -> Outcome {
    let begin = || {
        let call = caller.read(GuestHandle::<Reset>::new(args[1]))?;
        let domain = caller.controlled_domain(call.dom)?;
        let paused = domain.toolstack_pauses.load(core::sync::atomic::Ordering::SeqCst) != 0;
        if domain.id != caller.domain.id && !paused {
            return Err(Errno::INVAL);
        }
        caller.hypervisor.reset_ports(&domain, cursor)
    };
    match begin() {
        Ok(Progress::Done(())) => Outcome::Done(0),
        Ok(Progress::Again(port)) => {
            Outcome::Again([RESET_CONTINUED.into(), args[1], port.into(), args[3], args[4], args[5]])
        }
        Err(errno) => errno.into(),
    }
}
