//! How costs depend on the numbers of virtual processors and of domains.

use super::report::{Report, TOLERANCE, grouped};
use crate::guests::Kind;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What is varied, and to what. Otherwise a guest has two virtual processors, and one other domain is beside it.
const POINTS: [(&str, u32); 5] = [("vcpus", 1), ("vcpus", 4), ("vcpus", 8), ("domains", 10), ("domains", 100)];
/// Between the kind of guest and what was varied, in a figure's name.
const MARK: char = '@';

/// What tests/bench/run.sh is told to measure these guests so.
pub fn arguments(kinds: &[Kind]) -> Vec<String> {
    let mut arguments = Vec::new();
    for (what, number) in POINTS {
        arguments.push(format!("{what}={number}"));
        arguments.extend(kinds.iter().map(|kind| kind.name().to_string()));
    }
    arguments
}

/// How many domains there are at most.
pub fn most_domains() -> u64 {
    POINTS.iter().filter(|(what, _)| *what == "domains").map(|(_, number)| u64::from(*number)).max().unwrap_or(0)
}

/// Whether a figure is one of these.
pub fn is_scaled(name: &str) -> bool {
    name.split('/').next().is_some_and(|kind| kind.contains(MARK))
}

/// The operations of one hypervisor that cost more with more processors or domains, as Markdown, and how many do not.
pub fn markdown(report: &Report) -> String {
    let mut text = String::new();
    for (hypervisor, measured) in &report.measured {
        let rows = rows(&measured.costs);
        if rows.is_empty() {
            continue;
        }
        let (grown, flat): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row.has_grown());
        write!(
            text,
            "\nWith more virtual processors and among more domains, {} operations on {hypervisor} cost the same (within {TOLERANCE} %), {} do not\n\n",
            flat.len(),
            grown.len()
        )
        .expect("a string takes everything");
        if grown.is_empty() {
            continue;
        }
        let points = POINTS.map(|(what, number)| format!("{number} {what}")).join(" | ");
        writeln!(
            text,
            "| operation on {hypervisor} | as above | {points} |\n|---|{}",
            "---:|".repeat(POINTS.len() + 1)
        )
        .expect("a string takes everything");
        for row in grown {
            let costs = row.costs.map(|cost| cost.map_or_else(String::new, grouped)).join(" | ");
            writeln!(text, "| {} | {} | {costs} |", row.name, grouped(row.plain)).expect("a string takes everything");
        }
    }
    text
}

/// One operation.
struct Row<'a> {
    name: &'a str,
    /// What it costs otherwise.
    plain: u64,
    /// At each of the points.
    costs: [Option<u64>; POINTS.len()],
}

impl Row<'_> {
    fn has_grown(&self) -> bool {
        self.costs.iter().flatten().any(|cost| cost * 100 > self.plain * (100 + TOLERANCE))
    }
}

fn rows(costs: &BTreeMap<String, u64>) -> Vec<Row<'_>> {
    let mut rows = Vec::new();
    for (name, plain) in costs {
        let Some((kind, operation)) = name.split_once('/') else { continue };
        let at = |(what, number)| costs.get(&format!("{kind}{MARK}{what}-{number}/{operation}")).copied();
        let costs = POINTS.map(at);
        if costs.iter().any(Option::is_some) {
            rows.push(Row { name, plain: *plain, costs });
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::super::Measured;
    use super::*;

    fn report(costs: &[(&str, u64)]) -> Report {
        let costs = costs.iter().map(|(name, cost)| (name.to_string(), *cost)).collect();
        let measured = Measured { version: String::new(), costs };
        Report { measured: [("xen".to_string(), measured)].into(), ..Report::default() }
    }

    #[test]
    fn each_point_is_asked_for_with_each_kind() {
        let arguments = arguments(&[Kind::Pv, Kind::Hvm]);
        assert_eq!(arguments.len(), POINTS.len() * 3);
        assert_eq!(arguments[..4], ["vcpus=1", "pv", "hvm", "vcpus=4"]);
        assert_eq!(most_domains(), 100);
    }

    #[test]
    fn what_grows_has_a_row() {
        let flat = [("pv/a.flat", 100), ("pv@vcpus-8/a.flat", 103), ("pv@domains-100/a.flat", 90), ("pv/a.alone", 7)];
        let text = markdown(&report(&flat));
        assert!(text.contains(" 1 operations on xen cost the same") && text.contains("0 do not"), "{text}");
        assert!(!text.contains('|'), "{text}");
        let text = markdown(&report(&[("pv/a.b", 1000), ("pv@vcpus-1/a.b", 900), ("pv@domains-100/a.b", 1031)]));
        assert!(text.contains("| pv/a.b | 1,000 | 900 |  |  |  | 1,031 |"), "{text}");
        assert_eq!(markdown(&report(&[("pv/a.b", 1000)])), "");
    }

    #[test]
    fn names_tell_whether_they_are_scaled() {
        assert!(is_scaled("pv@vcpus-4/event.send"));
        assert!(!is_scaled("pv/event.send@home") && !is_scaled("pv"));
    }
}
