//! What the real APIs of OpenAI and Anthropic hold against a conversation, where the simulator is `strict`.

use super::refusal::Refusal;
use serde_json::Value;
use std::collections::BTreeSet;

type Held = Result<(), Refusal>;

fn refuse(message: String) -> Held {
    Err(Refusal::invalid(message, None))
}

fn items<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// Chat completions: every call is answered at once, and nothing else is; four stop sequences; JSON Schemas of objects.
pub(crate) fn chat(body: &Value) -> Held {
    let mut open = BTreeSet::new();
    for (at, message) in items(body, "messages").iter().enumerate() {
        match text(message, "role") {
            "tool" if !open.remove(text(message, "tool_call_id")) => {
                return refuse(format!(
                    "Invalid parameter: messages with role 'tool' must be a response to a preceding message with \
                     'tool_calls' (messages[{at}])."
                ));
            }
            "tool" => {}
            "system" | "developer" | "user" | "assistant" | "function" => {
                unanswered_chat(&open)?;
                for (call, asked) in items(message, "tool_calls").iter().enumerate() {
                    if asked.pointer("/function/arguments").and_then(Value::as_str).is_none() {
                        let place = format!("messages[{at}].tool_calls[{call}].function.arguments");
                        return refuse(format!("Invalid type for '{place}': expected a string."));
                    }
                    open.insert(text(asked, "id"));
                }
            }
            role => return refuse(format!("Invalid value: '{role}' (messages[{at}].role).")),
        }
    }
    unanswered_chat(&open)?;
    if items(body, "stop").len() > 4 {
        return refuse("Invalid 'stop': array too long. Expected an array with maximum length 4.".into());
    }
    for tool in items(body, "tools").iter().filter_map(|tool| tool.get("function")?.get("parameters")) {
        if text(tool, "type") != "object" {
            return refuse(
                "Invalid schema for function: schema must be a JSON Schema of 'type: \"object\"'.".into(),
            );
        }
    }
    Ok(())
}

fn unanswered_chat(open: &BTreeSet<&str>) -> Held {
    if open.is_empty() {
        return Ok(());
    }
    let ids: Vec<_> = open.iter().copied().collect();
    refuse(format!(
        "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'. \
         The following tool_call_ids did not have response messages: {}",
        ids.join(", ")
    ))
}

/// Messages: results right after their uses and before anything else, no empty text, thinking within its bounds.
pub(crate) fn messages(body: &Value) -> Held {
    let mut asked = BTreeSet::new();
    for (turn, message) in items(body, "messages").iter().enumerate() {
        let role = text(message, "role");
        if !matches!(role, "user" | "assistant" | "system") {
            return refuse(format!("messages.{turn}.role: Input should be 'user', 'assistant' or 'system'"));
        }
        if turn == 0 && role == "assistant" {
            return refuse("messages: first message must use the \"user\" role".into());
        }
        asked = blocks(turn, items(message, "content"), asked)?;
    }
    if !asked.is_empty() {
        return refuse(
            "messages: `tool_use` ids were found without `tool_result` blocks immediately after".into(),
        );
    }
    parameters(body)
}

/// Checks the blocks of a turn, of which those that answer the uses `asked` come first, and gives the uses in it.
fn blocks<'v>(
    turn: usize,
    blocks: &'v [Value],
    mut asked: BTreeSet<&'v str>,
) -> Result<BTreeSet<&'v str>, Refusal> {
    let mut uses = BTreeSet::new();
    for (at, block) in blocks.iter().enumerate() {
        let place = format!("messages.{turn}.content.{at}");
        let wrong = match text(block, "type") {
            "tool_result" if !asked.remove(text(block, "tool_use_id")) => {
                Some(format!("{place}: unexpected `tool_use_id` found in `tool_result` blocks"))
            }
            "tool_result" => None,
            _ if !asked.is_empty() => Some(unanswered(turn, &asked)),
            "text" if text(block, "text").trim().is_empty() => {
                Some(format!("{place}: text content blocks must contain non-whitespace text"))
            }
            "tool_use" if !block.get("input").is_some_and(Value::is_object) => {
                Some(format!("{place}.tool_use.input: Input should be a valid dictionary"))
            }
            "tool_use" if !uses.insert(text(block, "id")) => {
                Some(format!("{place}: `tool_use` ids must be unique"))
            }
            "" => Some(format!("{place}.type: Field required")),
            _ => None,
        };
        if let Some(message) = wrong {
            return Err(Refusal::invalid(message, None));
        }
    }
    if asked.is_empty() { Ok(uses) } else { Err(Refusal::invalid(unanswered(turn, &asked), None)) }
}

fn unanswered(turn: usize, asked: &BTreeSet<&str>) -> String {
    let ids: Vec<_> = asked.iter().copied().collect();
    let before = turn.saturating_sub(1);
    format!(
        "messages.{before}: `tool_use` ids were found without `tool_result` blocks immediately after: {}",
        ids.join(", ")
    )
}

fn parameters(body: &Value) -> Held {
    if body.get("temperature").and_then(Value::as_f64).is_some_and(|t| !(0.0..=1.0).contains(&t)) {
        return refuse("temperature: range: 0..1".into());
    }
    if items(body, "stop_sequences")
        .iter()
        .any(|stop| stop.as_str().is_none_or(|stop| stop.trim().is_empty()))
    {
        return refuse("stop_sequences: each stop sequence must contain non-whitespace".into());
    }
    for (at, tool) in items(body, "tools").iter().enumerate() {
        if tool.get("type").is_none()
            && tool.pointer("/input_schema/type").and_then(Value::as_str) != Some("object")
        {
            return refuse(format!("tools.{at}.custom.input_schema.type: Input should be 'object'"));
        }
    }
    let budget = body.pointer("/thinking/budget_tokens").and_then(Value::as_u64);
    let limit = body.get("max_tokens").and_then(Value::as_u64).unwrap_or(u64::MAX);
    match budget {
        Some(budget) if budget < 1024 => {
            return refuse(
                "thinking.enabled.budget_tokens: Input should be greater than or equal to 1024".into(),
            );
        }
        Some(budget) if budget >= limit => {
            return refuse("`max_tokens` must be greater than `thinking.budget_tokens`".into());
        }
        _ => {}
    }
    let forced = matches!(body.pointer("/tool_choice/type").and_then(Value::as_str), Some("any" | "tool"));
    if budget.is_some() && forced {
        return refuse("Thinking may not be enabled when tool_choice forces tool use.".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn said(held: Held) -> String {
        held.map_or_else(
            |refusal| refusal.body(super::super::Family::Ollama, None)["error"].to_string(),
            |()| String::new(),
        )
    }

    #[test]
    fn calls_of_chat_are_answered_at_once() {
        let user = json!({"role": "user", "content": "hi"});
        let called = |id: &str| {
            let call = json!({"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}});
            json!({"role": "assistant", "content": null, "tool_calls": [call]})
        };
        let told = |id: &str| json!({"role": "tool", "tool_call_id": id, "content": "x"});
        for (messages, part) in [
            (json!([user, called("a"), told("a"), user]), ""),
            (json!([user, called("a"), user]), "did not have response messages: a"),
            (json!([user, called("a")]), "did not have response messages: a"),
            (json!([user, called("a"), told("b")]), "must be a response to a preceding message"),
            (json!([user, told("a")]), "must be a response to a preceding message"),
            (json!([{"role": "nobody"}]), "Invalid value: 'nobody'"),
        ] {
            let said = said(chat(&json!({"messages": messages})));
            assert!(said.contains(part) && said.is_empty() == part.is_empty(), "{messages}: {said}");
        }
        let stops = json!({"messages": [user], "stop": ["1", "2", "3", "4", "5"]});
        assert!(said(chat(&stops)).contains("maximum length 4"));
        let tools = json!({"messages": [user], "tools": [{"function": {"name": "f", "parameters": {"type": "string"}}}]});
        assert!(said(chat(&tools)).contains("schema must be"));
    }

    #[test]
    fn uses_of_messages_are_answered_first() {
        let user = json!({"role": "user", "content": "hi"});
        let used = json!({"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "f", "input": {}}]});
        let result = json!({"type": "tool_result", "tool_use_id": "a"});
        let text = |text: &str| json!({"type": "text", "text": text});
        let turn = |content: Value| json!({"role": "user", "content": content});
        for (messages, part) in [
            (json!([user, used, turn(json!([result, text("so")]))]), ""),
            (
                json!([user, used, turn(json!([text("so"), result]))]),
                "messages.1: `tool_use` ids were found without",
            ),
            (json!([user, used, user]), "messages.1: `tool_use` ids were found without"),
            (json!([user, used]), "messages: `tool_use` ids were found without"),
            (json!([user, turn(json!([result]))]), "messages.1.content.0: unexpected `tool_use_id`"),
            (json!([turn(json!([text(" ")]))]), "non-whitespace text"),
            (json!([used]), "first message must use"),
            (json!([{"role": "tool"}]), "messages.0.role"),
        ] {
            let said = said(super::messages(&json!({"messages": messages})));
            assert!(said.contains(part) && said.is_empty() == part.is_empty(), "{messages}: {said}");
        }
        let thinking = json!({"type": "enabled", "budget_tokens": 2000});
        for (more, part) in [
            (json!({"temperature": 1.5}), "temperature"),
            (json!({"stop_sequences": [" "]}), "non-whitespace"),
            (json!({"tools": [{"name": "f", "input_schema": {}}]}), "tools.0.custom.input_schema.type"),
            (json!({"max_tokens": 1000, "thinking": thinking}), "greater than `thinking.budget_tokens`"),
            (json!({"thinking": {"type": "enabled", "budget_tokens": 1}}), "equal to 1024"),
            (json!({"thinking": thinking, "tool_choice": {"type": "any"}}), "forces tool use"),
        ] {
            assert!(said(messages(&more)).contains(part), "{more}");
        }
    }
}
