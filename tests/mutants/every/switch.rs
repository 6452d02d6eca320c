//! A switch for each mutant: what cargo-mutants would write in its place becomes a choice, so that one
//! program has them all. Each choice has the numbers of its mutants in a comment, by which an error of
//! the compiler is known to be of one.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use anyhow::{Context, Result};
use proc_macro2::LineColumn;
use serde::Deserialize;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Arm, BinOp, Block, Expr, ExprBinary, ExprStruct, ExprUnary, Pat, PatGuard};

use super::edit::Edits;

/// As `cargo mutants --list --json` tells it.
#[derive(Debug, Deserialize)]
pub struct Mutant {
    pub name: String,
    /// Below the repository.
    pub file: String,
    span: Place,
    replacement: String,
    genre: Genre,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
enum Genre {
    FnValue,
    BinaryOperator,
    UnaryOperator,
    MatchArm,
    MatchArmGuard,
    StructField,
}

#[derive(Debug, Deserialize)]
struct Place {
    start: Start,
}

/// Both from 1, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
struct Start {
    line: usize,
    column: usize,
}

impl From<LineColumn> for Start {
    fn from(place: LineColumn) -> Start {
        Start { line: place.line, column: place.column + 1 }
    }
}

/// The number of the mutant whose text stands at a line of what [`put_in`] made.
pub fn of_line(text: &str, line: usize) -> Option<usize> {
    text.lines().take(line).collect::<Vec<_>>().iter().rev().find_map(|line| {
        let (_, marked) = line.rsplit_once("/*mutant ")?;
        marked.split_once("*/")?.0.parse().ok()
    })
}

/// The file's text with switches for its mutants, which have numbers, and the numbers of those that have one.
///
/// # Errors
/// The text is not Rust.
pub fn put_in(text: &str, mutants: &[(usize, &Mutant)]) -> Result<(String, BTreeSet<usize>)> {
    let file = syn::parse_file(text).context("it cannot be parsed")?;
    let mut places: BTreeMap<(Genre, Start), Vec<(usize, &Mutant)>> = BTreeMap::new();
    for (n, mutant) in mutants {
        places.entry((mutant.genre, mutant.span.start)).or_default().push((*n, mutant));
    }
    let mut switches = Switches { text, places, edits: Edits::default(), done: BTreeSet::new() };
    switches.visit_file(&file);
    Ok((switches.edits.apply(text), switches.done))
}

struct Switches<'a> {
    text: &'a str,
    places: BTreeMap<(Genre, Start), Vec<(usize, &'a Mutant)>>,
    edits: Edits,
    done: BTreeSet<usize>,
}

impl<'a> Switches<'a> {
    fn take(&mut self, genre: Genre, place: LineColumn) -> Vec<(usize, &'a Mutant)> {
        let taken = self.places.remove(&(genre, place.into())).unwrap_or_default();
        self.done.extend(taken.iter().map(|(n, _)| n));
        taken
    }

    /// The expression at `part`, or one of the others. What is as it was stands first and gives the type; no
    /// name is bound, which might be one of the expression's own.
    fn choose(&mut self, part: &Range<usize>, others: &[(usize, String)]) {
        let Some((first, _)) = others.first() else { return };
        let numbers: Vec<String> = others.iter().map(|(n, _)| n.to_string()).collect();
        let numbers = numbers.join(", ");
        let before = format!(
            "(match crate::mutant::out() {{ /*mutant {first}*/ _ if !crate::mutant::among(&[{numbers}]) => "
        );
        let mut after = String::new();
        for (at, (n, other)) in others.iter().enumerate() {
            let pattern = if at + 1 == others.len() { "_".to_owned() } else { n.to_string() };
            after.push_str(&format!(",\n{pattern} => /*mutant {n}*/ {other}"));
        }
        self.edits.enclose(part, before, after + "\n})");
    }

    fn source(&self, node: &impl Spanned) -> &'a str {
        &self.text[node.span().byte_range()]
    }

    fn body(&mut self, block: &Block) {
        let Some(first) = block.stmts.first() else { return };
        for (n, mutant) in self.take(Genre::FnValue, first.span().start()) {
            let text = format!(
                "\nif crate::mutant::is({n}) {{ /*mutant {n}*/ return {}; }}\n",
                mutant.replacement
            );
            self.edits.insert(block.brace_token.span.open().byte_range().end, text);
        }
    }
}

/// Such a condition is one only as it stands: `if let Some(a) = b && c`.
fn is_chain(expression: &Expr) -> bool {
    match expression {
        Expr::Let(_) => true,
        Expr::Binary(ExprBinary { left, op: BinOp::And(_), right, .. }) => {
            is_chain(left) || is_chain(right)
        }
        _ => false,
    }
}

impl<'ast> Visit<'ast> for Switches<'_> {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.body(&item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.body(&item.block);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.body(block);
        }
        visit::visit_trait_item_fn(self, item);
    }

    fn visit_expr_binary(&mut self, expression: &'ast ExprBinary) {
        if !is_chain(&expression.left) && !is_chain(&expression.right) {
            let (left, right) = (self.source(&expression.left), self.source(&expression.right));
            let others: Vec<_> = self
                .take(Genre::BinaryOperator, expression.op.span().start())
                .into_iter()
                .map(|(n, mutant)| (n, format!("({left}) {} ({right})", mutant.replacement)))
                .collect();
            self.choose(&expression.span().byte_range(), &others);
        }
        visit::visit_expr_binary(self, expression);
    }

    fn visit_expr_unary(&mut self, expression: &'ast ExprUnary) {
        let without = self.source(&expression.expr);
        let others: Vec<_> = self
            .take(Genre::UnaryOperator, expression.op.span().start())
            .into_iter()
            .map(|(n, _)| (n, without.to_owned()))
            .collect();
        self.choose(&expression.span().byte_range(), &others);
        visit::visit_expr_unary(self, expression);
    }

    fn visit_expr_struct(&mut self, expression: &'ast ExprStruct) {
        if let Some(rest) = &expression.rest {
            let mut others = Vec::new();
            for without in &expression.fields {
                let kept: String = expression
                    .fields
                    .iter()
                    .filter(|field| field.member != without.member)
                    .map(|field| self.source(field).to_owned() + ", ")
                    .collect();
                let (path, rest) = (self.source(&expression.path), self.source(rest));
                let taken = self.take(Genre::StructField, without.span().start());
                let other = format!("{path} {{ {kept}..{rest} }}");
                others.extend(taken.into_iter().map(|(n, _)| (n, other.clone())));
            }
            self.choose(&expression.span().byte_range(), &others);
        }
        visit::visit_expr_struct(self, expression);
    }

    fn visit_arm(&mut self, arm: &'ast Arm) {
        let guard = match &arm.pat {
            Pat::Guard(PatGuard { guard, .. }) => Some(guard),
            _ => None,
        };
        for (n, _) in self.take(Genre::MatchArm, arm.span().start()) {
            let stays = format!("!crate::mutant::is({n}) /*mutant {n}*/");
            match guard {
                Some(guard) => self.edits.enclose(
                    &guard.span().byte_range(),
                    format!("{stays} && ("),
                    ")".to_owned(),
                ),
                None => {
                    let arrow = arm.fat_arrow_token.span().byte_range().start;
                    self.edits.insert(arrow, format!("if {stays} "));
                }
            }
        }
        if let Some(guard) = guard {
            let others: Vec<_> = self
                .take(Genre::MatchArmGuard, guard.span().start())
                .into_iter()
                .map(|(n, mutant)| (n, mutant.replacement.clone()))
                .collect();
            self.choose(&guard.span().byte_range(), &others);
        }
        visit::visit_arm(self, arm);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of `genre`, at a line and a column of the text.
    fn mutant(genre: Genre, line: usize, column: usize, replacement: &str) -> Mutant {
        let (name, file) = (String::new(), String::new());
        let span = Place { start: Start { line, column } };
        Mutant { name, file, span, replacement: replacement.to_owned(), genre }
    }

    /// Without comments and with single spaces.
    fn plain(text: &str) -> String {
        let mut plain = String::new();
        for (at, part) in text.split("/*").enumerate() {
            plain.push_str(if at == 0 { part } else { part.split_once("*/").unwrap().1 });
        }
        plain.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn operators_become_choices_one_in_the_other() {
        let text = "fn f(a: u8) -> bool {\n    a + 1 < 3\n}\n";
        let mutants = [
            mutant(Genre::FnValue, 2, 5, "true"),
            mutant(Genre::BinaryOperator, 2, 7, "-"),
            mutant(Genre::BinaryOperator, 2, 11, "=="),
            mutant(Genre::BinaryOperator, 2, 11, ">"),
        ];
        let numbered: Vec<_> = mutants.iter().enumerate().map(|(n, m)| (n + 1, m)).collect();
        let (made, done) = put_in(text, &numbered).unwrap();
        assert_eq!(done, BTreeSet::from([1, 2, 3, 4]));
        assert_eq!(
            plain(&made),
            "fn f(a: u8) -> bool { if crate::mutant::is(1) { return true; } \
             (match crate::mutant::out() { _ if !crate::mutant::among(&[3, 4]) => \
             (match crate::mutant::out() { _ if !crate::mutant::among(&[2]) => a + 1, \
             _ => (a) - (1) }) < 3, 3 => (a + 1) == (3), _ => (a + 1) > (3) }) }"
        );
        let line = made.lines().position(|line| line.contains("=> /*mutant 4*/")).unwrap();
        assert_eq!(of_line(&made, line + 1), Some(4));
    }

    #[test]
    fn arms_and_guards_become_choices() {
        let text = "fn f(a: u8) -> u8 {\nmatch a {\n1 => 2,\nb if !(b == 3) => 4,\n_ => 5,\n}\n}\n";
        let mutants = [
            mutant(Genre::MatchArm, 3, 1, ""),
            mutant(Genre::MatchArm, 4, 1, ""),
            mutant(Genre::MatchArmGuard, 4, 6, "true"),
            mutant(Genre::UnaryOperator, 4, 6, ""),
        ];
        let numbered: Vec<_> = mutants.iter().enumerate().map(|(n, m)| (n + 1, m)).collect();
        let (made, _) = put_in(text, &numbered).unwrap();
        assert_eq!(
            plain(&made),
            "fn f(a: u8) -> u8 { match a { 1 if !crate::mutant::is(1) => 2, \
             b if !crate::mutant::is(2) && ((match crate::mutant::out() { _ if !crate::mutant::among(&[3]) => \
             (match crate::mutant::out() { _ if !crate::mutant::among(&[4]) => !(b == 3), _ => (b == 3) }), \
             _ => true })) => 4, _ => 5, } }"
        );
    }

    #[test]
    fn a_field_may_be_left_to_the_rest() {
        let text = "fn f(r: R) -> R {\nR { a: 1, b: 2, ..r }\n}\n";
        let (made, _) = put_in(text, &[(1, &mutant(Genre::StructField, 2, 11, ""))]).unwrap();
        assert_eq!(
            plain(&made),
            "fn f(r: R) -> R { (match crate::mutant::out() { _ if !crate::mutant::among(&[1]) => \
             R { a: 1, b: 2, ..r }, _ => R { a: 1, ..r } }) }"
        );
    }

    #[test]
    fn a_chain_with_let_is_left_alone() {
        let text =
            "fn f(a: Option<u8>) -> u8 {\nif let Some(b) = a && b == 3 { 1 } else { 2 }\n}\n";
        let mutants = [
            mutant(Genre::BinaryOperator, 2, 20, "||"),
            mutant(Genre::BinaryOperator, 2, 25, "!="),
        ];
        let numbered: Vec<_> = mutants.iter().enumerate().map(|(n, m)| (n + 1, m)).collect();
        let (made, done) = put_in(text, &numbered).unwrap();
        assert_eq!(done, BTreeSet::from([2]));
        assert!(syn::parse_file(&made).is_ok(), "{made}");
    }
}
