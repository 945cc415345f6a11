//! SRAT and SLIT: which CPUs and memory are near to each other (ACPI 6.5, 5.2.16 and 5.2.17).

use super::bytes::Bytes;
use super::{AcpiError, Signature};
use alloc::vec;
use alloc::vec::Vec;
use platform::{NodeMemory, Nodes};
use types::{Mfn, PAGE_SHIFT};

const SRAT: Signature = *b"SRAT";
const SLIT: Signature = *b"SLIT";
/// Where SRAT's structures begin.
const FIRST: usize = 48;
/// Where SLIT's matrix begins, behind the 64-bit number of its rows.
const MATRIX: usize = 44;
/// As many nodes as Xen's toolstack expects at most.
const MOST_NODES: usize = 64;
/// Distance of a domain from itself; no other is nearer.
const OWN_DISTANCE: u8 = 10;

/// Which proximity domain a CPU is in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SratCpu {
    /// APIC id.
    pub apic_id: u32,
    /// Proximity domain.
    pub domain: u32,
}

/// Which proximity domain memory is in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SratMemory {
    /// Physical address.
    pub address: u64,
    /// Address behind the last byte.
    pub end: u64,
    /// Proximity domain.
    pub domain: u32,
}

/// What SRAT says of enabled CPUs and memory.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Srat {
    /// CPUs.
    pub cpus: Vec<SratCpu>,
    /// Memory.
    pub memory: Vec<SratMemory>,
}

fn corrupt(table: Signature, what: &'static str) -> AcpiError {
    AcpiError::Corrupt { table, what }
}

impl Srat {
    /// Reads the table.
    ///
    /// # Errors
    /// [`AcpiError::Corrupt`] for a structure of an impossible length, or memory past the end of the address space.
    pub fn parse(table: &[u8]) -> Result<Srat, AcpiError> {
        let mut srat = Srat::default();
        let mut rest = table.get(FIRST..).ok_or(corrupt(SRAT, "its header is cut off"))?;
        while !rest.is_empty() {
            let length = rest.u8(1).unwrap_or(0).into();
            let entry = rest.get(..length).filter(|entry| entry.len() >= 2);
            let entry = entry.ok_or(corrupt(SRAT, "the length of an entry is impossible"))?;
            srat.take(entry).ok_or(corrupt(SRAT, "an entry is too short, or its memory ends nowhere"))?;
            rest = &rest[length..];
        }
        Ok(srat)
    }

    /// Takes one structure in; `None` if it makes no sense. Kinds that are not for x86 are left out.
    fn take(&mut self, entry: &[u8]) -> Option<()> {
        match entry[0] {
            0 => {
                let [low, high @ ..] = [entry.u8(2)?, entry.u8(9)?, entry.u8(10)?, entry.u8(11)?];
                let domain = u32::from_le_bytes([low, high[0], high[1], high[2]]);
                let cpu = SratCpu { apic_id: entry.u8(3)?.into(), domain };
                self.cpus.extend((entry.u32(4)? & 1 != 0).then_some(cpu));
            }
            1 => {
                let (address, length, domain) = (entry.u64(8)?, entry.u64(16)?, entry.u32(2)?);
                if entry.u32(28)? & 1 != 0 {
                    self.memory.push(SratMemory { address, end: address.checked_add(length)?, domain });
                }
            }
            2 => {
                let cpu = SratCpu { apic_id: entry.u32(8)?, domain: entry.u32(4)? };
                self.cpus.extend((entry.u32(12)? & 1 != 0).then_some(cpu));
            }
            _ => {}
        }
        Some(())
    }
}

/// SLIT: how far proximity domains are from each other, relative to 10, which is a domain itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Slit {
    domains: usize,
    distances: Vec<u8>,
}

impl Slit {
    /// Reads the table.
    ///
    /// # Errors
    /// [`AcpiError::Corrupt`] for a matrix that is cut off, or says that another domain is nearer than a domain itself.
    pub fn parse(table: &[u8]) -> Result<Slit, AcpiError> {
        let cut_off = corrupt(SLIT, "its matrix is cut off");
        let domains = table.u64(36).and_then(|count| usize::try_from(count).ok()).ok_or(cut_off)?;
        let end = domains.checked_mul(domains).and_then(|cells| cells.checked_add(MATRIX)).ok_or(cut_off)?;
        let distances = table.get(MATRIX..end).ok_or(cut_off)?.to_vec();
        let sound = |(cell, distance): (usize, &u8)| {
            if cell / domains == cell % domains { *distance == OWN_DISTANCE } else { *distance >= OWN_DISTANCE }
        };
        if distances.iter().enumerate().all(sound) {
            Ok(Slit { domains, distances })
        } else {
            Err(corrupt(SLIT, "a domain is not the nearest to itself"))
        }
    }

    fn distance(&self, from: u32, to: u32) -> Option<u8> {
        let (from, to) = (from as usize, to as usize);
        let inside = from < self.domains && to < self.domains;
        inside.then(|| self.distances[from * self.domains + to])
    }
}

/// The nodes of the machine, and which CPU is in which.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Proximity {
    /// The nodes and their memory.
    pub nodes: Nodes,
    /// APIC id and node of each CPU that firmware names.
    cpus: Vec<(u32, u32)>,
}

impl Proximity {
    /// All is one node: what holds without the tables.
    pub const ONE: Proximity = Proximity { nodes: Nodes::ONE, cpus: Vec::new() };

    /// Numbers the proximity domains as nodes, in the order in which SRAT first names them. Distances are SLIT's if it has
    /// all of them.
    ///
    /// # Errors
    /// [`AcpiError::Corrupt`] for memory that is in two domains, for too many domains, or for none.
    pub fn new(srat: &Srat, slit: Option<&Slit>) -> Result<Proximity, AcpiError> {
        let named = srat.cpus.iter().map(|cpu| cpu.domain).chain(srat.memory.iter().map(|memory| memory.domain));
        let mut domains = Vec::new();
        for domain in named {
            if !domains.contains(&domain) {
                domains.push(domain);
            }
            if domains.len() > MOST_NODES {
                return Err(corrupt(SRAT, "it names more than 64 proximity domains"));
            }
        }
        let node = |domain| domains.iter().position(|known| *known == domain).unwrap_or(0) as u32;
        let cpus = srat.cpus.iter().map(|cpu| (cpu.apic_id, node(cpu.domain))).collect();
        let memory = srat.memory.iter().map(|memory| NodeMemory {
            first: Mfn(memory.address >> PAGE_SHIFT),
            end: Mfn(memory.end >> PAGE_SHIFT),
            node: node(memory.domain),
        });
        let memory = memory.filter(|memory| memory.first.0 < memory.end.0).collect();
        let distances = slit.and_then(|slit| matrix(slit, &domains)).unwrap_or_default();
        let nodes = Nodes::new(domains.len() as u32, memory, distances);
        let nodes = nodes.ok_or(corrupt(SRAT, "it names no proximity domain, or memory in two of them"))?;
        Ok(Proximity { nodes, cpus })
    }

    /// Node of the CPU with this APIC id; `None` where firmware does not tell.
    pub fn node_of(&self, apic_id: u32) -> Option<u32> {
        let named = self.cpus.iter().find(|(id, _)| *id == apic_id).map(|(_, node)| *node);
        named.or((self.nodes.count() == 1).then_some(0))
    }
}

/// The distances between these domains; `None` if SLIT does not have one of them.
fn matrix(slit: &Slit, domains: &[u32]) -> Option<Vec<u8>> {
    let mut cells = vec![0; domains.len() * domains.len()];
    for (row, from) in domains.iter().enumerate() {
        for (column, to) in domains.iter().enumerate() {
            cells[row * domains.len() + column] = slit.distance(*from, *to)?;
        }
    }
    Some(cells)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SMALL: [u8; 16] = [0, 16, 1, 5, 1, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0];
    const X2APIC: [u8; 24] = [2, 24, 0, 0, 3, 0, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

    fn memory(address: u64, length: u64, domain: u32, flags: u32) -> Vec<u8> {
        let mut entry = vec![1, 40];
        entry.extend(domain.to_le_bytes());
        entry.extend([0; 2]);
        entry.extend(address.to_le_bytes());
        entry.extend(length.to_le_bytes());
        entry.extend([0; 4]);
        entry.extend(flags.to_le_bytes());
        entry.extend([0; 8]);
        entry
    }

    fn srat(entries: &[&[u8]]) -> Vec<u8> {
        [&[0; FIRST], &*entries.concat()].concat()
    }

    fn slit(domains: u64, matrix: &[u8]) -> Vec<u8> {
        [&[0; 36], &domains.to_le_bytes()[..], matrix].concat()
    }

    fn why<T: core::fmt::Debug>(result: Result<T, AcpiError>) -> &'static str {
        match result {
            Err(AcpiError::Corrupt { what, .. }) => what,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn enabled_cpus_and_memory_are_read() {
        let (on, off) = (memory(0x10_0000, 0x8000_0000, 4, 3), memory(0, 0x1000, 9, 0));
        let mut disabled = SMALL;
        disabled[4] = 0;
        let read = Srat::parse(&srat(&[&SMALL, &disabled, &X2APIC, &off, &on, &[5, 4, 0, 0]])).unwrap();
        assert_eq!(read.cpus, [SratCpu { apic_id: 5, domain: 0x201 }, SratCpu { apic_id: 0x100, domain: 3 }]);
        assert_eq!(read.memory, [SratMemory { address: 0x10_0000, end: 0x8010_0000, domain: 4 }]);
    }

    #[test]
    fn corrupt_lengths_are_named() {
        let impossible = "the length of an entry is impossible";
        assert_eq!(why(Srat::parse(&srat(&[&SMALL, &[0, 0, 0, 0]]))), impossible);
        assert_eq!(why(Srat::parse(&srat(&[&[7, 1]]))), impossible);
        assert_eq!(why(Srat::parse(&srat(&[&SMALL[..12]]))), impossible);
        assert_eq!(why(Srat::parse(&srat(&[&[7]]))), impossible);
        assert!(why(Srat::parse(&srat(&[&[2, 4, 0, 0]]))).starts_with("an entry is too short"));
        assert!(why(Srat::parse(&srat(&[&memory(u64::MAX, 2, 0, 1)]))).contains("ends nowhere"));
        assert_eq!(why(Srat::parse(&[0; 40])), "its header is cut off");
        let line = Srat::parse(&[0; 40]).unwrap_err().to_string();
        assert_eq!(line, "ACPI: table SRAT is corrupt: its header is cut off. It is ignored; update the firmware.");
    }

    #[test]
    fn a_corrupt_matrix_is_named() {
        assert_eq!(why(Slit::parse(&slit(2, &[10, 20, 20]))), "its matrix is cut off");
        assert_eq!(why(Slit::parse(&slit(u64::MAX, &[]))), "its matrix is cut off");
        assert_eq!(why(Slit::parse(&slit(1 << 32, &[]))), "its matrix is cut off");
        assert_eq!(why(Slit::parse(&slit(2, &[10, 5, 20, 10]))), "a domain is not the nearest to itself");
        assert_eq!(why(Slit::parse(&slit(1, &[20]))), "a domain is not the nearest to itself");
    }

    #[test]
    fn domains_become_nodes() {
        let cpu = |apic_id, domain| SratCpu { apic_id, domain };
        let range = |address, end, domain| SratMemory { address, end, domain };
        let table =
            Srat { cpus: vec![cpu(0, 2), cpu(4, 0)], memory: vec![range(0, 0x8000, 0), range(0x8000, 0x9000, 2)] };
        let distances = Slit::parse(&slit(3, &[10, 0xff, 21, 0xff, 10, 0xff, 31, 0xff, 10])).unwrap();
        let found = Proximity::new(&table, Some(&distances)).unwrap();
        assert_eq!((found.node_of(0), found.node_of(4), found.node_of(9)), (Some(0), Some(1), None));
        assert_eq!(found.nodes.of_frames(Mfn(7), 2).collect::<Vec<_>>(), [(1, 1), (0, 1)]);
        assert_eq!((found.nodes.distance(0, 1), found.nodes.distance(1, 0)), (31, 21));
        let small = Slit::parse(&slit(1, &[10])).unwrap();
        assert_eq!(Proximity::new(&table, Some(&small)).unwrap().nodes.distance(0, 1), 20, "not in the matrix");
        assert_eq!(Proximity::ONE.node_of(7), Some(0));
    }

    #[test]
    fn contradictions_are_named() {
        let range = |address, end, domain| SratMemory { address, end, domain };
        let table = Srat { memory: vec![range(0, 0x8000, 0), range(0x7000, 0x9000, 1)], ..Srat::default() };
        assert!(why(Proximity::new(&table, None)).ends_with("memory in two of them"));
        assert!(why(Proximity::new(&Srat::default(), None)).starts_with("it names no proximity domain"));
        let cpus = (0..65).map(|id| SratCpu { apic_id: id, domain: id }).collect();
        let many = Srat { cpus, ..Srat::default() };
        assert!(why(Proximity::new(&many, None)).contains("more than 64"));
    }

    proptest! {
        #[test]
        fn no_table_makes_it_panic(
            entries in proptest::collection::vec(0u8..48, 0..300),
            matrix in proptest::collection::vec(8u8..14, 0..40),
            domains in 0u64..7,
        ) {
            let slit = Slit::parse(&slit(domains, &matrix)).ok();
            if let Ok(srat) = Srat::parse(&srat(&[&entries])) {
                let _ = Proximity::new(&srat, slit.as_ref());
            }
        }
    }
}
