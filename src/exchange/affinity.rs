//! Sends a request to the upstream that keeps what it refers to, ahead of every other choice: an earlier response, sealed
//! reasoning. Where a cluster has several keys, that is the key, too: what an account keeps, no other account can read. Whose it is stands in a mark ([`crate::dialect::owned`]) that was put there on its way to the client. Where the
//! owner cannot be asked, nobody is: another would know nothing of it.

use std::sync::Arc;

use bytes::Bytes;

use super::context::Context;
use crate::dialect::Operation;
use crate::dialect::owned::{self, Marked, Reference};
use crate::dialect::translate::Passage;
use crate::error::{Error, Kind};
use crate::json::{Edits, splice};
use crate::provider::seal::Seal;
use crate::route::alias::Alias;
use crate::upstream::cluster::Cluster;
use crate::upstream::endpoint::{Endpoint, InFlight};
use crate::upstream::keys::ProviderKey;

/// Who keeps what a request refers to.
#[derive(Debug, PartialEq, Eq)]
pub struct Owner {
    /// The cluster.
    pub cluster: String,
    /// The endpoint, where the cluster has several.
    pub endpoint: Option<String>,
    /// The key whose account it is, where the cluster has several.
    pub key: Option<String>,
}

impl Owner {
    /// The owner of what both keep; nothing where they are two.
    fn and(&self, other: Self) -> Option<Self> {
        let endpoint = both(&self.endpoint, other.endpoint)?;
        let key = both(&self.key, other.key)?;
        (self.cluster == other.cluster).then_some(Self { cluster: other.cluster, endpoint, key })
    }
}

/// What both are, if they agree. One that is not said is from when the cluster had but one.
#[expect(clippy::option_option, reason = "they do not agree, or neither is said")]
fn both(one: &Option<String>, other: Option<String>) -> Option<Option<String>> {
    match (one, other) {
        (Some(one), Some(other)) => (*one == other).then_some(Some(other)),
        (one, other) => Some(other.or_else(|| one.clone())),
    }
}

/// The request as its owner knows it. Who that is stands in the context from then on.
///
/// # Errors
/// [`Kind::InvalidRequest`] where a mark is nobody's here, or marks are of several owners.
pub(super) fn unmarked(operation: Operation, body: Bytes, context: &mut Context) -> Result<Bytes, Error> {
    if operation != Operation::Responses || !owned::may_be_marked(&body) {
        return Ok(body);
    }
    let mut edits = Edits::new();
    for Reference { at, span, marked } in owned::references(&body).map_err(|_| unclear())? {
        let Some(marked) = marked else { continue };
        let owner = owner(&marked, &context.snapshot.clusters).ok_or_else(|| nobodys(at))?;
        let both = match &context.owner {
            None => Some(owner),
            Some(known) => known.and(owner),
        };
        let Some(both) = both else {
            let why = "it refers to what several upstreams keep, and none of them knows all of it";
            return Err(Error::client(Kind::InvalidRequest, why).param(at));
        };
        context.owner = Some(Arc::new(both));
        // Values do not overlap.
        let _ = edits.push(span, marked.plain.to_owned());
    }
    Ok(splice(&body, &edits).concat().into())
}

/// Refuses a request that refers to an earlier response without saying whose it is, where that could be several.
///
/// # Errors
/// [`Kind::InvalidRequest`].
pub(super) fn check(
    operation: Operation,
    body: &[u8],
    alias: &Alias,
    context: &Context,
) -> Result<(), Error> {
    if operation != Operation::Responses || context.owner.is_some() || !is_shared(alias) {
        return Ok(());
    }
    let references = match owned::references(body) {
        Ok(references) => references,
        // One that cannot refer to anything is its upstream's to refuse.
        Err(_) if memchr::memmem::find(body, b"previous_response_id").is_none() => return Ok(()),
        Err(_) => return Err(unclear()),
    };
    let unknown = references.into_iter().find(|reference| reference.marked.is_none());
    unknown.map_or(Ok(()), |reference| Err(nobodys(reference.at)))
}

/// It cannot be said whom to ask.
fn unclear() -> Error {
    let why = "what `previous_response_id` and the items of `input` refer to cannot be read: name each member once, and write \
               ids without escapes";
    Error::client(Kind::InvalidRequest, why)
}

fn nobodys(at: &'static str) -> Error {
    let why = format!(
        "`{at}` names what no upstream here is known to keep: it was not made through this gateway, or by an upstream that is \
         gone; send the whole conversation instead"
    );
    Error::client(Kind::InvalidRequest, why).param(at)
}

/// The owner cannot be asked for that model.
pub(super) fn out_of_reach(model: &str) -> Error {
    let why = format!(
        "the upstream that keeps what this request refers to cannot be asked for the model `{model}`; send the whole \
         conversation instead"
    );
    Error::client(Kind::InvalidRequest, why)
}

/// What a reply to that attempt is marked with; nothing where nobody else could be taken for its owner.
pub(super) fn seal(alias: &Alias, cluster: &Cluster, flight: &InFlight) -> Option<Seal> {
    if !is_shared(alias) {
        return None;
    }
    let endpoint = Some(&**flight.endpoint()).filter(|_| cluster.endpoints().len() > 1);
    let key = flight.key().filter(|_| cluster.choice().is_some()).map(|used| &*used.key);
    Some(Seal::new(&cluster.spec.seal, &name(cluster, endpoint, key)))
}

/// Whether what a model's upstreams keep may be of several owners.
fn is_shared(alias: &Alias) -> bool {
    let keeps = |cluster: &Cluster| cluster.spec.passage(Operation::Responses) == Some(Passage::Verbatim);
    let clusters = alias.deployments.iter().map(|deployment| &*deployment.cluster).filter(|c| keeps(c));
    let mut first: Option<&Cluster> = None;
    for cluster in clusters {
        let is_other = first.is_some_and(|first| !std::ptr::eq(first, cluster));
        if is_other || cluster.endpoints().len() > 1 || cluster.choice().is_some() {
            return true;
        }
        first = Some(cluster);
    }
    false
}

/// An owner's name. Names of clusters and keys hold no spaces.
fn name(cluster: &Cluster, endpoint: Option<&Endpoint>, key: Option<&ProviderKey>) -> String {
    let (endpoint, key) = (endpoint.map(|one| one.name.as_str()), key.map(|key| key.name.as_str()));
    let mut name = cluster.name().to_owned();
    for part in [endpoint, key.map(|_| "key"), key].into_iter().flatten() {
        name.push(' ');
        name.push_str(part);
    }
    name
}

/// Whose mark it is.
fn owner(marked: &Marked<'_>, clusters: &[Arc<Cluster>]) -> Option<Owner> {
    clusters.iter().find_map(|cluster| {
        let endpoints = cluster.endpoints();
        let at = || std::iter::once(None).chain(endpoints.iter().map(|one| Some(&**one)));
        let keys = cluster.choice().map_or(&[][..], |pool| pool.keys());
        let with = std::iter::once(None).chain(keys.iter().map(|key| Some(&**key)));
        let mut all = with.flat_map(|key| at().map(move |endpoint| (endpoint, key)));
        let is_of = |&(endpoint, key): &(Option<&Endpoint>, Option<&ProviderKey>)| {
            Seal::new(&cluster.spec.seal, &name(cluster, endpoint, key)).marked(marked)
        };
        let (endpoint, key) = all.find(is_of)?;
        Some(Owner {
            cluster: cluster.name().to_owned(),
            endpoint: endpoint.map(|one| one.name.clone()),
            key: key.map(|key| key.name.clone()),
        })
    })
}
