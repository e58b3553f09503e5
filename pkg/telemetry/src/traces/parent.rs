//! The span that a caller's call is made in (W3C Trace Context, `traceparent`).

use super::TraceId;

/// The caller's span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parent {
    /// Its trace.
    pub trace: TraceId,
    pub(super) span: [u8; 8],
    pub(super) sampled: bool,
}

/// Length of version 00: `vv-trace-span-ff`.
const LENGTH: usize = 55;

impl Parent {
    /// Reads a `traceparent`. `None` for what is none: such a call is made in no trace, says the recommendation.
    pub fn parse(text: &str) -> Option<Self> {
        let head = text.get(..LENGTH)?;
        let mut parts = head.split('-');
        let version: [u8; 1] = hex(parts.next()?)?;
        let trace: [u8; 16] = hex(parts.next()?)?;
        let span: [u8; 8] = hex(parts.next()?)?;
        let flags: [u8; 1] = hex(parts.next()?)?;
        let known = match (version[0], text.as_bytes().get(LENGTH)) {
            (0xff, _) => false,
            (_, None) => true,
            // Later versions may go on, behind another dash.
            (version, Some(next)) => version > 0 && *next == b'-',
        };
        let valid = known && trace != [0; 16] && span != [0; 8];
        valid.then_some(Self { trace: TraceId(trace), span, sampled: flags[0] & 1 != 0 })
    }
}

/// Lower case only, as the recommendation has it.
fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != N || !rest.is_empty() {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    #[test]
    fn a_callers_span_is_read_with_its_flags() {
        let parent = Parent::parse(&format!("00-{TRACE}-00f067aa0ba902b7-01")).unwrap();
        assert_eq!(parent.trace.to_string(), TRACE);
        assert_eq!(parent.span, [0, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7]);
        assert!(parent.sampled);
        assert!(!Parent::parse(&format!("00-{TRACE}-00f067aa0ba902b7-02")).unwrap().sampled);
    }

    #[test]
    fn a_later_version_may_go_on_and_this_one_may_not() {
        let parent = |text: &str| Parent::parse(text).is_some();
        assert!(parent(&format!("cc-{TRACE}-00f067aa0ba902b7-01-what-comes")));
        assert!(!parent(&format!("cc-{TRACE}-00f067aa0ba902b7-01.what")));
        assert!(!parent(&format!("00-{TRACE}-00f067aa0ba902b7-01-what-comes")));
    }

    #[test]
    fn what_is_no_context_is_none() {
        let zero = "0".repeat(32);
        for text in [
            "".to_owned(),
            "nonsense".to_owned(),
            "-".repeat(55),
            format!("ff-{TRACE}-00f067aa0ba902b7-01"),
            format!("00-{zero}-00f067aa0ba902b7-01"),
            format!("00-{TRACE}-0000000000000000-01"),
            format!("00-{}-00f067aa0ba902b7-01", TRACE.to_uppercase()),
            format!("00-{TRACE}-00f067aa0ba902b7-0"),
            format!("00-{TRACE}00f067aa0ba902b7--01"),
            format!("00-{}é-00f067aa0ba902b7-01", &TRACE[2..]),
            format!("00-{TRACE}-00f067aa0ba902bé-01"),
        ] {
            assert_eq!(Parent::parse(&text), None, "{text:?}");
        }
    }
}
