//! Whether the people who approved fill every required place. Each person fills one place at most.

use std::collections::BTreeMap;

use super::ids::GroupName;
use super::person::{Person, Reviewer};

/// The people who fill the places that `required` asks for, or `None` while places are open.
///
/// Somebody in two groups may fill a place of either, so places are matched to people
/// (augmenting paths); a person who reviewed twice is still one person.
pub fn quorum(required: &BTreeMap<GroupName, u32>, approvers: &[&Reviewer]) -> Option<Vec<Person>> {
    let places = places(required);
    if places.is_empty() {
        return None;
    }
    let matching = match_places(&places, &distinct(approvers));
    matching
        .into_iter()
        .map(|holder| holder.map(|reviewer| reviewer.person.clone()))
        .collect()
}

/// How many more people each group must still give, when `approvers` have approved.
pub fn missing(
    required: &BTreeMap<GroupName, u32>,
    approvers: &[&Reviewer],
) -> BTreeMap<GroupName, u32> {
    let places = places(required);
    let matching = match_places(&places, &distinct(approvers));
    let mut open = BTreeMap::new();
    for (group, holder) in places.into_iter().zip(matching) {
        if holder.is_none() {
            *open.entry(group.clone()).or_insert(0) += 1;
        }
    }
    open
}

fn places(required: &BTreeMap<GroupName, u32>) -> Vec<&GroupName> {
    required
        .iter()
        .flat_map(|(group, count)| std::iter::repeat_n(group, usize::try_from(*count).unwrap_or(0)))
        .collect()
}

fn distinct<'a>(approvers: &[&'a Reviewer]) -> Vec<&'a Reviewer> {
    let mut people: BTreeMap<&Person, &Reviewer> = BTreeMap::new();
    for reviewer in approvers {
        people.entry(&reviewer.person).or_insert(reviewer);
    }
    people.into_values().collect()
}

fn match_places<'a>(places: &[&GroupName], people: &[&'a Reviewer]) -> Vec<Option<&'a Reviewer>> {
    let mut holders: Vec<Option<&Reviewer>> = vec![None; places.len()];
    for person in people {
        let mut tried = vec![false; places.len()];
        seat(person, places, &mut holders, &mut tried);
    }
    holders
}

/// Seats `person`, moving somebody else to another of their places where that helps.
fn seat<'a>(
    person: &'a Reviewer,
    places: &[&GroupName],
    holders: &mut [Option<&'a Reviewer>],
    tried: &mut [bool],
) -> bool {
    for (index, group) in places.iter().enumerate() {
        let untried = tried.get(index) == Some(&false);
        if !untried || !person.groups.contains(*group) {
            continue;
        }
        if let Some(mark) = tried.get_mut(index) {
            *mark = true;
        }
        let holder = holders.get(index).copied().flatten();
        if holder.is_none_or(|other| seat(other, places, holders, tried)) {
            if let Some(place) = holders.get_mut(index) {
                *place = Some(person);
            }
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::super::person::Evidence;
    use super::super::time::Time;
    use super::*;

    fn reviewer(subject: &str, groups: &[&str]) -> Reviewer {
        Reviewer {
            person: Person {
                issuer: "https://idp".into(),
                subject: subject.into(),
            },
            groups: groups.iter().map(|g| g.parse().unwrap()).collect(),
            evidence: Evidence {
                auth_time: Time::default(),
                acr: None,
                channel: "web".into(),
            },
        }
    }

    fn rule(groups: &[(&str, u32)]) -> BTreeMap<GroupName, u32> {
        groups
            .iter()
            .map(|(g, n)| (g.parse().unwrap(), *n))
            .collect()
    }

    #[test]
    fn case_025_one_person_counts_once_in_every_group_and_session() {
        let ben = reviewer("ben", &["dba", "security"]);
        let required = rule(&[("dba", 1), ("security", 1)]);
        assert_eq!(quorum(&required, &[&ben, &ben]), None);
        assert_eq!(missing(&required, &[&ben, &ben]).values().sum::<u32>(), 1);
    }

    #[test]
    fn a_person_in_two_groups_moves_over_for_one_in_a_single_group() {
        let (both, dba) = (
            reviewer("ana", &["dba", "security"]),
            reviewer("ben", &["dba"]),
        );
        let required = rule(&[("dba", 1), ("security", 1)]);
        assert_eq!(quorum(&required, &[&both, &dba]).unwrap().len(), 2);
        assert_eq!(quorum(&required, &[&dba, &both]).unwrap().len(), 2);
    }

    #[test]
    fn case_021_an_empty_rule_is_never_fulfilled() {
        assert_eq!(quorum(&rule(&[]), &[&reviewer("ana", &["dba"])]), None);
        assert_eq!(
            quorum(&rule(&[("dba", 0)]), &[&reviewer("ana", &["dba"])]),
            None
        );
    }
}
