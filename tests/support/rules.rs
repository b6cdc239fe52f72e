//! A small catalog and policy without Cedar, for tests of what comes after it.

use std::collections::{BTreeMap, BTreeSet};

use countersign::domain::action::TtlRule;
use countersign::domain::agent::AgentOrigin;
use countersign::domain::person::Evidence;
use countersign::domain::rules::Question;
use countersign::domain::{
    Action, ActionName, Agent, AgentProof, Digest, Explanation, GuardRoom, ParameterKind, Party,
    Person, Policy, ReviewRule, Reviewer, Ruling, Seconds, TargetName, Targets, Time,
};
use serde_json::{Value, json};

/// `orders.report` is routine, `customers.export` needs one of `support-leads`, `schema.migrate` one of
/// `dba` and one of `security`. Agents `reporter` (owner ana) and `fixer` (owner group data-platform).
#[derive(Clone, Debug)]
pub struct ShopPolicy {
    pub actions: Vec<Action>,
    pub agents: Vec<Agent>,
    /// `Request` questions about these actions get no.
    pub denied: BTreeSet<ActionName>,
    /// Everything policy is asked fails to evaluate.
    pub broken: bool,
    /// The `@ttl` of the policy that permits requests.
    pub ttl_at_most: Option<Seconds>,
    /// Told apart in the bundle digest.
    pub edition: u32,
}

pub fn person(subject: &str) -> Person {
    Person {
        issuer: "https://idp.example".into(),
        subject: subject.into(),
    }
}

pub fn reviewer(subject: &str, groups: &[&str]) -> Reviewer {
    Reviewer {
        person: person(subject),
        groups: groups.iter().map(|group| group.parse().unwrap()).collect(),
        evidence: Evidence {
            auth_time: Time::default(),
            acr: None,
            channel: "web".into(),
        },
    }
}

/// The people of the sample shop.
pub fn people() -> Vec<Reviewer> {
    vec![
        reviewer("ana", &["data-platform", "support-leads"]),
        reviewer("ben", &["support-leads", "dba"]),
        reviewer("chloe", &["security"]),
        reviewer("dmitri", &["support-leads", "dba", "security"]),
        reviewer("eve", &[]),
    ]
}

fn action(name: &str, groups: &[(&str, u32)]) -> Action {
    let parameters: BTreeMap<String, ParameterKind> = match name {
        "customers.export" => [(
            "country".to_owned(),
            ParameterKind::Choice {
                values: vec!["de".into(), "fr".into()],
            },
        )]
        .into(),
        _ => BTreeMap::new(),
    };
    let scope = match name {
        "customers.export" => json!({"roles": ["limited"], "rows": {"country": "{country}"}}),
        _ => json!({"roles": [name.replace('.', "_")]}),
    };
    Action {
        name: name.parse().unwrap(),
        title: name.into(),
        description: format!("The action {name}."),
        target: "shop".parse().unwrap(),
        parameters,
        scope,
        ttl: TtlRule {
            default: Seconds(300),
            longest: Seconds(1800),
        },
        review: ReviewRule {
            groups: groups
                .iter()
                .map(|(g, n)| (g.parse().unwrap(), *n))
                .collect(),
            expires: Seconds(3600),
            recheck_at_collect: name == "schema.migrate",
        },
        collect_window: Seconds(900),
    }
}

fn agent(name: &str, owner: Party) -> Agent {
    Agent {
        name: name.parse().unwrap(),
        owner,
        proof: AgentProof::ApiKey {
            hash: Digest::of(name.as_bytes()),
        },
        origin: AgentOrigin::Bundle,
    }
}

impl ShopPolicy {
    pub fn new() -> Self {
        Self {
            actions: vec![
                action("orders.report", &[]),
                action("customers.export", &[("support-leads", 1)]),
                action("schema.migrate", &[("dba", 1), ("security", 1)]),
            ],
            agents: vec![
                agent("reporter", Party::Person(person("ana"))),
                agent("fixer", Party::Group("data-platform".parse().unwrap())),
            ],
            denied: BTreeSet::new(),
            broken: false,
            ttl_at_most: None,
            edition: 1,
        }
    }

    /// What stands for the files of this bundle. A test that changes anything changes the edition too.
    pub fn bytes(&self) -> Vec<u8> {
        self.edition.to_be_bytes().to_vec()
    }
}

impl Policy for ShopPolicy {
    fn bundle(&self) -> Digest {
        Digest::of(&self.bytes())
    }

    fn action(&self, name: &ActionName) -> Option<&Action> {
        self.actions.iter().find(|action| &action.name == name)
    }

    fn actions(&self) -> Vec<&Action> {
        self.actions.iter().collect()
    }

    fn agents(&self) -> &[Agent] {
        &self.agents
    }

    fn ask(&self, question: &Question<'_>) -> Ruling {
        if self.broken {
            let errors = vec!["attribute is missing".into()];
            return Ruling {
                permitted: false,
                policies: Vec::new(),
                errors,
                ttl_at_most: None,
            };
        }
        let (permitted, policy) = match question {
            Question::Request(ask) => (!self.denied.contains(&ask.action.name), "request"),
            Question::Routine(ask) => (ask.action.name.as_str() == "orders.report", "routine"),
            Question::Review(..) => (true, "review"),
            Question::Revoke(person, _) => (
                person.groups.contains(&"security".parse().unwrap()),
                "revoke",
            ),
        };
        let policies = if permitted {
            vec![policy.into()]
        } else {
            Vec::new()
        };
        let ttl_at_most = self.ttl_at_most.filter(|_| policy == "request");
        Ruling {
            permitted,
            policies,
            errors: Vec::new(),
            ttl_at_most,
        }
    }
}

/// Targets that accept every scope.
#[derive(Clone, Copy, Debug)]
pub struct AnyTargets {
    pub longest: Seconds,
    /// How many leases the guard of all targets has room for, if there is one.
    pub room: Option<usize>,
}

impl Targets for AnyTargets {
    fn check_scope(&self, _: &TargetName, scope: &Value) -> Result<(), String> {
        if scope.to_string().contains('*') {
            Err("no wildcards".into())
        } else {
            Ok(())
        }
    }

    fn longest_ttl(&self, _: &TargetName) -> Option<Seconds> {
        Some(self.longest)
    }

    fn guard(&self, _: &TargetName) -> Option<GuardRoom> {
        Some(GuardRoom {
            name: "guard".parse().unwrap(),
            room: self.room?,
        })
    }

    fn explain(&self, _: &TargetName, scope: &Value, _: Seconds) -> Explanation {
        Explanation {
            words: Vec::new(),
            exact: scope.to_string(),
            ending: Vec::new(),
            outlives: Vec::new(),
        }
    }
}
