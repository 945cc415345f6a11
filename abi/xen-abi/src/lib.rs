//! The public interface of Xen 4.20: every structure and number, no logic.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
