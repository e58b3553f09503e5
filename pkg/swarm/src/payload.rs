//! Secrets and configs: bytes with a name, for the files of tasks.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};

use crate::{
    cluster::Driver,
    error::{Result, SwarmError, cut},
    object::{Meta, check_labels, check_name},
    spec::spec,
    template::Template,
};

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PayloadKind {
    /// Nobody is shown it again but tasks.
    Secret,
    /// Everybody who asks is.
    Config,
}

impl PayloadKind {
    /// What people call it, and its directory but for the plural.
    pub fn word(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::Config => "config",
        }
    }

    pub(crate) fn plural(self) -> &'static str {
        match self {
            Self::Secret => "secrets",
            Self::Config => "configs",
        }
    }

    /// Most bytes: Docker's bounds.
    pub fn largest(self) -> usize {
        match self {
            Self::Secret => 500 << 10,
            Self::Config => 1000 << 10,
        }
    }
}

spec! {
    /// What a client wants of one.
    struct PayloadSpec {
        [
            /// Its name.
            name: String = "Name",
            /// Labels.
            labels: BTreeMap<String, String> = "Labels",
        ]
        /// The bytes, in base 64.
        data: String = "Data",
        /// Who has them, where that is not the swarm.
        driver: Option<Driver> = "Driver",
        /// Whether they are a template: the engine `golang`.
        templating: Option<Driver> = "Templating",
    }
}

/// A secret or config.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Payload {
    /// Id and version.
    pub meta: Meta,
    /// As it is shown: the data in base 64.
    pub spec: PayloadSpec,
}

impl Payload {
    /// The bytes.
    pub fn data(&self) -> Vec<u8> {
        // Checked when it was made.
        STANDARD.decode(&self.spec.data).unwrap_or_default()
    }

    /// Whether the bytes are a template.
    pub fn is_template(&self) -> bool {
        self.spec.templating.is_some()
    }
}

/// Checks one that is wanted.
///
/// # Errors
/// [`SwarmError::Wrong`], [`SwarmError::Missing`].
pub(crate) fn check(kind: PayloadKind, spec: &PayloadSpec) -> Result<()> {
    let word = kind.word();
    check_name(&spec.name)?;
    check_labels(&spec.labels)?;
    if let Some(driver) = &spec.driver {
        return Err(SwarmError::Missing(format!(
            "husk has no {word} drivers, and {:?} is asked for: the swarm itself keeps the data",
            cut(&driver.name)
        )));
    }
    let data = STANDARD.decode(&spec.data).map_err(|error| {
        SwarmError::wrong(format!("the data of {word} {} is not base 64: {error}", spec.name))
    })?;
    let largest = kind.largest();
    if data.is_empty() || data.len() > largest {
        return Err(SwarmError::wrong(format!(
            "{word} data must be larger than 0 and less than {largest} bytes"
        )));
    }
    match &spec.templating {
        Some(engine) if engine.name != "golang" => Err(SwarmError::wrong(format!(
            "invalid template driver {:?} of {word} {}: golang is expected",
            cut(&engine.name),
            spec.name
        ))),
        Some(_) => {
            let text = String::from_utf8(data).map_err(|_| {
                SwarmError::wrong(format!("{word} {} is a template and not UTF-8", spec.name))
            })?;
            Template::parse(&text, true).map(drop)
        }
        None => Ok(()),
    }
}

/// Checks that a change leaves all but labels as it is.
///
/// # Errors
/// [`SwarmError::Wrong`].
pub(crate) fn check_update(kind: PayloadKind, now: &PayloadSpec, next: &PayloadSpec) -> Result<()> {
    let same_data = next.data.is_empty() || next.data == now.data;
    if next.name != now.name || !same_data || next.driver.is_some() {
        return Err(SwarmError::wrong(format!("only updates to Labels are allowed of a {}", kind.word())));
    }
    check_labels(&next.labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(kind: PayloadKind, data: &[u8], more: &str) -> Result<()> {
        let text = format!(r#"{{"Name":"a","Data":"{}"{more}}}"#, STANDARD.encode(data));
        check(kind, &serde_json::from_str(&text).unwrap())
    }

    #[test]
    fn the_bounds_are_dockers() {
        use PayloadKind::{Config, Secret};
        for (kind, size, is_taken) in [
            (Secret, 0, false),
            (Secret, 500 << 10, true),
            (Secret, (500 << 10) + 1, false),
            (Config, 1000 << 10, true),
            (Config, (1000 << 10) + 1, false),
        ] {
            assert_eq!(checked(kind, &vec![b'x'; size], "").is_ok(), is_taken, "{kind:?} {size}");
        }
    }

    #[test]
    fn drivers_and_templates_that_are_not_there_are_refused() {
        let of = |more: &str| checked(PayloadKind::Config, b"{{.Task.ID}}", more);
        assert!(of(r#","Templating":{"Name":"golang"}"#).is_ok());
        assert!(of(r#","Templating":{"Name":"jinja"}"#).is_err());
        assert!(matches!(of(r#","Driver":{"Name":"vault"}"#), Err(SwarmError::Missing(_))));
        assert!(checked(PayloadKind::Config, b"{{range .}}", r#","Templating":{"Name":"golang"}"#).is_err());
    }

    #[test]
    fn labels_alone_can_change() {
        let now: PayloadSpec = serde_json::from_str(r#"{"Name":"a","Data":"eA=="}"#).unwrap();
        let labelled = PayloadSpec { labels: [("a".into(), "b".into())].into(), ..now.clone() };
        let kind = PayloadKind::Secret;
        assert!(check_update(kind, &now, &labelled).is_ok());
        assert!(check_update(kind, &now, &PayloadSpec { data: String::new(), ..labelled.clone() }).is_ok());
        assert!(check_update(kind, &now, &PayloadSpec { data: "eQ==".into(), ..labelled.clone() }).is_err());
        assert!(check_update(kind, &now, &PayloadSpec { name: "b".into(), ..labelled }).is_err());
    }
}
