//! The verb `forebay sim`.

use super::config::{Config, FaultRule, Fixed, Latency, Secret, Span};
use super::{Sim, invalid};
use clap::Args as ClapArgs;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Simulate LLM providers and inference engines, with faults on demand.
#[derive(Debug, Clone, ClapArgs)]
pub struct Args {
    /// Address to listen on; port 0 takes a free one, which the ready line names.
    #[arg(long, default_value = "127.0.0.1:8000")]
    pub listen: SocketAddr,
    /// File of settings, in JSON; the options below go before it.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Models to list, the first being the engine's own.
    #[arg(long, value_delimiter = ',')]
    pub models: Vec<String>,
    /// Start of everything made up.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Text of every reply.
    #[arg(long)]
    pub text: Option<String>,
    /// Length of made-up replies, in tokens: `N` or `MIN..MAX`.
    #[arg(long, value_parser = parse_span)]
    pub output_tokens: Option<Span>,
    /// Prompt tokens read a second.
    #[arg(long)]
    pub prefill_tps: Option<f64>,
    /// Tokens generated a second, for one stream alone.
    #[arg(long)]
    pub decode_tps: Option<f64>,
    /// How much each further running request slows all of them.
    #[arg(long)]
    pub slowdown: Option<f64>,
    /// Requests that run at once.
    #[arg(long)]
    pub slots: Option<usize>,
    /// Requests that may wait for a slot before 503 is the answer.
    #[arg(long)]
    pub queue: Option<usize>,
    /// Size of the prefix cache, in blocks of 16 tokens.
    #[arg(long)]
    pub prefix_blocks: Option<usize>,
    /// Key that clients must send.
    #[arg(long)]
    pub api_key: Option<String>,
    /// Refuse unknown models and Messages requests without a version.
    #[arg(long)]
    pub strict: bool,
    /// Latency in milliseconds: `N`, `MIN..MAX`, or `lognormal:MEDIAN,SIGMA`.
    #[arg(long, value_parser = parse_latency)]
    pub latency: Option<Latency>,
    /// Share of calls that get an error: `STATUS=SHARE`, as in `429=0.05`. May be repeated.
    #[arg(long = "error-rate", value_name = "STATUS=SHARE", value_parser = parse_error_rate)]
    pub error_rates: Vec<(u16, f64)>,
    /// Requests a minute before 429.
    #[arg(long)]
    pub rpm: Option<u64>,
    /// Prompt tokens a minute before 429.
    #[arg(long)]
    pub tpm: Option<u64>,
    /// Fault as in `x-sim-fault`, with `@SHARE` or `@first:N` after it if not for all: `cut=3@0.1`. May be repeated.
    #[arg(long = "fault", value_name = "FAULT", value_parser = parse_fault)]
    pub faults: Vec<FaultRule>,
    /// Answer with replies rendered once, for benchmarks.
    #[arg(long)]
    pub fixed: bool,
    /// Length of a fixed reply that is not a stream, in bytes.
    #[arg(long, requires = "fixed")]
    pub fixed_body: Option<usize>,
    /// Events of a fixed stream.
    #[arg(long, requires = "fixed")]
    pub fixed_events: Option<usize>,
    /// Length of each, in bytes.
    #[arg(long, requires = "fixed")]
    pub fixed_event_bytes: Option<usize>,
    /// Milliseconds between them.
    #[arg(long, requires = "fixed")]
    pub fixed_interval: Option<u64>,
    /// Put the time of sending into each.
    #[arg(long, requires = "fixed")]
    pub fixed_stamp: bool,
}

/// Serves until the process is told to stop (SIGINT or SIGTERM), after one line on standard output that names the
/// address.
///
/// # Errors
///
/// When the settings make no sense, the file cannot be read, or the address cannot be bound.
pub async fn run(args: Args) -> io::Result<()> {
    let listen = args.listen;
    let sim = Sim::start(args.into_config()?, listen).await?;
    let ready = format!("forebay sim: ready on http://{} (HTTP/1.1 and HTTP/2)", sim.addr());
    writeln!(io::stdout().lock(), "{ready}")?;
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted?,
        _ = terminate.recv() => {}
    }
    sim.shutdown().await;
    Ok(())
}

impl Args {
    fn into_config(self) -> io::Result<Config> {
        let mut config = match &self.config {
            None => Config::default(),
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|error| invalid(format!("cannot read {}: {error}", path.display())))?;
                serde_json::from_str(&text)
                    .map_err(|error| invalid(format!("{}: {error}", path.display())))?
            }
        };
        self.apply_engine(&mut config);
        self.apply_provider(&mut config);
        self.apply_fixed(&mut config);
        if !self.models.is_empty() {
            config.models = self.models;
        }
        config.seed = self.seed.unwrap_or(config.seed);
        config.text = self.text.or(config.text);
        config.output_tokens = self.output_tokens.unwrap_or(config.output_tokens);
        config.api_key = self.api_key.map(Secret::from).or(config.api_key);
        config.strict |= self.strict;
        config.faults.extend(self.faults);
        Ok(config)
    }

    fn apply_engine(&self, config: &mut Config) {
        let engine = &mut config.engine;
        engine.prefill_tps = self.prefill_tps.or(engine.prefill_tps);
        engine.decode_tps = self.decode_tps.or(engine.decode_tps);
        engine.slowdown = self.slowdown.unwrap_or(engine.slowdown);
        engine.slots = self.slots.or(engine.slots);
        engine.queue = self.queue.or(engine.queue);
        engine.prefix_blocks = self.prefix_blocks.unwrap_or(engine.prefix_blocks);
    }

    fn apply_provider(&self, config: &mut Config) {
        let provider = &mut config.provider;
        provider.latency = self.latency.unwrap_or(provider.latency);
        provider.errors.extend(self.error_rates.iter().copied());
        provider.requests_per_minute = self.rpm.or(provider.requests_per_minute);
        provider.tokens_per_minute = self.tpm.or(provider.tokens_per_minute);
    }

    fn apply_fixed(&self, config: &mut Config) {
        if !self.fixed {
            return;
        }
        // Keeping requests costs time, and a benchmark does not read them.
        config.record = 0;
        let fixed = config.fixed.get_or_insert_with(Fixed::default);
        fixed.body_bytes = self.fixed_body.unwrap_or(fixed.body_bytes);
        fixed.events = self.fixed_events.unwrap_or(fixed.events);
        fixed.event_bytes = self.fixed_event_bytes.unwrap_or(fixed.event_bytes);
        fixed.interval_ms = self.fixed_interval.unwrap_or(fixed.interval_ms);
        fixed.stamp |= self.fixed_stamp;
    }
}

fn parse_span(text: &str) -> Result<Span, String> {
    let help = "write `N` or `MIN..MAX`";
    let number = |text: &str| text.trim().parse::<u64>().map_err(|_| help.to_owned());
    match text.split_once("..") {
        Some((min, max)) => Ok(Span { min: number(min)?, max: number(max)? }),
        None => number(text).map(|n| Span { min: n, max: n }),
    }
}

fn parse_latency(text: &str) -> Result<Latency, String> {
    let help = "write milliseconds as `N`, `MIN..MAX`, or `lognormal:MEDIAN,SIGMA`";
    let number = |text: &str| text.trim().parse::<f64>().map_err(|_| help.to_owned());
    if let Some(rest) = text.strip_prefix("lognormal:") {
        let (median, sigma) = rest.split_once(',').ok_or(help)?;
        return Ok(Latency::Lognormal { median: number(median)?, sigma: number(sigma)? });
    }
    match text.split_once("..") {
        Some((min, max)) => Ok(Latency::Uniform { min: number(min)?, max: number(max)? }),
        None => number(text).map(Latency::Fixed),
    }
}

fn parse_error_rate(text: &str) -> Result<(u16, f64), String> {
    let help = || "write `STATUS=SHARE`, as in `429=0.05`".to_owned();
    let (status, share) = text.split_once('=').ok_or_else(help)?;
    Ok((status.trim().parse().map_err(|_| help())?, share.trim().parse().map_err(|_| help())?))
}

fn parse_fault(text: &str) -> Result<FaultRule, String> {
    let Some((fault, when)) = text.rsplit_once('@') else {
        return Ok(FaultRule { fault: text.into(), ..FaultRule::default() });
    };
    let help = "write `FAULT@SHARE` or `FAULT@first:N`";
    let mut rule = FaultRule { fault: fault.into(), ..FaultRule::default() };
    match when.strip_prefix("first:") {
        Some(n) => rule.first = Some(n.parse().map_err(|_| help)?),
        None => rule.rate = Some(when.parse().map_err(|_| help)?),
    }
    Ok(rule)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn config(args: &[&str]) -> Config {
        let all = std::iter::once("sim").chain(args.iter().copied());
        Cli::try_parse_from(all).map_err(|error| error.to_string()).unwrap().args.into_config().unwrap()
    }

    #[test]
    fn options_reach_the_settings() {
        let config = config(&[
            "--models=a,b",
            "--seed=7",
            "--slots=2",
            "--latency=lognormal:40,0.5",
            "--error-rate=429=0.1",
            "--fault=cut=3@0.5",
            "--fault=status=429;retry_after=2@first:4",
            "--fixed",
            "--fixed-events=9",
            "--output-tokens=3..5",
        ]);
        config.check().unwrap();
        assert_eq!((config.models.len(), config.seed, config.engine.slots), (2, 7, Some(2)));
        assert_eq!(config.provider.latency, Latency::Lognormal { median: 40.0, sigma: 0.5 });
        assert_eq!((config.faults[0].fault.as_str(), config.faults[0].rate), ("cut=3", Some(0.5)));
        assert_eq!(config.faults[1].first, Some(4));
        assert_eq!(config.fixed.unwrap().events, 9);
        assert_eq!((config.output_tokens.min, config.output_tokens.max), (3, 5));
    }

    #[test]
    fn mistakes_are_explained() {
        assert!(parse_latency("fast").unwrap_err().contains("MIN..MAX"));
        assert!(parse_error_rate("429").unwrap_err().contains("429=0.05"));
        assert!(parse_fault("cut@often").unwrap_err().contains("first:N"));
        assert!(Cli::try_parse_from(["sim", "--fixed-events=3"]).is_err());
    }
}
