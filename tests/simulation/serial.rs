//! Whether what `book` observed fits some serial order: from its events alone, in the manner of Elle.
//! Every list is only appended to, so a list that was seen tells which appends came before the reader
//! and which came after it; where these relations run in a circle, no serial order fits.

use std::collections::{BTreeMap, BTreeSet};

use crate::check::observations;
use crate::world::Inner;

/// What is wrong.
pub fn check(world: &mut Inner) -> Vec<String> {
    let seen = observations(world);
    let mut wrong = Vec::new();
    // The longest list that anyone saw of each key tells its order.
    let mut order: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let mut states: Vec<(u64, String, Vec<u64>)> = Vec::new();
    for (n, lists) in &seen {
        for (at, (key, list)) in lists.iter().enumerate() {
            states.push((*n, key.clone(), list.clone()));
            let mut whole = list.clone();
            if at == 0 {
                whole.push(*n);
            }
            let longest = order.entry(key.clone()).or_default();
            if whole.len() > longest.len() {
                *longest = whole;
            }
        }
    }
    let mut before: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
    for list in order.values() {
        for pair in list.windows(2) {
            before.entry(pair[1]).or_default().insert(pair[0]);
        }
    }
    for (n, key, list) in &states {
        let whole = &order[key];
        if !whole.starts_with(list) {
            wrong.push(format!("message {n} saw {list:?} of {key}, which became {whole:?}"));
            continue;
        }
        if let Some(last) = list.last().filter(|last| *last != n) {
            before.entry(*n).or_default().insert(*last);
        }
        if let Some(next) = whole.get(list.len()).filter(|next| *next != n) {
            before.entry(*next).or_default().insert(*n);
        }
    }
    wrong.extend(circle(&before).map(|circle| format!("no serial order: {circle:?}")));
    wrong
}

/// Numbers that all come before each other.
fn circle(before: &BTreeMap<u64, BTreeSet<u64>>) -> Option<Vec<u64>> {
    let mut open = before.clone();
    loop {
        let known: BTreeSet<u64> = open.keys().copied().collect();
        let free: Vec<u64> = open
            .iter()
            .filter(|(_, earlier)| earlier.iter().all(|n| !known.contains(n)))
            .map(|(n, _)| *n)
            .collect();
        if free.is_empty() {
            let left: Vec<u64> = open.into_keys().collect();
            return (!left.is_empty()).then_some(left);
        }
        free.iter().for_each(|n| drop(open.remove(n)));
    }
}

#[test]
fn a_circle_is_found() {
    let set = |numbers: &[u64]| numbers.iter().copied().collect::<BTreeSet<u64>>();
    let line = BTreeMap::from([(2, set(&[1])), (3, set(&[1, 2]))]);
    assert_eq!(circle(&line), None);
    let round = BTreeMap::from([(2, set(&[1])), (3, set(&[2])), (1, set(&[3])), (9, set(&[2]))]);
    assert_eq!(circle(&round), Some(vec![1, 2, 3, 9]));
}
