//! Counters of the interfaces of a network namespace.

use std::{
    fs::File,
    io::{self, Read, Seek},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use husk_model::{NetworkStats, Process};
use husk_node::process::is_alive;

use crate::{Error, Result};

/// Bytes that are read, some thousand interfaces: a pod with NET_ADMIN may have any number of them.
const MAX_TEXT: u64 = 512 << 10;

/// The interfaces of one network namespace. Its file is opened once and read again and again: finding it by
/// a process and making sure of that process takes longer than reading it. An open file holds the namespace, so it has an end.
#[derive(Debug, Default)]
pub struct Interfaces(Mutex<Place>);

#[derive(Debug, Default)]
enum Place {
    #[default]
    Unknown,
    Known(File),
    Closed,
}

impl Interfaces {
    /// What the interfaces have counted; of very many the first. `process` is one in the namespace, which is asked for the file
    /// the first time (`/proc/<pid>/net/dev`).
    ///
    /// # Errors
    /// The process is gone, or this was closed.
    pub fn read(&self, process: Process) -> Result<Vec<NetworkStats>> {
        let path = PathBuf::from(format!("/proc/{}/net/dev", process.pid));
        let text = self.text(&path, process);
        let text = text.map_err(|source| Error::File { operation: "read", path, source })?;
        // A line that is cut off has other numbers; names may have any bytes.
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        Ok(parse(&String::from_utf8_lossy(&text[..whole])))
    }

    /// Lets go of the namespace, for ever.
    pub fn close(&self) {
        *self.place() = Place::Closed;
    }

    fn text(&self, path: &Path, process: Process) -> io::Result<Vec<u8>> {
        let mut place = self.place();
        if matches!(*place, Place::Unknown) {
            let file = File::open(path)?;
            // Another one may have got the number of a process that ended.
            if !is_alive(process) {
                return Err(io::ErrorKind::NotFound.into());
            }
            *place = Place::Known(file);
        }
        let Place::Known(file) = &mut *place else { return Err(io::ErrorKind::NotFound.into()) };
        file.rewind()?;
        let mut text = Vec::new();
        file.take(MAX_TEXT).read_to_end(&mut text)?;
        Ok(text)
    }

    fn place(&self) -> MutexGuard<'_, Place> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Two heading lines, then `name: rx_bytes packets errs drop fifo frame compressed multicast tx_bytes packets errs …`.
pub(crate) fn parse(text: &str) -> Vec<NetworkStats> {
    text.lines()
        .filter_map(|line| {
            let (name, counters) = line.split_once(':')?;
            let counters: Vec<u64> =
                counters.split_ascii_whitespace().map_while(|n| n.parse().ok()).collect();
            let name = name.trim();
            if counters.len() < 12 {
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
        let told = parse(text);
        assert_eq!((told[0].name.as_str(), &told[1..]), ("lo", &[want][..]));
    }

    #[test]
    fn a_process_that_is_gone_is_an_error() {
        let own = husk_node::process::identify(std::process::id()).unwrap();
        Interfaces::default().read(Process { start_time: own.start_time + 1, ..own }).unwrap_err();
        Interfaces::default().read(own).unwrap();
    }

    #[test]
    fn what_was_found_once_is_read_again_without_its_process_until_it_is_closed() {
        let own = husk_node::process::identify(std::process::id()).unwrap();
        let names = |stats: Vec<NetworkStats>| stats.into_iter().map(|stats| stats.name).collect::<Vec<_>>();
        let interfaces = Interfaces::default();
        let first = names(interfaces.read(own).unwrap());
        let gone = Process { start_time: own.start_time + 1, ..own };
        assert_eq!(names(interfaces.read(gone).unwrap()), first);
        interfaces.close();
        interfaces.read(own).unwrap_err();
    }
}
