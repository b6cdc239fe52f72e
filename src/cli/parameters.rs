//! `--param k=v`, typed as the action's parameters are.

use clap::Args;
use countersign_client::{ActionView, Client, NewRequest, OnBehalfOf, ParameterView};
use serde_json::{Map, Value, json};

use super::exit::Failure;
use super::text::{close_to, seconds};

/// What to ask for; shared by `request`, `exec` and `aws-credentials`.
#[derive(Args, Debug)]
pub(crate) struct Ask {
    /// The action's name (see `countersign actions`). `exec` also takes the id of a request made before.
    action: String,
    /// A parameter of the action; may be repeated.
    #[arg(long = "param", short = 'p', value_name = "NAME=VALUE", value_parser = pair)]
    parameters: Vec<(String, String)>,
    /// Why, in your own words; reviewers read it.
    #[arg(long)]
    reason: Option<String>,
    /// How long the credential should live, such as 10m; the action's default when absent.
    #[arg(long, value_parser = seconds, value_name = "DURATION")]
    ttl: Option<u64>,
    /// More for the reviewer, such as ticket=OPS-1; may be repeated.
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    context: Vec<(String, String)>,
    /// The person the agent acts for: the issuer and subject of their ID token. They cannot review it.
    #[arg(long, num_args = 2, value_names = ["ISSUER", "SUBJECT"])]
    on_behalf_of: Option<Vec<String>>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.into(), value.into())),
        _ => Err("write it as NAME=VALUE".into()),
    }
}

impl Ask {
    /// The action asked for.
    pub(crate) fn action(&self) -> &str {
        &self.action
    }

    /// The id of a request made before, if one is named in the action's place.
    pub(crate) fn existing(&self) -> Result<Option<&str>, Failure> {
        if self
            .action
            .strip_prefix("req_")
            .is_none_or(|id| id.len() != 26)
        {
            return Ok(None);
        }
        if self.parameters.is_empty()
            && self.reason.is_none()
            && self.ttl.is_none()
            && self.context.is_empty()
        {
            return Ok(Some(&self.action));
        }
        Err(Failure::usage(
            "request_is_fixed",
            "a request made before cannot be given other parameters, reasons or times",
            "leave them out, or name the action to ask anew",
        ))
    }

    /// What is asked for and for whom, without why and for how long: the same question again has the same text.
    pub(crate) fn question(&self) -> Value {
        let mut parameters = self.parameters.clone();
        parameters.sort();
        json!([self.action, parameters, self.on_behalf_of])
    }

    /// The request to send: looks the action up, and types its parameters.
    pub(crate) async fn prepare(&self, client: &Client) -> Result<NewRequest, Failure> {
        let actions = client.actions().await?;
        let Some(action) = actions.iter().find(|action| action.name == self.action) else {
            return Err(unknown_action(&self.action, &actions));
        };
        let mut ask = NewRequest::new(&self.action);
        ask.parameters = typed(action, &self.parameters)?;
        ask.ttl_seconds = self.ttl;
        ask.reason.clone_from(&self.reason);
        ask.context = self.context.iter().cloned().collect();
        if let Some([issuer, subject]) = self.on_behalf_of.as_deref() {
            ask.on_behalf_of = Some(OnBehalfOf {
                issuer: issuer.clone(),
                subject: subject.clone(),
            });
        }
        Ok(ask)
    }
}

/// There is no such action; names close ones.
pub(crate) fn unknown_action(name: &str, actions: &[ActionView]) -> Failure {
    let close = close_to(name, actions.iter().map(|action| action.name.as_str()));
    let next = if close.is_empty() {
        "list them with `countersign actions`".into()
    } else {
        format!(
            "did you mean {}? all: `countersign actions`",
            close.join(" or ")
        )
    };
    Failure::usage("unknown_action", format!("there is no action {name}"), next)
}

fn typed(action: &ActionView, given: &[(String, String)]) -> Result<Map<String, Value>, Failure> {
    let mut parameters = Map::new();
    for (name, text) in given {
        let Some(kind) = action.parameters.get(name) else {
            let known: Vec<_> = action.parameters.keys().map(String::as_str).collect();
            let known = if known.is_empty() {
                "it takes none".into()
            } else {
                format!("it takes {}", known.join(", "))
            };
            return Err(wrong(
                action,
                format!("{name} is not a parameter of {}: {known}", action.name),
            ));
        };
        let value = convert(kind, text).ok_or_else(|| {
            wrong(
                action,
                format!("{name}={text} does not fit: give {}", hint(kind)),
            )
        })?;
        if parameters.insert(name.clone(), value).is_some() {
            return Err(wrong(action, format!("{name} is given twice")));
        }
    }
    let missing: Vec<_> = action
        .parameters
        .iter()
        .filter(|(name, _)| !parameters.contains_key(*name))
        .map(|(name, kind)| format!("--param {name}=… ({})", hint(kind)))
        .collect();
    if missing.is_empty() {
        Ok(parameters)
    } else {
        Err(wrong(action, format!("missing: {}", missing.join(", "))))
    }
}

fn wrong(action: &ActionView, what: String) -> Failure {
    Failure::usage(
        "invalid_parameters",
        what,
        format!("see `countersign actions {}`", action.name),
    )
}

fn convert(kind: &ParameterView, text: &str) -> Option<Value> {
    match kind.kind.as_str() {
        "integer" => text.parse::<i64>().ok().map(Value::from),
        "boolean" => text.parse::<bool>().ok().map(Value::from),
        _ => Some(Value::from(text)),
    }
}

/// What to give for a parameter, in words.
pub(crate) fn hint(kind: &ParameterView) -> String {
    kind.hint
        .clone()
        .unwrap_or_else(|| match kind.kind.as_str() {
            "integer" => "a whole number".into(),
            "boolean" => "true or false".into(),
            other => other.to_owned(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn action() -> ActionView {
        serde_json::from_value(json!({"name": "orders.report", "parameters": {
            "days": {"type": "integer", "min": 1, "max": 31}, "full": {"type": "boolean"}, "region": {"type": "choice"}}}))
        .unwrap()
    }

    fn given(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect()
    }

    #[test]
    fn parameters_are_typed_as_the_action_says() {
        let typed = typed(
            &action(),
            &given(&[("days", "7"), ("full", "false"), ("region", "7")]),
        )
        .unwrap();
        assert_eq!(
            Value::from(typed),
            json!({"days": 7, "full": false, "region": "7"})
        );
    }

    #[test]
    fn what_does_not_fit_is_told_before_anybody_is_asked() {
        for (wrong, part) in [
            (
                vec![("days", "seven"), ("full", "true"), ("region", "eu")],
                "days=seven does not fit",
            ),
            (
                vec![("days", "7"), ("full", "true")],
                "missing: --param region",
            ),
            (vec![("day", "7")], "it takes days, full, region"),
            (vec![("days", "7"), ("days", "8")], "given twice"),
        ] {
            let failure = typed(&action(), &given(&wrong)).unwrap_err();
            assert!(failure.what.contains(part), "{}", failure.what);
        }
    }
}
