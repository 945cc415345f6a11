//! The machine that the emulation acts on.

use super::random::Random;
use iced_x86::{Code, Decoder, DecoderOptions, Mnemonic};
use std::collections::BTreeSet;
use x86_emulate::MAX_LENGTH;
use x86_emulate::hvm::{Access, DescriptorTable, Memory, Result, Segment, State, Stop, System, Table, emulate};

pub struct Machine {
    pub code: Vec<u8>,
    /// Address of `memory`.
    pub window: u64,
    pub memory: Vec<u8>,
    pub vectors: [u128; 16],
}

impl Machine {
    fn at(&mut self, linear: u64, bytes: usize) -> Result<&mut [u8]> {
        let start = linear.wrapping_sub(self.window) as usize;
        start.checked_add(bytes).and_then(|end| self.memory.get_mut(start..end)).ok_or(Stop::Crash)
    }
}

impl Memory for Machine {
    fn fetch(&mut self, _: u64, to: &mut [u8; MAX_LENGTH]) -> usize {
        let bytes = self.code.len().min(MAX_LENGTH);
        to[..bytes].copy_from_slice(&self.code[..bytes]);
        bytes
    }
    fn read(&mut self, linear: u64, to: &mut [u8], _: Access) -> Result<()> {
        to.copy_from_slice(self.at(linear, to.len())?);
        Ok(())
    }
    fn write(&mut self, linear: u64, from: &[u8]) -> Result<()> {
        self.at(linear, from.len())?.copy_from_slice(from);
        Ok(())
    }
    fn compare_exchange(&mut self, linear: u64, old: &[u8], new: &[u8]) -> Result<bool> {
        let at = self.at(linear, old.len())?;
        assert_eq!(at, old);
        at.copy_from_slice(new);
        Ok(true)
    }
    fn check_write(&mut self, linear: u64, bytes: usize) -> Result<()> {
        self.at(linear, bytes).map(|_| ())
    }
    fn read_port(&mut self, _: u16, _: u8) -> Result<u32> {
        Err(Stop::Crash)
    }
    fn write_port(&mut self, _: u16, _: u8, _: u32) -> Result<()> {
        Err(Stop::Crash)
    }
    fn commit(&mut self) {}
}

impl System for Machine {
    fn may_use_port(&mut self, _: u16, _: u8) -> Result<bool> {
        Ok(false)
    }
    fn vector(&mut self, number: u8) -> u128 {
        self.vectors[usize::from(number)]
    }
    fn set_vector(&mut self, number: u8, value: u128) {
        self.vectors[usize::from(number)] = value;
    }
    fn read_control(&mut self, _: u8) -> Result<u64> {
        Err(Stop::Crash)
    }
    fn write_control(&mut self, _: u8, _: u64) -> Result<()> {
        Err(Stop::Crash)
    }
    fn read_debug(&mut self, _: u8) -> Result<u64> {
        Err(Stop::Crash)
    }
    fn write_debug(&mut self, _: u8, _: u64) -> Result<()> {
        Err(Stop::Crash)
    }
    fn read_msr(&mut self, _: u32) -> Result<u64> {
        Err(Stop::Crash)
    }
    fn write_msr(&mut self, _: u32, _: u64) -> Result<()> {
        Err(Stop::Crash)
    }
    fn cpuid(&mut self, _: u32, _: u32) -> Result<[u32; 4]> {
        Err(Stop::Crash)
    }
    fn read_tsc(&mut self) -> u64 {
        0
    }
    fn tsc_aux(&mut self) -> u32 {
        0
    }
    fn write_xcr(&mut self, _: u32, _: u64) -> Result<()> {
        Err(Stop::Crash)
    }
    fn table(&mut self, _: Table) -> DescriptorTable {
        DescriptorTable::default()
    }
    fn set_table(&mut self, _: Table, _: DescriptorTable) {}
    fn invalidate_page(&mut self, _: u64) {}
    fn write_back_caches(&mut self) {}
}

/// Instructions that the emulation does not leave to the client, but for those of [`is_apart`], as far as random code has them.
pub fn claimed(random: &mut Random, window: u64) -> BTreeSet<Code> {
    const STARTS: [&[u8]; 9] =
        [&[], &[], &[0x0f], &[0x0f], &[0x66], &[0x48], &[0x66, 0x0f], &[0xf3, 0x0f], &[0xf2, 0x0f]];
    let mut claimed = BTreeSet::new();
    let mut machine = Machine { code: Vec::new(), window, memory: vec![0; 1024], vectors: [0; 16] };
    for step in 0..150_000 {
        let start = random.pick(&STARTS);
        let rest = (random.next().to_le_bytes(), random.next().to_le_bytes());
        machine.code = [start, &rest.0, &rest.1].concat()[..15].to_vec();
        let bits = if step % 2 == 0 { 64 } else { 32 };
        let mut state = State {
            general: [window + 0x200; 16],
            cr0: 0x8005_0033,
            cr4: 0x620,
            efer: 0xd01,
            level: 3,
            segments: [Segment { attributes: 0xcf3, limit: u32::MAX, ..Segment::default() }; 6],
            ..State::default()
        };
        state.segments[1].attributes = if bits == 64 { 0xafb } else { 0xcfb };
        let decoded = Decoder::new(bits, &machine.code, DecoderOptions::NONE).decode();
        let is_claimed = emulate(&mut state, &mut machine, 1) != Err(Stop::Unhandled);
        if is_claimed && decoded.code() != Code::INVALID && !is_apart(decoded.mnemonic(), decoded.code()) {
            claimed.insert(decoded.code());
        }
    }
    claimed
}

/// Instructions that a Linux program must not, or that give what only this machine knows: they are tested by tables of results.
/// NOPs and fences have codes beyond the manual's, and do nothing.
fn is_apart(mnemonic: Mnemonic, code: Code) -> bool {
    let is_special_mov = matches!(
        code,
        Code::Mov_r64_cr
            | Code::Mov_r32_cr
            | Code::Mov_cr_r64
            | Code::Mov_cr_r32
            | Code::Mov_r64_dr
            | Code::Mov_r32_dr
            | Code::Mov_dr_r64
            | Code::Mov_dr_r32
    );
    is_special_mov
        || matches!(
            mnemonic,
            Mnemonic::In
                | Mnemonic::Out
                | Mnemonic::Insb
                | Mnemonic::Insw
                | Mnemonic::Insd
                | Mnemonic::Outsb
                | Mnemonic::Outsw
                | Mnemonic::Outsd
                | Mnemonic::Cpuid
                | Mnemonic::Rdtsc
                | Mnemonic::Rdtscp
                | Mnemonic::Smsw
                | Mnemonic::Lmsw
                | Mnemonic::Sgdt
                | Mnemonic::Sidt
                | Mnemonic::Lgdt
                | Mnemonic::Lidt
                | Mnemonic::Cli
                | Mnemonic::Sti
                | Mnemonic::Hlt
                | Mnemonic::Clts
                | Mnemonic::Invlpg
                | Mnemonic::Invd
                | Mnemonic::Wbinvd
                | Mnemonic::Rdmsr
                | Mnemonic::Wrmsr
                | Mnemonic::Xsetbv
                | Mnemonic::Nop
                | Mnemonic::Lfence
                | Mnemonic::Mfence
                | Mnemonic::Sfence
        )
}
