//! `sdn-lab demo`

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::DemoArgs;
use super::interrupts::{self, INTERRUPTED};
use super::up::print_progress;
use crate::demo;
use crate::events::Interrupt;

pub fn run(arguments: &DemoArgs) -> Result<u8> {
    let interrupt = Interrupt::default();
    let interrupted = interrupts::listen(&interrupt)?;
    let mut builder = arguments.cluster.describe(&arguments.name).until(&interrupt).on_progress(print_progress);
    if arguments.cluster.filename.is_empty() {
        builder = builder.manifests(examples()?);
    }
    let lab = match builder.tolerate_unready().start() {
        Ok(lab) => lab,
        Err(_) if interrupt.is_requested() => return Ok(INTERRUPTED),
        Err(error) => return Err(error),
    };
    let well = demo::show(&lab)?;
    if arguments.keep {
        println!("\n{}", demo::suggestions(&lab));
        interrupted.recv().context("wait for Ctrl-C")?;
    }
    lab.stop()?;
    Ok(u8::from(!well))
}

/// The example application: in the working directory's tree, else in the one this program was built from.
fn examples() -> Result<PathBuf> {
    let places = [Path::new("examples"), Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples"))];
    let found = places.into_iter().find(|place| place.is_dir());
    found.map(Path::to_owned).context("find the example application: say which manifests to run with -f PATH")
}
