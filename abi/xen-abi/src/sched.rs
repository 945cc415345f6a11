//! sched.h: `HYPERVISOR_sched_op`.

use crate::GuestHandle;

abi_constants! {
    "sched.h";
    SCHEDOP_YIELD: u32 = 0 => "SCHEDOP_yield";
    SCHEDOP_BLOCK: u32 = 1 => "SCHEDOP_block";
    SCHEDOP_SHUTDOWN: u32 = 2 => "SCHEDOP_shutdown";
    SCHEDOP_POLL: u32 = 3 => "SCHEDOP_poll";
    SCHEDOP_REMOTE_SHUTDOWN: u32 = 4 => "SCHEDOP_remote_shutdown";
    SCHEDOP_SHUTDOWN_CODE: u32 = 5 => "SCHEDOP_shutdown_code";
    SCHEDOP_WATCHDOG: u32 = 6 => "SCHEDOP_watchdog";
    SCHEDOP_PIN_OVERRIDE: u32 = 7 => "SCHEDOP_pin_override";

    SHUTDOWN_POWEROFF: u32 = 0 => "SHUTDOWN_poweroff";
    SHUTDOWN_REBOOT: u32 = 1 => "SHUTDOWN_reboot";
    SHUTDOWN_SUSPEND: u32 = 2 => "SHUTDOWN_suspend";
    SHUTDOWN_CRASH: u32 = 3 => "SHUTDOWN_crash";
    SHUTDOWN_WATCHDOG: u32 = 4 => "SHUTDOWN_watchdog";
    SHUTDOWN_SOFT_RESET: u32 = 5 => "SHUTDOWN_soft_reset";
    SHUTDOWN_MAX: u32 = 5;
}

abi_structs! {
    "sched.h";
    /// Why the domain shuts down.
    Shutdown = "struct sched_shutdown" {
        /// `SHUTDOWN_*`.
        reason: u32,
    }

    /// Ports and a timeout to wait for.
    Poll = "struct sched_poll" {
        ports: GuestHandle<u32>,
        nr_ports: u32,
        _gap0: [u8; 4],
        /// Absolute system time in nanoseconds; 0 for none.
        timeout: u64,
    }

    /// Why another domain shall be marked as shut down.
    RemoteShutdown = "struct sched_remote_shutdown" {
        domain_id: u16,
        _gap0: [u8; 2],
        /// `SHUTDOWN_*`.
        reason: u32,
    }

    /// Sets, pokes or clears a watchdog.
    Watchdog = "struct sched_watchdog" {
        /// 0 to set up a new one.
        id: u32,
        /// Seconds; 0 to clear.
        timeout: u32,
    }

    /// Pins the calling vCPU to a physical CPU for a while.
    PinOverride = "struct sched_pin_override" {
        /// A negative number ends the pinning.
        pcpu: i32,
    }
}
