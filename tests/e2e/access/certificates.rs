//! Clients that show a certificate, over HTTP/1 and HTTP/2.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Folder;
use crate::dialects::Dialect;
use crate::support::{Edge, fleet, post, sim, soon};

/// Who signs certificates of clients.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "clients");
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    fn client(&self, common: &str, uri: Option<&str>) -> Identity {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, common);
        params.distinguished_name.push(DnType::OrganizationName, "acme");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.subject_alt_names.extend(uri.map(|uri| SanType::URI(uri.try_into().unwrap())));
        let key = KeyPair::generate().unwrap();
        let made = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        (vec![made.der().clone()], key)
    }
}

async fn connect(
    addr: SocketAddr,
    server: &CertificateDer<'static>,
    who: Option<Identity>,
    protocol: &[u8],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(server.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let builder = builder.with_root_certificates(roots);
    let mut config = match who {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).unwrap(),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![protocol.to_vec()];
    let stream = TcpStream::connect(addr).await?;
    let name = ServerName::try_from("edge.test").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// What a request over HTTP/1 is answered: its head and what has come of the body. Nothing where there is no connection.
async fn over_http1(
    addr: SocketAddr,
    server: &CertificateDer<'static>,
    who: Option<Identity>,
    fields: &str,
) -> String {
    let exchange = async {
        let Ok(mut stream) = connect(addr, server, who, b"http/1.1").await else { return String::new() };
        let fields = format!("{fields}connection: close\r\n");
        let request = post("/v1/chat/completions", &fields, Dialect::Chat.ask("m", false));
        let mut answer = Vec::new();
        if stream.write_all(&request).await.is_ok() {
            let _ = stream.read_to_end(&mut answer).await;
        }
        String::from_utf8_lossy(&answer).into_owned()
    };
    soon("an answer over TLS", exchange).await
}

/// The status of a request over HTTP/2.
async fn over_http2(addr: SocketAddr, server: &CertificateDer<'static>, who: Option<Identity>) -> u16 {
    let exchange = async {
        let stream = connect(addr, server, who, b"h2").await.unwrap();
        let (sender, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let mut sender = sender.ready().await.unwrap();
        let request = http::Request::post("https://edge.test/v1/chat/completions")
            .header("content-type", "application/json")
            .body(())
            .unwrap();
        let (response, mut upload) = sender.send_request(request, false).unwrap();
        upload.send_data(Bytes::from(Dialect::Chat.ask("m", false)), true).unwrap();
        response.await.unwrap().status().as_u16()
    };
    soon("an answer over HTTP/2", exchange).await
}

struct Site {
    authority: Authority,
    server: CertificateDer<'static>,
    _folder: Folder,
    edge: Edge,
}

async fn site(name: &str, client_auth: &str, fleet: &str, more: &str) -> Site {
    let folder = Folder::new(name);
    let authority = Authority::new();
    let made = rcgen::generate_simple_self_signed(vec!["edge.test".to_owned()]).unwrap();
    let ca = folder.write("ca.pem", &authority.pem);
    let cert = folder.write("cert.pem", &made.cert.pem());
    let key = folder.write("key.pem", &made.signing_key.serialize_pem());
    let edge = Edge::start(&format!(
        "{fleet}listeners:\n  - address: 127.0.0.1:${{SERVER_PORT}}\n    tls: {{certificates: [{{cert: \"{cert}\", key: \"{key}\"}}], \
         client_ca: \"{ca}\", client_auth: {client_auth}}}\n\
         access:\n  certificates:\n    - {{principal: batch, common_name: \"batch-*\", organization: acme}}\n\
         \x20   - {{principal: mesh, uri: \"spiffe://acme/*\", team: none}}\n\
         teams: {{none: {{endpoints: []}}}}\n{more}"
    ))
    .await;
    Site { authority, server: made.cert.der().clone(), _folder: folder, edge }
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
}

#[tokio::test]
async fn a_certificate_denotes_its_principal_over_both_versions_of_http() {
    let sim = sim(forebay::sim::Config::default()).await;
    let (key, hash) = super::key();
    let keys = format!("keys: {{app: {{hash: \"{hash}\"}}}}\n");
    let site = site("optional", "optional", &fleet(&sim), &keys).await;
    let (addr, server) = (site.edge.addr, &site.server);
    let batch = || Some(site.authority.client("batch-7", None));
    assert_eq!(status(&over_http1(addr, server, batch(), "").await), 200);
    assert_eq!(over_http2(addr, server, batch()).await, 200);
    for line in site.edge.accesses(2).await {
        assert_eq!(line["principal"], json!("batch"), "{line}");
    }
    let mesh = || Some(site.authority.client("x", Some("spiffe://acme/search")));
    assert_eq!(status(&over_http1(addr, server, mesh(), "").await), 403, "its team may do nothing");
    assert_eq!(over_http2(addr, server, mesh()).await, 403);
    let nobody = || Some(site.authority.client("other", None));
    assert_eq!(status(&over_http1(addr, server, nobody(), "").await), 401);
    assert_eq!(over_http2(addr, server, nobody()).await, 401);
    assert_eq!(status(&over_http1(addr, server, None, "").await), 401, "no certificate, no key");
    let fields = format!("x-api-key: {key}\r\n");
    assert_eq!(status(&over_http1(addr, server, None, &fields).await), 200);
    assert_eq!(
        status(&over_http1(addr, server, mesh(), &fields).await),
        200,
        "a key goes before a certificate"
    );
    let stranger = Authority::new().client("batch-7", None);
    assert_eq!(over_http1(addr, server, Some(stranger), "").await, "", "another authority's");
}

#[tokio::test]
async fn where_a_certificate_is_required_there_is_no_connection_without_one() {
    let sim = sim(forebay::sim::Config::default()).await;
    let site = site("required", "required", &fleet(&sim), "").await;
    let (addr, server) = (site.edge.addr, &site.server);
    assert_eq!(over_http1(addr, server, None, "").await, "");
    let batch = site.authority.client("batch-1", None);
    assert_eq!(status(&over_http1(addr, server, Some(batch), "").await), 200);
}
