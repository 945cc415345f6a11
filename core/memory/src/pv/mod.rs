//! Page tables of PV guests: promotion, demotion, and the hypercalls that change entries.

mod entry;
mod ext;
mod grant;
mod promote;
mod update;

pub use grant::GrantTarget;
pub use update::{Cas, Keep};

use crate::domain::DomainMemory;
use platform::Preempt;
use types::DomId;

/// On whose behalf page-table operations run.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The domain that asks.
    pub caller: DomId,
    /// The domain whose page tables change.
    pub tables: &'a DomainMemory,
    /// The domain whose frames new entries map: the same one, another one, or [`DomId::IO`].
    pub frames: DomId,
    /// Whether to break off.
    pub preempt: &'a dyn Preempt,
}

impl<'a> Context<'a> {
    /// A domain's own tables and frames.
    pub fn own(tables: &'a DomainMemory, preempt: &'a dyn Preempt) -> Context<'a> {
        Context { caller: tables.id(), tables, frames: tables.id(), preempt }
    }
}

/// First L4 slot of the hypervisor.
pub(crate) const FIRST_HYPERVISOR_SLOT: usize = 256;
/// Number of L4 slots of the hypervisor.
pub(crate) const HYPERVISOR_SLOTS: usize = 16;

/// Whether a slot of an L4 table is the hypervisor's.
pub(crate) fn is_hypervisor_slot(level: u32, slot: usize) -> bool {
    level == 4 && (FIRST_HYPERVISOR_SLOT..FIRST_HYPERVISOR_SLOT + HYPERVISOR_SLOTS).contains(&slot)
}
