//! What a principal may do, and what its team and organisation leave of it.

use std::sync::{Arc, OnceLock};

use crate::dialect::Operation;
use crate::limit::{Book, Bound, Limits, Subject};
use crate::pattern::{Pattern, Permit};
use crate::priority::Priority;

/// What is permitted on one level: to a principal itself, to a team, or to an organisation.
#[derive(Clone, Debug)]
pub struct Grants {
    /// The models.
    pub models: Vec<Pattern>,
    /// The routes, by name; nothing for all.
    pub routes: Option<Vec<Pattern>>,
    /// What may be asked.
    pub endpoints: Endpoints,
    /// Whether requests may bring tools.
    pub tools: bool,
    /// The largest body of a request, bytes; nothing for what the route says.
    pub max_body: Option<u64>,
    /// The most tokens of an answer; nothing for no bound.
    pub max_output: Option<u64>,
    /// The regions that requests may go to.
    pub regions: Permit,
    /// How important requests are, whatever the route says.
    pub priority: Option<Priority>,
    /// Whether requests may go to a later deployment because of load.
    pub spill: bool,
    /// How much may be used.
    pub limits: Limits,
    /// Whether one may ask why a request went where it did; nothing where others have their say.
    pub explain: Option<bool>,
}

impl Grants {
    /// Everything, but for explanations, which show what runs behind the edge: somebody has to permit those.
    pub fn everything() -> Self {
        Self {
            models: Pattern::parse("*").into_iter().collect(),
            routes: None,
            endpoints: Endpoints::ALL,
            tools: true,
            max_body: None,
            max_output: None,
            regions: Permit::default(),
            priority: None,
            spill: true,
            limits: Limits::default(),
            explain: None,
        }
    }

    /// Whether raw routes are permitted: said to be, where there are bounds that cannot be seen to there.
    fn permits_raw(&self) -> bool {
        let is_said = self.endpoints != Endpoints::ALL;
        let all_models = self.models.iter().any(Pattern::is_everything);
        self.endpoints.has(None) && (is_said || (all_models && self.tools && self.max_output.is_none()))
    }
}

/// A set of operations, and whether raw routes are in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoints(u32);

impl Endpoints {
    /// Every operation, and raw routes.
    pub const ALL: Self = Self(u32::MAX);
    const RAW: u32 = 1 << 31;

    /// Those operations; nothing stands for raw routes.
    pub fn of(these: impl IntoIterator<Item = Option<Operation>>) -> Self {
        Self(these.into_iter().fold(0, |set, one| set | Self::bit(one)))
    }

    /// Whether that operation is in it; nothing stands for raw routes.
    pub fn has(self, operation: Option<Operation>) -> bool {
        self.0 & Self::bit(operation) != 0
    }

    fn bit(operation: Option<Operation>) -> u32 {
        operation.map_or(Self::RAW, |operation| 1 << operation as u32)
    }
}

/// What a group is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rank {
    /// A team, which may be an organisation's.
    Team,
    /// An organisation.
    Organisation,
}

/// A team or an organisation: whatever it does not permit, none of its members may do.
#[derive(Clone, Debug)]
pub struct Group {
    /// Its name, which is one of the configuration's.
    pub name: Arc<str>,
    /// What it is.
    pub rank: Rank,
    /// What it is part of.
    pub parent: Option<Arc<Self>>,
    /// What it permits.
    pub grants: Grants,
    /// Its limits, once somebody has counted on them.
    pub bound: OnceLock<Arc<Bound>>,
}

impl Group {
    /// Its limits, as they stand in that book.
    pub fn limits(&self, book: &Book) -> &Arc<Bound> {
        self.bound.get_or_init(|| {
            let name = Arc::clone(&self.name);
            let subject = match self.rank {
                Rank::Team => Subject::Team(name),
                Rank::Organisation => Subject::Organisation(name),
            };
            book.bind(&subject, &self.grants.limits)
        })
    }
}

/// How a caller was known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// By a virtual key.
    Key,
    /// By a token that an identity provider has signed.
    Token,
    /// By the certificate of its connection.
    Certificate,
    /// Not at all: callers without a credential are let in.
    Anonymous,
}

impl Known {
    /// The name used in logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Token => "token",
            Self::Certificate => "certificate",
            Self::Anonymous => "anonymous",
        }
    }
}

/// Who is calling, and what they may do.
#[derive(Clone, Debug)]
pub struct Principal {
    /// The name used in logs. That of a token's bearer is `ISSUER/WHO`, which no key is called.
    pub name: Arc<str>,
    /// A name from the configuration, for metrics: the principal's own, or for the bearer of a token its team's or its
    /// issuer's. However many callers there are, there are no more labels than this has names.
    pub label: Arc<str>,
    /// How they were known.
    pub known: Known,
    /// Their team or organisation.
    pub group: Option<Arc<Group>>,
    /// Words for whoever sorts principals.
    pub tags: Vec<String>,
    /// What else its owner wants to keep with it.
    pub metadata: Vec<(String, String)>,
    /// What they are permitted themselves.
    pub grants: Grants,
    /// The models that their token names; nothing where it names none.
    pub claimed: Option<Vec<Pattern>>,
    /// Their limits, once they have called.
    pub bound: OnceLock<Arc<Bound>>,
}

impl Principal {
    /// Callers without a credential.
    pub fn anonymous() -> Self {
        let name: Arc<str> = Arc::from(ANONYMOUS);
        Self {
            label: Arc::clone(&name),
            name,
            known: Known::Anonymous,
            group: None,
            tags: Vec::new(),
            metadata: Vec::new(),
            grants: Grants::everything(),
            claimed: None,
            bound: OnceLock::new(),
        }
    }

    /// Their own limits, as they stand in that book. `everyones` are those of whoever has none of their own: whoever is no
    /// key of the configuration's.
    pub fn limits(&self, book: &Book, everyones: &Limits) -> &Arc<Bound> {
        self.bound.get_or_init(|| {
            let limits = if self.known == Known::Key { &self.grants.limits } else { everyones };
            book.bind(&Subject::Key(Arc::clone(&self.name)), limits)
        })
    }

    /// The groups they belong to, the nearest first.
    pub fn groups(&self) -> impl Iterator<Item = &Arc<Group>> {
        std::iter::successors(self.group.as_ref(), |group| group.parent.as_ref())
    }

    /// What is permitted on each level, their own first.
    fn levels(&self) -> impl Iterator<Item = &Grants> {
        std::iter::once(&self.grants).chain(self.groups().map(|group| &group.grants))
    }

    /// Whether they may use `model`.
    pub fn may_use(&self, model: &str) -> bool {
        let among = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.matches(model));
        self.claimed.as_deref().is_none_or(among) && self.levels().all(|grants| among(&grants.models))
    }

    /// Whether they may take the route of that name.
    pub fn may_take(&self, route: &str) -> bool {
        let among = |patterns: &Vec<Pattern>| patterns.iter().any(|pattern| pattern.matches(route));
        self.levels().all(|grants| grants.routes.as_ref().is_none_or(among))
    }

    /// Whether they may ask for that; nothing stands for what a raw route carries.
    ///
    /// In what a raw route carries nobody finds a model, a tool or the length of an answer: where a level bounds those, raw
    /// routes are not among what it leaves unsaid.
    pub fn may_ask(&self, operation: Option<Operation>) -> bool {
        if operation.is_some() {
            return self.levels().all(|grants| grants.endpoints.has(operation));
        }
        // What a token names of models is a bound of its own level.
        let claims = self.claimed.is_none() || self.grants.endpoints != Endpoints::ALL;
        claims && self.levels().all(Grants::permits_raw)
    }

    /// Whether their requests may bring tools.
    pub fn may_bring_tools(&self) -> bool {
        self.levels().all(|grants| grants.tools)
    }

    /// The largest body of a request, bytes, where that is bounded.
    pub fn max_body(&self) -> Option<u64> {
        self.levels().filter_map(|grants| grants.max_body).min()
    }

    /// The most tokens of an answer, where that is bounded.
    pub fn max_output(&self) -> Option<u64> {
        self.levels().filter_map(|grants| grants.max_output).min()
    }

    /// Whether their requests may go to that region.
    pub fn permits_region(&self, region: Option<&str>) -> bool {
        self.levels().all(|grants| grants.regions.permits(region))
    }

    /// Whether their requests may go to a later deployment because of load.
    pub fn may_spill(&self) -> bool {
        self.levels().all(|grants| grants.spill)
    }

    /// Whether they may ask why a request went where it did.
    pub fn may_know(&self) -> bool {
        let says = |what| self.levels().any(|grants| grants.explain == Some(what));
        says(true) && !says(false)
    }

    /// How important their requests are: as the nearest level says that says anything.
    pub fn priority(&self) -> Option<Priority> {
        self.levels().find_map(|grants| grants.priority)
    }
}

/// The name of everyone without a credential.
pub const ANONYMOUS: &str = "anonymous";

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn patterns(names: &[&str]) -> Vec<Pattern> {
        names.iter().filter_map(|name| Pattern::parse(name)).collect()
    }

    pub(crate) fn group(name: &str, parent: Option<Arc<Group>>, grants: Grants) -> Arc<Group> {
        let rank = if parent.is_some() { Rank::Team } else { Rank::Organisation };
        Arc::new(Group { name: Arc::from(name), rank, parent, grants, bound: OnceLock::new() })
    }

    fn member(own: Grants, team: Grants, organisation: Grants) -> Principal {
        let above = group("acme", None, organisation);
        let group = Some(group("search", Some(above), team));
        Principal { group, grants: own, known: Known::Key, ..Principal::anonymous() }
    }

    #[test]
    fn what_one_level_forbids_no_other_permits() {
        let all = Grants { explain: Some(true), ..Grants::everything() };
        let free = member(all.clone(), all.clone(), all.clone());
        let asks = Some(Operation::Messages);
        let may = |who: &Principal| {
            [
                who.may_use("gpt-5"),
                who.may_take("main"),
                who.may_ask(asks),
                who.may_bring_tools(),
                who.permits_region(Some("eu-1")),
                who.may_spill(),
                who.may_know(),
            ]
        };
        assert_eq!(may(&free), [true; 7]);
        let none = Grants {
            models: patterns(&["claude-*"]),
            routes: Some(patterns(&["other"])),
            endpoints: Endpoints::of([Some(Operation::Models), None]),
            tools: false,
            regions: Permit { allow: None, deny: patterns(&["eu-*"]) },
            spill: false,
            explain: Some(false),
            ..Grants::everything()
        };
        for place in 0..3 {
            let level = |at| if place == at { none.clone() } else { all.clone() };
            assert_eq!(may(&member(level(0), level(1), level(2))), [false; 7], "{place}");
        }
    }

    #[test]
    fn the_least_bound_holds_and_the_nearest_priority() {
        let level = |body, output, priority| Grants {
            max_body: body,
            max_output: output,
            priority,
            ..Grants::everything()
        };
        let who = member(
            level(Some(9), None, None),
            level(None, Some(7), Some(Priority::Low)),
            level(Some(8), Some(100), Some(Priority::High)),
        );
        assert_eq!(
            (who.max_body(), who.max_output(), who.priority()),
            (Some(8), Some(7), Some(Priority::Low))
        );
        let free = Principal::anonymous();
        assert_eq!((free.max_body(), free.max_output(), free.priority()), (None, None, None));
    }

    #[test]
    fn a_token_may_name_fewer_models() {
        let who = Principal { claimed: Some(patterns(&["gpt-*"])), ..Principal::anonymous() };
        assert!(who.may_use("gpt-5") && !who.may_use("claude"));
        let none = Principal { claimed: Some(Vec::new()), ..Principal::anonymous() };
        assert!(!none.may_use("gpt-5"));
    }

    #[test]
    fn raw_routes_are_said_to_be_permitted_where_bounds_cannot_be_seen_to() {
        let raw = Endpoints::of([None, Some(Operation::Responses)]);
        let free = Grants::everything;
        for bound in [
            Grants { models: patterns(&["gpt-*"]), ..free() },
            Grants { tools: false, ..free() },
            Grants { max_output: Some(9), ..free() },
        ] {
            let said = Grants { endpoints: raw, ..bound.clone() };
            assert!(!member(bound.clone(), free(), free()).may_ask(None), "{bound:?}");
            assert!(!member(free(), bound.clone(), free()).may_ask(None), "a team's bound is its members'");
            let lifted = member(Grants { endpoints: raw, ..free() }, bound.clone(), free());
            assert!(!lifted.may_ask(None), "a member does not lift it");
            assert!(member(said, free(), free()).may_ask(None));
            assert!(member(bound, free(), free()).may_ask(Some(Operation::Responses)));
        }
        assert!(member(free(), free(), free()).may_ask(None));
        let claimed = |endpoints| Principal {
            claimed: Some(patterns(&["gpt-*"])),
            grants: Grants { endpoints, ..free() },
            ..Principal::anonymous()
        };
        assert!(!claimed(Endpoints::ALL).may_ask(None) && claimed(raw).may_ask(None));
    }

    #[test]
    fn every_operation_has_a_place_in_the_set() {
        for operation in Operation::ALL {
            let only = Endpoints::of([Some(operation)]);
            assert!(only.has(Some(operation)) && !only.has(None) && Endpoints::ALL.has(Some(operation)));
            assert!(Operation::ALL.into_iter().filter(|other| only.has(Some(*other))).count() == 1);
        }
        assert!(Endpoints::of([None]).has(None) && !Endpoints::of([None]).has(Some(Operation::Models)));
    }
}
