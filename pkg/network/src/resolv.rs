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
    fn nothing_can_smuggle_in_a_line_or_a_word() {
        for bad in ["a\nnameserver 6.6.6.6", "a b", "", "a\0b", "a\r", "x;y", "#x", "ü", &"a".repeat(2049)] {
            assert!(render(Some(&dns(&[], &[bad], &[])), "").is_err(), "search {bad:?}");
            assert!(render(Some(&dns(&[], &[], &[bad])), "").is_err(), "option {bad:?}");
        }
    }
}
