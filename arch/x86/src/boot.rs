//! The order of start-up, from the boot loader's hand-over to dom0's first instruction.

use crate::machine::X86;
use crate::{console, dom0, irq, memory_map, run, wallclock};
use alloc::boxed::Box;
use alloc::string::{String, ToString};
use domain::Hypervisor;
use hal::boot::{BootInfo, Handoff, Module};
use log::{info, warn};
use memory::{FrameInfo, FrameTable, Memory};
use spin::Once;
use types::CpuId;

static HYPERVISOR: Once<&'static Hypervisor<X86>> = Once::new();

/// Names of the build that `xl info` shows: compiler, who, where, when.
pub type CompileInfo = [&'static str; 4];

/// Starts the machine and dom0. Anything that is missing ends in one line on the console, and a halt.
pub fn start(handoff: Handoff, banner: &str, compile_info: CompileInfo) -> ! {
    info!("{banner}");
    let mut boot = hal::boot::init(handoff);
    describe(&boot);
    let (kernel, initrd) = take_modules(&mut boot);
    let unpacked = dom0::unpack(&kernel).unwrap_or_else(|text| hal::fatal!("Dom0 kernel: {text}"));

    hal_cpu::start_bsp();
    hal_cpu::set_interrupt_hook(|vector| {
        if let Some(hypervisor) = HYPERVISOR.get() {
            run::interrupt(hypervisor, vector);
        }
    });
    hal_cpu::set_nmi_hook(hal_irq::ipi::stop_if_asked);
    platform::sync::set_relax_hook(hal_irq::ipi::poll_mailbox);
    hal::panic::set_stop_others(hal_irq::ipi::stop_other_cpus);
    hal::panic::set_cpu_number(|| hal_cpu::try_cpu_id().map_or(0, |cpu| cpu.0));
    let started = hal_irq::init(boot.rsdp.as_deref(), hal_irq::Options::default());
    let machine = started.unwrap_or_else(|error| hal::fatal!("{error}"));

    let frames = hal::boot::take_slice::<FrameInfo>(boot.max_page as usize);
    let finished = hal::boot::finish();
    memory_map::init(&boot.regions, &machine);
    let memory = Memory::new(X86::new(finished.frames), FrameTable::new(frames));
    mark_device_memory(&memory, &boot);
    for (first, end) in finished.free {
        memory.add_free(first, end.0 - first.0, false);
    }
    let max_cpus = boot.parsed.options.maxcpus.unwrap_or(u32::MAX).max(1) as usize;
    let cpus = machine.madt.cpus.iter().filter(|cpu| cpu.enabled).count().clamp(1, hal_irq::MAX_CPUS).min(max_cpus);
    let command_line = boot.command_line.to_string();
    let hypervisor = Box::leak(Box::new(Hypervisor::new(memory, cpus as u32, command_line, compile_info)));
    let hypervisor: &'static Hypervisor<X86> = HYPERVISOR.call_once(|| hypervisor);
    irq::init(hypervisor, &machine);
    wallclock::init();
    console::init(hypervisor, &boot.parsed.options);

    let running = hal_irq::smp::start_others(&machine.madt, cpus, other_cpu);
    info!("Brought up {running} CPUs");
    let options = dom0::Options {
        memory: dom0_memory(&boot),
        vcpus: dom0_vcpus(&boot, running as u32),
    };
    let built = dom0::build(hypervisor, (kernel, unpacked), initrd, &options);
    let domain = built.unwrap_or_else(|text| hal::fatal!("{text}"));
    info!("Xen is relinquishing VGA console.");
    hypervisor.unpause_domain(&domain);
    run::run(hypervisor)
}

/// Where every other CPU goes on once it is set up.
fn other_cpu(_cpu: CpuId) -> ! {
    loop {
        if let Some(hypervisor) = HYPERVISOR.get() {
            run::run(hypervisor);
        }
        hal::cpu::pause();
    }
}

/// Frames that are no RAM belong to DOMID_IO.
fn mark_device_memory(memory: &Memory<X86>, boot: &BootInfo) {
    for mfn in 0..boot.max_page {
        if !hal::frames::is_ram(types::Mfn(mfn)) {
            memory.frames().mark_io(types::Mfn(mfn), 1);
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

/// The value of `dom0_mem`, of which `core/dom0` knows the details.
fn dom0_memory(boot: &BootInfo) -> Option<String> {
    let words = boot.command_line.split_whitespace();
    words.filter_map(|word| word.strip_prefix("dom0_mem=")).last().map(|value| value.to_string())
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

