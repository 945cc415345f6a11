//! The machine's memory map as dom0 sees it, and the device memory that no guest may touch.

use alloc::vec::Vec;
use hal::boot::{MemoryKind, MemoryRegion};
use spin::Once;
use types::PAGE_SIZE;
use xen_abi::memory::{E820_RAM, E820_RESERVED, E820Entry};

/// Bytes of addresses that interrupt messages are written to (SDM vol. 3, 11.11.1).
const MESSAGES: (u64, u64) = (0xfee0_0000, 0xfef0_0000);

struct Map {
    entries: Vec<E820Entry>,
    /// First frame and behind the last.
    forbidden: Vec<(u64, u64)>,
    /// Frame of the HPET.
    clock: Option<u64>,
}

static MAP: Once<Map> = Once::new();

/// Notes the machine's memory and devices. Once, at boot.
pub fn init(regions: &[MemoryRegion], machine: &hal_irq::Machine) {
    MAP.call_once(|| {
        let page = |address: u64| (address / PAGE_SIZE as u64, address / PAGE_SIZE as u64 + 1);
        let mut forbidden: Vec<_> = machine.madt.io_apics.iter().map(|apic| page(apic.address)).collect();
        forbidden.push(page(machine.madt.lapic_address));
        forbidden.push((MESSAGES.0 / PAGE_SIZE as u64, MESSAGES.1 / PAGE_SIZE as u64));
        let clock = machine.hpet.map(|hpet| page(hpet.address));
        let reserved: Vec<_> = forbidden.iter().copied().chain(clock).collect();
        Map { entries: with_reserved(regions, &reserved), forbidden, clock: clock.map(|(frame, _)| frame) }
    });
}

/// Whether the frame holds the registers of the hypervisor's clock: dom0's AML reads them, nobody but us writes them.
pub fn is_clock(frame: u64) -> bool {
    MAP.get().is_some_and(|map| map.clock == Some(frame))
}

/// Frames of the interrupt controllers and of interrupt messages: first and behind the last.
pub fn forbidden_io() -> Vec<(u64, u64)> {
    MAP.get().map_or_else(Vec::new, |map| map.forbidden.clone())
}

/// The machine's memory map (XENMEM_machine_memory_map): what firmware says, and what is forbidden as reserved, sorted.
pub fn machine_map() -> Vec<E820Entry> {
    MAP.get().map_or_else(Vec::new, |map| map.entries.clone())
}

/// The regions, sorted, and the parts of `forbidden` that no region covers. RAM wins nothing: what overlaps RAM in the
/// firmware's map is cut out of it.
fn with_reserved(regions: &[MemoryRegion], forbidden: &[(u64, u64)]) -> Vec<E820Entry> {
    let mut parts: Vec<(u64, u64, u32)> = Vec::new();
    for region in regions {
        parts.push((region.start, region.end, region.kind.0));
    }
    for &(first, end) in forbidden {
        let mut holes = alloc::vec![(first * PAGE_SIZE as u64, end * PAGE_SIZE as u64)];
        for part in parts.iter().filter(|part| part.2 != E820_RAM) {
            holes = holes.into_iter().flat_map(|hole| without(hole, (part.0, part.1))).flatten().collect();
        }
        let mut cut = Vec::new();
        for (start, end, kind) in parts {
            let mut rest = alloc::vec![(start, end)];
            if kind == E820_RAM {
                for hole in &holes {
                    rest = rest.into_iter().flat_map(|part| without(part, *hole)).flatten().collect();
                }
            }
            cut.extend(rest.into_iter().map(|(start, end)| (start, end, kind)));
        }
        parts = cut;
        parts.extend(holes.into_iter().map(|(start, end)| (start, end, E820_RESERVED)));
    }
    parts.retain(|part| part.0 < part.1);
    parts.sort_unstable();
    parts.iter().map(|&(start, end, kind)| E820Entry { addr: start, size: end - start, kind }).collect()
}

/// What is left of a range without another: the parts below and above.
fn without((start, end): (u64, u64), (from, to): (u64, u64)) -> [Option<(u64, u64)>; 2] {
    let part = |start: u64, end: u64| (start < end).then_some((start, end));
    [part(start, end.min(from)), part(start.max(to), end)]
}

const _: () = assert!(MemoryKind::USABLE.0 == E820_RAM && MemoryKind::RESERVED.0 == E820_RESERVED);

#[cfg(test)]
mod tests {
    use super::*;

    fn region(start: u64, end: u64, kind: MemoryKind) -> MemoryRegion {
        MemoryRegion { start, end, kind }
    }

    fn plain(entries: &[E820Entry]) -> Vec<(u64, u64, u32)> {
        entries.iter().map(|entry| (entry.addr, entry.size, entry.kind)).collect()
    }

    #[test]
    fn devices_in_holes_are_reserved() {
        let regions = [region(0x10_0000, 0x800_0000, MemoryKind::USABLE), region(0, 0x9_f000, MemoryKind::USABLE)];
        let map = with_reserved(&regions, &[(0xfec00, 0xfec01), (0xfee00, 0xfef00)]);
        assert_eq!(
            plain(&map),
            [
                (0, 0x9_f000, E820_RAM),
                (0x10_0000, 0x7f0_0000, E820_RAM),
                (0xfec0_0000, 0x1000, E820_RESERVED),
                (0xfee0_0000, 0x10_0000, E820_RESERVED)
            ]
        );
    }

    #[test]
    fn what_firmware_reserves_stays_one_entry() {
        let regions = [region(0xfec0_0000, 0xfee0_1000, MemoryKind::RESERVED)];
        let map = with_reserved(&regions, &[(0xfec00, 0xfec01), (0xfee00, 0xfee01), (0xfee00, 0xfef00)]);
        let rest = (0xfee0_1000, 0xf_f000, E820_RESERVED);
        assert_eq!(plain(&map), [(0xfec0_0000, 0x20_1000, E820_RESERVED), rest]);
    }

    #[test]
    fn ram_where_a_device_answers_is_cut() {
        let map = with_reserved(&[region(0, 0x5000, MemoryKind::USABLE)], &[(2, 3)]);
        assert_eq!(plain(&map), [(0, 0x2000, E820_RAM), (0x2000, 0x1000, E820_RESERVED), (0x3000, 0x2000, E820_RAM)]);
    }
}
