//! Connections of gRPC clients: HTTP/2 whose `:authority` is replaced on its way.

/// What a client says first (RFC 9113, 3.4), with its empty settings.
const BEGIN: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 0x4;
/// With padding and a priority.
const PADDED: u8 = 0x28;

fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
}

fn headers(block: &[u8]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, block)
}

/// Connections with an authority in every form: plain, in Huffman's code and by the table, padded, in fragments, and too often.
pub(super) fn connections() -> Vec<Vec<u8>> {
    let plain = b"\x83\x86\x44\x05/call\x41\x13/run/husk/husk.sock\x40\x01a\x01b";
    let padded = [&[3, 0, 0, 0, 0, 9][..], plain, &[0; 3]].concat();
    let (begin, end) = plain.split_at(15);
    let named =
        b"\x83\x40\x0a:authority\x02/a\x7e\x02/b\x0f\x2f\x02/c\x10\x88\xb8\x3b\x53\x39\xec\x32\x7d\x7f\x02/d";
    vec![
        [
            BEGIN,
            &headers(plain),
            &frame(0, 1, b"\0\0\0\0\0"),
            &headers(b"\x83\x86\xc0\xbf\xbe\x7f\x00\x02/x"),
        ]
        .concat(),
        // The requests of RFC 7541, C.4.
        [
            BEGIN,
            &headers(b"\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff"),
            &headers(b"\x82\x86\x84\xbe\x58\x86\xa8\xeb\x10\x64\x9c\xbf"),
            &headers(b"\x3f\xe1\x1f\x82\x87\x85\xbf\x7f\x00\x89\x25\xa8\x49\xe9\x5b\xb8\xe8\xb4\xbf"),
        ]
        .concat(),
        [BEGIN, &frame(HEADERS, END_HEADERS | PADDED, &padded), &headers(named)].concat(),
        [
            BEGIN,
            &frame(HEADERS, 0, begin),
            &frame(CONTINUATION, 0, b""),
            &frame(CONTINUATION, END_HEADERS, end),
        ]
        .concat(),
        [BEGIN, &headers(&b"\x01\x00".repeat(8000))].concat(),
    ]
}

/// What the server reads is as long as what was sent, does not depend on the pieces, and has nothing left to replace.
pub(super) fn rewritten(client: &[u8]) {
    let whole = husk_cri::fuzzing::rewritten(client, client.len());
    assert_eq!(whole.len(), client.len(), "bytes were lost or made");
    for piece in [1, 7] {
        assert!(husk_cri::fuzzing::rewritten(client, piece) == whole, "the size of reads decides");
    }
    assert!(
        husk_cri::fuzzing::rewritten(&whole, client.len()) == whole,
        "replaced twice is replaced otherwise"
    );
}
