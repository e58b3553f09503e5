//! Signals by number, and by the names that images use.

use serde::{Deserialize, Serialize};

/// A signal number of Linux, 1-64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signal(pub u8);

/// Names of the signals from 1 on, without `SIG` (signal(7), x86 and ARM).
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
    "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
    "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

impl Signal {
    /// SIGTERM, the stop signal when neither request nor image names one.
    pub const TERM: Self = Self(15);
    /// SIGKILL.
    pub const KILL: Self = Self(9);
    /// The first real-time signal that the C libraries leave to programs.
    pub const RTMIN: Self = Self(34);
    /// The last signal.
    pub const RTMAX: Self = Self(64);

    /// A signal by its name or number: `SIGTERM`, `TERM`, `15`, `SIGRTMIN+3` (OCI image-spec, config.StopSignal). `None` for
    /// one that is not understood.
    pub fn parse(text: &str) -> Option<Self> {
        let upper = text.trim().to_ascii_uppercase();
        if let Ok(number) = upper.parse::<u8>() {
            return (1..=Self::RTMAX.0).contains(&number).then_some(Self(number));
        }
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        if let Some(index) = NAMES.iter().position(|known| *known == name) {
            return u8::try_from(index + 1).ok().map(Self);
        }
        match name.strip_prefix("RTMIN") {
            Some("") => Some(Self::RTMIN),
            Some(offset) => Self::real_time(Self::RTMIN.0.checked_add(number_after(offset, '+')?)?),
            None => match name.strip_prefix("RTMAX")? {
                "" => Some(Self::RTMAX),
                offset => Self::real_time(Self::RTMAX.0.checked_sub(number_after(offset, '-')?)?),
            },
        }
    }

    fn real_time(number: u8) -> Option<Self> {
        (Self::RTMIN.0..=Self::RTMAX.0).contains(&number).then_some(Self(number))
    }
}

fn number_after(text: &str, sign: char) -> Option<u8> {
    text.strip_prefix(sign)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stop_signals_are_understood_in_every_spelling() {
        for (text, number) in [
            ("SIGTERM", 15),
            ("term", 15),
            ("15", 15),
            ("SIGRTMIN+3", 37),
            ("SIGRTMAX-1", 63),
            ("RTMIN", 34),
            ("SIGSYS", 31),
        ] {
            assert_eq!(Signal::parse(text), Some(Signal(number)), "{text}");
        }
        for text in ["", "0", "65", "SIGNO", "SIGRTMIN+31", "RTMAX-99", "RTMIN3", "-1"] {
            assert_eq!(Signal::parse(text), None, "{text}");
        }
    }
}
