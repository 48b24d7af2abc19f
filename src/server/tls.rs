//! Certificates of a listener, chosen by the name that a client asks for.

use std::any::Any;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use pingora_core::listeners::tls::TlsSettings;
use pingora_core::listeners::{TlsAccept, TlsAcceptCallbacks};
use pingora_core::protocols::ALPN;
use pingora_core::protocols::tls::TlsRef;
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;

use crate::access::certificate::Names;
use crate::snapshot::{CertificateFiles, ClientCertificates, ListenerTls};

/// Pingora's settings for a listener with these certificates.
///
/// # Errors
/// Names the file that cannot be used, and why.
pub(super) fn settings(tls: &ListenerTls) -> Result<TlsSettings, String> {
    let callbacks: TlsAcceptCallbacks = match &tls.clients {
        Some(_) => Box::new(ReadNames),
        None => Box::new(NoCallbacks),
    };
    let mut settings = TlsSettings::with_callbacks(callbacks).map_err(|error| error.to_string())?;
    if let Some(clients) = &tls.clients {
        settings.set_client_cert_verifier(verifier(clients)?);
    }
    settings.set_cert_resolver(Arc::new(Certificates::load(tls)?));
    settings.set_alpn(ALPN::H2H1);
    Ok(settings)
}

/// Pingora wants callbacks wherever certificates come from a resolver; none is needed.
struct NoCallbacks;

#[async_trait::async_trait]
impl TlsAccept for NoCallbacks {}

/// Keeps the names in a client's certificate with its connection, for every request that comes over it.
struct ReadNames;

#[async_trait::async_trait]
impl TlsAccept for ReadNames {
    async fn handshake_complete_callback(&self, tls: &TlsRef) -> Option<Arc<dyn Any + Send + Sync>> {
        let names = Names::of(tls.peer_certificate_der()?)?;
        Some(Arc::new(names))
    }
}

/// Verifies that certificates of clients come from these authorities.
fn verifier(clients: &ClientCertificates) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let path = clients.authorities.display();
    let read =
        CertificateDer::pem_file_iter(&clients.authorities).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let mut roots = RootCertStore::empty();
    for authority in read.map_err(|error| format!("{path}: {error}"))? {
        roots.add(authority).map_err(|error| format!("{path}: {error}"))?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let builder = if clients.required { builder } else { builder.allow_unauthenticated() };
    builder.build().map_err(|error| format!("{path}: {error}"))
}

/// The certificates of a listener.
#[derive(Debug)]
struct Certificates {
    exact: HashMap<String, Arc<CertifiedKey>>,
    /// By the name below the star: `example.com` for `*.example.com`.
    wildcard: HashMap<String, Arc<CertifiedKey>>,
    default: Arc<CertifiedKey>,
    only_13: bool,
}

impl Certificates {
    fn load(tls: &ListenerTls) -> Result<Self, String> {
        let (mut exact, mut wildcard, mut default) = (HashMap::new(), HashMap::new(), None);
        for files in &tls.certificates {
            let (key, names) = read(files)?;
            default.get_or_insert_with(|| Arc::clone(&key));
            for name in names {
                let name = name.to_ascii_lowercase();
                match name.strip_prefix("*.") {
                    Some(below) => wildcard.entry(below.to_owned()),
                    None => exact.entry(name),
                }
                .or_insert_with(|| Arc::clone(&key));
            }
        }
        let default = default.ok_or("a TLS listener needs a certificate")?;
        Ok(Self { exact, wildcard, default, only_13: tls.only_13 })
    }

    fn named(&self, name: &str) -> &Arc<CertifiedKey> {
        let name = name.to_ascii_lowercase();
        let below = || self.wildcard.get(name.split_once('.')?.1);
        self.exact.get(&name).or_else(below).unwrap_or(&self.default)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let offers_13 = || hello.cipher_suites().iter().any(|suite| u16::from(*suite) >> 8 == 0x13);
        if self.only_13 && !offers_13() {
            return None;
        }
        Some(Arc::clone(hello.server_name().map_or(&self.default, |name| self.named(name))))
    }
}

/// A chain with its key, and the names it is used for.
fn read(files: &CertificateFiles) -> Result<(Arc<CertifiedKey>, Vec<String>), String> {
    let failed = |path: &Path, why: String| format!("{}: {why}", path.display());
    let chain: Vec<_> = CertificateDer::pem_file_iter(&files.cert)
        .and_then(Iterator::collect)
        .map_err(|error| failed(&files.cert, error.to_string()))?;
    let leaf =
        chain.first().ok_or_else(|| failed(&files.cert, "there is no certificate in it".to_owned()))?;
    let names = match files.names.as_slice() {
        [] => names(leaf).map_err(|why| failed(&files.cert, why))?,
        names => names.to_vec(),
    };
    let key =
        PrivateKeyDer::from_pem_file(&files.key).map_err(|error| failed(&files.key, error.to_string()))?;
    let key = any_supported_type(&key).map_err(|error| failed(&files.key, error.to_string()))?;
    let certified = CertifiedKey::new(chain, key);
    certified
        .keys_match()
        .map_err(|_| failed(&files.key, format!("is not the key of {}", files.cert.display())))?;
    Ok((Arc::new(certified), names))
}

/// The DNS names in a certificate.
fn names(leaf: &CertificateDer<'_>) -> Result<Vec<String>, String> {
    let parsed =
        webpki::EndEntityCert::try_from(leaf).map_err(|error| format!("is no certificate: {error}"))?;
    Ok(parsed.valid_dns_names().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(directory: &Path, name: &str, hosts: &[&str]) -> CertificateFiles {
        let made = rcgen::generate_simple_self_signed(
            hosts.iter().map(|host| (*host).to_owned()).collect::<Vec<_>>(),
        )
        .unwrap();
        let (cert, key) = (directory.join(format!("{name}.pem")), directory.join(format!("{name}.key")));
        std::fs::write(&cert, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        CertificateFiles { cert, key, names: Vec::new() }
    }

    fn directory(name: &str) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("forebay-tls-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    #[test]
    fn a_name_gets_its_certificate_and_others_the_first() {
        let at = directory("names");
        let certificates =
            vec![write(&at, "a", &["a.example"]), write(&at, "w", &["*.b.example", "c.example"])];
        let all = Certificates::load(&ListenerTls { certificates, only_13: false, clients: None }).unwrap();
        let same = |a: &str, b: &str| Arc::ptr_eq(all.named(a), all.named(b));
        assert!(same("A.example", "unknown.example"));
        assert!(same("x.b.example", "c.example") && !same("c.example", "a.example"));
        assert!(same("x.y.b.example", "a.example"), "a star is one label");
        std::fs::remove_dir_all(at).unwrap();
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let at = directory("mismatch");
        let (one, other) = (write(&at, "one", &["a"]), write(&at, "other", &["a"]));
        let mixed = CertificateFiles { key: other.key, ..one };
        let error =
            Certificates::load(&ListenerTls { certificates: vec![mixed], only_13: false, clients: None })
                .unwrap_err();
        assert!(error.contains("is not the key of"), "{error}");
        std::fs::remove_dir_all(at).unwrap();
    }
}
