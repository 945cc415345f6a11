use super::*;
use crate::registers::Registers;
use proptest::prelude::*;
use std::cell::RefCell;
use x86_defs::apic::MsiMessage;

/// One function's 256 bytes.
struct Function(RefCell<[u8; 256]>);

impl ConfigSpace for Function {
    fn read(&self, _: Sbdf, register: u16, size: u8) -> u32 {
        let space = self.0.borrow();
        (0..size).map(|byte| u32::from(space[usize::from(register) + usize::from(byte)]) << (8 * byte)).sum()
    }

    fn write(&self, _: Sbdf, register: u16, size: u8, value: u32) {
        let at = usize::from(register);
        self.0.borrow_mut()[at..at + usize::from(size)].copy_from_slice(&value.to_le_bytes()[..size.into()]);
    }
}

const HERE: Sbdf = Sbdf::new(0, 1, 2, 3);

fn function(bytes: &[(usize, u8)]) -> Function {
    let mut space = [0; 256];
    space[6] = 0x10;
    space[0x34] = 0x40;
    bytes.iter().for_each(|(at, value)| space[*at] = *value);
    Function(RefCell::new(space))
}

#[test]
fn names() {
    assert_eq!(HERE.to_string(), "0000:01:02.3");
    assert_eq!(Sbdf::from_devfn(0, 1, 0x13), HERE);
}

#[test]
fn msi_wide_with_masks() {
    // Power management at 0x40, then MSI at 0x50: 64-bit, maskable, up to 8 messages.
    let config = function(&[(0x40, 1), (0x41, 0x50), (0x50, 5), (0x52, 0x86), (0x53, 1)]);
    let msi = Msi::find(&config, HERE).unwrap();
    assert_eq!(msi.max_messages(), 8);
    let message = MsiMessage::fixed(0x48, 2);
    assert!(
        msi.program(&config, message, 4) && !msi.program(&config, message, 16) && !msi.program(&config, message, 3)
    );
    assert_eq!(msi.message(&config), message);
    assert_eq!(config.read(HERE, 0x5c, 2), 0x48);
    msi.enable(&config, true);
    assert_eq!(config.read(HERE, 0x52, 2), 0x1a7);
    assert!(msi.set_mask(&config, 3, true) && !msi.set_mask(&config, 8, true));
    assert_eq!(config.read(HERE, 0x60, 4), 8);
    msi.enable(&config, false);
    assert_eq!(config.read(HERE, 0x52, 2), 0x1a6);
}

#[test]
fn msi_narrow() {
    let config = function(&[(0x40, 5)]);
    let msi = Msi::find(&config, HERE).unwrap();
    assert!(msi.program(&config, MsiMessage::fixed(0x31, 0), 1));
    assert_eq!(config.read(HERE, 0x48, 2), 0x31);
    assert!(!msi.set_mask(&config, 0, true));
}

struct Table(RefCell<[u32; 16]>);

impl Registers for Table {
    fn read32(&self, offset: usize) -> u32 {
        self.0.borrow()[offset / 4]
    }

    fn write32(&self, offset: usize, value: u32) {
        self.0.borrow_mut()[offset / 4] = value;
    }
}

#[test]
fn msix_table() {
    let config = function(&[(0x40, 0x11), (0x42, 3), (0x44, 4), (0x45, 0x20), (0x20, 4), (0x23, 0xfe), (0x24, 1)]);
    let msix = Msix::find(&config, HERE).unwrap();
    assert_eq!((msix.entries, msix.table, msix.table_size()), (4, (4, 0x2000), 64));
    assert_eq!(msix.table_address(&config), Some(0x1_fe00_2000));
    msix.enable(&config, true, true);
    assert_eq!((config.read(HERE, 0x42, 2), msix.state(&config)), (0xc003, (true, true)));
    let table = Table(RefCell::new([0; 16]));
    write_entry(&table, 2, MsiMessage::fixed(0x77, 1), false);
    let message = MsiMessage::fixed(0x77, 1);
    assert_eq!(table.0.borrow()[8..12], [message.address as u32, (message.address >> 32) as u32, message.data, 0]);
    set_mask(&table, 2, true);
    assert_eq!(table.0.borrow()[11], 1);
    assert_eq!(base_address(&config, HERE, 0), None);
    assert_eq!(base_address(&config, HERE, 6), None);
}

#[test]
fn no_capability_list() {
    let config = function(&[(0x40, 1), (0x41, 0x40)]);
    assert_eq!(Msi::find(&config, HERE), None);
    let absent = Function(RefCell::new([0xff; 256]));
    assert_eq!(Msix::find(&absent, HERE), None);
}

proptest! {
    #[test]
    fn any_space_is_borne(bytes in proptest::collection::vec(any::<u8>(), 256)) {
        let config = Function(RefCell::new(bytes.try_into().unwrap()));
        if let Some(msi) = Msi::find(&config, HERE) {
            prop_assert!(msi.max_messages() <= 32);
        }
        if let Some(msix) = Msix::find(&config, HERE) {
            let _ = msix.table_address(&config);
        }
    }
}
