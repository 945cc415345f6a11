//! The order of start-up.

use hal::boot::{self, BootInfo, Handoff};
use log::{info, warn};

hal::entry!(main);

fn main(handoff: Handoff) -> ! {
    info!("Xenolith version 4.20.0-xenolith {}", env!("CARGO_PKG_VERSION"));
    let boot = boot::init(handoff);
    describe(&boot);
    if boot.modules.is_empty() {
        hal::fatal!("No dom0 kernel: load one as the first module (GRUB: module2 /boot/vmlinuz-... root=...)");
    }
    let memory = boot::finish();
    let free: u64 = memory.free.iter().map(|(first, end)| end.0 - first.0).sum();
    info!("Free memory: {} MiB in {} pieces", free >> 8, memory.free.len());
    hal::fatal!("Nothing to run yet")
}

/// Prints what boot has learnt, in Xen's words.
fn describe(boot: &BootInfo) {
    info!("Bootloader: {}", boot.loader);
    info!("Command line: {}", boot.command_line);
    for complaint in &boot.parsed.complaints {
        warn!("{complaint}");
    }
    info!("Xen image load base address: {:#x}", boot::image_range().start);
    info!("Xen-e820 RAM map:");
    for region in &boot.regions {
        info!(" [{:016x}, {:016x}] {}", region.start, region.end - 1, region.kind);
    }
    info!("System RAM: {}MB ({}kB)", boot.ram >> 20, boot.ram >> 10);
    for (index, module) in boot.modules.iter().enumerate() {
        let address = module.address();
        info!(
            "Module {index}: {address:#x}, {} bytes, '{}'",
            module.bytes().len(),
            module.command_line
        );
    }
    let heap = hal::heap::statistics();
    info!(
        "Heap: {} KiB, {} bytes used; {} frames",
        heap.size >> 10,
        heap.used,
        boot.max_page
    );
}
