//! What a pool of keys is told of a request: which conversation it is of, and about how much it takes of a key's rates.

use http::HeaderMap;

use super::carry::Asked;
use crate::json::opening_of;
use crate::route::alias::Alias;
use crate::upstream::keys::Call;

/// Headers in which clients name their conversation: Codex, Claude Code, and two that others use.
const NAMED: [&str; 4] = ["session_id", "x-claude-code-session-id", "x-session-id", "x-conversation-id"];

/// What is known of a request; nothing where no upstream of its model has a choice of keys, so that nobody asks.
pub(super) fn call(asked: &Asked<'_>, alias: &Alias, headers: &HeaderMap) -> Call {
    if !alias.deployments.iter().any(|deployment| deployment.cluster.choice().is_some()) {
        return Call::default();
    }
    // What has no streams is no conversation.
    let named = NAMED.iter().find_map(|name| headers.get(*name));
    let conversation = asked.operation.streams().then(|| match named {
        Some(name) => Some(opening_of(name.as_bytes())),
        None => asked.envelope.opening(asked.body),
    });
    Call {
        conversation: conversation.flatten(),
        input: tokens(asked.envelope.prompt_bytes),
        output: asked.envelope.max_tokens,
    }
}

/// About how many tokens a prompt of that many bytes of JSON has: too many rather than too few.
pub(super) fn tokens(bytes: usize) -> u64 {
    bytes as u64 / 3
}
