//! Limits of processes.

use husk_model::Rlimit;
use oci_spec::runtime::{PosixRlimit, PosixRlimitBuilder, PosixRlimitType};

use crate::SpecError;

/// The spec's form of them.
///
/// # Errors
/// A limit that no kernel has.
pub(crate) fn rlimits(limits: &[Rlimit]) -> Result<Vec<PosixRlimit>, SpecError> {
    limits.iter().map(rlimit).collect()
}

fn rlimit(limit: &Rlimit) -> Result<PosixRlimit, SpecError> {
    let name = format!("RLIMIT_{}", limit.name.to_ascii_uppercase());
    let kind = serde_json::from_value::<PosixRlimitType>(name.clone().into())
        .map_err(|_| SpecError::UnknownRlimit { name })?;
    Ok(PosixRlimitBuilder::default().typ(kind).soft(limit.soft).hard(limit.hard).build()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_named_as_the_kernel_names_it() {
        let files = Rlimit { name: "nofile".into(), soft: 1024, hard: 2048 };
        let spec = rlimits(&[files]).unwrap();
        assert_eq!(spec[0].typ(), PosixRlimitType::RlimitNofile);
        assert_eq!((spec[0].soft(), spec[0].hard()), (1024, 2048));
        let bogus = Rlimit { name: "files".into(), soft: 1, hard: 1 };
        assert!(rlimits(&[bogus]).unwrap_err().to_string().contains("RLIMIT_FILES"));
    }
}
