//! Counters of the interfaces of a network namespace.

use std::{
    fs::File,
    io::{self, Read},
    path::PathBuf,
};

use husk_model::{NetworkStats, Process};
use husk_node::process::is_alive;

use crate::{Error, Result};

/// Bytes that are read, some thousand interfaces: a pod with NET_ADMIN may have any number of them.
const MAX_TEXT: u64 = 512 << 10;

/// The interfaces that a process sees, from `/proc/<pid>/net/dev`, without the loopback; of very many the first.
///
/// # Errors
/// The process is gone.
pub fn network(process: Process) -> Result<Vec<NetworkStats>> {
    let path = PathBuf::from(format!("/proc/{}/net/dev", process.pid));
    let mut text = Vec::new();
    let open = || {
        let file = File::open(&path)?;
        if is_alive(process) { Ok(file) } else { Err(io::ErrorKind::NotFound.into()) }
    };
    open().and_then(|file| file.take(MAX_TEXT).read_to_end(&mut text)).map_err(|source| Error::File {
        operation: "read",
        path,
        source,
    })?;
    // A line that is cut off has other numbers; names may have any bytes.
    let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    Ok(parse(&String::from_utf8_lossy(&text[..whole])))
}

/// Two heading lines, then `name: rx_bytes packets errs drop fifo frame compressed multicast tx_bytes packets errs …`.
pub(crate) fn parse(text: &str) -> Vec<NetworkStats> {
    text.lines()
        .filter_map(|line| {
            let (name, counters) = line.split_once(':')?;
            let counters: Vec<u64> =
                counters.split_ascii_whitespace().map_while(|n| n.parse().ok()).collect();
            let name = name.trim();
            if name == "lo" || counters.len() < 12 {
                return None;
            }
            Some(NetworkStats {
                name: name.to_owned(),
                rx_bytes: counters[0],
                rx_packets: counters[1],
                rx_errors: counters[2],
                rx_dropped: counters[3],
                tx_bytes: counters[8],
                tx_packets: counters[9],
                tx_errors: counters[10],
                tx_dropped: counters[11],
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_taken_from_their_columns() {
        let text = "\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo: 100 1 0 0 0 0 0 0 100 1 0 0 0 0 0 0
  eth0: 1500 10 3 4 5 6 7 8 2500 20 9 1 2 3 4 5
";
        let want = NetworkStats {
            name: "eth0".into(),
            rx_bytes: 1500,
            rx_packets: 10,
            rx_errors: 3,
            rx_dropped: 4,
            tx_bytes: 2500,
            tx_packets: 20,
            tx_errors: 9,
            tx_dropped: 1,
        };
        assert_eq!(parse(text), [want]);
    }

    #[test]
    fn a_process_that_is_gone_is_an_error() {
        let own = husk_node::process::identify(std::process::id()).unwrap();
        assert!(network(Process { start_time: own.start_time + 1, ..own }).is_err());
        network(own).unwrap();
    }
}
