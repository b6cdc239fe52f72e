//! A bundle that remembers its answers, for whoever asks it the same again and again: a ledger that is audited.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::Bundle;
use crate::domain::canonical;
use crate::domain::rules::{Ask, Limits, Question};
use crate::domain::{Action, ActionName, Agent, Digest, Policy, Ruling};

/// Answers remembered at most.
const MOST: usize = 10_000;

/// A bundle that remembers what it answered agents. Where its policies look at the clock, it asks them each time.
pub struct Remembered {
    bundle: Bundle,
    /// By the hash of the whole question but for its instant: parameters may be long.
    answers: Mutex<HashMap<Digest, Ruling>>,
}

impl Remembered {
    /// Remembers nothing yet.
    pub fn new(bundle: Bundle) -> Self {
        Self {
            bundle,
            answers: Mutex::new(HashMap::new()),
        }
    }

    /// The hash of all that an answer depends on; nothing where it may depend on more.
    fn key(&self, question: &Question<'_>) -> Option<Digest> {
        if self.bundle.looks_at_the_clock() {
            return None;
        }
        let (routine, ask) = match question {
            Question::Request(ask) => (false, ask),
            Question::Routine(ask) => (true, ask),
            // How long ago a person signed in is always another.
            Question::Review(..) | Question::Revoke(..) => return None,
        };
        let Ask {
            agent,
            on_behalf_of,
            action,
            parameters,
            ttl,
            now: _,
        } = ask;
        let all = (routine, agent, on_behalf_of, &action.name, parameters, ttl);
        Some(Digest::of(&canonical::to_vec(&all).ok()?))
    }
}

impl Policy for Remembered {
    fn bundle(&self) -> Digest {
        self.bundle.bundle()
    }

    fn action(&self, name: &ActionName) -> Option<&Action> {
        self.bundle.action(name)
    }

    fn actions(&self) -> Vec<&Action> {
        self.bundle.actions()
    }

    fn definition(&self, action: &Action) -> Digest {
        self.bundle.definition(action)
    }

    fn agents(&self) -> &[Agent] {
        self.bundle.agents()
    }

    fn limits(&self) -> Limits {
        self.bundle.limits()
    }

    fn ask(&self, question: &Question<'_>) -> Ruling {
        let Some(key) = self.key(question) else {
            return self.bundle.ask(question);
        };
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(answer) = answers.get(&key) {
            return answer.clone();
        }
        if answers.len() >= MOST {
            answers.clear();
        }
        let answer = self.bundle.ask(question);
        answers.insert(key, answer.clone());
        answer
    }
}
