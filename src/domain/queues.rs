//! What time alone can move, in order. Kept by the fold entry by entry: an append costs what it changes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;
use std::ops::Bound;

use super::due::Owed;
use super::ids::{RequestId, TargetName};
use super::time::Time;

/// Things by the time they are due.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Queue<K: Eq + Hash> {
    in_order: BTreeMap<Time, BTreeSet<K>>,
    time_of: HashMap<K, Time>,
}

impl<K: Eq + Hash> Default for Queue<K> {
    fn default() -> Self {
        Self {
            in_order: BTreeMap::new(),
            time_of: HashMap::new(),
        }
    }
}

impl<K: Clone + Ord + Hash> Queue<K> {
    fn set(&mut self, what: K, due: Option<Time>) {
        let old = match due {
            Some(time) => self.time_of.insert(what.clone(), time),
            None => self.time_of.remove(&what),
        };
        if old == due {
            return;
        }
        if let Some(old) = old {
            self.take_out(old, &what);
        }
        if let Some(time) = due {
            self.in_order.entry(time).or_default().insert(what);
        }
    }

    fn take_out(&mut self, from: Time, what: &K) {
        if let Some(then) = self.in_order.get_mut(&from) {
            then.remove(what);
            if then.is_empty() {
                self.in_order.remove(&from);
            }
        }
    }

    fn due(&self, now: Time) -> impl Iterator<Item = &K> {
        self.in_order.range(..=now).flat_map(|(_, then)| then)
    }

    fn next(&self) -> Option<Time> {
        self.in_order.keys().next().copied()
    }

    fn next_after(&self, now: Time) -> Option<Time> {
        let later = (Bound::Excluded(now), Bound::Unbounded);
        self.in_order.range(later).next().map(|(time, _)| *time)
    }
}

/// Requests that time moves, and ends that are owed at each target.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Queues {
    lapses: Queue<RequestId>,
    ends: BTreeMap<TargetName, Queue<Owed>>,
}

impl Queues {
    /// When time moves a request, if it does.
    pub(super) fn set_lapse(&mut self, request: &RequestId, due: Option<Time>) {
        self.lapses.set(request.clone(), due);
    }

    /// When an end is owed, if it is.
    pub(super) fn set_end(&mut self, target: &TargetName, owed: Owed, due: Option<Time>) {
        if due.is_some() && !self.ends.contains_key(target) {
            self.ends.insert(target.clone(), Queue::default());
        }
        let Some(queue) = self.ends.get_mut(target) else {
            return;
        };
        queue.set(owed, due);
        if queue.in_order.is_empty() {
            self.ends.remove(target);
        }
    }

    pub(super) fn lapses(&self, now: Time) -> impl Iterator<Item = &RequestId> {
        self.lapses.due(now)
    }

    pub(super) fn ends<'a>(
        &'a self,
        target: &TargetName,
        now: Time,
    ) -> impl Iterator<Item = &'a Owed> + use<'a> {
        let queue = self.ends.get(target).into_iter();
        queue.flat_map(move |queue| queue.due(now))
    }

    /// All ends owed at `target`, due or not.
    pub(super) fn all_ends(&self, target: &TargetName) -> Vec<Owed> {
        let queue = self.ends.get(target).into_iter();
        let all = queue.flat_map(|queue| queue.in_order.values().flatten());
        all.cloned().collect()
    }

    pub(super) fn next_lapse(&self) -> Option<Time> {
        self.lapses.next()
    }

    pub(super) fn next_end(&self, target: &TargetName, now: Time) -> Option<Time> {
        self.ends.get(target)?.next_after(now)
    }

    /// When anything is next due, overdue included.
    pub(super) fn next(&self) -> Option<Time> {
        let ends = self.ends.values().filter_map(Queue::next);
        ends.chain(self.lapses.next()).min()
    }
}
