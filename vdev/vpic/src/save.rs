//! Xen's record of a chip.

use types::{Errno, Result};
use xen_abi::hvm_save::interrupts as abi;
use xen_abi::hvm_save::interrupts::HwVpic;

use crate::chip::{Chip, Stage};
use crate::{CASCADE, Vpic};

/// In `init_state`: ICW4 will come.
const FOURTH: u8 = 4;
/// In `init_state`: ICW3 will not come.
const SINGLE: u8 = 8;

impl Vpic {
    /// The records of master and slave, instances 0 and 1.
    pub fn save(&self) -> [HwVpic; 2] {
        [save_chip(&self.chips[0]), save_chip(&self.chips[1])]
    }

    /// Takes over the record of one chip. What follows from other state (outputs, the slave's line) is not believed.
    ///
    /// # Errors
    /// `EINVAL` for an instance above 1.
    pub fn load(&mut self, instance: u16, record: &HwVpic) -> Result<()> {
        let chip = self.chips.get_mut(usize::from(instance)).ok_or(Errno::INVAL)?;
        *chip = load_chip(record, instance == 0);
        self.settle();
        Ok(())
    }
}

fn save_chip(chip: &Chip) -> HwVpic {
    let flag = |set: bool, bit: u8| if set { bit } else { 0 };
    let flags = flag(chip.read_in_service, abi::VPIC_READ_ISR)
        | flag(chip.poll, abi::VPIC_POLL)
        | flag(chip.auto_end, abi::VPIC_AUTO_EOI)
        | flag(chip.rotate_on_auto_end, abi::VPIC_ROTATE_ON_AUTO_EOI)
        | flag(chip.fully_nested, abi::VPIC_SPECIAL_FULLY_NESTED)
        | flag(chip.special_mask, abi::VPIC_SPECIAL_MASK)
        | flag(chip.is_master, abi::VPIC_MASTER);
    let stage = match chip.stage {
        Stage::Ready => 0,
        Stage::Vector { single, fourth } => 1 | flag(single, SINGLE) | flag(fourth, FOURTH),
        Stage::Wiring { fourth } => 2 | flag(fourth, FOURTH),
        Stage::Mode => 3 | FOURTH,
    };
    HwVpic {
        irr: chip.request,
        imr: chip.mask,
        isr: chip.in_service,
        irq_base: chip.base,
        elcr: chip.levels,
        int_output: chip.output.into(),
        ..HwVpic::new(stage, chip.first, flags)
    }
}

fn load_chip(record: &HwVpic, is_master: bool) -> Chip {
    let has = |bit: u8| record.flags() & bit != 0;
    let (single, fourth) = (record.init_state() & SINGLE != 0, record.init_state() & FOURTH != 0);
    let mut chip = Chip {
        request: record.irr,
        mask: record.imr,
        in_service: record.isr,
        base: record.irq_base & 0xf8,
        first: record.priority_add() & 7,
        stage: match record.init_state() & 3 {
            0 => Stage::Ready,
            1 => Stage::Vector { single, fourth },
            2 => Stage::Wiring { fourth },
            _ => Stage::Mode,
        },
        read_in_service: has(abi::VPIC_READ_ISR),
        poll: has(abi::VPIC_POLL),
        auto_end: has(abi::VPIC_AUTO_EOI),
        rotate_on_auto_end: has(abi::VPIC_ROTATE_ON_AUTO_EOI),
        fully_nested: has(abi::VPIC_SPECIAL_FULLY_NESTED),
        special_mask: has(abi::VPIC_SPECIAL_MASK),
        ..Chip::new(is_master)
    };
    chip.write_levels(record.elcr);
    if is_master {
        chip.set_request(CASCADE, false);
    }
    chip
}
