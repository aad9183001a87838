//! A text cut at its headings: Markdown's where there are any, else what a person sees as a heading in plain text.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Longest heading of plain text, characters.
const HEADING_CHARACTERS_MAX: usize = 100;
/// Words that begin a heading of plain text.
const HEADING_WORDS: [&str; 8] =
    ["section", "schedule", "part", "chapter", "appendix", "annex", "article", "item"];
/// What stands before the first heading.
const UNTITLED: &str = "(before the first heading)";

/// A section, or a part of a long one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Section {
    /// Headings from the outermost to its own, with ` > ` between; once in a text.
    pub name: String,
    /// What stands below its own heading, before the next.
    pub text: String,
}

/// Cuts a text; sections without a word are left out, longer ones than `bytes_max` are cut at paragraphs.
pub fn cut(text: &str, bytes_max: usize) -> Vec<Section> {
    let lines: Vec<&str> = text.lines().collect();
    let markdown = headings(&lines, markdown);
    let headings = if markdown.is_empty() { headings(&lines, plain) } else { markdown };
    let mut path: Vec<(usize, String)> = Vec::new();
    let mut sections = Vec::new();
    let mut names: BTreeMap<String, usize> = BTreeMap::new();
    let mut add = |path: &[(usize, String)], lines: &[&str]| {
        let body = lines.join("\n");
        if !body.chars().any(char::is_alphanumeric) {
            return;
        }
        let titles: Vec<&str> = path.iter().map(|(_, title)| title.as_str()).collect();
        let name = if titles.is_empty() { UNTITLED.to_owned() } else { titles.join(" > ") };
        let seen = names.entry(name.clone()).or_default();
        *seen += 1;
        let name = if *seen > 1 { format!("{name} ({seen})") } else { name };
        let parts = parts(body.trim(), bytes_max);
        let many = parts.len() > 1;
        sections.extend(parts.into_iter().enumerate().map(|(at, text)| Section {
            name: if many { format!("{name}, part {}", at + 1) } else { name.clone() },
            text,
        }));
    };
    let mut from = 0;
    for heading in headings {
        add(&path, lines.get(from..heading.line).unwrap_or_default());
        path.retain(|(level, _)| *level < heading.level);
        path.push((heading.level, heading.title));
        from = heading.line + heading.lines;
    }
    add(&path, lines.get(from..).unwrap_or_default());
    sections
}

struct Heading {
    line: usize,
    /// Lines that it takes.
    lines: usize,
    level: usize,
    title: String,
}

fn headings(lines: &[&str], of: fn(&[&str], usize) -> Option<Heading>) -> Vec<Heading> {
    let mut found: Vec<Heading> = Vec::new();
    let mut fence: Option<&str> = None;
    for (at, line) in lines.iter().enumerate() {
        let mark = ["```", "~~~"].into_iter().find(|mark| line.trim_start().starts_with(mark));
        match (fence, mark) {
            (None, Some(mark)) => fence = Some(mark),
            (Some(open), Some(mark)) if open == mark => fence = None,
            (Some(_), _) => {}
            (None, None) => found.extend(of(lines, at)),
        }
    }
    found
}

fn markdown(lines: &[&str], at: usize) -> Option<Heading> {
    let line = lines.get(at)?;
    let indented = line.len() - line.trim_start_matches(' ').len() > 3;
    let level = line.trim_start().bytes().take_while(|byte| *byte == b'#').count();
    if !indented && (1..=6).contains(&level) {
        let rest = line.trim_start().get(level..)?;
        let title = rest.trim().trim_end_matches('#').trim();
        let heading = rest.starts_with([' ', '\t']) && !title.is_empty();
        return heading.then(|| Heading { line: at, lines: 1, level, title: title.to_owned() });
    }
    // A title with a line of = or - below it. What looks like a list or a table is none.
    let below = lines.get(at + 1)?.trim_end();
    let level = match (below.len() >= 3, below.bytes().next()) {
        (true, Some(b'=')) if below.bytes().all(|byte| byte == b'=') => 1,
        (true, Some(b'-')) if below.bytes().all(|byte| byte == b'-') => 2,
        _ => return None,
    };
    let title = line.trim();
    let alone = at.checked_sub(1).and_then(|before| lines.get(before)).is_none_or(|l| l.trim().is_empty());
    let heading = alone && !indented && !title.is_empty() && !title.starts_with(['-', '*', '+', '|', '>']);
    heading.then(|| Heading { line: at, lines: 2, level, title: title.to_owned() })
}

fn plain(lines: &[&str], at: usize) -> Option<Heading> {
    let line = lines.get(at)?.trim();
    let blank = |line: Option<&&str>| line.is_none_or(|line| line.trim().is_empty());
    let alone = at == 0 || blank(lines.get(at - 1));
    if !alone || line.chars().count() > HEADING_CHARACTERS_MAX || line.ends_with(['.', ',', ';', ':']) {
        return None;
    }
    let heading = |level| Some(Heading { line: at, lines: 1, level, title: line.to_owned() });
    let mut words = line.split_whitespace();
    let first = words.next()?;
    let second = words.next();
    // `1.2 Title`, with nothing but a blank line before what follows: else it is an item of a list.
    let number = first.trim_end_matches(['.', ')']);
    let numbered = !number.is_empty()
        && number.split('.').all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()));
    if numbered && second.is_some_and(|word| word.starts_with(char::is_uppercase)) && blank(lines.get(at + 1))
    {
        return heading(number.split('.').count() + 1);
    }
    if HEADING_WORDS.contains(&first.to_lowercase().as_str())
        && second
            .is_some_and(|word| word.starts_with(|letter: char| letter.is_numeric() || letter.is_uppercase()))
    {
        return heading(1);
    }
    let letters = line.chars().filter(|letter| letter.is_alphabetic());
    let capitals = letters.clone().count() >= 4 && letters.clone().all(char::is_uppercase);
    if capitals { heading(1) } else { None }
}

/// A text in parts of at most so many bytes, cut at blank lines, else at line ends, else anywhere between letters.
fn parts(text: &str, bytes_max: usize) -> Vec<String> {
    let mut parts = Vec::new();
    let mut rest = text;
    while rest.len() > bytes_max {
        let most = rest.floor_char_boundary(bytes_max);
        let within = rest.get(..most).unwrap_or_default();
        let at = within.rfind("\n\n").or_else(|| within.rfind('\n')).or_else(|| within.rfind(' '));
        // A letter is never longer than a part.
        let at = at.filter(|at| *at > 0).unwrap_or(most.max(rest.chars().next().map_or(1, char::len_utf8)));
        let (part, after) = rest.split_at(at);
        parts.push(part.trim().to_owned());
        rest = after.trim_start();
    }
    if !rest.is_empty() {
        parts.push(rest.trim_end().to_owned());
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        cut(text, 10_000).into_iter().map(|section| section.name).collect()
    }

    #[test]
    fn markdown_is_cut_at_its_headings_and_not_within_fences() {
        let text = "Before.\n# A #\nof a\n## B\nof b\n```\n# no heading\n```\n\nTitle\n-----\nof title\n# C\n\n# D\nof d\n## B\nagain\n# D\nonce more\n#no";
        assert_eq!(
            names(text),
            [UNTITLED, "A", "A > B", "A > Title", "D", "D > B", "D (2)"],
            "C has no text, and each name is there once"
        );
        let sections = cut(text, 10_000);
        assert!(sections[2].text.contains("# no heading"));
        assert_eq!(sections[6].text, "once more\n#no");
    }

    #[test]
    fn plain_text_is_cut_where_a_person_sees_a_heading() {
        let text = "INSTRUCTIONS FOR LENDERS\n\nRead this.\n\n1. General\n\nWords.\n\n1.1 Loan Data\n\n1. Amount\n2. Term\n\nSchedule B – Borrowers\nIncome.\n\nThis is a sentence.\nUSA\n";
        assert_eq!(
            names(text),
            [
                "INSTRUCTIONS FOR LENDERS",
                "INSTRUCTIONS FOR LENDERS > 1. General",
                "INSTRUCTIONS FOR LENDERS > 1. General > 1.1 Loan Data",
                "Schedule B – Borrowers",
            ],
            "items of a list are no headings"
        );
    }

    #[test]
    fn a_long_section_is_cut_at_paragraphs() {
        let text = format!("# A\n{}\n\n{}\n\n{}", "x".repeat(40), "ü".repeat(60), "z ".repeat(10));
        let sections = cut(&text, 50);
        assert!(sections.iter().all(|section| section.text.len() <= 50), "{sections:?}");
        assert_eq!(sections[0].name, "A, part 1");
        let all: String = sections.iter().map(|section| section.text.as_str()).collect();
        assert_eq!(all.matches('ü').count(), 60, "nothing is lost");
        assert!(cut("", 50).is_empty() && cut("# only\n\n---", 50).is_empty());
    }
}
