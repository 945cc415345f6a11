//! The project's front door: builds, boots, tests and checks. Started by `./x`, which installs what it needs.

#![forbid(unsafe_code)]

mod bench;
mod check;
mod cli;
mod grub;
mod guests;
mod host;
mod hypervisor;
mod image;
mod machine;
mod profile;
mod run;
mod script;
mod test;
mod workspace;

use anyhow::Result;
use clap::Parser;
use cli::{Action, Cli};
use std::process::ExitCode;

fn main() -> ExitCode {
    match dispatch(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("x: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(action: Action) -> Result<ExitCode> {
    match action {
        Action::Build(options) => {
            let image = hypervisor::build(if options.debug { "dev" } else { "release" })?;
            println!("{}\n{}", image.elf32.display(), image.gz.display());
            Ok(ExitCode::SUCCESS)
        }
        Action::Run(options) => run::run(&options),
        Action::Images => {
            image::mini()?;
            image::full()?;
            image::debian_xen()?;
            Ok(ExitCode::SUCCESS)
        }
        Action::CleanCache => image::clean().map(|()| ExitCode::SUCCESS),
        Action::Test(options) => test::test(&options),
        Action::Bench(options) => bench::bench(&options),
        Action::Check => check::check(),
        Action::Fmt => check::format(),
    }
}
