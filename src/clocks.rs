//! The clocks of an exchange: each bounds one phase, none is reset by a heartbeat.

use std::time::Duration;

/// How long each phase may take. Defaults suit reasoning models: minutes to the first token, less between tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clocks {
    /// TCP connect to the upstream.
    pub connect: Duration,
    /// TLS handshake with the upstream.
    pub tls: Duration,
    /// Sending the whole request to the upstream.
    pub write: Duration,
    /// From the request sent to the upstream's response head.
    pub head: Duration,
    /// From the request sent to the first content token of a stream. Comments and pings do not count.
    pub first_token: Duration,
    /// Between two content tokens of a stream, or two reads of a reply.
    pub gap: Duration,
    /// One attempt as a whole.
    pub attempt: Duration,
    /// The exchange as a whole, queueing and every attempt included.
    pub exchange: Duration,
    /// One write to the client.
    pub client_write: Duration,
    /// How long a stream may be silent towards the client before a comment is sent; `None` sends none.
    pub heartbeat: Option<Duration>,
}

impl Default for Clocks {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            tls: Duration::from_secs(5),
            write: Duration::from_secs(30),
            head: Duration::from_secs(600),
            first_token: Duration::from_secs(600),
            gap: Duration::from_secs(120),
            attempt: Duration::from_secs(1800),
            exchange: Duration::from_secs(3600),
            client_write: Duration::from_secs(60),
            heartbeat: Some(Duration::from_secs(15)),
        }
    }
}

/// Clocks that a route, a cluster or a model sets; what it leaves out stays as it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// See [`Clocks::connect`].
    pub connect: Option<Duration>,
    /// See [`Clocks::tls`].
    pub tls: Option<Duration>,
    /// See [`Clocks::write`].
    pub write: Option<Duration>,
    /// See [`Clocks::head`].
    pub head: Option<Duration>,
    /// See [`Clocks::first_token`].
    pub first_token: Option<Duration>,
    /// See [`Clocks::gap`].
    pub gap: Option<Duration>,
    /// See [`Clocks::attempt`].
    pub attempt: Option<Duration>,
    /// See [`Clocks::exchange`].
    pub exchange: Option<Duration>,
    /// See [`Clocks::client_write`].
    pub client_write: Option<Duration>,
    /// See [`Clocks::heartbeat`]; `Some(None)` switches it off.
    pub heartbeat: Option<Option<Duration>>,
}

impl Clocks {
    /// These clocks, of which none that ends before the response head is longer than `left`.
    #[must_use]
    pub fn within(self, left: Duration) -> Self {
        let (connect, tls, write) = (self.connect.min(left), self.tls.min(left), self.write.min(left));
        Self { connect, tls, write, ..self }
    }

    /// These clocks with what `overrides` sets put in their place.
    #[must_use]
    pub fn with(self, overrides: &Overrides) -> Self {
        Self {
            connect: overrides.connect.unwrap_or(self.connect),
            tls: overrides.tls.unwrap_or(self.tls),
            write: overrides.write.unwrap_or(self.write),
            head: overrides.head.unwrap_or(self.head),
            first_token: overrides.first_token.unwrap_or(self.first_token),
            gap: overrides.gap.unwrap_or(self.gap),
            attempt: overrides.attempt.unwrap_or(self.attempt),
            exchange: overrides.exchange.unwrap_or(self.exchange),
            client_write: overrides.client_write.unwrap_or(self.client_write),
            heartbeat: overrides.heartbeat.unwrap_or(self.heartbeat),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_override_wins() {
        let route = Overrides { gap: Some(Duration::from_secs(1)), ..Overrides::default() };
        let model =
            Overrides { gap: Some(Duration::from_secs(2)), heartbeat: Some(None), ..Overrides::default() };
        let clocks = Clocks::default().with(&route).with(&model);
        assert_eq!(clocks.gap, Duration::from_secs(2));
        assert_eq!(clocks.heartbeat, None);
        assert_eq!(clocks.connect, Clocks::default().connect);
    }
}
