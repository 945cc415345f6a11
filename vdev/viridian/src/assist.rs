//! Ends of interrupts that a guest is spared: a bit in a page of its own says that nothing waits for the end (TLFS, 10.3.5).

use crate::registers::page;
use crate::{Memory, Processor};
use types::PAGE_SIZE;
use xen_abi::hvm_params::HVMPV_APIC_ASSIST;

/// In the page's first word: the interrupt in service need not be ended.
const NO_END: u32 = 1;

impl Processor {
    /// The guest names its page, which is emptied.
    pub(crate) fn set_assist(&mut self, owner: &mut impl Memory, value: u64) {
        (self.assist, self.spared) = (value, false);
        if let Some(gpa) = page(value) {
            owner.write_memory(gpa, &[0; PAGE_SIZE]);
        }
    }

    /// Whether the guest has a page, without which nothing below does anything: asked at each entry.
    #[inline]
    pub fn has_assist(&self) -> bool {
        self.assist & 1 != 0
    }

    fn word(&self, owner: &impl Memory) -> Option<u32> {
        let mut bytes = [0; 4];
        owner.read_memory(page(self.assist)?, &mut bytes).then(|| u32::from_le_bytes(bytes))
    }

    fn set_word(&self, owner: &mut impl Memory, word: u32) -> bool {
        page(self.assist).is_some_and(|gpa| owner.write_memory(gpa, &word.to_le_bytes()))
    }

    /// An interrupt by edge is delivered, and no other waits: the guest is told that it need not end it, if it has a page and
    /// this is among its `parts` (`HVMPV_*`).
    pub fn spare_end(&mut self, parts: u32, owner: &mut impl Memory) {
        if parts & HVMPV_APIC_ASSIST == 0 || self.spared {
            return;
        }
        let Some(word) = self.word(owner) else { return };
        self.spared = self.set_word(owner, word | NO_END);
    }

    /// Whether the guest has taken notice since: it counts on the interrupt having ended. To be asked before another is
    /// delivered; `true` once.
    pub fn takes_end(&mut self, owner: &impl Memory) -> bool {
        let taken = self.spared && self.word(owner).is_some_and(|word| word & NO_END == 0);
        if taken {
            self.spared = false;
        }
        taken
    }

    /// Another interrupt waits: the end is needed after all.
    pub fn need_end(&mut self, owner: &mut impl Memory) {
        if core::mem::take(&mut self.spared) {
            let word = self.word(owner).unwrap_or(0);
            self.set_word(owner, word & !NO_END);
        }
    }
}
