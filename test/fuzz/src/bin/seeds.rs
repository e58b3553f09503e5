//! Writes the seeds of a target into a directory, for libFuzzer; without arguments lists the targets and their lengths.
#![forbid(unsafe_code)]

use std::{fs, io, path::Path};

use husk_fuzz::{TARGETS, Target};

fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let Some(name) = arguments.next() else {
        TARGETS.iter().for_each(|target| println!("{} {}", target.name, target.length));
        return Ok(());
    };
    let target = Target::named(&name).ok_or_else(|| io::Error::other(format!("{name} is no target")))?;
    let dir = arguments.next().ok_or_else(|| io::Error::other("which directory?"))?;
    fs::create_dir_all(&dir)?;
    for (number, seed) in (target.seeds)().iter().enumerate() {
        fs::write(Path::new(&dir).join(format!("seed-{number}")), seed)?;
    }
    Ok(())
}
