//! The list of models, in both dialects, as each caller may see it.

use forebay::sim::{Config, Sim};
use serde_json::{Value, json};

use crate::support::{Edge, get, post, sim};

/// An edge with two keys: alice may use some models, bob all. `/team` serves one model to anybody who has a key.
async fn site() -> (Edge, Sim) {
    let sim = sim(Config::default()).await;
    let config = format!(
        "clusters: {{sim: {{provider: simulator, endpoints: [\"http://{}\"], health: {{check: none}}}}}}\n\
         models:\n\
         \x20 alpha: &m {{deployments: [{{cluster: sim}}]}}\n\
         \x20 org/beta: *m\n\
         \x20 tag:1: *m\n\
         \x20 hidden: {{list: false, deployments: [{{cluster: sim}}]}}\n\
         \x20 wild-*: *m\n\
         keys:\n\
         \x20 alice: {{key: sk-alice-0123456789, models: [alpha, wild-*]}}\n\
         \x20 bob: {{key: sk-bob-0123456789}}\n\
         routes: [{{name: all}}, {{name: team, path: /team, models: [org/*]}}]\n",
        sim.addr()
    );
    (Edge::start(&config).await, sim)
}

const ALICE: &str = "Authorization: Bearer sk-alice-0123456789\r\n";
const BOB: &str = "Authorization: Bearer sk-bob-0123456789\r\n";
const BOB_ANTHROPIC: &str = "x-api-key: sk-bob-0123456789\r\nanthropic-version: 2023-06-01\r\n";

/// The answer to a GET: its status and body.
async fn asked(edge: &Edge, path: &str, fields: &str) -> (u16, Value) {
    let reply = edge.connect().await.ask(&get(path, fields)).await;
    assert_eq!(reply.header("content-type"), Some("application/json"));
    (reply.status, reply.json())
}

fn names(list: &Value) -> Vec<&str> {
    list["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn openais_list_holds_what_the_caller_may_use() {
    let (edge, sim) = site().await;
    for (path, fields, expected) in [
        ("/v1/models", BOB, &["alpha", "org/beta", "tag:1"][..]),
        ("/models?limit=5", BOB, &["alpha", "org/beta", "tag:1"]),
        ("/v1/models", ALICE, &["alpha"]),
        ("/team/v1/models", BOB, &["org/beta"]),
        ("/team/models", ALICE, &[]),
    ] {
        let (status, list) = asked(&edge, path, fields).await;
        assert_eq!((status, &list["object"]), (200, &json!("list")), "{path}");
        assert_eq!(names(&list), expected, "{path}: {list}");
        for model in list["data"].as_array().unwrap() {
            assert!(model["object"] == "model" && model["created"].is_u64(), "{model}");
            assert_eq!(model["owned_by"], "forebay");
        }
    }
    assert_eq!(sim.requests().len(), 0, "no upstream is asked");
}

#[tokio::test]
async fn anthropics_list_has_its_own_shape() {
    let (edge, _sim) = site().await;
    let (status, list) = asked(&edge, "/v1/models", BOB_ANTHROPIC).await;
    assert_eq!((status, names(&list)), (200, vec!["alpha", "org/beta", "tag:1"]));
    assert_eq!(list["has_more"], false);
    assert_eq!((&list["first_id"], &list["last_id"]), (&json!("alpha"), &json!("tag:1")));
    let model = &list["data"][0];
    assert_eq!((&model["type"], &model["display_name"]), (&json!("model"), &json!("alpha")));
    assert!(model["created_at"].as_str().unwrap().ends_with('Z'), "{model}");
    let with_version_only = format!("{ALICE}anthropic-version: 2023-06-01\r\n");
    let (_, list) = asked(&edge, "/v1/models", &with_version_only).await;
    assert_eq!((names(&list), &list["has_more"]), (vec!["alpha"], &json!(false)));
}

#[tokio::test]
async fn one_model_is_shown_to_whom_may_use_it() {
    let (edge, _sim) = site().await;
    for (name, fields, status) in [
        ("alpha", BOB, 200),
        ("org/beta", BOB, 200),
        ("tag:1", BOB, 200),
        ("hidden", BOB, 200),
        ("wild-7", ALICE, 200),
        ("alpha", BOB_ANTHROPIC, 200),
        ("org/beta", ALICE, 404),
        ("nothing", BOB, 404),
        ("nothing", BOB_ANTHROPIC, 404),
    ] {
        let (got, model) = asked(&edge, &format!("/v1/models/{name}"), fields).await;
        assert_eq!(got, status, "{name}: {model}");
        let anthropic = fields == BOB_ANTHROPIC;
        let shown = match (status, anthropic) {
            (200, false) => model["object"] == "model" && model["id"] == name,
            (200, true) => model["type"] == "model" && model["id"] == name,
            (_, false) => model["error"]["code"] == "model_not_found" && model["error"]["param"] == "model",
            (_, true) => model["type"] == "error" && model["error"]["type"] == "not_found_error",
        };
        assert!(shown, "{name}: {model}");
    }
}

#[tokio::test]
async fn a_models_name_may_be_escaped_in_the_path() {
    let (edge, _sim) = site().await;
    for (escaped, name) in [("tag%3A1", "tag:1"), ("org%2Fbeta", "org/beta"), ("%61lpha", "alpha")] {
        let (status, model) = asked(&edge, &format!("/v1/models/{escaped}"), BOB).await;
        assert_eq!((status, &model["id"]), (200, &json!(name)), "{model}");
    }
}

#[tokio::test]
async fn a_model_that_one_may_not_use_does_not_exist() {
    let (edge, sim) = site().await;
    let mut client = edge.connect().await;
    let mut ask = async |model: &str, path: &str, fields: &str| {
        let body = json!({"model": model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5});
        let reply = client.ask(&post(path, fields, body.to_string())).await;
        let message = reply.json()["error"]["message"].as_str().unwrap_or_default().replace(model, "X");
        (reply.status, message)
    };
    let chat = "/v1/chat/completions";
    assert_eq!(ask("alpha", chat, ALICE).await.0, 200);
    assert_eq!(ask("wild-1", chat, ALICE).await.0, 200);
    assert_eq!(ask("org/beta", chat, BOB).await.0, 200);
    assert_eq!(ask("org/beta", "/team/v1/messages", BOB).await.0, 200);
    for (forbidden, path, fields) in [
        ("org/beta", chat, ALICE),
        ("hidden", "/v1/messages", ALICE),
        ("alpha", "/team/v1/chat/completions", BOB),
        ("org/beta", "/team/v1/chat/completions", ALICE),
    ] {
        let answer = ask(forbidden, path, fields).await;
        assert_eq!(answer.0, 404, "{forbidden}");
        assert_eq!(answer, ask("no-such", path, fields).await, "nothing tells {forbidden} from no model");
    }
    assert_eq!(sim.requests().len(), 4);
}
