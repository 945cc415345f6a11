//! The forms of instructions (SDM vol. 2, appendix A).

use std::sync::LazyLock;
use x86_native::Mode;

/// Modes that have a form.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Only {
    Both,
    Bits64,
    Bits32,
}

/// What names the operand that is always a register.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reg {
    /// Nothing.
    None,
    /// ModRM.reg.
    Any,
    /// ModRM.reg is a part of the opcode.
    Group(u8),
    /// The low bits of the opcode.
    InOpcode,
}

/// What ModRM.rm names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rm {
    /// There is no ModRM.
    None,
    Any,
    Memory,
    Register,
}

/// Sizes of operands, by prefixes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sizes {
    /// This one, without prefixes.
    Fixed(u8),
    /// 2, 4 or 8.
    Wide,
    /// 4 or 8.
    Double,
    /// 8, by REX.W.
    Quad,
    /// 2, or what the stack has.
    Stack,
    /// 1; REX.W makes the other operand wider.
    ByteAndWide,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Immediate {
    None,
    Byte,
    /// 2 or 4 bytes.
    Wide,
    /// 2, 4 or 8 bytes.
    Full,
    /// An address.
    Address,
}

/// What operands have to be, for the CPU to raise no exception and to leave the window alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rule {
    Anything,
    Divide { is_signed: bool },
    BitOffset,
    Stack,
    String,
    Aligned,
    Table,
    Compare,
    ComparePair,
}

/// Which flags, or results, are undefined.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Undefined {
    Nothing,
    Logic,
    Shift,
    Rotate,
    Double,
    Multiply,
    Divide,
    Bit,
    Scan,
    Count,
}

#[derive(Clone, Debug)]
pub struct Form {
    pub name: String,
    /// A prefix that is a part of the opcode.
    pub prefix: Option<u8>,
    pub opcode: Vec<u8>,
    pub reg: Reg,
    pub rm: Rm,
    pub sizes: Sizes,
    pub immediate: Immediate,
    pub rule: Rule,
    pub undefined: Undefined,
    pub only: Only,
    pub is_lockable: bool,
}

impl Form {
    pub fn is_for(&self, mode: Mode) -> bool {
        match self.only {
            Only::Both => true,
            Only::Bits64 => mode == Mode::Bits64,
            Only::Bits32 => mode == Mode::Bits32,
        }
    }

    fn prefix(self, prefix: u8) -> Form {
        Form { prefix: Some(prefix), ..self }
    }
    fn group(self, number: u8) -> Form {
        Form { reg: Reg::Group(number), ..self }
    }
    fn memory(self) -> Form {
        Form { rm: Rm::Memory, ..self }
    }
    fn register(self) -> Form {
        Form { rm: Rm::Register, ..self }
    }
    fn fixed(self, size: u8) -> Form {
        self.sizes(Sizes::Fixed(size))
    }
    fn sizes(self, sizes: Sizes) -> Form {
        Form { sizes, ..self }
    }
    fn immediate(self, immediate: Immediate) -> Form {
        Form { immediate, ..self }
    }
    fn rule(self, rule: Rule) -> Form {
        Form { rule, ..self }
    }
    fn undefined(self, undefined: Undefined) -> Form {
        Form { undefined, ..self }
    }
    fn only(self, only: Only) -> Form {
        Form { only, ..self }
    }
    fn lockable(self) -> Form {
        Form { is_lockable: true, ..self }
    }
    fn no_operands(self) -> Form {
        Form { reg: Reg::None, rm: Rm::None, ..self }
    }
    fn in_opcode(self) -> Form {
        Form { reg: Reg::InOpcode, rm: Rm::None, ..self }
    }
}

fn form(name: &str, opcode: &[u8]) -> Form {
    Form {
        name: name.to_string(),
        prefix: None,
        opcode: opcode.to_vec(),
        reg: Reg::Any,
        rm: Rm::Any,
        sizes: Sizes::Wide,
        immediate: Immediate::None,
        rule: Rule::Anything,
        undefined: Undefined::Nothing,
        only: Only::Both,
        is_lockable: false,
    }
}

pub static FORMS: LazyLock<Vec<Form>> = LazyLock::new(|| {
    [moves(), exchanges(), arithmetic(), unary(), multiplication(), shifts(), bits(), strings(), vectors(), hints()]
        .concat()
});

fn moves() -> Vec<Form> {
    let mut forms = vec![
        form("mov", &[0x88]).fixed(1),
        form("mov", &[0x89]),
        form("mov", &[0x8a]).fixed(1),
        form("mov", &[0x8b]),
        form("mov", &[0xc6]).group(0).fixed(1).immediate(Immediate::Byte),
        form("mov", &[0xc7]).group(0).immediate(Immediate::Wide),
        form("mov", &[0xb0]).in_opcode().fixed(1).immediate(Immediate::Byte),
        form("mov", &[0xb8]).in_opcode().immediate(Immediate::Full),
        form("mov cs", &[0x8c]).group(1),
        form("mov ss", &[0x8c]).group(2),
        form("movzx", &[0x0f, 0xb6]),
        form("movzx", &[0x0f, 0xb7]),
        form("movsx", &[0x0f, 0xbe]),
        form("movsx", &[0x0f, 0xbf]),
        form("movsxd", &[0x63]).only(Only::Bits64),
        form("movbe", &[0x0f, 0x38, 0xf0]).memory(),
        form("movbe", &[0x0f, 0x38, 0xf1]).memory(),
        form("movnti", &[0x0f, 0xc3]).memory().sizes(Sizes::Double),
        form("lea", &[0x8d]).memory(),
        form("xlat", &[0xd7]).no_operands().fixed(1).rule(Rule::Table),
        form("push", &[0xff]).group(6).sizes(Sizes::Stack).rule(Rule::Stack),
        form("push", &[0x50]).in_opcode().sizes(Sizes::Stack).rule(Rule::Stack),
        form("push", &[0x6a]).no_operands().sizes(Sizes::Stack).immediate(Immediate::Byte).rule(Rule::Stack),
        form("push", &[0x68]).no_operands().sizes(Sizes::Stack).immediate(Immediate::Wide).rule(Rule::Stack),
        form("pop", &[0x8f]).group(0).sizes(Sizes::Stack).rule(Rule::Stack),
        form("pop", &[0x58]).in_opcode().sizes(Sizes::Stack).rule(Rule::Stack),
    ];
    for opcode in 0xa0..=0xa3 {
        let sizes = if opcode & 1 == 0 { Sizes::Fixed(1) } else { Sizes::Wide };
        forms.push(form("mov moffs", &[opcode]).no_operands().sizes(sizes).immediate(Immediate::Address));
    }
    for condition in 0..16 {
        forms.push(form("setcc", &[0x0f, 0x90 + condition]).group(0).fixed(1));
        forms.push(form("cmovcc", &[0x0f, 0x40 + condition]));
    }
    forms
}

fn exchanges() -> Vec<Form> {
    vec![
        form("xchg", &[0x86]).fixed(1).lockable(),
        form("xchg", &[0x87]).lockable(),
        form("xchg", &[0x90]).in_opcode(),
        form("xadd", &[0x0f, 0xc0]).fixed(1).lockable(),
        form("xadd", &[0x0f, 0xc1]).lockable(),
        form("cmpxchg", &[0x0f, 0xb0]).fixed(1).lockable().rule(Rule::Compare),
        form("cmpxchg", &[0x0f, 0xb1]).lockable().rule(Rule::Compare),
        form("cmpxchg8b", &[0x0f, 0xc7]).group(1).memory().fixed(8).lockable().rule(Rule::ComparePair),
        form("cmpxchg16b", &[0x0f, 0xc7])
            .group(1)
            .memory()
            .sizes(Sizes::Quad)
            .lockable()
            .rule(Rule::ComparePair)
            .only(Only::Bits64),
    ]
}

fn arithmetic() -> Vec<Form> {
    let mut forms = Vec::new();
    for (number, name) in ["add", "or", "adc", "sbb", "and", "sub", "xor", "cmp"].into_iter().enumerate() {
        let number = number as u8;
        let first = number * 8;
        let is_lockable = name != "cmp";
        let is_logic = matches!(name, "or" | "and" | "xor");
        let undefined = if is_logic { Undefined::Logic } else { Undefined::Nothing };
        let immediate = |opcode: u8| form(name, &[opcode]).group(number);
        let mut to_memory = vec![
            form(name, &[first]).fixed(1),
            form(name, &[first + 1]),
            immediate(0x80).fixed(1).immediate(Immediate::Byte),
            immediate(0x81).immediate(Immediate::Wide),
            immediate(0x83).immediate(Immediate::Byte),
            immediate(0x82).fixed(1).immediate(Immediate::Byte).only(Only::Bits32),
        ];
        to_memory.iter_mut().for_each(|form| form.is_lockable = is_lockable);
        to_memory.extend([
            form(name, &[first + 2]).fixed(1),
            form(name, &[first + 3]),
            form(name, &[first + 4]).no_operands().fixed(1).immediate(Immediate::Byte),
            form(name, &[first + 5]).no_operands().immediate(Immediate::Wide),
        ]);
        forms.extend(to_memory.into_iter().map(|form| form.undefined(undefined)));
    }
    let tests = [
        form("test", &[0x84]).fixed(1),
        form("test", &[0x85]),
        form("test", &[0xa8]).no_operands().fixed(1).immediate(Immediate::Byte),
        form("test", &[0xa9]).no_operands().immediate(Immediate::Wide),
        form("test", &[0xf6]).group(0).fixed(1).immediate(Immediate::Byte),
        form("test", &[0xf7]).group(0).immediate(Immediate::Wide),
        form("test", &[0xf6]).group(1).fixed(1).immediate(Immediate::Byte),
        form("test", &[0xf7]).group(1).immediate(Immediate::Wide),
    ];
    forms.extend(tests.map(|form| form.undefined(Undefined::Logic)));
    forms
}

fn unary() -> Vec<Form> {
    vec![
        form("inc", &[0xfe]).group(0).fixed(1).lockable(),
        form("inc", &[0xff]).group(0).lockable(),
        form("dec", &[0xfe]).group(1).fixed(1).lockable(),
        form("dec", &[0xff]).group(1).lockable(),
        form("inc", &[0x40]).in_opcode().only(Only::Bits32),
        form("dec", &[0x48]).in_opcode().only(Only::Bits32),
        form("not", &[0xf6]).group(2).fixed(1).lockable(),
        form("not", &[0xf7]).group(2).lockable(),
        form("neg", &[0xf6]).group(3).fixed(1).lockable(),
        form("neg", &[0xf7]).group(3).lockable(),
    ]
}

fn multiplication() -> Vec<Form> {
    let mut forms = vec![
        form("imul", &[0x0f, 0xaf]).undefined(Undefined::Multiply),
        form("imul", &[0x69]).immediate(Immediate::Wide).undefined(Undefined::Multiply),
        form("imul", &[0x6b]).immediate(Immediate::Byte).undefined(Undefined::Multiply),
    ];
    for (opcode, sizes) in [(0xf6, Sizes::Fixed(1)), (0xf7, Sizes::Wide)] {
        for (name, group) in [("mul", 4), ("imul", 5)] {
            forms.push(form(name, &[opcode]).group(group).sizes(sizes).undefined(Undefined::Multiply));
        }
        for (name, group, is_signed) in [("div", 6, false), ("idiv", 7, true)] {
            let rule = Rule::Divide { is_signed };
            forms.push(form(name, &[opcode]).group(group).sizes(sizes).rule(rule).undefined(Undefined::Divide));
        }
    }
    forms
}

fn shifts() -> Vec<Form> {
    let mut forms = Vec::new();
    for (group, name) in ["rol", "ror", "rcl", "rcr", "shl", "shr", "sal", "sar"].into_iter().enumerate() {
        let undefined = if group < 4 { Undefined::Rotate } else { Undefined::Shift };
        let each = |opcode: u8, sizes| form(name, &[opcode]).group(group as u8).sizes(sizes).undefined(undefined);
        forms.extend([
            each(0xd0, Sizes::Fixed(1)),
            each(0xd1, Sizes::Wide),
            each(0xd2, Sizes::Fixed(1)),
            each(0xd3, Sizes::Wide),
            each(0xc0, Sizes::Fixed(1)).immediate(Immediate::Byte),
            each(0xc1, Sizes::Wide).immediate(Immediate::Byte),
        ]);
    }
    for (name, first) in [("shld", 0xa4), ("shrd", 0xac)] {
        forms.push(form(name, &[0x0f, first]).immediate(Immediate::Byte).undefined(Undefined::Double));
        forms.push(form(name, &[0x0f, first + 1]).undefined(Undefined::Double));
    }
    forms
}

fn bits() -> Vec<Form> {
    let mut forms = Vec::new();
    for (name, opcode, group) in [("bt", 0xa3, 4), ("bts", 0xab, 5), ("btr", 0xb3, 6), ("btc", 0xbb, 7)] {
        let by_register = form(name, &[0x0f, opcode]).rule(Rule::BitOffset);
        let by_constant = form(name, &[0x0f, 0xba]).group(group).immediate(Immediate::Byte);
        let each = [by_register, by_constant].map(|form| form.undefined(Undefined::Bit));
        forms.extend(each.map(|form| if name == "bt" { form } else { form.lockable() }));
    }
    forms.extend([
        form("bsf", &[0x0f, 0xbc]).undefined(Undefined::Scan),
        form("bsr", &[0x0f, 0xbd]).undefined(Undefined::Scan),
        form("popcnt", &[0x0f, 0xb8]).prefix(0xf3),
        form("tzcnt", &[0x0f, 0xbc]).prefix(0xf3).undefined(Undefined::Count),
        form("lzcnt", &[0x0f, 0xbd]).prefix(0xf3).undefined(Undefined::Count),
        form("crc32", &[0x0f, 0x38, 0xf0]).prefix(0xf2).sizes(Sizes::ByteAndWide),
        form("crc32", &[0x0f, 0x38, 0xf1]).prefix(0xf2),
    ]);
    forms
}

fn strings() -> Vec<Form> {
    let each = |name, opcode: u8| {
        let string = |opcode| form(name, &[opcode]).no_operands().rule(Rule::String);
        [string(opcode).fixed(1), string(opcode + 1)]
    };
    [each("movs", 0xa4), each("cmps", 0xa6), each("stos", 0xaa), each("lods", 0xac), each("scas", 0xae)].concat()
}

fn vectors() -> Vec<Form> {
    let whole = |name, prefix: Option<u8>, opcode: u8| Form { prefix, ..form(name, &[0x0f, opcode]).fixed(16) };
    let mut forms = Vec::new();
    for (prefix, load, store) in [(None, 0x10, 0x11), (Some(0x66), 0x10, 0x11), (Some(0xf3), 0x6f, 0x7f)] {
        forms.extend([whole("movups", prefix, load), whole("movups", prefix, store)]);
    }
    for (prefix, load, store) in [(None, 0x28, 0x29), (Some(0x66), 0x28, 0x29), (Some(0x66), 0x6f, 0x7f)] {
        forms.extend([load, store].map(|opcode| whole("movaps", prefix, opcode).rule(Rule::Aligned)));
    }
    for (prefix, store) in [(None, 0x2b), (Some(0x66), 0x2b), (Some(0x66), 0xe7)] {
        forms.push(whole("movnt", prefix, store).memory().rule(Rule::Aligned));
    }
    for opcode in [0x12, 0x13, 0x16, 0x17] {
        forms.push(form("movlps, movhps", &[0x0f, opcode]).memory().fixed(8));
        forms.push(form("movlpd, movhpd", &[0x0f, opcode]).memory().fixed(8).prefix(0x66));
    }
    forms.extend([
        form("movntdqa", &[0x0f, 0x38, 0x2a]).prefix(0x66).memory().fixed(16).rule(Rule::Aligned),
        form("lddqu", &[0x0f, 0xf0]).prefix(0xf2).memory().fixed(16),
        form("movd", &[0x0f, 0x6e]).prefix(0x66).sizes(Sizes::Double),
        form("movd", &[0x0f, 0x7e]).prefix(0x66).sizes(Sizes::Double),
        form("movq", &[0x0f, 0x7e]).prefix(0xf3).fixed(8),
        form("movq", &[0x0f, 0xd6]).prefix(0x66).fixed(8),
        form("movss", &[0x0f, 0x10]).prefix(0xf3).fixed(4),
        form("movss", &[0x0f, 0x11]).prefix(0xf3).fixed(4),
        form("movsd", &[0x0f, 0x10]).prefix(0xf2).fixed(8),
        form("movsd", &[0x0f, 0x11]).prefix(0xf2).fixed(8),
    ]);
    forms
}

fn hints() -> Vec<Form> {
    let mut forms = vec![
        form("nop", &[0x0f, 0x1f]).group(0),
        form("nop", &[0x90]).no_operands().fixed(4),
        form("pause", &[0x90]).no_operands().fixed(4).prefix(0xf3),
        form("clflush", &[0x0f, 0xae]).group(7).memory().fixed(1),
        form("clflushopt", &[0x0f, 0xae]).group(7).memory().fixed(1).prefix(0x66),
        form("clwb", &[0x0f, 0xae]).group(6).memory().fixed(1).prefix(0x66),
        form("lfence", &[0x0f, 0xae]).group(5).register().fixed(4),
        form("mfence", &[0x0f, 0xae]).group(6).register().fixed(4),
        form("sfence", &[0x0f, 0xae]).group(7).register().fixed(4),
    ];
    forms.extend((0..4).map(|group| form("prefetch", &[0x0f, 0x18]).group(group).memory().fixed(1)));
    forms.extend((0..8).map(|group| form("prefetchw", &[0x0f, 0x0d]).group(group).memory().fixed(1)));
    forms
}
