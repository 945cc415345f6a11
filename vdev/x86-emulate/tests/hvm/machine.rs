//! A machine for the emulation: bytes, pages that are absent or read-only, and devices that answer at once or later.

use std::collections::{BTreeMap, BTreeSet};
use x86_defs::control::PageFault;
use x86_emulate::MAX_LENGTH;
use x86_emulate::hvm::*;

pub const PAGE: u64 = 0x1000;
/// What guests find in memory that they have not written.
const FRESH: u8 = 0x5a;

#[derive(Clone, PartialEq, Debug, Default)]
pub struct Machine {
    pub memory: BTreeMap<u64, u8>,
    /// Addresses of pages.
    pub absent: BTreeSet<u64>,
    pub read_only: BTreeSet<u64>,
    /// Pages whose accesses go to a device.
    pub devices: BTreeSet<u64>,
    /// What the device was told and asked; reads of it count up.
    pub seen: Vec<DeviceAccess>,
    /// Whether the device's answers come later.
    pub is_slow: bool,
    pub replay: Replay,
    /// Bursts that were offered; how many units of one are taken at most.
    pub bursts: Vec<Burst>,
    pub takes: u64,
    /// Another CPU changes memory before each locked write.
    pub is_raced: bool,
    pub may_use_ports: bool,
    pub vectors: [u128; 16],
    pub control: [u64; 16],
    pub debug: [u64; 16],
    pub msrs: BTreeMap<u32, u64>,
    pub xcr0: u64,
    pub tables: [DescriptorTable; 2],
    pub invalidated: Vec<u64>,
    pub flushes: u32,
    /// All calls.
    pub calls: u64,
    pub commits: u64,
    /// Ranges beyond this end would wrap around.
    pub is_64bit: bool,
}

impl Machine {
    pub fn put(&mut self, at: u64, bytes: &[u8]) {
        self.memory.extend(bytes.iter().enumerate().map(|(index, byte)| (at + index as u64, *byte)));
    }

    pub fn get(&self, at: u64, bytes: usize) -> Vec<u8> {
        (0..bytes as u64).map(|index| *self.memory.get(&at.wrapping_add(index)).unwrap_or(&FRESH)).collect()
    }

    pub fn word(&self, at: u64) -> u64 {
        u64::from_le_bytes(self.get(at, 8).try_into().expect("8 bytes"))
    }

    fn check(&mut self, linear: u64, bytes: usize, is_write: bool) -> Result<()> {
        self.calls += 1;
        assert!((1..=16).contains(&bytes));
        let last = linear.checked_add(bytes as u64 - 1).expect("no range wraps around");
        assert!(self.is_64bit || last < 1 << 32, "{last:x}");
        let mut error = PageFault::empty();
        error.set(PageFault::WRITE, is_write);
        for address in [linear, last] {
            let page = address & !(PAGE - 1);
            let address = page.max(linear);
            if self.absent.contains(&page) {
                return Err(Stop::PageFault { address, error_code: error.bits() });
            }
            if is_write && self.read_only.contains(&page) {
                return Err(Stop::PageFault { address, error_code: (error | PageFault::PRESENT).bits() });
            }
        }
        Ok(())
    }

    fn is_device(&self, linear: u64) -> bool {
        self.devices.contains(&(linear & !(PAGE - 1)))
    }

    /// One access to the device, now or later.
    fn ask(&mut self, access: DeviceAccess) -> Result<u64> {
        let (seen, is_slow) = (&mut self.seen, self.is_slow);
        self.replay.access(access, |access| {
            seen.push(*access);
            if is_slow { Answer::Later } else { Answer::Now(answer(seen)) }
        })
    }

    /// Lets the device answer what it was asked last.
    pub fn settle(&mut self) {
        assert_eq!(self.replay.pending(), self.seen.last().copied());
        let answer = answer(&self.seen);
        self.replay.answer(answer);
    }

    /// Pieces of 1, 2, 4 or 8 bytes that are in a device or in memory altogether.
    fn pieces(&self, linear: u64, bytes: usize) -> Vec<(u64, usize, bool)> {
        let mut pieces = Vec::new();
        let mut done = 0;
        while done < bytes {
            let at = linear + done as u64;
            let to_page = (PAGE - at % PAGE) as usize;
            let most = (bytes - done).min(to_page).min(8);
            let size = 1 << most.ilog2();
            pieces.push((at, size, self.is_device(at)));
            done += size;
        }
        pieces
    }
}

/// The device's answer to the last access: numbers that tell reads apart.
fn answer(seen: &[DeviceAccess]) -> u64 {
    let reads = seen.iter().filter(|access| !access.is_write).count() as u64;
    reads.wrapping_mul(0x0101_0101_0101_0101)
}

impl Memory for Machine {
    fn fetch(&mut self, linear: u64, to: &mut [u8; MAX_LENGTH]) -> usize {
        for (index, byte) in to.iter_mut().enumerate() {
            let at = linear.wrapping_add(index as u64);
            if self.absent.contains(&(at & !(PAGE - 1))) {
                return index;
            }
            *byte = *self.memory.get(&at).unwrap_or(&FRESH);
        }
        MAX_LENGTH
    }
    fn read(&mut self, linear: u64, to: &mut [u8], access: Access) -> Result<()> {
        self.check(linear, to.len(), access == Access::Modify)?;
        for (at, size, is_device) in self.pieces(linear, to.len()) {
            let start = (at - linear) as usize;
            let value = if is_device {
                self.ask(DeviceAccess { address: at, size: size as u8, count: 1, ..DeviceAccess::default() })?
                    .to_le_bytes()[..size]
                    .to_vec()
            } else {
                self.get(at, size)
            };
            to[start..start + size].copy_from_slice(&value);
        }
        Ok(())
    }
    fn write(&mut self, linear: u64, from: &[u8]) -> Result<()> {
        self.check(linear, from.len(), true)?;
        let pieces = self.pieces(linear, from.len());
        let part = |at: u64, size: usize| &from[(at - linear) as usize..][..size];
        for (at, size, _) in pieces.iter().filter(|piece| piece.2) {
            let mut data = [0; 8];
            data[..*size].copy_from_slice(part(*at, *size));
            let data = u64::from_le_bytes(data);
            let size = *size as u8;
            self.ask(DeviceAccess { address: *at, size, data, is_write: true, count: 1, ..DeviceAccess::default() })?;
        }
        for (at, size, _) in pieces.iter().filter(|piece| !piece.2) {
            self.put(*at, part(*at, *size));
        }
        Ok(())
    }
    fn compare_exchange(&mut self, linear: u64, old: &[u8], new: &[u8]) -> Result<bool> {
        if self.is_raced {
            return Ok(false);
        }
        if !self.is_device(linear) && !self.is_device(linear + (new.len() as u64 - 1)) {
            assert_eq!(self.get(linear, old.len()), old);
        }
        self.write(linear, new).map(|()| true)
    }
    fn check_write(&mut self, linear: u64, bytes: usize) -> Result<()> {
        self.check(linear, bytes, true)
    }
    fn read_port(&mut self, port: u16, size: u8) -> Result<u32> {
        self.calls += 1;
        let access =
            DeviceAccess { space: Space::Port, address: port.into(), size, count: 1, ..DeviceAccess::default() };
        self.ask(access).map(|value| value as u32)
    }
    fn write_port(&mut self, port: u16, size: u8, value: u32) -> Result<()> {
        self.calls += 1;
        let access =
            DeviceAccess { space: Space::Port, address: port.into(), size, count: 1, ..DeviceAccess::default() };
        self.ask(DeviceAccess { is_write: true, data: value.into(), ..access }).map(|_| ())
    }
    fn burst(&mut self, burst: &Burst) -> Result<u64> {
        self.calls += 1;
        self.bursts.push(*burst);
        Ok(self.takes)
    }
    fn commit(&mut self) {
        self.commits += 1;
        self.replay.forget();
    }
}

impl System for Machine {
    fn may_use_port(&mut self, _: u16, _: u8) -> Result<bool> {
        Ok(self.may_use_ports)
    }
    fn vector(&mut self, number: u8) -> u128 {
        self.vectors[usize::from(number)]
    }
    fn set_vector(&mut self, number: u8, value: u128) {
        self.vectors[usize::from(number)] = value;
    }
    fn read_control(&mut self, number: u8) -> Result<u64> {
        Ok(self.control[usize::from(number)])
    }
    fn write_control(&mut self, number: u8, value: u64) -> Result<()> {
        self.control[usize::from(number)] = value;
        Ok(())
    }
    fn read_debug(&mut self, number: u8) -> Result<u64> {
        Ok(self.debug[usize::from(number)])
    }
    fn write_debug(&mut self, number: u8, value: u64) -> Result<()> {
        self.debug[usize::from(number)] = value;
        Ok(())
    }
    fn read_msr(&mut self, number: u32) -> Result<u64> {
        self.msrs.get(&number).copied().ok_or(Stop::GP)
    }
    fn write_msr(&mut self, number: u32, value: u64) -> Result<()> {
        self.msrs.insert(number, value);
        Ok(())
    }
    fn cpuid(&mut self, leaf: u32, subleaf: u32) -> Result<[u32; 4]> {
        Ok([leaf, 1, subleaf, 3])
    }
    fn read_tsc(&mut self) -> u64 {
        0x1_0000_0002
    }
    fn tsc_aux(&mut self) -> u32 {
        77
    }
    fn write_xcr(&mut self, _: u32, value: u64) -> Result<()> {
        self.xcr0 = value;
        Ok(())
    }
    fn table(&mut self, table: Table) -> DescriptorTable {
        self.tables[table as usize]
    }
    fn set_table(&mut self, table: Table, target: DescriptorTable) {
        self.tables[table as usize] = target;
    }
    fn invalidate_page(&mut self, linear: u64) {
        self.invalidated.push(linear);
    }
    fn write_back_caches(&mut self) {
        self.flushes += 1;
    }
}

/// Where tests have their code.
pub const RIP: u64 = 0x1000;
/// And a device's page, in every mode's reach.
pub const DEVICE: u64 = 0x9000;

/// Flat segments of data.
pub const DATA: Segment = Segment { selector: 0x10, attributes: 0xc93, limit: u32::MAX, base: 0 };

/// A virtual CPU at level 0 with flat segments, or in real mode for 16 bits.
pub fn state(size: CodeSize) -> State {
    let mut state = State { rip: RIP, flags: 2, cr0: 0x8000_0011, cr4: 0x220, segments: [DATA; 6], ..State::default() };
    state.segments[1].attributes = match size {
        CodeSize::Bits64 => 0xa9b,
        CodeSize::Bits32 => 0xc9b,
        CodeSize::Bits16 => 0x9b,
    };
    match size {
        CodeSize::Bits64 => state.efer = 0x500,
        CodeSize::Bits32 => {}
        CodeSize::Bits16 => {
            state.cr0 = 0x10;
            state.segments = [Segment { attributes: 0x93, limit: 0xffff, ..Segment::default() }; 6];
        }
    }
    state
}

/// A machine with `code` at [`RIP`] of a flat segment, and the device.
pub fn machine(state: &State, code: &[u8]) -> Machine {
    let mut machine = Machine { is_64bit: state.is_64bit(), ..Machine::default() };
    machine.devices.insert(DEVICE);
    machine.put(RIP, code);
    machine
}

/// Carries out `code`, which has to finish at once.
pub fn run(size: CodeSize, code: &[u8], prepare: impl FnOnce(&mut State, &mut Machine)) -> (State, Machine) {
    let mut state = state(size);
    let mut machine = machine(&state, code);
    prepare(&mut state, &mut machine);
    let end = state.rip + code.len() as u64;
    assert_eq!(emulate(&mut state, &mut machine, 1000).map(|done| done.is_unfinished), Ok(false), "{code:x?}");
    assert_eq!(state.rip, end, "{code:x?}");
    (state, machine)
}

/// Carries out `code`, which has to stop and change nothing.
pub fn stop(size: CodeSize, code: &[u8], prepare: impl FnOnce(&mut State, &mut Machine)) -> Stop {
    let mut state = state(size);
    let mut machine = machine(&state, code);
    prepare(&mut state, &mut machine);
    let before = state;
    let stop = emulate(&mut state, &mut machine, 1000).expect_err("a stop");
    assert_eq!(state, before, "{code:x?}");
    stop
}
