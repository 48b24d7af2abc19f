//! A connection to the store, by what it is.

use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo,
    RedisConnectionInfo, RedisError, RedisFuture, RedisResult, TlsCertificates, Value,
};

use super::{Kind, Spec};

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(1);

/// A connection over which many commands are under way at once. Clones are of the same connection.
#[derive(Clone)]
pub(super) enum Link {
    One(MultiplexedConnection),
    Many(ClusterConnection),
}

/// A connection, and where it leads to, for the log.
pub(super) struct Found {
    pub(super) link: Link,
    pub(super) place: String,
}

/// Reads a URL.
pub(super) fn read_url(text: &str) -> RedisResult<ConnectionInfo> {
    text.into_connection_info()
}

/// Connects, asking sentinels where to first.
pub(super) async fn connect(spec: &Spec) -> RedisResult<Found> {
    match &spec.kind {
        Kind::Single => single(spec).await,
        Kind::Sentinel(master) => sentinel(spec, master).await,
        Kind::Cluster => cluster(spec).await,
    }
}

/// The servers of the URLs, with what is configured beside them.
fn servers(spec: &Spec) -> RedisResult<Vec<ConnectionInfo>> {
    let read = spec.urls.iter().map(|url| read_url(url.expose()));
    read.map(|info| info.map(|info| with_settings(info, spec))).collect()
}

fn with_settings(info: ConnectionInfo, spec: &Spec) -> ConnectionInfo {
    let mut settings = info.redis_settings().clone();
    if let Some(username) = spec.username.as_ref().filter(|_| settings.username().is_none()) {
        settings = settings.set_username(username);
    }
    if let Some(password) = spec.password.as_ref().filter(|_| settings.password().is_none()) {
        settings = settings.set_password(password.expose());
    }
    if let Some(database) = spec.database.filter(|_| settings.db() == 0) {
        settings = settings.set_db(database.into());
    }
    info.set_redis_settings(settings)
}

fn certificates(spec: &Spec) -> TlsCertificates {
    TlsCertificates { client_tls: None, root_cert: spec.authority.clone() }
}

async fn open(info: ConnectionInfo, spec: &Spec) -> RedisResult<MultiplexedConnection> {
    let client = match info.addr() {
        ConnectionAddr::TcpTls { .. } => Client::build_with_tls(info, certificates(spec))?,
        _ => Client::open(info)?,
    };
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT))
        .set_response_timeout(Some(CONNECT.max(spec.deadline)));
    client.get_multiplexed_async_connection_with_config(&config).await
}

/// The first that is no replica.
async fn single(spec: &Spec) -> RedisResult<Found> {
    let mut why = RedisError::from((ErrorKind::InvalidClientConfig, "there is no URL"));
    for info in servers(spec)? {
        let place = info.addr().to_string();
        match primary(info, spec).await {
            Ok(link) => return Ok(Found { link: Link::One(link), place }),
            Err(error) => why = error,
        }
    }
    Err(why)
}

/// Connects to a server that must be no replica.
async fn primary(info: ConnectionInfo, spec: &Spec) -> RedisResult<MultiplexedConnection> {
    let mut link = open(info, spec).await?;
    match redis::cmd("ROLE").query_async::<Value>(&mut link).await {
        Ok(Value::Array(parts)) if parts.first().is_some_and(is_replica) => {
            Err((ErrorKind::Client, "it is a replica").into())
        }
        // Whoever may not ask hears it with the first write, if it is one.
        Err(error) if !matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension) => Err(error),
        Ok(_) | Err(_) => Ok(link),
    }
}

fn is_replica(role: &Value) -> bool {
    matches!(role, Value::BulkString(name) if name == b"slave")
}

/// Asks the sentinels, one after the other, where the primary is. A server that is told and is none is not believed: the
/// failover is not over yet.
async fn sentinel(spec: &Spec, master: &str) -> RedisResult<Found> {
    let mut why = RedisError::from((ErrorKind::EmptySentinelList, "there is no sentinel"));
    for url in &spec.urls {
        match by_sentinel(url.expose(), spec, master).await {
            Ok(found) => return Ok(found),
            Err(error) => why = error,
        }
    }
    Err(why)
}

async fn by_sentinel(url: &str, spec: &Spec, master: &str) -> RedisResult<Found> {
    let info = read_url(url)?;
    let is_tls = matches!(info.addr(), ConnectionAddr::TcpTls { .. });
    let named = info.redis_settings().clone();
    let mut settings = RedisConnectionInfo::default();
    if let Some(password) = &spec.sentinel_password {
        settings = settings.set_password(password.expose());
    }
    let mut sentinel = open(info.clone().set_redis_settings(settings), spec).await?;
    let mut ask = redis::cmd("SENTINEL");
    let told: Option<(String, u16)> =
        ask.arg("GET-MASTER-ADDR-BY-NAME").arg(master).query_async(&mut sentinel).await?;
    let Some((host, port)) = told else {
        return Err((ErrorKind::MasterNameNotFoundBySentinel, "the sentinel does not know that name").into());
    };
    let place = format!("{host}:{port}");
    let addr = if is_tls {
        ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
    } else {
        ConnectionAddr::Tcp(host, port)
    };
    let server = with_settings(info.set_addr(addr).set_redis_settings(named), spec);
    Ok(Found { link: Link::One(primary(server, spec).await?), place })
}

async fn cluster(spec: &Spec) -> RedisResult<Found> {
    let servers = servers(spec)?;
    let place = servers.iter().map(|info| info.addr().to_string()).collect::<Vec<_>>().join(", ");
    let builder = ClusterClientBuilder::new(servers);
    let builder = if spec.authority.is_some() { builder.certs(certificates(spec)) } else { builder };
    let client = builder
        .connection_timeout(CONNECT)
        .response_timeout(CONNECT.max(spec.deadline))
        // One is for what has moved to another node.
        .retries(1)
        .build()?;
    let link = tokio::time::timeout(CONNECT * 3, client.get_async_connection()).await;
    let link = link.map_err(|_| RedisError::from((ErrorKind::Io, "connecting took too long")))??;
    Ok(Found { link: Link::Many(link), place })
}

impl ConnectionLike for Link {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::One(link) => link.req_packed_command(cmd),
            Self::Many(link) => link.req_packed_command(cmd),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        cmds: &'a redis::Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::One(link) => link.req_packed_commands(cmds, offset, count),
            Self::Many(link) => link.req_packed_commands(cmds, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::One(link) => link.get_db(),
            Self::Many(link) => link.get_db(),
        }
    }
}
