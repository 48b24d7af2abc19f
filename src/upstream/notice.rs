//! Drains what a file says: the notice of someone beside the edge that a node is going away.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::warn;

use super::cluster::Cluster;
use super::endpoint::{By, Draining, Duty};
use super::wanted::Wanted;

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// A line of the file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Notice {
    wanted: Wanted,
    /// How long what runs there may take, from when the line is first seen.
    limit: Option<Duration>,
}

/// What the file says, and since when.
#[derive(Debug, Default)]
struct Notices(HashMap<Notice, Instant>);

/// Looks at a file again and again, and drains what is in it; what leaves it is put back into service, unless an operator
/// has drained it too. A file that is not there has nothing in it; one that cannot be read changes nothing.
pub async fn watch(path: PathBuf, clusters: Vec<Arc<Cluster>>) {
    let (mut notices, mut last) = (Notices::default(), Ok(String::new()));
    loop {
        let read = match tokio::fs::read_to_string(&path).await {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
            read => read.map_err(|error| error.to_string()),
        };
        if read != last {
            match &read {
                Ok(text) => notices.take_over(text, &path, Instant::now()),
                Err(why) => warn!("cannot read {}: {why}", path.display()),
            }
            last = read;
        }
        // Endpoints come and go, too.
        notices.apply(&clusters, Instant::now());
        tokio::time::sleep(LOOK).await;
    }
}

impl Notices {
    /// Takes over what the file says now. A line that cannot be read is told and is no reason to ignore the others.
    fn take_over(&mut self, text: &str, path: &Path, now: Instant) {
        let mut said = HashMap::new();
        for (number, line) in text.lines().enumerate().map(|(index, line)| (index + 1, line)) {
            match read(line) {
                Ok(Some(notice)) => {
                    let since = self.0.get(&notice).copied().unwrap_or(now);
                    said.insert(notice, since);
                }
                Ok(None) => {}
                Err(why) => warn!("{} line {number}: {why}", path.display()),
            }
        }
        self.0 = said;
    }

    /// Drains and puts back what it says.
    fn apply(&self, clusters: &[Arc<Cluster>], now: Instant) {
        for cluster in clusters {
            for endpoint in cluster.everywhere().into_iter().map(|somewhere| somewhere.endpoint) {
                let about = self.0.iter().filter(|(notice, _)| notice.wanted.means(cluster, &endpoint));
                let deadlines: Vec<Option<Instant>> =
                    about.map(|(notice, since)| Some(*since + notice.limit?)).collect();
                // The earliest of several counts.
                let deadline = deadlines.iter().flatten().min().copied();
                match endpoint.duty() {
                    Duty::Draining(Draining { asked, .. })
                        if deadlines.is_empty() && asked.is_by(By::File) =>
                    {
                        cluster.resume(&endpoint, By::File);
                    }
                    _ if deadlines.is_empty() => {}
                    _ => cluster.drain(&endpoint, By::File, deadline, now),
                }
            }
        }
    }
}

/// Reads a line: nothing, or an endpoint and a deadline.
fn read(line: &str) -> Result<Option<Notice>, String> {
    let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
    let Some(name) = words.next() else { return Ok(None) };
    let mut notice = Notice { wanted: Wanted::parse(name)?, limit: None };
    for word in words {
        let value = word.strip_prefix("deadline=").ok_or_else(|| format!("`{word}` is not deadline=30s"))?;
        notice.limit = Some(seconds(value).ok_or_else(|| format!("`{value}` is no time such as 30s or 2m"))?);
    }
    Ok(Some(notice))
}

fn seconds(text: &str) -> Option<Duration> {
    let (number, unit) = match (text.strip_suffix("ms"), text.strip_suffix('s'), text.strip_suffix('m')) {
        (Some(number), ..) => (number, 0.001),
        (_, Some(number), _) => (number, 1.0),
        (_, _, Some(number)) => (number, 60.0),
        _ => return None,
    };
    let seconds = number.parse::<f64>().ok()? * unit;
    Duration::try_from_secs_f64(seconds).ok().filter(|limit| *limit <= LONGEST)
}

/// The longest deadline: a day is no notice any more.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests {
    use super::super::cluster::tests::{cluster, spec};
    use super::*;

    const TWO: [&str; 2] = ["http://127.0.0.1:1", "http://127.0.0.1:2"];

    /// What drains, by whom, and until how many seconds after `since`.
    fn draining(cluster: &Cluster, since: Instant) -> Vec<(usize, &'static str, Option<u64>)> {
        let endpoints = cluster.endpoints();
        let drain = |(index, duty): (usize, Duty)| match duty {
            Duty::Draining(Draining { asked, .. }) => {
                Some((index, asked.name(), asked.deadline().map(|at| (at - since).as_secs())))
            }
            Duty::Serving => None,
        };
        endpoints.iter().map(|endpoint| endpoint.duty()).enumerate().filter_map(drain).collect()
    }

    #[test]
    fn a_line_names_an_endpoint_and_a_deadline() {
        let limit = |line: &str| read(line).unwrap().map(|notice| notice.limit);
        assert_eq!(limit("  # nothing"), None);
        assert_eq!(limit("10.0.0.5:8000 # going"), Some(None));
        assert_eq!(limit("gpu/10.0.0.5 deadline=30s"), Some(Some(Duration::from_secs(30))));
        assert_eq!(limit("10.0.0.5 deadline=1.5m"), Some(Some(Duration::from_secs(90))));
        assert_eq!(limit("10.0.0.5 deadline=250ms"), Some(Some(Duration::from_millis(250))));
        for wrong in [
            "ftp://x",
            "a:1 30s",
            "a:1 deadline=30",
            "a:1 deadline=-1s",
            "a:1 deadline=inf s",
            "a:1 deadline=25000m",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_in_the_file_drains_and_what_leaves_it_serves_again() {
        let (mut notices, now) = (Notices::default(), Instant::now());
        let gpu = [Arc::new(cluster("gpu", &TWO))];
        let mut say = |text: &str, seconds: u64| {
            let at = now + Duration::from_secs(seconds);
            notices.take_over(text, Path::new("drain"), at);
            notices.apply(&gpu, at);
            draining(&gpu[0], now)
        };
        assert_eq!(say("127.0.0.1:1 deadline=30s\nnonsense:\n", 1), [(0, "file", Some(31))]);
        assert_eq!(say("127.0.0.1:1 deadline=30s\n", 9), [(0, "file", Some(31))], "since it was first seen");
        gpu[0].replace(vec![spec(TWO[1])]);
        gpu[0].replace(vec![spec(TWO[0]), spec(TWO[1])]);
        assert_eq!(say("127.0.0.1:1 deadline=30s\n", 12), [(0, "file", Some(31))], "it came back");
        assert_eq!(say("127.0.0.1", 20), [(0, "file", Some(31)), (1, "file", None)]);
        assert_eq!(say("", 21), []);
    }

    #[test]
    fn what_an_operator_drains_stays_so() {
        let (mut notices, now) = (Notices::default(), Instant::now());
        let gpu = [Arc::new(cluster("gpu", &TWO))];
        let deadline = now + Duration::from_secs(7);
        gpu[0].drain(&gpu[0].endpoints()[0], By::Operator, Some(deadline), now);
        for (text, by) in [("127.0.0.1:1 deadline=30s", "operator and file"), ("", "operator")] {
            notices.take_over(text, Path::new("drain"), now);
            notices.apply(&gpu, now);
            assert_eq!(draining(&gpu[0], now), [(0, by, Some(7))], "{text:?}");
        }
    }
}
