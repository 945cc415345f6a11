//! Checks that read the sources: where `unsafe` is, and how long files and functions are.

use crate::workspace::{Crate, Layer};
use anyhow::{Context, Result};
use proc_macro2::{TokenStream, TokenTree};
use std::fs;
use std::path::{Path, PathBuf};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

/// Lines in a file.
const FILE_LINES: usize = 600;
/// Lines in a function, from its signature to its last brace.
const FUNCTION_LINES: usize = 80;
/// `unsafe` in the binary: the attribute on its entry point.
const BINARY_UNSAFE: usize = 1;
/// The tool that runs instructions on the host's CPU, to compare what the emulation makes of them: it has to map code and call it.
const NATIVE: &str = "x86-native";

/// Everything that is against the rules in any crate.
///
/// # Errors
/// Where a source file cannot be read.
pub fn problems(crates: &[Crate]) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    for one in crates {
        let mut unsafe_places = Vec::new();
        for path in rust_files(&one.folder)? {
            let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let shown = path.strip_prefix(crate::host::workspace()).unwrap_or(&path).display().to_string();
            match examine(&text) {
                Ok(found) => {
                    problems.extend(found.too_long.iter().map(|p| format!("{shown}:{p}")));
                    unsafe_places.extend(
                        found
                            .unsafe_lines
                            .iter()
                            .map(|line| format!("{shown}:{line}: `unsafe` outside of hal/ and guests/")),
                    );
                }
                Err(error) => problems.push(format!("{shown}: {error}")),
            }
        }
        let allowed = match one.layer {
            _ if may_use_unsafe(one) => usize::MAX,
            Layer::Binary => BINARY_UNSAFE,
            _ => 0,
        };
        if unsafe_places.len() > allowed {
            problems.append(&mut unsafe_places);
        }
        problems.extend(missing_attributes(one)?);
    }
    Ok(problems)
}

/// Whether any of a crate's code may be unsafe.
fn may_use_unsafe(one: &Crate) -> bool {
    matches!(one.layer, Layer::Hal | Layer::Guests) || one.layer == Layer::Tools && one.name == NATIVE
}

/// Each crate root has to forbid unsafe code; the binary denies it, for its one exception.
fn missing_attributes(one: &Crate) -> Result<Vec<String>> {
    let wanted: &[&str] = match one.layer {
        _ if may_use_unsafe(one) => return Ok(Vec::new()),
        Layer::Binary => &["#![deny(unsafe_code)]", "#![forbid(unsafe_code)]"],
        _ => &["#![forbid(unsafe_code)]"],
    };
    let mut problems = Vec::new();
    for root in &one.roots {
        let text = fs::read_to_string(root).with_context(|| format!("cannot read {}", root.display()))?;
        if !wanted.iter().any(|w| text.lines().any(|l| l.trim() == *w)) {
            problems.push(format!("{}: lacks {}", root.display(), wanted[0]));
        }
    }
    Ok(problems)
}

fn rust_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() && path.file_name().is_some_and(|n| n != "target") {
            files.append(&mut rust_files(&path)?);
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// What one file has against the rules.
#[derive(Default)]
struct Found {
    /// `LINE: text`.
    too_long: Vec<String>,
    /// Lines with the keyword `unsafe`.
    unsafe_lines: Vec<usize>,
}

fn examine(text: &str) -> Result<Found, syn::Error> {
    let mut found = Found::default();
    let lines = text.lines().count();
    if lines > FILE_LINES {
        found.too_long.push(format!("1: {lines} lines, more than {FILE_LINES}"));
    }
    let tokens: TokenStream = text.parse()?;
    keywords(tokens.clone(), &mut found.unsafe_lines);
    // An included fragment is no file of items; only its tokens can be looked at.
    if let Ok(file) = syn::parse2::<syn::File>(tokens) {
        Functions { found: &mut found }.visit_file(&file);
    }
    Ok(found)
}

/// The lines with the keyword `unsafe`: in tokens, so neither in comments nor in strings, but also inside of macros.
fn keywords(tokens: TokenStream, lines: &mut Vec<usize>) {
    for token in tokens {
        match token {
            TokenTree::Ident(ident) if ident == "unsafe" => lines.push(ident.span().start().line),
            TokenTree::Group(group) => keywords(group.stream(), lines),
            _ => {}
        }
    }
}

/// Measures functions.
struct Functions<'a> {
    found: &'a mut Found,
}

impl Functions<'_> {
    fn measure(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let start = signature.span().start().line;
        let lines = block.span().end().line + 1 - start;
        if lines > FUNCTION_LINES {
            self.found
                .too_long
                .push(format!("{start}: function {} has {lines} lines, more than {FUNCTION_LINES}", signature.ident));
        }
    }
}

impl<'ast> Visit<'ast> for Functions<'_> {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.measure(&item.sig, &item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.measure(&item.sig, &item.block);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.measure(&item.sig, block);
        }
        visit::visit_trait_item_fn(self, item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsafe_is_found_in_code_and_macros_only() {
        let text = "// unsafe\nconst A: &str = \"unsafe\";\nfn f() { unsafe { g() } }\nm!(unsafe { x });\n#![forbid(unsafe_code)]\n";
        assert_eq!(examine(text).unwrap().unsafe_lines, [3, 4]);
    }

    #[test]
    fn long_functions_are_found_wherever_they_are() {
        let body = "    x();\n".repeat(FUNCTION_LINES - 2);
        let just = format!("fn just() {{\n{body}}}\n");
        assert!(examine(&just).unwrap().too_long.is_empty());
        let long = format!("struct S;\nimpl S {{\nfn long() {{\n{body}    x();\n}}\n}}\n");
        let found = examine(&long).unwrap().too_long;
        assert_eq!(found, [format!("3: function long has {} lines, more than {FUNCTION_LINES}", FUNCTION_LINES + 1)]);
    }

    #[test]
    fn long_files_are_found() {
        assert!(examine(&"\n".repeat(FILE_LINES)).unwrap().too_long.is_empty());
        assert_eq!(examine(&"\n".repeat(FILE_LINES + 1)).unwrap().too_long.len(), 1);
    }
}
