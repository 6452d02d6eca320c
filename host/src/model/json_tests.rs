use super::canonical as limited;

fn canonical(text: &str) -> Result<String, String> {
    limited(text, 1 << 20)
}

#[test]
fn text_is_written_as_jsonb_prints_it() {
    for (text, expected) in [
        ("{}", "{}"),
        (" [ ] ", "[]"),
        (r#"{"bb":1,"a":[1,2,{"x":null}]}"#, r#"{"a": [1, 2, {"x": null}], "bb": 1}"#),
        (r#"{"a":1,"a":2}"#, r#"{"a": 2}"#),
        (r#"{"a":1,"b":2,"a":3,"b":4,"c":5}"#, r#"{"a": 3, "b": 4, "c": 5}"#),
        (r#""\u00e9\ud83d\ude00\/\u001f\n""#, "\"é😀/\\u001f\\n\""),
        (r#"{"\u0061a":1,"b":2}"#, r#"{"b": 2, "aa": 1}"#),
        ("1.50", "1.50"),
        ("1e2", "100"),
        ("1.5e1", "15"),
        ("1.20e1", "12.0"),
        ("12e-3", "0.012"),
        ("-0.0", "0.0"),
        ("-1.0E+2", "-100"),
        ("0e5", "0"),
    ] {
        assert_eq!(canonical(text).as_deref(), Ok(expected), "{text}");
    }
}

#[test]
fn what_jsonb_cannot_hold_is_refused() {
    let deep = "[".repeat(200) + &"]".repeat(200);
    for bad in [
        "",
        "{",
        "nul",
        "01",
        "1.",
        "-",
        "\"",
        "\"\\u0000\"",
        "\"\\ud800\"",
        "\"\\ud800\\u0041\"",
        "{\"a\" 1}",
        "[1,]",
        "1 2",
        "1e400000",
        "1e-5000",
        "\"\u{1}\"",
        "{a:1}",
        "\"\\u12\"",
        &deep,
    ] {
        assert!(canonical(bad).is_err(), "{bad}");
    }
}

#[test]
fn numbers_do_not_explode() {
    let bomb = format!("[{}1]", "1e990,".repeat(10_000));
    assert!(canonical(&bomb).expect_err("refused").contains("1048576 bytes"));
}

#[test]
fn the_form_is_its_own() {
    let once = canonical(r#"{"z":[1.10,true,"x\"y"],"b":{"d":1,"c":2}}"#).expect("valid");
    assert_eq!(canonical(&once).as_deref(), Ok(once.as_str()));
}
