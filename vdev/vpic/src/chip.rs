//! One 8259A.

/// One chip. Bit `n` of a set is its line IR`n`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chip {
    pub request: u8,
    pub mask: u8,
    pub in_service: u8,
    /// Lines triggered by level.
    pub levels: u8,
    /// Vector of line 0; the low three bits are 0.
    pub base: u8,
    /// The line of highest priority.
    pub first: u8,
    pub stage: Stage,
    pub read_in_service: bool,
    pub poll: bool,
    pub auto_end: bool,
    pub rotate_on_auto_end: bool,
    pub fully_nested: bool,
    pub special_mask: bool,
    pub is_master: bool,
    /// The wire to the CPU, or to the master.
    pub output: bool,
}

/// Where the sequence of initialisation commands stands: what the next write to the second port is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// OCW1, the mask.
    Ready,
    /// ICW2, the vector; then ICW3 unless `single`, and ICW4 if `fourth`.
    Vector { single: bool, fourth: bool },
    /// ICW3, the wiring.
    Wiring { fourth: bool },
    /// ICW4, the mode.
    Mode,
}

/// Lines of the slave that can be set to level: not its clock (8) and coprocessor (13).
const SLAVE_LEVELS: u8 = 0xde;
/// Lines of the master that can be set to level: not timer, keyboard, and the slave's, which always is.
const MASTER_LEVELS: u8 = 0xf8;

impl Chip {
    pub const fn new(is_master: bool) -> Chip {
        Chip {
            request: 0,
            mask: 0,
            in_service: 0,
            levels: if is_master { 1 << super::CASCADE } else { 0 },
            base: 0,
            first: 0,
            stage: Stage::Ready,
            read_in_service: false,
            poll: false,
            auto_end: false,
            rotate_on_auto_end: false,
            fully_nested: false,
            special_mask: false,
            is_master,
            output: false,
        }
    }

    pub const fn mask(&self) -> u8 {
        self.mask
    }

    pub const fn base(&self) -> u8 {
        self.base
    }

    pub fn set_request(&mut self, line: u8, high: bool) {
        let bit = 1 << (line & 7);
        self.request = if high { self.request | bit } else { self.request & !bit };
    }

    /// How many lines have priority over the highest in `set`; 8 if the set is empty.
    fn rank(&self, set: u8) -> u32 {
        if set == 0 { 8 } else { set.rotate_right(u32::from(self.first)).trailing_zeros() }
    }

    fn line_of(&self, rank: u32) -> u8 {
        (rank as u8).wrapping_add(self.first) & 7
    }

    /// The line that the chip would interrupt for.
    pub fn pending(&self) -> Option<u8> {
        let rank = self.rank(self.request & !self.mask);
        if rank == 8 {
            return None;
        }
        let line = self.line_of(rank);
        let mut blocking = self.in_service;
        // In special fully nested mode the slave's line does not block the slave's other lines.
        if self.fully_nested && self.is_master && line == super::CASCADE {
            blocking &= !(1 << super::CASCADE);
        }
        if self.special_mask {
            blocking &= !self.mask;
        }
        (rank < self.rank(blocking)).then_some(line)
    }

    /// True if the output rose.
    pub fn update_output(&mut self) -> bool {
        let before = self.output;
        self.output = self.pending().is_some();
        self.output && !before
    }

    /// INTA: the line that is taken. Without one it is line 7 and nothing changes: the spurious interrupt.
    pub fn acknowledge(&mut self) -> u8 {
        let Some(line) = self.pending() else { return 7 };
        let bit = 1 << line;
        if self.levels & bit == 0 {
            self.request &= !bit;
        }
        if !self.auto_end {
            self.in_service |= bit;
        } else if self.rotate_on_auto_end {
            self.first = (line + 1) & 7;
        }
        line
    }

    /// A read of the first port: request or in-service register, or a poll.
    pub fn read_command(&mut self) -> u8 {
        match (self.take_poll(), self.read_in_service) {
            (Some(answer), _) => answer,
            (None, true) => self.in_service,
            (None, false) => self.request,
        }
    }

    /// A read of the second port: the mask, or a poll.
    pub fn read_data(&mut self) -> u8 {
        self.take_poll().unwrap_or(self.mask)
    }

    /// Whether the next read is a poll.
    pub const fn is_polled(&self) -> bool {
        self.poll
    }

    /// A poll acknowledges in the CPU's place: bit 7 says that there was an interrupt, bits 0 to 2 which.
    fn take_poll(&mut self) -> Option<u8> {
        if !core::mem::take(&mut self.poll) {
            return None;
        }
        Some(match self.pending() {
            Some(_) => self.acknowledge() | 0x80,
            None => 0,
        })
    }

    /// A write to the first port: ICW1, OCW2 or OCW3. The line whose interrupt it ended by number.
    pub fn write_command(&mut self, value: u8) -> Option<u8> {
        if value & 0x10 != 0 {
            self.initialise(value);
            None
        } else if value & 0x08 != 0 {
            self.select(value);
            None
        } else {
            self.end(value)
        }
    }

    /// ICW1. Level requests stay, edges are forgotten.
    fn initialise(&mut self, value: u8) {
        self.request &= self.levels;
        self.mask = 0;
        self.in_service = 0;
        self.first = 0;
        self.rotate_on_auto_end = false;
        self.special_mask = false;
        self.read_in_service = false;
        self.poll = false;
        let fourth = value & 1 != 0;
        if !fourth {
            self.auto_end = false;
            self.fully_nested = false;
        }
        self.stage = Stage::Vector { single: value & 2 != 0, fourth };
    }

    /// OCW3.
    fn select(&mut self, value: u8) {
        if value & 0x04 != 0 {
            self.poll = true;
        }
        if value & 0x02 != 0 {
            self.read_in_service = value & 1 != 0;
        }
        if value & 0x40 != 0 {
            self.special_mask = value & 0x20 != 0;
        }
    }

    /// OCW2: ends an interrupt, rotates priorities, or both.
    fn end(&mut self, value: u8) -> Option<u8> {
        let (rotate, specific, end) = (value & 0x80 != 0, value & 0x40 != 0, value & 0x20 != 0);
        let named = value & 7;
        let line = match (specific, end) {
            (false, false) => {
                self.rotate_on_auto_end = rotate;
                return None;
            }
            (true, false) => {
                if rotate {
                    self.first = (named + 1) & 7;
                }
                return None;
            }
            (true, true) => named,
            (false, true) => {
                let masked = if self.special_mask { self.mask } else { 0 };
                match self.rank(self.in_service & !masked) {
                    8 => return None,
                    rank => self.line_of(rank),
                }
            }
        };
        self.in_service &= !(1 << line);
        if rotate {
            self.first = (line + 1) & 7;
        }
        specific.then_some(line)
    }

    /// A write to the second port: OCW1, or the next initialisation command.
    pub fn write_data(&mut self, value: u8) {
        let after_wiring = |fourth| if fourth { Stage::Mode } else { Stage::Ready };
        self.stage = match self.stage {
            Stage::Ready => {
                self.mask = value;
                Stage::Ready
            }
            Stage::Vector { single, fourth } => {
                self.base = value & 0xf8;
                if single { after_wiring(fourth) } else { Stage::Wiring { fourth } }
            }
            Stage::Wiring { fourth } => after_wiring(fourth),
            Stage::Mode => {
                self.fully_nested = value & 0x10 != 0;
                self.auto_end = value & 0x02 != 0;
                Stage::Ready
            }
        };
    }

    /// The edge/level register; the slave's line does not show.
    pub const fn read_levels(&self) -> u8 {
        self.levels & self.level_lines()
    }

    pub const fn write_levels(&mut self, value: u8) {
        let fixed = if self.is_master { 1 << super::CASCADE } else { 0 };
        self.levels = value & self.level_lines() | fixed;
    }

    const fn level_lines(&self) -> u8 {
        if self.is_master { MASTER_LEVELS } else { SLAVE_LEVELS }
    }
}
