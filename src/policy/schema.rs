//! The Cedar schema, generated from the catalog: what policies may talk about, exactly typed.

use std::fmt::Write as _;

use crate::domain::{Action, ParameterKind};

/// What can be asked of policy; each is an action group in Cedar with a member for every catalog action.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) enum Kind {
    Request,
    Routine,
    Review,
    Revoke,
}

impl Kind {
    pub(super) const ALL: [Kind; 4] = [Kind::Request, Kind::Routine, Kind::Review, Kind::Revoke];

    /// The name of the group.
    pub(super) fn word(self) -> &'static str {
        match self {
            Kind::Request => "request",
            Kind::Routine => "routine",
            Kind::Review => "review",
            Kind::Revoke => "revoke",
        }
    }

    /// Whether a person asks, not an agent.
    pub(super) fn by_person(self) -> bool {
        matches!(self, Kind::Review | Kind::Revoke)
    }
}

const ENTITIES: &str = r#"// Generated from the catalog; do not edit.

// A group of people, as the identity provider writes it.
entity Group;

// A person, as "PROVIDER:SUBJECT", in the groups of their sign-in.
entity Person in [Group];

// An agent, in the person or group that owns it. `owner` is "PROVIDER:SUBJECT" or "group:NAME".
entity Agent in [Person, Group] = {
  name: String,
  owner: String,
};

// Where credentials are minted.
entity Target;

// An action of the catalog, in its target.
entity NamedAction in [Target] = {
  name: String,
  target: Target,
  longest_ttl_seconds: Long,
  reviewer_groups: Set<Group>,
};

// May this agent ask for this?
action "request";
// May it go through without a person?
action "routine";
// May this person review it?
action "review";
// May this person end its credential early?
action "revoke";
"#;

/// The schema for these actions, as `policies/schema.cedarschema` shows it to editors.
pub fn schema_text<'a>(actions: impl IntoIterator<Item = &'a Action>) -> String {
    let mut text = ENTITIES.to_owned();
    for action in actions {
        for kind in Kind::ALL {
            // Writing to a String cannot fail.
            let _ = write_action(&mut text, kind, action);
        }
    }
    text
}

fn write_action(text: &mut String, kind: Kind, action: &Action) -> std::fmt::Result {
    let (word, name) = (kind.word(), &action.name);
    let principal = if kind.by_person() { "Person" } else { "Agent" };
    writeln!(
        text,
        "\naction \"{word}:{name}\" in [Action::\"{word}\"] appliesTo {{"
    )?;
    writeln!(text, "  principal: [{principal}],")?;
    writeln!(text, "  resource: [NamedAction],")?;
    writeln!(text, "  context: {{")?;
    if kind.by_person() {
        writeln!(text, "    agent: Agent,")?;
        writeln!(text, "    auth_age_seconds: Long,")?;
        writeln!(text, "    acr?: String,")?;
    }
    writeln!(text, "    on_behalf_of?: String,")?;
    writeln!(text, "    ttl_seconds: Long,")?;
    writeln!(text, "    now: datetime,")?;
    writeln!(text, "    parameters: {{")?;
    for (name, kind) in &action.parameters {
        let cedar = match kind {
            ParameterKind::Text { .. } | ParameterKind::Choice { .. } => "String",
            ParameterKind::Integer { .. } => "Long",
            ParameterKind::Boolean => "Bool",
        };
        writeln!(text, "      \"{name}\": {cedar},")?;
    }
    writeln!(text, "    }},\n  }},\n}};")
}
