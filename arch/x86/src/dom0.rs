//! Carries out the plan for the control domain.

use crate::irq;
use crate::machine::X86;
use crate::pv::hypercall_page::stubs;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;
use dom0::{Config, Kernel, MemoryOption, MemorySize, Payload, Plan, StartParameters};
use domain::{Creation, Domain, Hypervisor};
use hal::boot::{Module, Scratch};
use memory::{Context, MAX_ORDER, Request};
use platform::{Frames, write_bytes};
use sched::{Affinity, Scheduler};
use types::{CpuId, CpuMask, DomId, Gfn, Mfn, PAGE_SIZE, Progress};
use x86_defs::pte::Pte;

/// Limits of the control domain's tables.
const MAX_GRANT_FRAMES: u32 = 64;
const MAX_MAPTRACK_FRAMES: u32 = 1024;
/// Bytes of a P2M entry.
const ENTRY: usize = 8;
/// Bytes of a page as a number for addresses.
const PAGE: u64 = PAGE_SIZE as u64;

/// What the command line and the firmware say of the control domain.
pub struct Options<'a> {
    /// Value of `dom0_mem`; `None` where it is absent.
    pub memory: Option<&'a str>,
    /// vCPUs.
    pub vcpus: u32,
    /// Whether each vCPU stays on one CPU.
    pub pinned: bool,
    /// Physical address of the ACPI root pointer where the firmware is no BIOS.
    pub rsdp: Option<u64>,
}

/// Unpacks the kernel, if it is packed, into memory of its own. To be called while there is such memory: before
/// [`hal::boot::finish`].
///
/// # Errors
/// One line that says what is wrong and what to do.
pub fn unpack(kernel: &Module) -> Result<Option<Scratch>, String> {
    let payload = Payload::find(kernel.bytes()).map_err(|error| error.to_string())?;
    if payload.plain().is_some() {
        return Ok(None);
    }
    log::info!("Dom0 kernel: {:?}, {} KiB unpacked", payload.format(), payload.unpacked_size() >> 10);
    let size = payload.unpacked_size();
    let mut scratch = hal::boot::scratch(size).ok_or_else(|| {
        format!("No {} MiB of contiguous memory to unpack the dom0 kernel in: give the machine more memory", size >> 20)
    })?;
    payload.unpack(scratch.bytes_mut()).map_err(|error| error.to_string())?;
    Ok(Some(scratch))
}

/// The kernel's command line, with where the ACPI root pointer is: without a BIOS the kernel would not find it by itself.
fn command_line(given: &str, rsdp: Option<u64>) -> String {
    match rsdp {
        Some(address) if !given.contains("acpi_rsdp=") => format!("{given} acpi_rsdp={address:#x}"),
        _ => given.into(),
    }
}

/// Builds the control domain out of its kernel, as [`unpack`] has left it, and its initrd; ready to run.
///
/// # Errors
/// One line that says what is wrong and what to do.
pub fn build(
    hypervisor: &'static Hypervisor<X86>,
    (kernel, unpacked): (Module, Option<Scratch>),
    initrd: Option<Module>,
    options: &Options<'_>,
) -> Result<Arc<Domain<X86>>, String> {
    let command_line = command_line(&kernel.command_line, options.rsdp);
    let image = unpacked.as_ref().map_or(kernel.bytes(), |scratch| scratch.bytes());
    let parsed = Kernel::parse(image).map_err(|error| error.to_string())?;
    let initrd_length = initrd.as_ref().map_or(0, |module| module.bytes().len() as u64);
    let size = memory_size(hypervisor, options, initrd_length)?;
    let plan = Plan::new(&parsed, &Config { pages: size.pages, initrd_length }).map_err(|error| error.to_string())?;

    let domain = create(hypervisor, options.vcpus, &size)?;
    if options.pinned {
        pin(hypervisor, &domain).map_err(|errno| format!("Cannot pin dom0's vCPUs: {errno}; drop dom0_vcpus_pin"))?;
    }
    let builder = Builder { hypervisor, domain: &domain, plan: &plan, p2m: Vec::new() };
    builder.run(&parsed, initrd, &command_line)?;
    give_back(hypervisor, unpacked.and_then(Scratch::release));
    release(hypervisor, kernel);
    Ok(domain)
}

/// Gives a module's memory to the allocator.
fn release(hypervisor: &Hypervisor<X86>, module: Module) {
    give_back(hypervisor, module.release());
}

fn give_back(hypervisor: &Hypervisor<X86>, frames: Option<(Mfn, Mfn)>) {
    if let Some((first, end)) = frames {
        hypervisor.memory.add_free(first, end.0 - first.0, false);
    }
}

/// What `dom0_mem` means where so much memory is free.
fn memory_size(hypervisor: &Hypervisor<X86>, options: &Options<'_>, initrd_length: u64) -> Result<MemorySize, String> {
    let option = options.memory.map_or(Ok(MemoryOption::default()), MemoryOption::parse);
    let option = option.map_err(|error| error.to_string())?;
    Ok(option.size(hypervisor.memory.free_pages() + initrd_length.div_ceil(PAGE)))
}

fn create(hypervisor: &'static Hypervisor<X86>, vcpus: u32, size: &MemorySize) -> Result<Arc<Domain<X86>>, String> {
    let creation = Creation {
        handle: [0; 16],
        privileged: true,
        max_vcpus: vcpus,
        max_evtchn_port: u32::MAX,
        max_grant_frames: MAX_GRANT_FRAMES,
        max_maptrack_frames: MAX_MAPTRACK_FRAMES,
        max_grant_version: 2,
        flags: 0,
        emulation_flags: 0,
        misc_flags: 0,
        cpupool: 0,
        max_frames: size.max_pages,
    };
    let made = hypervisor.create_domain(DomId::DOM0, creation);
    let domain = made.map_err(|errno| format!("Cannot make dom0 with {} pages: {errno}", size.pages))?;
    give_rights(hypervisor, &domain).map_err(|errno| format!("Cannot give dom0 the devices: {errno}"))?;
    let vcpus = hypervisor.create_vcpus(&domain);
    vcpus.map_err(|errno| format!("Cannot make dom0's vCPUs: {errno}; lower dom0_max_vcpus="))?;
    Ok(domain)
}

/// Has each vCPU run on the CPU of its number only; they begin anew at the first where there are fewer CPUs.
fn pin(hypervisor: &Hypervisor<X86>, domain: &Domain<X86>) -> types::Result<()> {
    let mut scheduler = hypervisor.scheduler.lock();
    for (cpu, vcpu) in (0..hypervisor.cpus.len() as u32).cycle().zip(domain.vcpus()) {
        let affinity = Affinity { hard: CpuMask::single(CpuId(cpu)), ..Affinity::default() };
        // None of them runs yet, so no CPU has to look again.
        scheduler.set_affinity(vcpu.unit, affinity, 0)?;
    }
    Ok(())
}

/// All devices are the control domain's, to use and to give; what the hypervisor keeps for itself is refused at each use.
fn give_rights(hypervisor: &Hypervisor<X86>, domain: &Domain<X86>) -> types::Result<()> {
    let mut rights = domain.rights.lock();
    rights.change_iomem(0, hypervisor.machine().frame_limit - 1, true)?;
    rights.change_ports(0, 0xffff, true)?;
    rights.change_irqs(1, irq::pins().saturating_sub(1), true)
}

struct Builder<'a> {
    hypervisor: &'static Hypervisor<X86>,
    domain: &'a Arc<Domain<X86>>,
    plan: &'a Plan,
    /// Frames of the P2M list, in order.
    p2m: Vec<Mfn>,
}

impl Builder<'_> {
    fn run(mut self, kernel: &Kernel<'_>, initrd: Option<Module>, command_line: &str) -> Result<(), String> {
        self.allocate_p2m()?;
        let plan = self.plan;
        self.populate(plan.initial.clone(), true)?;
        self.populate(plan.p2m_tables.clone(), true)?;
        match initrd {
            Some(module) if plan.initrd.start >= plan.initial.end => self.hand_over(module)?,
            Some(module) => {
                self.copy_to(plan.initrd.start, 0, module.bytes())?;
                release(self.hypervisor, module);
            }
            None => {}
        }
        self.populate(plan.rest.clone(), false)?;
        self.finish_p2m()?;
        for segment in kernel.segments() {
            self.copy_to(segment.offset / PAGE, (segment.offset % PAGE) as usize, segment.data)?;
        }
        if let Some(pfn) = plan.hypercall_page {
            self.copy_to(pfn, 0, &stubs())?;
        }
        self.write_tables()?;
        self.write_start_page(command_line)?;
        let root = self.mfn(plan.page_tables.start)?;
        self.adopt_root(root)?;
        self.start(root).map_err(|errno| errno.to_string())?;
        self.describe();
        Ok(())
    }

    fn short_of_memory(&self) -> String {
        format!("Not enough memory to build dom0 with {} MiB; lower dom0_mem=", self.plan.pages >> 8)
    }

    /// Allocates the P2M list's own frames first, so that all others can be written into it.
    fn allocate_p2m(&mut self) -> Result<(), String> {
        for pfn in self.plan.p2m.clone() {
            let request = Request { order: 0, bits: 64, zero: false };
            let mfn = self.hypervisor.memory.allocate(&self.domain.memory, request);
            let mfn = mfn.map_err(|_| self.short_of_memory())?;
            hal::m2p::set(mfn, pfn);
            self.p2m.push(mfn);
        }
        for index in 0..self.p2m.len() {
            self.note(self.plan.p2m.start + index as u64, self.p2m[index])?;
        }
        Ok(())
    }

    fn p2m_word(&self, pfn: u64) -> Option<(Mfn, usize)> {
        let (page, index) = self.plan.p2m_slot(pfn);
        let frame = self.p2m.get(page.checked_sub(self.plan.p2m.start)? as usize)?;
        Some((*frame, index))
    }

    /// Notes which frame is behind a page.
    fn note(&self, pfn: u64, mfn: Mfn) -> Result<(), String> {
        let slot = self.p2m_word(pfn).and_then(|(page, index)| Some(&self.hypervisor.machine().table(page)?[index]));
        slot.ok_or("The P2M list of dom0 is too short")?.store(mfn.0, Relaxed);
        hal::m2p::set(mfn, pfn);
        Ok(())
    }

    /// The frame behind a page.
    fn mfn(&self, pfn: u64) -> Result<Mfn, String> {
        let word = self.p2m_word(pfn).and_then(|(page, index)| Some(&self.hypervisor.machine().table(page)?[index]));
        Ok(Mfn(word.ok_or("The P2M list of dom0 is too short")?.load(Relaxed)))
    }

    /// Allocates frames for a range of pages, in the largest blocks that fit.
    fn populate(&self, range: core::ops::Range<u64>, zero: bool) -> Result<(), String> {
        let mut pfn = range.start;
        let mut largest = MAX_ORDER;
        while pfn < range.end {
            let fits = (63 - (range.end - pfn).leading_zeros()) as u8;
            let order = fits.min(largest);
            let request = Request { order, bits: 64, zero };
            match self.hypervisor.memory.allocate(&self.domain.memory, request) {
                Ok(first) => {
                    for index in 0..1u64 << order {
                        self.note(pfn + index, first.offset(index))?;
                    }
                    pfn += 1 << order;
                }
                Err(_) if order > 0 => largest = order - 1,
                Err(_) => return Err(self.short_of_memory()),
            }
        }
        Ok(())
    }

    /// Gives the initrd's frames to the domain where they lie.
    fn hand_over(&self, module: Module) -> Result<(), String> {
        let Some((first, end)) = module.release() else {
            return Ok(());
        };
        let pages = self.plan.initrd.end - self.plan.initrd.start;
        let memory = &self.hypervisor.memory;
        let adopted = memory.adopt(&self.domain.memory, first, pages);
        adopted.map_err(|denied| format!("The initrd's memory cannot be dom0's: {denied}"))?;
        for index in 0..pages {
            self.note(self.plan.initrd.start + index, first.offset(index))?;
        }
        if first.0 + pages < end.0 {
            memory.add_free(first.offset(pages), end.0 - first.0 - pages, false);
        }
        Ok(())
    }

    /// Marks the P2M list's entries behind the last page as none.
    fn finish_p2m(&self) -> Result<(), String> {
        let entries = (self.plan.p2m.end - self.plan.p2m.start) * (PAGE_SIZE / ENTRY) as u64;
        for pfn in self.plan.pages..entries {
            if let Some((page, index)) = self.p2m_word(pfn) {
                if let Some(table) = self.hypervisor.machine().table(page) {
                    table[index].store(Gfn::INVALID.0, Relaxed);
                }
            }
        }
        Ok(())
    }

    fn copy_to(&self, first: u64, offset: usize, data: &[u8]) -> Result<(), String> {
        let mut pfn = first;
        let mut offset = offset;
        let mut rest = data;
        while !rest.is_empty() {
            let count = rest.len().min(PAGE_SIZE - offset);
            let address = self.mfn(pfn)?.address() + offset as u64;
            let copied = self.hypervisor.machine().lendable().write(address, &rest[..count]);
            copied.map_err(|errno| format!("Cannot write dom0's page {pfn:#x}: {errno}"))?;
            rest = &rest[count..];
            offset = 0;
            pfn += 1;
        }
        Ok(())
    }

    fn write_tables(&self) -> Result<(), String> {
        for entry in self.plan.page_table_entries() {
            let table = self.mfn(entry.table)?;
            let target = self.mfn(entry.target)?;
            let words = self.hypervisor.machine().table(table).ok_or("A page table of dom0 is no RAM")?;
            words[entry.index].store(Pte::new(target.0, entry.flags).0, Relaxed);
        }
        Ok(())
    }

    fn write_start_page(&self, command_line: &str) -> Result<(), String> {
        let parameters = StartParameters {
            shared_info: self.domain.shared_info.address(),
            command_line: command_line.as_bytes(),
            power_management: 0,
            console: None,
        };
        let mut page = Box::new([0; PAGE_SIZE]);
        let pfn = self.plan.write_start_page(&parameters, &mut page);
        let mfn = self.mfn(pfn)?;
        let table = self.hypervisor.machine().table(mfn).ok_or("The start page of dom0 is no RAM")?;
        write_bytes(table, 0, &page[..]);
        Ok(())
    }

    /// Has the tables checked like any guest's, and pins them.
    fn adopt_root(&self, root: Mfn) -> Result<(), String> {
        let context = Context::own(&self.domain.memory, self.hypervisor.machine());
        let memory = &self.hypervisor.memory;
        while let Progress::Again(_) = memory.pin(&context, root, 4).map_err(|denied| denied.to_string())? {}
        while let Progress::Again(_) = memory.take_root(&context, root).map_err(|denied| denied.to_string())? {}
        Ok(())
    }

    fn start(&self, root: Mfn) -> types::Result<()> {
        let entry = self.plan.entry_state();
        let vcpu = &self.domain.vcpus()[0];
        let mut guard = vcpu.state.lock();
        let state = guard.pv()?;
        state.root_kernel = Some(root);
        state.kernel_mode = true;
        state.cr4 = 0;
        let regs = &mut state.context.regs;
        regs.rip = entry.rip;
        regs.rsp = entry.rsp;
        regs.rsi = entry.rsi;
        regs.rflags = super::pv::iret::guest_flags(entry.rflags);
        regs.cs = entry.cs.into();
        regs.ss = entry.ss.into();
        regs.restore_all();
        drop(guard);
        vcpu.initialised.store(true, Relaxed);
        self.hypervisor.bring_up(vcpu);
        Ok(())
    }

    fn describe(&self) {
        let layout = &self.plan.layout;
        log::info!("PHYSICAL MEMORY ARRANGEMENT:");
        log::info!(" Dom0 memory:   {} pages ({} MiB)", self.plan.pages, self.plan.pages >> 8);
        log::info!("VIRTUAL MEMORY ARRANGEMENT:");
        let line =
            |name: &str, range: &core::ops::Range<u64>| log::info!(" {name} {:016x}->{:016x}", range.start, range.end);
        line("Loaded kernel:", &layout.kernel);
        line("Phys-Mach map:", &layout.p2m);
        line("Start info:   ", &layout.start_info);
        line("Page tables:  ", &layout.page_tables);
        line("Boot stack:   ", &layout.stack);
        line("TOTAL:        ", &layout.mapped);
        log::info!(" ENTRY ADDRESS: {:016x}", self.plan.entry_state().rip);
        log::info!("Dom0 has maximum {} VCPUs", self.domain.vcpus().len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_without_bios_is_told_of_acpi() {
        assert_eq!(command_line("quiet", None), "quiet");
        assert_eq!(command_line("quiet", Some(0x7f00)), "quiet acpi_rsdp=0x7f00");
        assert_eq!(command_line("acpi_rsdp=1", Some(0x7f00)), "acpi_rsdp=1");
    }
}
