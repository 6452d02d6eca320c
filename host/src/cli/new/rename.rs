//! A template under another name. Its name stands for the crate, the handler, its subjects, its
//! collection and its type; each of them has rules of its own for what a name may be.

/// Where the name of the handler or the crate stands as it is, and not as a collection's or a type's.
const BEFORE_THE_NAME: [&str; 7] =
    ["new(\"", "name = \"", "name=\"", "name: \"", "\"name\": \"", "\"handler\": \"", "handlers."];

/// The names that come of one: `my-shop`, `my_shop`, `MyShop`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Names {
    /// Of handler, crate and subjects.
    pub name: String,
    /// Of collections, modules and the built file.
    pub snake: String,
    /// Of types.
    pub camel: String,
}

impl Names {
    pub(super) fn of(name: &str) -> Names {
        let word = |word: &str| {
            let mut letters = word.chars();
            let first = letters.next().map(|c| c.to_ascii_uppercase());
            first.into_iter().chain(letters).collect::<String>()
        };
        Names {
            name: name.to_owned(),
            snake: name.replace('-', "_"),
            camel: name.split(['-', '_']).map(word).collect(),
        }
    }
}

/// The text with one set of names in place of the other.
pub(super) fn rename(text: &str, from: &Names, to: &Names) -> String {
    let mut renamed = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(is_word) {
        let end = rest[start..].find(|c| !is_word(c)).map_or(rest.len(), |n| start + n);
        renamed.push_str(&rest[..start]);
        let (word, after) = (&rest[start..end], &rest[end..]);
        renamed.push_str(match word {
            _ if word == from.camel => &to.camel,
            _ if word == from.name || word == from.snake => {
                let subject = after.starts_with('.')
                    && after[1..].starts_with(|c: char| !c.is_whitespace() && c != '`');
                let named = BEFORE_THE_NAME.iter().any(|before| renamed.ends_with(before));
                if subject || named { &to.name } else { &to.snake }
            }
            _ => word,
        });
        rest = after;
    }
    renamed + rest
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn renamed(text: &str) -> String {
        rename(text, &Names::of("items"), &Names::of("my-shop"))
    }

    #[test]
    fn each_kind_of_name_follows_its_rules() {
        for (text, expected) in [
            ("struct Items;", "struct MyShop;"),
            ("Description::new(\"items\", v)", "Description::new(\"my-shop\", v)"),
            ("Subscription::to(\"items.create\")", "Subscription::to(\"my-shop.create\")"),
            (".collection(\"items\")", ".collection(\"my_shop\")"),
            ("put items/7 {}", "put my_shop/7 {}"),
            ("name = \"items\"", "name = \"my-shop\""),
            ("name=\"items\", name: \"items\"", "name=\"my-shop\", name: \"my-shop\""),
            ("build/items.wasm", "build/my-shop.wasm"),
            ("\"handler\": \"items\"", "\"handler\": \"my-shop\""),
            ("[handlers.items.settings]", "[handlers.my-shop.settings]"),
            ("/// Document `items/<id>` of items.", "/// Document `my_shop/<id>` of my_shop."),
            ("items", "my_shop"),
            ("item my_items itemss", "item my_items itemss"),
        ] {
            assert_eq!(renamed(text), expected);
        }
    }

    #[test]
    fn names_are_derived() {
        let names = Names::of("a-b_c2");
        assert_eq!((names.snake.as_str(), names.camel.as_str()), ("a_b_c2", "ABC2"));
    }
}
