//! What there is on the node, what it does, and how it came to be: `husk ps`, `top`, `inspect`, `logs`, `events`, `why`. All ask huskd's
//! own service (`proto/husk/v1/workloads.proto`), which sees the pods of every door.

mod events;
mod inspect;
mod json;
mod keys;
mod logs;
mod ps;
mod top;
mod why;

use husk_proto::admin::{self as v1, workloads_client::WorkloadsClient};
use tonic::transport::Channel;

pub(crate) use events::{Events, run as events};
pub(crate) use inspect::{Inspect, run as inspect};
pub(crate) use logs::{Logs, run as logs};
pub(crate) use ps::{Ps, run as ps};
pub(crate) use top::{Top, run as top};
pub(crate) use why::{Why, run as why};

use crate::client::{MAX_MESSAGE, Result, connect};

async fn client(address: &str) -> Result<WorkloadsClient<Channel>> {
    Ok(WorkloadsClient::new(connect(address).await?).max_decoding_message_size(MAX_MESSAGE))
}

/// A door in one word.
fn door(door: v1::Door) -> &'static str {
    match door {
        v1::Door::Unspecified => "-",
        v1::Door::Cri => "cri",
        v1::Door::Docker => "docker",
        v1::Door::Husk => "husk",
    }
}

/// A container's state in a few words.
fn state(container: &v1::Container) -> String {
    match container.state() {
        v1::State::Created => "created".to_owned(),
        v1::State::Running => "running".to_owned(),
        v1::State::Exited => format!("exited ({})", container.exit_code),
        v1::State::Unknown | v1::State::Unspecified => "unknown".to_owned(),
    }
}
