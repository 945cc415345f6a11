//! The order of start-up, from the boot loader's hand-over to dom0's first instruction.

use crate::machine::X86;
use crate::{console, dom0, hvm, irq, memory_map, resource, run, wallclock};
use alloc::boxed::Box;
use alloc::string::ToString;
use core::sync::atomic::{
    AtomicBool,
    Ordering::{Acquire, Release},
};
use domain::Hypervisor;
use hal::boot::{BootInfo, Finished, Handoff, Module, Scratch};
use hal::heap::Lender;
use log::{info, warn};
use memory::{FrameInfo, FrameTable, Memory, Request};
use sched::Scheduler;
use spin::Once;
use types::{CpuId, Mfn};

static HYPERVISOR: Once<&'static Hypervisor<X86>> = Once::new();
/// Frames of the first MiB.
const LOW_FRAMES: u64 = 256;
/// Dom0 is built: the other CPUs may look for work.
static READY: AtomicBool = AtomicBool::new(false);

/// The hypervisor, for whoever is called from below and is not given it; `None` until it is put together.
pub(crate) fn hypervisor() -> Option<&'static Hypervisor<X86>> {
    HYPERVISOR.get().copied()
}

/// Names of the build that `xl info` shows: compiler, who, where, when.
pub type CompileInfo = [&'static str; 4];

/// What start-up on the boot stack hands over to start-up on the CPU's own.
struct Early {
    boot: BootInfo,
    kernel: (Module, Option<Scratch>),
    initrd: Option<Module>,
    frames: &'static [FrameInfo],
    finished: Finished,
    compile_info: CompileInfo,
}

/// Starts the machine and dom0. Anything that is missing ends in one line on the console, and a halt.
pub fn start(handoff: Handoff, banner: &str, compile_info: CompileInfo) -> ! {
    info!("{banner}");
    let mut boot = hal::boot::init(handoff);
    describe(&boot);
    let (kernel, initrd) = take_modules(&mut boot);
    let unpacked = dom0::unpack(&kernel).unwrap_or_else(|text| hal::fatal!("Dom0 kernel: {text}"));
    let frames = hal::boot::take_frame_table::<FrameInfo>();
    let finished = hal::boot::finish();
    let early = Early { boot, kernel: (kernel, unpacked), initrd, frames, finished, compile_info };
    hal_cpu::start_bsp(Box::new(early), on_own_stack)
}

/// Each part has a frame of its own, which is gone when the next begins: what is left of the stack is the run loop's.
fn on_own_stack(early: Box<Early>) -> ! {
    set_hooks();
    let boot = &early.boot;
    let started = hal_irq::init(boot.rsdp.as_deref(), hal_irq::Options { x2apic: boot.parsed.options.x2apic });
    let machine = started.unwrap_or_else(|error| hal::fatal!("{error}"));
    memory_map::init(&boot.regions, &machine);
    let hypervisor = assemble(boot, &machine, early.finished, FrameTable::new(early.frames), early.compile_info);
    irq::init(hypervisor, &machine);
    wallclock::init();
    console::init(hypervisor, &boot.parsed.options);
    resource::note(CpuId(0));
    hvm::enable(true);
    let running = start_cpus(hypervisor, boot, &machine);
    start_dom0(hypervisor, boot, early.kernel, early.initrd, running);
    run::run(hypervisor)
}

/// Starts the other CPUs; how many run then, this one among them.
#[inline(never)]
fn start_cpus(hypervisor: &'static Hypervisor<X86>, boot: &BootInfo, machine: &hal_irq::Machine) -> u32 {
    let running = hal_irq::smp::start_others(&machine.madt, usable_cpus(boot, machine), other_cpu) as u32;
    info!("Brought up {running} CPUs");
    for cpu in 0..running {
        if let Err(errno) = hypervisor.scheduler.lock().add_cpu(CpuId(cpu)) {
            warn!("CPU {cpu} is not used: {errno}");
        }
    }
    running
}

/// Builds dom0, and lets all CPUs look for work.
#[inline(never)]
fn start_dom0(
    hypervisor: &'static Hypervisor<X86>,
    boot: &BootInfo,
    kernel: (Module, Option<Scratch>),
    initrd: Option<Module>,
    running: u32,
) {
    let options = dom0::Options {
        memory: boot.parsed.options.dom0_mem,
        vcpus: dom0_vcpus(boot, running),
        pinned: boot.parsed.options.dom0_vcpus_pin,
        rsdp: boot.efi_rsdp,
    };
    let built = dom0::build(hypervisor, kernel, initrd, &options);
    let domain = built.unwrap_or_else(|text| hal::fatal!("{text}"));
    READY.store(true, Release);
    domain.toolstack_pauses.store(0, Release);
    hypervisor.unpause_domain(&domain);
}

/// Gives the RAM to the allocator and puts the hypervisor together. Its parts are large, and moved over the stack.
#[inline(never)]
fn assemble(
    boot: &BootInfo,
    machine: &hal_irq::Machine,
    finished: Finished,
    frames: FrameTable,
    compile_info: CompileInfo,
) -> &'static Hypervisor<X86> {
    let mut memory = Memory::new(X86::new(finished.frames, machine.proximity.clone()), frames);
    memory.set_nodes(machine.proximity.nodes.clone());
    // All else is a device's, and so is the first MiB, where the control domain looks for tables of the firmware. The hypervisor has
    // only the code there that starts other CPUs, which is over by then.
    for (first, end) in finished.ram {
        let first = first.0.max(LOW_FRAMES);
        memory.frames().mark_ram(Mfn(first), end.0.saturating_sub(first));
    }
    for (first, end) in finished.free {
        memory.add_free(first, end.0 - first.0, false);
    }
    let cpus = usable_cpus(boot, machine) as u32;
    let hypervisor = Box::leak(Box::new(Hypervisor::new(memory, cpus, boot.command_line.to_string(), compile_info)));
    HYPERVISOR.call_once(|| hypervisor);
    hal::heap::set_lender(Lender { take: lend, give: take_back });
    hypervisor
}

/// Lends frames to the hypervisor's heap.
fn lend(order: u8) -> Option<Mfn> {
    hypervisor()?.memory.allocate_anonymous(Request { order, bits: 64, zero: false }).ok()
}

/// Takes frames of the heap, which were lent to it or which it has had since the machine's start.
fn take_back(first: Mfn, order: u8) {
    if let Some(hypervisor) = hypervisor() {
        hypervisor.memory.take_back(first, order);
    }
}

/// Tells the lower layers whom to call.
fn set_hooks() {
    hal_cpu::set_interrupt_hook(|vector| {
        if let Some(hypervisor) = HYPERVISOR.get() {
            run::interrupt(hypervisor, vector);
        }
    });
    hal_cpu::set_nmi_hook(hal_irq::ipi::stop_if_asked);
    platform::sync::set_relax_hook(hal_irq::ipi::poll_mailbox);
    hal::panic::set_stop_others(hal_irq::ipi::stop_other_cpus);
}

fn usable_cpus(boot: &BootInfo, machine: &hal_irq::Machine) -> usize {
    let options = &boot.parsed.options;
    let limit = if options.nosmp { 1 } else { options.maxcpus.unwrap_or(u32::MAX).max(1) as usize };
    let found = machine.madt.cpus.iter().filter(|cpu| cpu.enabled).count();
    found.clamp(1, hal_irq::MAX_CPUS).min(limit)
}

/// Where every other CPU goes on once it is set up.
fn other_cpu(cpu: CpuId) -> ! {
    resource::note(cpu);
    hvm::enable(false);
    loop {
        platform::sync::relax();
        if let (true, Some(hypervisor)) = (READY.load(Acquire), HYPERVISOR.get()) {
            run::run(hypervisor);
        }
    }
}

/// The first module is dom0's kernel, the second its initrd. Others are of no use yet.
fn take_modules(boot: &mut BootInfo) -> (Module, Option<Module>) {
    let mut modules = core::mem::take(&mut boot.modules).into_iter();
    let Some(kernel) = modules.next() else {
        hal::fatal!("No dom0 kernel: load one as the first module (GRUB: module2 /boot/vmlinuz-... root=...)");
    };
    let initrd = modules.next();
    for module in modules {
        warn!("Module at {:#x} ({} bytes) is not used", module.address(), module.bytes().len());
        module.release();
    }
    (kernel, initrd)
}

fn dom0_vcpus(boot: &BootInfo, cpus: u32) -> u32 {
    let range = boot.parsed.options.dom0_max_vcpus;
    cpus.max(range.min).min(range.max).max(1)
}

/// Prints what boot has learnt, in Xen's words.
fn describe(boot: &BootInfo) {
    info!("Bootloader: {}", boot.loader);
    info!("Command line: {}", boot.command_line);
    for complaint in &boot.parsed.complaints {
        warn!("{complaint}");
    }
    info!("Xen image load base address: {:#x}", hal::boot::image_range().start);
    info!("Xen-e820 RAM map:");
    for region in &boot.regions {
        info!(" [{:016x}, {:016x}] {}", region.start, region.end - 1, region.kind);
    }
    info!("System RAM: {}MB ({}kB)", boot.ram >> 20, boot.ram >> 10);
    for (index, module) in boot.modules.iter().enumerate() {
        info!("Module {index}: {:#x}, {} bytes", module.address(), module.bytes().len());
    }
}
