//! A value in a text: what stands behind its label, up to the end of the line or of the table's cell.

use regex::Regex;

/// Longest value that is taken, in characters: what is longer is a sentence and no value.
const VALUE_CHARACTERS_MAX: usize = 80;

/// The value behind the first of these labels that the text has: `Loan amount: $1,200`, `| Loan amount | $1,200 |`.
pub fn value(text: &str, labels: &[String]) -> Option<String> {
    labels.iter().find_map(|label| behind(text, label))
}

fn behind(text: &str, label: &str) -> Option<String> {
    // Words of the label may be apart by any blanks, even by a line's end.
    let words: Vec<String> = label.split_whitespace().map(regex::escape).collect();
    if words.is_empty() {
        return None;
    }
    let pattern = format!(
        r"(?im)(?:^|[\s|*_])({})[*_]*\s*(?:[:=|]|\.{{2,}}|\t)[*_]*[ \t]*([^\r\n|]+)",
        words.join(r"\s+")
    );
    let value = Regex::new(&pattern).ok()?.captures(text)?.get(2)?.as_str();
    let value = value.trim().trim_matches(['*', '_', '`']).trim().trim_end_matches([';', '.']);
    (!value.is_empty() && value.chars().count() <= VALUE_CHARACTERS_MAX).then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_stands_behind_its_label() {
        let text = "Application 17\nLoan  Amount: $ 1,200.50\n| Term | 30 years |\n**Rate** = 4.5 %;\nDenied ..... no\n";
        for (label, is) in [
            ("loan amount", Some("$ 1,200.50")),
            ("term", Some("30 years")),
            ("Rate", Some("4.5 %")),
            ("denied", Some("no")),
            ("amount", Some("$ 1,200.50")),
            ("Branch", None),
        ] {
            assert_eq!(value(text, &[label.to_owned()]).as_deref(), is, "{label}");
        }
    }
}
