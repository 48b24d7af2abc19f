//! OpenAI's legacy completions.

use super::Probe;

#[rustfmt::skip]
pub(super) const PROBES: &[Probe] = &[
    // What is said.
    Probe::top("prompt", "/prompt", r#""Now.""#),
    Probe::top("prompt: an array of one", "/prompt", r#"["Now."]"#),
    Probe::top("prompt: an array of several", "/prompt", r#"["Hi","Ho"]"#),
    Probe::top("prompt: tokens", "/prompt", "[1,2]"),
    Probe::top("suffix", "/suffix", r#""end.""#),
    Probe::top("echo: true", "/echo", "true"),
    Probe::top("echo: false", "/echo", "false").anyway("the prompt is never told again"),
    // How it is made.
    Probe::top("max_tokens", "/max_tokens", "500"),
    Probe::top("temperature", "/temperature", "0.5"),
    Probe::top("temperature: above 1", "/temperature", "1.5"),
    Probe::top("top_p", "/top_p", "0.5"),
    Probe::top("top_k", "/top_k", "5"),
    Probe::top("frequency_penalty", "/frequency_penalty", "0.5"),
    Probe::top("presence_penalty", "/presence_penalty", "0.5"),
    Probe::top("seed", "/seed", "7"),
    Probe::top("logit_bias", "/logit_bias", r#"{"50256":-100}"#),
    Probe::top("logprobs", "/logprobs", "2"),
    Probe::top("logprobs: 0", "/logprobs", "0"),
    Probe::top("n", "/n", "2"),
    Probe::top("best_of", "/best_of", "2"),
    Probe::top("best_of: 1", "/best_of", "1").anyway("one reply is made, and told"),
    Probe::top("stop", "/stop", r#"["END"]"#),
    // Around it.
    Probe::top("stream", "/stream", "true"),
    Probe::within("stream_options.include_usage", "/stream_options/include_usage", "true", r#"{"stream":true}"#),
    Probe::within("stream_options.include_obfuscation: true", "/stream_options/include_obfuscation", "true", r#"{"stream":true}"#),
    Probe::top("user", "/user", r#""u1""#),
    Probe::top("tools", "/tools", r#"[{"type":"function","function":{"name":"f"}}]"#),
    Probe::top("a field of no API", "/frobnicate", "1"),
];
