//! HTTP clients by their TLS settings and reach. A client keeps its connections, so hosts with equal settings share one.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use reqwest::{Client, Proxy, redirect::Policy};
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};

use super::{
    proxy::Proxies,
    reach::{Guarded, Reach},
};

/// How long an idle connection is kept.
const IDLE: Duration = Duration::from_secs(30);
/// Clients kept; more different settings than this are rebuilt when needed.
const KEPT: usize = 32;

/// TLS settings of one host.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct Tls {
    /// CA bundles that are trusted besides the node's.
    pub(super) ca: Vec<PathBuf>,
    /// Client certificates and keys; a lone file has both.
    pub(super) client: Vec<(PathBuf, Option<PathBuf>)>,
    /// Accept any certificate.
    pub(super) skip_verify: bool,
    /// The host is reached over plain HTTP, so no certificates need to be loaded.
    pub(super) plain: bool,
    /// Limit for making a connection.
    pub(super) connect_timeout: Duration,
}

/// The key under which a client is kept: the settings, when the files they name were changed, and the reach.
type Key = (Tls, Vec<Option<SystemTime>>, Reach);

/// The clients.
#[derive(Debug)]
pub(crate) struct Clients {
    made: Mutex<HashMap<Key, Client>>,
    proxies: Arc<Proxies>,
}

impl Default for Clients {
    fn default() -> Self {
        Self { made: Mutex::default(), proxies: Arc::new(Proxies::from_environment()) }
    }
}

impl Clients {
    /// The proxies that its clients use.
    pub(super) fn proxies(&self) -> &Proxies {
        &self.proxies
    }

    /// The client for `tls` that connects within `reach`; the error says which file cannot be used.
    pub(super) fn get(&self, tls: &Tls, reach: Reach) -> Result<Client, String> {
        let modified = |path: &PathBuf| fs::metadata(path).and_then(|meta| meta.modified()).ok();
        let files = tls.client.iter().flat_map(|(cert, key)| std::iter::once(cert).chain(key));
        let key = (tls.clone(), tls.ca.iter().chain(files).map(modified).collect(), reach);
        if let Some(client) = self.made.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(client.clone());
        }
        let proxies = Arc::clone(&self.proxies);
        let mut builder = Client::builder();
        if reach != Reach::Anywhere {
            builder = builder.dns_resolver(Arc::new(Guarded { reach, proxies: Arc::clone(&proxies) }));
        }
        let client = builder
            // Not reqwest's own reading of the environment, which differs from Go's.
            .no_proxy()
            .proxy(Proxy::custom(move |url| proxies.for_url(url).cloned()))
            .tls_backend_preconfigured(config(tls)?)
            .redirect(Policy::none())
            .connect_timeout(tls.connect_timeout)
            .pool_idle_timeout(IDLE)
            .tcp_nodelay(true)
            .user_agent(concat!("husk/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| error.to_string())?;
        let mut clients = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if clients.len() >= KEPT {
            clients.clear();
        }
        clients.insert(key, client.clone());
        Ok(client)
    }
}

fn config(tls: &Tls) -> Result<ClientConfig, String> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = if tls.skip_verify {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
    } else {
        builder.with_root_certificates(roots(tls)?)
    };
    let Some((certificate, key)) = tls.client.first() else { return Ok(builder.with_no_client_auth()) };
    let chain = certificates(certificate)?;
    let key_path = key.as_ref().unwrap_or(certificate);
    let key =
        PrivateKeyDer::from_pem_file(key_path).map_err(|error| format!("{}: {error}", key_path.display()))?;
    builder.with_client_auth_cert(chain, key).map_err(|error| format!("{}: {error}", certificate.display()))
}

fn roots(tls: &Tls) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    if tls.plain {
        return Ok(roots);
    }
    // Broken certificates of the node are skipped; what is missing shows when a peer cannot be verified.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    for path in &tls.ca {
        for certificate in certificates(path)? {
            roots.add(certificate).map_err(|error| format!("{}: {error}", path.display()))?;
        }
    }
    if roots.is_empty() {
        return Err(
            "this node has no CA certificates; install ca-certificates or name a CA in hosts.toml".into()
        );
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let fail = |error: rustls::pki_types::pem::Error| format!("{}: {error}", path.display());
    let found: Vec<_> =
        CertificateDer::pem_file_iter(path).map_err(fail)?.collect::<Result<_, _>>().map_err(fail)?;
    if found.is_empty() { Err(format!("{}: no certificate in it", path.display())) } else { Ok(found) }
}

/// Accepts whoever answers: `skip_verify` of hosts.toml, which an administrator wrote for this host.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
