//! TLS on TCP, by rustls with ring: what a server shows, what a client trusts.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};
use x509_cert::der::Decode;

/// Longest subject of a client certificate that is kept. A longer one is not cut, since what is
/// left could be another's name: it is none.
const SUBJECT_BYTES_MAX: usize = 256;

/// Why TLS cannot be set up. Names files and what is wrong with them, never what is in them.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("could not read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("{}: {problem}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: &'static str,
    },
    /// The key is another certificate's.
    #[error("the private key in {} does not belong to the certificate in {}", key.display(), certificate.display())]
    Mismatch {
        /// The file with the certificates.
        certificate: PathBuf,
        /// The file with the key.
        key: PathBuf,
    },
    /// Certificates or a key were understood and cannot be used.
    #[error("{} and {} cannot be used: {source}", certificate.display(), key.display())]
    Unusable {
        /// The file with the certificates.
        certificate: PathBuf,
        /// The file with the key.
        key: PathBuf,
        /// What rustls says; it knows structure and names only.
        source: rustls::Error,
    },
    /// Not a host name and not an IP address.
    #[error("{0:?} is not a server name")]
    ServerName(String),
    /// TLS itself could not be set up.
    #[error("TLS could not be set up: {0}")]
    Setup(String),
}

/// What a server shows to those who connect, and whom it asks to show something. Cheap to clone.
#[derive(Clone)]
pub struct TlsServer {
    config: Arc<ServerConfig>,
    asks_clients: bool,
}

impl TlsServer {
    /// From PEM files: a certificate chain, the server's own first, and its private key (PKCS#8,
    /// PKCS#1 or SEC1, not encrypted). With `client_ca`, a file of certificates, each client must
    /// show a certificate issued by one of them (mutual TLS). Versions 1.2 and 1.3. Files are read
    /// with short blocking calls: meant for start-up.
    ///
    /// # Errors
    /// [`TlsError`], naming the file.
    pub fn load(certificate: &Path, key: &Path, client_ca: Option<&Path>) -> Result<Self, TlsError> {
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(setup)?;
        let builder = match client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let roots = Arc::new(roots(&read(path)?, path)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider()).build();
                builder.with_client_cert_verifier(verifier.map_err(setup)?)
            }
        };
        let (chain, private) = identity(certificate, key)?;
        let config = builder
            .with_single_cert(chain, private)
            .map_err(|source| unusable(certificate, key, source))?;
        Ok(Self {
            config: Arc::new(config),
            asks_clients: client_ca.is_some(),
        })
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.config))
    }
}

impl fmt::Debug for TlsServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsServer")
            .field("asks_clients", &self.asks_clients)
            .finish_non_exhaustive()
    }
}

/// Whom a client trusts, and what it shows if asked. Cheap to clone.
#[derive(Clone)]
pub struct TlsClient {
    roots: Arc<RootCertStore>,
    config: Arc<ClientConfig>,
    server_name: Option<ServerName<'static>>,
}

impl TlsClient {
    /// Trusts the certificates in a PEM file, and those issued by them; nothing else, the system's
    /// list included.
    ///
    /// # Errors
    /// [`TlsError`], naming the file.
    pub fn load(roots: &Path) -> Result<Self, TlsError> {
        Self::from_pem(&read(roots)?, roots)
    }

    /// The same with the content of such a file; `name` stands for it in errors.
    ///
    /// # Errors
    /// [`TlsError`]
    pub fn from_pem(pem: &[u8], name: &Path) -> Result<Self, TlsError> {
        let roots = Arc::new(roots(pem, name)?);
        let config = trusting(&roots)?.with_no_client_auth();
        Ok(Self {
            roots,
            config: Arc::new(config),
            server_name: None,
        })
    }

    /// Shows a certificate to servers that ask for one: PEM files as for [`TlsServer::load`].
    ///
    /// # Errors
    /// [`TlsError`], naming the file.
    pub fn showing(self, certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let (chain, private) = identity(certificate, key)?;
        let config = trusting(&self.roots)?
            .with_client_auth_cert(chain, private)
            .map_err(|source| unusable(certificate, key, source))?;
        Ok(Self {
            config: Arc::new(config),
            ..self
        })
    }

    /// The name that the server's certificate must hold, where that is not the endpoint's host.
    ///
    /// # Errors
    /// [`TlsError::ServerName`]
    pub fn expecting(self, server_name: &str) -> Result<Self, TlsError> {
        Ok(Self {
            server_name: Some(parse_name(server_name)?),
            ..self
        })
    }

    /// Makes the handshake on a connected socket.
    pub(crate) async fn connect(&self, stream: TcpStream, host: &str) -> io::Result<TlsStream<TcpStream>> {
        let name = match &self.server_name {
            Some(name) => name.clone(),
            None => parse_name(host).map_err(io::Error::other)?,
        };
        let connector = TlsConnector::from(Arc::clone(&self.config));
        Ok(connector.connect(name, stream).await?.into())
    }
}

impl fmt::Debug for TlsClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsClient")
            .field("roots", &self.roots.len())
            .field("server_name", &self.server_name)
            .finish_non_exhaustive()
    }
}

/// Who a certificate says its holder is, as in `CN=crawler-7,O=Example` (RFC 4514).
pub(crate) fn subject(certificate: &CertificateDer<'_>) -> Option<Arc<str>> {
    let certificate = x509_cert::Certificate::from_der(certificate).ok()?;
    let subject = certificate.tbs_certificate().subject().to_string();
    (subject.len() <= SUBJECT_BYTES_MAX).then(|| subject.into())
}

/// Named, so that nothing depends on which provider a process has installed for itself.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn trusting(
    roots: &Arc<RootCertStore>,
) -> Result<rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>, TlsError> {
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::clone(roots), provider()).build();
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let builder = builder.map_err(setup)?;
    Ok(builder.with_webpki_verifier(verifier.map_err(setup)?))
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::Read {
        path: path.to_owned(),
        source,
    })
}

fn certificates(pem: &[u8], path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match read {
        Ok(certificates) if certificates.is_empty() => Err(content(path, "there is no certificate in it")),
        Ok(certificates) => Ok(certificates),
        Err(_) => Err(content(path, "it is not PEM")),
    }
}

fn roots(pem: &[u8], path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem, path)? {
        let added = roots.add(certificate);
        added.map_err(|_| content(path, "one of its certificates cannot be understood"))?;
    }
    Ok(roots)
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn identity(certificate: &Path, key: &Path) -> Result<Identity, TlsError> {
    let chain = certificates(&read(certificate)?, certificate)?;
    // The parser's own errors may quote the line they stumbled over.
    let private = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|error| match error {
        pem::Error::NoItemsFound => content(key, "there is no private key in it, or only an encrypted one"),
        _ => content(key, "it is not PEM"),
    })?;
    Ok((chain, private))
}

fn content(path: &Path, problem: &'static str) -> TlsError {
    TlsError::Content {
        path: path.to_owned(),
        problem,
    }
}

fn unusable(certificate: &Path, key: &Path, source: rustls::Error) -> TlsError {
    let (certificate, key) = (certificate.to_owned(), key.to_owned());
    match source {
        rustls::Error::InconsistentKeys(_) => TlsError::Mismatch { certificate, key },
        source => TlsError::Unusable {
            certificate,
            key,
            source,
        },
    }
}

fn setup(error: impl fmt::Display) -> TlsError {
    TlsError::Setup(error.to_string())
}

fn parse_name(name: &str) -> Result<ServerName<'static>, TlsError> {
    ServerName::try_from(name.to_owned()).map_err(|_| TlsError::ServerName(name.to_owned()))
}
