//! How a request is written for one attempt, and how its reply is to be read: as it is where both sides speak the same
//! dialect, through the intermediate representation elsewhere.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use http::HeaderName;
use http::header::CONTENT_TYPE;
use smallvec::smallvec;

use super::headers::{put, translate_quotas};
use crate::dialect::ir::media::{Kind as MediaKind, Medium};
use crate::dialect::ir::target::Taken;
use crate::dialect::ir::{Delivery, Loss, Notes, Policy, ReplyTo, Request, Target, Text};
use crate::dialect::translate::{Client, Passage, Upstream};
use crate::dialect::{self, Operation, chat, embed};
use crate::error::{Error, Kind};
use crate::filter::redact::Kinds;
use crate::frame::http1::Reply;
use crate::json::splice::{splice, spliced_len};
use crate::json::{Edits, Envelope};
use crate::provider::facts::facts;
use crate::provider::seal::Seal;
use crate::upstream::cluster::ClusterSpec;
use crate::upstream::http1::Pieces;

/// How a reply gets to its client.
#[derive(Clone, Debug)]
pub enum Carry {
    /// As it is.
    Verbatim {
        /// What is asked.
        operation: Operation,
        /// Whether usage was asked for by Forebay alone, so that the client must not see it.
        strip: bool,
        /// What is marked with that its upstream alone knows; nothing where nobody else could be asked.
        seal: Option<Box<Seal>>,
    },
    /// From one dialect to another.
    Translated {
        /// What the upstream speaks.
        upstream: Upstream,
        /// What the client speaks.
        client: Client,
        /// What the client's reply is made with.
        to: ReplyTo,
        /// What the client is told of fields that went missing; empty for none.
        lost: String,
        /// Whether the upstream streams what the client is to have whole.
        folds: bool,
        /// What is taken out of the reply.
        redact: Kinds,
    },
    /// Embeddings, from one shape to another.
    Embedded {
        /// The upstream's.
        upstream: embed::Upstream,
        /// What the client's reply is made with.
        to: embed::To,
        /// As above.
        lost: String,
    },
}

/// Names the fields of a request that the upstream has no place for.
const X_FOREBAY_DROPPED: HeaderName = HeaderName::from_static("x-forebay-dropped");

impl Carry {
    /// Whether a reply of that media type is a stream. Where one was `asked` for, a type that says nothing is no reason to
    /// think otherwise: some upstreams leave it out.
    pub(super) fn is_stream(&self, media: &[u8], asked: bool) -> bool {
        let expected = match self {
            Self::Verbatim { operation, .. } => operation.stream_media(),
            Self::Translated { upstream, .. } => upstream.operation().stream_media(),
            // Embeddings have no streams.
            Self::Embedded { .. } => return false,
        };
        let says_nothing = |media: &[u8]| {
            let media = media.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
            matches!(media, b"" | b"text/plain" | b"application/octet-stream" | b"binary/octet-stream")
        };
        media.starts_with(expected.as_bytes()) || (asked && says_nothing(media))
    }

    /// Who speaks what at both ends, and what the client's reply is made with: for a reply that is not of the kind that was
    /// asked for. `id` is the exchange's, `model` what the client calls the model. Some operations have nothing but replies
    /// as they are.
    pub(super) fn ends(&self, id: &str, model: &str) -> Option<(Upstream, Client, ReplyTo)> {
        match self {
            Self::Translated { upstream, client, to, .. } => Some((*upstream, *client, to.clone())),
            Self::Embedded { .. } => None,
            Self::Verbatim { operation, .. } => {
                let (upstream, client) = both_ends(*operation)?;
                Some((upstream, client, reply_to(id, model, Delivery::StreamWithUsage)))
            }
        }
    }

    /// What is taken out of the reply.
    pub(super) fn redacts(&self) -> Kinds {
        match self {
            Self::Translated { redact, .. } => *redact,
            Self::Verbatim { .. } | Self::Embedded { .. } => Kinds::default(),
        }
    }

    /// Whether the client speaks another dialect than the upstream.
    pub(super) fn translates(&self) -> bool {
        match self {
            Self::Verbatim { .. } => false,
            Self::Translated { upstream, client, .. } => upstream.operation() != client.operation(),
            Self::Embedded { .. } => true,
        }
    }

    /// What had no place in the upstream's dialect; empty for nothing.
    pub(super) fn lost(&self) -> &str {
        match self {
            Self::Verbatim { .. } => "",
            Self::Translated { lost, .. } | Self::Embedded { lost, .. } => lost,
        }
    }

    /// Says in the head of a reply what a translation made of it; a verbatim one speaks for itself.
    pub(super) fn mark(&self, head: &mut Reply, streams: bool) {
        let (lost, operation) = match self {
            Self::Verbatim { .. } => return,
            Self::Translated { lost, client, .. } => (lost, client.operation()),
            Self::Embedded { lost, .. } => (lost, Operation::Embeddings),
        };
        let media = match operation.stream_media() {
            _ if !streams => "application/json",
            "text/event-stream" => "text/event-stream; charset=utf-8",
            media => media,
        };
        put(head, CONTENT_TYPE, media);
        if self.translates() {
            translate_quotas(head, operation.dialect());
        }
        if !lost.is_empty() {
            put(head, X_FOREBAY_DROPPED, lost);
        }
    }
}

/// A request as it goes upstream.
#[derive(Debug)]
pub(super) struct Outgoing {
    /// Where the upstream is asked, below its base.
    pub(super) path: Cow<'static, str>,
    /// The body.
    pub(super) pieces: Pieces,
    /// Its length, bytes.
    pub(super) length: usize,
}

/// A request as a deployment takes it.
#[derive(Debug)]
pub(super) struct Written {
    /// What is sent.
    pub(super) outgoing: Outgoing,
    /// How the reply gets back.
    pub(super) carry: Carry,
    /// Whether another endpoint may go on with the reply, should it break off.
    pub(super) resumes: bool,
}

/// The client's request, as much of it as was read.
pub(super) struct Asked<'a> {
    /// What is asked.
    pub(super) operation: Operation,
    /// The body.
    pub(super) body: &'a Bytes,
    /// What is read of it.
    pub(super) envelope: &'a Envelope<'a>,
    /// The model, as the client calls it.
    pub(super) model: &'a str,
    /// Whether the client wants a stream.
    pub(super) stream: bool,
    /// What is done about fields that an upstream has no place for.
    pub(super) policy: Policy,
    /// The client's `anthropic-beta`, which some upstreams read in the body.
    pub(super) betas: Option<&'a str>,
    /// What is taken out of replies.
    pub(super) redact: Kinds,
    /// All of it, once an upstream of another dialect needs it.
    read: OnceLock<Result<Request<'a>, Error>>,
    /// The same with what it names by URL, once an upstream needs that as data.
    filled: OnceLock<Request<'a>>,
}

impl<'a> Asked<'a> {
    pub(super) fn new(
        operation: Operation,
        body: &'a Bytes,
        envelope: &'a Envelope<'a>,
        (model, stream): (&'a str, bool),
        policy: Policy,
        betas: Option<&'a str>,
    ) -> Self {
        Self {
            operation,
            body,
            envelope,
            model,
            stream,
            policy,
            betas,
            redact: Kinds::default(),
            read: OnceLock::new(),
            filled: OnceLock::new(),
        }
    }

    /// The same, with those taken out of replies.
    pub(super) fn redacting(self, redact: Kinds) -> Self {
        Self { redact, ..self }
    }

    /// Writes the request for a cluster, where the model is called `model` if not as the client calls it. `id` is the
    /// exchange's.
    ///
    /// # Errors
    /// What is wrong with it, where it must be understood to be translated, or what is lost under a strict policy.
    pub(super) fn write(
        &self,
        cluster: &ClusterSpec,
        model: Option<&str>,
        id: &str,
    ) -> Result<Written, Error> {
        if cluster.continues
            && let Some(written) = self.resumable(cluster, model, id)
        {
            return Ok(written);
        }
        match cluster.passage(self.operation) {
            Some(Passage::Verbatim) => match self.folds(cluster).then(|| both_ends(self.operation)).flatten()
            {
                Some(ends) => self.streamed(ends, cluster, model, reply_to(id, self.model, Delivery::Whole)),
                None => self.verbatim(cluster, model, id),
            },
            Some(Passage::Translated { client, upstream }) => {
                self.translated(client, upstream, cluster, model, id)
            }
            Some(Passage::Embedded(upstream)) => self.embedded(upstream, cluster, model),
            // A plan holds only deployments that can be asked.
            None => Err(Error::gateway(Kind::Internal, "the deployment cannot be asked this")),
        }
    }

    fn verbatim(&self, cluster: &ClusterSpec, model: Option<&str>, id: &str) -> Result<Written, Error> {
        let rewrite = dialect::request::edits(self.operation, self.envelope, model, true);
        let strip = rewrite.asked == dialect::request::Asked::Forebay;
        let named = (&self.body[..], model.unwrap_or(self.model));
        let reshaped = self.reshaped(self.operation, cluster, named, self.betas)?;
        let edits = reshaped.unwrap_or(rewrite.edits);
        let length = spliced_len(self.body.len(), &edits);
        let pieces = joined_if_small(splice(self.body, &edits), length);
        let carry = match self.redact.is_empty() {
            true => Carry::Verbatim { operation: self.operation, strip, seal: None },
            false => self.read_through(strip, id)?,
        };
        let path = cluster.form.path(self.operation, model.unwrap_or(self.model), self.stream);
        Ok(Written { outgoing: Outgoing { path, pieces, length }, carry, resumes: false })
    }

    /// How a reply gets back in its own dialect out of which something is taken: it must be understood.
    fn read_through(&self, strip: bool, id: &str) -> Result<Carry, Error> {
        let delivery = match self.stream {
            false => Delivery::Whole,
            true if strip => Delivery::Stream,
            true => Delivery::StreamWithUsage,
        };
        match both_ends(self.operation) {
            Some((upstream, client)) => {
                let to = reply_to(id, self.model, delivery);
                let lost = String::new();
                Ok(Carry::Translated { upstream, client, to, lost, folds: false, redact: self.redact })
            }
            // Vectors, scores and counts say nothing.
            None if !self.operation.streams() => {
                Ok(Carry::Verbatim { operation: self.operation, strip, seal: None })
            }
            None => {
                let why = "replies of legacy completions cannot be redacted, as this route demands; ask chat completions";
                Err(Error::policy(Kind::Forbidden, why))
            }
        }
    }

    /// Whether the cluster is asked for a stream where the client asked for a whole reply. Several choices are not put
    /// together.
    fn folds(&self, cluster: &ClusterSpec) -> bool {
        let one = self.envelope.n.is_none_or(|n| n <= 1);
        cluster.fold && !self.stream && one && self.operation.streams()
    }

    /// A request for a stream with which another endpoint could go on, should it break off; nothing where none could, or
    /// where that would cost the client a field. It is asked in chat, whatever the client speaks.
    fn resumable(&self, cluster: &ClusterSpec, model: Option<&str>, id: &str) -> Option<Written> {
        let rows = || Client::ALL.into_iter().filter(|row| *row != Client::Completions);
        let client = rows().find(|row| self.stream && row.operation() == self.operation)?;
        let request = self.understood(client).ok()?;
        if let Some(why) = chat::resume::obstacle(request) {
            log::debug!("{id}: nobody could go on with the reply: {why}");
            return None;
        }
        let ends = (Upstream::Chat, client);
        let written = match client {
            Client::Chat => {
                self.streamed(ends, cluster, model, reply_to(id, self.model, request.delivery)).ok()?
            }
            _ => self.translated(client, Upstream::Chat, cluster, model, id).ok()?,
        };
        let is_own = cluster.passage(self.operation) == Some(Passage::Verbatim);
        if is_own && !written.carry.lost().is_empty() {
            return None;
        }
        // Whoever has asked for it, or asked not to be told, is asked for nothing else.
        let is_asked = request.left.iter().any(|left| left.path == "stream_options.continuous_usage_stats");
        let counts = cluster.provider.counts && !is_asked;
        let outgoing = if counts { counted(written.outgoing)? } else { written.outgoing };
        Some(Written { outgoing, resumes: true, ..written })
    }

    /// The client's own request, but for a stream with its usage.
    fn streamed(
        &self,
        (upstream, client): (Upstream, Client),
        cluster: &ClusterSpec,
        model: Option<&str>,
        to: ReplyTo,
    ) -> Result<Written, Error> {
        let named = (&self.body[..], model.unwrap_or(self.model));
        let reshaped = self.reshaped(self.operation, cluster, named, self.betas)?;
        let streamed = || dialect::request::streamed(self.operation, self.envelope, model);
        let edits = reshaped.unwrap_or_else(streamed);
        let length = spliced_len(self.body.len(), &edits);
        let pieces = joined_if_small(splice(self.body, &edits), length);
        let path = cluster.form.path(self.operation, model.unwrap_or(self.model), true);
        let folds = to.delivery == Delivery::Whole;
        let carry =
            Carry::Translated { upstream, client, to, lost: String::new(), folds, redact: self.redact };
        Ok(Written { outgoing: Outgoing { path, pieces, length }, carry, resumes: false })
    }

    /// What the form in which the cluster is asked changes in a body; nothing for most.
    fn reshaped(
        &self,
        operation: Operation,
        cluster: &ClusterSpec,
        body: (&[u8], &str),
        betas: Option<&str>,
    ) -> Result<Option<Edits>, Error> {
        if !cluster.form.reshapes(operation) {
            return Ok(None);
        }
        let edits = cluster.form.edits(operation, body, betas);
        edits.map(Some).map_err(|fault| dialect::request::fault_error(self.operation, fault))
    }

    fn translated(
        &self,
        client: Client,
        upstream: Upstream,
        cluster: &ClusterSpec,
        model: Option<&str>,
        id: &str,
    ) -> Result<Written, Error> {
        let model = model.unwrap_or(self.model);
        let facts = facts(&cluster.provider, model);
        let filled = self.filled.get().filter(|_| facts.media.urls == Taken::No);
        let request = match filled {
            Some(filled) => filled,
            None => self.understood(client)?,
        };
        let folds = self.folds(cluster);
        let streamed = folds.then(|| Request { delivery: Delivery::StreamWithUsage, ..request.clone() });
        let mut notes = Notes::new(self.policy);
        let asked = streamed.as_ref().unwrap_or(request);
        let body = upstream.request(asked, &Target { model, facts: &facts }, &mut notes)?;
        let to = reply_to(id, self.model, request.delivery);
        let (operation, body) = (upstream.operation(), Bytes::from(body));
        let (pieces, length) = match self.reshaped(operation, cluster, (&body, model), None)? {
            Some(edits) => (splice(&body, &edits), spliced_len(body.len(), &edits)),
            None => (smallvec![body.clone()], body.len()),
        };
        let path = cluster.form.path(operation, model, self.stream || folds);
        let outgoing = Outgoing { path, pieces, length };
        let carry =
            Carry::Translated { upstream, client, to, lost: lost(&notes), folds, redact: self.redact };
        Ok(Written { outgoing, carry, resumes: false })
    }
}

impl<'a> Asked<'a> {
    fn embedded(
        &self,
        upstream: embed::Upstream,
        cluster: &ClusterSpec,
        model: Option<&str>,
    ) -> Result<Written, Error> {
        let model = model.unwrap_or(self.model);
        let mut notes = Notes::new(self.policy);
        let (body, to) = upstream.request(self.body, (model, self.model), &mut notes)?;
        let path = cluster.form.path(upstream.operation(), model, false);
        let outgoing = Outgoing { path, length: body.len(), pieces: smallvec![body.into()] };
        let carry = Carry::Embedded { upstream, to, lost: lost(&notes) };
        Ok(Written { outgoing, carry, resumes: false })
    }

    /// The URLs of files that the deployment must be given as data, and that were not brought in yet.
    pub(super) fn urls(&self, cluster: &ClusterSpec, model: Option<&str>) -> Vec<(String, MediaKind)> {
        let Some(Passage::Translated { client, .. }) = cluster.passage(self.operation) else {
            return Vec::new();
        };
        let facts = facts(&cluster.provider, model.unwrap_or(self.model));
        if facts.media.urls == Taken::Yes || self.filled.get().is_some() {
            return Vec::new();
        }
        self.understood(client).map(Request::urls).unwrap_or_default()
    }

    /// Puts what was found at those URLs in their place.
    pub(super) fn fill(&self, found: &HashMap<String, Medium>) {
        if let Some(Ok(request)) = self.read.get() {
            self.filled.get_or_init(|| request.with_media(found));
        }
    }

    /// The whole request, understood once.
    fn understood(&self, client: Client) -> Result<&Request<'a>, Error> {
        self.read.get_or_init(|| self.read(client)).as_ref().map_err(Clone::clone)
    }

    /// The whole request. What its path says is put where other dialects have it.
    fn read(&self, client: Client) -> Result<Request<'a>, Error> {
        let mut request = client.request(self.body)?;
        if self.operation.names_model() {
            request.model = Text::from(self.model);
            request.delivery = if self.stream { Delivery::StreamWithUsage } else { Delivery::Whole };
        }
        Ok(request)
    }
}

/// Both ends of an exchange in one dialect.
fn both_ends(operation: Operation) -> Option<(Upstream, Client)> {
    let upstream = Upstream::ALL.into_iter().find(|row| row.operation() == operation)?;
    let client = Client::ALL.into_iter().find(|row| row.operation() == operation)?;
    Some((upstream, client))
}

fn reply_to(id: &str, model: &str, delivery: Delivery) -> ReplyTo {
    let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    ReplyTo { model: model.to_owned(), id: id.to_owned(), created, delivery }
}

/// The most of a list of lost fields that a header holds, bytes.
const LOST: usize = 1024;

/// The paths of what was dropped, as the value of a header.
pub(super) fn lost(notes: &Notes) -> String {
    let mut text = String::new();
    for note in notes.list().iter().filter(|note| note.loss == Loss::Dropped) {
        let path: String = note.path.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').collect();
        if text.len() + path.len() + 5 > LOST {
            text.push_str(", ...");
            break;
        }
        if !text.is_empty() {
            text.push_str(", ");
        }
        text.push_str(&path);
    }
    text
}

/// The same request, with its usage in every event.
fn counted(outgoing: Outgoing) -> Option<Outgoing> {
    let body = joined(outgoing.pieces, outgoing.length).into_iter().next()?;
    let edits = dialect::request::counted(&Envelope::parse(&body).ok()?);
    Some(Outgoing { pieces: splice(&body, &edits), length: spliced_len(body.len(), &edits), ..outgoing })
}

/// Below this size copying a body is cheaper than another write to the socket, bytes.
const COPY: usize = 32 << 10;

fn joined_if_small(pieces: Pieces, length: usize) -> Pieces {
    if length > COPY { pieces } else { joined(pieces, length) }
}

fn joined(pieces: Pieces, length: usize) -> Pieces {
    if pieces.len() <= 1 {
        return pieces;
    }
    let mut whole = BytesMut::with_capacity(length);
    pieces.iter().for_each(|piece| whole.extend_from_slice(piece));
    smallvec![whole.freeze()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_is_listed_up_to_a_bound() {
        let mut notes = Notes::new(Policy::Lenient);
        notes.mapped("temperature", "is clamped");
        notes.dropped("seed", "has no place").unwrap();
        notes.dropped("messages[0].n\u{e4}me", "has no place").unwrap();
        assert_eq!(lost(&notes), "seed, messages[0].nme");
        for number in 0..60 {
            notes.dropped(format!("a.rather.long.path.to.a.field[{number}]"), "has no place").unwrap();
        }
        let text = lost(&notes);
        assert!(text.len() <= LOST + 5 && text.ends_with(", ..."), "{text}");
    }
}
