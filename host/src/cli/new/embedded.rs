//! What goes into a new project, taken from this repository when tribox is built: the SDK, the contract
//! and the guests that projects start from. They are the files that the test suite tests, so that a
//! new project cannot lag behind them; a test compares these lists with what is there.

/// A file as it stands in the repository.
#[derive(Debug, Clone, Copy)]
pub(super) struct File {
    /// Below the directory that it is listed for.
    pub path: &'static str,
    pub text: &'static str,
}

/// A guest that a project can start from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Template {
    /// The guest's directory, which is also its handler's name.
    pub name: &'static str,
    pub files: &'static [File],
}

macro_rules! files {
    ($place:literal: $($path:literal),+ $(,)?) => {
        &[$(File {
            path: $path,
            text: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../", $place, "/", $path)),
        }),+]
    };
}

/// The manifest that those of the guests inherit from.
pub(super) const WORKSPACE: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"));

/// How components in Rust are built.
pub(super) const CARGO: &[File] = files![".": ".cargo/config.toml"];

pub(super) const WIT: &[File] = files!["wit":
    "deps/config/package.wit", "deps/config/store.wit", "handler.wit",
];

pub(super) const SDK: &[File] = files!["guests/sdk":
    "Cargo.toml",
    "README.md",
    "src/arena.rs",
    "src/bindings.rs",
    "src/description.rs",
    "src/documents.rs",
    "src/effects.rs",
    "src/export.rs",
    "src/failure.rs",
    "src/host.rs",
    "src/lib.rs",
    "src/message.rs",
    "src/print.rs",
    "src/settings.rs",
    "src/testing/incoming.rs",
    "src/testing/mod.rs",
    "src/testing/names.rs",
    "src/testing/rules.rs",
    "src/testing/snapshot.rs",
    "src/testing/subject.rs",
    "src/testing/world.rs",
];

/// The first one is the usual one.
pub(super) const RUST: &[Template] = &[
    Template {
        name: "items",
        files: files!["guests/items":
            "Cargo.toml",
            "cases/an-id-is-taken-once.json",
            "cases/an-item-is-created.json",
            "src/lib.rs",
        ],
    },
    Template {
        name: "accounts",
        files: files!["guests/accounts":
            "Cargo.toml",
            "cases/a-balance-has-its-limits.json",
            "cases/a-credit-opens-an-account.json",
            "cases/a-credit-takes-the-deadline-back.json",
            "cases/a-deadline-that-is-out-of-date-does-nothing.json",
            "cases/a-debit-is-booked.json",
            "cases/a-low-balance-is-not-told-again.json",
            "cases/a-low-balance-is-told.json",
            "cases/a-payload-that-is-no-json-is-rejected.json",
            "cases/a-payload-without-an-amount-is-rejected.json",
            "cases/a-threshold-that-is-no-number-is-a-retry.json",
            "cases/an-amount-is-a-whole-number.json",
            "cases/an-amount-must-be-above-zero.json",
            "cases/an-overdrawn-account-gets-a-deadline.json",
            "cases/the-deadline-blocks-the-account.json",
            "src/lib.rs",
            "src/tests.rs",
        ],
    },
    Template {
        name: "orders",
        files: files!["guests/orders":
            "Cargo.toml",
            "cases/a-second-item-is-not-the-first.json",
            "cases/nothing-is-no-item.json",
            "cases/the-first-item-is-told-apart.json",
            "src/lib.rs",
        ],
    },
    Template {
        name: "bookings",
        files: files!["guests/bookings":
            "Cargo.toml",
            "cases/a-booking-is-requested.json",
            "cases/a-confirmation-is-told-and-mailed.json",
            "cases/a-confirmation-waits-for-its-request.json",
            "cases/a-second-confirmation-does-nothing.json",
            "src/lib.rs",
        ],
    },
    Template {
        name: "baskets",
        files: files!["guests/baskets":
            "Cargo.toml",
            "cases/a-new-price-reaches-every-basket.json",
            "cases/a-product-is-added.json",
            "cases/an-old-price-does-nothing.json",
            "src/lib.rs",
            "src/tests.rs",
        ],
    },
    Template {
        name: "purchases",
        files: files!["guests/purchases":
            "Cargo.toml",
            "cases/an-answer-before-its-question-waits.json",
            "cases/an-order-asks-the-stock.json",
            "cases/late-money-goes-back.json",
            "cases/patience-is-a-setting.json",
            "cases/what-is-not-paid-in-time-is-undone.json",
            "cases/what-is-reserved-is-to-be-paid.json",
            "src/lib.rs",
            "src/tests.rs",
        ],
    },
];

pub(super) const PYTHON: &[Template] = &[
    Template {
        name: "items",
        files: files!["guests/python-items":
            "Makefile",
            "app.py",
            "requirements.txt",
            "tribox.py",
        ],
    },
    Template {
        name: "accounts",
        files: files!["guests/python-accounts":
            "Makefile",
            "app.py",
            "requirements.txt",
            "tribox.py",
        ],
    },
];

pub(super) const JAVASCRIPT: &[Template] = &[
    Template {
        name: "items",
        files: files!["guests/javascript-items":
            "handler.js",
            "package.json",
            "tribox.d.ts",
            "tribox.js",
        ],
    },
    Template {
        name: "accounts",
        files: files!["guests/javascript-accounts":
            "handler.js",
            "package.json",
            "tribox.d.ts",
            "tribox.js",
        ],
    },
];

pub(super) const TYPESCRIPT: &[Template] = &[
    Template {
        name: "items",
        files: files!["guests/typescript-items":
            "handler.ts",
            "package.json",
            "tribox.d.ts",
            "tribox.js",
            "tsconfig.json",
        ],
    },
    Template {
        name: "accounts",
        files: files!["guests/typescript-accounts":
            "handler.ts",
            "package.json",
            "tribox.d.ts",
            "tribox.js",
            "tsconfig.json",
        ],
    },
];

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Files below a directory, in order; `target` and what tools leave behind are none of it.
    #[expect(clippy::disallowed_methods, reason = "a test reads its own repository")]
    fn below(top: &Path, inside: &Path, found: &mut Vec<String>) {
        let mut entries: Vec<_> =
            std::fs::read_dir(top.join(inside)).unwrap().map(|e| e.unwrap().path()).collect();
        entries.sort();
        for entry in entries {
            let path = entry.strip_prefix(top).unwrap();
            // A `wit` in a guest is a link to the contract.
            let skipped = ["tests", "target", "node_modules", "__pycache__", "build", "wit"];
            if skipped.iter().any(|name| entry.ends_with(name)) {
                continue;
            }
            if entry.is_dir() {
                below(top, path, found);
            } else {
                found.push(path.display().to_string());
            }
        }
    }

    #[test]
    fn nothing_is_left_out() {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let of = |prefix: &'static str, templates: &'static [Template]| {
            let place = move |t: &Template| (format!("guests/{prefix}{}", t.name), t.files);
            templates.iter().map(place)
        };
        let guests = of("", RUST).chain(of("python-", PYTHON)).chain(of("javascript-", JAVASCRIPT));
        let guests = guests.chain(of("typescript-", TYPESCRIPT));
        for (place, files) in
            guests.chain([("guests/sdk".to_owned(), SDK), ("wit".to_owned(), WIT)])
        {
            let mut found = Vec::new();
            below(&repository.join(&place), Path::new(""), &mut found);
            let listed: Vec<&str> = files.iter().map(|file| file.path).collect();
            assert_eq!(listed, found, "{place} is listed in host/src/cli/new/embedded.rs");
        }
    }
}
