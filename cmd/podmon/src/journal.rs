//! The pod's monitor.log, which is our standard error.

/// Writes a line. On a full disk there is none: `eprintln!` would panic, and with the monitor its pod would end.
macro_rules! journal {
    ($($argument:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), "husk-podmon: {}", format_args!($($argument)*));
    }};
}

pub(crate) use journal;
