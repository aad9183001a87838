//! The drawing of a workflow: layers from left to right, each node behind all that it needs.

use maud::{Markup, html};
use std::collections::BTreeMap;

/// Width and height of a node, and the room around it, pixels.
const NODE: (u32, u32) = (188, 46);
/// See [`NODE`].
const ROOM: (u32, u32) = (64, 16);
/// Letters of a name that fit into a node.
const LETTERS: usize = 23;
/// Sweeps that put nodes near those they need.
const SWEEPS: usize = 4;

/// A node to be drawn.
pub(super) struct Node<'a> {
    pub(super) name: &'a str,
    pub(super) below: String,
    pub(super) state: &'static str,
    pub(super) link: Option<String>,
    /// Numbers of the nodes that it needs, all smaller in `order`.
    pub(super) needs: &'a [u32],
}

/// Layer and place within it of each node.
fn places(needs: &[&[u32]], order: &[u32]) -> Vec<(usize, usize)> {
    let mut layer = vec![0; needs.len()];
    for node in order {
        let node = *node as usize;
        layer[node] = needs[node].iter().map(|before| layer[*before as usize] + 1).max().unwrap_or(0);
    }
    let mut layers: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for node in order {
        layers.entry(layer[*node as usize]).or_default().push(*node as usize);
    }
    let mut after = vec![Vec::new(); needs.len()];
    for (node, before) in needs.iter().enumerate() {
        before.iter().for_each(|other| after[*other as usize].push(node as u32));
    }
    let mut place = vec![0; needs.len()];
    let put = |layers: &BTreeMap<usize, Vec<usize>>, place: &mut Vec<usize>| {
        layers.values().for_each(|nodes| nodes.iter().enumerate().for_each(|(at, node)| place[*node] = at));
    };
    put(&layers, &mut place);
    for sweep in 0..SWEEPS {
        let neighbours = |node: usize| if sweep % 2 == 0 { needs[node] } else { after[node].as_slice() };
        for nodes in layers.values_mut() {
            let centre = |node: usize| {
                let near = neighbours(node);
                let sum: usize = near.iter().map(|other| place[*other as usize]).sum();
                if near.is_empty() { place[node] as f64 } else { sum as f64 / near.len() as f64 }
            };
            let mut keyed: Vec<_> = nodes.iter().map(|node| (centre(*node), *node)).collect();
            keyed.sort_by(|left, right| left.0.total_cmp(&right.0));
            *nodes = keyed.into_iter().map(|(_, node)| node).collect();
            nodes.iter().enumerate().for_each(|(at, node)| place[*node] = at);
        }
    }
    layer.into_iter().zip(place).collect()
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(LETTERS) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

/// Draws a graph whose nodes are named in `order` after all that they need.
pub(super) fn draw(nodes: &[Node<'_>], order: &[u32]) -> Markup {
    let needs: Vec<_> = nodes.iter().map(|node| node.needs).collect();
    let places = places(&needs, order);
    let columns = places.iter().map(|(layer, _)| layer + 1).max().unwrap_or(1) as u32;
    let rows = places.iter().map(|(_, place)| place + 1).max().unwrap_or(1) as u32;
    let mut tall = BTreeMap::new();
    places.iter().for_each(|(layer, place)| {
        let most = tall.entry(*layer).or_insert(0);
        *most = (place + 1).max(*most);
    });
    let (width, height) = (columns * (NODE.0 + ROOM.0) - ROOM.0 + 4, rows * (NODE.1 + ROOM.1) - ROOM.1 + 4);
    let corner = |node: usize| {
        let (layer, place) = places[node];
        // Short layers stand in the middle.
        let spare = (rows - tall[&layer] as u32) * (NODE.1 + ROOM.1) / 2;
        (2 + layer as u32 * (NODE.0 + ROOM.0), 2 + spare + place as u32 * (NODE.1 + ROOM.1))
    };
    let edge = |from: usize, to: usize| {
        let ((x1, y1), (x2, y2)) = (corner(from), corner(to));
        let (x1, y1, y2) = (x1 + NODE.0, y1 + NODE.1 / 2, y2 + NODE.1 / 2);
        let bend = (x2 - x1) / 2;
        format!("M{x1} {y1}C{} {y1} {} {y2} {x2} {y2}", x1 + bend, x2 - bend)
    };
    html! {
        svg.graph width=(width) height=(height) viewBox=(format!("0 0 {width} {height}")) role="group" aria-label="Graph of the workflow" {
            g.edges aria-hidden="true" {
                @for (to, node) in nodes.iter().enumerate() {
                    @for from in node.needs { path class=(nodes[*from as usize].state) d=(edge(*from as usize, to)) {} }
                }
            }
            @for (at, node) in nodes.iter().enumerate() {
                @let (x, y) = corner(at);
                a.node.(node.state) href=[node.link.as_deref()] {
                    title { (node.name) " · " (node.state) " · " (node.below) }
                    rect x=(x) y=(y) width=(NODE.0) height=(NODE.1) rx="6" {}
                    rect.stripe x=(x) y=(y) width="5" height=(NODE.1) rx="2" {}
                    text.name x=(x + 15) y=(y + 19) { (cut(node.name)) }
                    text.below x=(x + 15) y=(y + 36) { (cut(&format!("{} · {}", node.state, node.below))) }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_stands_behind_what_it_needs_and_no_two_on_one_place() {
        let needs: [&[u32]; 6] = [&[], &[0], &[0], &[1, 2], &[], &[4, 0]];
        let places = places(&needs, &[0, 4, 1, 2, 3, 5]);
        for (node, before) in needs.iter().enumerate() {
            assert!(before.iter().all(|other| places[*other as usize].0 < places[node].0), "{places:?}");
        }
        let mut sorted = places.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), places.len());
    }
}
