//! Doors for test/fuzz: what reads a monitor's bytes and its records, one function each.

use husk_proto::podmon::{self, server_frame::Frame};

use crate::{convert, wire};

/// Reads frames until the end or the first error and turns each into what huskd makes of it; returns how many there were.
pub async fn frames(mut bytes: &[u8]) -> usize {
    let mut count = 0;
    while let Ok(Some(frame)) = wire::read(&mut bytes).await {
        count += 1;
        match frame.frame {
            Some(Frame::Event(event)) => drop(convert::event(event)),
            Some(Frame::Response(podmon::Response { result: Some(answer), .. })) => {
                if let Ok(convert::Answer::State(state)) = convert::success("state", "é-object-name", answer)
                {
                    let _refused = convert::snapshot("state", state);
                }
            }
            _ => {}
        }
    }
    count
}
