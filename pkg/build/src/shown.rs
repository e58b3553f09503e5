//! What clients are told of a build, with names of images as the build has them: the builder finds them in husk's own registry, whose addresses mean
//! nothing to anybody else.

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Frame;

use crate::{
    grpc::{AnyBody, Frames, frame},
    registry::shown,
    wire::{self, Field},
};

/// Fields of a StatusResponse: steps, and what is done in them.
const VERTEXES: u32 = 1;
const STATUSES: u32 = 2;
/// Texts of a step: its name, its error.
const OF_VERTEX: [u32; 2] = [3, 7];
/// Texts of what is done: its id, which is shown, and its name.
const OF_STATUS: [u32; 2] = [1, 3];

/// A StatusResponse; one that cannot be read stays as it is.
pub(crate) fn status(message: &Bytes, port: u16) -> Bytes {
    changed(message, port).map_or_else(|_| message.clone(), Bytes::from)
}

fn changed(message: &Bytes, port: u16) -> Result<Vec<u8>, prost::DecodeError> {
    let top = |field: Field| {
        let texts = match field.tag {
            VERTEXES => OF_VERTEX,
            STATUSES => OF_STATUS,
            _ => return Ok(field),
        };
        let Some(content) = &field.content else { return Ok(field) };
        let part = |field: Field| match &field.content {
            Some(content) if texts.contains(&field.tag) => {
                wire::field(field.tag, shown(&String::from_utf8_lossy(content), port).as_bytes())
            }
            _ => field,
        };
        let parts: Vec<Field> = wire::fields(content)?.into_iter().map(part).collect();
        Ok(wire::field(field.tag, &wire::join(&parts)))
    };
    let fields =
        wire::fields(message)?.into_iter().map(top).collect::<Result<Vec<_>, prost::DecodeError>>()?;
    Ok(wire::join(&fields))
}

/// The body of an answer to Control.Status, message by message.
pub(crate) fn statuses(body: AnyBody, port: u16) -> AnyBody {
    let mut frames = Some(Frames::default());
    let each = move |piece: Frame<Bytes>| match piece.into_data() {
        Ok(data) => Frame::data(match &mut frames {
            None => data,
            Some(reading) => {
                let (all, readable) = whole(reading, &data, port);
                if !readable {
                    frames = None;
                }
                all
            }
        }),
        Err(trailers) => trailers,
    };
    body.map_frame(each).boxed_unsync()
}

/// The messages that are whole with these bytes; false when what follows is none that can be read, and is passed on as it is.
fn whole(frames: &mut Frames, data: &[u8], port: u16) -> (Bytes, bool) {
    let mut all = BytesMut::new();
    frames.push(data);
    loop {
        match frames.next() {
            Ok(Some(message)) => all.extend_from_slice(&frame(&status(&message, port))),
            Ok(None) => return (all.freeze(), true),
            Err(_) => {
                all.extend_from_slice(&frames.rest());
                return (all.freeze(), false);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use husk_proto::buildkit::{StatusResponse, Vertex, VertexLog, VertexStatus};
    use prost::Message;

    use super::*;

    const TOKEN: &str = "305d0011a0aedc4d15aac2c3428dbb5b";

    fn told(name: &str) -> Bytes {
        let vertex = Vertex { digest: "d".into(), name: name.into(), cached: true, ..Vertex::default() };
        let log = VertexLog { msg: name.to_owned().into(), ..VertexLog::default() };
        let status = VertexStatus { id: format!("resolve {name}"), ..VertexStatus::default() };
        StatusResponse {
            vertexes: vec![vertex],
            statuses: vec![status],
            logs: vec![log],
            warnings: Vec::new(),
        }
        .encode_to_vec()
        .into()
    }

    fn name(message: &[u8]) -> String {
        StatusResponse::decode(message).unwrap().vertexes[0].name.clone()
    }

    #[test]
    fn names_of_steps_have_the_image_that_was_asked_for_and_logs_stay() {
        let own = format!("[1/2] FROM 127.0.0.1:42057/{TOKEN}/n/docker.io/library/busybox:latest");
        let changed = status(&told(&own), 42057);
        let answer = StatusResponse::decode(&changed[..]).unwrap();
        assert_eq!(answer.vertexes[0].name, "[1/2] FROM docker.io/library/busybox:latest");
        assert!(answer.vertexes[0].cached);
        assert_eq!(answer.statuses[0].id, "resolve [1/2] FROM docker.io/library/busybox:latest");
        assert_eq!(answer.logs[0].msg, own);
        assert_eq!(status(&Bytes::from_static(b"\x0a\xff"), 42057), &b"\x0a\xff"[..]);
    }

    #[test]
    fn pieces_of_any_size_are_messages_and_what_cannot_be_read_is_passed_on() {
        let own = format!("FROM 127.0.0.1:5/{TOKEN}/n/quay.io/a/b:1");
        let stream = [frame(&told(&own)), frame(&told("RUN x"))].concat();
        for size in [1, 7, 1000] {
            let (mut frames, mut out) = (Frames::default(), Vec::new());
            for piece in stream.chunks(size) {
                out.extend_from_slice(&whole(&mut frames, piece, 5).0);
            }
            let mut again = Frames::default();
            again.push(&out);
            let names: Vec<_> =
                std::iter::from_fn(|| again.next().unwrap()).map(|message| name(&message)).collect();
            assert_eq!(names, ["FROM quay.io/a/b:1", "RUN x"], "{size}");
        }
        let compressed = b"\x01\x00\x00\x00\x02xy";
        assert_eq!(whole(&mut Frames::default(), compressed, 5), (Bytes::from_static(compressed), false));
    }
}
