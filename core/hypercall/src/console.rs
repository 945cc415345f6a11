//! `HYPERVISOR_console_io`: the host's console for dom0 (xen.h, `CONSOLEIO_*`).

use crate::{Args, Caller, Outcome};
use domain::Arch;
use types::{DomId, Errno, Result};
use xen_abi::xen::{CONSOLEIO_READ, CONSOLEIO_WRITE};

/// Bytes that are moved at a time.
const CHUNK: usize = 128;

/// Carries out a console_io call. Only dom0, and domains with its rights, have the console.
pub fn console_io<A: Arch>(caller: &Caller<'_, A>, args: Args) -> Outcome {
    let (command, count, address) = (args[0] as u32, args[1] as u32, args[2]);
    if !caller.domain.is_privileged() {
        return Errno::PERM.into();
    }
    match command {
        CONSOLEIO_WRITE => write(caller, args, count, address),
        CONSOLEIO_READ => read(caller, count, address).into(),
        _ => Errno::NOSYS.into(),
    }
}

fn write<A: Arch>(caller: &Caller<'_, A>, args: Args, count: u32, address: u64) -> Outcome {
    let mark = (caller.domain.id != DomId::DOM0).then_some(caller.domain.id);
    let mut done: u32 = 0;
    while done < count {
        if done != 0 && caller.machine().should_yield() {
            let rest = u64::from(count - done);
            return Outcome::Again([args[0], rest, address.wrapping_add(done.into()), args[3], args[4], args[5]]);
        }
        let mut bytes = [0; CHUNK];
        let part = &mut bytes[..CHUNK.min((count - done) as usize)];
        if let Err(errno) = caller.machine().copy_in(address.wrapping_add(done.into()), part) {
            return errno.into();
        }
        caller.machine().console_write(mark, part);
        done += part.len() as u32;
    }
    Outcome::Done(0)
}

fn read<A: Arch>(caller: &Caller<'_, A>, count: u32, address: u64) -> Result<i64> {
    let count = i32::try_from(count).map_err(|_| Errno::INVAL)? as usize;
    let mut done = 0;
    while done < count {
        let mut bytes = [0; CHUNK];
        let room = CHUNK.min(count - done);
        let got = caller.machine().console_read(&mut bytes[..room]);
        if got == 0 {
            break;
        }
        caller.machine().copy_out(address.wrapping_add(done as u64), &bytes[..got])?;
        done += got;
    }
    Ok(done as i64)
}
