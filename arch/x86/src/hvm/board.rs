//! The devices of an HVM guest's mainboard, joined to its domain: whoever reaches them does so under the domain's lock, and what
//! comes out goes to the local APICs. A PVH guest has no board, and pays nothing.
//!
//! What a vCPU needs to know at each entry is told without the lock, by what [`Board::note`] has noted last.

use super::VcpuState;
use super::apic::{self, Apics};
use crate::current::Current;
use crate::machine::X86;
use crate::wallclock;
use alloc::boxed::Box;
use alloc::sync::Arc;
use chipset::{Bus, Chipset, MissedTicks, Rules, Taken, WallTime};
use core::sync::atomic::{AtomicBool, AtomicU16, Ordering::SeqCst};
use domain::{BoardSignal, Domain, Hypervisor, Life, TimerEvent, TimerSlot};
use ioreq::{Direction, Kind, Request};
use platform::Clock;
use platform::sync::Mutex;
use types::{Errno, Result, VcpuId};
use virq::{Callback, Msi};
use vlapic::{Ports, deliver, pic_target};
use x86_defs::apic::InterruptMessage;
use xen_abi::arch_x86::XEN_X86_EMU_PIC;
use xen_abi::hvm_params::*;

/// In [`Board::pin0`]: pin 0 of the I/O APIC does not pass the 8259s' output on.
const NO_PIN0: u16 = u16::MAX;

/// A domain's board.
pub struct Board {
    inner: Mutex<Inner>,
    /// The timer for the devices' next deadline.
    timer: TimerSlot,
    /// [`Chipset::awaits_delivery`], or the lock is held.
    awaits: AtomicBool,
    /// The 8259s' output.
    pic: AtomicBool,
    /// The APIC id to which pin 0 of the I/O APIC passes that on.
    pin0: AtomicU16,
    /// Whether event channels are signalled by a line, and whether that is up.
    has_event_line: AtomicBool,
    event_line: AtomicBool,
}

struct Inner {
    chips: Chipset,
    /// What the timer is set to.
    deadline: Option<u64>,
}

/// Where the devices' messages go.
pub struct Wires<'a> {
    hypervisor: &'a Hypervisor<X86>,
    domain: &'a Domain<X86>,
    /// The 8259s' output, or its way to a vCPU, has changed.
    pic_changed: bool,
}

impl Bus for Wires<'_> {
    fn send(&mut self, message: InterruptMessage) {
        let tell = |vcpu: usize, event| {
            // No device sends what starts a vCPU or stops it.
            if let Some(vcpu) = self.domain.vcpus().get(vcpu) {
                apic::notify(self.hypervisor, vcpu, event);
            }
        };
        deliver(&Apics(self.domain), &self.domain.arch.turn, &message.into(), tell);
    }

    fn pic_rose(&mut self) {
        self.pic_changed = true;
    }

    fn pic_route_changed(&mut self) {
        self.pic_changed = true;
    }
}

impl Board {
    /// The board of a domain with these emulated devices (`XEN_X86_EMU_*`), if it has one: it has all of it or nothing.
    pub fn of(emulation_flags: u32, now: u64) -> Option<Box<Board>> {
        let rules = Rules { missed: MissedTicks::default(), align: false };
        (emulation_flags & XEN_X86_EMU_PIC != 0).then(|| {
            let chips = Chipset::new(now, wallclock::at_start(0), rules);
            Box::new(Board {
                inner: Mutex::new(Inner { chips, deadline: None }),
                timer: TimerSlot::default(),
                awaits: AtomicBool::new(false),
                pic: AtomicBool::new(false),
                pin0: AtomicU16::new(NO_PIN0),
                has_event_line: AtomicBool::new(false),
                event_line: AtomicBool::new(false),
            })
        })
    }

    /// Does something to the devices, and what follows from it: times and messages.
    pub fn with<R>(
        &self,
        hypervisor: &Hypervisor<X86>,
        domain: &Arc<Domain<X86>>,
        act: impl FnOnce(&mut Chipset, u64, &mut Wires<'_>) -> R,
    ) -> R {
        let mut wires = Wires { hypervisor, domain, pic_changed: false };
        let now = hypervisor.machine().system_time();
        let mut inner = self.inner.lock();
        // Who takes an interrupt that is sent from here on asks whose it was, and waits for the lock.
        self.awaits.store(true, SeqCst);
        let result = act(&mut inner.chips, now, &mut wires);
        self.note(&inner.chips);
        self.set_timer(&mut inner, now, &wires);
        let moved = inner.chips.take_time_offset();
        drop(inner);
        if wires.pic_changed {
            self.tell_pic_target(hypervisor, domain);
        }
        if moved != 0 {
            tell_time_offset(hypervisor, domain, moved);
        }
        result
    }

    /// Notes what vCPUs look at without the lock.
    fn note(&self, chips: &Chipset) {
        let virq = chips.virq();
        let pin0 = virq.ioapic().and_then(|ioapic| ioapic.extint_destination()).map_or(NO_PIN0, u16::from);
        self.pin0.store(pin0, SeqCst);
        self.pic.store(virq.pic().is_some_and(|pic| pic.output()), SeqCst);
        self.has_event_line.store(matches!(virq.callback(), Callback::Gsi(_) | Callback::PciIntx { .. }), SeqCst);
        self.event_line.store(virq.callback_asserted(), SeqCst);
        self.awaits.store(chips.awaits_delivery(), SeqCst);
    }

    fn set_timer(&self, inner: &mut Inner, now: u64, wires: &Wires<'_>) {
        let deadline = inner.chips.next_deadline(now);
        if deadline == inner.deadline || wires.domain.life() != Life::Alive {
            return;
        }
        inner.deadline = deadline;
        let set = match deadline {
            None => {
                wires.hypervisor.cancel_timer(&self.timer);
                Ok(())
            }
            Some(deadline) => wires.hypervisor.set_timer(&self.timer, deadline, TimerEvent::Board(wires.domain.id)),
        };
        if let Err(errno) = set {
            log::error!("{}: timer of its devices: {errno}", wires.domain.id);
        }
    }

    /// Which vCPU has the 8259s' output, if its local APIC lets it through.
    fn pic_taker(&self, domain: &Domain<X86>) -> Option<usize> {
        let pin0 = u8::try_from(self.pin0.load(SeqCst)).ok();
        let target = pic_target(&Apics(domain), pin0);
        Apics(domain).port(target).is_some_and(|port| port.takes_pic(pin0)).then_some(target)
    }

    /// The 8259s have an interrupt, or another vCPU may take it now.
    fn tell_pic_target(&self, hypervisor: &Hypervisor<X86>, domain: &Domain<X86>) {
        if !self.pic.load(SeqCst) {
            return;
        }
        let target = self.pic_taker(domain).and_then(|target| domain.vcpus().get(target));
        target.into_iter().for_each(|vcpu| hypervisor.notify(vcpu));
    }

    /// Does what is due. The timer has gone off, so that it is set anew whatever it is set to.
    pub fn tick(&self, hypervisor: &Hypervisor<X86>, domain: &Arc<Domain<X86>>) {
        self.inner.lock().deadline = None;
        self.with(hypervisor, domain, |chips, now, wires| chips.tick(now, wires));
    }

    /// The machine is reset, but for the guest's memory: it sleeps (ACPI S3).
    pub fn reset(&self, hypervisor: &Hypervisor<X86>, domain: &Arc<Domain<X86>>) {
        self.with(hypervisor, domain, |chips, now, wires| chips.reset(now, wires));
    }

    /// The domain goes: so does its timer.
    pub fn release(&self, hypervisor: &Hypervisor<X86>) {
        hypervisor.forget_timer(&self.timer);
    }

    /// The domain's wall clock was set. Its alarm may come at another time: the next vCPU that is entered sees to the timer.
    pub fn set_wall_clock(&self, wall: WallTime, now: u64) {
        self.inner.lock().chips.set_wall_clock(wall, now);
        self.awaits.store(true, SeqCst);
    }

    /// Does what device emulators and the toolstack want of it.
    ///
    /// # Errors
    /// `EINVAL` for a message that is none.
    pub fn signal(&self, hypervisor: &Hypervisor<X86>, domain: &Arc<Domain<X86>>, signal: BoardSignal) -> Result<()> {
        self.with(hypervisor, domain, |chips, now, wires| {
            let virq = chips.virq_mut();
            match signal {
                BoardSignal::PciIntx { device, intx, up: true } => virq.assert_pci(device, intx, wires),
                BoardSignal::PciIntx { device, intx, up: false } => virq.deassert_pci(device, intx, wires),
                BoardSignal::IsaIrq { irq, up: true } => virq.assert_isa(irq, wires),
                BoardSignal::IsaIrq { irq, up: false } => virq.deassert_isa(irq, wires),
                BoardSignal::LinkRoute { link, irq } if !virq.set_link_route(link, irq, wires) => {
                    return Err(Errno::INVAL);
                }
                BoardSignal::LinkRoute { .. } => {}
                BoardSignal::Msi { address, data } => return send_message(address, data, wires),
                BoardSignal::PowerButton => chips.power_button(now, wires),
                BoardSignal::SleepButton => chips.sleep_button(now, wires),
            }
            Ok(())
        })
    }

    /// Takes over a parameter's value that the devices have to know.
    ///
    /// # Errors
    /// `EINVAL` for one that cannot be.
    pub fn set_parameter(
        &self,
        hypervisor: &Hypervisor<X86>,
        domain: &Arc<Domain<X86>>,
        index: u32,
        value: u64,
    ) -> Result<()> {
        let now_or_before = |which: u32| match &domain.translated {
            Some(translated) if which != index => translated.params[which as usize].load(SeqCst),
            _ => value,
        };
        self.with(hypervisor, domain, |chips, _, wires| {
            match index {
                HVM_PARAM_ACPI_IOPORTS_LOCATION => chips.set_acpi_location(value)?,
                HVM_PARAM_CALLBACK_IRQ => chips.virq_mut().set_callback(Callback::from_parameter(value), wires),
                HVM_PARAM_HPET_ENABLED => chips.enable_hpet(value != 0),
                HVM_PARAM_TIMER_MODE | HVM_PARAM_VPT_ALIGN => chips.set_rules(Rules {
                    missed: MissedTicks::try_from(now_or_before(HVM_PARAM_TIMER_MODE))?,
                    align: now_or_before(HVM_PARAM_VPT_ALIGN) != 0,
                }),
                _ => {}
            }
            Ok(())
        })
    }

    /// All records of the devices, to `put`.
    ///
    /// # Errors
    /// Those of `put`.
    pub fn save(&self, now: u64, put: impl FnMut(u16, u16, &[u8]) -> Result<()>) -> Result<()> {
        self.inner.lock().chips.save(now, put)
    }
}

/// The guest has set its clock, and so moved it against the machine's: its device emulators keep account of that too.
#[cold]
fn tell_time_offset(hypervisor: &Hypervisor<X86>, domain: &Arc<Domain<X86>>, moved: i64) {
    domain.time_offset.fetch_add(moved, SeqCst);
    wallclock::update(hypervisor.machine(), domain);
    let Some(servers) = hypervisor.servers(domain) else { return };
    let untold = servers.broadcast(&Request::single(Kind::TimeOffset, Direction::Write, 0, moved as u64, 8));
    if untold != 0 {
        log::warn!("{}: {untold} device emulators do not hear that it has set its clock", domain.id);
    }
}

/// A message-signalled interrupt of an emulated device. Without devices in the hypervisor it has a way all the same: it goes to the
/// local APICs.
///
/// # Errors
/// `EINVAL` for one that cannot be delivered, or that is for a physical interrupt's event channel, which such guests have not.
pub fn send_message(address: u64, data: u32, wires: &mut Wires<'_>) -> Result<()> {
    match Msi::decode(address, data) {
        Some(Msi::Message(message)) => {
            wires.send(message);
            Ok(())
        }
        Some(Msi::Pirq(_)) | None => Err(Errno::INVAL),
    }
}

/// Does what device emulators and the toolstack want of a domain's devices. Lines and buttons of a domain without them lead nowhere.
///
/// # Errors
/// `EINVAL`.
pub fn signal(hypervisor: &Hypervisor<X86>, domain: &Arc<Domain<X86>>, signal: BoardSignal) -> Result<()> {
    match (&domain.arch.board, signal) {
        (Some(board), signal) => board.signal(hypervisor, domain, signal),
        (None, BoardSignal::Msi { address, data }) => {
            send_message(address, data, &mut Wires { hypervisor, domain, pic_changed: false })
        }
        (None, _) => Ok(()),
    }
}

/// Does something to the devices of the vCPU's domain, if it has any.
fn with<R>(current: &Current<'_, VcpuState>, act: impl FnOnce(&mut Chipset, u64, &mut Wires<'_>) -> R) -> Option<R> {
    let board = current.domain.arch.board.as_ref()?;
    Some(board.with(current.hypervisor, current.domain, act))
}

/// An access of the vCPU of `size` bytes (1, 2 or 4) at a port: what it reads, or for a write that it is done. `None`: the port is a
/// device emulator's.
pub fn port(current: &Current<'_, VcpuState>, port: u16, size: u8, write: Option<u32>) -> Option<u32> {
    if write.is_none() {
        // Mostly there is nothing to be noted after it.
        let board = current.domain.arch.board.as_ref()?;
        let read = board.inner.lock().chips.read_quietly(port, size, current.machine().system_time());
        if read.is_some() {
            return read;
        }
    }
    with(current, |chips, now, wires| chips.port(port, size, write, now, wires))?
}

/// An access of the vCPU of `size` bytes (1 to 8) at a guest-physical address, likewise.
pub fn memory(current: &Current<'_, VcpuState>, gpa: u64, size: u8, write: Option<u64>) -> Option<u64> {
    with(current, |chips, now, wires| chips.memory(gpa, size, write, now, wires))?
}

/// The vCPU's local APIC has ended a level-triggered interrupt.
pub fn end_of_interrupt(current: &Current<'_, VcpuState>, vector: u8) {
    with(current, |chips, _, wires| chips.virq_mut().eoi(vector, wires));
}

/// The vCPU's local APIC was set up anew: the 8259s' output may have another way.
pub fn reroute(current: &Current<'_, VcpuState>) {
    if let Some(board) = &current.domain.arch.board {
        board.tell_pic_target(current.hypervisor, current.domain);
    }
}

/// Before the vCPU is entered: brings the line of its event channels up to date, and repeats ticks that may have got lost.
#[inline]
pub fn refresh(current: &Current<'_, VcpuState>, is_upcall_due: bool) {
    let Some(board) = &current.domain.arch.board else { return };
    if current.vcpu.id == VcpuId(0)
        && board.has_event_line.load(SeqCst)
        && board.event_line.load(SeqCst) != is_upcall_due
    {
        move_event_line(current, is_upcall_due);
    }
    if board.awaits.load(SeqCst) {
        renew(current, board);
    }
}

#[inline(never)]
fn move_event_line(current: &Current<'_, VcpuState>, is_up: bool) {
    with(current, |chips, _, wires| chips.virq_mut().update_callback(is_up, wires));
}

#[inline(never)]
fn renew(current: &Current<'_, VcpuState>, board: &Board) {
    let takes_pic = board.pic_taker(current.domain).is_some();
    with(current, |chips, _, wires| chips.renew(takes_pic, wires));
}

/// Whether the 8259s have an interrupt for this vCPU.
#[inline]
pub fn has_pic_interrupt(current: &Current<'_, VcpuState>) -> bool {
    current.domain.arch.board.as_ref().is_some_and(|board| {
        board.pic.load(SeqCst) && board.pic_taker(current.domain) == Some(current.vcpu.id.0 as usize)
    })
}

/// The vCPU takes the 8259s' interrupt: its vector. `None` if it has gone meanwhile.
pub fn acknowledge_pic(current: &Current<'_, VcpuState>) -> Option<u8> {
    with(current, |chips, now, wires| {
        let vector = chips.virq_mut().acknowledge_pic()?;
        chips.delivered(Taken::Pic(vector), now, wires);
        Some(vector)
    })?
}

/// The vCPU has taken an interrupt of its local APIC, which may be a clock's tick.
#[inline]
pub fn accepted(current: &Current<'_, VcpuState>, vector: u8) {
    let Some(board) = &current.domain.arch.board else { return };
    if board.awaits.load(SeqCst) {
        with(current, |chips, now, wires| chips.delivered(Taken::Apic(vector), now, wires));
    }
}
