//! Where exec, attach and port-forward are served.

use crate::{job::Job, streaming};

/// The streaming server's keys, which are of one thing.
pub(super) fn settle(job: &mut Job) {
    streaming::settle(
        job,
        &streaming::Keys {
            address: &["cri", "stream_server_address"],
            port: &["cri", "stream_server_port"],
            tls: &["cri", "enable_tls_streaming"],
            certificate: &["cri", "x509_key_pair_streaming", "tls_cert_file"],
            key: &["cri", "x509_key_pair_streaming", "tls_key_file"],
            client_ca: None,
            makes_its_own_certificate: true,
        },
    );
}
