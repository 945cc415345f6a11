//! Plots: a picture for each group, a bar for each hypervisor and operation, their length by the logarithm of the cost.

use super::report::Report;
use std::fmt::Write as _;

const NAMES: f64 = 230.0;
const BARS: f64 = 520.0;
const NUMBERS: f64 = 90.0;
const BAR: f64 = 13.0;
const GAP: f64 = 8.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 26.0;
/// The hypervisors, as they are named in results and in the legend, and their colours.
const SIDES: [(&str, &str, &str); 3] =
    [("none", "no hypervisor", "#8a8a8a"), ("xenolith", "Xenolith", "#b5482a"), ("xen", "Xen", "#5b7d9e")];

/// The pictures, as SVG, by group.
pub fn plots(report: &Report) -> Vec<(String, String)> {
    report.groups().iter().map(|(group, names)| (group.clone(), plot(report, group, names))).collect()
}

fn plot(report: &Report, group: &str, names: &[String]) -> String {
    let sides: Vec<_> =
        SIDES.iter().filter(|(side, ..)| names.iter().any(|name| report.cost(side, name).is_some())).collect();
    let costs = names.iter().flat_map(|name| sides.iter().filter_map(|(side, ..)| report.cost(side, name)));
    let decades = costs.max().unwrap_or(1).max(10) as f64;
    let decades = decades.log10().ceil();
    let length = |cost: u64| (cost.max(1) as f64).log10() / decades * BARS;
    let step = BAR * sides.len() as f64 + GAP;
    let bottom = TOP + step * names.len() as f64;
    let (width, height) = (NAMES + BARS + NUMBERS, bottom + BOTTOM);
    let mut lines = vec![
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
             font-family=\"sans-serif\" font-size=\"11\">"
        ),
        format!("<rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>"),
        format!("<text x=\"8\" y=\"18\" font-size=\"14\">{group}: {}</text>", unit(group)),
    ];
    for (number, (_, shown, colour)) in sides.iter().enumerate() {
        let x = NAMES + 90.0 * number as f64;
        lines.push(format!("<rect x=\"{x}\" y=\"26\" width=\"10\" height=\"10\" fill=\"{colour}\"/>"));
        lines.push(format!("<text x=\"{}\" y=\"35\">{shown}</text>", x + 14.0));
    }
    for decade in 0..=decades as u32 {
        let x = NAMES + f64::from(decade) / decades * BARS;
        lines.push(format!("<line x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{bottom}\" stroke=\"#ddd\"/>"));
        lines.push(format!(
            "<text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\" fill=\"#666\">{}</text>",
            bottom + 16.0,
            10u64.pow(decade)
        ));
    }
    for (row, name) in names.iter().enumerate() {
        let y = TOP + step * row as f64 + GAP / 2.0;
        let short = name.split_once('.').map_or(name.as_str(), |(_, short)| short);
        lines.push(format!("<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{short}</text>", NAMES - 6.0, y + BAR + 4.0));
        for (side, (id, _, colour)) in sides.iter().enumerate() {
            let Some(cost) = report.cost(id, name) else { continue };
            let (y, end) = (y + BAR * side as f64, length(cost));
            lines.push(bar(y, end, colour, cost));
        }
    }
    lines.push("</svg>".to_string());
    lines.iter().fold(String::new(), |mut text, line| {
        writeln!(text, "{line}").expect("a string takes everything");
        text
    })
}

fn bar(y: f64, length: f64, colour: &str, cost: u64) -> String {
    format!(
        "<rect x=\"{NAMES}\" y=\"{y}\" width=\"{length:.1}\" height=\"{}\" fill=\"{colour}\"/>\
         <text x=\"{:.1}\" y=\"{}\">{cost}</text>",
        BAR - 1.0,
        NAMES + length + 4.0,
        y + BAR - 3.0
    )
}

fn unit(group: &str) -> &'static str {
    if group.starts_with("memory/") { "KiB" } else { "instructions" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Measured;

    #[test]
    fn a_group_has_a_picture_with_a_bar_for_each_cost() {
        let of = |costs: &[(&str, u64)]| Measured {
            version: String::new(),
            costs: costs.iter().map(|(name, cost)| (name.to_string(), *cost)).collect(),
        };
        let measured = [
            ("xen".to_string(), of(&[("pv/a.one", 100), ("pv/a.two", 50), ("pv/b.three", 7)])),
            ("xenolith".to_string(), of(&[("pv/a.one", 10)])),
        ];
        let plots = plots(&Report { measured: measured.into(), ..Report::default() });
        let names: Vec<_> = plots.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["pv/a", "pv/b"]);
        let picture = &plots[0].1;
        assert!(picture.starts_with("<svg ") && picture.ends_with("</svg>\n"));
        assert_eq!(picture.matches(&format!("height=\"{}\"", BAR - 1.0)).count(), 3, "{picture}");
        // 100 is the end of two decades, 10 of one.
        assert!(picture.contains("width=\"520.0\"") && picture.contains("width=\"260.0\""), "{picture}");
    }
}
