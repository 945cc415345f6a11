//! The devices of the mainboard together: guests as they are, and one at random.

mod guests;
mod machine;
mod random;
