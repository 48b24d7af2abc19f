//! What recorded replies cost by the shipped prices, against what was worked out by hand from the providers' own price
//! lists: tokens times millionths of a dollar.

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};
    use std::sync::Arc;
    use std::{env, fs};

    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use bytes::Bytes;
    use forebay::dialect::Operation::{
        self, ChatCompletions, CohereChat, Converse, Embeddings, GenerateContent, Messages, Responses,
    };
    use forebay::dialect::translate::Upstream;
    use forebay::dialect::usage::{ReplyTap, StreamTap, Usage};
    use forebay::meter::price::{Book, Money, Prices, Quote, Seller, shipped};
    use forebay::provider;
    use serde_yaml::Value;

    /// A recorded reply: the end of its file's name, which of its replies it is, and what was asked.
    struct Recorded {
        file: &'static str,
        number: usize,
        operation: Operation,
        provider: &'static str,
        model: &'static str,
        /// Dollars; nothing where nobody knows.
        costs: Option<&'static str>,
    }

    const fn of(
        (file, number): (&'static str, usize),
        operation: Operation,
        (provider, model): (&'static str, &'static str),
        costs: &'static str,
    ) -> Recorded {
        Recorded { file, number, operation, provider, model, costs: Some(costs) }
    }

    const CACHE: &str =
        "chat_prompt_cache_round-trip_anthropic_claude-haiku-4-5_writes_then_reads_the_prompt_cache";
    const BEDROCK: &str =
        "chat_prompt_cache_round-trip_bedrock_claude-haiku-4-5_writes_then_reads_the_prompt_cache";
    const HAIKU: (&str, &str) = ("anthropic", "claude-haiku-4-5");
    const US_HAIKU: (&str, &str) = ("bedrock-converse", "us.anthropic.claude-haiku-4-5-20251001-v1:0");
    const AZURE: &str =
        "chat_basic_chat_functionality_azure_grok-4-1-fast-non-reasoning_can_handle_multi-turn_conversations";
    const GROK: (&str, &str) = ("azure-foundry", "grok-4-1-fast-non-reasoning");
    const XAI: &str =
        "chat_basic_chat_functionality_xai_grok-4-1-fast-non-reasoning_can_handle_multi-turn_conversations";

    /// What each of them costs, in millionths of a dollar as it was worked out.
    const RECORDED: &[Recorded] = &[
        // 10 × 1 + 7,351 × 1.25 (written for five minutes) + 4 × 5 = 9,218.75
        of((CACHE, 0), Messages, HAIKU, "0.00921875"),
        // 10 × 1 + 7,351 × 0.1 (cached) + 4 × 5 = 765.1
        of((CACHE, 1), Messages, HAIKU, "0.0007651"),
        // A tenth more in a region: 10 × 1.1 + 7,351 × 1.375 + 4 × 5.5 = 10,140.625
        of((BEDROCK, 0), Converse, US_HAIKU, "0.010140625"),
        // 10 × 1.1 + 7,351 × 0.11 + 4 × 5.5 = 841.61
        of((BEDROCK, 1), Converse, US_HAIKU, "0.00084161"),
        // 44 × 2 + 626 × 10, of which 170 of thinking = 6,348
        of(
            (
                "chat_thinking_display_with_anthropic_claude-sonnet-5_returns_readable_thinking_with_display_summarized",
                0,
            ),
            Messages,
            ("anthropic", "claude-sonnet-5"),
            "0.006348",
        ),
        // 16 × 0.05 + 265 × 0.4, of which 192 of reasoning = 106.8
        of(
            ("chat_basic_chat_functionality_openai_gpt-5-nano_can_handle_multi-turn_conversations", 0),
            Responses,
            ("openai", "gpt-5-nano"),
            "0.0001068",
        ),
        // 16 × 0.6 + 43 of sound × 10 + 123 × 2.4 = 734.8
        of(
            ("chat_audio_models_openai_gpt-audio-mini_can_understand_mp3_audio", 0),
            ChatCompletions,
            ("openai", "gpt-audio-mini"),
            "0.0007348",
        ),
        // Its total leaves the cache out: 10 × 0.2 + 161 × 0.05 + 213 × 0.5 = 116.55
        of((AZURE, 0), ChatCompletions, GROK, "0.00011655"),
        // 63 × 0.2 + 178 × 0.05 + 56 × 0.5 = 49.5
        of((AZURE, 1), ChatCompletions, GROK, "0.0000495"),
        // 8 × 0.1 = 0.8
        of(
            ("embedding_basic_functionality_azure_cohere-embed-v3-english_can_handle_a_single_text", 0),
            Embeddings,
            ("azure", "cohere-embed-v3-english"),
            "0.0000008",
        ),
        // 11 × 0.3 + (51 + 175 of thoughts) × 2.5 = 568.3
        of(
            ("chat_basic_chat_functionality_gemini_gemini-2_5-flash_can_handle_multi-turn_conversations", 0),
            GenerateContent,
            ("gemini", "gemini-2.5-flash"),
            "0.0005683",
        ),
        // 6 × 0.3 + 139 of sound × 1 + (10 + 24) × 2.5 = 225.8
        of(
            ("chat_audio_models_gemini_gemini-2_5-flash_can_understand_mp3_audio", 0),
            GenerateContent,
            ("gemini", "gemini-2.5-flash"),
            "0.0002258",
        ),
        // 10 × 0.3 + (22 + 29) × 2.5 = 130.5
        of(
            (
                "chat_basic_chat_functionality_vertexai_gemini-2_5-flash_can_handle_multi-turn_conversations",
                1,
            ),
            GenerateContent,
            ("vertex", "gemini-2.5-flash"),
            "0.0001305",
        ),
        // 56 × 0.3 + 324 × 2.5 = 826.8
        of(
            (
                "chat_basic_chat_functionality_bedrock_amazon_nova-2-lite-v1_0_can_handle_multi-turn_conversations",
                0,
            ),
            Converse,
            ("bedrock-converse", "us.amazon.nova-2-lite-v1:0"),
            "0.0008268",
        ),
        // Billed are 10 and 104, whatever was read: 10 × 2.5 + 104 × 10 = 1,065
        of(
            ("chat_basic_chat_functionality_cohere_command-a-03-2025_can_handle_multi-turn_conversations", 0),
            CohereChat,
            ("cohere-v2", "command-a-03-2025"),
            "0.001065",
        ),
        // 160 × 0.3 + 256 × 0.006 (cached) + 48 × 1.2, at peak = 107.136
        of(
            (
                "chat_function_calling_deepseek_deepseek-chat_can_handle_multiple_tool_calls_in_a_single_response",
                1,
            ),
            ChatCompletions,
            ("deepseek", "deepseek-chat"),
            "0.000107136",
        ),
        // 97 × 0.3 + 17 × 1.2, of which 15 of reasoning = 49.5
        of(
            ("chat_deepseek_thinking_control_returns_reasoning_content_for_effort_high", 0),
            ChatCompletions,
            ("deepseek", "deepseek-chat"),
            "0.0000495",
        ),
        // A stream: 67 × 0.3 + 384 × 0.006 + 21 × 1.2 = 47.604
        of(
            (
                "chat_function_calling_deepseek_deepseek-chat_can_use_tools_with_multi-turn_streaming_conversations",
                1,
            ),
            ChatCompletions,
            ("deepseek", "deepseek-chat"),
            "0.000047604",
        ),
        // 352 × 0.1, cached or not, + 42 × 0.3 = 47.8
        of(
            (
                "chat_function_calling_mistral_mistral-small-latest_can_use_tools_in_multi-turn_conversations",
                3,
            ),
            ChatCompletions,
            ("mistral", "mistral-small-latest"),
            "0.0000478",
        ),
        // By its own account; by the table 74 × 1.25 + 128 × 0.2 + 205 × 2.5 = 630.6
        of((XAI, 0), Responses, ("xai", "grok-4-1-fast-non-reasoning"), "0.0006306"),
        // 233 × 1.25 + 192 × 0.2 + 322 × 2.5 = 1,134.65
        of((XAI, 1), Responses, ("xai", "grok-4-1-fast-non-reasoning"), "0.00113465"),
        // By their own accounts.
        of(
            (
                "chat_basic_chat_functionality_openrouter_claude-haiku-4-5_can_handle_multi-turn_conversations",
                0,
            ),
            ChatCompletions,
            ("openrouter", "anthropic/claude-haiku-4.5"),
            "0.000427",
        ),
        of(
            ("chat_basic_chat_functionality_perplexity_sonar_can_handle_multi-turn_conversations", 0),
            ChatCompletions,
            ("perplexity", "sonar"),
            "0.00507",
        ),
        // One's own.
        of(
            ("chat_basic_chat_functionality_ollama_qwen3_can_handle_multi-turn_conversations", 0),
            ChatCompletions,
            ("ollama", "qwen3"),
            "0",
        ),
        Recorded {
            file: "chat_audio_models_bedrock_mistral_voxtral-mini-3b-2507_can_understand_mp3_audio",
            number: 0,
            operation: ChatCompletions,
            provider: "bedrock-mantle",
            model: "mistral.voxtral-mini-3b-2507",
            costs: None,
        },
    ];

    fn folder() -> Option<PathBuf> {
        let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/fixtures");
        let root = env::var_os("FOREBAY_FIXTURES").map_or(beside, PathBuf::from);
        Some(root.join("ruby_llm")).filter(|folder| folder.is_dir())
    }

    fn reply(folder: &Path, recorded: &Recorded) -> Bytes {
        let file = folder.join(format!("{}.yml", recorded.file));
        let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let recording: Value = serde_yaml::from_str(&text).unwrap();
        let body = &recording["http_interactions"][recorded.number]["response"]["body"]["string"];
        match body {
            Value::String(text) => Bytes::from(text.clone()),
            // Base64, under the tag `!binary`.
            Value::Tagged(tagged) => {
                let text: String = tagged.value.as_str().unwrap().split_whitespace().collect();
                Bytes::from(STANDARD.decode(text).unwrap())
            }
            _ => panic!("{}: reply {} has no body", recorded.file, recorded.number),
        }
    }

    /// What a reply says of its usage, by the tap that it passes, and by the translation that it may take.
    fn usage(operation: Operation, body: &Bytes) -> Vec<Usage> {
        let translated = Upstream::ALL.into_iter().find(|row| row.operation() == operation);
        if body.starts_with(b"data:") {
            let mut tap = StreamTap::new(operation, false);
            tap.push(body, &mut |_| {});
            return vec![tap.usage().unwrap()];
        }
        let mut tap = ReplyTap::new(operation);
        tap.push(body);
        // No client asks Cohere's own chat, so no tap reads it.
        let tapped = (operation != CohereChat).then(|| tap.finish().unwrap());
        let read = translated.and_then(|upstream| upstream.reply(body).unwrap().usage);
        tapped.into_iter().chain(read).collect()
    }

    fn quote(prices: &Prices, name: &str, model: &str) -> Quote {
        let is_engine = provider::find(name).unwrap().kind == provider::Kind::Engine;
        prices.find(Seller { cluster: "c", provider: name, is_engine }, model)
    }

    #[test]
    fn recorded_replies_cost_what_was_worked_out_by_hand() {
        let Some(folder) = folder() else {
            return println!("skipped: there are no recordings beside this checkout");
        };
        let prices = Prices::new([], shipped());
        for recorded in RECORDED {
            let used = usage(recorded.operation, &reply(&folder, recorded));
            assert!(!used.is_empty(), "{}", recorded.file);
            for usage in used {
                let cost = quote(&prices, recorded.provider, recorded.model).cost(&usage);
                let expected = recorded.costs.map(|costs| Money::dollars(costs).unwrap());
                assert_eq!(cost, expected, "{}: {usage:?}", recorded.file);
            }
        }
    }

    #[test]
    fn what_a_provider_says_that_it_costs_is_what_the_table_says() {
        let Some(folder) = folder() else {
            return println!("skipped: there are no recordings beside this checkout");
        };
        let prices = Prices::new([], shipped());
        for recorded in RECORDED.iter().filter(|recorded| recorded.provider == "xai") {
            for usage in usage(recorded.operation, &reply(&folder, recorded)) {
                let Quote::Told(Some(price)) = quote(&prices, "xai", recorded.model) else { panic!() };
                assert_eq!(Some(price.cost(&usage)), recorded.costs.and_then(Money::dollars));
            }
        }
    }

    #[test]
    fn the_shipped_table_names_providers_that_there_are() {
        for row in Book::rows(include_str!("../data/prices-2026-11.json")).unwrap() {
            let known = |name: &String| provider::find(name).is_some();
            assert!(row.providers.iter().all(known), "{row:?}");
        }
        let none = Prices::new([], Arc::default());
        assert_eq!(quote(&none, "openai", "gpt-5"), Quote::Unknown);
    }
}
