//! Names to addresses, off the hot path.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;

/// The addresses of a name and how long they hold.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Every A and AAAA record, sorted.
    pub addresses: Vec<IpAddr>,
    /// How long to keep them: the records' TTL, kept between one second and five minutes.
    pub ttl: Duration,
}

/// Asks the system's name servers, its hosts file first.
#[derive(Debug)]
pub struct Resolver {
    inner: TokioResolver,
}

const TTL: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));

impl Resolver {
    /// A resolver set up as the system is.
    ///
    /// # Errors
    /// Says why the system's configuration could not be read.
    pub fn from_system() -> Result<Self, String> {
        let mut builder = TokioResolver::builder_tokio().map_err(|e| e.to_string())?;
        let options = builder.options_mut();
        options.ip_strategy = hickory_resolver::config::LookupIpStrategy::Ipv4AndIpv6;
        // Answers are kept by the endpoints themselves.
        options.cache_size = 0;
        Ok(Self { inner: builder.build().map_err(|e| e.to_string())? })
    }

    /// Every address of `host`.
    ///
    /// # Errors
    /// Says why there is none: no such name, no server, no answer in time.
    pub async fn resolve(&self, host: &str) -> Result<Answer, String> {
        let found = self.inner.lookup_ip(host).await.map_err(|e| e.to_string())?;
        let mut addresses: Vec<IpAddr> = found.iter().collect();
        addresses.sort_unstable();
        addresses.dedup();
        if addresses.is_empty() {
            return Err(format!("{host} has no address"));
        }
        let ttl = found.valid_until().saturating_duration_since(Instant::now());
        Ok(Answer { addresses, ttl: ttl.clamp(TTL.0, TTL.1) })
    }
}
