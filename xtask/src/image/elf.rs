//! The shared libraries of a program, found in a Debian tree without running anything of it.

use anyhow::{Context, Result};
use object::Endianness;
use object::elf::{DT_NEEDED, ELFCLASS64, ELFMAG, FileHeader64, PT_INTERP};
use object::read::elf::{Dyn, FileHeader, ProgramHeader};

/// What the dynamic linker has to load for one file.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Path of the dynamic linker, as the program names it.
    pub interpreter: Option<String>,
    /// Names of the libraries (sonames).
    pub libraries: Vec<String>,
}

/// Reads the needs of the ELF64 file in `data`; empty for anything else (a script, a static program, 32-bit firmware).
///
/// # Errors
/// Where the file says that it is ELF but its tables are inconsistent.
pub fn needs(data: &[u8]) -> Result<Needs> {
    let mut needs = Needs::default();
    if !data.starts_with(&[&ELFMAG[..], &[ELFCLASS64]].concat()) {
        return Ok(needs);
    }
    let header = FileHeader64::<Endianness>::parse(data).context("not a 64-bit ELF file")?;
    let endian = header.endian()?;
    for segment in header.program_headers(endian, data)? {
        if segment.p_type(endian) == PT_INTERP {
            let path = segment.data(endian, data).ok().context("program interpreter outside of the file")?;
            let path = path.strip_suffix(b"\0").unwrap_or(path);
            needs.interpreter = Some(std::str::from_utf8(path)?.to_string());
        }
    }
    let sections = header.sections(endian, data)?;
    let Some((entries, strings)) = sections.dynamic(endian, data)? else {
        return Ok(needs);
    };
    let strings = sections.strings(endian, data, strings)?;
    for entry in entries {
        if entry.tag32(endian) == Some(DT_NEEDED) {
            needs.libraries.push(std::str::from_utf8(entry.string(endian, strings)?)?.to_string());
        }
    }
    Ok(needs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_program_needs_libc() {
        let data = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let needs = needs(&data).unwrap();
        assert!(needs.libraries.iter().any(|l| l == "libc.so.6"), "{needs:?}");
        assert!(needs.interpreter.is_some());
    }

    #[test]
    fn script_needs_nothing() {
        assert_eq!(needs(b"#!/bin/sh\n").unwrap(), Needs::default());
    }

    #[test]
    fn damaged_elf_is_an_error() {
        assert!(needs(b"\x7fELF\x02\x01\x01").is_err());
    }
}
