//! Attributes found without a model: rows of tables, and items of lists that begin with a name.

use waymark_report::words::cut;
use waymark_report::{Attribute, DataType};

use crate::sections::Section;

/// Longest name, in words: what is longer is a sentence.
const NAME_WORDS_MAX: usize = 8;

/// The attributes of a section, in its order.
pub fn attributes(section: &Section) -> Vec<Attribute> {
    let mut found = Vec::new();
    let mut header: Option<Vec<String>> = None;
    for line in section.text.lines() {
        let line = line.trim();
        let row = cells(line);
        if row.is_empty() {
            header = None;
            found.extend(item(line, section));
            continue;
        }
        match &header {
            None => header = Some(row.iter().map(|cell| cell.to_lowercase()).collect()),
            // The line below a header.
            Some(_) if row.iter().all(|cell| cell.chars().all(|letter| "-: ".contains(letter))) => {}
            Some(header) => found.extend(of_row(header, &row, line, section)),
        }
    }
    found
}

fn cells(line: &str) -> Vec<&str> {
    match line.strip_prefix('|') {
        Some(rest) => rest.trim_end_matches('|').split('|').map(str::trim).collect(),
        None => Vec::new(),
    }
}

fn of_row(header: &[String], row: &[&str], line: &str, section: &Section) -> Option<Attribute> {
    let column = |names: &[&str]| {
        let at = header.iter().position(|title| names.iter().any(|name| title.contains(name)))?;
        row.get(at).copied().filter(|cell| !cell.is_empty())
    };
    let name = column(&["attribute", "field", "data element", "line item", "item", "name"])?;
    let description = column(&["description", "definition", "meaning", "instruction"]);
    let yes = |cell: Option<&str>| {
        cell.is_some_and(|cell| cell.starts_with(['y', 'Y', 'm', 'M', 'x', 'X', 't', 'T', '✓']))
    };
    let data_type = column(&["type", "format"]).and_then(DataType::named);
    let text = description.unwrap_or_default();
    Some(Attribute {
        name: plain(name),
        description: description.map(plain),
        data_type: data_type.or_else(|| by_name(name)),
        mandatory: yes(column(&["mandatory", "required"])) || is_mandatory(text),
        critical: yes(column(&["critical", "cde"])) || is_critical(text),
        section: Some(section.name.clone()),
        citation: Some(line.to_owned()),
    })
}

/// `- **Name** (type, mandatory): what it means`.
fn item(line: &str, section: &Section) -> Option<Attribute> {
    let body = line.strip_prefix(['-', '*', '+', '•']).map(str::trim_start).or_else(|| {
        let number = line.split(['.', ')']).next()?;
        let numbered =
            !number.is_empty() && number.len() <= 3 && number.bytes().all(|byte| byte.is_ascii_digit());
        if numbered { line.get(number.len() + 1..).map(str::trim_start) } else { None }
    })?;
    let (head, description) = [": ", " – ", " — ", " - "].iter().find_map(|mark| body.split_once(mark))?;
    let (name, remarks) = match head.split_once('(') {
        Some((name, remarks)) => (name, remarks.trim_end_matches(['*', ')', ' '])),
        None => (head, ""),
    };
    let name = plain(name);
    let words = name.split_whitespace().count();
    if words == 0 || words > NAME_WORDS_MAX {
        return None;
    }
    let data_type = remarks.split([',', ';']).find_map(DataType::named).or_else(|| by_name(&name));
    let whole = format!("{remarks}, {description}");
    Some(Attribute {
        data_type,
        mandatory: is_mandatory(&whole),
        critical: is_critical(&whole),
        name,
        description: Some(plain(description)),
        section: Some(section.name.clone()),
        citation: Some(line.to_owned()),
    })
}

/// Without emphasis.
fn plain(text: &str) -> String {
    text.replace(['*', '`'], "").trim().to_owned()
}

fn is_mandatory(text: &str) -> bool {
    let text = text.to_lowercase();
    let asked = ["mandatory", "required", "must "].iter().any(|word| text.contains(word));
    asked && !text.contains("optional") && !text.contains("not required") && !text.contains("not mandatory")
}

fn is_critical(text: &str) -> bool {
    let text = text.to_lowercase();
    (text.contains("critical") && !text.contains("not critical"))
        || text.split(|letter: char| !letter.is_alphanumeric()).any(|word| word == "cde")
}

/// What the last telling word of a name says of its values.
fn by_name(name: &str) -> Option<DataType> {
    cut(name).iter().rev().find_map(|word| match word.as_str() {
        "date" | "day" | "dob" => Some(DataType::Date),
        "amount" | "balance" | "income" | "price" | "fee" | "payment" => Some(DataType::Amount),
        "ratio" | "score" => Some(DataType::Decimal),
        "rate" | "percentage" | "percent" => Some(DataType::Percentage),
        "flag" | "indicator" => Some(DataType::Boolean),
        "code" | "type" | "category" | "status" => Some(DataType::Code),
        "count" => Some(DataType::Integer),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_and_lists_have_attributes_and_sentences_have_none() {
        let text = "The lender must report: everything.\n\n| Field | Type | Definition | Required |\n|---|---|---|---|\n| Loan amount | currency | What was borrowed | yes |\n| Purpose | code | Why | no |\n\n- **Decision date** (date, mandatory): the day of the decision; a CDE\n- Read it again: and again\n1. Branch code – optional, not required\n- one two three four five six seven eight nine: too long";
        let section = Section { name: "A".into(), text: text.into() };
        let found = attributes(&section);
        let told: Vec<_> =
            found.iter().map(|one| (one.name.as_str(), one.data_type, one.mandatory, one.critical)).collect();
        let expected = [
            ("Loan amount", Some(DataType::Amount), true, false),
            ("Purpose", Some(DataType::Code), false, false),
            ("Decision date", Some(DataType::Date), true, true),
            ("Read it again", None, false, false),
            ("Branch code", Some(DataType::Code), false, false),
        ];
        assert_eq!(told, expected);
        assert!(
            found.iter().all(|one| one.citation.as_ref().is_some_and(|line| text.contains(line.as_str())))
        );
    }
}
