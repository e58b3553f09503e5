//! Names of stop signals.

use husk_model::Signal;

/// A stop signal of an image: `SIGTERM`, `TERM`, `15`, `SIGRTMIN+3` (OCI image-spec, config.StopSignal). One that is not
/// understood counts as absent, as in the peers.
pub(crate) fn parse_signal(text: &str) -> Option<Signal> {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
        "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
        "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    const RTMIN: u8 = 34;
    const RTMAX: u8 = 64;
    let upper = text.trim().to_ascii_uppercase();
    if let Ok(number) = upper.parse::<u8>() {
        return (1..=RTMAX).contains(&number).then_some(Signal(number));
    }
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(index) = NAMES.iter().position(|known| *known == name) {
        return u8::try_from(index + 1).ok().map(Signal);
    }
    let number = if let Some(offset) = name.strip_prefix("RTMIN") {
        RTMIN.checked_add(offset.strip_prefix('+').unwrap_or("0").parse().ok()?)
    } else {
        RTMAX.checked_sub(name.strip_prefix("RTMAX")?.strip_prefix('-').unwrap_or("0").parse().ok()?)
    };
    number.filter(|number| (RTMIN..=RTMAX).contains(number)).map(Signal)
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
            assert_eq!(parse_signal(text), Some(Signal(number)), "{text}");
        }
        for text in ["", "0", "65", "SIGNO", "SIGRTMIN+31", "RTMAX-99", "-1"] {
            assert_eq!(parse_signal(text), None, "{text}");
        }
    }
}
