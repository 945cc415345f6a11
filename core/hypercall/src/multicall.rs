//! Several calls in one (HYPERVISOR_multicall, xen.h), of guests of either width.

use crate::{Args, Outcome};
use core::mem::offset_of;
use platform::{GuestMemory, Preempt};
use types::{Errno, Result};
use xen_abi::compat;
use xen_abi::xen::{HYPERVISOR_IRET, HYPERVISOR_MULTICALL, MulticallEntry};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

/// Calls after which a multicall may be cut off.
const CHUNK: u64 = 16;

/// `struct multicall_entry` of a guest.
pub trait Entry: FromBytes + FromZeros + IntoBytes + Immutable {
    /// A register of the guest.
    type Word: IntoBytes + Immutable;
    /// Byte of the result.
    const RESULT: usize;

    /// What of a value is in a register.
    fn word(value: u64) -> Self::Word;
    /// Number and arguments of the call.
    fn call(&self) -> (u64, Args);
    /// Changes the arguments.
    fn set_args(&mut self, args: Args);
}

macro_rules! entry {
    ($entry:ty, $word:ty) => {
        impl Entry for $entry {
            type Word = $word;
            const RESULT: usize = offset_of!($entry, result);

            fn word(value: u64) -> $word {
                value as $word
            }

            fn call(&self) -> (u64, Args) {
                (self.op.into(), self.args.map(u64::from))
            }

            fn set_args(&mut self, args: Args) {
                self.args = args.map(Self::word);
            }
        }
    };
}

entry!(MulticallEntry, u64);
entry!(compat::MulticallEntry, u32);

/// HYPERVISOR_multicall: address of the entries, their number. `call` carries one out. The addresses are those of the address space
/// that is loaded where that is certain (`LOADED`, [`GuestMemory::copy_in_loaded`]).
pub fn multicall<E: Entry, M: GuestMemory + Preempt, const LOADED: bool>(
    machine: &M,
    args: Args,
    mut call: impl FnMut(u64, Args) -> Outcome,
) -> Outcome {
    let (mut at, count) = (args[0], args[1]);
    let again = |at, done| Outcome::Again([at, count - done, args[2], args[3], args[4], args[5]]);
    for done in 0..count {
        if done % CHUNK == CHUNK - 1 && machine.should_yield() {
            return again(at, done);
        }
        match carry_out::<E, M, LOADED>(machine, at, &mut call) {
            Ok(true) => at = at.wrapping_add(size_of::<E>() as u64),
            Ok(false) => return again(at, done),
            Err(errno) => return errno.into(),
        }
    }
    Outcome::Done(0)
}

type CopyIn<M> = fn(&M, u64, &mut [u8]) -> Result<()>;
type CopyOut<M> = fn(&M, u64, &[u8]) -> Result<()>;

/// Carries out the entry at an address; whether it is done. It is read just before its call and answered just after: a call may
/// write those that follow. What is left of a call that was cut off is put in the entry's place, for the next time.
fn carry_out<E: Entry, M: GuestMemory, const LOADED: bool>(
    machine: &M,
    at: u64,
    mut call: impl FnMut(u64, Args) -> Outcome,
) -> Result<bool> {
    let (copy_in, copy_out): (CopyIn<M>, CopyOut<M>) =
        if LOADED { (M::copy_in_loaded, M::copy_out_loaded) } else { (M::copy_in, M::copy_out) };
    let mut entry = E::new_zeroed();
    copy_in(machine, at, entry.as_mut_bytes())?;
    let (number, args) = entry.call();
    let outcome = match number as u32 {
        HYPERVISOR_MULTICALL => Errno::INVAL.into(),
        HYPERVISOR_IRET => Errno::NOSYS.into(),
        _ => call(number, args),
    };
    match outcome {
        Outcome::Done(value) => {
            copy_out(machine, at.wrapping_add(E::RESULT as u64), E::word(value as u64).as_bytes())?;
            Ok(true)
        }
        Outcome::Again(rest) => {
            entry.set_args(rest);
            copy_out(machine, at, entry.as_bytes())?;
            Ok(false)
        }
    }
}
