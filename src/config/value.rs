//! Values that are written as strings of a certain form: durations, sizes, addresses, patterns, secrets.
//!
//! Each parses with `FromStr`, whose error says what to write instead, and prints as it was written. In the JSON
//! Schema each is a string with its kind under [`KIND`], by which [`check`] finds the parser again.

mod key;
mod secret;

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::meter::price::Money;
use crate::upstream::origin::Origin;
pub use key::{KeyHash, Moment};
pub use secret::SecretRef;

/// The JSON Schema keyword that names the kind of a string.
pub const KIND: &str = "x-kind";

/// Why a string is not of its kind.
#[derive(Debug, PartialEq, Eq)]
pub struct Wrong {
    /// What is wrong with it.
    pub message: String,
    /// What to write instead.
    pub help: String,
}

impl Wrong {
    fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { message: message.into(), help: help.into() }
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.help)
    }
}

/// Whether `text` is a string of `kind`.
pub fn check(kind: &str, text: &str) -> Result<(), Wrong> {
    match KINDS.iter().find(|(name, _)| *name == kind) {
        Some((_, check)) => check(text),
        None => Ok(()),
    }
}

/// Gives a type its kind: how it is read and written by serde, and how it looks in the JSON Schema.
macro_rules! kinds {
    ($($type:ident $kind:literal $example:literal $pattern:expr;)*) => {
        type Check = fn(&str) -> Result<(), Wrong>;
        const KINDS: &[(&str, Check)] = &[$(($kind, |text| text.parse::<$type>().map(drop))),*];

        $(
            impl JsonSchema for $type {
                fn inline_schema() -> bool {
                    true
                }

                fn schema_name() -> Cow<'static, str> {
                    stringify!($type).into()
                }

                fn json_schema(_: &mut SchemaGenerator) -> Schema {
                    let mut schema = json_schema!({"type": "string", "x-kind": $kind, "examples": [$example]});
                    let pattern: Option<&str> = $pattern;
                    if let Some(pattern) = pattern {
                        schema.insert("pattern".to_owned(), pattern.into());
                    }
                    schema
                }
            }

            impl<'de> Deserialize<'de> for $type {
                fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                    Cow::<'_, str>::deserialize(from)?.parse().map_err(serde::de::Error::custom)
                }
            }

            impl Serialize for $type {
                fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                    to.collect_str(self)
                }
            }
        )*
    };
}

kinds! {
    Period "duration" "10s" Some("^([0-9]+(ms|s|m|h|d))+$");
    Timer "timer" "15s" Some("^(off|([0-9]+(ms|s|m|h|d))+)$");
    Dollars "dollars" "1.25" Some("^[0-9]+(\\.[0-9]+)?$");
    Size "bytes" "32MiB" Some("^[0-9]+(B|KiB|MiB|GiB)$");
    Address "address" "127.0.0.1:8080" None;
    Network "network" "10.0.0.0/8" None;
    Url "url" "http://127.0.0.1:8000" Some("^https?://");
    Pattern "pattern" "gpt-*" Some("^[^*]*\\*?[^*]*$");
    HostPattern "host" "*.example.com" None;
    HeaderName "header" "x-team" Some("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$");
    Sticky "sticky" "principal" Some("^(principal|header:.+)$");
    PathPrefix "path" "/" Some("^/");
    SecretRef "secret" "env:API_KEY" None;
    KeyHash "key-hash" "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" Some("^sha256:[0-9a-fA-F]{64}$");
    Moment "moment" "2027-01-31T12:00:00Z" None;
    ProviderName "provider" "openai" None;
}

// === Period, Timer ===

/// A span of time: `500ms`, `10s`, `5m`, `1h`, `1m30s`, `90d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period(pub Duration);

/// The longest span of time that may be configured.
const LONGEST: Duration = Duration::from_hours(24 * 366);

/// The units in which one is written; it prints in any but days.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl Period {
    /// This many seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// This many milliseconds.
    pub const fn millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }
}

impl FromStr for Period {
    type Err = Wrong;

    fn from_str(text: &str) -> Result<Self, Wrong> {
        if text.bytes().all(|b| b.is_ascii_digit()) && !text.is_empty() {
            return Err(Wrong::new(
                "a duration needs a unit",
                format!("write `{text}s` for seconds, or `{text}ms` for milliseconds"),
            ));
        }
        let wrong = || {
            Wrong::new(
                "not a duration",
                "write a whole number and ms, s, m, h or d, such as `500ms`, `10s` or `1m30s`",
            )
        };
        let mut total: u64 = 0;
        let mut rest = text;
        while !rest.is_empty() {
            let (number, after) = leading_number(rest).ok_or_else(wrong)?;
            let end = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
            let (unit, after) = after.split_at_checked(end).ok_or_else(wrong)?;
            let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
            total = number.checked_mul(*factor).and_then(|part| total.checked_add(part)).ok_or_else(wrong)?;
            rest = after;
        }
        let period = Duration::from_millis(total);
        if text.is_empty() {
            return Err(wrong());
        }
        if period > LONGEST {
            return Err(Wrong::new("longer than a year", "write at most `8784h`"));
        }
        Ok(Self(period))
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = self.0.as_millis();
        let whole = |(_, factor): &&(&str, u64)| milliseconds.is_multiple_of(u128::from(*factor));
        match UNITS.iter().skip(1).find(whole) {
            Some((unit, factor)) if milliseconds > 0 => {
                write!(f, "{}{unit}", milliseconds / u128::from(*factor))
            }
            _ => f.write_str("0s"),
        }
    }
}

/// A span of time, or `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// Never.
    Off,
    /// After this long, and again.
    Every(Period),
}

impl FromStr for Timer {
    type Err = Wrong;

    fn from_str(text: &str) -> Result<Self, Wrong> {
        match text {
            "off" => Ok(Self::Off),
            _ => text.parse().map(Self::Every),
        }
    }
}

impl fmt::Display for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Every(period) => period.fmt(f),
        }
    }
}

// === Dollars ===

/// A sum of money in dollars, as it is written: no float holds every one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dollars(pub String);

impl FromStr for Dollars {
    type Err = Wrong;

    fn from_str(text: &str) -> Result<Self, Wrong> {
        match Money::dollars(text).filter(|_| !text.contains(['e', 'E'])) {
            Some(_) => Ok(Self(text.to_owned())),
            None => Err(Wrong::new(
                "not a sum of dollars",
                "write a number such as `1.25`, without a sign or a unit",
            )),
        }
    }
}

impl fmt::Display for Dollars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// === Size ===

/// A number of bytes: `64KiB`, `32MiB`, `1GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = Wrong;

    fn from_str(text: &str) -> Result<Self, Wrong> {
        let wrong =
            || Wrong::new("not a size", "write a whole number and B, KiB, MiB or GiB, such as `32MiB`");
        let (number, unit) = leading_number(text).ok_or_else(wrong)?;
        let shift = match unit {
            "B" => 0,
            "KiB" => 10,
            "MiB" => 20,
            "GiB" => 30,
            "" => {
                let help = format!("write `{number}B` for bytes, or use KiB, MiB or GiB");
                return Err(Wrong::new("a size needs a unit", help));
            }
            "k" | "K" | "KB" | "kB" | "kb" | "Ki" | "m" | "M" | "MB" | "mb" | "Mi" | "g" | "G" | "GB"
            | "gb" | "Gi" => {
                let letter = unit.chars().take(1).collect::<String>().to_ascii_uppercase();
                let help = format!("write `{number}{letter}iB`: sizes are powers of 1024");
                return Err(Wrong::new(format!("unknown unit `{unit}`"), help));
            }
            _ => return Err(wrong()),
        };
        number.checked_mul(1 << shift).filter(|bytes| *bytes <= 1 << 50).map(Self).ok_or_else(wrong)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [("GiB", 30), ("MiB", 20), ("KiB", 10), ("B", 0)];
        let whole = |(_, shift): &&(&str, u32)| self.0 > 0 && self.0.trailing_zeros() >= *shift;
        match units.iter().find(whole) {
            Some((unit, shift)) => write!(f, "{}{unit}", self.0 >> shift),
            None => f.write_str("0B"),
        }
    }
}

fn leading_number(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at_checked(end)?;
    Some((digits.parse().ok()?, rest))
}

// === Address, Network ===

/// An IP address and a port to listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address(pub SocketAddr);

impl FromStr for Address {
    type Err = Wrong;

    fn from_str(text: &str) -> Result<Self, Wrong> {
        let help = "write an IP address and a port: `0.0.0.0:8080` for every IPv4 interface, `[::]:8080` for IPv6 too";
        match text.parse::<SocketAddr>() {
            Ok(address) if address.port() == 0 => Err(Wrong::new("port 0 cannot be listened on", help)),
            Ok(address) => Ok(Self(address)),
            Err(_) => Err(Wrong::new(format!("`{text}` is not an address to listen on"), help)),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A range of IP addresses: `10.0.0.0/8`, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// The first address of the range.
    pub address: IpAddr,
    /// How many leading bits all addresses of the range share.
    pub prefix: u8,
}

impl FromStr for Network {
    type Err = Wrong;

    fn from_str(text: &str) -> Result<Self, Wrong> {
        let wrong = || {
            let help =
                "write an address and a prefix length, such as `10.0.0.0/8` or `fd00::/8`, or one address";
            Wrong::new(format!("`{text}` is not an address range"), help)
        };
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Ok(longest), str::parse).map_err(|_| wrong())?;
        if prefix > longest {
            return Err(wrong());
        }
        Ok(Self { address, prefix })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

// === Url ===

/// Where an upstream is: `http` or `https`, a host, and maybe a port and a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url(pub Origin);

impl FromStr for Url {
    type Err = Wrong;

    fn from_str(text: &str) -> Result<Self, Wrong> {
        let help = "write `http://HOST:PORT` or `https://HOST/PATH`";
        // What stands before an `@` is a password, so that the text is not shown then.
        let shown = if text.contains('@') { "this".to_owned() } else { format!("`{text}`") };
        let wrong = |why: &str| Wrong::new(format!("{shown} is not a base URL: {why}"), help);
        let mut origin = Origin::parse(text, "").map_err(|e| wrong(e.0))?;
        if text.contains('#') {
            return Err(wrong("the URL must have no fragment"));
        }
        if bad_port(text) {
            return Err(wrong("its port is not between 1 and 65535"));
        }
        origin.host.make_ascii_lowercase();
        Ok(Self(origin))
    }
}

/// Whether the authority ends in a colon and something that is not the number of a port.
fn bad_port(url: &str) -> bool {
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = authority.split('/').next().unwrap_or_default();
    let after_host = authority.rsplit(']').next().unwrap_or_default();
    match after_host.split_once(':') {
        Some((_, port)) => port.parse::<u16>().map_or(true, |port| port == 0),
        None => false,
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.0, self.0.prefix)
    }
}

// === Pattern, HostPattern, HeaderName, PathPrefix, Sticky ===

/// A model name, in which one `*` may stand for any text, none included.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pattern(pub String);

impl FromStr for Pattern {
    type Err = Wrong;

    fn from_str(text: &str) -> Result<Self, Wrong> {
        if text.is_empty() || text.chars().any(|c| c.is_control() || c == ' ') {
            return Err(Wrong::new(
                format!("{text:?} is not a model name"),
                "write a name such as `gpt-4.1`, or a pattern such as `gpt-*`",
            ));
        }
        if text.matches('*').count() > 1 {
            return Err(Wrong::new(
                format!("`{text}` has more than one `*`"),
                "keep one `*`; write further patterns as entries of their own",
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a provider.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProviderName(pub String);

impl FromStr for ProviderName {
    type Err = Wrong;

    fn from_str(text: &str) -> Result<Self, Wrong> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b);
        if text.is_empty() || text.len() > 64 || !text.bytes().all(plain) {
            let message = format!("{text:?} is not the name of a provider");
            return Err(Wrong::new(message, "write small letters, digits, `-` and `_`, such as `openai`"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for ProviderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A host name, or `*.` and the suffix of many.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPattern(pub String);

impl FromStr for HostPattern {
    type Err = Wrong;

    fn from_str(text: &str) -> Result<Self, Wrong> {
        let name = text.strip_prefix("*.").unwrap_or(text);
        let label = |label: &str| {
            let ok = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
            !label.is_empty() && label.len() <= 63 && label.bytes().all(ok)
        };
        let ip = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok();
        if !ip && (name.len() > 253 || !name.split('.').all(label)) {
            let help =
                "write a host name without scheme and port, such as `api.example.com`, or `*.example.com`";
            return Err(Wrong::new(format!("`{text}` is not a host name"), help));
        }
        Ok(Self(text.to_ascii_lowercase()))
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of an HTTP header, in lower case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HeaderName(pub String);

impl FromStr for HeaderName {
    type Err = Wrong;

    fn from_str(text: &str) -> Result<Self, Wrong> {
        match http::HeaderName::from_bytes(text.as_bytes()) {
            Ok(name) => Ok(Self(name.as_str().to_owned())),
            Err(_) => Err(Wrong::new(
                format!("{text:?} is not the name of a header"),
                "write letters, digits and hyphens, such as `x-team`",
            )),
        }
    }
}

impl fmt::Display for HeaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The beginning of a path, without a slash at its end unless it is `/` alone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PathPrefix(pub String);

impl FromStr for PathPrefix {
    type Err = Wrong;

    fn from_str(text: &str) -> Result<Self, Wrong> {
        let plain = |b: u8| b.is_ascii_graphic() && !b"?#*%\\\"<>".contains(&b);
        let dots = text.split('/').any(|segment| segment == "." || segment == "..");
        if !text.starts_with('/') || !text.bytes().all(plain) || text.contains("//") || dots {
            let help = "write a path that begins with `/`, such as `/team-a`; it matches whole segments, so no `*` is needed";
            return Err(Wrong::new(format!("{text:?} is not the beginning of a path"), help));
        }
        let trimmed = text.trim_end_matches('/');
        Ok(Self(if trimmed.is_empty() { "/".to_owned() } else { trimmed.to_owned() }))
    }
}

impl fmt::Display for PathPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// By what a client keeps its deployment: `principal` or `header:NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sticky {
    /// By whom its virtual key denotes.
    Principal,
    /// By the value of this header.
    Header(HeaderName),
}

impl FromStr for Sticky {
    type Err = Wrong;

    fn from_str(text: &str) -> Result<Self, Wrong> {
        match text.split_once(':') {
            None if text == "principal" => Ok(Self::Principal),
            Some(("header", name)) => name.parse().map(Self::Header),
            _ => Err(Wrong::new(
                format!("`{text}` is nothing to stick to"),
                "write `principal` or `header:NAME`",
            )),
        }
    }
}

impl fmt::Display for Sticky {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Principal => f.write_str("principal"),
            Self::Header(name) => write!(f, "header:{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message<T: FromStr<Err = Wrong> + fmt::Debug>(text: &str) -> String {
        text.parse::<T>().unwrap_err().to_string()
    }

    #[test]
    fn durations_parse_and_print() {
        for (text, milliseconds, printed) in [
            ("500ms", 500, "500ms"),
            ("10s", 10_000, "10s"),
            ("90s", 90_000, "90s"),
            ("1m30s", 90_000, "90s"),
            ("120m", 7_200_000, "2h"),
            ("0s", 0, "0s"),
            ("2d", 172_800_000, "48h"),
        ] {
            let period: Period = text.parse().unwrap();
            assert_eq!(
                (period.0.as_millis(), period.to_string().as_str()),
                (milliseconds, printed),
                "{text}"
            );
        }
        assert!(message::<Period>("30").contains("write `30s`"));
        for text in
            ["", "s", "1.5s", "10 s", "-1s", "1w", "10sec", "99999999999999999999s", "5124095576030431h"]
        {
            assert!(text.parse::<Period>().is_err(), "{text}");
        }
        assert_eq!("off".parse(), Ok(Timer::Off));
        assert_eq!("15s".parse(), Ok(Timer::Every(Period::seconds(15))));
    }

    #[test]
    fn sizes_parse_and_print() {
        for (text, bytes) in
            [("64KiB", 65_536), ("32MiB", 33_554_432), ("1GiB", 1 << 30), ("100B", 100), ("0B", 0)]
        {
            let size: Size = text.parse().unwrap();
            assert_eq!((size.0, size.to_string().as_str()), (bytes, text));
        }
        assert!(message::<Size>("100").contains("write `100B`"));
        assert!(message::<Size>("32MB").contains("write `32MiB`"));
        assert!("18446744073709551615GiB".parse::<Size>().is_err());
    }

    #[test]
    fn urls_are_taken_apart() {
        let url: Url = "https://API.example.com/v1/".parse().unwrap();
        let origin = Origin { tls: true, host: "api.example.com".into(), port: 443, prefix: "/v1".into() };
        assert_eq!(url.0, origin);
        assert_eq!(url.to_string(), "https://api.example.com/v1");
        let url: Url = "http://[::1]:8000".parse().unwrap();
        assert_eq!(
            (url.0.host.as_str(), url.0.port, url.to_string().as_str()),
            ("::1", 8000, "http://[::1]:8000")
        );
        for text in [
            "ftp://x",
            "example.com",
            "http://",
            "http://a:0",
            "http://a:70000",
            "http://a:",
            "http://a/?x=1",
            "http://a b",
            "http://[::1]:0",
            "http://a/#x",
        ] {
            assert!(text.parse::<Url>().is_err(), "{text}");
        }
        assert!(!message::<Url>("http://me:hunter2@a").contains("hunter2"));
    }

    #[test]
    fn addresses_and_networks() {
        assert!("0.0.0.0:8080".parse::<Address>().is_ok() && "[::]:1".parse::<Address>().is_ok());
        for text in ["8080", ":8080", "localhost:8080", "1.2.3.4:0", "1.2.3.4:99999"] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
        assert_eq!("10.0.0.1".parse::<Network>().unwrap().to_string(), "10.0.0.1/32");
        assert!("10.0.0.0/33".parse::<Network>().is_err() && "x/8".parse::<Network>().is_err());
    }

    #[test]
    fn names_and_patterns() {
        assert!("gpt-*".parse::<Pattern>().is_ok() && "*".parse::<Pattern>().is_ok());
        assert!("*-*".parse::<Pattern>().is_err() && "".parse::<Pattern>().is_err());
        assert!("*.example.com".parse::<HostPattern>().is_ok() && "[::1]".parse::<HostPattern>().is_ok());
        assert!("https://a".parse::<HostPattern>().is_err() && "a:80".parse::<HostPattern>().is_err());
        assert!("a.*.b".parse::<HostPattern>().is_err());
        assert_eq!("X-Team".parse::<HeaderName>().unwrap().0, "x-team");
        assert!("x team".parse::<HeaderName>().is_err());
        assert_eq!("/a/".parse::<PathPrefix>().unwrap().0, "/a");
        assert!("a".parse::<PathPrefix>().is_err() && "/a/../b".parse::<PathPrefix>().is_err());
        assert_eq!("header:X-A".parse::<Sticky>().unwrap().to_string(), "header:x-a");
        assert!("cookie:a".parse::<Sticky>().is_err());
    }

    #[test]
    fn a_literal_secret_is_never_shown() {
        let secret: SecretRef = "sk-live-1".parse().unwrap();
        assert_eq!(format!("{secret} {secret:?}"), "*** Literal(***)");
        assert_eq!(serde_json::to_string(&secret).unwrap(), "\"***\"");
        assert_eq!("env:A".parse::<SecretRef>().unwrap().to_string(), "env:A");
        assert!("file:".parse::<SecretRef>().is_err());
    }

    #[test]
    fn every_kind_takes_its_own_example() {
        let generate = |schema: Schema| {
            let value = schema.to_value();
            (value[KIND].as_str().unwrap().to_owned(), value["examples"][0].as_str().unwrap().to_owned())
        };
        let mut generator = SchemaGenerator::default();
        for (kind, example) in [
            generate(Period::json_schema(&mut generator)),
            generate(Url::json_schema(&mut generator)),
            generate(SecretRef::json_schema(&mut generator)),
            generate(Sticky::json_schema(&mut generator)),
        ] {
            assert_eq!(check(&kind, &example), Ok(()));
        }
        assert!(check("duration", "x").is_err());
    }
}
