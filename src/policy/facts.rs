//! The facts of a question as Cedar sees them: entities, context, request. Built from values, never from text.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::str::FromStr;

use cedar_policy::{
    Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, Request, RestrictedExpression,
    Schema,
};

use super::schema::Kind;
use crate::domain::rules::Ask;
use crate::domain::{Action, ActionName, Agent, ParameterKind, Party, Person, Reviewer};

type Attributes = HashMap<String, RestrictedExpression>;

/// Why facts could not be stated; the answer is then no.
#[derive(Debug, thiserror::Error)]
#[error("the facts of the question do not fit the bundle: {0}; nothing is permitted")]
pub(super) struct Misfit(String);

fn misfit(problem: impl ToString) -> Misfit {
    Misfit(problem.to_string())
}

/// What is known before anybody asks: the entities of each action, and the names of identity providers.
pub(super) struct Facts {
    types: Types,
    schema: Schema,
    actions: HashMap<ActionName, Standing>,
    /// From issuer to the name it has in policies.
    aliases: BTreeMap<String, String>,
}

struct Types {
    agent: EntityTypeName,
    person: EntityTypeName,
    group: EntityTypeName,
    target: EntityTypeName,
    action: EntityTypeName,
    named: EntityTypeName,
}

/// The entities of one action, the same for each question about it.
struct Standing {
    resource: EntityUid,
    target: EntityUid,
    /// In the order of [`Kind::ALL`].
    members: [EntityUid; 4],
    named: Entity,
    /// The members as entities, in the same order.
    asked: [Entity; 4],
}

/// What questions about one ask rest on, in Cedar's words.
pub(super) struct Stated<'a> {
    pub(super) action: &'a ActionName,
    /// The principal and all it is in: where the index looks for policies about principals.
    pub(super) principals: Vec<EntityUid>,
    pub(super) entities: Entities,
    principal: EntityUid,
    context: Context,
}

impl Types {
    fn new() -> Result<Self, Misfit> {
        let named = |name: &str| EntityTypeName::from_str(name).map_err(misfit);
        Ok(Self {
            agent: named("Agent")?,
            person: named("Person")?,
            group: named("Group")?,
            target: named("Target")?,
            action: named("Action")?,
            named: named("NamedAction")?,
        })
    }
}

fn uid(kind: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id))
}

fn text(value: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(value.to_owned())
}

fn long(value: u64) -> RestrictedExpression {
    RestrictedExpression::new_long(i64::try_from(value).unwrap_or(i64::MAX))
}

impl Facts {
    pub(super) fn new<'a>(
        schema: Schema,
        actions: impl IntoIterator<Item = &'a Action>,
        people: &BTreeMap<String, String>,
    ) -> Result<Self, Misfit> {
        let types = Types::new()?;
        let actions = actions
            .into_iter()
            .map(|action| Ok((action.name.clone(), Standing::new(&types, action)?)))
            .collect::<Result<_, Misfit>>()?;
        let mut aliases = BTreeMap::new();
        for (alias, issuer) in people {
            aliases.entry(issuer.clone()).or_insert(alias.clone());
        }
        Ok(Self {
            types,
            schema,
            actions,
            aliases,
        })
    }

    /// The Cedar name of the action group of `kind`.
    pub(super) fn group(&self, kind: Kind) -> EntityUid {
        uid(&self.types.action, kind.word())
    }

    /// For each question about each action: its Cedar action, its resource, and the target of that.
    pub(super) fn members(
        &self,
    ) -> impl Iterator<Item = (Kind, &ActionName, &EntityUid, &EntityUid, &EntityUid)> {
        self.actions.iter().flat_map(|(name, standing)| {
            Kind::ALL
                .into_iter()
                .zip(&standing.members)
                .map(move |(kind, member)| {
                    (kind, name, member, &standing.resource, &standing.target)
                })
        })
    }

    /// States what questions of these `kinds` about `ask` rest on; `reviewer` is who reviews or revokes.
    pub(super) fn state<'a>(
        &self,
        kinds: &[Kind],
        reviewer: Option<&Reviewer>,
        ask: &Ask<'a>,
    ) -> Result<Stated<'a>, Misfit> {
        let standing = self.standing(&ask.action.name)?;
        let asked = kinds.iter().map(|kind| standing.asked(*kind).clone());
        let mut entities: Vec<Entity> = asked.chain([standing.named.clone()]).collect();
        let mut context = self.context(ask)?;
        let (agent, agent_parent) = self.agent(ask.agent)?;
        let agent_uid = agent.uid();
        entities.push(agent);
        let (principal, principals) = match reviewer {
            None => (agent_uid.clone(), vec![agent_uid, agent_parent]),
            Some(reviewer) => {
                let (person, mut above) = self.person(reviewer)?;
                let principal = person.uid();
                context.extend(Self::reviewing(reviewer, ask, agent_uid));
                entities.push(person);
                above.push(principal.clone());
                (principal, above)
            }
        };
        Ok(Stated {
            action: &ask.action.name,
            principals,
            entities: Entities::from_entities(entities, None).map_err(misfit)?,
            principal,
            context: Context::from_pairs(context).map_err(misfit)?,
        })
    }

    /// A question of one kind, checked against the schema.
    pub(super) fn request(&self, stated: &Stated<'_>, kind: Kind) -> Result<Request, Misfit> {
        let standing = self.standing(stated.action)?;
        Request::new(
            stated.principal.clone(),
            standing.asked(kind).uid(),
            standing.resource.clone(),
            stated.context.clone(),
            Some(&self.schema),
        )
        .map_err(misfit)
    }

    fn standing(&self, name: &ActionName) -> Result<&Standing, Misfit> {
        let standing = self.actions.get(name);
        standing.ok_or_else(|| Misfit(format!("there is no action {name}")))
    }

    /// The person as policies write it: `dev:ana`.
    fn spell(&self, person: &Person) -> Result<String, Misfit> {
        let alias = self.aliases.get(&person.issuer).ok_or_else(|| {
            Misfit(format!(
                "no identity provider of ours has the issuer {:?}",
                person.issuer
            ))
        })?;
        Ok(format!("{alias}:{}", person.subject))
    }

    fn agent(&self, agent: &Agent) -> Result<(Entity, EntityUid), Misfit> {
        let (owner, parent) = match &agent.owner {
            Party::Person(person) => {
                let owner = self.spell(person)?;
                let parent = uid(&self.types.person, &owner);
                (owner, parent)
            }
            Party::Group(group) => (
                format!("group:{group}"),
                uid(&self.types.group, group.as_str()),
            ),
        };
        let attributes = Attributes::from([
            ("name".into(), text(agent.name.as_str())),
            ("owner".into(), text(&owner)),
        ]);
        let entity = Entity::new(
            uid(&self.types.agent, agent.name.as_str()),
            attributes,
            HashSet::from([parent.clone()]),
        )
        .map_err(misfit)?;
        Ok((entity, parent))
    }

    fn person(&self, reviewer: &Reviewer) -> Result<(Entity, Vec<EntityUid>), Misfit> {
        let groups: Vec<_> = reviewer
            .groups
            .iter()
            .map(|group| uid(&self.types.group, group.as_str()))
            .collect();
        let name = uid(&self.types.person, &self.spell(&reviewer.person)?);
        let entity = Entity::new_no_attrs(name, groups.iter().cloned().collect());
        Ok((entity, groups))
    }

    fn context(&self, ask: &Ask<'_>) -> Result<Attributes, Misfit> {
        let mut parameters = Attributes::new();
        for (name, kind) in &ask.action.parameters {
            let value = ask.parameters.get(name);
            let value = match kind {
                ParameterKind::Text { .. } | ParameterKind::Choice { .. } => {
                    value.and_then(|v| v.as_str()).map(text)
                }
                ParameterKind::Integer { .. } => value
                    .and_then(serde_json::Value::as_i64)
                    .map(RestrictedExpression::new_long),
                ParameterKind::Boolean => value
                    .and_then(serde_json::Value::as_bool)
                    .map(RestrictedExpression::new_bool),
            };
            let value = value.ok_or_else(|| Misfit(format!("parameter {name} does not fit")))?;
            parameters.insert(name.clone(), value);
        }
        let parameters = RestrictedExpression::new_record(parameters).map_err(misfit)?;
        let now = RestrictedExpression::new_datetime(ask.now.whole_seconds().to_string());
        let mut context = Attributes::from([
            ("parameters".into(), parameters),
            ("ttl_seconds".into(), long(ask.ttl.0)),
            ("now".into(), now),
        ]);
        if let Some(person) = ask.on_behalf_of {
            context.insert("on_behalf_of".into(), text(&self.spell(person)?));
        }
        Ok(context)
    }

    fn reviewing(reviewer: &Reviewer, ask: &Ask<'_>, agent: EntityUid) -> Attributes {
        let age = ask.now.since(reviewer.evidence.auth_time);
        let mut context = Attributes::from([
            ("agent".into(), RestrictedExpression::new_entity_uid(agent)),
            ("auth_age_seconds".into(), long(age.0)),
        ]);
        if let Some(acr) = &reviewer.evidence.acr {
            context.insert("acr".into(), text(acr));
        }
        context
    }
}

impl Standing {
    fn asked(&self, kind: Kind) -> &Entity {
        let [request, routine, review, revoke] = &self.asked;
        match kind {
            Kind::Request => request,
            Kind::Routine => routine,
            Kind::Review => review,
            Kind::Revoke => revoke,
        }
    }

    fn new(types: &Types, action: &Action) -> Result<Self, Misfit> {
        let name = action.name.as_str();
        let resource = uid(&types.named, name);
        let target = uid(&types.target, action.target.as_str());
        let groups = action.review.groups.keys();
        let groups = groups
            .map(|group| RestrictedExpression::new_entity_uid(uid(&types.group, group.as_str())));
        let attributes = Attributes::from([
            ("name".into(), text(name)),
            (
                "target".into(),
                RestrictedExpression::new_entity_uid(target.clone()),
            ),
            ("longest_ttl_seconds".into(), long(action.ttl.longest.0)),
            (
                "reviewer_groups".into(),
                RestrictedExpression::new_set(groups),
            ),
        ]);
        let named = Entity::new(
            resource.clone(),
            attributes,
            HashSet::from([target.clone()]),
        )
        .map_err(misfit)?;
        let asked = Kind::ALL.map(|kind| {
            let member = uid(&types.action, &format!("{}:{name}", kind.word()));
            let group = uid(&types.action, kind.word());
            Entity::new_no_attrs(member, HashSet::from([group]))
        });
        let members = asked.each_ref().map(Entity::uid);
        Ok(Self {
            resource,
            target,
            members,
            named,
            asked,
        })
    }
}
