//! `HYPERVISOR_domctl`: what the toolstack does to domains (domctl.h).

use crate::{Args, Caller, Outcome};
use domain::Arch;
use types::Errno;

/// Carries out a domctl.
pub fn domctl<A: Arch>(_caller: &Caller<'_, A>, _args: &Args) -> Outcome {
    Errno::NOSYS.into()
}
