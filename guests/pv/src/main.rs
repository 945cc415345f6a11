//! A bare 64-bit paravirtualised kernel that asks its hypervisor for what it must give and for what it must refuse:
//! it maps page tables writably, uses frames that it does not own, passes wild pointers and sizes to every hypercall
//! and executes privileged instructions. It prints what came of each as `group.case: answer` on its console.
//!
//! The command line chooses: `run=list` prints what there is, `run=GROUP` runs a group of cases that the kernel
//! survives, `run=crash.NAME` the one case that has to end the domain.
//!
//! On the host it is a program that does nothing: there only its tests run, and lints.

#![cfg_attr(target_os = "none", no_std, no_main)]
#![cfg_attr(not(target_os = "none"), allow(dead_code))]
// `attempt!` takes the instructions that a case is about, and its operands.
#![allow(clippy::macro_metavars_in_unsafe)]

mod call;
mod cases;
mod console;
mod entry;
mod memory;
mod report;
mod trap;

use memory::Guest;
use xen_abi::sched::{SHUTDOWN_CRASH, SHUTDOWN_POWEROFF};

#[cfg(not(target_os = "none"))]
fn main() {}

/// What runs first, on the kernel's own stack; `start_info` is the address that the domain builder left in RSI.
#[cfg_attr(target_os = "none", unsafe(no_mangle))]
pub extern "C" fn guest_main(start_info: u64) -> ! {
    // SAFETY: the entry code passes on what the builder gave, and does it once.
    let guest = unsafe { Guest::new(start_info) };
    console::open(&guest);
    trap::install();
    match run_argument(guest.command_line()) {
        "list" => cases::list(),
        name => cases::run(&guest, name),
    }
    say!("done");
    call::shutdown(SHUTDOWN_POWEROFF)
}

/// The word after `run=` on the command line; `list` where there is none.
fn run_argument(command_line: &str) -> &str {
    command_line.split_ascii_whitespace().find_map(|word| word.strip_prefix("run=")).unwrap_or("list")
}

/// A bug in this kernel: said on the console, then the domain ends as crashed.
#[cfg(target_os = "none")]
#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    say!("panic: {}", info.message());
    call::shutdown(SHUTDOWN_CRASH)
}

#[cfg(not(target_os = "none"))]
const _: u32 = SHUTDOWN_CRASH;

#[cfg(test)]
mod tests {
    use super::run_argument;

    #[test]
    fn the_command_line_chooses() {
        assert_eq!(run_argument("console=hvc0 run=mmu quiet"), "mmu");
        assert_eq!(run_argument("quiet"), "list");
        assert_eq!(run_argument("rerun=1"), "list");
    }
}
