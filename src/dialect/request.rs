//! What changes in a request on its way up, and what is wrong with one that goes nowhere.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Dialect, Operation};
use crate::error::{Error, Kind};
use crate::json::envelope::StreamOptions;
use crate::json::{Edits, Envelope, Fault, quote};

/// Who asked the upstream for usage in a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Nobody: the reply is no stream, or its dialect reports usage unasked, or Forebay was not to ask.
    Nobody,
    /// The client, who is to see it.
    Client,
    /// Forebay, so the client must not see it: [`super::usage::StreamTap`] is to strip it.
    Forebay,
}

/// The edits of one attempt.
#[derive(Clone, Debug)]
pub struct Rewrite {
    /// What changes in the body.
    pub edits: Edits,
    /// Who asked for usage in the stream.
    pub asked: Asked,
}

/// What changes in a request body for one attempt: the model's name, unless `upstream_model` is nothing or the path
/// has the name ([`Operation::path_of`]), and, with
/// `ask_usage`, a request for usage in a stream of a dialect that sends none unasked. Nothing else in the body moves.
pub fn edits(
    operation: Operation,
    envelope: &Envelope<'_>,
    upstream_model: Option<&str>,
    ask_usage: bool,
) -> Rewrite {
    let mut edits = Edits::new();
    if let Some(model) = upstream_model.filter(|_| !operation.names_model()) {
        rename(&mut edits, envelope, model);
    }
    let must_ask = matches!(operation, Operation::ChatCompletions | Operation::Completions)
        && envelope.stream == Some(true);
    let asked = match envelope.stream_options.include_usage() {
        _ if !must_ask => Asked::Nobody,
        Some(true) => Asked::Client,
        _ if !ask_usage => Asked::Nobody,
        _ => {
            ask(&mut edits, envelope);
            Asked::Forebay
        }
    };
    Rewrite { edits, asked }
}

/// The edits that make a request one for a stream, with its usage, whatever it was.
pub fn streamed(operation: Operation, envelope: &Envelope<'_>, upstream_model: Option<&str>) -> Edits {
    let mut edits = Edits::new();
    if operation.names_model() {
        return edits;
    }
    if let Some(model) = upstream_model {
        rename(&mut edits, envelope, model);
    }
    match envelope.span("stream") {
        Some(span) => add(&mut edits, span, Bytes::from_static(b"true")),
        None => insert(&mut edits, envelope.insert_at, envelope.is_empty, b"\"stream\":true".to_vec()),
    }
    let is_chat = matches!(operation, Operation::ChatCompletions | Operation::Completions);
    if is_chat && envelope.stream_options.include_usage() != Some(true) {
        ask(&mut edits, envelope);
    }
    edits
}

/// The edits that make a chat request that asks for its usage one that asks for it in every event: how much of an answer
/// that breaks off was made is known only so. `continuous_usage_stats` is vLLM's and SGLang's.
pub fn counted(envelope: &Envelope<'_>) -> Edits {
    let mut edits = Edits::new();
    if let StreamOptions::Object { span, is_empty, include_usage: Some((_, true)) } = &envelope.stream_options
    {
        insert(&mut edits, span.start + 1, *is_empty, b"\"continuous_usage_stats\":true".to_vec());
    }
    edits
}

/// Refuses a request that no upstream could take, with the words of the real API.
///
/// # Errors
///
/// [`Kind::InvalidRequest`] where the model is missing.
pub fn check(operation: Operation, envelope: &Envelope<'_>) -> Result<(), Error> {
    let model = envelope.model.as_ref().map(|model| model.text.as_ref());
    let elsewhere = operation == Operation::Models || operation.names_model();
    if elsewhere || model.is_some_and(|model| !model.is_empty()) {
        return Ok(());
    }
    let invalid = |public: &'static str| Error::client(Kind::InvalidRequest, public);
    Err(match (operation.dialect(), model) {
        (Dialect::OpenaiChat | Dialect::Gemini | Dialect::Converse, _) => {
            invalid("you must provide a model parameter")
        }
        (Dialect::OpenaiResponses, _) => invalid("Missing required parameter: 'model'.").param("model"),
        (Dialect::Anthropic, None) => invalid("model: Field required").param("model"),
        (Dialect::Anthropic, Some(_)) => {
            invalid("model: String should have at least 1 character").param("model")
        }
    })
}

/// The error for a body that could not be read.
pub fn fault_error(operation: Operation, fault: Fault) -> Error {
    let public = match (fault.field(), operation.dialect()) {
        (Some(_), Dialect::OpenaiChat | Dialect::OpenaiResponses) => format!("Invalid request: {fault}."),
        (Some(field), Dialect::Anthropic | Dialect::Gemini | Dialect::Converse) => {
            format!("{field}: {fault}")
        }
        (None, Dialect::OpenaiChat | Dialect::OpenaiResponses) => {
            format!("We could not parse the JSON body of your request: {fault}.")
        }
        (None, Dialect::Anthropic | Dialect::Gemini | Dialect::Converse) => {
            format!("The request body is not valid JSON: {fault}")
        }
    };
    let error = Error::client(Kind::InvalidRequest, public);
    match fault.field() {
        Some(field) => error.param(field),
        None => error,
    }
}

/// Puts `model` in the place of the client's, or adds it where there is none.
fn rename(edits: &mut Edits, envelope: &Envelope<'_>, model: &str) {
    match envelope.span("model") {
        Some(_) if envelope.model.as_ref().is_some_and(|named| named.text == model) => {}
        Some(span) => add(edits, span, quote(model)),
        None => {
            let mut member = b"\"model\":".to_vec();
            member.extend_from_slice(&quote(model));
            insert(edits, envelope.insert_at, envelope.is_empty, member);
        }
    }
}

/// Asks for usage in the stream, keeping the other members of `stream_options`.
fn ask(edits: &mut Edits, envelope: &Envelope<'_>) {
    const MEMBER: &[u8] = b"\"include_usage\":true";
    const OBJECT: &[u8] = b"{\"include_usage\":true}";
    match &envelope.stream_options {
        StreamOptions::Object { include_usage: Some((value, _)), .. } => {
            add(edits, value.clone(), Bytes::from_static(b"true"));
        }
        StreamOptions::Object { span, is_empty, include_usage: None } => {
            insert(edits, span.start + 1, *is_empty, MEMBER.to_vec());
        }
        StreamOptions::Null(span) => add(edits, span.clone(), Bytes::from_static(OBJECT)),
        StreamOptions::Absent => {
            let member = [b"\"stream_options\":", OBJECT].concat();
            insert(edits, envelope.insert_at, envelope.is_empty, member);
        }
    }
}

/// Inserts a member at the start of an object.
fn insert(edits: &mut Edits, at: usize, into_empty: bool, mut member: Vec<u8>) {
    if !into_empty {
        member.push(b',');
    }
    add(edits, at..at, Bytes::from(member));
}

fn add(edits: &mut Edits, span: std::ops::Range<usize>, with: Bytes) {
    // Values of different members never overlap.
    let taken = edits.push(span, with);
    debug_assert!(taken, "an edit overlaps another");
}

/// How many replies a request asks for, each as long as it allows: `n` in chat, `best_of` and one for each prompt in legacy
/// completions, `candidateCount` in Gemini. Where that cannot be read, the upstream refuses the request.
pub fn replies(operation: Operation, envelope: &Envelope<'_>, body: &[u8]) -> Option<u64> {
    match operation {
        Operation::Completions => {
            let asked: Legacy<'_> = serde_json::from_slice(body).unwrap_or_default();
            let prompts = asked.prompt.map_or(1, |prompt| prompts(prompt.get()));
            let each = envelope.n.unwrap_or(1).max(asked.best_of.unwrap_or(1));
            Some(each.saturating_mul(prompts))
        }
        Operation::GenerateContent => {
            let asked: Candidates = serde_json::from_slice(body).unwrap_or_default();
            asked.config.and_then(|config| config.count)
        }
        _ => envelope.n,
    }
}

/// How many prompts there are: texts, or lists of tokens. A list of numbers is one.
fn prompts(text: &str) -> u64 {
    let items: Vec<&RawValue> = serde_json::from_str(text).unwrap_or_default();
    let is_number =
        |item: &&RawValue| item.get().starts_with(|first: char| first == '-' || first.is_ascii_digit());
    if items.first().is_some_and(is_number) { 1 } else { (items.len() as u64).max(1) }
}

/// What of a legacy completion says how many replies there are.
#[derive(Default, Deserialize)]
struct Legacy<'a> {
    best_of: Option<u64>,
    #[serde(borrow)]
    prompt: Option<&'a RawValue>,
}

/// What of a request of Gemini's does.
#[derive(Default, Deserialize)]
struct Candidates {
    #[serde(rename = "generationConfig", alias = "generation_config")]
    config: Option<CandidateCount>,
}

#[derive(Deserialize)]
struct CandidateCount {
    #[serde(rename = "candidateCount", alias = "candidate_count")]
    count: Option<u64>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::json::{splice, spliced_len};

    fn rewritten(operation: Operation, body: &str, model: Option<&str>, ask: bool) -> (String, Asked) {
        let envelope = Envelope::parse(body.as_bytes()).unwrap();
        let rewrite = edits(operation, &envelope, model, ask);
        let out = splice(&Bytes::copy_from_slice(body.as_bytes()), &rewrite.edits).concat();
        assert_eq!(out.len(), spliced_len(body.len(), &rewrite.edits));
        (String::from_utf8(out).unwrap(), rewrite.asked)
    }

    #[test]
    fn the_replies_that_a_request_asks_for_are_counted() {
        for (operation, body, expected) in [
            (Operation::ChatCompletions, r#"{"n":3}"#, Some(3)),
            (Operation::ChatCompletions, "{}", None),
            (Operation::Completions, r#"{"prompt":"a"}"#, Some(1)),
            (Operation::Completions, r#"{"prompt":["a","b"],"n":2}"#, Some(4)),
            (Operation::Completions, r#"{"prompt":[[1,2],[3]],"best_of":5,"n":2}"#, Some(10)),
            (Operation::Completions, r#"{"prompt":[1,2,3]}"#, Some(1)),
            (Operation::GenerateContent, r#"{"generationConfig":{"candidateCount":8}}"#, Some(8)),
            (Operation::GenerateContent, r#"{"generation_config":{"candidate_count":2}}"#, Some(2)),
        ] {
            let envelope = Envelope::parse(body.as_bytes()).unwrap();
            assert_eq!(replies(operation, &envelope, body.as_bytes()), expected, "{body}");
        }
    }

    #[test]
    fn a_request_for_a_whole_reply_becomes_one_for_a_stream() {
        let made = |operation, body: &str, model| {
            let envelope = Envelope::parse(body.as_bytes()).unwrap();
            let edits = streamed(operation, &envelope, model);
            String::from_utf8(splice(&Bytes::copy_from_slice(body.as_bytes()), &edits).concat()).unwrap()
        };
        for (body, expected) in [
            (r#"{"model":"a"}"#, r#"{"stream":true,"stream_options":{"include_usage":true},"model":"b"}"#),
            (
                r#"{"model":"a","stream":false}"#,
                r#"{"stream_options":{"include_usage":true},"model":"b","stream":true}"#,
            ),
            (
                r#"{"stream":null,"model":"b","stream_options":{"include_usage":true}}"#,
                r#"{"stream":true,"model":"b","stream_options":{"include_usage":true}}"#,
            ),
        ] {
            assert_eq!(made(Operation::ChatCompletions, body, Some("b")), expected);
        }
        assert_eq!(made(Operation::Messages, r#"{"model":"a"}"#, None), r#"{"stream":true,"model":"a"}"#);
        assert_eq!(made(Operation::GenerateContent, r#"{"contents":[]}"#, Some("b")), r#"{"contents":[]}"#);
    }

    #[test]
    fn usage_is_asked_for_in_every_shape_of_stream_options() {
        for (body, expected) in [
            (r#"{"stream":true}"#, r#"{"stream_options":{"include_usage":true},"stream":true}"#),
            (
                r#"{"stream":true,"stream_options":null}"#,
                r#"{"stream":true,"stream_options":{"include_usage":true}}"#,
            ),
            (
                r#"{"stream":true,"stream_options":{}}"#,
                r#"{"stream":true,"stream_options":{"include_usage":true}}"#,
            ),
            (
                r#"{"stream":true,"stream_options": {"x":1} }"#,
                r#"{"stream":true,"stream_options": {"include_usage":true,"x":1} }"#,
            ),
            (
                r#"{"stream":true,"stream_options":{"include_usage":false,"x":1}}"#,
                r#"{"stream":true,"stream_options":{"include_usage":true,"x":1}}"#,
            ),
            (
                r#"{"stream":true,"stream_options":{"include_usage":null}}"#,
                r#"{"stream":true,"stream_options":{"include_usage":true}}"#,
            ),
        ] {
            for operation in [Operation::ChatCompletions, Operation::Completions] {
                assert_eq!(rewritten(operation, body, None, true), (expected.to_owned(), Asked::Forebay));
            }
            assert_eq!(
                rewritten(Operation::ChatCompletions, body, None, false),
                (body.to_owned(), Asked::Nobody)
            );
            assert_eq!(rewritten(Operation::Responses, body, None, true), (body.to_owned(), Asked::Nobody));
            assert_eq!(rewritten(Operation::Messages, body, None, true), (body.to_owned(), Asked::Nobody));
        }
    }

    #[test]
    fn what_the_client_asked_for_itself_stays() {
        let body = r#"{"stream":true,"stream_options":{"include_usage":true}}"#;
        assert_eq!(rewritten(Operation::ChatCompletions, body, None, true), (body.to_owned(), Asked::Client));
        let whole = r#"{"stream":false}"#;
        assert_eq!(
            rewritten(Operation::ChatCompletions, whole, None, true),
            (whole.to_owned(), Asked::Nobody)
        );
    }

    #[test]
    fn the_model_is_replaced_added_or_left() {
        let model = |body, model| rewritten(Operation::Messages, body, Some(model), false).0;
        assert_eq!(model(r#"{"model" : "a" , "x":1}"#, "b\"c"), r#"{"model" : "b\"c" , "x":1}"#);
        assert_eq!(model(r#"{"model":null}"#, "b"), r#"{"model":"b"}"#);
        assert_eq!(model(r#"{"x":1}"#, "b"), r#"{"model":"b","x":1}"#);
        assert_eq!(model("{ }", "b"), r#"{"model":"b" }"#);
        assert_eq!(model(r#"{"model":"\u0062"}"#, "b"), r#"{"model":"\u0062"}"#);
    }

    #[test]
    fn a_model_that_the_path_names_is_not_put_into_the_body() {
        for operation in [Operation::GenerateContent, Operation::Converse] {
            let body = r#"{"contents":[],"stream":true}"#;
            assert_eq!(rewritten(operation, body, Some("m"), true), (body.to_owned(), Asked::Nobody));
            assert!(check(operation, &Envelope::parse(b"{}").unwrap()).is_ok());
            let error = fault_error(operation, Envelope::parse(b"{").unwrap_err());
            assert_eq!(
                error.public,
                "The request body is not valid JSON: the JSON ends unexpectedly at byte 1"
            );
        }
    }

    #[test]
    fn a_missing_model_is_refused_in_the_words_of_the_api() {
        let refusal = |operation, body: &str| {
            let envelope = Envelope::parse(body.as_bytes()).unwrap();
            let error = check(operation, &envelope).unwrap_err();
            (error.kind, error.public.into_owned(), error.param.map(std::borrow::Cow::into_owned))
        };
        let invalid = Kind::InvalidRequest;
        assert_eq!(
            refusal(Operation::ChatCompletions, "{}"),
            (invalid, "you must provide a model parameter".to_owned(), None)
        );
        assert_eq!(
            refusal(Operation::Responses, r#"{"model":null}"#),
            (invalid, "Missing required parameter: 'model'.".to_owned(), Some("model".to_owned()))
        );
        assert_eq!(
            refusal(Operation::Messages, "{}"),
            (invalid, "model: Field required".to_owned(), Some("model".to_owned()))
        );
        assert_eq!(refusal(Operation::Messages, r#"{"model":""}"#).2.as_deref(), Some("model"));
        let named = Envelope::parse(br#"{"model":"m"}"#).unwrap();
        assert!(Operation::ALL.into_iter().all(|operation| check(operation, &named).is_ok()));
    }

    #[test]
    fn an_unreadable_body_is_the_clients_fault() {
        let fault = |body: &[u8]| Envelope::parse(body).unwrap_err();
        let error = fault_error(Operation::ChatCompletions, fault(b"{"));
        assert_eq!(error.kind, Kind::InvalidRequest);
        assert_eq!(
            error.public,
            "We could not parse the JSON body of your request: the JSON ends unexpectedly at byte 1."
        );
        let error = fault_error(Operation::Messages, fault(br#"{"stream":1}"#));
        assert_eq!(
            (error.public.as_ref(), error.param.as_deref()),
            ("stream: 'stream' must be a boolean", Some("stream"))
        );
    }

    proptest! {
        #[test]
        fn only_the_model_and_the_question_change(
            model in prop_oneof![Just(json!(null)), any::<String>().prop_map(Value::from)],
            others in proptest::collection::vec(("[a-e]{2,3}", any::<String>()), 0..4),
            options in prop_oneof![
                Just(None), Just(Some(json!(null))), Just(Some(json!({}))), Just(Some(json!({"include_usage": false}))),
                Just(Some(json!({"a": [1], "include_usage": null, "b": {}}))), Just(Some(json!({"a": "{"})))
            ],
            upstream in any::<String>(),
            pretty in any::<bool>(),
        ) {
            let mut object = serde_json::Map::new();
            object.extend(others.into_iter().map(|(name, value)| (name, Value::from(value))));
            object.insert("model".to_owned(), model);
            object.insert("stream".to_owned(), json!(true));
            object.extend(options.map(|options| ("stream_options".to_owned(), options)));
            let before = Value::Object(object);
            let text = if pretty { serde_json::to_string_pretty(&before) } else { serde_json::to_string(&before) };
            let (after, asked) = rewritten(Operation::ChatCompletions, &text.unwrap(), Some(&upstream), true);
            prop_assert_eq!(asked, Asked::Forebay);

            let mut expected = before;
            expected["model"] = json!(upstream);
            if !expected["stream_options"].is_object() {
                expected["stream_options"] = json!({});
            }
            expected["stream_options"]["include_usage"] = json!(true);
            let after: Value = serde_json::from_str(&after).unwrap();
            prop_assert_eq!(after, expected);
        }
    }
}
