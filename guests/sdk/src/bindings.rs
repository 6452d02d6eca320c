//! The contract of `wit/handler.wit` as Rust types, made by `wit-bindgen`. The crate root
//! re-exports what a handler uses; `export!` uses the rest. Nothing here is written by hand, so
//! that the contract has one text.

wit_bindgen::generate!({
    path: "wit",
    world: "plugin",
    generate_all,
    additional_derives: [PartialEq, Eq],
    additional_type_attributes: { "tribox:handler/types@0.1.0/effects": [#[derive(Default)]] },
    pub_export_macro: true,
    export_macro_name: "export_component",
});
