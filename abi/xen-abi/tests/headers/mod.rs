//! Compiles and runs small C programs against the Xen headers.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// Points to the directory that holds `xen.h`; the value `none` skips the comparison.
pub const VARIABLE: &str = "XENOLITH_XEN_HEADERS";

const SYSTEM_HEADERS: &str = "/usr/include/xen";

const INCLUDES: &[&str] = &[
    "xen.h",
    "memory.h",
    "event_channel.h",
    "grant_table.h",
    "sched.h",
    "vcpu.h",
    "callback.h",
    "physdev.h",
    "platform.h",
    "version.h",
    "features.h",
    "domctl.h",
    "sysctl.h",
    "elfnote.h",
    "hvm/params.h",
    "hvm/hvm_op.h",
    "arch-x86/hvm/start_info.h",
    "hvm/hvm_vcpu.h",
    "hvm/ioreq.h",
    "hvm/dm_op.h",
    "hvm/save.h",
    "nmi.h",
    "kexec.h",
    "vm_event.h",
    "arch-x86/cpuid.h",
    "arch-x86/cpufeatureset.h",
];

/// The directory with the Xen headers, or nothing if the caller asked to skip.
pub fn locate() -> Option<PathBuf> {
    let directory = match env::var(VARIABLE) {
        Ok(value) if value == "none" => return None,
        Ok(value) => PathBuf::from(value),
        Err(_) => PathBuf::from(SYSTEM_HEADERS),
    };
    let found = [directory.join("xen"), directory.clone()].into_iter().find(|d| d.join("xen.h").is_file());
    Some(found.unwrap_or_else(|| {
        panic!(
            "no Xen headers in {}: install Debian 13's libxen-dev or set {VARIABLE} to the directory that holds xen.h of Xen \
             4.20 ({VARIABLE}=none skips the comparison)",
            directory.display()
        )
    }))
}

/// A scratch directory in which `include/xen` is the headers, and the text that includes them all.
fn scratch(headers: &Path, name: &str) -> (PathBuf, String) {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(directory.join("include")).expect("make the scratch directory");
    // A link gives `#include <xen/...>` without the rest of the headers' parent directory, which may be another C library's.
    let headers = headers.canonicalize().expect("resolve the header directory");
    std::os::unix::fs::symlink(headers, directory.join("include/xen")).expect("link the headers");
    (directory, INCLUDES.iter().map(|header| format!("#include <xen/{header}>\n")).collect())
}

/// Compiles declarations for 32-bit x86, as a guest sees the headers. No C library is needed. The error is what the compiler
/// says.
pub fn compile_narrow(headers: &Path, name: &str, declarations: &str) -> Result<(), String> {
    let (directory, includes) = scratch(headers, name);
    let source = directory.join("narrow.c");
    fs::write(&source, format!("#include <stddef.h>\n#include <stdint.h>\n{includes}\n{declarations}"))
        .expect("write the C source");
    let compiler = env::var_os("CC").unwrap_or_else(|| "cc".into());
    let output = Command::new(compiler)
        .args([
            "-std=gnu11",
            "-w",
            "-m32",
            "-ffreestanding",
            "-fsyntax-only",
            "-D__XEN_TOOLS__",
            "-D__XEN_INTERFACE_VERSION__=0x00041300",
        ])
        .arg("-I")
        .arg(directory.join("include"))
        .arg(&source)
        .output()
        .expect("run the C compiler");
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

/// Runs a program whose `main` has the statements `body` and returns the lines that it prints.
pub fn run(headers: &Path, name: &str, body: &str) -> Vec<String> {
    let (directory, includes) = scratch(headers, name);
    let source = directory.join("program.c");
    let program = directory.join("program");
    fs::write(
        &source,
        format!("#include <stddef.h>\n#include <stdint.h>\n#include <stdio.h>\n{includes}\nint main(void)\n{{\n{body}    return 0;\n}}\n"),
    )
    .expect("write the C program");

    let compiler = env::var_os("CC").unwrap_or_else(|| "cc".into());
    let output = Command::new(compiler)
        .args(["-std=gnu11", "-w", "-m64", "-D__XEN_TOOLS__", "-D__XEN_INTERFACE_VERSION__=0x00041300"])
        .arg("-I")
        .arg(directory.join("include"))
        .arg(&source)
        .arg("-o")
        .arg(&program)
        .output()
        .expect("run the C compiler");
    assert!(output.status.success(), "the C compiler failed:\n{}", String::from_utf8_lossy(&output.stderr));

    let output = Command::new(&program).output().expect("run the C program");
    assert!(output.status.success(), "the C program failed: {}", output.status);
    String::from_utf8(output.stdout).expect("C program prints text").lines().map(str::to_owned).collect()
}

/// Names of all macros without parameters that the included headers define, in whatever configuration.
pub fn macros(headers: &Path) -> Vec<String> {
    let name_of = |line: &str| {
        let rest = line.trim_start().strip_prefix('#')?.trim_start().strip_prefix("define")?.trim_start();
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        (!rest[end..].starts_with('(') && !rest[end..].trim().is_empty()).then(|| rest[..end].to_owned())
    };
    INCLUDES
        .iter()
        .flat_map(|header| {
            let text = fs::read_to_string(headers.join(header)).expect("read a header");
            text.lines().filter_map(name_of).collect::<Vec<_>>()
        })
        .collect()
}
