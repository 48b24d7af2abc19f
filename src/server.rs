//! The process: Pingora's server with Forebay's services in it.
//!
//! | service | threads | what |
//! |---|---|---|
//! | edge | as configured | every listener, every exchange |
//! | admin | 1 | health, metrics, and what drains |
//! | keeper | 1 | names resolved, endpoints watched, probed and drained, keys of callers kept fresh |

mod audit;
mod callers;
mod drain;
mod front;
mod keeper;
mod ledger;
mod tls;

use std::sync::Arc;

use pingora_core::listeners::ListenerConfig;
use pingora_core::protocols::l4::stream::L4BufferSettings;
use pingora_core::server::configuration::ServerConf;
use pingora_core::server::{RunArgs, Server};
use pingora_core::services::background::GenBackgroundService;
use pingora_core::services::listening::Service;

use crate::admin::Admin;
use crate::exchange::Shared;
use crate::lifecycle::Lifecycle;
use crate::snapshot::{Listener, Process, Snapshot};
use drain::Drain;
use front::Front;
use keeper::Keeper;

/// Serves `snapshot` until the process is told to stop, then drains and exits. `configuration` is the fingerprint of what is
/// in force, for the audit log.
///
/// # Errors
/// Says why it could not start: a certificate that cannot be used, or an address that is taken.
pub fn run(snapshot: Arc<Snapshot>, configuration: &str) -> Result<(), String> {
    // Ours goes before Pingora's own, which has no post-quantum key exchange. A second call changes nothing.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    raise_descriptor_limit();
    for listener in &snapshot.listeners {
        claim(listener.address)?;
    }
    claim(snapshot.admin.address)?;
    // Not before it is sure that this process serves: one that cannot is not to touch another's log.
    audit::start(snapshot.audit.as_ref(), configuration)?;
    let shared = Shared::new(Arc::clone(&snapshot));
    if let Some(ledger) = ledger::start(&snapshot.ledger)? {
        snapshot.book.remember(Arc::clone(&ledger.spending));
        let _ = shared.ledger.set(ledger);
    }
    let lifecycle = Arc::new(Lifecycle::default());
    if let Some(remote) = snapshot.book.remote() {
        remote.start().map_err(|error| format!("no thread for the shared store: {error}"))?;
    }
    let conf = server_conf(&snapshot.process);
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();

    let mut edge =
        Service::new("edge".to_owned(), Front::new(&server.configuration, &shared, &snapshot.listeners));
    for listener in &snapshot.listeners {
        edge.add_listener(endpoint(listener)?);
    }
    server.add_service(edge);
    let admin = Admin::new(Arc::clone(&shared), Arc::clone(&lifecycle), &snapshot.admin);
    let mut admin_service = Service::new("admin".to_owned(), admin);
    admin_service.threads = Some(1);
    admin_service.add_tcp(&snapshot.admin.address.to_string());
    server.add_service(admin_service);
    let keeper = Keeper::new(Arc::clone(&snapshot), Arc::clone(&lifecycle));
    server.add_service(GenBackgroundService::new("keeper".to_owned(), Arc::new(keeper)));

    for listener in &snapshot.listeners {
        let scheme = if listener.tls.is_some() { "https" } else { "http" };
        log::info!("serving {scheme}://{}", listener.address);
    }
    if snapshot.access.is_open() {
        log::warn!(
            "everyone who can reach these addresses is served without a key; add `keys` to change that"
        );
    }
    log::info!("health and metrics at http://{}", snapshot.admin.address);
    let drain = Drain::new(shared, lifecycle, &snapshot);
    server.run(RunArgs { shutdown_signal: Box::new(drain) });
    Ok(())
}

/// Tries an address before Pingora does, which panics where one is taken.
fn claim(address: std::net::SocketAddr) -> Result<(), String> {
    let socket = if address.is_ipv4() {
        rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None)
    } else {
        rustix::net::socket(rustix::net::AddressFamily::INET6, rustix::net::SocketType::STREAM, None)
    };
    let claimed = socket.and_then(|socket| {
        rustix::net::sockopt::set_socket_reuseaddr(&socket, true)?;
        rustix::net::bind(&socket, &address)?;
        // Two sockets may be bound with the option above, but only one may listen.
        rustix::net::listen(&socket, 1)
    });
    claimed.map_err(|error| format!("cannot listen on {address}: {error}"))
}

fn server_conf(process: &Process) -> ServerConf {
    let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    ServerConf {
        threads: if process.threads == 0 { cores() } else { process.threads },
        work_stealing: true,
        // The drain ends the process as soon as nothing runs; Pingora's fixed wait is only the last resort.
        grace_period_seconds: Some(process.drain.as_secs() + 60),
        graceful_shutdown_timeout_seconds: Some(1),
        ..ServerConf::default()
    }
}

fn endpoint(listener: &Listener) -> Result<ListenerConfig, String> {
    let config = ListenerConfig::tcp(listener.address.to_string())
        // The sessions have buffers of their own; Pingora's default of 64 KiB would be held by every open stream.
        .l4_buffer(L4BufferSettings::unbuffered());
    Ok(match &listener.tls {
        Some(settings) => config.tls(tls::settings(settings)?),
        None => config,
    })
}

/// A stream takes two descriptors, and the usual soft limit of 1,024 is soon reached.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        log::warn!("the limit of open files stays at {:?}: {error}", limit.current);
    }
}
