//! The TLS side: certificates that are read again when their files change.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use husk_model::chain;
use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use tokio_rustls::TlsAcceptor;
use tracing::{info, warn};

use crate::{StreamingError, error::Result};

/// Files in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate, then those that lead to its authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Authorities of clients; with it, clients must have a certificate.
    pub client_ca: Option<PathBuf>,
}

/// What tells one version of a file from the next: length, modification time in nanoseconds, inode.
type Stamp = Vec<Option<(u64, i64, i64, u64)>>;

/// The configuration in force.
#[derive(Debug)]
pub(crate) struct Certificates {
    files: TlsFiles,
    current: Mutex<(Stamp, Arc<ServerConfig>)>,
}

impl Certificates {
    /// Reads the files.
    pub(crate) fn load(files: TlsFiles) -> Result<Self> {
        let stamp = stamp(&files);
        let config = read(&files)?;
        Ok(Self { files, current: Mutex::new((stamp, config)) })
    }

    /// For the next connection. Files that changed are read first; what cannot be used leaves the former in force until
    /// they change again (a certificate may be replaced a moment before its key).
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        let seen = stamp(&self.files);
        if self.lock().0 != seen {
            let config = read(&self.files);
            let mut current = self.lock();
            current.0 = seen;
            match config {
                Ok(config) => {
                    info!(certificate = %self.files.certificate.display(), "the streaming certificate was read again");
                    current.1 = config;
                }
                Err(error) => {
                    warn!(
                        error = chain(&error),
                        "the new streaming certificate cannot be used; the former stays"
                    );
                }
            }
        }
        TlsAcceptor::from(Arc::clone(&self.lock().1))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, (Stamp, Arc<ServerConfig>)> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn stamp(files: &TlsFiles) -> Stamp {
    [Some(&files.certificate), Some(&files.key), files.client_ca.as_ref()]
        .into_iter()
        .flatten()
        .map(|path| {
            let metadata: io::Result<fs::Metadata> = fs::metadata(path);
            metadata.ok().map(|found| (found.len(), found.mtime(), found.mtime_nsec(), found.ino()))
        })
        .collect()
}

fn read(files: &TlsFiles) -> Result<Arc<ServerConfig>> {
    let path = &files.certificate;
    let wrong =
        |source: Box<dyn std::error::Error + Send + Sync>| StreamingError::Tls { path: path.clone(), source };
    let certificates = certificates(path)?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(pem(&files.key))?;
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(error.into()))?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(authorities) => {
            let mut roots = RootCertStore::empty();
            for certificate in self::certificates(authorities)? {
                roots.add(certificate).map_err(|error| wrong(error.into()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(|error| wrong(error.into()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_single_cert(certificates, key).map_err(|error| wrong(error.into()))?;
    // An upgrade is HTTP/1.1's.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let all = CertificateDer::pem_file_iter(path).map_err(pem(path))?;
    all.collect::<std::result::Result<Vec<_>, _>>().map_err(pem(path))
}

fn pem(path: &Path) -> impl FnOnce(rustls::pki_types::pem::Error) -> StreamingError {
    let path = path.to_owned();
    move |source| StreamingError::Pem { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(dir: &Path) -> rcgen::CertifiedKey<rcgen::KeyPair> {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        fs::write(dir.join("cert.new"), made.cert.pem()).unwrap();
        fs::write(dir.join("key.new"), made.signing_key.serialize_pem()).unwrap();
        for name in ["cert", "key"] {
            fs::rename(dir.join(format!("{name}.new")), dir.join(name)).unwrap();
        }
        made
    }

    fn files(dir: &Path) -> TlsFiles {
        TlsFiles { certificate: dir.join("cert"), key: dir.join("key"), client_ca: None }
    }

    fn in_force(certificates: &Certificates) -> Arc<ServerConfig> {
        Arc::clone(certificates.acceptor().config())
    }

    #[test]
    fn changed_files_are_read_again_and_broken_ones_leave_the_former() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path());
        let certificates = Certificates::load(files(dir.path())).unwrap();
        let first = in_force(&certificates);
        assert!(Arc::ptr_eq(&first, &in_force(&certificates)));
        fs::write(dir.path().join("key"), "no key").unwrap();
        assert!(Arc::ptr_eq(&first, &in_force(&certificates)));
        write(dir.path());
        assert!(!Arc::ptr_eq(&first, &in_force(&certificates)));
    }

    #[test]
    fn files_that_cannot_be_used_are_named() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path());
        fs::remove_file(dir.path().join("key")).unwrap();
        let error = Certificates::load(files(dir.path())).unwrap_err();
        assert!(error.to_string().contains("key"), "{error}");
        let other = rcgen::generate_simple_self_signed(["other".to_owned()]).unwrap();
        fs::write(dir.path().join("key"), other.signing_key.serialize_pem()).unwrap();
        assert!(matches!(Certificates::load(files(dir.path())), Err(StreamingError::Tls { .. })));
    }
}
