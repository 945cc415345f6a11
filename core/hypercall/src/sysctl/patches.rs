//! Live patches, of which there are none: the list is empty, no name is known, and none can be loaded.

use super::Done;
use crate::{Caller, refuse};
use domain::Arch;
use types::{Errno, Result};
use xen_abi::sysctl::*;

/// Entries of the list that one call can ask for.
const MOST_ENTRIES: u32 = 1024;
/// The list's version as long as it never changed.
const FIRST_VERSION: u32 = 1;

/// XEN_SYSCTL_livepatch_op.
pub fn operation<A: Arch>(caller: &Caller<'_, A>, op: &mut LivepatchOp) -> Done {
    if op.flags & !LIVEPATCH_FLAGS_MASK != 0 {
        return Err(Errno::INVAL);
    }
    match op.cmd {
        XEN_SYSCTL_LIVEPATCH_LIST => {
            let mut list: LivepatchList = op.u.read();
            show_none(&mut list)?;
            op.u.write(&list);
            Ok(true)
        }
        XEN_SYSCTL_LIVEPATCH_GET => find_none(caller, &op.u.read::<LivepatchGet>().name),
        XEN_SYSCTL_LIVEPATCH_ACTION => {
            let action: LivepatchAction = op.u.read();
            if action.pad != 0 {
                return Err(Errno::INVAL);
            }
            find_none(caller, &action.name)
        }
        cmd => Err(refuse!(caller, OPNOTSUPP, "livepatch_op {cmd}")),
    }
}

fn show_none(list: &mut LivepatchList) -> Result<()> {
    if list.nr > MOST_ENTRIES {
        return Err(Errno::TOOBIG);
    }
    if list.pad != 0 {
        return Err(Errno::INVAL);
    }
    (list.nr, list.version) = (0, FIRST_VERSION);
    (list.name_total_size, list.metadata_total_size) = (0, 0);
    Ok(())
}

/// A name has to be one before it is looked for.
fn find_none<A: Arch>(caller: &Caller<'_, A>, name: &LivepatchName) -> Done {
    if !(1..=XEN_LIVEPATCH_NAME_SIZE).contains(&name.size.into()) || name.pad != [0; 3] {
        return Err(Errno::INVAL);
    }
    let mut text = [0; XEN_LIVEPATCH_NAME_SIZE as usize];
    let text = &mut text[..name.size.into()];
    caller.machine().copy_in(name.name.address(), text)?;
    Err(if text.last() == Some(&0) { Errno::NOENT } else { Errno::INVAL })
}
