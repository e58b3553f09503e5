//! Where exec, attach and port-forward are served.

use crate::{job::Job, streaming};

/// The streaming server's keys, which are of one thing.
pub(super) fn settle(job: &mut Job) {
    streaming::settle(
        job,
        &streaming::Keys {
            address: &["crio", "api", "stream_address"],
            port: &["crio", "api", "stream_port"],
            tls: &["crio", "api", "stream_enable_tls"],
            certificate: &["crio", "api", "stream_tls_cert"],
            key: &["crio", "api", "stream_tls_key"],
            client_ca: Some(&["crio", "api", "stream_tls_ca"]),
            makes_its_own_certificate: false,
        },
    );
}
