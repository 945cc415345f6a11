//! Registers of the local APIC and the I/O APIC.
