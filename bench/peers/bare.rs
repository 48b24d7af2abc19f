//! The least that a proxy on Pingora can be: its own pipeline, one upstream, no filters, no log. The benchmark sets
//! Forebay against it, to see what Forebay's features cost and what its own relay saves.
//!
//! `LISTEN` and `UPSTREAM` in the environment are IP addresses with ports.

use std::env;
use std::io::{self, Write};
use std::process::ExitCode;

use async_trait::async_trait;
use pingora_core::server::Server;
use pingora_core::server::configuration::ServerConf;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_proxy::{ProxyHttp, Session, http_proxy_service};

// Forebay's allocator: what is compared is the proxies.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

struct Bare {
    peer: HttpPeer,
}

#[async_trait]
impl ProxyHttp for Bare {
    type CTX = ();

    fn new_ctx(&self) -> Self::CTX {}

    async fn upstream_peer(
        &self,
        _session: &mut Session,
        _ctx: &mut Self::CTX,
    ) -> pingora_core::Result<Box<HttpPeer>> {
        Ok(Box::new(self.peer.clone()))
    }
}

fn main() -> ExitCode {
    let (Ok(listen), Ok(upstream)) = (env::var("LISTEN"), env::var("UPSTREAM")) else {
        // Where even this cannot be written, the exit status still tells.
        let _ = writeln!(io::stderr(), "bare: set LISTEN and UPSTREAM to addresses such as 127.0.0.1:8080");
        return ExitCode::from(2);
    };
    let conf = ServerConf { threads: 1, ..ServerConf::default() };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let peer = HttpPeer::new(upstream, false, String::new());
    let mut service = http_proxy_service(&server.configuration, Bare { peer });
    service.add_tcp(&listen);
    server.add_service(service);
    server.run_forever()
}
