//! resolv.conf of a pod, as resolv.conf(5) and the kubelet want it. Pure text; the caller writes the file.

use husk_model::DnsConfig;

use crate::NetworkError;

/// glibc reads at most this much of a search list (2.26 lifted the count, not the line reader of others); the
/// kubelet caps the list at 2,048 characters (`MaxDNSSearchListChars`).
const MAX_ENTRY: usize = 2048;

/// Renders the file. `dns` of `None`, or one that says nothing, gives `node`, the node's own resolv.conf, unchanged.
///
/// # Errors
/// [`NetworkError::Dns`] when a search domain or option could smuggle in a line or a word of its own: white space,
/// control characters, comment signs, or nothing at all.
pub fn render(dns: Option<&DnsConfig>, node: &str) -> Result<String, NetworkError> {
    let Some(dns) = dns.filter(|dns| !dns.is_empty()) else {
        return Ok(node.to_owned());
    };
    let mut text = String::new();
    // The order of lines is that of the kubelet's own file.
    if !dns.searches.is_empty() {
        text.push_str(&line("search", &dns.searches)?);
    }
    for server in &dns.servers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    if !dns.options.is_empty() {
        text.push_str(&line("options", &dns.options)?);
    }
    Ok(text)
}

/// Renders the file of a pod in which names of user networks are served: the resolver is the one name server, and asks those of
/// `dns` or the node by itself. Search domains and options are the pod's, or else the node's; `ndots:0`, unless it is set, has names of
/// one word tried as they are, which is what containers are called.
///
/// # Errors
/// As [`render`].
pub fn render_served(dns: Option<&DnsConfig>, node: &str) -> Result<String, NetworkError> {
    let of_pod =
        |list: fn(&DnsConfig) -> &Vec<String>| dns.map(list).filter(|list| !list.is_empty()).cloned();
    // The last line of a kind counts, and `domain` is an older `search` (resolv.conf(5)). Words of the node's own file that do not
    // fit are the node's trouble, not the pod's.
    let of_node = |keywords: &[&str]| {
        let mut words = Vec::new();
        for line in node.lines() {
            let mut parts = line.split_ascii_whitespace();
            if parts.next().is_some_and(|keyword| keywords.contains(&keyword)) {
                words = parts.filter(|word| is_word(word)).map(str::to_owned).collect();
            }
        }
        words
    };
    let mut options = of_pod(|dns| &dns.options).unwrap_or_else(|| of_node(&["options"]));
    if !options.iter().any(|option| option.starts_with("ndots:")) {
        options.push("ndots:0".to_owned());
    }
    let served = DnsConfig {
        servers: vec![crate::NAME_SERVER.to_string()],
        searches: of_pod(|dns| &dns.searches).unwrap_or_else(|| of_node(&["search", "domain"])),
        options,
    };
    render(Some(&served), node)
}

fn line(keyword: &'static str, words: &[String]) -> Result<String, NetworkError> {
    match words.iter().find(|word| !is_word(word)) {
        Some(bad) => Err(NetworkError::Dns { keyword, value: bad.chars().take(80).collect() }),
        None => Ok(format!("{keyword} {}\n", words.join(" "))),
    }
}

/// Whether it stays one word of one line. Not a check of DNS syntax: `_` and a lone `.` are in use.
fn is_word(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= MAX_ENTRY
        && text.bytes().all(|b| b.is_ascii_graphic() && b != b'#' && b != b';')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dns(servers: &[&str], searches: &[&str], options: &[&str]) -> DnsConfig {
        let own = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
        DnsConfig {
            servers: servers.iter().map(|s| s.parse().unwrap()).collect(),
            searches: own(searches),
            options: own(options),
        }
    }

    #[test]
    fn a_pod_that_asks_for_nothing_gets_the_nodes_file_byte_for_byte() {
        let node = "# by hand\nnameserver 192.0.2.1\n";
        assert_eq!(render(None, node).unwrap(), node);
        assert_eq!(render(Some(&DnsConfig::default()), node).unwrap(), node);
    }

    #[test]
    fn each_wish_becomes_its_line() {
        let wish = dns(&["10.96.0.10", "fd00::a"], &["ns.svc.cluster.local", "."], &["ndots:5", "edns0"]);
        assert_eq!(
            render(Some(&wish), "nameserver 192.0.2.1\n").unwrap(),
            "search ns.svc.cluster.local .\nnameserver 10.96.0.10\nnameserver fd00::a\noptions ndots:5 edns0\n"
        );
    }

    #[test]
    fn where_names_are_served_the_resolver_is_the_one_server() {
        let node =
            "nameserver 192.0.2.1\nsearch old\nsearch corp.example lab.example\noptions edns0 timeout:1\n";
        assert_eq!(
            render_served(None, node).unwrap(),
            "search corp.example lab.example\nnameserver 127.0.0.11\noptions edns0 timeout:1 ndots:0\n"
        );
        let wish = dns(&["192.0.2.53"], &["mine"], &["ndots:2"]);
        assert_eq!(
            render_served(Some(&wish), node).unwrap(),
            "search mine\nnameserver 127.0.0.11\noptions ndots:2\n"
        );
        assert_eq!(render_served(None, "").unwrap(), "nameserver 127.0.0.11\noptions ndots:0\n");
        assert!(render_served(Some(&dns(&[], &["a\nb"], &[])), "").is_err());
    }

    #[test]
    fn nothing_can_smuggle_in_a_line_or_a_word() {
        for bad in ["a\nnameserver 6.6.6.6", "a b", "", "a\0b", "a\r", "x;y", "#x", "ü", &"a".repeat(2049)] {
            assert!(render(Some(&dns(&[], &[bad], &[])), "").is_err(), "search {bad:?}");
            assert!(render(Some(&dns(&[], &[], &[bad])), "").is_err(), "option {bad:?}");
        }
    }
}
