//! Requests: what a client's decoder takes, every upstream can be asked, or it is refused by name.

use crate::dialect::ir::target::{
    Instructions, Knob, LimitName, Media, MidInstructions, Replay, Sampling, Structured, Taken, ToolHistory,
    ToolIds,
};
use crate::dialect::ir::{Facts, Loss, Notes, Policy, Request, Target, Text};
use crate::dialect::translate::{Client, Upstream};
use crate::{choices, is_json, pick, shown};

/// What models take: all, some, next to nothing.
fn facts(byte: u8) -> Facts {
    let some = Facts {
        limit_name: LimitName::MaxTokens,
        most_output: Some(100),
        sampling: Sampling::UpTo(1.0),
        most_stops: Some(1),
        tool_ids: ToolIds::Exactly(9),
        instructions: Instructions::Developer,
        mid_instructions: MidInstructions::Hoist,
        structured: Structured::Tool,
        thinking: Knob::Budget,
        replay: Replay::Details,
        top_k: Taken::Yes,
        tool_history: ToolHistory::NeedsTools,
        ..Facts::default()
    };
    let no = Taken::No;
    match byte % 3 {
        0 => Facts::default(),
        1 => some,
        _ => Facts {
            sampling: Sampling::Refused,
            tool_ids: ToolIds::Plain(12),
            instructions: Instructions::System,
            mid_instructions: MidInstructions::IntoUser,
            structured: Structured::No,
            thinking: Knob::None,
            replay: Replay::ReasoningContent,
            media: Media { images: no, urls: no, documents: no, audio: no },
            cache_marks: no,
            forced_tools: no,
            top_k: no,
            ..some
        },
    }
}

pub(crate) fn run(data: &[u8]) {
    let ([client, model], body) = choices(data);
    let client = pick(&Client::ALL, client);
    let facts = facts(model);
    let Ok(mut request) = client.request(body) else { return };
    assert!(is_json(body), "{client:?} takes what is no JSON");
    if client.operation().names_model() {
        request.model = Text::from("m");
    }
    for upstream in Upstream::ALL {
        both(client, upstream, &request, &Target { model: "m", facts: &facts });
    }
}

/// A strict route refuses what a lenient one would drop, and nothing else.
fn both(client: Client, upstream: Upstream, request: &Request<'_>, target: &Target<'_>) {
    let asked = |policy| {
        let mut notes = Notes::new(policy);
        let sent = upstream.request(request, target, &mut notes).map_err(|error| error.public);
        (sent, notes)
    };
    let ((lenient, notes), (strict, _)) = (asked(Policy::Lenient), asked(Policy::Strict));
    if let Ok(sent) = &lenient {
        assert!(is_json(sent), "{client:?} to {upstream:?}: {}", shown(sent));
        // What an upstream of another dialect is asked is a request of it. Of two results for one call it says so itself.
        if let Some(own) =
            Client::ALL.into_iter().find(|own| own.origin() == upstream.origin() && *own != client)
        {
            let read =
                own.request(sent).err().map(|error| error.public).filter(|public| !public.contains("result"));
            assert_eq!(read, None, "{client:?} to {upstream:?}: {}", shown(sent));
        }
    }
    let drops = notes.list().iter().any(|note| note.loss == Loss::Dropped);
    // Of very many notes the last are not kept.
    if drops {
        assert!(strict.is_err(), "{client:?} to {upstream:?}: strict takes what lenient drops");
    } else if notes.list().len() < 64 {
        assert_eq!(lenient, strict, "{client:?} to {upstream:?}");
    }
}
