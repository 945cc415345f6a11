//! A machine for task switches: address spaces of 32 bits with absent and read-only pages, and other CPUs that change descriptors.

use std::collections::{BTreeMap, BTreeSet};
use x86_emulate::hvm::*;

const PAGE: u32 = 0x1000;

#[derive(Clone, PartialEq, Debug, Default)]
pub struct Ram {
    /// By physical address; all else is 0.
    pub memory: BTreeMap<u32, u8>,
    /// Where pages are that are not at their own address, by CR3 and address.
    pub moved: BTreeMap<(u32, u32), u32>,
    /// Linear addresses of pages.
    pub absent: BTreeSet<u32>,
    pub read_only: BTreeSet<u32>,
    pub supervisor: BTreeSet<u32>,
    pub root: u32,
    pub roots_loaded: Vec<u32>,
    /// The access that has a page fault whatever it is to, by its number from 0.
    pub fails_at: Option<usize>,
    /// Accesses so far, by address; of level 3 only those that are pushes.
    pub accesses: Vec<u32>,
    /// How often another CPU is quicker to change a descriptor.
    pub is_raced: u32,
}

/// The page fault of an access that fails by its number.
pub const INJECTED: u32 = 0x18;

impl Ram {
    fn place(&self, linear: u32) -> u32 {
        let page = linear & !(PAGE - 1);
        self.moved.get(&(self.root, page)).unwrap_or(&page) | linear & (PAGE - 1)
    }

    pub fn put(&mut self, linear: u32, bytes: &[u8]) {
        for (index, byte) in bytes.iter().enumerate() {
            let place = self.place(linear.wrapping_add(index as u32));
            self.memory.insert(place, *byte);
        }
    }

    pub fn get<const N: usize>(&self, linear: u32) -> [u8; N] {
        std::array::from_fn(|index| *self.memory.get(&self.place(linear.wrapping_add(index as u32))).unwrap_or(&0))
    }

    pub fn put16(&mut self, linear: u32, value: u16) {
        self.put(linear, &value.to_le_bytes());
    }

    pub fn put32(&mut self, linear: u32, value: u32) {
        self.put(linear, &value.to_le_bytes());
    }

    pub fn put64(&mut self, linear: u32, value: u64) {
        self.put(linear, &value.to_le_bytes());
    }

    pub fn get16(&self, linear: u32) -> u16 {
        u16::from_le_bytes(self.get(linear))
    }

    pub fn get32(&self, linear: u32) -> u32 {
        u32::from_le_bytes(self.get(linear))
    }

    pub fn get64(&self, linear: u32) -> u64 {
        u64::from_le_bytes(self.get(linear))
    }

    fn check(&mut self, linear: u32, bytes: usize, is_write: bool, is_user: bool) -> Result<()> {
        assert!((1..=104).contains(&bytes), "{bytes}");
        let number = self.accesses.len();
        self.accesses.push(linear);
        if self.fails_at == Some(number) {
            return Err(Stop::PageFault { address: linear.into(), error_code: INJECTED });
        }
        for offset in [0, bytes as u32 - 1] {
            let address = linear.wrapping_add(offset);
            let page = address & !(PAGE - 1);
            let is_refused = is_write && self.read_only.contains(&page) || is_user && self.supervisor.contains(&page);
            if self.absent.contains(&page) || is_refused {
                let error_code = u32::from(is_refused) | u32::from(is_write) << 1 | u32::from(is_user) << 2;
                let address = if offset == 0 { address } else { page }.into();
                return Err(Stop::PageFault { address, error_code });
            }
        }
        Ok(())
    }
}

impl TaskMemory for Ram {
    fn read(&mut self, linear: u32, to: &mut [u8], access: Access) -> Result<()> {
        self.check(linear, to.len(), access == Access::Modify, false)?;
        for (index, byte) in to.iter_mut().enumerate() {
            [*byte] = self.get(linear.wrapping_add(index as u32));
        }
        Ok(())
    }
    fn write(&mut self, linear: u32, from: &[u8]) -> Result<()> {
        self.check(linear, from.len(), true, false)?;
        self.put(linear, from);
        Ok(())
    }
    fn compare_exchange(&mut self, linear: u32, old: u64, new: u64) -> Result<bool> {
        self.check(linear, 8, true, false)?;
        assert_ne!(old, new);
        if self.is_raced > 0 {
            self.is_raced -= 1;
            return Ok(false);
        }
        assert_eq!(self.get64(linear), old);
        self.put64(linear, new);
        Ok(true)
    }
    fn push(&mut self, state: &State, linear: u32, from: &[u8]) -> Result<()> {
        self.check(linear, from.len(), true, state.level == 3)?;
        self.put(linear, from);
        Ok(())
    }
    fn load_root(&mut self, root: u32) {
        self.root = root;
        self.roots_loaded.push(root);
    }
}

/// Where the tables are, and the segments of the tasks.
pub const GDT: u32 = 0x1000;
pub const LDT: u32 = 0x2000;
pub const IDT: u32 = 0x6000;
pub const OLD: u32 = 0x3000;
pub const NEW: u32 = 0x4000;
pub const NEW16: u32 = 0x5000;
/// Selectors.
pub const CODE: u16 = 0x08;
pub const DATA: u16 = 0x10;
pub const USER_CODE: u16 = 0x1b;
pub const USER_DATA: u16 = 0x23;
pub const TABLE: u16 = 0x28;
pub const OLD_TSS: u16 = 0x30;
pub const NEW_TSS: u16 = 0x38;
pub const NEW_TSS16: u16 = 0x40;
/// For what a test needs besides.
pub const SPARE: u16 = 0x48;
pub const CODE16: u16 = 0x50;
pub const STACK16: u16 = 0x58;
/// In the LDT.
pub const LOCAL: u16 = 0x0f;

pub const BUSY: u64 = 1 << 41;
/// CR3 of the old task and of the new one.
pub const OLD_ROOT: u32 = 0x9000;
pub const NEW_ROOT: u32 = 0xa000;

/// A descriptor of a system segment, present, of level 0.
pub fn system(kind: u64, base: u32, limit: u32) -> u64 {
    let (base, limit) = (u64::from(base), u64::from(limit));
    limit & 0xffff | (base & 0xff_ffff) << 16 | kind << 40 | 1 << 47 | (limit >> 16 & 15) << 48 | base >> 24 << 56
}

pub fn descriptor(ram: &Ram, selector: u16) -> u64 {
    ram.get64(GDT + u32::from(selector & !7))
}

pub fn describe(ram: &mut Ram, selector: u16, descriptor: u64) {
    ram.put64(GDT + u32::from(selector & !7), descriptor);
}

/// Fields of a 32-bit TSS: their places.
pub const LINK: u32 = 0;
pub const ROOT: u32 = 0x1c;
pub const EIP: u32 = 0x20;
pub const EFLAGS: u32 = 0x24;
pub const EAX: u32 = 0x28;
pub const ESP: u32 = 0x38;
pub const ES: u32 = 0x48;
pub const CS: u32 = 0x4c;
pub const SS: u32 = 0x50;
pub const DS: u32 = 0x54;
pub const FS: u32 = 0x58;
pub const GS: u32 = 0x5c;
pub const LDTR: u32 = 0x60;
pub const TRAP: u32 = 0x64;
/// The same of a 16-bit one.
pub const IP: u32 = 0x0e;
pub const FLAGS: u32 = 0x10;
pub const AX: u32 = 0x12;
pub const ES16: u32 = 0x22;
pub const CS16: u32 = 0x24;
pub const SS16: u32 = 0x26;
pub const DS16: u32 = 0x28;
pub const LDTR16: u32 = 0x2a;

/// The segment register that a descriptor of the GDT fills.
pub fn segment(ram: &Ram, selector: u16) -> Segment {
    let found = descriptor(ram, selector);
    let raw = (found & 0xffff | found >> 32 & 0xf_0000) as u32;
    Segment {
        selector,
        attributes: (found >> 40 & 0xff | found >> 44 & 0xf00) as u16,
        limit: if found >> 55 & 1 != 0 { raw << 12 | 0xfff } else { raw },
        base: found >> 16 & 0xff_ffff | found >> 56 << 24,
    }
}

/// Tables, a task that runs in level 0 of 32-bit protected mode with paging, and two tasks that wait.
pub fn world() -> (Task, Ram) {
    let mut ram = Ram { root: OLD_ROOT, ..Ram::default() };
    for (selector, found) in [
        (CODE, 0x00cf_9b00_0000_ffff),
        (DATA, 0x00cf_9300_0000_ffff),
        (USER_CODE, 0x00cf_fb00_0000_ffff),
        (USER_DATA, 0x00cf_f300_0000_ffff),
        (TABLE, system(2, LDT, 0x3f)),
        (OLD_TSS, system(9, OLD, 0x67) | BUSY),
        (NEW_TSS, system(9, NEW, 0x67)),
        (NEW_TSS16, system(1, NEW16, 0x2b)),
        (CODE16, 0x0000_9b00_0000_ffff),
        (STACK16, 0x0000_9300_0000_ffff),
    ] {
        describe(&mut ram, selector, found);
    }
    // LOCAL: data of level 3 at 0x10000.
    ram.put64(LDT + 8, 0x00cf_f301_0000_ffff);
    for (index, at) in (EAX..ES).step_by(4).enumerate() {
        ram.put32(NEW + at, 0x1111_1110 + index as u32);
    }
    for (at, value) in [(ROOT, NEW_ROOT), (EIP, 0x8000_1234), (EFLAGS, 0x246), (ESP, 0x7f00)] {
        ram.put32(NEW + at, value);
    }
    for (at, selector) in [(ES, DATA), (CS, CODE), (SS, DATA), (DS, LOCAL), (FS, USER_DATA), (GS, 0), (LDTR, TABLE)] {
        ram.put16(NEW + at, selector);
    }
    for (index, at) in (AX..ES16).step_by(2).enumerate() {
        ram.put16(NEW16 + at, 0x2220 + index as u16);
    }
    for (at, value) in [(IP, 0x1234), (FLAGS, 0x3202), (AX + 8, 0x100)] {
        ram.put16(NEW16 + at, value);
    }
    for (at, selector) in [(ES16, DATA), (CS16, CODE16), (SS16, STACK16), (DS16, LOCAL), (LDTR16, TABLE)] {
        ram.put16(NEW16 + at, selector);
    }
    // What a task switch leaves alone in the old TSS.
    ram.put(OLD, &[0xee; 0x68]);
    let of = |selector| segment(&ram, selector);
    let mut general = [0; 16];
    (0..8).for_each(|number| general[number] = 0x3333_3330 + number as u64);
    let task = Task {
        state: State {
            general,
            rip: 0x1000_0000,
            flags: 0x1_4287,
            segments: [DATA, CODE, DATA, USER_DATA, 0, USER_DATA].map(of),
            cr0: 0x8000_0031,
            ..State::default()
        },
        ldtr: Segment::default(),
        tr: of(OLD_TSS),
        gdtr: DescriptorTable { base: GDT.into(), limit: 0x5f },
        idtr: DescriptorTable { base: IDT.into(), limit: 0x7ff },
        dr7: 0x7ff,
    };
    (task, ram)
}

pub const fn by(cause: Cause) -> TaskSwitch {
    TaskSwitch { selector: NEW_TSS, cause, error_code: None, resume_flag: false }
}
