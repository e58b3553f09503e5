//! Queries of containers for names, and answers of name servers.

/// A header, a name, the rest of a question.
fn message(head: [u8; 12], name: &[&str], tail: &[u8]) -> Vec<u8> {
    let mut bytes = head.to_vec();
    for label in name {
        bytes.push(u8::try_from(label.len()).unwrap_or(63));
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    bytes.extend_from_slice(tail);
    bytes
}

const QUERY: [u8; 12] = [0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
const EXTENDED: [u8; 12] = [0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1];
const ANSWER: [u8; 12] = [0x12, 0x34, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0];
const A: &[u8] = &[0, 1, 0, 1];

pub(super) fn queries() -> Vec<Vec<u8>> {
    let opt = [&[0, 1, 0, 1][..], &[0, 0, 41, 4, 0, 0, 0, 0, 0, 0, 0]].concat();
    let record = [A, &[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1]].concat();
    let loops = [QUERY.as_slice(), &[0xc0, 12, 0, 1, 0, 1]].concat();
    vec![
        message(QUERY, &["app"], A),
        message(QUERY, &["app", "front"], &[0, 28, 0, 1]),
        message(QUERY, &["4", "3", "2", "1", "in-addr", "arpa"], &[0, 12, 0, 1]),
        message(EXTENDED, &["app"], &opt),
        message(ANSWER, &["example", "com"], &record),
        loops,
    ]
}

/// Whatever is answered is an answer to this message, and fits into what carries it; and nothing but an answer to what was asked is
/// taken from upstream.
pub(super) fn query(bytes: &[u8]) {
    for (tcp, most) in [(false, 4096), (true, 65535)] {
        if let Some(answer) = husk_resolver::fuzzing::query(bytes, tcp) {
            assert_eq!(answer.get(..2), bytes.get(..2), "another id");
            assert!(answer.len() <= most.max(bytes.len()));
        }
    }
    let asked = message(QUERY, &["example", "com"], A);
    if husk_resolver::fuzzing::reply(bytes, &asked) {
        assert!(bytes.len() >= 12 && bytes[2] & 0x80 != 0 && bytes[..2] == asked[..2]);
    }
}
