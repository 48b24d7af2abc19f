//! Going on with a chat stream that broke off: another node is asked the same, with what was said so far as the beginning
//! of its answer.
//!
//! Engines are told so by a last message of the assistant and two members that vLLM, SGLang and llama.cpp share:
//! `continue_final_message` and `add_generation_prompt` (vLLM's "OpenAI-Compatible Server", SGLang's "OpenAI APIs",
//! llama.cpp's server README). The prompt then ends where the text does, so that the next token is the one that the lost
//! node would have chosen.

use crate::dialect::ir::node::{Node, Value};
use crate::dialect::ir::write::Object;
use crate::dialect::ir::{Output, Request, Role};
use crate::error::Error;

/// Members that change nothing about where an answer goes on. All others that no dialect knows may: grammars, bounds on
/// what must be said, penalties that count an answer's own words.
const HARMLESS: [&str; 14] = [
    "cache_prompt",
    "chat_template_kwargs",
    "ignore_eos",
    "include_reasoning",
    "min_p",
    "priority",
    "prompt_cache_key",
    "separate_reasoning",
    "skip_special_tokens",
    "spaces_between_special_tokens",
    "stop_token_ids",
    "store",
    "timings_per_token",
    "verbosity",
];

/// Why no other node could go on with the answer to this request; nothing where one could.
pub fn obstacle(request: &Request<'_>) -> Option<&'static str> {
    let sampling = &request.sampling;
    // Engines count them over what they said themselves, not over a prefix that they are given.
    let penalised =
        [sampling.frequency_penalty, sampling.presence_penalty].into_iter().flatten().any(|by| by != 0.0);
    let is_unknown = |name: &str| !HARMLESS.contains(&name);
    if sampling.replies.is_some_and(|replies| replies > 1) {
        Some("several replies were asked for")
    } else if sampling.logprobs == Some(true) || sampling.top_logprobs.is_some() {
        Some("the likelihood of tokens was asked for")
    } else if !matches!(request.output, Output::Text) {
        Some("the answer keeps a shape")
    } else if penalised {
        Some("a penalty counts the answer's own words")
    } else if request.messages.last().is_some_and(|last| last.role == Role::Assistant) {
        Some("the conversation ends with the beginning of an answer")
    } else if request.left.iter().filter_map(|left| left.top()).any(is_unknown) {
        Some("the request holds a member that no dialect knows")
    } else {
        None
    }
}

/// The request for the rest: `body` as it was sent, with `said` as the beginning of the answer, for which `produced` tokens
/// of the bound on output are spent. Nothing where the bound is.
///
/// # Errors
///
/// [`crate::error::Kind::InvalidRequest`] where `body` is no chat request.
pub fn request(body: &[u8], said: &str, produced: u64) -> Result<Option<Vec<u8>>, Error> {
    let document = Node::parse(body)?;
    let Value::Object(members) = &document.value else { return Ok(None) };
    let mut out = Vec::with_capacity(body.len() + said.len() + 128);
    let mut object = Object::begin(&mut out);
    for (name, node) in members {
        match name.plain().as_ref() {
            "messages" => {
                let list = node.raw.strip_suffix(']').unwrap_or(node.raw);
                let out = object.key("messages");
                out.extend_from_slice(list.as_bytes());
                out.push(b',');
                let mut message = Object::begin(out);
                message.string("role", "assistant");
                message.string("content", said);
                message.end();
                out.push(b']');
            }
            name @ ("max_tokens" | "max_completion_tokens") if !node.is_null() => {
                let left = node.raw.parse::<u64>().ok().and_then(|limit| limit.checked_sub(produced));
                let Some(left) = left.filter(|left| *left > 0) else { return Ok(None) };
                object.count(name, left);
            }
            name => object.raw(name, node.raw),
        }
    }
    object.boolean("add_generation_prompt", false);
    object.boolean("continue_final_message", true);
    object.end();
    Ok(Some(out))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;
    use crate::dialect::chat::request::decode;

    fn obstacle_of(more: &Json) -> Option<&'static str> {
        let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "Hi"}], "stream": true});
        for (name, value) in more.as_object().unwrap() {
            body[name] = value.clone();
        }
        obstacle(&decode(body.to_string().as_bytes()).unwrap())
    }

    #[test]
    fn what_no_other_node_could_go_on_with_is_known_beforehand() {
        for fine in [
            json!({}),
            json!({"n": 1, "logprobs": false, "frequency_penalty": 0, "response_format": {"type": "text"}}),
            json!({"temperature": 0.7, "seed": 3, "stop": ["x"], "max_tokens": 9, "ignore_eos": true}),
            json!({"tools": [{"type": "function", "function": {"name": "f"}}]}),
        ] {
            assert_eq!(obstacle_of(&fine), None, "{fine}");
        }
        for hopeless in [
            json!({"n": 2}),
            json!({"logprobs": true}),
            json!({"response_format": {"type": "json_object"}}),
            json!({"frequency_penalty": 0.5}),
            json!({"presence_penalty": -0.5}),
            json!({"grammar": "root ::= \"a\""}),
            json!({"guided_regex": "a*"}),
            json!({"min_tokens": 5}),
            json!({"continue_final_message": true}),
            json!({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "He"}]}),
        ] {
            assert!(obstacle_of(&hopeless).is_some(), "{hopeless}");
        }
    }

    #[test]
    fn the_rest_is_asked_for_with_all_that_was_sent_before() {
        let body =
            r#"{"stream":true, "messages":[{"role":"user","content":"H\u00e9"} ] ,"max_tokens":10,"é":1e0}"#;
        let asked = request(body.as_bytes(), "so \"far\"\n", 4).unwrap().unwrap();
        let expected = r#"{"stream":true,"messages":[{"role":"user","content":"H\u00e9"} ,{"role":"assistant","content":"so \"far\"\n"}],"max_tokens":6,"é":1e0,"add_generation_prompt":false,"continue_final_message":true}"#;
        assert_eq!(String::from_utf8(asked).unwrap(), expected);
        assert_eq!(request(body.as_bytes(), "x", 10).unwrap(), None, "nothing is left of the bound");
        let unbound =
            request(br#"{"messages":[{}],"max_completion_tokens":null}"#, "x", 10).unwrap().unwrap();
        assert_eq!(serde_json::from_slice::<Json>(&unbound).unwrap()["max_completion_tokens"], Json::Null);
        assert!(request(b"no JSON", "x", 1).is_err());
    }
}
