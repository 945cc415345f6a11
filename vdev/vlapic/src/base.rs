//! IA32_APIC_BASE: the APIC's mode (SDM vol. 3, 11.4.4 and figure 11-27).

use x86_defs::apic::{APIC_BASE_BSP, APIC_BASE_ENABLE, APIC_BASE_X2APIC};

use crate::lapic::{DEFAULT_BASE, Lapic};
use crate::port::Port;
use crate::registers as reg;

/// The access raises a general-protection exception with error code 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault;

const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
const MODE: u64 = APIC_BASE_ENABLE | APIC_BASE_X2APIC;
/// The bits that the register has.
pub(crate) const BASE_BITS: u64 = ADDRESS | APIC_BASE_BSP | MODE;

impl Lapic {
    /// Writes IA32_APIC_BASE; `x2apic` is whether the guest's CPUID has that mode. A success is to be treated as
    /// [`crate::Action::Reconfigured`].
    ///
    /// Faults for reserved bits, for a change of mode that the manual forbids (x2APIC is entered from xAPIC only and left
    /// to "off" only) and, as on Xen, for a page that is not at its default address while it is in use.
    pub fn set_base(&mut self, port: &Port, value: u64, x2apic: bool) -> Result<(), Fault> {
        let reserved = !BASE_BITS | if x2apic { 0 } else { APIC_BASE_X2APIC };
        if value & reserved != 0 {
            return Err(Fault);
        }
        let (old, new) = (self.base & MODE, value & MODE);
        match (old, new) {
            (_, APIC_BASE_X2APIC) | (0, MODE) | (MODE, APIC_BASE_ENABLE) => return Err(Fault),
            (_, APIC_BASE_ENABLE) if value & ADDRESS != DEFAULT_BASE => return Err(Fault),
            _ => self.base = value,
        }
        match (old, new) {
            (0, APIC_BASE_ENABLE) => self.init(port),
            (_, 0) => self.turn_off(port),
            (APIC_BASE_ENABLE, MODE) => {
                self.assign_ids();
                self.publish(port);
            }
            _ => {}
        }
        Ok(())
    }

    /// The ids of x2APIC mode end with it; the others are of no matter before the reset that turning on is.
    fn turn_off(&mut self, port: &Port) {
        self.regs[reg::LDR] = 0;
        self.assign_ids();
        self.timer.end = None;
        self.tsc_deadline = 0;
        self.publish(port);
    }
}
