//! Going on with a chat stream that broke off: another node is asked the same, with what was said so far as the beginning
//! of its answer.
//!
//! Engines are told so by a last message of the assistant and two members that vLLM, SGLang and llama.cpp share:
//! `continue_final_message` and `add_generation_prompt` (vLLM's "OpenAI-Compatible Server", SGLang's "OpenAI APIs",
//! llama.cpp's server README). The prompt then ends where the text does, so that the next token is the one that the lost
//! node would have chosen.

use crate::dialect::ir::node::{Node, Value};
use crate::dialect::ir::write::Object;
use crate::dialect::ir::{Leftover, Output, Request, Role};

/// Members that change nothing about where an answer goes on. All others that no dialect knows may: grammars, bounds on
/// what must be said, penalties that count an answer's own words.
const HARMLESS: [&str; 12] = [
    "cache_prompt",
    "chat_template_kwargs",
    "ignore_eos",
    "min_p",
    "priority",
    "prompt_cache_key",
    "skip_special_tokens",
    "spaces_between_special_tokens",
    "stop_token_ids",
    "store",
    "timings_per_token",
    "verbosity",
];

/// Members that show a thought where they are true. Elsewhere the model may think unseen, and the next node would go on
/// without the thought.
const SHOWING: [&str; 2] = ["include_reasoning", "separate_reasoning"];

/// Why no other node could go on with the answer to this request; nothing where one could.
pub fn obstacle(request: &Request<'_>) -> Option<&'static str> {
    let sampling = &request.sampling;
    // Engines count them over what they said themselves, not over a prefix that they are given.
    let penalised =
        [sampling.frequency_penalty, sampling.presence_penalty].into_iter().flatten().any(|by| by != 0.0);
    let is_harmful = |left: &&Leftover<'_>| {
        let is_shown = |name: &str| SHOWING.contains(&name) && left.raw.get() == "true";
        left.top().is_some_and(|name| !HARMLESS.contains(&name) && !is_shown(name))
    };
    let harmful = request.left.iter().find(is_harmful).and_then(Leftover::top);
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
    } else if harmful.is_some_and(|name| SHOWING.contains(&name)) {
        Some("the model may think unseen")
    } else if harmful.is_some() {
        Some("the request holds a member that no dialect knows")
    } else {
        None
    }
}

/// The request for the rest: `body` as it was sent, with `said` as the beginning of the answer, for which `produced` tokens
/// of the bound on output are spent, if anyone knows how many. Nothing where the bound is.
///
/// # Errors
///
/// Why it cannot be asked for.
pub fn request(body: &[u8], said: &str, produced: Option<u64>) -> Result<Option<Vec<u8>>, &'static str> {
    const UNREAD: &str = "the request cannot be read again";
    let document = Node::parse(body).map_err(|_| UNREAD)?;
    let Value::Object(members) = &document.value else { return Err(UNREAD) };
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
                let limit = node.raw.parse::<u64>().map_err(|_| UNREAD)?;
                let produced = produced.ok_or("nobody knows how many of its tokens are there")?;
                let left = limit.saturating_sub(produced);
                if left == 0 {
                    return Ok(None);
                }
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
            json!({"include_reasoning": true, "separate_reasoning": true}),
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
            json!({"include_reasoning": false}),
            json!({"separate_reasoning": false}),
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
        let asked = request(body.as_bytes(), "so \"far\"\n", Some(4)).unwrap().unwrap();
        let expected = r#"{"stream":true,"messages":[{"role":"user","content":"H\u00e9"} ,{"role":"assistant","content":"so \"far\"\n"}],"max_tokens":6,"é":1e0,"add_generation_prompt":false,"continue_final_message":true}"#;
        assert_eq!(String::from_utf8(asked).unwrap(), expected);
        assert_eq!(request(body.as_bytes(), "x", Some(10)).unwrap(), None, "nothing is left of the bound");
        assert!(request(body.as_bytes(), "x", None).is_err(), "what is left is not known");
        let unbound =
            request(br#"{"messages":[{}],"max_completion_tokens":null}"#, "x", None).unwrap().unwrap();
        assert_eq!(serde_json::from_slice::<Json>(&unbound).unwrap()["max_completion_tokens"], Json::Null);
        assert!(request(b"no JSON", "x", Some(1)).is_err());
    }
}
