//! TLS for TCP listeners: the server's certificate, and with `--tlsverify` the clients'.

use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The files of a TLS listener, PEM all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificates, its own first.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Who signs clients' certificates.
    pub ca: PathBuf,
    /// Whether clients must have one.
    pub verify: bool,
}

/// Why a listener's TLS cannot be had.
#[derive(Debug)]
pub struct TlsError(String);

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TlsError {}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let refused = |why: String| {
        TlsError(format!(
            "could not read the certificates of {}: {why}",
            path.display()
        ))
    };
    let read: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path)
        .map_err(|e| refused(e.to_string()))?
        .collect();
    let list = read.map_err(|e| refused(e.to_string()))?;
    if list.is_empty() {
        Err(refused("there is none in it".into()))
    } else {
        Ok(list)
    }
}

/// Reads the files. TLS 1.2 and 1.3.
///
/// # Errors
/// One sentence that names the file.
pub fn server(files: &TlsFiles) -> Result<Arc<ServerConfig>, TlsError> {
    let TlsFiles {
        certificate,
        key,
        ca,
        verify,
    } = files;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let chain = certificates(certificate)?;
    let key_error =
        |e: &dyn fmt::Display| TlsError(format!("could not use the key of {}: {e}", key.display()));
    let private = PrivateKeyDer::from_pem_file(key).map_err(|e| key_error(&e))?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|e| TlsError(format!("TLS: {e}")))?;
    let builder = if *verify {
        let mut roots = RootCertStore::empty();
        for root in certificates(ca)? {
            roots
                .add(root)
                .map_err(|e| TlsError(format!("could not use the CA of {}: {e}", ca.display())))?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|e| TlsError(format!("could not use the CA of {}: {e}", ca.display())))?;
        builder.with_client_cert_verifier(verifier)
    } else {
        builder.with_no_client_auth()
    };
    let mut config = builder
        .with_single_cert(chain, private)
        .map_err(|e| key_error(&e))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
