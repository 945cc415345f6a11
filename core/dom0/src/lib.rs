//! Loads the control domain: from image, memory and command line to a plan that the architecture carries out.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
