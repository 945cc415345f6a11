//! What bare 64-bit test kernels share, paravirtualised or translated (PVH or HVM): how they begin, their traps, memory, hypercalls,
//! events, grants, and a console to print on. A kernel is a binary that names its functions by [`kernel!`].

#![cfg_attr(target_os = "none", no_std)]
// `attempt!` takes the instructions that a case is about, and its operands.
#![allow(clippy::macro_metavars_in_unsafe)]

pub mod call;
pub mod console;
pub mod entry;
pub mod grants;
pub mod memory;
pub mod pvh;
pub mod report;
pub mod second;
pub mod shared;
pub mod trap;

use memory::Guest;
use xen_abi::sched::{SHUTDOWN_CRASH, SHUTDOWN_POWEROFF};

/// The functions of a kernel.
pub struct Kernel {
    /// What it does, with the value of `run=` on its command line (`list` where there is none); its end is the domain's.
    pub run: fn(&Guest, &str),
    /// What its second processor does.
    pub second: fn() -> !,
    /// Takes an interrupt of a translated guest that is no event, and NMIs.
    pub interrupt: fn(u8),
}

#[cfg(target_os = "none")]
unsafe extern "Rust" {
    /// The kernel that is linked with this crate: see [`kernel!`].
    #[link_name = "xenolith_guest_kernel"]
    safe static KERNEL: Kernel;
}

/// On the host there is none.
#[cfg(not(target_os = "none"))]
static KERNEL: Kernel = Kernel { run: |_, _| {}, second: || panic!("no kernel"), interrupt: |_| {} };

/// Makes a [`Kernel`] the one of this binary.
#[macro_export]
macro_rules! kernel {
    ($kernel:expr) => {
        #[cfg_attr(target_os = "none", unsafe(export_name = "xenolith_guest_kernel"))]
        static KERNEL: $crate::Kernel = $kernel;

        #[cfg(not(target_os = "none"))]
        fn main() {
            let _ = &KERNEL;
        }
    };
}

/// What runs first, on the kernel's own stack; `start_info` is the address that the domain builder left in RSI.
#[cfg_attr(target_os = "none", unsafe(no_mangle))]
pub extern "C" fn guest_main(start_info: u64) -> ! {
    // SAFETY: the entry code passes on what the builder gave, and does it once.
    begin(&unsafe { Guest::new(start_info) })
}

/// The same in a translated guest, with the physical address that the builder left in EBX.
#[cfg_attr(target_os = "none", unsafe(no_mangle))]
pub extern "C" fn translated_main(start_info: u64) -> ! {
    pvh::begin();
    // SAFETY: the entry code passes on what the builder gave, and does it once.
    begin(&unsafe { Guest::translated(start_info) })
}

/// Where the second processor begins.
#[cfg_attr(target_os = "none", unsafe(no_mangle))]
pub extern "C" fn second_main() -> ! {
    (KERNEL.second)()
}

fn begin(guest: &Guest) -> ! {
    console::open(guest);
    trap::install();
    (KERNEL.run)(guest, run_argument(guest.command_line()));
    say!("done");
    call::shutdown(SHUTDOWN_POWEROFF)
}

/// The word after `run=` on the command line; `list` where there is none.
fn run_argument(command_line: &str) -> &str {
    command_line.split_ascii_whitespace().find_map(|word| word.strip_prefix("run=")).unwrap_or("list")
}

/// A bug in a kernel: said on the console, then the domain ends as crashed.
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
