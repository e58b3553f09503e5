//! Links (`--link db:database`): the older way in which one container knows another.
//!
//! In Docker's default network, where no names are served, a link is a line of the hosts file and variables of the environment, as of the
//! start. In a network of a user it is a word of this container's own for a name of the other's, looked up when it is asked for.

use std::net::IpAddr;

use super::{container::short, merge, ports, record::Record};
use crate::{
    api::container::HostConfig,
    error::{Failure, Result},
};

/// Most links of one container.
const MOST: usize = 256;

/// A link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    /// Name or id of the other.
    pub(super) target: String,
    /// What it is called here.
    pub(super) alias: String,
}

impl Link {
    /// `name`, `name:alias`, or, as inspection shows them, `/name:/own/alias`.
    ///
    /// # Errors
    /// 400.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let wrong =
            || Failure::bad(format!("bad format for links: {}", text.chars().take(80).collect::<String>()));
        let (target, alias) = text.split_once(':').unwrap_or((text, text));
        let alias = alias.rsplit('/').next().unwrap_or(alias);
        let target = target.trim_start_matches('/');
        // It becomes a word of the hosts file and of a variable.
        let is_name = |name: &str| {
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
            !name.is_empty() && name.len() <= 255 && name.bytes().all(fits)
        };
        match is_name(target) && is_name(alias) {
            true => Ok(Self { target: target.to_owned(), alias: alias.to_owned() }),
            false => Err(wrong()),
        }
    }
}

/// All of a list.
///
/// # Errors
/// 400.
pub(super) fn parse(texts: Option<&Vec<String>>) -> Result<Vec<Link>> {
    let texts = texts.map(Vec::as_slice).unwrap_or_default();
    match texts.len() > MOST {
        true => Err(Failure::bad(format!("more than {MOST} links"))),
        false => texts.iter().map(|text| Link::parse(text)).collect(),
    }
}

/// All of a container.
///
/// # Errors
/// 400.
pub(super) fn of(host: &HostConfig) -> Result<Vec<Link>> {
    parse(host.links.as_ref())
}

/// The alias, what the other calls itself, and its name.
pub(super) fn host_names(link: &Link, theirs: &Record) -> String {
    let mut names = vec![link.alias.clone(), merge::hostname(theirs)];
    if theirs.name != link.alias {
        names.push(theirs.name.clone());
    }
    names.retain(|name| !name.is_empty());
    names.join(" ")
}

/// As Docker's links have them: `DATABASE_PORT_5432_TCP_ADDR`, `DATABASE_NAME`, `DATABASE_ENV_...`.
pub(super) fn variables(link: &Link, ip: IpAddr, record: &Record, theirs: &Record) -> Vec<(String, String)> {
    let prefix = link.alias.to_ascii_uppercase().replace('-', "_");
    let mut env = Vec::new();
    let mut exposed = ports::exposed(&theirs.config).unwrap_or_default();
    exposed.sort();
    for (at, port) in exposed.iter().enumerate() {
        let protocol = ports::protocol_name(port.protocol);
        let whole = format!("{protocol}://{}", std::net::SocketAddr::new(ip, port.number));
        if at == 0 {
            env.push((format!("{prefix}_PORT"), whole.clone()));
        }
        let name = format!("{prefix}_PORT_{}_{}", port.number, protocol.to_ascii_uppercase());
        env.extend([
            (name.clone(), whole),
            (format!("{name}_ADDR"), ip.to_string()),
            (format!("{name}_PORT"), port.number.to_string()),
            (format!("{name}_PROTO"), protocol.to_owned()),
        ]);
    }
    env.push((format!("{prefix}_NAME"), format!("/{}/{}", record.name, link.alias)));
    for (name, value) in merge::environment(&theirs.config, short(&theirs.id)) {
        let is_own = theirs.config.env.iter().flatten().any(|entry| entry.split('=').next() == Some(&name));
        if is_own && !matches!(name.as_str(), "PATH" | "HOME") {
            env.push((format!("{prefix}_ENV_{name}"), value));
        }
    }
    env
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_a_name_and_an_alias_in_each_of_its_forms() {
        for (text, target, alias) in [
            ("db", "db", "db"),
            ("db:data", "db", "data"),
            ("/db:/web/data", "db", "data"),
            ("/db:data", "db", "data"),
        ] {
            let link = Link { target: target.to_owned(), alias: alias.to_owned() };
            assert_eq!(Link::parse(text).unwrap(), link, "{text}");
        }
        for text in ["", ":", "db:", ":data", "db:a b", "db:a\n10.0.0.1", "a/b:c", "db:a=b"] {
            assert_eq!(Link::parse(text).unwrap_err().status(), 400, "{text:?}");
        }
    }

    #[test]
    fn the_other_s_ports_and_variables_are_ones_of_the_environment() {
        let record = |name: &str, config: &str| Record {
            id: "a".repeat(64),
            name: name.to_owned(),
            created: 0,
            image: husk_model::ImageId::new(format!("sha256:{}", "0".repeat(64)).parse().unwrap()),
            config: serde_json::from_str(config).unwrap(),
            host: HostConfig::default(),
            networks: Default::default(),
            mounts: Vec::new(),
            state: Default::default(),
        };
        let link = Link::parse("db:my-data").unwrap();
        let theirs = record("db", r#"{"ExposedPorts":{"5432/tcp":{},"53/udp":{}},"Env":["A=1","PATH=/x"]}"#);
        let env = variables(&link, "172.17.0.2".parse().unwrap(), &record("web", "{}"), &theirs);
        let value = |name: &str| env.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str());
        assert_eq!(value("MY_DATA_PORT"), Some("udp://172.17.0.2:53"));
        assert_eq!(value("MY_DATA_PORT_5432_TCP"), Some("tcp://172.17.0.2:5432"));
        assert_eq!(value("MY_DATA_PORT_5432_TCP_ADDR"), Some("172.17.0.2"));
        assert_eq!(value("MY_DATA_NAME"), Some("/web/my-data"));
        assert_eq!((value("MY_DATA_ENV_A"), value("MY_DATA_ENV_PATH")), (Some("1"), None));
        assert_eq!(host_names(&link, &theirs), "my-data aaaaaaaaaaaa db");
    }
}
