//! What the manuals leave undefined (SDM vol. 1, appendix A; each instruction's page).

use super::case::Case;
use super::forms::{Form, Immediate, Undefined};

const CF: u64 = 1;
const PF: u64 = 4;
const AF: u64 = 0x10;
const ZF: u64 = 0x40;
const SF: u64 = 0x80;
const OF: u64 = 0x800;

/// How far a shift goes.
fn count(form: &Form, case: &Case) -> u64 {
    let last = form.opcode.last().expect("an opcode");
    let raw = match (form.immediate, last) {
        (Immediate::Byte, _) => case.immediate,
        (_, 0xd0 | 0xd1) => 1,
        _ => case.registers.general[1],
    };
    raw & if case.size == 8 { 63 } else { 31 }
}

/// Flags that may be anything after the instruction.
pub fn flags(form: &Form, case: &Case) -> u64 {
    let count = count(form, case);
    let bits = u64::from(case.size) * 8;
    let overflow = if count == 1 { 0 } else { OF };
    match form.undefined {
        Undefined::Nothing => 0,
        Undefined::Logic => AF,
        Undefined::Shift | Undefined::Double | Undefined::Rotate if count == 0 => 0,
        Undefined::Shift => AF | overflow | if count >= bits { CF } else { 0 },
        Undefined::Double => AF | overflow,
        Undefined::Rotate => overflow,
        Undefined::Multiply => SF | ZF | AF | PF,
        Undefined::Divide => CF | PF | AF | ZF | SF | OF,
        Undefined::Bit => OF | SF | AF | PF,
        Undefined::Scan => CF | OF | SF | AF | PF,
        Undefined::Count => OF | SF | AF | PF,
    }
}

/// Whether the result may be anything too: 2 bytes shifted by more than their bits.
pub fn result(form: &Form, case: &Case) -> bool {
    form.undefined == Undefined::Double && case.size == 2 && count(form, case) > 16
}
