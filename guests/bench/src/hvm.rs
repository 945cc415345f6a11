//! Operations of an HVM guest: registers of its board, which the hypervisor has, and what goes to the device emulator in dom0 and back.

use crate::meter::Meter;
use core::hint::black_box;
use guest_kernel::memory::VIRT_BASE;
use guest_kernel::pvh::board::*;
use guest_kernel::pvh::set_parameter;
use xen_abi::hvm_params::HVM_PARAM_ACPI_IOPORTS_LOCATION;

/// The interval timer's first counter and its control word.
const COUNTER: u16 = 0x40;
const CONTROL: u16 = 0x43;
/// The real-time clock's index and data.
const RTC: u16 = 0x70;
/// The ACPI timer, where firmware has it be.
const ACPI_TIMER: u16 = 0xb008;
const HPET_COUNTER: u64 = 0xfed0_00f0;
const IO_APIC: u64 = 0xfec0_0000;
/// The emulator's keyboard controller: its status.
const KEYBOARD: u16 = 0x64;
/// PCI configuration, and in it the second address of the platform device, which is one of memory.
const PCI_ADDRESS: u16 = 0xcf8;
const PCI_DATA: u16 = 0xcfc;
const PLATFORM: u32 = 1 << 31 | 2 << 11;
const COMMAND: u32 = 4;
const MEMORY: u32 = 0x14;
const MEMORY_AT: u64 = 0xd100_0000;
/// Calls of what takes as long as a change to dom0 and back.
const FEW: u64 = 200;

/// Measures them.
pub fn run(meter: &mut Meter) {
    clocks(meter);
    controllers(meter);
    emulator(meter);
}

fn clocks(meter: &mut Meter) {
    // Counts down from the highest number, both bytes.
    for (at, value) in [(CONTROL, 0x34), (COUNTER, 0), (COUNTER, 0)] {
        set_port(at, value);
    }
    meter.measure("clock.pit-read-byte", || _ = black_box(port(COUNTER)));
    meter.measure("clock.pit-latch", || set_port(CONTROL, 0));
    meter.measure("clock.pit-latch-and-read", || {
        set_port(CONTROL, 0);
        black_box((port(COUNTER), port(COUNTER)));
    });
    set_port(RTC, 0);
    meter.measure("clock.rtc-read", || _ = black_box(port(RTC + 1)));
    meter.measure("clock.rtc-select-and-read", || {
        set_port(RTC, 10);
        black_box(port(RTC + 1));
    });
    let moved = set_parameter(HVM_PARAM_ACPI_IOPORTS_LOCATION, 1);
    assert!(moved == 0, "no ACPI timer: {moved}");
    meter.measure("clock.acpi-timer-read", || _ = black_box(wide_port(ACPI_TIMER)));
    // SAFETY: the device's registers are mapped.
    let read = || unsafe { ((VIRT_BASE | HPET_COUNTER) as *const u64).read_volatile() };
    meter.measure("clock.hpet-read", || _ = black_box(read()));
}

fn controllers(meter: &mut Meter) {
    meter.measure("controller.pic-mask-read", || _ = black_box(port(FIRST_PIC + 1)));
    meter.measure("controller.pic-mask-write", || set_port(FIRST_PIC + 1, 0xff));
    set_device(IO_APIC, 0x10);
    meter.measure("controller.io-apic-read", || _ = black_box(device(IO_APIC + 0x10)));
    meter.measure("controller.io-apic-write", || set_device(IO_APIC + 0x10, 1 << 16));
}

fn configure(register: u32, value: u32) {
    set_wide_port(PCI_ADDRESS, PLATFORM | register);
    set_wide_port(PCI_DATA, value);
}

fn emulator(meter: &mut Meter) {
    meter.measure_few("emulator.port-read", FEW, || _ = black_box(port(KEYBOARD)));
    configure(MEMORY, MEMORY_AT as u32);
    configure(COMMAND, 2);
    meter.measure_few("emulator.memory-read", FEW, || _ = black_box(device(MEMORY_AT)));
    set_wide_port(PCI_ADDRESS, PLATFORM);
    meter.measure_few("emulator.pci-read", FEW, || _ = black_box(wide_port(PCI_DATA)));
    meter.measure("emulator.pci-select", || set_wide_port(PCI_ADDRESS, PLATFORM));
    meter.measure("emulator.nothing-read", || _ = black_box(device(MEMORY_AT + 0x200_0000)));
}
