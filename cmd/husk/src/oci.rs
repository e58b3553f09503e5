//! `husk oci`: husk-oci with the same arguments, in our place. It is a program of its own, because it clones containers and must have
//! one thread for that.

use std::{
    ffi::{CString, OsString},
    io,
    os::unix::ffi::OsStringExt as _,
    path::PathBuf,
};

use clap::Args;
use husk_sys::exec::{StringArray, execve};

use crate::client::Result;

/// What is handed on.
#[derive(Debug, Args)]
pub(crate) struct Oci {
    /// Commands and flags in runc's form; see husk-oci(8)
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
    words: Vec<OsString>,
}

/// Becomes husk-oci. Returns only to say why not.
pub(crate) fn run(oci: Oci) -> Result<bool> {
    let program = program()?;
    let string = |text: OsString| CString::new(text.into_vec()).map_err(io::Error::other);
    let words = std::iter::once("husk-oci".into()).chain(oci.words).map(string);
    let environment = std::env::vars_os().map(|(name, value)| {
        let mut entry = name;
        entry.push("=");
        entry.push(value);
        string(entry)
    });
    let words = StringArray::new(words.collect::<io::Result<_>>()?);
    let environment = StringArray::new(environment.collect::<io::Result<_>>()?);
    let errno = execve(&string(program.clone().into())?, &words, &environment);
    Err(format!("execute {}: {}", program.display(), io::Error::from(errno)).into())
}

/// That beside us.
fn program() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let program = own.with_file_name("husk-oci");
    match program.exists() {
        true => Ok(program),
        false => {
            Err(format!("{} is not there: husk's packages and `make install` bring it", program.display())
                .into())
        }
    }
}
