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
