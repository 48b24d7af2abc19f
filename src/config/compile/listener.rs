//! Listeners and their certificates.

use std::net::SocketAddr;
use std::path::PathBuf;

use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::Check;
use crate::config::diagnostic::Path;
use crate::config::schema::{self, Certificate, ClientAuth, Config, TlsVersion};
use crate::config::value;
use crate::snapshot::{
    Admin, CertificateFiles, ClientCertificates, HeadBounds, Listener, ListenerTls, Network,
};

/// Every listener; one where none was written.
pub(super) fn listeners(config: &Config, check: &mut Check<'_>) -> Vec<Listener> {
    let root = Path::root().key("listeners");
    let standard = [schema::Listener::default()];
    let written = if config.listeners.is_empty() { &standard[..] } else { &config.listeners };
    let mut taken: Vec<(SocketAddr, Path)> = Vec::new();
    let mut listeners = Vec::new();
    for (i, listener) in written.iter().enumerate() {
        let path = root.index(i);
        occupy(listener.address.0, path.key("address"), &mut taken, check);
        listeners.push(compile(listener, &path, check));
    }
    occupy(config.admin.address.0, Path::root().key("admin").key("address"), &mut taken, check);
    listeners
}

/// The listener for operators.
pub(super) fn admin(config: &Config, check: &mut Check<'_>) -> Admin {
    let root = Path::root().key("admin");
    let address = config.admin.address.0;
    let token = config.admin.token.as_ref().and_then(|reference| {
        let path = root.key("token");
        let token = check.secret(&path, reference)?;
        check.warn_of_literal(&path, reference);
        if token.expose().len() < 16 {
            let message = "a token of less than 16 characters can be guessed";
            check.warning(&path, message, "make one with `openssl rand -hex 24`");
        }
        Some(token)
    });
    if config.admin.token.is_none() && !address.ip().is_loopback() {
        let message =
            format!("anyone who can reach {address} can see what runs here, and nobody can drain anything");
        let help = "set `token`, or listen on 127.0.0.1";
        check.warning(&root.key("address"), message, help);
    }
    Admin { address, token }
}

fn occupy(address: SocketAddr, path: Path, taken: &mut Vec<(SocketAddr, Path)>, check: &mut Check<'_>) {
    if let Some((_, first)) = taken.iter().find(|(other, _)| collide(address, *other)) {
        let message = format!("{address} is taken by {first} ({})", check.line(first));
        check.error(&path, message, "give each listener a port of its own");
    }
    taken.push((address, path));
}

/// Whether the system would refuse to listen on both. `[::]` takes IPv4 connections too.
fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    let covers = |a: SocketAddr, b: SocketAddr| a.ip().is_unspecified() && (a.is_ipv6() || b.is_ipv4());
    a.port() == b.port() && (a.ip() == b.ip() || covers(a, b) || covers(b, a))
}

fn compile(listener: &schema::Listener, path: &Path, check: &mut Check<'_>) -> Listener {
    check.positive(&path.key("keepalive"), listener.keepalive);
    check.positive(&path.key("head_timeout"), listener.head_timeout);
    if !(1 << 10..=1 << 20).contains(&listener.max_head.0) {
        let message = format!("{} is out of range", listener.max_head);
        check.error(&path.key("max_head"), message, "write a size from `1KiB` to `1MiB`");
    }
    if listener.h2c && listener.tls.is_some() {
        let help = "remove it: with TLS, HTTP/2 is offered by ALPN";
        check.warning(&path.key("h2c"), "without effect on a listener with TLS", help);
    }
    Listener {
        address: listener.address.0,
        tls: listener.tls.as_ref().map(|tls| compile_tls(tls, &path.key("tls"), check)),
        h2c: listener.h2c,
        keepalive: listener.keepalive.0,
        keepalive_requests: listener.keepalive_requests,
        head: HeadBounds {
            timeout: listener.head_timeout.0,
            bytes: usize::try_from(listener.max_head.0).unwrap_or(usize::MAX),
            fields: listener.max_headers as usize,
        },
        trusted_proxies: networks(&listener.trusted_proxies),
    }
}

pub(super) fn networks(written: &[value::Network]) -> Vec<Network> {
    written.iter().filter_map(|network| Network::parse(&network.to_string())).collect()
}

fn compile_tls(tls: &schema::ListenerTls, path: &Path, check: &mut Check<'_>) -> ListenerTls {
    let mut names: Vec<(String, Path)> = Vec::new();
    let mut certificates = Vec::new();
    for (i, certificate) in tls.certificates.iter().enumerate() {
        let path = path.key("certificates").index(i);
        for (j, name) in certificate.names.iter().flatten().enumerate() {
            let path = path.key("names").index(j);
            if let Some((_, first)) = names.iter().find(|(other, _)| *other == name.0) {
                let message = format!("`{name}` has a certificate already ({})", check.line(first));
                check.error(&path, message, "name each host once");
            }
            names.push((name.0.clone(), path));
        }
        certificates.push(files(certificate, &path, check));
    }
    let clients = tls.client_ca.as_deref().map(|file| {
        let authorities = check.file(file);
        read_chain(&authorities, &path.key("client_ca"), check);
        ClientCertificates { authorities, required: tls.client_auth == ClientAuth::Required }
    });
    ListenerTls { certificates, only_13: tls.min_version == TlsVersion::V13, clients }
}

fn files(certificate: &Certificate, path: &Path, check: &mut Check<'_>) -> CertificateFiles {
    let (cert, key) = (check.file(&certificate.cert), check.credential(certificate.key.as_ref()));
    let chain = read_chain(&cert, &path.key("cert"), check);
    let private = read_key(&key, &path.key("key"), check);
    if let (Some(chain), Some(private)) = (chain, private) {
        match any_supported_type(&private) {
            Err(_) => check.error(
                &path.key("key"),
                format!("{} holds a key of a kind that is not supported", key.display()),
                "use an RSA, ECDSA P-256, P-384 or Ed25519 key",
            ),
            Ok(private) => {
                let mismatch = CertifiedKey::new(chain, private).keys_match().is_err_and(|error| {
                    matches!(error, rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch))
                });
                if mismatch {
                    let message = format!("{} is not the key of this certificate", key.display());
                    check.error(&path.key("key"), message, "give the key that the certificate was made with");
                }
            }
        }
    }
    let names = certificate.names.iter().flatten().map(|name| name.0.clone()).collect();
    CertificateFiles { cert, key, names }
}

pub(super) fn read_chain(
    file: &PathBuf,
    path: &Path,
    check: &mut Check<'_>,
) -> Option<Vec<CertificateDer<'static>>> {
    let help =
        "give a PEM file: certificates between `-----BEGIN CERTIFICATE-----` and `-----END CERTIFICATE-----`";
    let bytes = match std::fs::read(file) {
        Ok(bytes) => bytes,
        Err(e) => {
            check.error(path, format!("{}: {}", file.display(), super::plain(&e)), help);
            return None;
        }
    };
    match CertificateDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>() {
        Ok(chain) if !chain.is_empty() => Some(chain),
        _ => {
            check.error(path, format!("{} holds no certificate", file.display()), help);
            None
        }
    }
}

fn read_key(file: &PathBuf, path: &Path, check: &mut Check<'_>) -> Option<PrivateKeyDer<'static>> {
    let help = "give a PEM file with the private key, not encrypted, that this user can read";
    let bytes = match std::fs::read(file) {
        Ok(bytes) => zeroize::Zeroizing::new(bytes),
        Err(e) => {
            check.error(path, format!("{}: {}", file.display(), super::plain(&e)), help);
            return None;
        }
    };
    match PrivateKeyDer::from_pem_slice(&bytes) {
        Ok(key) => Some(key),
        Err(_) => {
            check.error(path, format!("{} holds no private key", file.display()), help);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_collide_as_the_system_says() {
        let collide = |a: &str, b: &str| collide(a.parse().unwrap(), b.parse().unwrap());
        assert!(collide("0.0.0.0:80", "127.0.0.1:80") && collide("[::]:80", "127.0.0.1:80"));
        assert!(collide("[::]:80", "0.0.0.0:80") && collide("[::1]:80", "[::]:80"));
        assert!(!collide("0.0.0.0:80", "0.0.0.0:81") && !collide("10.0.0.1:80", "10.0.0.2:80"));
        assert!(!collide("0.0.0.0:80", "[::1]:80"));
    }
}
