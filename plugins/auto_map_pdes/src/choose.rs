//! Which candidate an attribute gets.

use std::collections::{BTreeMap, BTreeSet};

use pathfinding::matrix::Matrix;
use pathfinding::prelude::kuhn_munkres;

use crate::{Candidate, Input, Mapping, Status};

/// Confidence in whole numbers: the assignment adds them up exactly.
const UNITS: f64 = 1e6;

/// One mapping for each attribute.
pub fn mappings(plan: &Input, candidates: &[Vec<Candidate>]) -> Vec<Mapping> {
    let chosen =
        if plan.one_to_one { one_to_one(plan, candidates) } else { each_for_itself(plan, candidates) };
    let taken: BTreeSet<usize> = chosen.iter().flatten().map(|candidate| candidate.index).collect();
    let attributes = plan.attributes.iter().zip(candidates).zip(&chosen);
    attributes
        .map(|((attribute, candidates), chosen)| mapping(plan, &attribute.name, candidates, *chosen, &taken))
        .collect()
}

fn each_for_itself<'a>(plan: &Input, candidates: &'a [Vec<Candidate>]) -> Vec<Option<&'a Candidate>> {
    candidates
        .iter()
        .map(|best| best.first().filter(|first| first.confidence >= plan.min_confidence))
        .collect()
}

/// The assignment with the greatest sum of confidence. An attribute may stay without an element: each has a place of its own
/// that counts nothing.
fn one_to_one<'a>(plan: &Input, candidates: &'a [Vec<Candidate>]) -> Vec<Option<&'a Candidate>> {
    let good = |candidate: &&Candidate| candidate.confidence >= plan.min_confidence;
    let elements: BTreeSet<usize> =
        candidates.iter().flatten().filter(good).map(|candidate| candidate.index).collect();
    let columns: BTreeMap<usize, usize> =
        elements.into_iter().enumerate().map(|(column, index)| (index, column)).collect();
    let mut weights = Matrix::new(candidates.len(), columns.len() + candidates.len(), 0_i64);
    for (row, best) in candidates.iter().enumerate() {
        for candidate in best.iter().filter(good) {
            if let Some(column) = columns.get(&candidate.index) {
                weights[(row, *column)] = (candidate.confidence * UNITS) as i64;
            }
        }
    }
    let (_, assigned) = kuhn_munkres(&weights);
    let chosen = |(best, column): (&'a Vec<Candidate>, &usize)| {
        best.iter().filter(good).find(|candidate| columns.get(&candidate.index) == Some(column))
    };
    candidates.iter().zip(&assigned).map(chosen).collect()
}

fn mapping(
    plan: &Input,
    attribute: &str,
    candidates: &[Candidate],
    chosen: Option<&Candidate>,
    taken: &BTreeSet<usize>,
) -> Mapping {
    let mut shown: Vec<Candidate> = candidates.iter().take(plan.candidates_max).cloned().collect();
    let Some(chosen) = chosen else {
        let best = candidates.first();
        let reason = match best {
            None => "no element has a word in common with it".to_owned(),
            Some(best) if best.confidence >= plan.min_confidence => {
                "every element that is good enough serves another attribute better".to_owned()
            }
            Some(best) => {
                format!(
                    "the best candidate, {}, has {:.2}, less than {}",
                    best.pde, best.confidence, plan.min_confidence
                )
            }
        };
        let confidence = best.map_or(0.0, |best| best.confidence);
        let (attribute, candidates) = (attribute.to_owned(), shown);
        let status = Status::Unmapped;
        return Mapping {
            attribute,
            status,
            pde: None,
            table: None,
            column: None,
            confidence,
            reason,
            candidates,
        };
    };
    if !shown.contains(chosen) {
        shown.pop();
        shown.push(chosen.clone());
    }
    // One to one, an element that serves another attribute is no rival.
    let rival = candidates.iter().find(|other| {
        other.index != chosen.index
            && other.confidence + plan.ambiguous_margin > chosen.confidence
            && !(plan.one_to_one && taken.contains(&other.index))
    });
    let (status, reason) = match rival {
        None => (Status::Mapped, chosen.reason.clone()),
        Some(rival) => {
            let reason = format!("{}; {} is close with {:.2}", chosen.reason, rival.pde, rival.confidence);
            (Status::Ambiguous, reason)
        }
    };
    let pde = plan.catalogue.get(chosen.index);
    Mapping {
        attribute: attribute.to_owned(),
        status,
        pde: Some(chosen.pde.clone()),
        table: pde.map(|pde| pde.table.clone()),
        column: pde.map(|pde| pde.column.clone()),
        confidence: chosen.confidence,
        reason,
        candidates: shown,
    }
}
