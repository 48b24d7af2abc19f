//! Sends a request to the upstream that keeps what it refers to, ahead of every other choice: an earlier response, sealed
//! reasoning. Whose it is stands in a mark ([`crate::dialect::owned`]) that was put there on its way to the client. Where the
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
use crate::upstream::endpoint::Endpoint;

/// Who keeps what a request refers to.
#[derive(Debug, PartialEq, Eq)]
pub struct Owner {
    /// The cluster.
    pub cluster: String,
    /// The endpoint, where the cluster has several.
    pub endpoint: Option<String>,
}

impl Owner {
    /// The owner of what both keep; nothing where they are two.
    fn and(&self, other: Self) -> Option<Self> {
        let same = self.cluster == other.cluster;
        match (&self.endpoint, &other.endpoint) {
            // From when the cluster had but one endpoint.
            (Some(_), None) if same => Some(Self { endpoint: self.endpoint.clone(), ..other }),
            (one, another) if same && (one.is_none() || one == another) => Some(other),
            _ => None,
        }
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

/// What a reply of that endpoint's is marked with; nothing where no other could be taken for its owner.
pub(super) fn seal(alias: &Alias, cluster: &Cluster, endpoint: &Endpoint) -> Option<Seal> {
    if !is_shared(alias) {
        return None;
    }
    let one_of_many = cluster.endpoints().len() > 1;
    Some(Seal::new(&cluster.spec.seal, &name(cluster, one_of_many.then_some(endpoint))))
}

/// Whether what a model's upstreams keep may be of several owners.
fn is_shared(alias: &Alias) -> bool {
    let keeps = |cluster: &Cluster| cluster.spec.passage(Operation::Responses) == Some(Passage::Verbatim);
    let clusters = alias.deployments.iter().map(|deployment| &*deployment.cluster).filter(|c| keeps(c));
    let mut first: Option<&Cluster> = None;
    for cluster in clusters {
        let is_other = first.is_some_and(|first| !std::ptr::eq(first, cluster));
        if is_other || cluster.endpoints().len() > 1 {
            return true;
        }
        first = Some(cluster);
    }
    false
}

/// An owner's name.
fn name(cluster: &Cluster, endpoint: Option<&Endpoint>) -> String {
    endpoint.map_or_else(|| cluster.name().to_owned(), |one| format!("{} {}", cluster.name(), one.name))
}

/// Whose mark it is.
fn owner(marked: &Marked<'_>, clusters: &[Arc<Cluster>]) -> Option<Owner> {
    clusters.iter().find_map(|cluster| {
        let is_of = |endpoint| Seal::new(&cluster.spec.seal, &name(cluster, endpoint)).marked(marked);
        let owner = |endpoint| Owner { cluster: cluster.name().to_owned(), endpoint };
        if is_of(None) {
            return Some(owner(None));
        }
        let endpoints = cluster.endpoints();
        let of = endpoints.iter().find(|endpoint| is_of(Some(&***endpoint)))?;
        Some(owner(Some(of.name.clone())))
    })
}
