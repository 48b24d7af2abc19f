//! Who may use how much: rates of requests and tokens, requests under way, and what their clients are told.

use std::time::{Duration, Instant};

use forebay::sim::Config;
use serde_json::json;
use tokio::task::JoinSet;

use crate::dialects::Dialect::{self, Chat, Messages, Responses};
use crate::ledger::Folder;
use crate::support::scripted::{Scripted, Turn, json as reply};
use crate::support::{Edge, Reply, fleet, get, heard, listener, post, sim, soon};

const KEYS: [(&str, &str); 2] = [("ALICE", "key-of-alice-0123456789"), ("BOB", "key-of-bob-0123456789")];
const ALICE: &str = "authorization: Bearer key-of-alice-0123456789\r\n";
const BOB: &str = "authorization: Bearer key-of-bob-0123456789\r\n";

/// An upstream whose replies have used so many tokens, in every dialect.
async fn uses(input: u64, output: u64) -> Scripted {
    Scripted::start(move |asked| {
        let usage = json!({"input_tokens": input, "output_tokens": output});
        let body = if asked.text.contains("/messages") {
            json!({"id": "m", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn",
                "content": [{"type": "text", "text": "well"}], "usage": usage})
        } else if asked.text.contains("/responses") {
            json!({"id": "resp_1", "object": "response", "status": "completed", "model": "m",
                "output": [{"type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
                    "content": [{"type": "output_text", "text": "well", "annotations": []}]}],
                "usage": {"input_tokens": input, "output_tokens": output, "total_tokens": input + output,
                    "input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}})
        } else {
            json!({"id": "c", "object": "chat.completion", "created": 1, "model": "m",
                "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "well"}}],
                "usage": {"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output}})
        };
        Turn::Say(reply(200, &body.to_string()))
    })
    .await
}

fn cluster(name: &str, upstream: &Scripted, more: &str) -> String {
    let speaks = "speaks: [chat_completions, messages, responses]";
    let address = upstream.addr;
    format!(
        "  {name}: {{provider: vllm, endpoints: [\"http://{address}\"], health: {{check: none}}, {speaks}{more}}}\n"
    )
}

/// One upstream for every model, and what the configuration says of limits.
async fn edge(upstream: &Scripted, settings: &str) -> Edge {
    let clusters = cluster("up", upstream, "");
    let models = "models: {\"*\": {deployments: [{cluster: up}]}}\n";
    Edge::start_with(&format!("clusters:\n{clusters}{models}{settings}"), &KEYS).await
}

fn request(dialect: Dialect, fields: &str, most: u64) -> Vec<u8> {
    let said = json!([{"role": "user", "content": "Say something."}]);
    let body = match dialect {
        Chat => json!({"model": "m", "messages": said, "max_tokens": most}),
        Messages => json!({"model": "m", "messages": said, "max_tokens": most}),
        Responses => json!({"model": "m", "input": said, "max_output_tokens": most}),
    };
    post(dialect.path(), fields, body.to_string())
}

async fn ask(edge: &Edge, dialect: Dialect, fields: &str, most: u64) -> Reply {
    edge.connect().await.ask(&request(dialect, fields, most)).await
}

/// How many of so many requests at once were served, and how long it took.
async fn at_once(edge: &Edge, count: usize) -> (usize, Duration) {
    let mut clients = Vec::new();
    for _ in 0..count {
        clients.push(edge.connect().await);
    }
    let began = Instant::now();
    let mut asked = JoinSet::new();
    for mut client in clients {
        asked.spawn(async move { client.ask(&request(Chat, ALICE, 1)).await.status });
    }
    let answered = soon("every answer", asked.join_all()).await;
    let served = answered.iter().filter(|status| **status == 200).count();
    let refused = answered.iter().filter(|status| **status == 429).count();
    assert_eq!(served + refused, count, "{answered:?}");
    (served, began.elapsed())
}

#[tokio::test]
async fn of_a_thousand_requests_at_once_as_many_are_served_as_the_limit_says() {
    let upstream = uses(1, 1).await;
    let edge = edge(&upstream, "keys: {alice: {key: env:ALICE, limits: {requests_per_minute: 100}}}\n").await;
    let (served, took) = at_once(&edge, 1000).await;
    // One comes back each 600 ms: on a busy machine a few may.
    let back = (took.as_millis() / 600) as usize;
    assert!((100..=100 + back).contains(&served), "{served} in {took:?}");
    assert_eq!(upstream.received().len(), served, "what is refused reaches nobody");
    edge.idle().await;
}

#[tokio::test]
async fn a_refusal_says_when_there_is_room_in_the_names_that_its_sdk_reads() {
    let upstream = uses(1, 1).await;
    let keys = "keys: {alice: {key: env:ALICE, limits: {requests_per_minute: 2}}}\n";
    for dialect in [Chat, Messages, Responses] {
        let edge = edge(&upstream, keys).await;
        let first = ask(&edge, dialect, ALICE, 10).await;
        assert_eq!(first.status, 200, "{first:?}");
        let (limit, remaining) = match dialect {
            Messages => ("anthropic-ratelimit-requests-limit", "anthropic-ratelimit-requests-remaining"),
            Chat | Responses => ("x-ratelimit-limit-requests", "x-ratelimit-remaining-requests"),
        };
        assert_eq!((first.header(limit), first.header(remaining)), (Some("2"), Some("1")), "{first:?}");
        assert_eq!(ask(&edge, dialect, ALICE, 10).await.status, 200);
        let refused = ask(&edge, dialect, ALICE, 10).await;
        assert_eq!(refused.status, 429, "{refused:?}");
        assert_eq!((refused.header(limit), refused.header(remaining)), (Some("2"), Some("0")));
        let seconds: u64 = refused.header("retry-after").unwrap().parse().unwrap();
        let millis: u64 = refused.header("retry-after-ms").unwrap().parse().unwrap();
        assert!((1..=30).contains(&seconds) && millis.div_ceil(1000) == seconds, "{refused:?}");
        assert_eq!(refused.header("x-should-retry"), None, "{refused:?}");
        let error = &refused.json()["error"];
        let class = if dialect == Messages { "rate_limit_error" } else { "requests" };
        assert_eq!(error["type"], class, "{refused:?}");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("2 requests a minute of the key `alice`"), "{message}");
        let line = edge.access(|line| line["status"] == 429).await;
        assert_eq!((&line["end"], &line["principal"]), (&json!("PR"), &json!("alice")));
    }
}

#[tokio::test]
async fn tokens_are_reserved_settled_and_given_back_where_nothing_was_sent() {
    let upstream = uses(30, 20).await;
    let keys = "keys: {alice: {key: env:ALICE, limits: {tokens_per_day: 1000}}}\n";
    let edge = edge(&upstream, keys).await;
    let left = |reply: &Reply| reply.header("x-ratelimit-remaining-tokens").unwrap().parse::<u64>().unwrap();
    let first = ask(&edge, Chat, ALICE, 500).await;
    let reserved = 1000 - left(&first);
    assert!((500..560).contains(&reserved), "the head is sent before the usage is known: {reserved}");
    edge.idle().await;
    // 50 were used, and 950 are there: more than that is never had at once.
    let never = ask(&edge, Chat, ALICE, 1200).await;
    assert_eq!((never.status, never.header("x-should-retry")), (429, Some("false")), "{never:?}");
    assert!(never.json()["error"]["message"].as_str().unwrap().contains("may use 12"), "{never:?}");
    let second = ask(&edge, Chat, ALICE, 100).await;
    assert!((835..=850).contains(&left(&second)), "{}", left(&second));
    edge.idle().await;
    let third = ask(&edge, Chat, ALICE, 950).await;
    // A day's rest is more than any SDK waits.
    assert_eq!((third.status, third.header("x-should-retry")), (429, Some("false")), "{third:?}");
    assert_eq!(ask(&edge, Chat, ALICE, 800).await.status, 200);
    edge.idle().await;
    drop(upstream);
}

#[tokio::test]
async fn what_no_upstream_was_sent_costs_nothing() {
    let absent = crate::support::absent::Closed::new();
    let settings = format!(
        "clusters: {{up: {{provider: vllm, endpoints: [\"http://{}\"], health: {{check: none}}}}}}\n\
         models: {{\"*\": {{deployments: [{{cluster: up}}]}}}}\n\
         keys: {{alice: {{key: env:ALICE, limits: {{requests_per_day: 3, tokens_per_day: 3000}}}}}}\n\
         retry: {{attempts: 1}}\n",
        absent.addr
    );
    let edge = Edge::start_with(&settings, &KEYS).await;
    for _ in 0..10 {
        let failed = ask(&edge, Chat, ALICE, 2000).await;
        assert!(matches!(failed.status, 502 | 503), "{failed:?}");
    }
}

#[tokio::test]
async fn limits_of_a_model_of_everyone_and_of_requests_under_way_hold_beside_each_other() {
    let upstream = uses(1, 1).await;
    let clusters = cluster("up", &upstream, "");
    let edge = Edge::start_with(
        &format!(
            "clusters:\n{clusters}models:\n  m: {{deployments: [{{cluster: up}}], limits: {{requests_per_day: 3}}}}\n\
             keys:\n  alice: {{key: env:ALICE, model_limits: {{\"m*\": {{requests_per_day: 2}}}}}}\n  bob: {{key: env:BOB}}\n\
             limits: {{principal: {{requests_per_day: 9}}}}\n"
        ),
        &KEYS,
    )
    .await;
    assert_eq!(ask(&edge, Chat, ALICE, 1).await.status, 200);
    assert_eq!(ask(&edge, Chat, ALICE, 1).await.status, 200);
    let own = ask(&edge, Chat, ALICE, 1).await;
    assert!(own.json()["error"]["message"].as_str().unwrap().contains("the key `alice` for `m*`"), "{own:?}");
    let served = ask(&edge, Chat, BOB, 1).await;
    assert_eq!((served.status, served.header("x-ratelimit-limit-requests")), (200, Some("3")));
    let all = ask(&edge, Chat, BOB, 1).await;
    assert!(all.json()["error"]["message"].as_str().unwrap().contains("the model `m`"), "{all:?}");
    assert_eq!(
        edge.total("forebay_limit_refused_total", &["of=\"model\"", "measure=\"requests\""]).await,
        1.0
    );
}

#[tokio::test]
async fn a_cluster_whose_limit_is_reached_is_passed_over_and_the_last_one_refuses() {
    let (small, large) = (uses(1, 1).await, uses(1, 1).await);
    let clusters = cluster("small", &small, ", limits: {requests_per_day: 2}")
        + &cluster("large", &large, ", limits: {requests_per_day: 3}");
    let edge = Edge::start(&format!(
        "clusters:\n{clusters}models: {{m: {{deployments: [{{cluster: small}}, {{cluster: large, priority: 1}}]}}}}\n"
    ))
    .await;
    for _ in 0..5 {
        assert_eq!(ask(&edge, Chat, "", 1).await.status, 200);
    }
    let refused = ask(&edge, Chat, "", 1).await;
    assert_eq!(refused.status, 429, "{refused:?}");
    let seconds: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((28_000..=28_800).contains(&seconds), "a third of a day: {refused:?}");
    assert_eq!((small.received().len(), large.received().len()), (2, 3));
}

#[tokio::test]
async fn callers_without_a_key_are_told_apart_by_their_addresses() {
    let upstream = uses(1, 1).await;
    let settings =
        listener("trusted_proxies: [\"127.0.0.1\"]") + "limits: {principal: {requests_per_day: 1}}\n";
    let edge = edge(&upstream, &settings).await;
    let from = |address: &str| format!("x-forwarded-for: {address}\r\n");
    assert_eq!(ask(&edge, Chat, &from("192.0.2.1"), 1).await.status, 200);
    let refused = ask(&edge, Chat, &from("192.0.2.1"), 1).await;
    assert_eq!(refused.status, 429, "{refused:?}");
    assert_eq!(ask(&edge, Chat, &from("192.0.2.2"), 1).await.status, 200);
    assert_eq!(ask(&edge, Chat, &from("2001:db8::1"), 1).await.status, 200);
    assert_eq!(ask(&edge, Chat, &from("2001:db8::2"), 1).await.status, 429, "the same network");
}

#[tokio::test]
async fn an_address_is_shielded_from_floods_before_anything_else() {
    let upstream = uses(1, 1).await;
    let settings = "keys: {alice: {key: env:ALICE}}\nlimits: {address: {requests_per_second: 20}}\n";
    let edge = edge(&upstream, settings).await;
    let mut client = edge.connect().await;
    let mut refused = 0;
    for _ in 0..200 {
        refused += u32::from(client.ask(&get("/v1/models", "x-api-key: wrong\r\n")).await.status == 429);
    }
    assert!(refused > 50, "{refused}");
    let reply = soon("a refusal", async {
        loop {
            let reply = client.ask(&request(Messages, ALICE, 1)).await;
            if reply.status == 429 {
                return reply;
            }
        }
    })
    .await;
    assert_eq!(reply.json()["error"]["type"], "rate_limit_error", "{reply:?}");
}

/// The tokens that are left to whoever asks next.
async fn left(edge: &Edge) -> u64 {
    let reply = ask(edge, Chat, ALICE, 1).await;
    reply.header("x-ratelimit-remaining-tokens").unwrap_or_else(|| panic!("{reply:?}")).parse().unwrap()
}

#[tokio::test]
async fn a_stream_counts_as_it_reported_and_one_that_is_left_as_was_counted() {
    let sim = sim(Config::default()).await;
    let keys = "keys: {alice: {key: env:ALICE, limits: {tokens_per_day: 10000}}}\n";
    let edge = Edge::start_with(&[&fleet(&sim), keys].concat(), &KEYS).await;
    let body = json!({"model": "m", "stream": true, "max_tokens": 4000,
        "messages": [{"role": "user", "content": "Sing."}]});
    let stream = |fields: &str| {
        let fields = [ALICE, "x-sim-text: canary sings all day long\r\n", fields].concat();
        post(Chat.path(), &fields, body.to_string())
    };
    let before = left(&edge).await;
    let whole = edge.connect().await.ask(&stream("")).await;
    assert_eq!(
        whole.header("x-ratelimit-remaining-tokens").map(|left| left.parse::<u64>().unwrap() < 6000),
        Some(true)
    );
    let after = soon("the settlement", async {
        loop {
            let left = left(&edge).await;
            if left > 6000 {
                return left;
            }
        }
    })
    .await;
    let used = before - after;
    assert!((5..100).contains(&used), "{used}");
    // It is left in the middle: what was said until then counts, and the prompt.
    let mut leaver = edge.connect().await;
    leaver.send(&stream("x-sim-fault: stall=3\r\n")).await;
    leaver.saw("canary").await;
    drop(leaver);
    let line = edge.access(|line| line["end"] == "CD").await;
    assert_eq!(line["principal"], "alice", "{line}");
    let last = soon("the settlement", async {
        loop {
            let left = left(&edge).await;
            if left > 6000 {
                return left;
            }
        }
    })
    .await;
    assert!((5..100).contains(&(after - last)), "{after} {last}");
}

/// An edge where a request of ten tokens of prompt and ten of reply costs 30 dollars, and alice may spend 100.
async fn priced(upstream: &Scripted, folder: &Folder, budget: &str) -> Edge {
    let clusters = cluster("up", upstream, "");
    let settings = format!(
        "clusters:\n{clusters}models: {{\"*\": {{deployments: [{{cluster: up}}]}}}}\n\
         ledger: {{directory: \"{}\", sync: always}}\n\
         prices: {{rows: [{{cluster: up, model: \"*\", input: 1000000, output: 2000000}}]}}\n\
         keys: {{alice: {{key: env:ALICE, limits: {{budget: {{{budget}}}}}}}, bob: {{key: env:BOB}}}}\n",
        folder.path().display()
    );
    Edge::start_with(&settings, &KEYS).await
}

/// A request that may cost so much, for its reply; its prompt is guessed at some 10 dollars.
async fn buy(edge: &Edge, fields: &str, dollars: u64) -> Reply {
    ask(edge, Chat, fields, dollars / 2).await
}

#[tokio::test]
async fn a_budget_holds_and_is_remembered_and_no_sdk_tries_again() {
    let (upstream, folder) = (uses(10, 10).await, Folder::new());
    let mut edge = priced(&upstream, &folder, "day: 100").await;
    for _ in 0..2 {
        assert_eq!(buy(&edge, ALICE, 20).await.status, 200);
        edge.idle().await;
    }
    // 60 are spent; this one may cost more than what is left.
    let refused = buy(&edge, ALICE, 60).await;
    assert_eq!((refused.status, refused.header("x-should-retry")), (429, Some("false")), "{refused:?}");
    assert_eq!(refused.json()["error"]["code"], "insufficient_quota", "{refused:?}");
    assert!(refused.header("retry-after").is_some(), "tomorrow there is more: {refused:?}");
    assert_eq!(buy(&edge, BOB, 60).await.status, 200, "another's money");
    edge.signal("TERM");
    edge.ended().await;
    let edge = priced(&upstream, &folder, "day: 100").await;
    assert_eq!(buy(&edge, ALICE, 60).await.status, 429, "what was spent is spent");
    assert_eq!(buy(&edge, ALICE, 20).await.status, 200);
    edge.idle().await;
    assert_eq!(buy(&edge, ALICE, 20).await.status, 429);
}

#[tokio::test]
async fn what_was_spent_on_a_cluster_a_providers_key_and_a_model_behind_a_star_is_remembered() {
    let upstream = uses(10, 10).await;
    let limits = "limits: {budget: {day: 100}}";
    let pool = format!(", keys: [{{name: k, key: env:POOL, {limits}}}]");
    let of_cluster = format!(", {limits}");
    let of_model = "model_limits: {\"m\": {budget: {day: 100}}}";
    for (cluster_more, key_more) in [(of_cluster.as_str(), ""), (&pool, ""), ("", of_model)] {
        let folder = Folder::new();
        let settings = format!(
            "clusters:\n{}models: {{\"*\": {{deployments: [{{cluster: up}}]}}}}\n\
             ledger: {{directory: \"{}\", sync: always}}\n\
             prices: {{rows: [{{cluster: up, model: \"*\", input: 1000000, output: 2000000}}]}}\n\
             keys: {{alice: {{key: env:ALICE, {key_more}}}}}\n",
            cluster("up", &upstream, cluster_more),
            folder.path().display()
        );
        let variables = [KEYS[0], ("POOL", "key-of-the-pool-0123456789")];
        let mut edge = Edge::start_with(&settings, &variables).await;
        for _ in 0..2 {
            let bought = buy(&edge, ALICE, 20).await;
            assert_eq!(bought.status, 200, "{settings}{bought:?}");
            edge.idle().await;
        }
        edge.signal("TERM");
        edge.ended().await;
        let edge = Edge::start_with(&settings, &variables).await;
        let refused = buy(&edge, ALICE, 60).await;
        // 60 are spent. Where no key of a pool has room, it is as if there were no upstream.
        assert!(matches!(refused.status, 429 | 503), "{settings}{refused:?}");
        assert_eq!(buy(&edge, ALICE, 20).await.status, 200, "{settings}");
    }
}

#[tokio::test]
async fn requests_at_once_cannot_spend_more_than_a_budget() {
    let (upstream, folder) = (uses(10, 10).await, Folder::new());
    let edge = priced(&upstream, &folder, "total: 1000").await;
    let mut asked = JoinSet::new();
    for _ in 0..200 {
        let mut client = edge.connect().await;
        asked.spawn(async move { client.ask(&request(Chat, ALICE, 10)).await.status });
    }
    let answered = soon("every answer", asked.join_all()).await;
    edge.idle().await;
    // 30 dollars each, and no more is reserved for one than some 40.
    let served = answered.iter().filter(|status| **status == 200).count();
    assert!((24..=33).contains(&served), "{served}");
    assert!(answered.iter().all(|status| matches!(status, 200 | 429)), "{answered:?}");
    let last = soon("the rest", async {
        let mut more = 0;
        while buy(&edge, ALICE, 20).await.status == 200 {
            more += 1;
            edge.idle().await;
        }
        more
    })
    .await;
    assert!((31..=33).contains(&(served + last)), "{served} and {last}: within one reservation");
}

#[tokio::test]
async fn a_budget_that_only_warns_is_exceeded_and_told() {
    let (upstream, folder) = (uses(10, 10).await, Folder::new());
    let edge = priced(&upstream, &folder, "month: 50, spent: warn, warn_at: [0.5]").await;
    for _ in 0..3 {
        assert_eq!(buy(&edge, ALICE, 20).await.status, 200);
        edge.idle().await;
    }
    heard(&edge, "key:alice:", 2).await;
    assert_eq!(edge.total("forebay_budget_warnings_total", &["of=\"key\"", "per=\"month\""]).await, 2.0);
}

#[tokio::test]
async fn a_key_without_room_for_one_request_is_there_for_others() {
    let upstream = uses(10, 10).await;
    let address = upstream.addr;
    let edge = Edge::start_with(
        &format!(
            "clusters:\n  up:\n    provider: vllm\n    endpoints: [\"http://{address}\"]\n    health: {{check: none}}\n\
             \x20   speaks: [chat_completions]\n    keys:\n\
             \x20     - {{name: one, key: env:ALICE, limits: {{tokens_per_day: 1000}}}}\n\
             \x20     - {{name: two, key: env:BOB, limits: {{tokens_per_day: 1000}}}}\n\
             models: {{\"*\": {{deployments: [{{cluster: up}}]}}}}\n"
        ),
        &KEYS,
    )
    .await;
    assert_eq!(ask(&edge, Chat, "", 5000).await.status, 429, "it never has room for that");
    for _ in 0..4 {
        assert_eq!(ask(&edge, Chat, "", 100).await.status, 200);
    }
    assert_eq!(upstream.received().len(), 4);
    assert_eq!(edge.total("forebay_limit_refused_total", &["of=\"provider_key\""]).await, 2.0);
}

#[tokio::test]
async fn what_nobody_knows_the_price_of_is_refused_where_a_budget_must_hold() {
    let upstream = uses(10, 10).await;
    for (settings, status) in [
        ("limits: {budget: {day: 5}}", 403),
        ("model_limits: {m: {budget: {day: 5}}}", 403),
        ("model_limits: {other: {budget: {day: 5}}}", 200),
        ("limits: {budget: {day: 5, unpriced: serve}}", 200),
        ("limits: {budget: {day: 5, spent: warn}}", 200),
    ] {
        let edge = Edge::start_with(
            &format!(
                "clusters: {{up: {{provider: openai, base_url: \"http://{}/v1\", api_key: env:BOB, health: {{check: none}}}}}}\n\
                 models: {{\"*\": {{deployments: [{{cluster: up}}]}}}}\n\
                 keys: {{alice: {{key: env:ALICE, {settings}}}}}\n",
                upstream.addr
            ),
            &KEYS,
        )
        .await;
        let reply = ask(&edge, Chat, ALICE, 10).await;
        assert_eq!(reply.status, status, "{settings}: {reply:?}");
        if status == 403 {
            assert!(reply.json()["error"]["message"].as_str().unwrap().contains("`prices`"), "{reply:?}");
        }
    }
}

#[tokio::test]
async fn raw_routes_count_on_the_limits_of_callers_and_of_clusters() {
    let upstream = Scripted::start(|_| Turn::Say(reply(200, "{}"))).await;
    let clusters = cluster("up", &upstream, ", limits: {requests_per_day: 5}");
    let edge = Edge::start_with(
        &format!(
            "clusters:\n{clusters}keys: {{alice: {{key: env:ALICE, limits: {{requests_per_day: 3}}}}, bob: {{key: env:BOB}}}}\n\
             routes: [{{name: files, path: /files, raw: true, cluster: up}}]\n"
        ),
        &KEYS,
    )
    .await;
    let look =
        |fields: &'static str| async { edge.connect().await.ask(&get("/files/1", fields)).await.status };
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(look(ALICE).await);
        edge.idle().await;
    }
    assert_eq!(seen, [200, 200, 200, 429], "what only looks is a request, too");
    assert_eq!([look(BOB).await, look(BOB).await, look(BOB).await], [200, 200, 429], "five in all");
    assert_eq!(upstream.received().len(), 5);
}

#[tokio::test]
async fn a_count_of_tokens_made_upstream_is_a_request() {
    let upstream = Scripted::start(|_| Turn::Say(reply(200, "{\"input_tokens\": 7}"))).await;
    let edge = Edge::start_with(
        &format!(
            "clusters: {{up: {{provider: anthropic, base_url: \"http://{}\", api_key: env:BOB, health: {{check: none}}}}}}\n\
             models: {{\"*\": {{deployments: [{{cluster: up}}]}}}}\n\
             keys: {{alice: {{key: env:ALICE, limits: {{requests_per_day: 2, tokens_per_day: 10000}}}}}}\n",
            upstream.addr
        ),
        &KEYS,
    )
    .await;
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "Count."}]}).to_string();
    let mut seen = Vec::new();
    for _ in 0..3 {
        let reply = edge.connect().await.ask(&post("/v1/messages/count_tokens", ALICE, &body)).await;
        seen.push(reply.status);
        edge.idle().await;
    }
    assert_eq!(seen, [200, 200, 429]);
}

#[tokio::test]
async fn an_alias_that_takes_over_has_limits_of_its_own() {
    let small = Scripted::start(|_| {
        let long = r#"{"error":{"message":"too long","code":"context_length_exceeded"}}"#;
        Turn::Say(reply(400, long))
    })
    .await;
    let large = uses(1, 1).await;
    let clusters = cluster("small", &small, "") + &cluster("large", &large, "");
    let edge = Edge::start(&format!(
        "clusters:\n{clusters}models:\n  m: {{deployments: [{{cluster: small}}], fallback: {{too_long: big}}}}\n\
         \x20 big: {{deployments: [{{cluster: large}}], limits: {{requests_per_day: 2}}}}\n"
    ))
    .await;
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(ask(&edge, Chat, "", 1).await.status);
    }
    assert_eq!(seen, [200, 200, 429]);
    assert_eq!(large.received().len(), 2);
}
