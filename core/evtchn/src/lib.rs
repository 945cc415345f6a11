//! Event channels of one domain: ports, both ABIs.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
