//! The taps and edits against recorded traffic, judged by a naive reader that builds trees.

#[cfg(test)]
#[path = "support/fixtures.rs"]
mod fixtures;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use bytes::Bytes;
    use forebay::dialect::usage::{End, ReplyTap, StreamTap, Usage};
    use forebay::dialect::{Operation, error, request};
    use forebay::json::{Envelope, splice, spliced_len};
    use serde_json::{Value, json};

    use super::fixtures::{Exchange, exchanges, folder};

    /// The recorded exchanges, or nothing and a line that says so.
    fn recorded() -> Option<Vec<Exchange>> {
        let exchanges = exchanges();
        if exchanges.is_none() {
            println!("skipped: there are no recordings beside this checkout");
        }
        exchanges
    }

    /// The lines of every file below `folder` whose name ends in `.chunks.txt`: one event a line, without its framing.
    fn chunk_files(folder: &Path) -> Vec<(String, String)> {
        let mut found = Vec::new();
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                found.extend(chunk_files(&path));
            } else if path.to_string_lossy().ends_with(".chunks.txt") {
                found.push((path.display().to_string(), fs::read_to_string(&path).unwrap()));
            }
        }
        found.sort();
        found
    }

    // === The naive reader ===

    /// What a stream says when it is read whole, as text, with JSON trees.
    #[derive(Debug)]
    struct Naive {
        usage: Option<[Option<u64>; 5]>,
        is_terminated: bool,
        has_text: bool,
    }

    fn naive(operation: Operation, stream: &str) -> Naive {
        let stream = stream.replace("\r\n", "\n");
        let data: Vec<&str> =
            stream.lines().filter_map(|line| line.strip_prefix("data:")).map(str::trim).collect();
        let events: Vec<Value> = data.iter().filter_map(|data| serde_json::from_str(data).ok()).collect();
        let done = data.contains(&"[DONE]");
        match operation {
            Operation::Messages => {
                let mut usage = json!({});
                for event in &events {
                    let reported = [event.pointer("/message/usage"), event.get("usage")];
                    for (name, value) in
                        reported.into_iter().flatten().flat_map(|usage| usage.as_object().unwrap())
                    {
                        if !value.is_null() {
                            usage[name] = value.clone();
                        }
                    }
                }
                let of_type = |kind: &str| events.iter().any(|event| event["type"] == kind);
                Naive {
                    usage: counts(operation, &usage),
                    is_terminated: of_type("message_stop"),
                    has_text: of_type("content_block_delta"),
                }
            }
            Operation::Responses => {
                let ends = ["response.completed", "response.incomplete", "response.failed"];
                let last = events.iter().rfind(|event| ends.iter().any(|end| event["type"] == *end));
                Naive {
                    usage: last.and_then(|event| counts(operation, &event["response"]["usage"])),
                    is_terminated: last.is_some(),
                    has_text: data.iter().any(|data| data.contains(".delta\"")),
                }
            }
            _ => {
                let choices = |event: &Value| event["choices"].as_array().cloned().unwrap_or_default();
                let usages = events.iter().map(|event| match &event["usage"] {
                    Value::Null => &event["x_groq"]["usage"],
                    usage => usage,
                });
                let finished = |choice: &Value| choice["finish_reason"].is_string();
                let speaks = |choice: &Value| {
                    ["content", "reasoning", "reasoning_content", "tool_calls"].iter().any(|name| {
                        let value = &choice["delta"][name];
                        !value.is_null() && *value != json!("")
                    })
                };
                Naive {
                    usage: usages.filter_map(|usage| counts(operation, usage)).next_back(),
                    is_terminated: done || events.iter().flat_map(choices).any(|choice| finished(&choice)),
                    has_text: events.iter().flat_map(choices).any(|choice| speaks(&choice)),
                }
            }
        }
    }

    /// Input total, cached, written; output total, reasoning.
    fn counts(operation: Operation, usage: &Value) -> Option<[Option<u64>; 5]> {
        let at = |paths: &[&str]| paths.iter().find_map(|path| usage.pointer(path)?.as_u64());
        let counts = match operation {
            Operation::Messages | Operation::CountTokens => {
                let (cached, written) =
                    (at(&["/cache_read_input_tokens"]), at(&["/cache_creation_input_tokens"]));
                let total =
                    at(&["/input_tokens"]).map(|rest| rest + cached.unwrap_or(0) + written.unwrap_or(0));
                let thinking = at(&["/output_tokens_details/thinking_tokens"]);
                [total, cached, written, at(&["/output_tokens"]), thinking]
            }
            _ => [
                at(&["/prompt_tokens", "/input_tokens"]),
                at(&[
                    "/prompt_tokens_details/cached_tokens",
                    "/input_tokens_details/cached_tokens",
                    "/prompt_cache_hit_tokens",
                ]),
                at(&[
                    "/prompt_tokens_details/cache_write_tokens",
                    "/input_tokens_details/cache_write_tokens",
                ]),
                at(&["/completion_tokens", "/output_tokens"]),
                at(&[
                    "/completion_tokens_details/reasoning_tokens",
                    "/output_tokens_details/reasoning_tokens",
                ]),
            ],
        };
        (counts[0].is_some() || counts[3].is_some()).then_some(counts)
    }

    fn flat(usage: Usage) -> [Option<u64>; 5] {
        let (input, output) = (usage.input, usage.output);
        [input.total, input.cached, input.written, output.total, output.reasoning]
    }

    // === Streams ===

    /// What a tap makes of a stream that comes in these pieces.
    #[derive(Debug, PartialEq, Eq)]
    struct Told {
        out: Bytes,
        content: u32,
        end: End,
        usage: Option<[Option<u64>; 5]>,
    }

    fn tapped<'p>(operation: Operation, strip: bool, pieces: impl Iterator<Item = &'p [u8]>) -> Told {
        let mut tap = StreamTap::new(operation, strip);
        let (mut out, mut content) = (Vec::new(), 0);
        for piece in pieces {
            let seen = tap.push(&Bytes::copy_from_slice(piece), &mut |bytes| out.extend_from_slice(&bytes));
            content += seen.content;
        }
        let end = tap.finish(&mut |bytes| out.extend_from_slice(&bytes));
        Told { out: Bytes::from(out), content, end, usage: tap.usage().map(flat) }
    }

    /// Taps a stream cut in many ways, makes sure that all give the same, and returns it.
    fn tapped_every_way(operation: Operation, strip: bool, stream: &[u8], name: &str) -> Told {
        let whole = tapped(operation, strip, std::iter::once(stream));
        for size in [1, 7, 100] {
            assert!(tapped(operation, strip, stream.chunks(size)) == whole, "{name} in pieces of {size}");
        }
        let step = stream.len() / 400 + 1;
        for cut in (0..stream.len()).step_by(step) {
            let pieces = [&stream[..cut], &stream[cut..]];
            assert!(tapped(operation, strip, pieces.into_iter()) == whole, "{name} cut at {cut}");
        }
        // Pieces of odd sizes, from a fixed sequence.
        let (mut rest, mut seed, mut pieces) = (stream, 0x2545_f491_u32, Vec::new());
        while !rest.is_empty() {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let (piece, next) = rest.split_at(rest.len().min((seed >> 24) as usize + 1));
            pieces.push(piece);
            rest = next;
        }
        assert!(tapped(operation, strip, pieces.into_iter()) == whole, "{name} in odd pieces");
        whole
    }

    #[test]
    fn recorded_streams_pass_untouched_and_are_understood() {
        let Some(exchanges) = recorded() else { return };
        let streams: Vec<&Exchange> = exchanges.iter().filter(|exchange| exchange.is_stream()).collect();
        assert!(streams.len() >= 80, "{} streams", streams.len());
        for Exchange { file, operation, reply, .. } in streams {
            let told = tapped_every_way(*operation, false, reply, file);
            assert!(told.out == reply, "{file} was altered");
            let naive = naive(*operation, std::str::from_utf8(reply).unwrap());
            assert_eq!(told.usage, naive.usage, "{file}");
            assert!(naive.is_terminated, "{file}");
            assert_eq!(told.end, End::Complete, "{file}");
            assert_eq!(told.content > 0, naive.has_text, "{file}");
        }
    }

    #[test]
    fn recorded_streams_lose_their_usage_event_and_nothing_else() {
        let Some(exchanges) = recorded() else { return };
        let mut stripped = 0;
        for Exchange { file, operation, reply, .. } in
            exchanges.iter().filter(|exchange| exchange.is_stream())
        {
            let text = std::str::from_utf8(reply).unwrap();
            let is_usage_alone = |event: &&str| {
                let data = event.strip_prefix("data: ").unwrap_or_default();
                serde_json::from_str::<Value>(data)
                    .is_ok_and(|data| data["choices"] == json!([]) && !data["usage"].is_null())
            };
            let expected: String =
                text.split_inclusive("\n\n").filter(|event| !is_usage_alone(event)).collect();
            stripped += usize::from(expected.len() < text.len());
            let told = tapped_every_way(*operation, true, reply, file);
            assert!(told.out == expected, "{file}");
            assert_eq!(told.usage, naive(*operation, text).usage, "{file}");
        }
        assert!(stripped >= 10, "{stripped} streams");
    }

    #[test]
    fn recorded_streams_that_break_off_are_noticed() {
        let Some(exchanges) = recorded() else { return };
        for Exchange { file, operation, reply, .. } in
            exchanges.iter().filter(|exchange| exchange.is_stream())
        {
            let half = &reply[..reply.len() / 2];
            if naive(*operation, &String::from_utf8_lossy(half)).is_terminated {
                continue;
            }
            let told = tapped(*operation, false, std::iter::once(half));
            assert_eq!(told.end, End::Truncated, "{file}");
        }
    }

    #[test]
    fn odd_recorded_events_pass_untouched_and_are_understood() {
        let Some(folder) = folder("vercel_ai") else {
            return println!("skipped: there are no recordings beside this checkout");
        };
        let kinds = [
            ("anthropic", Operation::Messages),
            ("openai/responses", Operation::Responses),
            ("azure", Operation::Responses),
            ("openai/chat", Operation::ChatCompletions),
            ("openai/completion", Operation::Completions),
            ("deepseek", Operation::ChatCompletions),
            ("groq", Operation::ChatCompletions),
            ("mistral", Operation::ChatCompletions),
        ];
        for (part, operation) in kinds {
            let files = chunk_files(&folder.join(part));
            assert!(!files.is_empty(), "{part}");
            for (file, text) in files {
                // One file ends in half an event, which the two readers need not take for the same.
                let lines = text
                    .lines()
                    .filter(|line| *line == "[DONE]" || serde_json::from_str::<Value>(line).is_ok());
                let stream: String = lines.map(|line| format!("data: {line}\r\n\r\n")).collect();
                let told = tapped_every_way(operation, false, stream.as_bytes(), &file);
                assert!(told.out == stream, "{file} was altered");
                let naive = naive(operation, &stream);
                assert_eq!(told.usage, naive.usage, "{file}");
                assert_eq!(told.end != End::Truncated, naive.is_terminated, "{file}: {:?}", told.end);
            }
        }
    }

    // === Whole replies, requests, errors ===

    #[test]
    fn recorded_replies_are_understood() {
        let Some(exchanges) = recorded() else { return };
        let mut with_usage = 0;
        for Exchange { file, operation, reply, status, .. } in &exchanges {
            let Ok(tree) = serde_json::from_slice::<Value>(reply) else { continue };
            let expected = match operation {
                Operation::CountTokens => counts(*operation, &tree),
                _ => counts(*operation, &tree["usage"]),
            };
            for size in [reply.len().max(1), 1000] {
                let mut tap = ReplyTap::new(*operation);
                reply.chunks(size).for_each(|chunk| tap.push(&Bytes::copy_from_slice(chunk)));
                assert_eq!(tap.finish().map(flat), expected, "{file}");
            }
            with_usage += usize::from(expected.is_some() && *status == 200);
        }
        assert!(with_usage >= 400, "{with_usage} replies");
    }

    #[test]
    fn recorded_requests_change_where_they_should_and_nowhere_else() {
        let Some(exchanges) = recorded() else { return };
        let mut edited = 0;
        for Exchange { file, operation, request, .. } in &exchanges {
            let Ok(mut tree) = serde_json::from_slice::<Value>(request) else { continue };
            let envelope = Envelope::parse(request).unwrap_or_else(|fault| panic!("{file}: {fault}"));
            assert_eq!(envelope.model.as_ref().map(|model| model.text.as_ref()), tree["model"].as_str());
            assert_eq!(envelope.stream, tree["stream"].as_bool(), "{file}");
            let rewrite = request::edits(*operation, &envelope, Some("served/model"), true);
            let body = splice(&Bytes::copy_from_slice(request), &rewrite.edits).concat();
            assert_eq!(body.len(), spliced_len(request.len(), &rewrite.edits));

            tree["model"] = json!("served/model");
            if *operation == Operation::ChatCompletions && tree["stream"] == true {
                tree["stream_options"]["include_usage"] = json!(true);
            }
            assert_eq!(serde_json::from_slice::<Value>(&body).unwrap(), tree, "{file}");
            edited += 1;
        }
        assert!(edited >= 400, "{edited} requests");
    }

    #[test]
    fn recorded_errors_are_understood() {
        let Some(exchanges) = recorded() else { return };
        let mut errors = 0;
        for Exchange { file, status, reply, .. } in exchanges.iter().filter(|exchange| exchange.status >= 400)
        {
            let found = error::read(reply, None).unwrap_or_else(|| panic!("{file}: nothing read"));
            assert!(!found.message.is_empty(), "{file}");
            let meaning = found.meaning(*status as u16);
            if file.contains("auth_error") && *status == 401 {
                assert_eq!(meaning, error::Meaning::Credential, "{file}");
            }
            if file.contains("context_length") && *status == 400 {
                assert_eq!(meaning, error::Meaning::ContextLength, "{file}: {found:?}");
            }
            errors += 1;
        }
        assert!(errors >= 15, "{errors} errors");
    }
}
