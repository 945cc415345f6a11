//! I/O ports of PV guests: who may use which, and the few that are not the machine's own.

use crate::current::Current;
use core::sync::atomic::Ordering::SeqCst;
use hal::ports;
use hal_irq::pci::{ConfigSpace, Sbdf, config};
use platform::Frames;
use types::Mfn;
use xen_abi::xen::VMASST_TYPE_ARCHITECTURAL_IOPL;

/// Ports of the UART from its first one on.
const UART_PORTS: u16 = 8;
/// Ports of the PM timer (ACPI 6.5, 4.8.3.3).
const PM_TIMER_PORTS: u16 = 4;
const PCI_ADDRESS: u16 = 0xcf8;
const PCI_DATA: u16 = 0xcfc;
/// Bit of the PCI address that makes the data port one.
const PCI_ENABLE: u32 = 1 << 31;
/// The interrupt controllers, the timer and its gate: the hypervisor's.
const DENIED: [(u16, u16); 4] = [(0x20, 0x21), (0xa0, 0xa1), (0x40, 0x43), (0x61, 0x61)];

/// Whether the guest's I/O privilege level gives the code that runs all ports. Xen lets a guest's kernel count as ring 1.
pub fn has_iopl(current: &Current<'_>) -> bool {
    let architectural = current.domain.vm_assist.load(SeqCst) >> VMASST_TYPE_ARCHITECTURAL_IOPL & 1 != 0;
    let ring = match (current.state.kernel_mode, architectural) {
        (false, _) => 3,
        (true, true) => 0,
        (true, false) => 1,
    };
    current.state.iopl >= ring
}

/// Whether the guest itself lets the code that runs use the `size` ports from `first` on: by level or bitmap.
pub fn may_try(current: &Current<'_>, first: u16, size: u8) -> bool {
    if has_iopl(current) {
        return true;
    }
    let (bitmap, count) = current.state.io_bitmap;
    let end = u32::from(first) + u32::from(size);
    if bitmap == 0 || end > count {
        return false;
    }
    let port_is_free = |port: u32| {
        let byte = kernel_byte(current, bitmap.wrapping_add(u64::from(port / 8)));
        byte.is_some_and(|byte| byte >> (port % 8) & 1 == 0)
    };
    (u32::from(first)..end).all(port_is_free)
}

/// A byte of the guest kernel's memory, which the tables of its user mode need not map.
fn kernel_byte(current: &Current<'_>, address: u64) -> Option<u8> {
    let entry = current.hypervisor.memory.read_l1(current.state.root_kernel?, address).ok()?;
    let table = entry.is_present().then(|| current.machine().table(Mfn(entry.frame())))??;
    let mut byte = [0];
    platform::read_bytes(table, (address & 0xfff) as usize, &mut byte);
    Some(byte[0])
}

/// Whether the machine's own ports are the domain's to use.
fn is_own(current: &Current<'_>, first: u16, size: u8) -> bool {
    let last = u32::from(first) + u32::from(size) - 1;
    let meets = |low: u16, high: u16| u32::from(first) <= u32::from(high) && last >= u32::from(low);
    let mut denied = DENIED.iter().any(|&(low, high)| meets(low, high)) || meets(PCI_ADDRESS, PCI_DATA + 3);
    if meets(PCI_ADDRESS + 1, PCI_ADDRESS + 1) && size == 1 {
        // The reset control register.
        denied = false;
    }
    if let Some(uart) = hal::console::line_port() {
        denied |= meets(uart, uart.saturating_add(UART_PORTS - 1));
    }
    if let Some(timer) = hal_irq::power::fadt().and_then(|fadt| fadt.pm_timer).and_then(|address| address.as_port()) {
        denied |= meets(timer, timer.saturating_add(PM_TIMER_PORTS - 1));
    }
    !denied && current.domain.rights.lock().may_use_ports(first.into(), last)
}

fn raw_read(port: u16, size: u8) -> u32 {
    match size {
        1 => ports::read8(port).into(),
        2 => ports::read16(port).into(),
        _ => ports::read32(port),
    }
}

fn raw_write(port: u16, size: u8, value: u32) {
    match size {
        1 => ports::write8(port, value as u8),
        2 => ports::write16(port, value as u16),
        _ => ports::write32(port, value),
    }
}

const fn ones(size: u8) -> u32 {
    u32::MAX >> (32 - 8 * size as u32)
}

/// Reads `size` (1, 2 or 4) ports; all ones where the guest has none.
pub fn read(current: &mut Current<'_>, port: u16, size: u8) -> u32 {
    if is_own(current, port, size) {
        return raw_read(port, size);
    }
    if port == PCI_ADDRESS && size == 4 {
        return current.state.pci_address;
    }
    match pci_target(current, port) {
        Some((function, register)) if port % u16::from(size) == 0 => config().read(function, register, size),
        Some(_) => (0..size).fold(0, |value, byte| {
            let part = pci_target(current, port + u16::from(byte)).map_or(0xff, |(f, r)| config().read(f, r, 1));
            value | part << (8 * byte)
        }),
        None => ones(size),
    }
}

/// Writes `size` (1, 2 or 4) ports; lost where the guest has none.
pub fn write(current: &mut Current<'_>, port: u16, size: u8, value: u32) {
    if is_own(current, port, size) {
        raw_write(port, size, value);
    } else if port == PCI_ADDRESS && size == 4 {
        current.state.pci_address = value;
    } else if let Some((function, register)) = pci_target(current, port) {
        if port % u16::from(size) == 0 {
            config().write(function, register, size, value);
            return;
        }
        for byte in 0..size {
            if let Some((function, register)) = pci_target(current, port + u16::from(byte)) {
                config().write(function, register, 1, value >> (8 * byte));
            }
        }
    }
}

/// What a data port of PCI configuration space stands for. Only the control domain has one.
fn pci_target(current: &Current<'_>, port: u16) -> Option<(Sbdf, u16)> {
    let address = current.state.pci_address;
    if !(PCI_DATA..PCI_DATA + 4).contains(&port) || address & PCI_ENABLE == 0 || !current.domain.is_privileged() {
        return None;
    }
    // AMD's way to the upper registers by bits 24 to 27 is not offered: MMCFG has them.
    let register = (address & 0xfc) as u16 | port & 3;
    Some((Sbdf { segment: 0, bdf: (address >> 8) as u16 }, register))
}
