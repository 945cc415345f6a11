//! `./x run --profile`: which functions of the hypervisor execute how many instructions, by a plugin of QEMU.

use anyhow::{Context, Result, bail};
use object::{Object, SymbolMap, SymbolMapName};
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const PLUGIN: &str = include_str!("count.c");
const START_PLUGIN: &str = include_str!("start.c");
/// Functions shown.
const SHOWN: usize = 40;
/// What the hypervisor has of the address space, here as on Xen: L4 slots 256 to 271 (xen.h, `HYPERVISOR_VIRT_START`).
const HYPERVISOR: std::ops::Range<u64> = 0xffff_8000_0000_0000..0xffff_8800_0000_0000;

/// Builds the plugin in `folder`; QEMU's arguments for it.
///
/// # Errors
/// Where there is no C compiler.
pub fn arguments(folder: &Path, log: &Path) -> Result<[String; 2]> {
    let plugin = build(folder, "count", PLUGIN)?;
    Ok(plugin_option(&[("file", &plugin), ("log", log), ("out", folder)], ""))
}

/// Builds the plugin that counts from an image's entry point on until dom0 begins, in `folder`; QEMU's arguments for it. The count goes
/// to the file `out`, and what [`report`] needs to `folder`.
///
/// # Errors
/// Where there is no C compiler.
pub fn start_arguments(folder: &Path, entry: u64, out: &Path) -> Result<[String; 2]> {
    let plugin = build(folder, "start", START_PLUGIN)?;
    let blocks = folder.join("exit");
    Ok(plugin_option(&[("file", &plugin), ("out", out), ("blocks", &blocks)], &format!(",entry={entry:x}")))
}

fn plugin_option(paths: &[(&str, &Path)], more: &str) -> [String; 2] {
    let paths = paths.iter().map(|(name, path)| format!("{name}={}", path.display().to_string().replace(',', ",,")));
    ["-plugin".to_string(), paths.collect::<Vec<_>>().join(",") + more]
}

/// Compiles a plugin's text in `folder`; gives the plugin.
fn build(folder: &Path, name: &str, text: &str) -> Result<PathBuf> {
    let (source, plugin) = (folder.join(format!("{name}.c")), folder.join(format!("{name}.so")));
    fs::write(&source, text)?;
    let mut compiler = Command::new("cc");
    compiler.args(["-O2", "-shared", "-fPIC", "-pthread", "-o"]).args([&plugin, &source]);
    if !compiler.status().context("cannot run cc, which counting needs: install gcc")?.success() {
        bail!("{} does not build", source.display());
    }
    Ok(plugin)
}

/// What was counted, as a table; `image` is the hypervisor with its symbols.
///
/// # Errors
/// Where the plugin wrote nothing.
pub fn report(folder: &Path, image: Option<&Path>) -> Result<String> {
    let begin = counts(&folder.join("begin")).unwrap_or_default();
    let end = counts(&folder.join("end")).or_else(|_| counts(&folder.join("exit")))?;
    let data = image.map(fs::read).transpose()?;
    let names = data.as_deref().map(object::File::parse).transpose()?.map(|file| file.symbol_map());
    let mut totals = BTreeMap::<&str, u64>::new();
    let mut functions = HashMap::<String, u64>::new();
    for (address, count) in end {
        let count = count - begin.get(&address).copied().unwrap_or(0);
        *totals.entry(part(address)).or_default() += count;
        if let (Some(names), true) = (&names, HYPERVISOR.contains(&address)) {
            *functions.entry(name(names, address)).or_default() += count;
        }
    }
    let mut text = String::from("instructions, in thousands:\n");
    for (part, count) in totals {
        writeln!(text, "{:>12}  {part}", count / 1000)?;
    }
    let mut functions: Vec<_> = functions.into_iter().collect();
    functions.sort_by_key(|(name, count)| (std::cmp::Reverse(*count), name.clone()));
    for (name, count) in functions.iter().take(SHOWN) {
        writeln!(text, "{:>12}    {name}", count / 1000)?;
    }
    Ok(text)
}

fn part(address: u64) -> &'static str {
    match address {
        0..0x8000_0000_0000 => "user",
        address if HYPERVISOR.contains(&address) => "hypervisor",
        _ => "kernel",
    }
}

fn name(names: &SymbolMap<SymbolMapName<'_>>, address: u64) -> String {
    match names.get(address) {
        Some(symbol) => format!("{:#}", rustc_demangle::demangle(symbol.name())),
        None => format!("{address:#x}"),
    }
}

/// Instructions by the address of their block.
fn counts(path: &Path) -> Result<HashMap<u64, u64>> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut counts = HashMap::new();
    for line in text.lines() {
        let mut words = line.split(' ');
        let mut word = || words.next().with_context(|| format!("{}: {line:?} lacks a number", path.display()));
        let (address, instructions) = (u64::from_str_radix(word()?, 16)?, word()?.parse::<u64>()?);
        *counts.entry(address).or_default() += instructions * word()?.parse::<u64>()?;
    }
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_before_the_beginning_is_left_out() {
        let folder = tempfile();
        fs::write(folder.join("begin"), "400000 3 10\n").unwrap();
        fs::write(
            folder.join("end"),
            "400000 3 1010\n400000 2 500\nffff82d080200000 5 1000\nffffffff81000000 1 7000\n",
        )
        .unwrap();
        let text = report(&folder, None).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        let lines: Vec<_> = text.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
        assert_eq!(lines, [["5", "hypervisor"], ["7", "kernel"], ["4", "user"]]);
    }

    fn tempfile() -> std::path::PathBuf {
        let folder = std::env::temp_dir().join(format!("xenolith-profile-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        folder
    }
}
