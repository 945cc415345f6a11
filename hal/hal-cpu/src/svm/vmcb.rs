//! A guest's control block. Soundness: docs/soundness/svm.md.

use super::asid::{Flush, Tag};
use super::{CpuState, MsrMap, PortMap, enter, physical_of};
use crate::area;
use alloc::boxed::Box;
use alloc::sync::Arc;
use types::{CpuId, Errno, Mfn, Result};
use x86_defs::control::{Efer, RFlags, Vector};
use x86_defs::svm::{
    Clean, Event, EventKind, ExitCode, Features, INTERRUPT_SHADOW, Intercepts, Misc1, Misc2, Misc3, NESTED_PAGING,
    SaveArea, VirtualInterrupt, VmcbPage, tlb_control,
};
use zerocopy::FromZeros;

/// What every guest leaves for, whatever its owner asks. Without one of these a guest could switch SVM about, take the machine's
/// interrupts or machine checks, stop the machine, drop what caches hold of the hypervisor's memory (INVD), drop translations
/// of others, enlarge the extended state beyond what an [`crate::Xstate`] holds (XSETBV), reach ports and MSRs, or keep the CPU
/// busy with delivering #DB or #AC forever (CVE-2015-8104, CVE-2015-5307).
pub const MANDATORY: Intercepts = Intercepts {
    cr: 0,
    dr: 0,
    exceptions: 1 << Vector::DEBUG | 1 << Vector::ALIGNMENT_CHECK | 1 << Vector::MACHINE_CHECK,
    misc1: Misc1::INTR
        .union(Misc1::NMI)
        .union(Misc1::SMI)
        .union(Misc1::INIT)
        .union(Misc1::INVD)
        .union(Misc1::INVLPGA)
        .union(Misc1::IO)
        .union(Misc1::MSR)
        .union(Misc1::FERR_FREEZE)
        .union(Misc1::SHUTDOWN),
    misc2: Misc2::VMRUN
        .union(Misc2::VMLOAD)
        .union(Misc2::VMSAVE)
        .union(Misc2::STGI)
        .union(Misc2::CLGI)
        .union(Misc2::SKINIT)
        .union(Misc2::XSETBV),
    misc3: Misc3::INVLPGB.union(Misc3::INVLPGB_ILLEGAL).union(Misc3::TLBSYNC),
};

/// What else a guest usually leaves for. Task switches are among it as the CPU carries none out in guest mode as a hypervisor
/// would want them, the debug registers as they are loaded once a guest uses them, RDPMC and RDPRU as they tell of other guests.
pub const USUAL: Intercepts = Intercepts {
    cr: 0,
    dr: !0,
    exceptions: 0,
    misc1: Misc1::CPUID.union(Misc1::HLT).union(Misc1::RDPMC).union(Misc1::TASK_SWITCH),
    misc2: Misc2::VMMCALL
        .union(Misc2::ICEBP)
        .union(Misc2::WBINVD)
        .union(Misc2::MONITOR)
        .union(Misc2::MWAIT)
        .union(Misc2::RDPRU),
    misc3: Misc3::MCOMMIT,
};

/// Physical addresses of what a control block owns.
#[derive(Clone, Copy)]
struct Addresses {
    block: u64,
    msrs: u64,
    ports: u64,
}

/// A guest's control block: the guest's state, which may be anything, and the rest, which only this type changes.
pub struct Vmcb {
    page: Box<VmcbPage>,
    msrs: Arc<MsrMap>,
    ports: Arc<PortMap>,
    /// Looked up at the first entry: all three stay where they are.
    addresses: Option<Addresses>,
    intercepts: Intercepts,
    root: Option<Mfn>,
    /// Where it ran last, and by which ASID.
    last: Option<(CpuId, Tag)>,
    clean: Clean,
}

/// What [`Vmcb::make_virtual`] puts aside for an entry.
pub(super) struct Aside {
    event: Event,
    /// The window that is requested, if any.
    window: VirtualInterrupt,
}

impl Vmcb {
    /// A control block of a guest with nothing but zeros for a state, which leaves for all of [`USUAL`]. `ENOMEM`.
    pub fn new(msrs: Arc<MsrMap>, ports: Arc<PortMap>) -> Result<Vmcb> {
        let page = VmcbPage::new_box_zeroed().map_err(|_| Errno::NOMEM)?;
        let clean = Clean::empty();
        let mut vmcb = Vmcb { page, msrs, ports, addresses: None, intercepts: USUAL, root: None, last: None, clean };
        vmcb.page.control.virtual_interrupt = VirtualInterrupt::MASKING;
        vmcb.write_intercepts();
        Ok(vmcb)
    }

    /// The guest's state.
    pub fn state(&self) -> &SaveArea {
        &self.page.save
    }

    /// The guest's state, to be changed. No value in it can do harm: a state that VMRUN refuses ends as [`super::HvmExit::Invalid`],
    /// and EFER.SVME is set anyway. But rip, rsp, rax and rflags come from the registers that are given to [`super::enter_hvm`].
    pub fn state_mut(&mut self) -> &mut SaveArea {
        self.clean.remove(Clean::SAVE_AREA);
        &mut self.page.save
    }

    /// Sets CR2 alone, which costs less than [`Vmcb::state_mut`].
    pub fn set_cr2(&mut self, address: u64) {
        self.clean.remove(Clean::CR2);
        self.page.save.cr2 = address;
    }

    /// Sets CR0, CR3, CR4 and EFER alone.
    pub fn set_control_registers(&mut self, cr0: u64, cr3: u64, cr4: u64, efer: Efer) {
        self.clean.remove(Clean::CONTROL_REGISTERS);
        let save = &mut self.page.save;
        (save.cr0, save.cr3, save.cr4, save.efer) = (cr0, cr3, cr4, efer.bits());
    }

    /// The root of the tables that turn the guest's physical addresses into the machine's. `EPERM` if the frame is not lendable.
    ///
    /// The caller promises, for as long as it enters the guest with this root, what the validation of page tables promises for
    /// [`crate::load_root`]: the frames of these tables are written by the hypervisor alone, and their entries lead to lendable
    /// frames, or to I/O memory that the guest was given. Translations that the CPU has of another root are dropped.
    pub fn set_nested_root(&mut self, root: Mfn) -> Result<()> {
        if !hal::frames::is_lendable(root) {
            return Err(Errno::PERM);
        }
        if self.root.replace(root) != Some(root) {
            self.clean.remove(Clean::NESTED);
            self.flush_translations();
        }
        Ok(())
    }

    /// What the guest leaves for, without [`MANDATORY`].
    pub fn intercepts(&self) -> Intercepts {
        self.intercepts
    }

    /// Sets what the guest leaves for, beside [`MANDATORY`].
    pub fn set_intercepts(&mut self, intercepts: Intercepts) {
        if self.intercepts != intercepts {
            self.intercepts = intercepts;
            self.write_intercepts();
        }
    }

    fn write_intercepts(&mut self) {
        let mut all = self.intercepts.union(MANDATORY);
        if self.virtual_interrupt().is_pending() {
            all.misc1 |= Misc1::VINTR;
            // Whether the interrupt may come is decided anew with each priority. A CPU does that itself, but QEMU's (10.0) ends by an
            // assertion there, and the whole machine with it.
            all.cr |= Intercepts::writes(8);
        }
        self.clean.remove(Clean::INTERCEPTS);
        let control = &mut self.page.control;
        control.intercept_cr = all.cr;
        control.intercept_dr = all.dr;
        control.intercept_exceptions = all.exceptions;
        control.intercept_misc1 = all.misc1.bits();
        control.intercept_misc2 = all.misc2.bits();
        control.intercept_misc3 = all.misc3.bits();
    }

    /// MSRs that the guest reaches itself.
    pub fn msrs(&self) -> &MsrMap {
        &self.msrs
    }

    /// Ports that the guest reaches itself.
    pub fn ports(&self) -> &PortMap {
        &self.ports
    }

    /// Added to the TSC that the guest reads.
    pub fn tsc_offset(&self) -> u64 {
        self.page.control.tsc_offset
    }

    /// Sets what is added to the TSC that the guest reads.
    pub fn set_tsc_offset(&mut self, offset: u64) {
        self.clean.remove(Clean::INTERCEPTS);
        self.page.control.tsc_offset = offset;
    }

    /// Has the guest leave after `count` pauses, each less than `threshold` ticks after the one before (APM vol. 2, 15.14.4).
    /// [`Misc1::PAUSE`] has to be among the intercepts; the CPU needs [`Features::PAUSE_FILTER`].
    pub fn set_pause_filter(&mut self, count: u16, threshold: u16) {
        self.clean.remove(Clean::INTERCEPTS);
        self.page.control.pause_filter_count = count;
        self.page.control.pause_filter_threshold = threshold;
    }

    fn virtual_interrupt(&self) -> VirtualInterrupt {
        VirtualInterrupt(self.page.control.virtual_interrupt)
    }

    fn set_virtual_interrupt(&mut self, value: VirtualInterrupt) {
        let before = self.virtual_interrupt();
        if before != value {
            self.clean.remove(Clean::INTERRUPT);
            self.page.control.virtual_interrupt = value.0;
            if before.is_pending() != value.is_pending() {
                self.write_intercepts();
            }
        }
    }

    /// The guest's CR8.
    pub fn task_priority(&self) -> u8 {
        self.virtual_interrupt().task_priority()
    }

    /// Sets the guest's CR8, of which four bits count.
    pub fn set_task_priority(&mut self, cr8: u8) {
        self.set_virtual_interrupt(self.virtual_interrupt().with_task_priority(cr8));
    }

    /// Has the guest leave by [`ExitCode::VINTR`] as soon as it can take an interrupt of `priority` (bits 7 to 4 of its vector),
    /// or, with `ignore_cr8`, any (APM vol. 2, 15.21.4); and before it writes CR8.
    pub fn request_window(&mut self, priority: u8, ignore_cr8: bool) {
        self.set_virtual_interrupt(self.virtual_interrupt().with_pending(0, priority, ignore_cr8));
    }

    /// Takes that back: after the exit, or when the interrupt is no longer wanted.
    pub fn cancel_window(&mut self) {
        self.set_virtual_interrupt(self.virtual_interrupt().without_pending());
    }

    /// Whether a window was requested.
    pub fn awaits_window(&self) -> bool {
        self.virtual_interrupt().is_pending()
    }

    /// Whether the guest is behind an STI or a MOV SS, and takes no interrupt before the next instruction.
    pub fn is_in_shadow(&self) -> bool {
        self.page.control.interrupt_shadow & INTERRUPT_SHADOW != 0
    }

    /// Sets that; an instruction that was emulated ends the shadow.
    pub fn set_in_shadow(&mut self, on: bool) {
        self.page.control.interrupt_shadow = if on { INTERRUPT_SHADOW } else { 0 };
    }

    /// Has the CPU deliver an event at the next entry, in place of the one that was to be.
    pub fn inject(&mut self, event: Event) {
        self.page.control.injected_event = event.0;
    }

    /// What the CPU delivers at the next entry. After an exit nothing: the CPU has taken it, and what it could not deliver is
    /// [`Vmcb::interrupted_event`].
    pub fn injected(&self) -> Option<Event> {
        Some(Event(self.page.control.injected_event)).filter(|event| event.is_valid())
    }

    /// What the CPU was delivering when the guest left (EXITINTINFO). It is lost unless it is injected again.
    pub fn interrupted_event(&self) -> Option<Event> {
        Some(Event(self.page.control.exit_event)).filter(|event| event.is_valid())
    }

    /// Why the guest left last.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from_field(self.page.control.exit_code)
    }

    /// EXITINFO1 and EXITINFO2, whose meaning depends on [`Vmcb::exit_code`].
    pub fn exit_info(&self) -> (u64, u64) {
        (self.page.control.exit_info1, self.page.control.exit_info2)
    }

    /// rip behind the instruction that the guest left by; `None` on CPUs without [`Features::NEXT_RIP`], and for exits that no
    /// instruction is intercepted by.
    pub fn next_rip(&self) -> Option<u64> {
        Some(self.page.control.next_rip).filter(|rip| *rip != 0)
    }

    /// Bytes of the instruction that had the page fault or nested page fault the guest left by, as many as the CPU has read: none
    /// without [`Features::DECODE_ASSISTS`].
    pub fn fetched(&self) -> &[u8] {
        let control = &self.page.control;
        &control.fetched[..usize::from(control.fetched_count & 15)]
    }

    /// Drops all translations that any CPU has of this guest's addresses, before it runs again. Needed when they became stricter
    /// by nested tables or by a register of the guest that was changed for it; its own INVLPG and CR3 it sees to itself.
    pub fn flush_translations(&mut self) {
        self.last = None;
    }

    /// Drops the translation of one of the guest's linear addresses.
    pub fn flush_page(&mut self, address: u64) {
        if let Some((cpu, tag)) = self.last {
            // On another CPU it gets a new ASID.
            if cpu == area::cpu_id() {
                enter::invlpga(address, tag.asid());
            }
        }
    }

    /// Makes the block ready for VMRUN on this CPU: what the hypervisor's safety rests on is written here, each time. `None`
    /// without a nested root.
    pub(super) fn arm(&mut self, cpu: CpuId, state: &CpuState) -> Option<()> {
        let root = self.root?;
        let mut asids = state.asids.get();
        if self.last.is_none_or(|(last, _)| last != cpu) {
            self.clean = Clean::empty();
        }
        let current = self.last.filter(|(last, tag)| *last == cpu && asids.is_valid(*tag));
        let (tag, flush) = match current {
            Some((_, tag)) => (tag, Flush::Nothing),
            None => {
                self.clean.remove(Clean::ASID);
                let given = asids.allocate();
                state.asids.set(asids);
                given
            }
        };
        self.last = Some((cpu, tag));
        let Addresses { msrs, ports, .. } = self.addresses();
        self.page.save.efer |= Efer::SVME.bits();
        let control = &mut self.page.control;
        control.msrpm_base = msrs;
        control.iopm_base = ports;
        control.nested_control = NESTED_PAGING;
        control.nested_cr3 = root.address();
        control.asid = tag.asid();
        control.tlb_control = match flush {
            Flush::Nothing => tlb_control::NOTHING,
            Flush::Everything => tlb_control::ALL,
        };
        control.clean = self.clean.bits();
        Some(())
    }

    /// For an emulated CPU that delivers an injected interrupt twice ([`CpuState::repeats_interrupts`]): has it take the interrupt that
    /// is injected as a virtual one (15.21.4), if the guest can take it now. A window that is requested waits for the next entry.
    pub(super) fn make_virtual(&mut self) -> Option<Aside> {
        let event = self.injected().filter(|event| event.kind() == Some(EventKind::Interrupt))?;
        let is_open = self.page.save.rflags & RFlags::IF.bits() != 0 && !self.is_in_shadow();
        if !is_open {
            return None;
        }
        let window = self.virtual_interrupt();
        let control = &mut self.page.control;
        control.injected_event = 0;
        control.virtual_interrupt = window.with_pending(event.vector(), 15, true).0;
        control.intercept_misc1 &= !Misc1::VINTR.bits();
        control.clean &= !Clean::INTERRUPT.union(Clean::INTERCEPTS).bits();
        Some(Aside { event, window })
    }

    /// Undoes that after the exit, behind [`Vmcb::left`]. An interrupt that the CPU has not taken, or whose delivery was interrupted, is injected again.
    pub(super) fn make_real(&mut self, Aside { event, window }: Aside) {
        let left = self.virtual_interrupt();
        let control = &mut self.page.control;
        if left.is_pending() {
            (control.injected_event, control.exit_event) = (event.0, 0);
        }
        control.virtual_interrupt = window.with_task_priority(left.task_priority()).0;
        if window.is_pending() {
            control.intercept_misc1 |= Misc1::VINTR.bits();
        }
        self.clean.remove(Clean::INTERRUPT.union(Clean::INTERCEPTS));
    }

    /// After an exit: the event is delivered, and the CPU's cache and the block agree. Not so if VMRUN refused the block.
    pub(super) fn left(&mut self, features: Features) {
        let was_accepted = self.exit_code() != ExitCode::INVALID;
        if was_accepted {
            self.page.control.injected_event = 0;
        }
        let is_known = was_accepted && features.contains(Features::CLEAN_BITS);
        self.clean = if is_known { Clean::all() } else { Clean::empty() };
    }

    pub(super) fn save_area(&mut self) -> &mut SaveArea {
        &mut self.page.save
    }

    fn addresses(&mut self) -> Addresses {
        *self.addresses.get_or_insert_with(|| Addresses {
            block: physical_of(&raw const *self.page),
            msrs: self.msrs.address(),
            ports: self.ports.address(),
        })
    }

    /// Physical address of the block, by which the CPU may access it until it is used here again.
    pub(super) fn address(&mut self) -> u64 {
        let block = self.addresses().block;
        (&raw mut *self.page).expose_provenance();
        block
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Change = fn(&mut Vmcb);

    fn fresh() -> Vmcb {
        Vmcb::new(Arc::new(MsrMap::new().unwrap()), Arc::new(PortMap::new().unwrap())).unwrap()
    }

    #[test]
    fn mandatory_intercepts_cannot_be_lost() {
        let mut vmcb = fresh();
        let holds = |vmcb: &Vmcb| {
            let control = &vmcb.page.control;
            let found = Intercepts {
                cr: control.intercept_cr,
                dr: control.intercept_dr,
                exceptions: control.intercept_exceptions,
                misc1: Misc1::from_bits_retain(control.intercept_misc1),
                misc2: Misc2::from_bits_retain(control.intercept_misc2),
                misc3: Misc3::from_bits_retain(control.intercept_misc3),
            };
            assert_eq!(found.union(MANDATORY), found);
            found
        };
        assert_eq!(holds(&vmcb), MANDATORY.union(USUAL));
        vmcb.set_intercepts(Intercepts::NONE);
        assert_eq!(holds(&vmcb), MANDATORY);
        vmcb.request_window(4, false);
        assert_eq!(holds(&vmcb).misc1, MANDATORY.misc1 | Misc1::VINTR);
        assert_eq!(holds(&vmcb).cr, MANDATORY.cr | Intercepts::writes(8));
        vmcb.cancel_window();
        assert_eq!(holds(&vmcb), MANDATORY);
    }

    #[test]
    fn interrupts_stay_the_hypervisors() {
        let mut vmcb = fresh();
        vmcb.request_window(15, true);
        vmcb.set_task_priority(0xff);
        assert_eq!((vmcb.task_priority(), vmcb.awaits_window()), (15, true));
        vmcb.cancel_window();
        assert_eq!(vmcb.page.control.virtual_interrupt, VirtualInterrupt::MASKING | 15);
    }

    #[test]
    fn no_root_is_taken_that_is_not_lendable() {
        assert_eq!(fresh().set_nested_root(Mfn(1)), Err(Errno::PERM));
    }

    #[test]
    fn what_changes_is_not_clean() {
        let mut vmcb = fresh();
        let changes: [(Change, Clean); 7] = [
            (|vmcb| vmcb.set_cr2(1), Clean::CR2),
            (|vmcb| vmcb.set_tsc_offset(1), Clean::INTERCEPTS),
            (|vmcb| vmcb.set_control_registers(0, 0, 0, Efer::SVME), Clean::CONTROL_REGISTERS),
            (|vmcb| vmcb.request_window(0, true), Clean::INTERRUPT.union(Clean::INTERCEPTS)),
            (|vmcb| vmcb.set_task_priority(3), Clean::INTERRUPT),
            (|vmcb| vmcb.state_mut().cpl = 3, Clean::SAVE_AREA),
            (|vmcb| vmcb.set_intercepts(Intercepts::NONE), Clean::INTERCEPTS),
        ];
        for (index, (change, dirty)) in changes.into_iter().enumerate() {
            vmcb.left(Features::CLEAN_BITS);
            assert_eq!(vmcb.clean, Clean::all());
            change(&mut vmcb);
            assert_eq!(Clean::all() - vmcb.clean, dirty, "change {index}");
        }
        // What leaves all as it was costs nothing.
        vmcb.left(Features::CLEAN_BITS);
        vmcb.set_task_priority(3);
        vmcb.set_intercepts(Intercepts::NONE);
        assert_eq!(vmcb.clean, Clean::all());
        vmcb.left(Features::empty());
        assert_eq!(vmcb.clean, Clean::empty());
    }

    #[test]
    fn events_come_and_go() {
        let mut vmcb = fresh();
        assert_eq!((vmcb.injected(), vmcb.interrupted_event()), (None, None));
        vmcb.inject(Event::interrupt(0x30));
        assert_eq!(vmcb.injected(), Some(Event::interrupt(0x30)));
        vmcb.page.control.exit_code = ExitCode::INVALID.0;
        vmcb.left(Features::CLEAN_BITS);
        assert_eq!((vmcb.injected(), vmcb.clean), (Some(Event::interrupt(0x30)), Clean::empty()));
        vmcb.page.control.exit_code = ExitCode::HLT.0;
        vmcb.left(Features::CLEAN_BITS);
        assert_eq!(vmcb.injected(), None);
        vmcb.set_in_shadow(true);
        assert!(vmcb.is_in_shadow());
    }

    #[test]
    fn an_interrupt_made_virtual_is_taken_or_stays() {
        let event = Event::interrupt(0x30);
        // Asked for: (may the guest take it, is a window requested), what the CPU does.
        for (is_open, window, takes) in
            [(true, true, true), (true, true, false), (true, false, true), (false, true, true)]
        {
            let mut vmcb = fresh();
            vmcb.page.save.rflags = if is_open { RFlags::IF.bits() } else { 0 };
            if window {
                vmcb.request_window(4, false);
            }
            let before = (vmcb.virtual_interrupt(), vmcb.page.control.intercept_misc1);
            vmcb.inject(event);
            let aside = vmcb.make_virtual();
            assert_eq!(vmcb.injected(), Some(event).filter(|_| !is_open));
            if is_open {
                let wanted = before.0.with_pending(0x30, 15, true);
                assert_eq!(vmcb.virtual_interrupt(), wanted);
                assert_eq!(vmcb.page.control.intercept_misc1 & Misc1::VINTR.bits(), 0, "it comes without an exit");
                vmcb.page.control.virtual_interrupt = if takes { wanted.without_pending() } else { wanted }.0;
                // What QEMU says of a delivery that a nested fault has interrupted.
                vmcb.page.control.exit_event = if takes { 0 } else { Event::exception(0x30, None).0 };
            }
            vmcb.left(Features::CLEAN_BITS);
            aside.into_iter().for_each(|aside| vmcb.make_real(aside));
            assert_eq!((vmcb.virtual_interrupt(), vmcb.page.control.intercept_misc1), before);
            assert_eq!((vmcb.injected(), vmcb.interrupted_event()), (Some(event).filter(|_| !takes), None));
        }
        let mut vmcb = fresh();
        vmcb.page.save.rflags = RFlags::IF.bits();
        vmcb.inject(Event::exception(14, Some(0)));
        assert!(vmcb.make_virtual().is_none());
        assert_eq!(vmcb.injected(), Some(Event::exception(14, Some(0))), "exceptions are injected");
    }

    #[test]
    fn a_cpu_that_claims_too_many_bytes_is_not_believed() {
        let mut vmcb = fresh();
        vmcb.page.control.fetched_count = 0xff;
        assert_eq!(vmcb.fetched().len(), 15);
        vmcb.page.control.fetched_count = 0;
        assert!(vmcb.fetched().is_empty());
        assert_eq!(vmcb.next_rip(), None);
    }
}
