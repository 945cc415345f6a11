//! Interrupt controllers, timers, ACPI tables, and the other CPUs.
#![cfg_attr(not(test), no_std)]
