//! HVM guests' instructions against results worked out by hand, with devices that answer later. What the host's CPU can be asked is
//! compared in tests/native; tests/fuzz has them at random.

mod addresses;
mod describe;
mod devices;
mod machine;
mod strings;
mod system;
mod tables;
mod task_faults;
mod tasks;
