//! The complete state of a vCPU, whose structure a 32-bit guest's toolstack and kernel have in 32-bit layout.

use super::operations;
use crate::machine::X86;
use crate::pv::guest_context;
use crate::pv::state::VcpuState;
use alloc::boxed::Box;
use alloc::sync::Arc;
use domain::{Domain, Hypervisor, Vcpu};
use platform::GuestMemory;
use types::{Errno, Result};
use xen_abi::arch_x86::{VcpuGuestContext, pfn_to_cr3};
use xen_abi::compat;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

/// A context that was given, in 64-bit layout.
pub struct Given {
    wide: Box<VcpuGuestContext>,
    /// Segments of the callbacks, for which the 64-bit layout has no room.
    selectors: Option<(u16, u16)>,
}

fn read<T: FromBytes + IntoBytes>(machine: &X86, address: u64) -> Result<Box<T>> {
    let mut value = T::new_box_zeroed().map_err(|_| Errno::NOMEM)?;
    machine.copy_in(address, value.as_mut_bytes())?;
    Ok(value)
}

impl Given {
    /// Copies a context for a vCPU of `domain` in, from the caller's address.
    ///
    /// # Errors
    /// `EFAULT`, `ENOMEM`.
    pub fn read(machine: &X86, domain: &Domain<X86>, address: u64) -> Result<Given> {
        if !domain.memory.is_pae() {
            return Ok(Given { wide: read(machine, address)?, selectors: None });
        }
        let narrow: Box<compat::VcpuGuestContext> = read(machine, address)?;
        let mut wide = VcpuGuestContext::new_box_zeroed().map_err(|_| Errno::NOMEM)?;
        widen(&narrow, &mut wide);
        let selectors = Some((narrow.event_callback_cs as u16, narrow.failsafe_callback_cs as u16));
        Ok(Given { wide, selectors })
    }

    /// `VGCF_*`.
    pub fn flags(&self) -> u64 {
        self.wide.flags
    }

    /// The context in 64-bit layout.
    pub fn wide(&self) -> &VcpuGuestContext {
        &self.wide
    }

    /// Gives a PV vCPU that does not run this state.
    ///
    /// # Errors
    /// As [`guest_context::apply`]; `ENOMEM`.
    pub fn apply(
        &self,
        hypervisor: &Hypervisor<X86>,
        domain: &Arc<Domain<X86>>,
        vcpu: &Vcpu<X86>,
        state: &mut VcpuState,
    ) -> Result<()> {
        if self.selectors.is_some() {
            super::prepare(hypervisor, state)?;
        }
        guest_context::apply(hypervisor, domain, vcpu, state, &self.wide)?;
        if let Some((event, failsafe)) = self.selectors {
            state.event.cs = state.kernel_selector(event);
            state.failsafe.cs = state.kernel_selector(failsafe);
            state.kernel_mode = state.context.regs.cs & 3 != 3;
        }
        Ok(())
    }
}

fn widen(from: &compat::VcpuGuestContext, to: &mut VcpuGuestContext) {
    to.fpu_ctxt.x = from.fpu_ctxt;
    to.flags = from.flags.into();
    widen_registers(&from.user_regs, to);
    for (wide, narrow) in to.trap_ctxt.iter_mut().zip(&from.trap_ctxt) {
        *wide = operations::widen(narrow);
    }
    (to.ldt_base, to.ldt_ents) = (from.ldt_base.into(), from.ldt_ents.into());
    to.gdt_frames = from.gdt_frames.map(u64::from);
    to.gdt_ents = from.gdt_ents.into();
    (to.kernel_ss, to.kernel_sp) = (from.kernel_ss.into(), from.kernel_sp.into());
    to.ctrlreg = from.ctrlreg.map(u64::from);
    // It has no page tables for user mode alone.
    to.ctrlreg[1] = 0;
    to.ctrlreg[3] = pfn_to_cr3(compat::cr3_to_pfn(from.ctrlreg[3]));
    to.debugreg = from.debugreg.map(u64::from);
    to.event_callback_eip = from.event_callback_eip.into();
    to.failsafe_callback_eip = from.failsafe_callback_eip.into();
    to.vm_assist = from.vm_assist.into();
}

fn widen_registers(from: &compat::CpuUserRegs, context: &mut VcpuGuestContext) {
    let to = &mut context.user_regs;
    (to.rax, to.rbx, to.rcx, to.rdx) = (from.eax.into(), from.ebx.into(), from.ecx.into(), from.edx.into());
    (to.rsi, to.rdi, to.rbp, to.rsp) = (from.esi.into(), from.edi.into(), from.ebp.into(), from.esp.into());
    (to.rip, to.rflags) = (from.eip.into(), from.eflags.into());
    (to.cs, to.ss, to.ds, to.es, to.fs, to.gs) = (from.cs, from.ss, from.ds, from.es, from.fs, from.gs);
}

/// The context of a 32-bit guest's vCPU from that in 64-bit layout.
pub fn narrow(from: &VcpuGuestContext, state: &VcpuState) -> compat::VcpuGuestContext {
    let mut to = compat::VcpuGuestContext::new_zeroed();
    to.fpu_ctxt = from.fpu_ctxt.x;
    to.flags = from.flags as u32;
    narrow_registers(from, &mut to.user_regs);
    for (narrow, wide) in to.trap_ctxt.iter_mut().zip(&from.trap_ctxt) {
        let address = wide.address as u32;
        *narrow = compat::TrapInfo { vector: wide.vector, flags: wide.flags, cs: wide.cs, address };
    }
    (to.ldt_base, to.ldt_ents) = (from.ldt_base as u32, from.ldt_ents as u32);
    to.gdt_frames = from.gdt_frames.map(|frame| frame as u32);
    to.gdt_ents = from.gdt_ents as u32;
    (to.kernel_ss, to.kernel_sp) = (from.kernel_ss as u32, from.kernel_sp as u32);
    to.ctrlreg = from.ctrlreg.map(|register| register as u32);
    to.debugreg = from.debugreg.map(|register| register as u32);
    to.event_callback_eip = from.event_callback_eip as u32;
    to.failsafe_callback_eip = from.failsafe_callback_eip as u32;
    (to.event_callback_cs, to.failsafe_callback_cs) = (state.event.cs.into(), state.failsafe.cs.into());
    to.vm_assist = from.vm_assist as u32;
    to
}

fn narrow_registers(context: &VcpuGuestContext, to: &mut compat::CpuUserRegs) {
    let from = &context.user_regs;
    (to.eax, to.ebx, to.ecx, to.edx) = (from.rax as u32, from.rbx as u32, from.rcx as u32, from.rdx as u32);
    (to.esi, to.edi, to.ebp, to.esp) = (from.rsi as u32, from.rdi as u32, from.rbp as u32, from.rsp as u32);
    (to.eip, to.eflags) = (from.rip as u32, from.rflags as u32);
    (to.cs, to.ss, to.ds, to.es, to.fs, to.gs) = (from.cs, from.ss, from.ds, from.es, from.fs, from.gs);
    to.saved_upcall_mask = from.saved_upcall_mask;
}

#[cfg(test)]
mod tests {
    use super::*;
    use xen_abi::arch_x86::cr3_to_pfn;

    #[test]
    fn a_builders_context_has_all_its_numbers_in_64_bits() {
        let mut from = compat::VcpuGuestContext::new_zeroed();
        from.user_regs.eip = 0xc000_0000;
        from.user_regs.esi = 0x1234;
        (from.user_regs.cs, from.user_regs.ss) = (compat::FLAT_RING1_CS, compat::FLAT_RING1_SS);
        from.ctrlreg[3] = compat::pfn_to_cr3(0x17_2ecc);
        from.ctrlreg[1] = !0;
        from.gdt_frames[13] = 0xffff_fff0;
        from.trap_ctxt[255] = compat::TrapInfo { vector: 9, flags: 5, cs: 0xe019, address: 0xdead_0000 };
        let mut to = VcpuGuestContext::new_box_zeroed().unwrap();
        widen(&from, &mut to);
        assert_eq!((to.user_regs.rip, to.user_regs.rsi, to.user_regs.cs), (0xc000_0000, 0x1234, 0xe019));
        assert_eq!((cr3_to_pfn(to.ctrlreg[3]), to.ctrlreg[1]), (0x17_2ecc, 0), "above 4 GiB");
        assert_eq!(to.gdt_frames[13], 0xffff_fff0);
        let trap = &to.trap_ctxt[255];
        assert_eq!((trap.vector, trap.flags, trap.cs, trap.address), (9, 5, 0xe019, 0xdead_0000));
    }
}
