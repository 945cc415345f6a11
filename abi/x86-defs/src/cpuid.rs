//! CPUID leaves and feature bits.
