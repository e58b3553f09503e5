//! The CRI's own numbering of signals.

use husk_model::Signal;
use husk_proto::cri::v1;

/// Linux numbers of CRI signals 1 to 34, in the order of the enum (signal(7), x86 and ARM).
const NUMBERS: [u8; 34] = [
    6, 14, 7, 17, 17, 18, 8, 1, 4, 2, 29, 6, 9, 13, 29, 27, 30, 3, 11, 16, 19, 31, 15, 5, 20, 21, 22, 23, 10,
    12, 26, 28, 24, 25,
];
/// CRI number of SIGRTMIN, and of the first signal that is counted down from SIGRTMAX.
const CRI_RTMIN: i32 = 35;
const CRI_RTMAX_MINUS_14: i32 = 51;
const CRI_RTMAX: i32 = 65;

/// `None` for "the runtime's default".
pub(crate) fn from_proto(value: v1::Signal) -> Option<Signal> {
    let number = value as i32;
    match number {
        ..=0 => None,
        1..CRI_RTMIN => NUMBERS.get(usize::try_from(number - 1).ok()?).copied().map(Signal),
        CRI_RTMIN..CRI_RTMAX_MINUS_14 => u8::try_from(number - CRI_RTMIN + 34).ok().map(Signal),
        _ => u8::try_from(64 - (CRI_RTMAX - number)).ok().map(Signal),
    }
}

/// The CRI's name of a signal.
pub(crate) fn to_proto(signal: Signal) -> v1::Signal {
    (1..=CRI_RTMAX)
        .filter_map(|number| v1::Signal::try_from(number).ok())
        .find(|candidate| from_proto(*candidate) == Some(signal))
        .unwrap_or(v1::Signal::RuntimeDefault)
}
