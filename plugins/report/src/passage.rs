//! Is a citation really there? Blanks, capitals, emphasis and the shape of quotes do not count.

/// Shortest citation that says anything, in characters.
const CHARACTERS_MIN: usize = 4;

/// The passage as it stands in the text, or nothing.
pub fn find<'a>(citation: &str, text: &'a str) -> Option<&'a str> {
    let wanted: String = folded(citation).into_iter().map(|(letter, _, _)| letter).collect();
    let wanted = wanted.trim();
    if wanted.chars().count() < CHARACTERS_MIN {
        return None;
    }
    let letters = folded(text);
    let whole: String = letters.iter().map(|(letter, _, _)| *letter).collect();
    let at = whole.find(wanted)?;
    let first = whole.get(..at)?.chars().count();
    let last = first + wanted.chars().count() - 1;
    let (_, from, _) = letters.get(first)?;
    let (_, _, to) = letters.get(last)?;
    text.get(*from..*to)
}

/// The letters that count, in small, and where each stands: from, to.
fn folded(text: &str) -> Vec<(char, usize, usize)> {
    let mut letters: Vec<(char, usize, usize)> = Vec::with_capacity(text.len());
    for (from, letter) in text.char_indices() {
        let to = from + letter.len_utf8();
        let letter = match letter {
            '*' | '_' | '`' => continue,
            '|' => ' ',
            '\u{2018}' | '\u{2019}' | '\u{201b}' => '\'',
            '\u{201c}' | '\u{201d}' | '\u{201e}' => '"',
            '\u{2010}'..='\u{2015}' => '-',
            letter if letter.is_whitespace() => ' ',
            letter => letter,
        };
        if letter == ' ' {
            // Blanks in a row are one.
            if letters.last().is_some_and(|(last, ..)| *last != ' ') {
                letters.push((' ', from, to));
            }
        } else {
            letters.extend(letter.to_lowercase().map(|letter| (letter, from, to)));
        }
    }
    letters
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_citation_is_found_however_it_is_set() {
        let text = "Report the **loan amount**,\n  in dollars. The borrower\u{2019}s income \u{2013} if any \u{2013} is optional.";
        for (citation, is) in [
            ("the loan amount, in dollars", Some("the **loan amount**,\n  in dollars")),
            ("Loan Amount", Some("loan amount")),
            ("in dollars. the borrower's income", Some("in dollars. The borrower\u{2019}s income")),
            ("income - if any - is", Some("income \u{2013} if any \u{2013} is")),
            ("  optional. ", Some("optional.")),
            ("report the rate", None),
            ("a", None),
            ("", None),
        ] {
            assert_eq!(find(citation, text), is, "{citation}");
        }
    }
}
