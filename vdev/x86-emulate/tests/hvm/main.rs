//! HVM guests' instructions against results worked out by hand, with devices that answer later, and at random. What the host's
//! CPU can be asked is compared in tests/native.

mod addresses;
mod describe;
mod devices;
mod fuzz;
mod machine;
mod strings;
mod system;
