//! Instructions against results worked out by hand, and random code.

use proptest::prelude::*;
use std::collections::HashMap;
use std::rc::Rc;
use x86_emulate::*;

const CF: u64 = 1;
const PF: u64 = 4;
const AF: u64 = 0x10;
const ZF: u64 = 0x40;
const SF: u64 = 0x80;
const OF: u64 = 0x800;

#[derive(Clone, Default)]
struct Cpu {
    gpr: [u64; 16],
    rip: u64,
    flags: u64,
    code: Vec<u8>,
    is_32bit: bool,
    is_user: bool,
    iopl: bool,
    msrs: HashMap<u32, u64>,
    control: [u64; 16],
    debug: [u64; 16],
    memory: HashMap<u64, u8>,
    ports: Vec<(u16, u8, u32)>,
    xcr0: u64,
    is_flushed: bool,
    recent: Option<Rc<Recent>>,
}

impl Registers for Cpu {
    fn get(&self, number: u8) -> u64 {
        self.gpr[usize::from(number)]
    }
    fn set(&mut self, number: u8, value: u64) {
        self.gpr[usize::from(number)] = value;
    }
    fn rip(&self) -> u64 {
        self.rip
    }
    fn set_rip(&mut self, rip: u64) {
        self.rip = rip;
    }
    fn flags(&self) -> u64 {
        self.flags
    }
    fn set_flags(&mut self, flags: u64) {
        self.flags = flags;
    }
    fn is_64bit(&self) -> bool {
        !self.is_32bit
    }
    fn segment_base(&self, segment: Segment) -> u64 {
        if segment == Segment::Gs { 0x7000_0000 } else { 0x6000_0000 }
    }
    fn fetch(&self, _: u64, to: &mut [u8; MAX_LENGTH]) -> usize {
        let count = self.code.len().min(to.len());
        to[..count].copy_from_slice(&self.code[..count]);
        count
    }
    fn recent(&self) -> Option<&Recent> {
        self.recent.as_deref()
    }
}

impl Privileged for Cpu {
    fn is_kernel(&self) -> bool {
        !self.is_user
    }
    fn has_iopl(&self) -> bool {
        self.iopl
    }
    fn may_use_port(&self, port: u16, _: u8) -> bool {
        port != 0x66
    }
    fn read_port(&mut self, port: u16, size: u8) -> u32 {
        self.ports.push((port, size, 0));
        0x8765_4321
    }
    fn write_port(&mut self, port: u16, size: u8, value: u32) {
        self.ports.push((port, size, value));
    }
    fn read_memory(&self, address: u64, to: &mut [u8]) -> Result<()> {
        for (index, byte) in to.iter_mut().enumerate() {
            let at = address.wrapping_add(index as u64);
            *byte = *self.memory.get(&at).ok_or(Trap::PageFault { address: at, error_code: 4 })?;
        }
        Ok(())
    }
    fn write_memory(&mut self, address: u64, from: &[u8]) -> Result<()> {
        for (index, byte) in from.iter().enumerate() {
            let at = address.wrapping_add(index as u64);
            *self.memory.get_mut(&at).ok_or(Trap::PageFault { address: at, error_code: 6 })? = *byte;
        }
        Ok(())
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
        self.msrs.get(&number).copied().ok_or(Trap::GP)
    }
    fn write_msr(&mut self, number: u32, value: u64) -> Result<()> {
        self.msrs.insert(number, value);
        Ok(())
    }
    fn cpuid(&mut self, leaf: u32, subleaf: u32) -> Result<[u32; 4]> {
        Ok([leaf, 1, subleaf, 3])
    }
    fn read_tsc(&mut self) -> Result<u64> {
        Ok(0x1_0000_0002)
    }
    fn tsc_aux(&mut self) -> u32 {
        77
    }
    fn read_counter(&mut self, _: u32) -> Result<u64> {
        Err(Trap::Unhandled)
    }
    fn read_xcr(&mut self, _: u32) -> Result<u64> {
        Ok(self.xcr0)
    }
    fn write_xcr(&mut self, _: u32, value: u64) -> Result<()> {
        self.xcr0 = value;
        Ok(())
    }
    fn write_back_caches(&mut self) {
        self.is_flushed = true;
    }
}

fn cpu(code: &[u8]) -> Cpu {
    Cpu { code: code.to_vec(), rip: 0x1000, iopl: true, ..Cpu::default() }
}

fn run(code: &[u8], prepare: impl FnOnce(&mut Cpu)) -> Cpu {
    let mut cpu = cpu(code);
    prepare(&mut cpu);
    assert_eq!(privileged(&mut cpu), Ok(()), "{code:x?}");
    assert_eq!(cpu.rip, 0x1000 + code.len() as u64, "{code:x?}");
    cpu
}

#[test]
fn msrs_go_through_edx_eax() {
    let done = run(&[0x0f, 0x30], |cpu| {
        cpu.gpr = [0; 16];
        cpu.gpr[0] = 0xffff_ffff_8234_0000;
        cpu.gpr[1] = 0xc000_0101;
        cpu.gpr[2] = 0xffff_ffff;
    });
    assert_eq!(done.msrs[&0xc000_0101], 0xffff_ffff_8234_0000);
    let done = run(&[0x0f, 0x32], |cpu| {
        cpu.gpr[1] = 0x10;
        cpu.msrs.insert(0x10, 0x1122_3344_5566_7788);
    });
    assert_eq!((done.gpr[0], done.gpr[2]), (0x5566_7788, 0x1122_3344));
}

#[test]
fn an_unknown_msr_leaves_the_registers() {
    let mut cpu = cpu(&[0x0f, 0x32]);
    assert_eq!(privileged(&mut cpu), Err(Trap::GP));
    assert_eq!(cpu.rip, 0x1000);
}

#[test]
fn control_and_debug_registers() {
    // mov cr3, r12; mov r8, cr4; mov db7, rax; mov rbx, db6; clts; mov rax, cr8.
    assert_eq!(run(&[0x41, 0x0f, 0x22, 0xdc], |cpu| cpu.gpr[12] = 0x5000).control[3], 0x5000);
    assert_eq!(run(&[0x41, 0x0f, 0x20, 0xe0], |cpu| cpu.control[4] = 0x20).gpr[8], 0x20);
    assert_eq!(run(&[0x0f, 0x23, 0xf8], |cpu| cpu.gpr[0] = 0x401).debug[7], 0x401);
    assert_eq!(run(&[0x0f, 0x21, 0xf3], |cpu| cpu.debug[6] = 6).gpr[3], 6);
    assert_eq!(run(&[0x0f, 0x06], |cpu| cpu.control[0] = 0x8005_003b).control[0], 0x8005_0033);
    assert_eq!(run(&[0x44, 0x0f, 0x20, 0xc0], |cpu| cpu.control[8] = 9).gpr[0], 9);
}

#[test]
fn group_seven() {
    assert_eq!(run(&[0x0f, 0x01, 0xd1], |cpu| cpu.gpr[0] = 7).xcr0, 7);
    let done = run(&[0x0f, 0x01, 0xf9], |_| {});
    assert_eq!((done.gpr[0], done.gpr[2], done.gpr[1]), (2, 1, 77));
    // lmsw ax; smsw ecx.
    assert_eq!(run(&[0x0f, 0x01, 0xf0], |cpu| (cpu.gpr[0], cpu.control[0]) = (8, 0x33)).control[0], 0x39);
    assert_eq!(run(&[0x0f, 0x01, 0xe1], |cpu| cpu.control[0] = 0x8005_0033).gpr[1], 0x8005_0033);
    // Among them invlpg gs:[rbx+8]: guests flush by hypercall.
    for refused in
        [&[0x0f, 0x01, 0xf8][..], &[0x65, 0x0f, 0x01, 0x7b, 8], &[0x0f, 0x01, 0x10], &[0xf4], &[0x0f, 0x00, 0xd0]]
    {
        assert_eq!(privileged(&mut cpu(refused)), Err(Trap::Unhandled), "{refused:x?}");
    }
}

#[test]
fn ports() {
    let set = |cpu: &mut Cpu| (cpu.gpr[0], cpu.gpr[2]) = (0xaaaa_bbbb_cccc_dddd, 0x3f8);
    let done = run(&[0xec], set);
    assert_eq!((done.gpr[0], done.ports[0]), (0xaaaa_bbbb_cccc_dd21, (0x3f8, 1, 0)));
    assert_eq!(run(&[0x66, 0xed], set).gpr[0], 0xaaaa_bbbb_cccc_4321);
    assert_eq!(run(&[0xed], set).gpr[0], 0x8765_4321);
    assert_eq!(run(&[0xe6, 0x80], set).ports, [(0x80, 1, 0xdd)]);
    assert_eq!(run(&[0x66, 0xef], set).ports, [(0x3f8, 2, 0xdddd)]);
    assert_eq!(privileged(&mut cpu(&[0xe4, 0x66])), Err(Trap::GP));
}

#[test]
fn repeated_transfers_stop_at_a_fault_and_go_on() {
    let mut cpu = cpu(&[0xf3, 0x6f]);
    cpu.gpr[1] = 3;
    cpu.gpr[6] = 0x2000;
    cpu.memory.extend((0x2000..0x2008).map(|at| (at, at as u8)));
    assert_eq!(privileged(&mut cpu), Err(Trap::PageFault { address: 0x2008, error_code: 4 }));
    assert_eq!((cpu.gpr[1], cpu.gpr[6], cpu.rip), (1, 0x2008, 0x1000));
    assert_eq!(cpu.ports, [(0, 4, 0x0302_0100), (0, 4, 0x0706_0504)]);
    cpu.memory.extend((0x2008..0x200c).map(|at| (at, 9)));
    assert_eq!(privileged(&mut cpu), Ok(()));
    assert_eq!((cpu.gpr[1], cpu.rip), (0, 0x1002));
}

#[test]
fn a_long_transfer_is_cut_off() {
    let mut cpu = cpu(&[0xf3, 0x6c]);
    cpu.gpr[1] = 10_000;
    cpu.memory.extend((0..10_000).map(|at| (at, 0)));
    let mut calls = 0;
    while cpu.rip == 0x1000 {
        assert_eq!(privileged(&mut cpu), Ok(()));
        calls += 1;
    }
    assert!(calls > 1);
    assert_eq!((cpu.ports.len(), cpu.gpr[7]), (10_000, 10_000));
    assert!(cpu.memory.values().all(|byte| *byte == 0x21));
}

#[test]
fn user_code_has_ports_and_little_else() {
    for (code, allowed) in [
        (&[0xec][..], true),
        (&[0x0f, 0xa2], true),
        (&[0x0f, 0x32], false),
        (&[0x0f, 0x06], false),
        (&[0x0f, 0x20, 0xc0], false),
        (&[0x0f, 0x01, 0xd1], false),
    ] {
        let mut cpu = Cpu { is_user: true, ..cpu(code) };
        assert_eq!(privileged(&mut cpu).is_ok(), allowed, "{code:x?}");
    }
    assert_eq!(privileged(&mut Cpu { iopl: false, ..cpu(&[0xfa]) }), Err(Trap::Unhandled));
    run(&[0xfb], |_| {});
}

#[test]
fn forced_cpuid_needs_the_whole_prefix() {
    let cpu = |code: &[u8]| Cpu { memory: (0x1000..).zip(code.iter().copied()).collect(), ..cpu(code) };
    let mut good = cpu(b"\x0f\x0bxen\x0f\xa2");
    good.gpr[0] = 0x4000_0000;
    good.gpr[1] = 5;
    assert_eq!(forced_cpuid(&mut good), Ok(()));
    assert_eq!((good.gpr[..4].to_vec(), good.rip), (vec![0x4000_0000, 5, 3, 1], 0x1007));
    for bad in [&b"\x0f\x0b"[..], b"\x0f\x0bxen\x0f", b"\x0f\x0bxen\x0f\x30"] {
        assert_eq!(forced_cpuid(&mut cpu(bad)), Err(Trap::Unhandled));
    }
}

struct Case {
    code: &'static [u8],
    old: u64,
    value: Option<u64>,
    flags: u64,
}

/// rax = 0x11, rbx = 0x8000, rcx = 3, rdx = 0xffff_ffff_ffff_fffd; carry set.
fn store(code: &[u8]) -> (Cpu, Write) {
    let mut cpu = cpu(code);
    cpu.gpr[..4].copy_from_slice(&[0x11, 3, !2, 0x8000]);
    cpu.flags = CF | 0x202;
    let write = decode_write(&cpu).unwrap_or_else(|| panic!("{code:x?}"));
    (cpu, write)
}

#[test]
fn stores_compute_values_and_flags() {
    let cases = [
        // lock and [rbx], rdx
        Case {
            code: &[0xf0, 0x48, 0x21, 0x13],
            old: 0x8000_0000_0000_0067,
            value: Some(0x8000_0000_0000_0065),
            flags: SF | PF,
        },
        // lock btr qword [rbx], 1
        Case { code: &[0xf0, 0x48, 0x0f, 0xba, 0x33, 1], old: 0x67, value: Some(0x65), flags: CF },
        // lock btr qword [rbx], 3
        Case { code: &[0xf0, 0x48, 0x0f, 0xba, 0x33, 3], old: 0x67, value: Some(0x67), flags: 0 },
        // bts [rbx], rcx; btc [rbx], ecx
        Case { code: &[0x48, 0x0f, 0xab, 0x0b], old: 0, value: Some(8), flags: 0 },
        Case { code: &[0x0f, 0xbb, 0x0b], old: 8, value: Some(0), flags: CF },
        // cmpxchg [rbx], rcx: equal, then not
        Case { code: &[0xf0, 0x48, 0x0f, 0xb1, 0x0b], old: 0x11, value: Some(3), flags: ZF | PF },
        Case { code: &[0xf0, 0x48, 0x0f, 0xb1, 0x0b], old: 0x12, value: None, flags: CF | AF | SF | PF },
        // add byte [rbx], 0x7f; adc; sub; sbb dword
        Case { code: &[0x80, 0x03, 0x7f], old: 1, value: Some(0x80), flags: SF | OF | AF },
        Case { code: &[0x83, 0x13, 0xff], old: 0, value: Some(0), flags: CF | AF | ZF | PF },
        Case { code: &[0x48, 0x83, 0x2b, 1], old: 0, value: Some(u64::MAX), flags: CF | AF | SF | PF },
        Case { code: &[0x83, 0x1b, 0], old: 0x8000_0000, value: Some(0x7fff_ffff), flags: OF | AF | PF },
        // inc, dec: carry stays; neg; not
        Case { code: &[0x48, 0xff, 0x03], old: 0xf, value: Some(0x10), flags: CF | AF },
        Case { code: &[0x48, 0xff, 0x0b], old: 1, value: Some(0), flags: CF | ZF | PF },
        Case { code: &[0x48, 0xf7, 0x1b], old: 1, value: Some(u64::MAX), flags: CF | AF | SF | PF },
        Case { code: &[0x48, 0xf7, 0x13], old: 1, value: Some(!1), flags: CF },
        // mov [rbx], rcx; mov dword [rbx], imm; mov qword [rbx], imm32; or; xor
        Case { code: &[0x48, 0x89, 0x0b], old: 9, value: Some(3), flags: CF },
        Case { code: &[0xc7, 0x03, 1, 2, 3, 0x84], old: 9, value: Some(0x8403_0201), flags: CF },
        Case { code: &[0x48, 0xc7, 0x03, 0xfe, 0xff, 0xff, 0xff], old: 9, value: Some(!1), flags: CF },
        Case { code: &[0x48, 0x09, 0x0b], old: 4, value: Some(7), flags: 0 },
        Case { code: &[0x48, 0x31, 0x0b], old: 3, value: Some(0), flags: ZF | PF },
    ];
    for Case { code, old, value, flags } in cases {
        let (mut cpu, write) = store(code);
        assert_eq!(write.address, 0x8000, "{code:x?}");
        let effect = write.apply(old);
        assert_eq!(effect.value, value, "{code:x?}");
        effect.complete(&mut cpu);
        assert_eq!(cpu.flags, flags | 0x202, "{code:x?}");
        assert_eq!(cpu.rip, 0x1000 + code.len() as u64);
    }
}

#[test]
fn exchanges_give_the_old_value() {
    let (mut cpu, write) = store(&[0x48, 0x87, 0x0b]);
    let effect = write.apply(0x77);
    effect.complete(&mut cpu);
    assert_eq!((effect.value, cpu.gpr[1], write.is_plain()), (Some(3), 0x77, false));

    let (mut cpu, write) = store(&[0xf0, 0x0f, 0xc1, 0x0b]);
    cpu.gpr[1] |= 0xff << 32;
    let effect = write.apply(0x77);
    effect.complete(&mut cpu);
    assert_eq!((effect.value, cpu.gpr[1]), (Some(0x7a), 0x77));

    // cmpxchg byte [rbx], ch: al gets what was there.
    let (mut cpu, write) = store(&[0xf0, 0x0f, 0xb0, 0x2b]);
    cpu.gpr[0] = 0x1111;
    write.apply(0xab).complete(&mut cpu);
    assert_eq!((write.size, cpu.gpr[0]), (1, 0x11ab));
}

#[test]
fn addresses() {
    // mov [rip+0x10], eax; mov gs:[rcx*8+0x20], eax; mov [ecx-4], eax; btr [rbx], rdx; mov [moffs], al.
    assert_eq!(store(&[0x89, 0x05, 0x10, 0, 0, 0]).1.address, 0x1016);
    assert_eq!(store(&[0x65, 0x89, 0x04, 0xcd, 0x20, 0, 0, 0]).1.address, 0x7000_0038);
    assert_eq!(store(&[0x67, 0x89, 0x41, 0xfc]).1.address, 0xffff_ffff);
    assert_eq!(store(&[0x48, 0x0f, 0xb3, 0x13]).1.address, 0x7ff8);
    assert_eq!(store(&[0xa2, 1, 2, 3, 4, 5, 6, 7, 8]).1.address, 0x0807_0605_0403_0201);
    for other in [&[0x48, 0x8b, 0x03][..], &[0xf3, 0x48, 0xab], &[0x0f, 0x11, 0x03], &[0x48, 0x39, 0x03], &[]] {
        assert_eq!(decode_write(&cpu(other)), None, "{other:x?}");
    }
}

proptest! {
    /// Code that changes under the same addresses, in both modes, cut off here and there.
    #[test]
    fn what_was_decoded_before_makes_no_difference(
        runs in prop::collection::vec((0u64..24, 0usize..6, prop::option::of(0usize..8), any::<bool>()), 1..60),
    ) {
        const STORES: [&[u8]; 6] = [
            &[0x48, 0x89, 0x03],
            &[0x89, 0x05, 0x10, 0, 0, 0],
            &[0x89, 0x05, 0x20, 0, 0, 0],
            &[0xf0, 0x48, 0x0f, 0xba, 0x33, 1],
            &[0x48, 0xc7, 0x03, 1, 2, 3, 4],
            &[0x48, 0x8b, 0x03],
        ];
        let recent = Rc::new(Recent::default());
        for (distance, store, cut, is_32bit) in runs {
            let mut code = STORES[store].to_vec();
            code.truncate(cut.unwrap_or(8));
            let fresh = Cpu { rip: 0x1000 + distance, is_32bit, ..cpu(&code) };
            let remembering = Cpu { recent: Some(recent.clone()), ..fresh.clone() };
            prop_assert_eq!(decode_write(&remembering), decode_write(&fresh));
        }
    }

    #[test]
    fn random_code_does_no_harm(code: Vec<u8>, gpr: [u64; 16], is_32bit: bool, is_user: bool, old: u64, start in 0usize..6) {
        const STARTS: [&[u8]; 6] = [&[], &[0x0f], &[0x0f, 0x01], &[0xf3], &[0xf0, 0x48], &[0x0f, 0xba]];
        let code = [STARTS[start], &code].concat();
        let mut first = Cpu { gpr, is_32bit, is_user, ..cpu(&code) };
        let mut second = first.clone();
        let _ = privileged(&mut first);
        prop_assert!(first.rip.wrapping_sub(0x1000) <= 15);
        let _ = forced_cpuid(&mut first);
        if let Some(write) = decode_write(&second) {
            let effect = write.apply(old);
            prop_assert!(effect.value.is_none_or(|value| write.size == 8 || value >> (8 * write.size) == 0));
            effect.complete(&mut second);
        }
    }
}
