//! One CPU: descriptors, traps, the way into a guest and back, guest copies, FPU.
#![cfg_attr(not(test), no_std)]
