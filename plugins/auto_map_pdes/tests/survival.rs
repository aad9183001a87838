//! Mapping: the same after every crash, one to one where asked, and ambiguous where two come close.

use auto_map_pdes::AutoMap;
use waymark_sdk::prelude::*;
use waymark_sdk::testing::{self, Crash, Harness, Run};

fn run(input: &Value) -> Run {
    let run = testing::assert_survives_anything::<AutoMap>(input);
    let yielding = Harness::new().always_yielding().crash(Crash::BetweenSteps).run::<AutoMap>(input);
    assert_eq!((&run.result, &run.outputs), (&yielding.result, &yielding.outputs));
    run
}

fn element(column: &str) -> Value {
    json!({"table": "t", "column": column})
}

/// Attribute, status and column of each mapping.
fn mapped(run: &Run) -> Vec<(String, String, Option<String>)> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let mappings = run.result.as_ref().unwrap()["mappings"].as_array().unwrap().iter();
    mappings
        .map(|one| (text(&one["attribute"]).unwrap(), text(&one["status"]).unwrap(), text(&one["column"])))
        .collect()
}

fn expected(all: &[(&str, &str, Option<&str>)]) -> Vec<(String, String, Option<String>)> {
    let own = |(attribute, status, column): &(&str, &str, Option<&str>)| {
        ((*attribute).to_owned(), (*status).to_owned(), column.map(str::to_owned))
    };
    all.iter().map(own).collect()
}

#[test]
fn the_shipped_input_finds_the_columns_of_the_mortgages() {
    let input: Value = include_str!("../input.json").parse().unwrap();
    let run = run(&input);
    let found = mapped(&run);
    for (attribute, column) in [
        ("Application denied", "deny"),
        ("Payment to income ratio", "pirat"),
        ("Housing expense to income ratio", "hirat"),
        ("Loan to value ratio", "lvrat"),
        ("Consumer credit history", "chist"),
        ("Mortgage credit history", "mhist"),
        ("Applicant single", "single"),
        ("Applicant self employed", "selfemp"),
    ] {
        let mapping = found.iter().find(|(name, ..)| name == attribute).unwrap();
        assert_eq!(mapping.2.as_deref(), Some(column), "{found:?}");
    }
    assert_eq!(found.last().map(|(_, status, _)| status.as_str()), Some("unmapped"), "{found:?}");
    assert_eq!(run.outputs.len(), 2 * found.len());
}

#[test]
fn each_for_itself_two_attributes_may_share_an_element_and_one_to_one_they_do_not() {
    let attributes = json!([{"name": "loan amount"}, {"name": "amount of the loan"}]);
    let catalogue = json!([element("loan_amt"), element("loan_amt_orig")]);
    let input = json!({"attributes": attributes, "catalogue": catalogue, "ambiguous_margin": 0});
    let shared = mapped(&run(&input));
    assert!(shared.iter().all(|(_, _, column)| column.as_deref() == Some("loan_amt")), "{shared:?}");
    let mut input = input;
    input["one_to_one"] = json!(true);
    let mut columns: Vec<_> = mapped(&run(&input)).into_iter().filter_map(|(_, _, column)| column).collect();
    columns.sort();
    assert_eq!(columns, ["loan_amt", "loan_amt_orig"]);
}

#[test]
fn the_assignment_gives_way_where_all_gain() {
    // Taken one after the other, the first would take the only good element of the second.
    let input = json!({
        "attributes": [{"name": "payment date"}, {"name": "date"}],
        "catalogue": [element("date"), element("payment_date")],
        "one_to_one": true, "min_confidence": 0.3,
    });
    let expected =
        expected(&[("payment date", "mapped", Some("payment_date")), ("date", "mapped", Some("date"))]);
    assert_eq!(mapped(&run(&input)), expected);
}

#[test]
fn two_that_come_close_are_ambiguous_and_a_type_decides_between_them() {
    let catalogue = |one: &str, other: &str| {
        json!([
            {"table": "a", "column": "open_dt", "data_type": one},
            {"table": "b", "column": "open_dt", "data_type": other},
        ])
    };
    let ask = |catalogue: Value| {
        let attributes = json!([{"name": "opening date", "data_type": "date"}]);
        run(&json!({"attributes": attributes, "catalogue": catalogue}))
    };
    let same = ask(catalogue("date", "date"));
    assert_eq!(mapped(&same), expected(&[("opening date", "ambiguous", Some("open_dt"))]));
    let reason = same.result.unwrap()["mappings"][0]["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("b.open_dt is close"), "{reason}");
    let other = ask(catalogue("integer", "date"));
    assert_eq!(mapped(&other)[0].1, "mapped");
    assert_eq!(other.result.unwrap()["mappings"][0]["table"], "b");
}

#[test]
fn what_is_critical_and_has_no_element_is_a_gap() {
    let input = json!({
        "attributes": [{"name": "branch", "critical": true}, {"name": "colour"}],
        "catalogue": [element("loan_amt")],
    });
    let result = run(&input).result.unwrap();
    assert_eq!((&result["gaps"], &result["elements_unused"]), (&json!(["branch"]), &json!(1)));
}

#[test]
fn what_does_not_fit_is_refused_with_the_reason() {
    let one = json!([{"name": "a"}]);
    for (input, says) in [
        (json!({"attributes": [], "catalogue": [element("a")]}), "no attributes"),
        (json!({"attributes": one, "catalogue": []}), "no elements in the catalogue"),
        (
            json!({"attributes": [{"name": "a"}, {"name": "a"}], "catalogue": [element("a")]}),
            "\"a\" is there twice",
        ),
        (json!({"attributes": one, "catalogue": [element("a")], "candidates_max": 9}), "must be 1 to 8"),
        (
            json!({"attributes": [{"name": "a", "data_type": "colour"}], "catalogue": [element("a")]}),
            "attributes[0].data_type",
        ),
    ] {
        match run(&input).result {
            Err(Failure::InvalidInput(message)) => assert!(message.contains(says), "{message}"),
            other => panic!("{input}: {other:?}"),
        }
    }
}
