//! One instruction with operands.

use super::forms::{Form, Immediate, Reg, Rm, Rule, Sizes};
use super::random::Random;
use x86_native::{Mode, Processor, Registers, WINDOW};

const RAX: usize = 0;
const RCX: usize = 1;
const RDX: usize = 2;
const RBX: usize = 3;
const RSP: usize = 4;
const RSI: usize = 6;
const RDI: usize = 7;
const STATUS: u64 = 0x8d5;
const DF: u64 = 0x400;
/// The window's first and last quarter are for what goes beyond an operand's place.
const QUARTER: u64 = WINDOW as u64 / 4;

#[derive(Clone, Debug)]
pub struct Case {
    pub mode: Mode,
    pub code: Vec<u8>,
    pub registers: Registers,
    pub memory: Box<[u8; WINDOW]>,
    /// Bytes of the operands.
    pub size: u8,
    pub immediate: u64,
}

/// An instruction in the making.
struct Builder<'a> {
    random: &'a mut Random,
    form: &'a Form,
    mode: Mode,
    size: u8,
    /// The window's address.
    window: u64,
    /// Where the operand in memory is, from the window's start.
    place: u64,
    small_address: bool,
    rex: u8,
    modrm: Option<u8>,
    tail: Vec<u8>,
    /// Where in `tail` a displacement from the next instruction is.
    relative: Option<usize>,
    registers: Registers,
    memory: Box<[u8; WINDOW]>,
}

impl Case {
    pub fn new(random: &mut Random, form: &Form, mode: Mode, cpu: &mut Processor) -> Case {
        let window = cpu.window().address;
        let here = cpu.instruction_address(mode);
        let mut builder = Builder::new(random, form, mode, window);
        builder.operands();
        builder.rules();
        let immediate = builder.immediate();
        builder.finish(here, immediate)
    }
}

impl<'a> Builder<'a> {
    fn new(random: &'a mut Random, form: &'a Form, mode: Mode, window: u64) -> Builder<'a> {
        let is_64bit = mode == Mode::Bits64;
        let quad: &[u8] = if is_64bit { &[8] } else { &[] };
        let size = match form.sizes {
            Sizes::Fixed(size) => size,
            Sizes::Wide => random.pick(&[&[2, 4], quad].concat()),
            Sizes::Double => random.pick(&[&[4], quad].concat()),
            Sizes::Quad => 8,
            Sizes::Stack => random.pick(&[2, if is_64bit { 8 } else { 4 }]),
            Sizes::ByteAndWide => 1,
        };
        let mut registers = Registers { flags: 0x202 | random.next() & STATUS, ..Registers::default() };
        registers.general = std::array::from_fn(|_| random.operand());
        registers.vectors = std::array::from_fn(|_| u128::from(random.next()) << 64 | u128::from(random.next()));
        if !is_64bit {
            registers.general.iter_mut().for_each(|value| *value &= 0xffff_ffff);
        }
        let mut memory = Box::new([0; WINDOW]);
        for chunk in memory.chunks_exact_mut(8) {
            chunk.copy_from_slice(&random.operand().to_le_bytes());
        }
        let aligned = matches!(form.rule, Rule::Aligned | Rule::ComparePair);
        let place = (QUARTER + random.below(2 * QUARTER)) & if aligned { !15 } else { !0 };
        let needs_wide = size == 8 && matches!(form.sizes, Sizes::Wide | Sizes::Double | Sizes::Quad);
        let is_extended = form.sizes == Sizes::ByteAndWide && is_64bit && random.one_in(2);
        let mut rex = if needs_wide || is_extended { 0x48 } else { 0 };
        // Without a meaning, but for byte registers.
        if is_64bit && random.one_in(4) {
            rex |= 0x40;
        }
        let small_address = is_64bit && random.one_in(5);
        Builder {
            random,
            form,
            mode,
            size,
            window,
            place,
            small_address,
            rex,
            modrm: None,
            tail: Vec::new(),
            relative: None,
            registers,
            memory,
        }
    }

    /// Number of a register, its high bit in REX as `bit`.
    fn register(&mut self, bit: u8) -> u8 {
        let number = self.random.below(if self.mode == Mode::Bits64 { 16 } else { 8 }) as u8;
        self.extend(number, bit);
        number
    }

    fn extend(&mut self, number: u8, bit: u8) {
        if number >= 8 {
            self.rex |= 0x40 | bit;
        }
    }

    fn operands(&mut self) {
        let reg = match self.form.reg {
            Reg::Any => self.register(4),
            Reg::Group(number) => number,
            Reg::InOpcode => self.register(1),
            Reg::None => 0,
        };
        let is_memory = match self.form.rm {
            Rm::None => {
                self.modrm = (self.form.reg == Reg::InOpcode).then_some(reg & 7);
                return;
            }
            Rm::Any => self.random.one_in(2),
            Rm::Memory => true,
            Rm::Register => false,
        };
        let field = (reg & 7) << 3;
        if is_memory {
            let modrm = self.address(reg);
            self.modrm = Some(modrm | field);
            return;
        }
        let rm = if matches!(self.form.rule, Rule::Divide { .. }) {
            // Not a part of the dividend, nor of another register.
            let rm =
                if self.mode == Mode::Bits64 { self.random.pick(&[1, 3, 9, 11]) } else { self.random.pick(&[1, 3]) };
            self.extend(rm, 1);
            rm
        } else {
            self.register(1)
        };
        self.modrm = Some(0xc0 | field | rm & 7);
    }

    /// A register for an address, which no rule needs for something else.
    fn address_register(&mut self, reg: u8, other: Option<u8>) -> u8 {
        let reserved: &[usize] = match self.form.rule {
            Rule::Divide { .. } | Rule::Compare => &[RAX, RDX],
            Rule::ComparePair => &[RAX, RBX, RCX, RDX],
            Rule::Stack => &[RSP],
            _ => &[],
        };
        loop {
            let number = self.random.below(if self.mode == Mode::Bits64 { 16 } else { 8 }) as u8;
            let is_offset = self.form.rule == Rule::BitOffset && number == reg;
            if !reserved.contains(&number.into()) && !is_offset && other != Some(number) {
                return number;
            }
        }
    }

    /// ModRM with a memory operand at `place`, without its middle field.
    fn address(&mut self, reg: u8) -> u8 {
        let target = self.window + self.place;
        match self.random.below(6) {
            0 => self.absolute(target),
            1 => {
                let index = self.index(reg, None);
                // A multiple of all scales, for the place to stay aligned.
                let displacement = self.random.next() as i32 & !7;
                self.set_index_and(index, target, displacement, None);
                self.tail.push(index.1 << 6 | (index.0 & 7) << 3 | 5);
                self.tail.extend(displacement.to_le_bytes());
                4
            }
            kind => {
                let base = self.address_register(reg, None);
                self.extend(base, 1);
                // 4 is the sign of a SIB byte.
                let index = (kind > 3 || base & 7 == 4)
                    .then(|| if kind > 3 { Some(self.index(reg, Some(base))) } else { None });
                self.based(base, index, target)
            }
        }
    }

    /// A base, with a SIB byte for an index, or for none.
    fn based(&mut self, base: u8, sib: Option<Option<(u8, u8)>>, target: u64) -> u8 {
        let (mode, displacement) = match self.random.below(3) {
            // Without a displacement, 5 is the sign of one without a base.
            0 if base & 7 != 5 => (0, 0),
            1 => (2, self.random.next() as i32),
            _ => (1, i32::from(self.random.next() as i8)),
        };
        let index = sib.flatten();
        match index {
            Some(index) => self.set_index_and(index, target, displacement, Some(base)),
            None => self.set_address(base, target.wrapping_sub(displacement as u64)),
        }
        if sib.is_some() {
            let (number, scale) = index.unwrap_or((4, 0));
            self.tail.push(scale << 6 | (number & 7) << 3 | base & 7);
        }
        let bytes = [0, 1, 4][mode];
        self.tail.extend(&displacement.to_le_bytes()[..bytes]);
        (mode as u8) << 6 | if sib.is_some() { 4 } else { base & 7 }
    }

    /// An index and its scale. RSP cannot be one.
    fn index(&mut self, reg: u8, base: Option<u8>) -> (u8, u8) {
        let number = loop {
            let number = self.address_register(reg, base);
            if usize::from(number) != RSP {
                break number;
            }
        };
        self.extend(number, 2);
        (number, self.random.below(4) as u8)
    }

    /// Sets index and base such that they make up the target; an index alone has a displacement for what remains.
    fn set_index_and(&mut self, index: (u8, u8), target: u64, displacement: i32, base: Option<u8>) {
        let rest = target.wrapping_sub(displacement as u64);
        match base {
            Some(base) => {
                let value = self.random.operand();
                self.set_address(index.0, value);
                self.set_address(base, rest.wrapping_sub(value << index.1));
            }
            // What the scale cuts off goes to the place.
            None => {
                let value = (rest as i64 >> index.1) as u64;
                self.place = self.place.wrapping_sub(rest.wrapping_sub(value << index.1));
                self.set_address(index.0, value);
            }
        }
    }

    /// Sets a register that is a part of an address.
    fn set_address(&mut self, number: u8, value: u64) {
        let above = if self.small_address { self.random.next() << 32 } else { 0 };
        let value = if self.small_address || self.mode == Mode::Bits32 { value & 0xffff_ffff | above } else { value };
        self.registers.general[usize::from(number)] = value;
    }

    /// An address in the instruction itself.
    fn absolute(&mut self, target: u64) -> u8 {
        if self.mode == Mode::Bits64 && self.random.one_in(2) {
            self.relative = Some(self.tail.len());
        } else if self.mode == Mode::Bits64 {
            self.tail.push(0x25);
            self.tail.extend((target as u32).to_le_bytes());
            return 4;
        }
        self.tail.extend((target as u32).to_le_bytes());
        5
    }

    /// Whether the operand is in memory.
    fn is_memory(&self) -> bool {
        self.form.rm != Rm::None && self.modrm.is_some_and(|modrm| modrm < 0xc0)
    }

    /// Memory's operand as a number.
    fn operand(&self, bytes: usize) -> u128 {
        let mut image = [0; 16];
        image[..bytes].copy_from_slice(&self.memory[self.place as usize..][..bytes]);
        u128::from_le_bytes(image)
    }

    fn rules(&mut self) {
        let is_equal = self.random.one_in(2);
        let general = &mut self.registers.general;
        let place = self.window + QUARTER + self.random.below(2 * QUARTER);
        match self.form.rule {
            Rule::Anything | Rule::Aligned => {}
            Rule::Stack => general[RSP] = place,
            Rule::Table => general[RBX] = place,
            Rule::String => self.string(),
            Rule::Divide { is_signed } => self.divide(is_signed),
            Rule::BitOffset => {
                let number = usize::from(self.modrm.unwrap_or(0) >> 3 & 7 | (self.rex & 4) << 1);
                if self.is_memory() {
                    // Bits to both sides.
                    let offset = self.random.below(8 * QUARTER).wrapping_sub(4 * QUARTER);
                    self.registers.general[number] =
                        if self.mode == Mode::Bits64 { offset } else { offset & 0xffff_ffff };
                }
            }
            Rule::Compare if is_equal && self.is_memory() => {
                self.registers.general[RAX] = self.operand(self.size.into()) as u64;
            }
            Rule::Compare => {}
            Rule::ComparePair if is_equal => {
                let half = usize::from(if self.form.sizes == Sizes::Quad { 8u8 } else { 4 });
                let value = self.operand(2 * half);
                let mask = u64::MAX >> (64 - 8 * half);
                self.registers.general[RAX] = value as u64 & mask;
                self.registers.general[RDX] = (value >> (8 * half)) as u64 & mask;
            }
            Rule::ComparePair => {}
        }
    }

    fn string(&mut self) {
        let general = &mut self.registers.general;
        general[RSI] = self.window + QUARTER + self.random.below(2 * QUARTER);
        general[RDI] = self.window + QUARTER + self.random.below(2 * QUARTER);
        general[RCX] = self.random.below(9);
        if self.random.one_in(2) {
            self.registers.flags |= DF;
        }
        // Few different values, for comparisons to go on for a while.
        let same = self.random.next() as u8;
        for byte in self.memory.iter_mut() {
            *byte = if self.random.one_in(16) { same ^ 1 } else { same };
        }
        self.registers.general[RAX] =
            u64::from_le_bytes([same; 8]) & if self.mode == Mode::Bits64 { !0 } else { 0xffff_ffff };
    }

    /// Dividend and divisor whose quotient fits.
    fn divide(&mut self, is_signed: bool) {
        let bits = u32::from(self.size) * 8;
        let mask = u64::MAX >> (64 - bits);
        let divisor = loop {
            let divisor = self.random.operand() & mask;
            if divisor != 0 && !(is_signed && divisor == mask) {
                break divisor;
            }
        };
        if self.is_memory() {
            let bytes = usize::from(self.size);
            self.memory[self.place as usize..][..bytes].copy_from_slice(&divisor.to_le_bytes()[..bytes]);
        } else {
            let number = self.modrm.unwrap_or(0) & 7 | (self.rex & 1) << 3;
            self.registers.general[usize::from(number)] = divisor;
        }
        let low = self.registers.general[RAX] & mask;
        let is_negative = low >> (bits - 1) != 0;
        let high = match is_signed {
            false => self.random.next() % divisor,
            true if is_negative => mask,
            true => 0,
        };
        if self.size == 1 {
            self.registers.general[RAX] = self.registers.general[RAX] & !0xff00 | high << 8;
        } else {
            self.registers.general[RDX] = high;
        }
    }

    /// The constant behind the operands.
    fn immediate(&mut self) -> u64 {
        let bytes: u8 = match self.form.immediate {
            Immediate::None => 0,
            Immediate::Byte => 1,
            Immediate::Wide => self.size.min(4),
            Immediate::Full => self.size,
            Immediate::Address if self.mode == Mode::Bits32 || self.small_address => 4,
            Immediate::Address => 8,
        };
        let is_address = self.form.immediate == Immediate::Address;
        let value = if is_address { self.window + self.place } else { self.random.operand() };
        self.tail.extend(&value.to_le_bytes()[..bytes.into()]);
        value
    }

    fn finish(mut self, here: u64, immediate: u64) -> Case {
        let mut code = Vec::new();
        if self.size == 2 && matches!(self.form.sizes, Sizes::Wide | Sizes::Stack) {
            code.push(0x66);
        }
        if self.small_address {
            code.push(0x67);
        }
        if self.form.is_lockable && self.is_memory() && self.random.one_in(2) {
            code.push(0xf0);
        }
        if self.form.rule == Rule::String {
            code.extend(self.random.pick(&[&[][..], &[0xf3], &[0xf3], &[0xf2]]));
        }
        code.extend(self.form.prefix);
        if self.rex != 0 {
            code.push(self.rex);
        }
        code.extend(&self.form.opcode);
        match (self.form.reg, self.modrm) {
            (Reg::InOpcode, Some(number)) => *code.last_mut().expect("an opcode") |= number,
            (_, modrm) => code.extend(modrm),
        }
        if let Some(at) = self.relative {
            let end = here + (code.len() + self.tail.len()) as u64;
            let distance = (self.window + self.place).wrapping_sub(end) as u32;
            self.tail[at..at + 4].copy_from_slice(&distance.to_le_bytes());
        }
        code.extend(self.tail);
        Case { mode: self.mode, code, registers: self.registers, memory: self.memory, size: self.size, immediate }
    }
}
