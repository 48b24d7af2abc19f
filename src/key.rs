//! `forebay key`: makes virtual keys, by itself for a configuration, or in the store of a running edge.

use clap::{Args as ClapArgs, Subcommand};
use forebay::access::key;
use http::Method;
use serde_json::{Map, Value, json};

use super::operator::Admin;
use super::say;

/// Make virtual keys, and change those that a running edge keeps.
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
    /// The admin listener. Left out: $METRICS_PORT on the loopback, 9090 unless set. Its token, if it has one, is taken
    /// from $FOREBAY_ADMIN_TOKEN.
    #[arg(long, value_name = "ADDR", global = true)]
    admin: Option<String>,
    /// Print what the edge answers, as JSON.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Print a fresh key and its hash, for `hash` in a configuration. Nothing is asked and nothing kept.
    New,
    /// Show every principal of a running edge that has keys.
    List,
    /// Make a principal, and print its key. It is shown this once.
    Create {
        /// Its name.
        name: String,
        #[command(flatten)]
        said: Said,
    },
    /// Set what is said of a principal.
    Change {
        /// Its name.
        name: String,
        #[command(flatten)]
        said: Said,
    },
    /// Give a principal a fresh key, and print it. The one before stays good for a while.
    Rotate {
        /// Its name.
        name: String,
        /// For so many seconds.
        #[arg(long, value_name = "SECONDS", default_value_t = 86_400)]
        keep: u64,
    },
    /// Take none of its keys any more.
    Disable {
        /// Its name.
        name: String,
    },
    /// Take its keys again.
    Enable {
        /// Its name.
        name: String,
    },
    /// Forget a principal.
    Delete {
        /// Its name.
        name: String,
    },
}

/// What is said of a principal.
#[derive(Debug, ClapArgs)]
struct Said {
    /// Its team.
    #[arg(long)]
    team: Option<String>,
    /// A model that it may use, as a pattern. May be given several times.
    #[arg(long = "model", value_name = "PATTERN")]
    models: Vec<String>,
    /// From when on its key is not taken any more, in UTC: 2027-01-31T12:00:00Z.
    #[arg(long, value_name = "MOMENT")]
    expires: Option<String>,
    /// A word to sort principals by. May be given several times.
    #[arg(long = "tag", value_name = "WORD")]
    tags: Vec<String>,
    /// Anything else that `keys` may say in a configuration, as JSON: '{"tools": false, "max_output_tokens": 1000}'.
    #[arg(long, value_name = "JSON", value_parser = object)]
    set: Option<Map<String, Value>>,
}

fn object(text: &str) -> Result<Map<String, Value>, String> {
    serde_json::from_str(text).map_err(|error| format!("it is no JSON object: {error}"))
}

impl Said {
    fn fields(&self) -> Map<String, Value> {
        let mut fields = self.set.clone().unwrap_or_default();
        let texts = [("team", &self.team), ("expires", &self.expires)];
        for (name, text) in texts {
            if let Some(text) = text {
                fields.insert(name.to_owned(), text.as_str().into());
            }
        }
        for (name, list) in [("models", &self.models), ("tags", &self.tags)] {
            if !list.is_empty() {
                fields.insert(name.to_owned(), json!(list));
            }
        }
        fields
    }
}

/// Does it, and says what came of it.
pub(super) fn run(args: &Args) -> Result<(), String> {
    if matches!(args.what, What::New) {
        let fresh = key::fresh().map_err(|_| "the system gives no random bytes".to_owned())?;
        let hash = key::Hash::of(fresh.expose().as_bytes());
        return say(&format!("key:  {}\nhash: {hash}", fresh.expose()));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| error.to_string())?.block_on(operate(args))
}

async fn operate(args: &Args) -> Result<(), String> {
    let admin = Admin::new(args.admin.clone())?;
    let (path, order) = order(&args.what);
    let method = if order.is_none() { Method::GET } else { Method::POST };
    let answer = admin.ask(method, path, order.map_or_else(String::new, |order| order.to_string())).await?;
    if args.json {
        return say(&answer.to_string());
    }
    match answer["keys"].as_array().filter(|_| matches!(args.what, What::List)) {
        Some(all) => all.iter().try_for_each(|one| say(&line(one))),
        None => match answer["key"].as_str() {
            Some(key) => say(&format!("key:  {key}\nIt is shown this once.")),
            None => say(&line(&answer)),
        },
    }
}

/// Where it is asked, and what.
fn order(what: &What) -> (&'static str, Option<Value>) {
    let with = |name: &String, said: &Said| {
        let mut fields = said.fields();
        fields.insert("name".to_owned(), name.as_str().into());
        Some(Value::Object(fields))
    };
    let alone = |name: &String| Some(json!({ "name": name }));
    match what {
        What::New | What::List => ("/keys", None),
        What::Create { name, said } => ("/keys/create", with(name, said)),
        What::Change { name, said } => ("/keys/change", with(name, said)),
        What::Rotate { name, keep } => ("/keys/rotate", Some(json!({ "name": name, "keep_s": keep }))),
        What::Disable { name } => ("/keys/disable", alone(name)),
        What::Enable { name } => ("/keys/enable", alone(name)),
        What::Delete { name } => ("/keys/delete", alone(name)),
    }
}

/// A principal in a line.
fn line(one: &Value) -> String {
    let text = |name: &str| one[name].as_str().unwrap_or_default().to_owned();
    let mut said = vec![text("name")];
    if one["keys"].is_array() {
        said.push(if one["enabled"] == false { "disabled".to_owned() } else { "enabled".to_owned() });
        said.push(format!("from the {}", text("origin")));
    } else {
        said.push("gone".to_owned());
    }
    said.extend(one["team"].as_str().map(|team| format!("team {team}")));
    for key in one["keys"].as_array().into_iter().flatten() {
        let short: String = key["hash"].as_str().unwrap_or_default().chars().take(15).collect();
        let used =
            key["last_used"].as_str().map_or_else(|| "never used".to_owned(), |at| format!("used {at}"));
        let ends = key["expires"].as_str().map_or_else(String::new, |at| format!(", good until {at}"));
        said.push(format!("{short} {used}{ends}"));
    }
    said.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_becomes_what_a_configuration_says() {
        let said = Said {
            team: Some("search".to_owned()),
            models: vec!["gpt-*".to_owned()],
            expires: None,
            tags: Vec::new(),
            set: Some(object(r#"{"tools": false}"#).unwrap()),
        };
        let what = What::Create { name: "app".to_owned(), said };
        let expected = json!({"tools": false, "team": "search", "models": ["gpt-*"], "name": "app"});
        assert_eq!(order(&what), ("/keys/create", Some(expected)));
        assert!(object("[1]").is_err());
    }

    #[test]
    fn a_principal_is_shown_in_a_line() {
        let one = json!({
            "name": "app", "origin": "store", "enabled": true, "team": "search",
            "keys": [{"hash": "sha256:0123456789abcdef", "expires": null, "last_used": null}],
        });
        let expected = "app; enabled; from the store; team search; sha256:01234567 never used";
        assert_eq!(line(&one), expected);
        assert_eq!(line(&json!({"name": "app"})), "app; gone");
    }
}
