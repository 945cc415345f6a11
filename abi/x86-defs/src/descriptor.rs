//! Segment descriptors, selectors, gates and the TSS.
