//! Address-space identifiers: the tag by which a CPU tells one guest's translations from another's (APM vol. 2, 15.15).
//!
//! Each CPU gives its ASIDs out in order. When they run out, a new generation begins: the CPU flushes everything, and what was
//! given out before is no longer valid. So no ASID is given twice without a flush in between, and to drop a guest's
//! translations it is enough to give it the next one.

/// The ASIDs of one CPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Asids {
    /// How many there are, with the host's, which is 0.
    count: u32,
    next: u32,
    generation: u64,
}

/// An ASID that was given out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Tag {
    asid: u32,
    generation: u64,
}

impl Tag {
    /// The number for the control block, never 0.
    pub fn asid(self) -> u32 {
        self.asid
    }
}

/// What an entry with the tag has to flush first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Flush {
    Nothing,
    Everything,
}

impl Asids {
    /// `count` is at least 2. The first that is given out comes with a flush.
    pub const fn new(count: u32) -> Asids {
        Asids { count, next: count, generation: 0 }
    }

    /// Whether a tag that this CPU gave out may still be used.
    pub fn is_valid(&self, tag: Tag) -> bool {
        tag.generation == self.generation
    }

    /// Gives out the next one.
    pub fn allocate(&mut self) -> (Tag, Flush) {
        let flush = if self.next < self.count {
            Flush::Nothing
        } else {
            self.generation += 1;
            self.next = 1;
            Flush::Everything
        };
        let tag = Tag { asid: self.next, generation: self.generation };
        self.next += 1;
        (tag, flush)
    }

    /// Makes all tags invalid. Those ASIDs are not given out again before a flush, for `next` stays.
    pub fn forget_all(&mut self) {
        self.generation += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_asid_is_1_and_comes_with_a_flush() {
        let mut asids = Asids::new(8);
        let (tag, flush) = asids.allocate();
        assert_eq!((tag.asid(), flush), (1, Flush::Everything));
        assert!(asids.is_valid(tag));
        assert_eq!(asids.allocate().1, Flush::Nothing);
    }

    #[test]
    fn one_asid_is_enough() {
        let mut asids = Asids::new(2);
        let (first, _) = asids.allocate();
        let (second, flush) = asids.allocate();
        assert_eq!((second.asid(), flush), (1, Flush::Everything));
        assert!(!asids.is_valid(first) && asids.is_valid(second));
    }

    /// Against a model of the TLB: which ASIDs have translations, and whose. A guest that enters never finds another's, nor its
    /// own from before it was to forget them.
    #[test]
    fn no_guest_sees_stale_translations() {
        const GUESTS: usize = 6;
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = move |below: u64| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed % below
        };
        for count in [2, 3, 5, 64] {
            let mut asids = Asids::new(count);
            let mut tags: [Option<Tag>; GUESTS] = [None; GUESTS];
            // Per guest, how often its translations were to be dropped; per ASID, whose translations of which time it has.
            let mut epoch = [0u32; GUESTS];
            let mut tlb: Vec<Option<(usize, u32)>> = vec![None; count as usize];
            for _ in 0..20_000 {
                let guest = random(GUESTS as u64) as usize;
                match random(16) {
                    0 => {
                        asids.forget_all();
                        epoch.iter_mut().for_each(|epoch| *epoch += 1);
                    }
                    1 => {
                        tags[guest] = None;
                        epoch[guest] += 1;
                    }
                    _ => {
                        let tag = match tags[guest] {
                            Some(tag) if asids.is_valid(tag) => tag,
                            _ => {
                                let (tag, flush) = asids.allocate();
                                if flush == Flush::Everything {
                                    tlb.fill(None);
                                }
                                tag
                            }
                        };
                        tags[guest] = Some(tag);
                        assert!(tag.asid() != 0 && tag.asid() < count);
                        let found = tlb[tag.asid() as usize].replace((guest, epoch[guest]));
                        assert!(found.is_none_or(|found| found == (guest, epoch[guest])), "{found:?}");
                    }
                }
            }
        }
    }
}
