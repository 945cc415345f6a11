//! Debug keys: each logs a report. They come from the serial console and from the toolstack (`xl debug-keys`).

use domain::{Arch, Hypervisor};

/// Acts on a key.
pub fn press<A: Arch>(hypervisor: &Hypervisor<A>, key: u8) {
    let _ = (hypervisor, key);
}
