//! Results as JSON and as Markdown, and their comparison with earlier ones.

use super::measure::Measured;
use super::scale;
use super::systems;
use crate::machine;
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

/// A count may have grown by so many parts in a hundred.
pub const TOLERANCE: u64 = 3;

/// Where no hypervisor is, as in `super::name`.
const NONE: &str = "none";

/// Results.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The day, as YYYY-MM-DD.
    pub date: String,
    /// QEMU's version.
    pub qemu: String,
    /// What was measured, by the hypervisor's name.
    pub measured: BTreeMap<String, Measured>,
}

impl Report {
    /// An empty one with today's date and this QEMU.
    ///
    /// # Errors
    /// Where one of them cannot be found out.
    pub fn of_today() -> Result<Self> {
        Ok(Self {
            date: first_line(Command::new("date").args(["-u", "+%F"]))?,
            qemu: first_line(Command::new(machine::QEMU).arg("--version"))?,
            measured: BTreeMap::new(),
        })
    }

    /// Reads one that `json` wrote.
    ///
    /// # Errors
    /// Where the file cannot be read or is none.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("{} is no result of ./x bench", path.display()))
    }

    fn parse(text: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(text)?;
        let string = |value: &Value| value.as_str().map(str::to_string);
        let mut measured = BTreeMap::new();
        for (name, one) in value["hypervisors"].as_object().context("no hypervisors")? {
            let costs = one["costs"].as_object().context("no costs")?;
            let number = |(name, cost): (&String, &Value)| Some((name.clone(), cost.as_u64()?));
            let costs = costs.iter().map(|cost| number(cost).context("a cost is no number")).collect::<Result<_>>()?;
            measured.insert(name.clone(), Measured { version: string(&one["version"]).context("no version")?, costs });
        }
        let (date, qemu) = (string(&value["date"]).context("no date")?, string(&value["qemu"]).context("no qemu")?);
        Ok(Self { date, qemu, measured })
    }

    /// For machines.
    pub fn json(&self) -> String {
        let one = |of: &Measured| json!({ "version": of.version, "costs": of.costs });
        let hypervisors: serde_json::Map<_, _> = self.measured.iter().map(|(n, of)| (n.clone(), one(of))).collect();
        let all = json!({ "date": self.date, "qemu": self.qemu, "hypervisors": hypervisors });
        format!("{all:#}\n")
    }

    /// All costs on hypervisors but for the scaled ones, the groups in order.
    pub fn groups(&self) -> BTreeMap<String, Vec<String>> {
        let hypervisors = self.measured.iter().filter(|(on, _)| on.as_str() != NONE);
        let names = hypervisors.flat_map(|(_, one)| one.costs.keys());
        let names: BTreeSet<&String> = names.filter(|name| !scale::is_scaled(name)).collect();
        let mut groups = BTreeMap::<_, Vec<_>>::new();
        for name in names {
            let (group, _) = name.split_once('.').unwrap_or((name, ""));
            groups.entry(group.to_string()).or_default().push(name.clone());
        }
        groups
    }

    /// The cost of `name` on hypervisor `on`, or of the like of it on none.
    pub fn cost(&self, on: &str, name: &str) -> Option<u64> {
        let costs = &self.measured.get(on)?.costs;
        if on == NONE { costs.get(&systems::bare(name)?) } else { costs.get(name) }.copied()
    }

    /// For people.
    pub fn markdown(&self) -> String {
        let mut text = format!("{}, {}", self.date, self.qemu);
        for one in self.measured.values() {
            write!(text, "; {}", one.version).expect("a string takes everything");
        }
        let groups = self.groups();
        let (systems, operations): (Vec<_>, Vec<_>) =
            groups.values().flatten().partition(|name| systems::bare(name).is_some());
        if !operations.is_empty() {
            text.push_str("\n\n| operation | Xenolith | Xen | ratio |\n|---|---:|---:|---:|\n");
            for name in operations {
                let (ours, theirs) = (self.cost("xenolith", name), self.cost("xen", name));
                let ratio = match (ours, theirs) {
                    (Some(ours), Some(theirs)) if theirs > 0 => format!("{:.2}", ours as f64 / theirs as f64),
                    _ => String::new(),
                };
                let shown = |cost: Option<u64>| cost.map_or_else(String::new, grouped);
                let unit = if name.starts_with("memory/") { " (KiB)" } else { "" };
                let (ours, theirs) = (shown(ours), shown(theirs));
                writeln!(text, "| {name}{unit} | {ours} | {theirs} | {ratio} |").expect("a string takes everything");
            }
        }
        if !systems.is_empty() {
            text.push_str("\n\n| operation | none | Xenolith | Xen | ratio | Xenolith over none | Xen over none | ratio of these |\n");
            text.push_str("|---|---:|---:|---:|---:|---:|---:|---:|\n");
            systems.iter().for_each(|name| text.push_str(&self.system(name)));
        }
        text + &scale::markdown(self)
    }

    /// The line of a table for one operation of a whole system.
    fn system(&self, name: &str) -> String {
        let [none, ours, theirs] = [NONE, "xenolith", "xen"].map(|on| self.cost(on, name));
        let over = |cost: Option<u64>| Some(cost? as f64 - none? as f64);
        let part = |some: Option<f64>, of: Option<f64>| Some(some? / of?).filter(|part| part.is_finite());
        let real = |cost: Option<u64>| cost.map(|cost| cost as f64);
        let percent =
            |cost| part(over(cost), real(none)).map_or_else(String::new, |part| format!("{:+.1} %", part * 100.0));
        let ratio = |part: Option<f64>| part.map_or_else(String::new, |part| format!("{part:.2}"));
        let shown = |cost: Option<u64>| cost.map_or_else(String::new, grouped);
        let cells = [
            name.to_string(),
            shown(none),
            shown(ours),
            shown(theirs),
            ratio(part(real(ours), real(theirs))),
            percent(ours),
            percent(theirs),
            // Where Xen adds nothing, there is nothing to compare with.
            ratio(part(over(ours), over(theirs).filter(|over| *over > 0.0))),
        ];
        format!("| {} |\n", cells.join(" | "))
    }
}

/// What has grown by more than the tolerance since `before`, or is not measured any longer, a line each; what no hypervisor's guests of that
/// kind were measured for at all is left out.
pub fn grown(before: &Report, now: &Report) -> Vec<String> {
    let mut lines = Vec::new();
    for (hypervisor, new) in &now.measured {
        let Some(old) = before.measured.get(hypervisor) else { continue };
        let kinds: BTreeSet<&str> = new.costs.keys().map(|name| kind(name)).collect();
        for (name, was) in old.costs.iter().filter(|(name, _)| kinds.contains(kind(name))) {
            match new.costs.get(name) {
                Some(is) if is * 100 > was * (100 + TOLERANCE) => {
                    lines.push(format!("grown: {name} on {hypervisor}: {is}, was {was}"));
                }
                Some(_) => {}
                None => lines.push(format!("missing: {name} on {hypervisor}: not measured, was {was}")),
            }
        }
    }
    lines
}

/// What stands before the first slash: the kind of guest.
fn kind(name: &str) -> &str {
    name.split('/').next().unwrap_or(name)
}

/// Digits in groups of three.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn first_line(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("cannot run {program}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or("").trim().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(hypervisor: &str, costs: &[(&str, u64)]) -> Report {
        let costs = costs.iter().map(|(name, cost)| (name.to_string(), *cost)).collect();
        let measured = Measured { version: "version 1".to_string(), costs };
        let (date, qemu) = ("2000-01-01".to_string(), "QEMU 10".to_string());
        Report { date, qemu, measured: [(hypervisor.to_string(), measured)].into() }
    }

    #[test]
    fn json_comes_back_as_it_was() {
        let report = report("xen", &[("pv/a.b", 7), ("memory/x.y", 8)]);
        assert_eq!(Report::parse(&report.json()).unwrap(), report);
        assert!(Report::parse("{}").is_err());
        assert!(Report::parse(&report.json().replace('7', "\"7\"")).is_err());
    }

    #[test]
    fn more_than_three_percent_is_grown() {
        let before = report("xenolith", &[("pv/a.b", 200), ("pv/a.c", 100), ("pvh/a.b", 5)]);
        assert_eq!(grown(&before, &report("xenolith", &[("pv/a.b", 206), ("pv/a.c", 1)])), [""; 0]);
        let lines = grown(&before, &report("xenolith", &[("pv/a.b", 207), ("pv/new.d", 1)]));
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[0].contains("pv/a.b") && lines[0].contains("207"), "{lines:?}");
        assert!(lines[1].contains("missing: pv/a.c"), "{lines:?}");
        assert_eq!(grown(&before, &report("xen", &[("pv/a.b", 2000)])), [""; 0], "another hypervisor");
    }

    #[test]
    fn the_table_has_both_and_their_ratio() {
        let mut both = report("xenolith", &[("pv/a.b", 1500)]);
        both.measured.extend(report("xen", &[("pv/a.b", 3000), ("pv/a.c", 9)]).measured);
        let text = both.markdown();
        assert!(text.contains("| pv/a.b | 1,500 | 3,000 | 0.50 |"), "{text}");
        assert!(text.contains("| pv/a.c |  | 9 |  |"), "{text}");
        assert!(!text.contains("over none"), "{text}");
    }

    #[test]
    fn whole_systems_are_compared_with_no_hypervisor() {
        let mut all = report("xenolith", &[("system-pv/a.b", 1500), ("system-pvh/a.b", 900)]);
        all.measured.extend(report("xen", &[("system-pv/a.b", 3000), ("system-pvh/a.b", 1000)]).measured);
        all.measured.extend(report("none", &[("system/a.b", 1000)]).measured);
        let text = all.markdown();
        assert!(
            text.contains("| system-pv/a.b | 1,000 | 1,500 | 3,000 | 0.50 | +50.0 % | +200.0 % | 0.25 |"),
            "{text}"
        );
        assert!(text.contains("| system-pvh/a.b | 1,000 | 900 | 1,000 | 0.90 | -10.0 % | +0.0 % |  |"), "{text}");
        assert!(!text.contains("| system/a.b"), "{text}");
        assert_eq!(text.matches("| operation |").count(), 1, "{text}");
        all.measured.remove("none");
        assert!(all.markdown().contains("| system-pv/a.b |  | 1,500 | 3,000 | 0.50 |  |  |  |"), "{text}");
    }
}
