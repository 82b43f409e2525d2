//! Trust: the host's authorities, `certs.d/<host>/`, and no verification where a registry was declared insecure.

use super::config::RegistryConfig;
use crate::RegistryError;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// The settings for one registry.
pub(crate) fn client_config(config: &RegistryConfig, authority: &str) -> Result<ClientConfig, RegistryError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|e| RegistryError::Config(e.to_string()))?;
    let files = Files::read(config, authority)?;
    let verified = if config.is_insecure(authority) && files.authorities.is_empty() {
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Unverified(provider)))
    } else {
        let mut roots = system_roots().clone();
        for certificate in files.authorities {
            roots.add(certificate).map_err(|e| {
                RegistryError::Config(format!(
                    "a certificate of registry {authority} is no authority: {e}"
                ))
            })?;
        }
        builder.with_root_certificates(roots)
    };
    match files.pair {
        None => Ok(verified.with_no_client_auth()),
        Some((chain, key)) => verified.with_client_auth_cert(chain, key).map_err(|e| {
            RegistryError::Config(format!(
                "the client certificate of registry {authority} cannot be used: {e}"
            ))
        }),
    }
}

fn system_roots() -> &'static RootCertStore {
    static ROOTS: OnceLock<RootCertStore> = OnceLock::new();
    ROOTS.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        roots
    })
}

/// What stands in a registry's folder.
#[derive(Default)]
struct Files {
    authorities: Vec<CertificateDer<'static>>,
    pair: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
}

impl Files {
    fn read(config: &RegistryConfig, authority: &str) -> Result<Self, RegistryError> {
        let mut files = Self::default();
        // An authority is a host and a port by now, but a path all the same until this is certain.
        if authority.is_empty() || authority.contains('/') || authority.starts_with('.') {
            return Ok(files);
        }
        for dir in &config.certs_dirs {
            let Ok(entries) = std::fs::read_dir(dir.join(authority)) else {
                continue;
            };
            let mut paths: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
            paths.sort();
            for path in paths {
                match path.extension().and_then(|e| e.to_str()) {
                    Some("crt") => files.authorities.extend(certificates(&path)?),
                    Some("cert") => {
                        let key = path.with_extension("key");
                        let parsed = PrivateKeyDer::from_pem_file(&key).map_err(|e| unreadable(&key, &e))?;
                        files.pair = Some((certificates(&path)?, parsed));
                    }
                    _ => {}
                }
            }
        }
        Ok(files)
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, RegistryError> {
    let parsed = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    parsed.map_err(|e| unreadable(path, &e))
}

fn unreadable(path: &Path, error: &dyn std::fmt::Display) -> RegistryError {
    RegistryError::Config(format!("cannot read {}: {error}", path.display()))
}

/// Accepts every certificate: for registries that were declared insecure by name.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
