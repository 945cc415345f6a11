//! What a guest that knows Hyper-V finds.

use viridian::*;
use xen_abi::hvm_params::*;

/// What xl's `viridian = 1` stands for.
const USUAL: u32 = HVMPV_BASE_FREQ | HVMPV_TIME_REF_COUNT | HVMPV_APIC_ASSIST | HVMPV_CRASH_CTL;
/// Windows 10, as it says itself.
const WINDOWS: u64 = 0x0001_040a_0000_4a61;
const TSC: Tsc = Tsc { now: 0, khz: 2_000_000, is_reliable: true };

/// A guest with four pages of memory that keeps what it is asked.
#[derive(Default)]
struct Guest {
    memory: Vec<u8>,
    asked: Vec<String>,
    priority: u8,
    command: u64,
    is_busy: bool,
}

impl Guest {
    fn new() -> Guest {
        Guest { memory: vec![0xaa; 4 * 4096], ..Guest::default() }
    }

    fn word(&self, gpa: usize) -> u64 {
        u64::from_le_bytes(*self.memory[gpa..].first_chunk().unwrap())
    }
}

impl Memory for Guest {
    fn read_memory(&self, gpa: u64, to: &mut [u8]) -> bool {
        let found = self.memory.get(gpa as usize..).and_then(|rest| rest.get(..to.len()));
        found.map(|from| to.copy_from_slice(from)).is_some()
    }
    fn write_memory(&mut self, gpa: u64, from: &[u8]) -> bool {
        let found = self.memory.get_mut(gpa as usize..).and_then(|rest| rest.get_mut(..from.len()));
        found.map(|to| to.copy_from_slice(from)).is_some()
    }
}

impl Owner for Guest {
    fn end_interrupt(&mut self) {
        self.asked.push("end".into());
    }
    fn command(&self) -> u64 {
        self.command
    }
    fn send(&mut self, command: u64) {
        self.command = command;
        self.asked.push("send".into());
    }
    fn task_priority(&self) -> u8 {
        self.priority
    }
    fn set_task_priority(&mut self, priority: u8) {
        self.priority = priority;
    }
    fn crashed(&mut self, parameters: &[u64; 5]) {
        self.asked.push(format!("crashed {parameters:x?}"));
    }
    fn give_way(&mut self) {
        self.asked.push("give way".into());
    }
    fn flush(&mut self, vcpus: Option<u64>) -> bool {
        self.asked.push(format!("flush {vcpus:x?}"));
        !self.is_busy
    }
}

/// One vCPU of a guest.
struct Vcpu {
    partition: Partition,
    processor: Processor,
    guest: Guest,
    tsc: Tsc,
}

impl Vcpu {
    fn new(parts: u32) -> Vcpu {
        Vcpu { partition: Partition::new(parts, &TSC), processor: Processor::new(3), guest: Guest::new(), tsc: TSC }
    }

    fn read(&self, number: u32) -> Result<u64, Fault> {
        self.processor.read(&self.partition, &self.guest, &self.tsc, number)
    }

    fn write(&mut self, number: u32, value: u64) -> Result<(), Fault> {
        match Partition::owns(number) {
            true => self.partition.write(&mut self.guest, &self.tsc, number, value),
            false => self.processor.write(&mut self.guest, number, value),
        }
    }
}

#[test]
fn leaves_as_on_xen() {
    let text = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).map(char::from).collect::<String>();
    let [last, name @ ..] = leaf(USUAL, 0, 0x4000_0000);
    assert_eq!((last, text(&name)), (0x4000_0006, "Microsoft Hv".into()));
    assert_eq!(text(&leaf(USUAL, 0, 0x4000_0001)[..1]), "Hv#1");
    assert_eq!((leaf(USUAL, 0, 0x4000_0002), leaf(USUAL, 0, 0x4000_0004)), ([0; 4], [0; 4]));
    assert_eq!(leaf(USUAL, WINDOWS, 0x4000_0002), [0x1772, 0x0006_0000, 0, 0]);
    assert_eq!(leaf(USUAL, 0, 0x4000_0003), [0x872, 0, 0, 0x400]);
    assert_eq!(leaf(HVMPV_BASE_FREQ | HVMPV_NO_FREQ, 0, 0x4000_0003), [0x70, 0, 0, 0]);
    assert_eq!(leaf(SERVED & !HVMPV_NO_FREQ, 0, 0x4000_0003), [0xa72, 0, 0, 0x408]);
    assert_eq!(leaf(USUAL, WINDOWS, 0x4000_0004), [0x28, 2047, 0, 0]);
    assert_eq!(leaf(SERVED, WINDOWS, 0x4000_0004)[0], 0x2c);
    // Who is not Windows NT gets no recommendations.
    assert_eq!(leaf(SERVED, 0x8100_0000_0000_0000, 0x4000_0004), [0; 4]);
    assert_eq!((leaf(USUAL, 0, 0x4000_0005)[0], leaf(SERVED, 0, 0x4000_0005)[0]), (0, u32::MAX));
    assert_eq!(leaf(USUAL, 0, 0x4000_0006), [0xa, 0, 0, 0]);
    assert_eq!((leaf(USUAL, WINDOWS, 0x4000_0007), leaf(USUAL, WINDOWS, 0x4000_00ff)), ([0; 4], [0; 4]));
}

#[test]
fn identity_and_hypercall_page() {
    let mut vcpu = Vcpu::new(USUAL);
    assert_eq!((vcpu.read(0x4000_0000), vcpu.read(0x4000_0002)), (Ok(0), Ok(3)));
    vcpu.write(0x4000_0000, WINDOWS).unwrap();
    assert_eq!((vcpu.read(0x4000_0000), vcpu.partition.os_id()), (Ok(WINDOWS), WINDOWS));
    vcpu.write(0x4000_0002, 9).unwrap();
    assert_eq!(vcpu.read(0x4000_0002), Ok(3));
    vcpu.write(0x4000_0001, 0x1000).unwrap();
    assert_eq!(vcpu.guest.memory[0x1000], 0xaa, "not enabled");
    vcpu.write(0x4000_0001, 0x1001).unwrap();
    assert_eq!(vcpu.read(0x4000_0001), Ok(0x1001));
    assert_eq!(vcpu.guest.memory[0x1000..0x100a], [0x0d, 0, 0, 0, 0x80, 0x0f, 0x01, 0xd9, 0xc3, 0xcc]);
    assert_eq!((vcpu.guest.memory[0x1fff], vcpu.guest.memory[0x2000]), (0xcc, 0xaa));
    // A page that is not there changes nothing else.
    vcpu.write(0x4000_0001, 1 << 40 | 1).unwrap();
    assert_eq!(vcpu.read(0x4000_0001), Ok(1 << 40 | 1));
}

#[test]
fn local_apic() {
    let mut vcpu = Vcpu::new(USUAL);
    vcpu.write(0x4000_0070, 0).unwrap();
    assert_eq!(vcpu.read(0x4000_0070), Err(Fault));
    vcpu.write(0x4000_0071, 0x0312_3456_000c_18ff).unwrap();
    assert_eq!(vcpu.read(0x4000_0071), Ok(0x0300_0000_000c_08ff), "without delivery status");
    vcpu.write(0x4000_0072, 0x1c0).unwrap();
    assert_eq!((vcpu.read(0x4000_0072), vcpu.guest.priority), (Ok(0xc0), 0xc0));
    assert_eq!(vcpu.guest.asked, ["end", "send"]);
}

#[test]
fn time_goes_by_the_counter() {
    let mut vcpu = Vcpu::new(USUAL);
    assert_eq!((vcpu.read(0x4000_0020), vcpu.read(0x4000_0022)), (Ok(0), Ok(2_000_000_000)));
    assert_eq!(vcpu.read(0x4000_0023), Ok(100_000_000));
    // A second is ten million units; the scale is cut off, so it may be a little less.
    vcpu.tsc.now = 2_000_000_000;
    let after = vcpu.read(0x4000_0020).unwrap();
    assert!((9_999_990..=10_000_000).contains(&after), "{after}");
    let paused = vcpu.tsc;
    vcpu.partition.time.freeze(&paused);
    vcpu.tsc.now = 50_000_000_000;
    assert_eq!(vcpu.read(0x4000_0020), Ok(after));
    let tsc = vcpu.tsc;
    vcpu.partition.time.thaw(&tsc);
    assert_eq!(vcpu.read(0x4000_0020), Ok(after));
    vcpu.tsc.now += 2_000_000;
    assert!((9_999..=10_001).contains(&(vcpu.read(0x4000_0020).unwrap() - after)));
    // On another host, whose counter is behind.
    vcpu.partition.time.set(77);
    vcpu.partition.time.thaw(&TSC);
    vcpu.tsc.now = 0;
    assert_eq!(vcpu.read(0x4000_0020), Ok(77));
    assert_eq!((vcpu.write(0x4000_0020, 1), vcpu.write(0x4000_0022, 1)), (Err(Fault), Err(Fault)));
    let less = Vcpu::new(HVMPV_BASE_FREQ | HVMPV_NO_FREQ);
    for number in [0x4000_0020, 0x4000_0021, 0x4000_0022, 0x4000_0023] {
        assert_eq!(less.read(number), Err(Fault), "{number:x}");
    }
}

/// Reference time as a guest computes it from its page.
fn by_page(vcpu: &Vcpu, gpa: usize) -> u64 {
    let (scale, offset) = (vcpu.guest.word(gpa + 8), vcpu.guest.word(gpa + 16));
    (((u128::from(vcpu.tsc.now) * u128::from(scale)) >> 64) as u64).wrapping_add(offset)
}

#[test]
fn the_reference_page_agrees_with_the_register() {
    assert_eq!(Vcpu::new(USUAL).write(0x4000_0021, 0x1001), Err(Fault));
    let mut vcpu = Vcpu::new(SERVED & !HVMPV_NO_FREQ);
    vcpu.tsc.now = 123_456_789_012;
    vcpu.write(0x4000_0021, 0x1001).unwrap();
    assert_eq!((vcpu.guest.word(0x1000), vcpu.guest.word(0x1ff8)), (1, 0));
    assert_eq!(by_page(&vcpu, 0x1000), vcpu.read(0x4000_0020).unwrap());
    let tsc = Tsc { now: 5, khz: 3_000_000, ..vcpu.tsc };
    vcpu.partition.time.freeze(&vcpu.tsc);
    vcpu.partition.time.thaw(&tsc);
    vcpu.tsc = tsc;
    vcpu.partition.refresh(&mut vcpu.guest, &tsc);
    assert_eq!(vcpu.guest.word(0x1000), 2);
    assert_eq!(by_page(&vcpu, 0x1000), vcpu.read(0x4000_0020).unwrap());
    vcpu.partition.refresh(&mut vcpu.guest, &Tsc { is_reliable: false, ..tsc });
    assert_eq!(vcpu.guest.word(0x1000) as u32, 0, "no way");
}

#[test]
fn ends_of_interrupts_are_spared() {
    let mut vcpu = Vcpu::new(USUAL);
    vcpu.processor.spare_end(USUAL, &mut vcpu.guest);
    assert!(!vcpu.processor.takes_end(&vcpu.guest), "no page");
    vcpu.write(0x4000_0073, 0x2001).unwrap();
    assert_eq!((vcpu.read(0x4000_0073), vcpu.guest.word(0x2000), vcpu.guest.word(0x2ff8)), (Ok(0x2001), 0, 0));
    vcpu.processor.spare_end(USUAL, &mut vcpu.guest);
    assert_eq!(vcpu.guest.memory[0x2000], 1);
    assert!(!vcpu.processor.takes_end(&vcpu.guest), "the guest has not looked yet");
    vcpu.guest.memory[0x2000] = 0;
    assert!(vcpu.processor.takes_end(&vcpu.guest) && !vcpu.processor.takes_end(&vcpu.guest));
    vcpu.processor.spare_end(USUAL, &mut vcpu.guest);
    vcpu.processor.need_end(&mut vcpu.guest);
    assert_eq!(vcpu.guest.memory[0x2000], 0);
    assert!(!vcpu.processor.takes_end(&vcpu.guest), "it was taken back");
    let mut without = Vcpu::new(HVMPV_BASE_FREQ);
    without.write(0x4000_0073, 0x2001).unwrap();
    without.processor.spare_end(HVMPV_BASE_FREQ, &mut without.guest);
    assert_eq!(without.guest.memory[0x2000], 0);
}

#[test]
fn crashes_are_told() {
    let mut vcpu = Vcpu::new(USUAL);
    for number in 0..5 {
        vcpu.write(0x4000_0100 + number, u64::from(number) + 0xe0).unwrap();
    }
    assert_eq!((vcpu.read(0x4000_0104), vcpu.read(0x4000_0105)), (Ok(0xe4), Ok(1 << 63)));
    vcpu.write(0x4000_0105, 1).unwrap();
    assert!(vcpu.guest.asked.is_empty());
    vcpu.write(0x4000_0105, 1 << 63).unwrap();
    assert_eq!(vcpu.guest.asked, ["crashed [e0, e1, e2, e3, e4]"]);
    assert_eq!(vcpu.write(0x4000_0106, 0), Err(Fault));
}

#[test]
fn calls() {
    let mut guest = Guest::new();
    assert_eq!(call(&mut guest, 0x8, 0), Some(0));
    assert_eq!((call(&mut guest, 0x5c, 0), call(&mut guest, 0x8001, 0)), (Some(2), Some(2)));
    let parameters = |flags: u64, vcpus: u64| [7, flags, vcpus].map(u64::to_le_bytes).concat();
    guest.write_memory(0x100, &parameters(0, 0b101));
    assert_eq!(call(&mut guest, 2, 0x100), Some(0));
    guest.write_memory(0x100, &parameters(1, 0));
    assert_eq!(call(&mut guest, 0x0005_0000_0003 | 0xffff << 48, 0x100), Some(5 << 32));
    assert_eq!(call(&mut guest, 0x1_0002, 0x100), Some(5), "parameters in registers");
    assert_eq!(call(&mut guest, 2, 0x3ff0), Some(5), "no memory");
    guest.is_busy = true;
    assert_eq!(call(&mut guest, 2, 0x100), None);
    assert_eq!(guest.asked, ["give way", "flush Some(5)", "flush None", "flush None"]);
}

#[test]
fn records_come_back() {
    let mut vcpu = Vcpu::new(SERVED & !HVMPV_NO_FREQ);
    for (number, value) in [(0, WINDOWS), (1, 0x1001), (0x21, 0x2001), (0x73, 0x3001)] {
        vcpu.write(FIRST_MSR + number, value).unwrap();
    }
    vcpu.processor.spare_end(SERVED, &mut vcpu.guest);
    vcpu.tsc.now = 7_000_000_000;
    let (domain, processor) = (vcpu.partition.save(&vcpu.tsc), vcpu.processor.save());
    assert_eq!(processor.apic_assist_pending, 1);

    let mut other = Vcpu::new(SERVED & !HVMPV_NO_FREQ);
    other.tsc = Tsc { now: 99, khz: 1_000_000, is_reliable: true };
    other.guest.memory = vcpu.guest.memory.clone();
    other.partition.load(&mut other.guest, &other.tsc, &domain);
    other.processor.load(&processor);
    for number in [0, 1, 0x20, 0x21, 0x73] {
        assert_eq!(other.read(FIRST_MSR + number), vcpu.read(FIRST_MSR + number), "{number:#x}");
    }
    assert_eq!((other.partition.save(&other.tsc), other.processor.save()), (domain, processor));
    assert_eq!(by_page(&other, 0x2000), domain.time_ref_count, "by the counter of the new host");
    other.guest.memory[0x3000] = 0;
    assert!(other.processor.takes_end(&other.guest));
}
