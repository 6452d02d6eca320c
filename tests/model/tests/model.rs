//! The model, checked: with all rules every promise holds in every state and everything comes to
//! its end; without any one of them something breaks, and the shortest way to it is printed.
//!
//! `make model` looks at the larger scenes, too, and prints what it finds.

use std::path::Path;

use stateright::{Checker, HasDiscoveries, Model};
use tribox_model::{
    PROMISES, Protocol, Rule, Rules, Scene, Step, everything_ends, is_drained, large, replay, small,
};

/// States of one scene at most.
const LIMIT: usize = 20_000_000;

fn scenes() -> Vec<Scene> {
    if std::env::var_os("TRIBOX_MODEL").is_some() { large() } else { small() }
}

/// What a scene shows of the rules.
enum Found {
    /// All promises hold, in so many states.
    Nothing(usize),
    /// This is broken, and in this way.
    Broken(String, Vec<Step>),
}

fn look(scene: &Scene, rules: Rules) -> Found {
    let protocol = Protocol::new(scene.clone(), rules);
    let checker = protocol.clone().checker().finish_when(HasDiscoveries::Any).threads(2);
    let checker = checker.target_state_count(LIMIT * 10).spawn_bfs().join();
    if let Some((promise, path)) = checker.discoveries().into_iter().next() {
        return Found::Broken(promise.to_owned(), path.into_actions());
    }
    let live = everything_ends(&protocol, LIMIT);
    match live.stuck {
        Some(way) => {
            assert!(!is_drained(&protocol, &replay(&protocol, &way)));
            Found::Broken("4 sent, and 8 nothing dropped: everything comes to its end".into(), way)
        }
        None => {
            assert_eq!(checker.unique_state_count(), live.states, "two counts of the same states");
            Found::Nothing(live.states)
        }
    }
}

fn in_words(promise: &str, way: &[Step]) -> String {
    let steps: Vec<String> = way.iter().map(|step| format!("    {step:?}")).collect();
    format!("  broken: {promise}\n{}", steps.join("\n"))
}

#[test]
fn with_all_rules_every_promise_holds_in_every_state() {
    let mut all = 0;
    for scene in scenes() {
        match look(&scene, Rules::default()) {
            Found::Nothing(states) => {
                all += states;
                println!("{states:>10} states: {}", scene.name);
            }
            Found::Broken(promise, way) => {
                panic!("{}:\n{}", scene.name, in_words(&promise, &way));
            }
        }
    }
    println!(
        "{all:>10} states in all; {} promises hold, and all come to their end",
        PROMISES.len()
    );
}

#[test]
fn without_any_one_rule_something_breaks() {
    let mut unnoticed = Vec::new();
    for rule in Rule::ALL {
        let found =
            small().into_iter().find_map(|scene| match look(&scene, Rules::without(*rule)) {
                Found::Broken(promise, way) => Some((scene.name, promise, way)),
                Found::Nothing(_) => None,
            });
        match found {
            Some((scene, promise, way)) => {
                println!("{rule:?}, {scene}:\n{}", in_words(&promise, &way));
            }
            None => unnoticed.push(rule),
        }
    }
    assert!(unnoticed.is_empty(), "nobody misses {unnoticed:?}");
    println!("{} rules, and each is missed", Rule::ALL.len());
}

/// What the code says has to be there still, so that the model is not of something else.
#[test]
fn each_rule_stands_in_the_code() {
    for rule in Rule::ALL {
        let (file, words) = rule.place();
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(file);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|why| panic!("{file}: {why}"));
        assert!(text.contains(words), "{rule:?}: {file} has no `{words}`; look at the model again");
    }
}
