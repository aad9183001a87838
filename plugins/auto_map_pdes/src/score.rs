//! How likely it is that an element holds an attribute: by the words of names and descriptions, and by type.

use waymark_report::words::{Likeness, Vocabulary, Weights, likeness};
use waymark_report::{Attribute, DataType};

use crate::{CANDIDATES_MAX, Candidate, Input, type_of};

/// What an unknown type counts: a little less than one that fits.
const TYPE_UNKNOWN: f64 = 0.9;
/// Candidates below this are no candidates.
const CONFIDENCE_MIN: f64 = 0.15;

/// The catalogue made ready to be compared with.
#[derive(Debug)]
pub struct Ready {
    vocabulary: Vocabulary,
    weights: Weights,
    elements: Vec<Element>,
}

#[derive(Debug)]
struct Element {
    column: Vec<String>,
    /// Words of table and column.
    whole: Vec<String>,
    description: Vec<String>,
    data_type: Option<DataType>,
}

impl Ready {
    /// Cuts all names into words.
    pub fn new(plan: &Input) -> Self {
        let vocabulary = Vocabulary::new(&plan.abbreviations, &plan.synonyms);
        let element = |pde: &crate::Pde| Element {
            column: vocabulary.words(&pde.column),
            whole: vocabulary.words(&format!("{} {}", pde.table, pde.column)),
            description: vocabulary.words(pde.description.as_deref().unwrap_or_default()),
            data_type: type_of(pde),
        };
        let elements: Vec<Element> = plan.catalogue.iter().map(element).collect();
        let weights = Weights::new(elements.iter().map(|element| element.column.as_slice()));
        Self { vocabulary, weights, elements }
    }

    /// The best candidates for an attribute, the best first; the same elements in the same order on every host.
    pub fn candidates(&self, attribute: &Attribute, plan: &Input) -> Vec<Candidate> {
        let name = self.vocabulary.words(&attribute.name);
        let description = self.vocabulary.words(attribute.description.as_deref().unwrap_or_default());
        let mut scored: Vec<(usize, f64, String)> = (self.elements.iter().enumerate())
            .map(|(index, element)| {
                let (confidence, reason) = self.compare(&name, &description, attribute.data_type, element);
                (index, confidence, reason)
            })
            .filter(|(_, confidence, _)| *confidence >= CONFIDENCE_MIN)
            .collect();
        scored.sort_by(|one, other| other.1.total_cmp(&one.1).then(one.0.cmp(&other.0)));
        scored.truncate(CANDIDATES_MAX);
        let candidate = |(index, confidence, reason): (usize, f64, String)| {
            let pde = plan.catalogue.get(index).map(crate::Pde::id).unwrap_or_default();
            Candidate { index, pde, confidence, reason }
        };
        scored.into_iter().map(candidate).collect()
    }

    fn compare(
        &self,
        name: &[String],
        description: &[String],
        data_type: Option<DataType>,
        element: &Element,
    ) -> (f64, String) {
        let like = |one: &[String], other: &[String]| likeness(one, other, &self.weights);
        let by_column = like(name, &element.column);
        let by_whole = like(name, &element.whole);
        let by_name = if by_column.score >= by_whole.score { by_column } else { by_whole };
        let by_words = [
            like(name, &element.description),
            like(description, &element.description),
            like(description, &element.column),
        ];
        let by_words =
            by_words.into_iter().max_by(|one, other| one.score.total_cmp(&other.score)).unwrap_or_default();
        let words = by_name.score.max(0.7 * by_name.score + 0.3 * by_words.score).max(0.85 * by_words.score);
        let (fits, says) = match (data_type, element.data_type) {
            (Some(asked), Some(has)) => {
                let fits = asked.fits(has);
                (fits, format!("type {has:?} for {asked:?} fits to {:.0} %", fits * 100.0))
            }
            _ => (TYPE_UNKNOWN, "type unknown".to_owned()),
        };
        // A type that never fits leaves a third: the name may be right and the type a mistake.
        let confidence = words * (0.35 + 0.65 * fits.sqrt());
        // Rounded, so that a reader can compare what is shown.
        let confidence = (confidence * 1e4).round() / 1e4;
        (confidence, format!("{}; {says}", reason(&by_name, &by_words)))
    }
}

fn reason(name: &Likeness, description: &Likeness) -> String {
    let told = |what: &str, likeness: &Likeness| {
        format!("{what} {:.0} % alike ({})", likeness.score * 100.0, likeness.common.join(", "))
    };
    match (name.common.is_empty(), description.common.is_empty()) {
        (true, true) => "no words in common".to_owned(),
        (false, true) => told("names", name),
        (true, false) => told("descriptions", description),
        (false, false) => format!("{}, {}", told("names", name), told("descriptions", description)),
    }
}
