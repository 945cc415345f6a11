//! The kernel as a translated guest, PVH or HVM: its own page tables, its own interrupts, hypercalls by VMMCALL.

pub mod board;
mod start;

pub use start::top_table;

use crate::call::{call3, op};
use crate::entry;
use core::arch::asm;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::*};
use xen_abi::cpuid::xen_cpuid_leaf;
use xen_abi::hvm_op::{HVMOP_GET_PARAM, HVMOP_SET_PARAM, HvmParam};
use xen_abi::hvm_params::*;
use xen_abi::memory::*;
use xen_abi::xen::*;

/// Vector under which events come.
pub const EVENTS: u8 = 0xf3;
/// Selector of the kernel's code.
const CODE: u16 = 8;
/// Present interrupt gate; interrupts that user code may make are none.
const GATE: u64 = 0x8e00;

/// Whether this is a translated guest.
static TRANSLATED: AtomicBool = AtomicBool::new(false);
/// Whether it has a board with devices, too: whether it is an HVM guest.
static BOARD: AtomicBool = AtomicBool::new(false);
/// Interrupts that came, by vector, and NMIs under theirs.
static CAME: [AtomicU32; 256] = [const { AtomicU32::new(0) }; 256];

/// Descriptors of interrupts, two words each.
struct Gates(UnsafeCell<[[u64; 2]; 256]>);

// SAFETY: written before the first interrupt, and by `set_gate` for vectors that do not come meanwhile.
unsafe impl Sync for Gates {}

static GATES: Gates = Gates(UnsafeCell::new([[0; 2]; 256]));

/// Whether this is a translated guest.
pub fn is_translated() -> bool {
    TRANSLATED.load(Relaxed)
}

/// Says that it is one.
pub fn begin() {
    TRANSLATED.store(true, Relaxed);
}

/// Whether this is an HVM guest.
pub fn has_board() -> bool {
    BOARD.load(Relaxed)
}

/// Says that it is one.
pub fn begin_with_board() {
    BOARD.store(true, Relaxed);
}

/// What CPUID says: eax, ebx, ecx, edx.
pub fn cpuid(leaf: u32, subleaf: u32) -> [u32; 4] {
    let found = core::arch::x86_64::__cpuid_count(leaf, subleaf);
    [found.eax, found.ebx, found.ecx, found.edx]
}

fn gate_to(at: u64) -> [u64; 2] {
    [at & 0xffff | u64::from(CODE) << 16 | GATE << 32 | (at >> 16 & 0xffff) << 48, at >> 32]
}

/// Has interrupts of `vector` go to `handler`, which has to leave by IRET.
pub fn set_gate(vector: u8, handler: u64) {
    // SAFETY: within the table; the vector's interrupts are not under way, since callers keep them off.
    unsafe { (GATES.0.get() as *mut [u64; 2]).add(usize::from(vector)).write_volatile(gate_to(handler)) };
}

/// Sets up interrupts, and has the hypervisor fill the page of hypercalls.
pub fn install() {
    // SAFETY: nothing else refers to the table, and no interrupt comes yet.
    let gates = unsafe { &mut *GATES.0.get() };
    for (vector, gate) in gates.iter_mut().enumerate() {
        *gate = gate_to(entry::interrupt_stub(vector as u8));
    }
    let descriptor = [0xfff_u64 << 48, GATES.0.get() as u64];
    // SAFETY: the descriptor names the table, whose gates lead to the kernel's stubs.
    unsafe { asm!("lidt [{}]", in(reg) (&raw const descriptor) as u64 + 6) };
    if has_board() {
        board::hush();
    }
    let [_, register, ..] = cpuid(xen_cpuid_leaf(2), 0);
    write_msr(register, physical(entry::hypercall_stub(0)));
}

/// Physical address of a byte of the kernel.
pub fn physical(address: u64) -> u64 {
    address - crate::memory::VIRT_BASE
}

/// Reads a model-specific register that is there.
pub fn read_msr(register: u32) -> u64 {
    let (low, high): (u64, u64);
    // SAFETY: reading has no effect on memory.
    unsafe { asm!("rdmsr", in("ecx") register, out("rax") low, out("rdx") high) };
    high << 32 | low
}

/// Writes a model-specific register that is there.
pub fn write_msr(register: u32, value: u64) {
    // SAFETY: callers write registers that change nothing which the compiler relies on.
    unsafe { asm!("wrmsr", in("ecx") register, in("rax") value, in("rdx") value >> 32) };
}

/// Whether interrupts may come.
pub fn allow_interrupts(allowed: bool) {
    // SAFETY: the stubs preserve all registers.
    unsafe {
        if allowed {
            asm!("sti", "nop");
        } else {
            asm!("cli");
        }
    }
}

/// Waits for an interrupt, and takes it; none come afterwards.
pub fn halt() {
    // SAFETY: as above.
    unsafe { asm!("sti", "hlt", "cli") };
}

/// An interrupt or NMI, but for exceptions.
pub fn interrupt(vector: u8) {
    CAME[usize::from(vector)].fetch_add(1, SeqCst);
    if vector == EVENTS {
        crate::shared::upcall();
    } else {
        (crate::KERNEL.interrupt)(vector);
    }
}

/// How often an interrupt came.
pub fn came(vector: u8) -> u32 {
    CAME[usize::from(vector)].load(SeqCst)
}

/// A parameter of the domain, or an errno.
pub fn parameter(index: u32) -> core::result::Result<u64, i64> {
    let mut call = HvmParam { domid: DOMID_SELF, pad: 0, index, value: 0 };
    match op(HYPERVISOR_HVM_OP, HVMOP_GET_PARAM, &mut call) {
        0 => Ok(call.value),
        error => Err(error),
    }
}

/// Sets a parameter of the domain.
pub fn set_parameter(index: u32, value: u64) -> i64 {
    op(HYPERVISOR_HVM_OP, HVMOP_SET_PARAM, &mut HvmParam { domid: DOMID_SELF, pad: 0, index, value })
}

/// Has events come by their vector.
pub fn hear_events() -> i64 {
    set_parameter(HVM_PARAM_CALLBACK_IRQ, u64::from(HVM_PARAM_CALLBACK_TYPE_VECTOR) << 56 | u64::from(EVENTS))
}

/// Has a page of the hypervisor's appear as the domain's frame `gpfn`.
pub fn add_to_physmap(space: u32, idx: u64, gpfn: u64) -> i64 {
    let mut call = AddToPhysmap { domid: DOMID_SELF, size: 0, space, idx, gpfn };
    op(HYPERVISOR_MEMORY_OP, XENMEM_ADD_TO_PHYSMAP, &mut call)
}

/// Makes a virtual processor start.
pub fn processor_up(vcpu: u32) -> i64 {
    call3(HYPERVISOR_VCPU_OP, xen_abi::vcpu::VCPUOP_UP.into(), vcpu.into(), 0)
}
