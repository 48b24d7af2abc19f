//! Whole responses, and what they share with streams.

use serde::Deserialize;

use super::items::Items;
use super::output::Output;
use crate::dialect::ir::lenient::Raw;
use crate::dialect::ir::{Event, Finish, Notes, Origin, Reply, ReplyTo, Start, Stop, Text, broken, reported};
use crate::dialect::usage::{Input, Kinds, Output as Written, Usage};

/// Tells the events of a whole reply.
pub fn decode(body: &[u8], sink: &mut impl FnMut(Event<'_>)) {
    let response: Response<'_> = match serde_json::from_slice(body) {
        Ok(response) => response,
        Err(error) => return sink(Event::Failed(broken(error))),
    };
    if response.has_failed() {
        return sink(Event::Failed(reported(body)));
    }
    if !response.is_whole() {
        return sink(Event::Failed(broken("the response has no output or no status")));
    }
    sink(Event::Start(response.start()));
    response.items(&mut Items::default(), sink);
    response.end(sink);
    sink(Event::End);
}

/// Writes a whole reply: what its stream would end with.
pub fn encode(reply: &Reply, to: &ReplyTo, notes: &mut Notes) -> Vec<u8> {
    let mut output = Output::new(to.clone());
    let mut events = Vec::new();
    reply.events(&mut |event| {
        output.event(event, &mut events);
        events.clear();
    });
    for note in output.notes().list() {
        notes.unsaid(&note.path, note.why);
    }
    output.whole(&reply.finish)
}

// === The wire ===

/// A response, or as much of it as there is.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Response<'a> {
    #[serde(borrow)]
    id: Raw<'a>,
    #[serde(borrow)]
    model: Raw<'a>,
    #[serde(borrow)]
    created_at: Raw<'a>,
    #[serde(borrow)]
    status: Raw<'a>,
    #[serde(borrow)]
    output: Raw<'a>,
    #[serde(borrow)]
    incomplete_details: Raw<'a>,
    #[serde(borrow)]
    usage: Raw<'a>,
    #[serde(borrow)]
    error: Raw<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Details<'a> {
    #[serde(borrow)]
    reason: Raw<'a>,
}

impl<'a> Response<'a> {
    /// The head.
    pub(super) fn start(&self) -> Start<'a> {
        let (id, model) = (self.id.text().unwrap_or_default(), self.model.text().unwrap_or_default());
        Start { id, model, created: self.created_at.count(), usage: None }
    }

    /// Whether this says that there is no reply.
    pub(super) fn has_failed(&self) -> bool {
        let failed = |status: Text<'_>| status == *"failed" || status == *"cancelled";
        self.error.get().is_some() || self.status.text().is_some_and(failed)
    }

    /// Whether this holds what every response does.
    fn is_whole(&self) -> bool {
        self.status.text().is_some() && self.output.get().is_some_and(|output| output.starts_with('['))
    }

    /// Tells of all items.
    pub(super) fn items(&self, items: &mut Items, sink: &mut impl FnMut(Event<'_>)) {
        for (index, item) in (0..).zip(self.output.items::<Raw<'_>>()) {
            items.done(index, item, sink);
        }
    }

    /// Tells of usage and of the end, if this is one.
    pub(super) fn end(&self, sink: &mut impl FnMut(Event<'_>)) {
        if let Some(usage) = self.usage.object::<Counts<'_>>().and_then(|counts| counts.usage()) {
            sink(Event::Usage(usage));
        }
        let status = self.status.text().unwrap_or_else(|| Text::from("completed"));
        match status.plain().as_ref() {
            "completed" => sink(Event::Finish(Finish::new(Stop::End, Origin::Responses, status.borrowed()))),
            "incomplete" => {
                let details: Details<'_> = self.incomplete_details.object().unwrap_or_default();
                let reason = details.reason.text().unwrap_or_default();
                let stop = match reason.plain().as_ref() {
                    "content_filter" => Stop::Filtered,
                    _ => Stop::Length,
                };
                sink(Event::Finish(Finish::new(stop, Origin::Responses, reason)));
            }
            _ => sink(Event::Failed(broken("the response is not complete"))),
        }
    }
}

/// A usage object.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Counts<'a> {
    #[serde(borrow)]
    input_tokens: Raw<'a>,
    #[serde(borrow)]
    output_tokens: Raw<'a>,
    #[serde(borrow)]
    input_tokens_details: Raw<'a>,
    #[serde(borrow)]
    output_tokens_details: Raw<'a>,
    #[serde(borrow)]
    cost: Raw<'a>,
    #[serde(borrow)]
    cost_in_usd_ticks: Raw<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Parts<'a> {
    #[serde(borrow)]
    cached_tokens: Raw<'a>,
    #[serde(borrow)]
    cache_write_tokens: Raw<'a>,
    #[serde(borrow)]
    reasoning_tokens: Raw<'a>,
}

impl Counts<'_> {
    fn usage(&self) -> Option<Usage> {
        let input = self.input_tokens_details.object::<Parts<'_>>().unwrap_or_default();
        let output = self.output_tokens_details.object::<Parts<'_>>().unwrap_or_default();
        let usage = Usage {
            input: Input {
                total: self.input_tokens.count(),
                cached: input.cached_tokens.count(),
                written: input.cache_write_tokens.count(),
            },
            output: Written { total: self.output_tokens.count(), reasoning: output.reasoning_tokens.count() },
            kinds: Kinds::openai(self.input_tokens_details, self.output_tokens_details)
                .told(self.cost, self.cost_in_usd_ticks),
        };
        (usage.input.total.is_some() || usage.output.total.is_some()).then_some(usage)
    }
}
