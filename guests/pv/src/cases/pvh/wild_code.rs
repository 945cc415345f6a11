//! Random instructions whose memory operand has nothing behind it: the hypervisor has to decode and emulate what it gets.

use super::NOWHERE;
use crate::memory::poke;
use crate::memory::{Guest, page};
use crate::say;
use crate::trap::{RESUME_RIP, RESUME_RSP, forget};
use core::arch::asm;

/// The page with the instruction; the rest of it is INT3.
const CODE: usize = 13;
/// How many are tried.
const TRIES: u32 = 1000;

/// A generator of random numbers (xorshift).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 16) % end
    }
}

/// Whether an opcode does what this kernel would not survive: it halts, raises an exception without its error code, changes the
/// stack pointer, the segment or the mode that code runs in, control registers, descriptor tables, or the page of hypercalls.
fn is_fatal(two_bytes: bool, opcode: u8) -> bool {
    if two_bytes {
        return matches!(opcode, 0x00 | 0x01 | 0x05 | 0x07 | 0x20..=0x23 | 0x30 | 0x34 | 0x35 | 0xaa | 0xb2 | 0xcc);
    }
    matches!(opcode, 0x0f | 0x5c | 0x8e | 0x94 | 0x9d | 0xbc | 0xc9..=0xcf | 0xf1 | 0xf4 | 0xfa | 0xfb | 0xff)
}

/// An instruction with RDI or RSI as its memory operand, in any operand size, repeated or locked or neither.
fn instruction(random: &mut Random) -> [u8; 16] {
    let mut text = [0xcc; 16];
    let mut length = 0;
    let mut push = |byte| {
        text[length] = byte;
        length += 1;
    };
    const PREFIXES: [u8; 4] = [0x66, 0xf0, 0xf2, 0xf3];
    for _ in 0..random.below(3) {
        push(PREFIXES[random.below(4) as usize]);
    }
    if random.below(2) == 0 {
        push(0x40 | random.below(16) as u8 & 0xc);
    }
    let two_bytes = random.below(3) == 0;
    let opcode = loop {
        let opcode = random.next() as u8;
        if !is_fatal(two_bytes, opcode) {
            break opcode;
        }
    };
    if two_bytes {
        push(0x0f);
    }
    push(opcode);
    // No displacement, base RSI or RDI; the other operand is not the stack pointer.
    const OTHERS: [u8; 7] = [0, 1, 2, 3, 5, 6, 7];
    push(OTHERS[random.below(7) as usize] << 3 | 6 | random.below(2) as u8);
    for _ in 0..4 {
        push(random.next() as u8);
    }
    text
}

/// Runs what is at `at`, one instruction, with RSI and RDI at an address that has nothing.
fn step(at: u64) {
    forget();
    // SAFETY: it ends in a trap, be it that of the single step; which registers it has changed is of no interest. The handler goes on
    // at the label with the stack of before, where the registers are that may not change.
    unsafe {
        asm!(
            "push rbx",
            "push rbp",
            "lea r15, [rip + 22f]",
            "mov [rip + {resume_rsp}], rsp",
            "mov [rip + {resume_rip}], r15",
            "mov rcx, rsp",
            "push 16",
            "push rcx",
            "pushfq",
            "or qword ptr [rsp], 0x100",
            "push 8",
            "push rax",
            "mov ecx, 3",
            "mov edx, 0x1234",
            "iretq",
            "22:",
            "pop rbp",
            "pop rbx",
            "cld",
            resume_rip = sym RESUME_RIP,
            resume_rsp = sym RESUME_RSP,
            inout("rax") at => _, inout("rsi") NOWHERE => _, inout("rdi") NOWHERE => _,
            out("rcx") _, out("rdx") _, out("r8") _, out("r9") _, out("r10") _, out("r11") _, out("r12") _, out("r13") _,
            out("r14") _, out("r15") _,
        );
    }
}

/// Runs the group: tries them; the kernel still runs afterwards, and says so.
pub fn run(_: &Guest) {
    let mut random = Random(0x1234_5678_9abc_def1);
    (0..512).for_each(|word| poke(CODE, word, 0xcccc_cccc_cccc_cccc));
    for _ in 0..TRIES {
        let text = instruction(&mut random);
        let words = [&text[..8], &text[8..]].map(|half| u64::from_le_bytes(half.try_into().unwrap_or_default()));
        poke(CODE, 0, words[0]);
        poke(CODE, 1, words[1]);
        step(page(CODE));
    }
    say!("random.instructions: {TRIES}");
}
