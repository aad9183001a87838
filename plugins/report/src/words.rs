//! How alike two names are: `loan_amt` and "Loan Amount", `cust_dob` and "Borrower's date of birth".
//!
//! A name is cut into words, abbreviations are written out, and words that mean the same are made one. Words are then
//! paired by their spelling (Jaro-Winkler), each counting by how rarely it occurs among all names.

use std::collections::{BTreeMap, BTreeSet};

/// Spelling below which two words have nothing to do with each other.
const SPELLING_MIN: f64 = 0.86;

/// Words that say nothing about what a name means.
const EMPTY: &str = "a an and as at by for from if in is its of on or per s that the this to which with";

/// Abbreviations and what they are short for; a word may be short for several.
const SHORT: &str = "acct account;addr address;amt amount;appl application;appr approval;apr annual percentage rate;\
avg average;bal balance;br branch;brw borrower;cat category;cd code;chg change;cnt count;ctry country;cur currency;\
curr currency;cust customer;dec decision;desc description;dob date birth;dpd days past due;dt date;dti debt income;\
emp employment;exp expiry;fico credit score;fn first name;freq frequency;gndr gender;hist history;id identifier;\
inc income;ind indicator;ins insurance;inst institution;int interest;ln loan;loc location;ltv loan value;mat maturity;\
max maximum;mi mortgage insurance;min minimum;mo month;mort mortgage;nbr number;nm name;no number;num number;\
occ occupancy;orig origination;ovrd overdue;pct percentage;pd paid;perc percentage;pmt payment;prc price;prin principal;\
prod product;prop property;purp purpose;qty quantity;rat ratio;ref reference;sfx suffix;ssn social security number;\
st state;sta status;stat status;tel telephone;tm time;tot total;txn transaction;typ type;unemp unemployment;upd update;\
val value;yr year;zip postal code";

/// Words that mean the same, the first standing for all.
const SAME: &str = "amount sum value;borrower applicant customer client obligor;identifier key number reference;\
indicator flag;denied rejected declined refused;approved granted accepted;begin start open opening origination;\
end close closing maturity expiry termination;payment installment instalment repayment;rate ratio percentage share;\
income salary earnings;property collateral house housing home;race ethnicity;sex gender;type kind category class;\
date day;single unmarried;balance outstanding";

/// Abbreviations and synonyms, the built-in ones and a caller's.
#[derive(Debug, Clone)]
pub struct Vocabulary {
    short: BTreeMap<String, Vec<String>>,
    same: BTreeMap<String, String>,
    empty: BTreeSet<String>,
}

impl Vocabulary {
    /// The built-in words, with a caller's abbreviations (`{"hmda": "home mortgage"}`) and groups of synonyms; the
    /// caller's go first.
    pub fn new(abbreviations: &BTreeMap<String, String>, synonyms: &[Vec<String>]) -> Self {
        let mut vocabulary = Self {
            short: BTreeMap::new(),
            same: BTreeMap::new(),
            empty: EMPTY.split(' ').map(str::to_owned).collect(),
        };
        for entry in SHORT.split(';') {
            let mut words = entry.split(' ').map(str::to_owned);
            if let Some(short) = words.next() {
                vocabulary.short.insert(short, words.collect());
            }
        }
        for (short, long) in abbreviations {
            vocabulary.short.insert(short.to_lowercase(), cut(long));
        }
        let built_in = SAME.split(';').map(|group| group.split(' ').map(str::to_owned).collect::<Vec<_>>());
        for group in synonyms.iter().cloned().chain(built_in) {
            let words: Vec<String> = group.iter().filter_map(|word| cut(word).into_iter().next()).collect();
            let Some(first) = words.first().cloned() else { continue };
            for word in words {
                vocabulary.same.entry(stem(&word)).or_insert_with(|| stem(&first));
            }
        }
        vocabulary
    }

    /// The words of a name, written out and in the singular, in order.
    pub fn spelled(&self, name: &str) -> Vec<String> {
        let mut words = Vec::new();
        for word in cut(name) {
            match self.short.get(&word) {
                Some(long) => words.extend(long.iter().cloned()),
                None => words.push(word),
            }
        }
        words.retain(|word| !self.empty.contains(word));
        words.iter().map(|word| stem(word)).collect()
    }

    /// The same with words that mean the same made one, without repeats.
    pub fn words(&self, name: &str) -> Vec<String> {
        let mut seen = BTreeSet::new();
        self.spelled(name)
            .into_iter()
            .map(|word| self.same.get(&word).cloned().unwrap_or(word))
            .filter(|word| seen.insert(word.clone()))
            .collect()
    }
}

/// How much each word counts: the more names have it, the less.
#[derive(Debug, Clone, Default)]
pub struct Weights {
    names: f64,
    having: BTreeMap<String, f64>,
}

impl Weights {
    /// Weighs the words of all these names.
    pub fn new<'a>(names: impl IntoIterator<Item = &'a [String]>) -> Self {
        let mut weights = Self::default();
        for words in names {
            weights.names += 1.0;
            for word in words {
                *weights.having.entry(word.clone()).or_default() += 1.0;
            }
        }
        weights
    }

    fn of(&self, word: &str) -> f64 {
        let having = self.having.get(word).copied().unwrap_or(0.0);
        // Between 1 for a word that only one name has, and some tenths for one that all have.
        1.0 / (1.0 + having / (1.0 + self.names / 8.0))
    }
}

/// Two lists of words compared.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Likeness {
    /// 0 nothing in common, 1 the same words.
    pub score: f64,
    /// Words of the first that the second has too.
    pub common: Vec<String>,
}

/// How alike two lists of words are: the weight of the words in common, twice, by the weight of all.
pub fn likeness(one: &[String], other: &[String], weights: &Weights) -> Likeness {
    let mut free: Vec<&String> = other.iter().collect();
    let mut common = Vec::new();
    let mut shared = 0.0;
    for word in one {
        let best = free.iter().enumerate().map(|(at, candidate)| (at, spelling(word, candidate)));
        let best = best.max_by(|left, right| left.1.total_cmp(&right.1).then(right.0.cmp(&left.0)));
        if let Some((at, spelling)) = best.filter(|(_, spelling)| *spelling >= SPELLING_MIN) {
            let candidate = free.remove(at);
            shared += spelling * (weights.of(word) + weights.of(candidate));
            common.push(word.clone());
        }
    }
    let all: f64 = one.iter().chain(other).map(|word| weights.of(word)).sum();
    let score = if all > 0.0 { (shared / all).min(1.0) } else { 0.0 };
    Likeness { score, common }
}

fn spelling(one: &str, other: &str) -> f64 {
    if one == other {
        return 1.0;
    }
    // A number or a very short word is that word or another.
    let short = one.chars().count().min(other.chars().count()) < 4;
    if short || one.bytes().all(|byte| byte.is_ascii_digit()) {
        0.0
    } else {
        strsim::jaro_winkler(one, other)
    }
}

/// Cuts at everything that is no letter or digit, where small letters are followed by a capital, and between letters
/// and digits; all in small letters.
pub fn cut(name: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut before = ' ';
    let mut letters = name.chars().peekable();
    while let Some(letter) = letters.next() {
        if !letter.is_alphanumeric() {
            before = ' ';
            continue;
        }
        let next_small = letters.peek().is_some_and(|next| next.is_lowercase());
        let begins = !before.is_alphanumeric()
            || (before.is_lowercase() && letter.is_uppercase())
            || (before.is_uppercase() && letter.is_uppercase() && next_small)
            || before.is_numeric() != letter.is_numeric();
        if begins {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut() {
            word.extend(letter.to_lowercase());
        }
        before = letter;
    }
    words
}

/// The singular of an English plural, about.
fn stem(word: &str) -> String {
    let long = word.len() > 3;
    match word.strip_suffix("ies") {
        Some(base) if long => format!("{base}y"),
        _ => match word.strip_suffix('s') {
            Some(base) if long && !base.ends_with('s') && !base.ends_with('u') => base.to_owned(),
            _ => word.to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alike(one: &str, other: &str) -> f64 {
        let vocabulary = Vocabulary::new(&BTreeMap::new(), &[]);
        let (one, other) = (vocabulary.words(one), vocabulary.words(other));
        likeness(&one, &other, &Weights::default()).score
    }

    #[test]
    fn names_are_cut_where_a_person_sees_words() {
        assert_eq!(cut("LoanAmt_USD2"), ["loan", "amt", "usd", "2"]);
        assert_eq!(cut("HMDAReport id"), ["hmda", "report", "id"]);
    }

    #[test]
    fn abbreviations_and_synonyms_are_the_same_words() {
        for (one, other) in [
            ("ln_amt", "Loan Amount"),
            ("cust_dob", "Borrower's date of birth"),
            ("ApplicantIncome", "salary of the customer"),
            ("pmt_dt", "payment dates"),
        ] {
            assert!((alike(one, other) - 1.0).abs() < 1e-9, "{one}, {other}: {}", alike(one, other));
        }
        assert!(alike("loan amount", "branch code") < 0.01);
        assert!(alike("loan amount", "loan purpose") > 0.2);
    }

    #[test]
    fn a_callers_words_go_before_the_built_in_ones() {
        let abbreviations = BTreeMap::from([("amt".to_owned(), "amateur".to_owned())]);
        let synonyms = [vec!["dwelling".to_owned(), "flat".to_owned()]];
        let vocabulary = Vocabulary::new(&abbreviations, &synonyms);
        assert_eq!(vocabulary.words("amt of flats"), ["amateur", "dwelling"]);
    }

    #[test]
    fn a_word_that_every_name_has_counts_little() {
        let names = ["loan amount", "loan purpose", "loan term"].map(cut);
        let weights = Weights::new(names.iter().map(Vec::as_slice));
        let common = likeness(&names[0], &names[1], &weights).score;
        assert!(common < likeness(&names[0], &names[1], &Weights::default()).score);
    }
}
