//! Every operation that a guest may ask for, with each of its fields set to each bad value of its kind, one at a time, and with
//! its structure where it must not be. The operations are tables ([`Op`]); what is sent follows from them.
//!
//! `bad.OPERATION` is the answer while nothing is bad, `bad.OPERATION.FIELD` the one that most bad values of the field get,
//! `bad.OPERATION.FIELD.VALUE` what another gets.

mod devices;
mod events;
mod grants;
mod memory;
mod processor;
mod values;

use crate::call::{call, update_va};
use crate::memory::poke;
use crate::memory::{Guest, READ_ONLY, WRITABLE, page};
use crate::report::{Outcome, sign};
use crate::say;
use core::fmt;
use values::{Kind, Value};
use xen_abi::xen::UVMF_INVLPG;

/// Where structures are; the second page is the next in address.
const PLACE: usize = 28;
/// A page that is mapped read-only for a while.
const READ_ONLY_PLACE: usize = 30;
/// A page that is not mapped for a while; it follows one that is.
const HOLE: usize = 32;
/// Where lists are, all of zeros; they may go on in the next page.
const LIST: usize = 34;
/// Longest structure, in bytes.
const LONGEST: usize = 128;

/// One operation.
struct Op {
    name: &'static str,
    /// Number of the hypercall.
    number: u32,
    /// Its arguments where no field says otherwise.
    arguments: [Value; 5],
    /// The argument that is the structure's address, and the structure's length.
    structure: Option<(usize, usize)>,
    fields: &'static [Field],
    /// Where in the structure the answer proper is, if the call's own result is not.
    answer: Option<Part>,
    /// Undoes what a call that succeeded has done; gets the structure.
    undo: fn(&[u8; LONGEST]),
}

/// One input of an operation.
struct Field {
    name: &'static str,
    at: At,
    kind: Kind,
    /// Its value while another field is bad.
    good: Value,
}

/// Where an input is.
#[derive(Clone, Copy)]
enum At {
    /// In a register.
    Argument(usize),
    /// In the structure.
    Part(Part),
}

/// Bytes of a structure: the first, and how many.
#[derive(Clone, Copy)]
struct Part(usize, usize);

impl Part {
    fn write(self, bytes: &mut [u8; LONGEST], value: u64) {
        bytes[self.0..self.0 + self.1].copy_from_slice(&value.to_le_bytes()[..self.1]);
    }

    /// The value, taken as a signed one.
    fn read(self, bytes: &[u8; LONGEST]) -> i64 {
        let mut word = [0; 8];
        word[..self.1].copy_from_slice(&bytes[self.0..self.0 + self.1]);
        let unused = 64 - 8 * self.1 as u32;
        i64::from_le_bytes(word) << unused >> unused
    }
}

/// The size of what a function finds in a `T`.
const fn size_of_part<T, F>(_: fn(&T) -> &F) -> usize {
    size_of::<F>()
}

fn nothing(_: &[u8; LONGEST]) {}

/// An operation with a structure: `op!(name, hypercall, [arguments], argument of the structure, type, { field: Kind = good })`.
macro_rules! op {
    ($name:literal, $number:expr, $arguments:expr, $pointer:expr, $type:ty,
     { $($first:ident $(. $rest:ident)* : $kind:expr => $good:expr),* $(,)? } $(, answer $answer:ident)? $(, undo $undo:expr)?) => {
        Op {
            name: $name,
            number: $number,
            arguments: $arguments,
            structure: Some(($pointer, size_of::<$type>())),
            fields: &[$(Field {
                name: concat!(stringify!($first) $(, ".", stringify!($rest))*),
                at: At::Part(Part(
                    core::mem::offset_of!($type, $first $(. $rest)*),
                    super::size_of_part(|whole: &$type| &whole.$first $(. $rest)*),
                )),
                kind: $kind,
                good: $good,
            }),*],
            answer: op!(@answer $type $(, $answer)?),
            undo: op!(@undo $($undo)?),
        }
    };
    (@answer $type:ty) => { None };
    (@answer $type:ty, $answer:ident) => {
        Some(Part(
            core::mem::offset_of!($type, $answer),
            super::size_of_part(|whole: &$type| &whole.$answer),
        ))
    };
    (@undo) => { super::nothing };
    (@undo $undo:expr) => { $undo };
}

/// An operation whose inputs are registers.
macro_rules! plain {
    ($name:literal, $number:expr, { $($field:literal @ $at:literal : $kind:expr => $good:expr),* $(,)? } $(, undo $undo:expr)?) => {
        Op {
            name: $name,
            number: $number,
            arguments: [Value::Is(0); 5],
            structure: None,
            fields: &[$(Field { name: $field, at: At::Argument($at), kind: $kind, good: $good }),*],
            answer: None,
            undo: op!(@undo $($undo)?),
        }
    };
}
use {op, plain};

/// The operations, by the group of cases that tries them: what goes wrong in one domain spoils no other's answers.
const TABLES: [(&str, &[Op]); 6] = [
    ("memory", memory::OPS),
    ("mmu", memory::TABLES),
    ("grants", grants::OPS),
    ("events", events::OPS),
    ("processor", processor::OPS),
    ("devices", devices::OPS),
];

/// Runs the group `bad-NAME`.
pub fn run(guest: &Guest, name: &str) {
    for op in TABLES.iter().filter(|(table, _)| *table == name).flat_map(|(_, ops)| *ops) {
        each_field(guest, op);
        if op.structure.is_some() {
            each_place(guest, op);
        }
    }
}

/// One input set to one bad value; `None`: all are good.
type Bad = Option<(At, u64)>;

/// Answers of at most so many values are compared.
const MOST: usize = 64;

fn each_field(guest: &Guest, op: &Op) {
    let good = once(guest, op, None, page(PLACE));
    say!("bad.{}: {good}", op.name);
    for field in op.fields {
        let width = match field.at {
            At::Argument(_) => 8,
            At::Part(part) => part.1,
        };
        let values = || field.kind.values().iter().filter(|(_, value)| value.fits(width));
        let mut answers = [Outcome::Code(0); MOST];
        let mut count = 0;
        for ((_, value), answer) in values().zip(&mut answers) {
            *answer = once(guest, op, Some((field.at, value.of(guest))), page(PLACE));
            count += 1;
        }
        let name = field.name.trim_start_matches("r#");
        report(op.name, name, values().map(|(name, _)| *name), &answers[..count]);
    }
}

/// Where a structure must not be, or need not; the hypervisor's and other wild addresses are the group `wild`.
const PLACES: [&str; 4] = ["unaligned", "over-pages", "into-nothing", "read-only"];

fn each_place(guest: &Guest, op: &Op) {
    let length = op.structure.map_or(0, |(_, length)| length) as u64;
    let places = [page(PLACE) + 1, page(PLACE + 1) - length / 2, page(HOLE) - length / 2, page(READ_ONLY_PLACE)];
    let answers = places.map(|place| once(guest, op, None, place));
    report(op.name, "place", PLACES.into_iter(), &answers);
}

/// One line with the answer that most values got, and one for each that got another.
fn report<'a>(op: &str, field: &str, names: impl Iterator<Item = &'a str>, answers: &[Outcome]) {
    let count = |answer: &Outcome| answers.iter().filter(|other| *other == answer).count();
    // Of several that are as common the first.
    let Some(common) = answers.iter().rev().max_by_key(|answer| count(answer)) else { return };
    say!("bad.{op}.{field}: {common}");
    for (name, answer) in names.zip(answers).filter(|(_, answer)| *answer != common) {
        say!("bad.{op}.{field}.{name}: {answer}");
    }
}

/// Makes the call with one bad input, its structure at `place`.
fn once(guest: &Guest, op: &Op, bad: Bad, place: u64) -> Outcome {
    let mut bytes = [0; LONGEST];
    let mut arguments = op.arguments.map(|value| value.of(guest));
    if let Some((at, _)) = op.structure {
        arguments[at] = place;
    }
    let all = op.fields.iter().map(|field| (field.at, field.good.of(guest)));
    for (at, value) in all.chain(bad) {
        match at {
            At::Argument(index) => arguments[index] = value,
            At::Part(part) => part.write(&mut bytes, value),
        }
    }
    (0..1024).for_each(|word| poke(LIST, word, 0));
    let length = op.structure.map_or(0, |(_, length)| length);
    put(guest, place, &bytes[..length]);
    let result = call(u64::from(op.number), arguments);
    let mut after = [0; LONGEST];
    take(guest, place, &mut after[..length]);
    (op.undo)(&after);
    match op.answer {
        Some(part) if result == 0 => sign(part.read(&after)),
        _ => sign(result),
    }
}

/// Writes a structure, wherever it may be: with the read-only page writable and the hole mapped for the time being. Both are as
/// they have to be afterwards.
fn put(guest: &Guest, place: u64, bytes: &[u8]) {
    protect(guest, WRITABLE, WRITABLE);
    // SAFETY: the play pages from PLACE on are this group's, and mapped writably now.
    unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), place as *mut u8, bytes.len()) };
    protect(guest, READ_ONLY, 0);
}

/// Reads a structure, likewise.
fn take(guest: &Guest, place: u64, bytes: &mut [u8]) {
    protect(guest, WRITABLE, WRITABLE);
    // SAFETY: as in `put`.
    unsafe { core::ptr::copy_nonoverlapping(place as *const u8, bytes.as_mut_ptr(), bytes.len()) };
}

fn protect(guest: &Guest, read_only: u64, hole: u64) {
    for (index, flags) in [(READ_ONLY_PLACE, read_only), (HOLE, hole)] {
        let entry = if flags == 0 { 0 } else { guest.page_frame(index) << 12 | flags };
        let result = update_va(page(index), entry, UVMF_INVLPG);
        assert!(result == 0, "cannot change a page: {result}");
    }
}

impl fmt::Debug for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_written_and_read() {
        let mut bytes = [0; LONGEST];
        Part(4, 2).write(&mut bytes, 0xffff_fffd);
        assert_eq!(bytes[3..7], [0, 0xfd, 0xff, 0]);
        assert_eq!(Part(4, 2).read(&bytes), -3);
        Part(8, 8).write(&mut bytes, 1 << 63);
        assert_eq!(Part(8, 8).read(&bytes), i64::MIN);
    }

    #[test]
    fn the_tables_are_sound() {
        for op in TABLES.iter().flat_map(|(_, ops)| *ops) {
            let length = op.structure.map_or(0, |(_, length)| length);
            assert!(length <= LONGEST, "{op:?}");
            for field in op.fields {
                assert!(field.kind.values().len() <= MOST);
                match field.at {
                    At::Argument(index) => assert!(index < 5, "{op:?}"),
                    At::Part(Part(at, size)) => assert!(at + size <= length && size <= 8, "{op:?} {}", field.name),
                }
            }
        }
    }
}
