//! The devices of the mainboard together, as guests use them.

mod guests;
mod machine;
