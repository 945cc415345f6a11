//! The two 8259s, which are moved out of the way and masked (8259A datasheet).

use crate::vectors;
use hal::ports;

/// Command and data ports of the first and the second 8259.
const PORTS: [(u16, u16); 2] = [(0x20, 0x21), (0xa0, 0xa1)];

/// Moves both to [`vectors::LEGACY`] and masks all their pins. What they still deliver is spurious.
pub fn mask_all() {
    for (index, (command, data)) in PORTS.into_iter().enumerate() {
        ports::write8(data, 0xff);
        // ICW1: edge, cascaded, ICW4 follows. ICW2: vector. ICW3: the cascade's pin. ICW4: 8086 mode.
        ports::write8(command, 0x11);
        ports::write8(data, vectors::LEGACY + 8 * index as u8);
        ports::write8(data, if index == 0 { 1 << 2 } else { 2 });
        ports::write8(data, 0x01);
        ports::write8(data, 0xff);
    }
}
