//! Charts over time, drawn on the server. Words stand beside the drawing, so that they keep their size on a phone.

use super::format;
use maud::{Markup, html};

/// Width and height of the drawing, in its own units: it is stretched to its place.
const WIDTH: f64 = 600.0;
/// See [`WIDTH`].
const HEIGHT: f64 = 100.0;

/// One row of values with its class in the style sheet.
pub(super) struct Series<'a> {
    pub(super) name: &'a str,
    pub(super) class: &'a str,
    pub(super) values: Vec<f64>,
}

/// How the values are drawn.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// One above the other.
    Bars,
    /// Each for itself.
    Lines,
}

/// A chart.
pub(super) struct Chart<'a> {
    pub(super) title: &'a str,
    /// What the last values say, in words.
    pub(super) now: String,
    pub(super) kind: Kind,
    pub(super) series: Vec<Series<'a>>,
    /// How a value is written.
    pub(super) unit: fn(f64) -> String,
    /// When each bar begins, Unix milliseconds.
    pub(super) times: &'a [u64],
    /// What happened at which share of the width (0 to 1).
    pub(super) marks: &'a [(f64, String)],
}

/// The next larger round number.
fn ceiling(value: f64) -> f64 {
    if value <= 1.0 {
        return 1.0;
    }
    let power = 10_f64.powf(value.log10().floor());
    [1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0]
        .into_iter()
        .map(|step| step * power)
        .find(|step| *step >= value)
        .unwrap_or(value)
}

fn coordinate(value: f64) -> String {
    format!("{value:.1}")
}

impl Chart<'_> {
    fn top(&self) -> f64 {
        let count = self.times.len();
        let value = |at: usize| {
            let values = self.series.iter().map(|series| series.values[at]);
            match self.kind {
                Kind::Bars => values.sum(),
                Kind::Lines => values.fold(0.0, f64::max),
            }
        };
        ceiling((0..count).map(value).fold(0.0, f64::max))
    }

    fn bars(&self, top: f64) -> Markup {
        let width = WIDTH / self.times.len().max(1) as f64;
        // Each value with the height that the series before it have reached.
        let stacked = |at: usize| {
            self.series.iter().scan(0.0, move |below, series| {
                let tall = series.values[at] / top * HEIGHT;
                *below += tall;
                Some((series, tall.max(1.0), *below - tall))
            })
        };
        html! {
            @for (at, time) in self.times.iter().enumerate() {
                @for (series, tall, below) in stacked(at).filter(|(series, ..)| series.values[at] > 0.0) {
                    rect class=(series.class) x=(coordinate(at as f64 * width + width * 0.1))
                        y=(coordinate(HEIGHT - below - tall)) width=(coordinate(width * 0.8)) height=(coordinate(tall)) {
                        title { (format::clock(*time)) " · " (series.name) ": " ((self.unit)(series.values[at])) }
                    }
                }
            }
        }
    }

    fn lines(&self, top: f64) -> Markup {
        let width = WIDTH / self.times.len().max(1) as f64;
        let point = |at: usize, value: f64| {
            format!("{:.1},{:.1}", (at as f64 + 0.5) * width, HEIGHT - value / top * (HEIGHT - 2.0) - 1.0)
        };
        html! {
            @for series in &self.series {
                @let points: Vec<_> = series.values.iter().enumerate().map(|(at, value)| point(at, *value)).collect();
                polyline class=(series.class) points=(points.join(" ")) {}
            }
        }
    }

    /// The drawing.
    pub(super) fn draw(&self) -> Markup {
        let top = self.top();
        let label = format!("{}: {}", self.title, self.now);
        html! {
            figure.chart {
                figcaption {
                    span.title { (self.title) }
                    span.now { (self.now) }
                }
                div.plot {
                    span.top { ((self.unit)(top)) }
                    svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) preserveAspectRatio="none" role="img" aria-label=(label) {
                        line.grid x1="0" x2=(WIDTH) y1="0.5" y2="0.5" {}
                        line.grid x1="0" x2=(WIDTH) y1="50" y2="50" {}
                        @if self.kind == Kind::Bars { (self.bars(top)) } @else { (self.lines(top)) }
                        line.base x1="0" x2=(WIDTH) y1="99.5" y2="99.5" {}
                        @for (at, what) in self.marks {
                            g.mark {
                                line x1=(coordinate(at * WIDTH)) x2=(coordinate(at * WIDTH)) y1="0" y2="100" {}
                                title { (what) }
                            }
                        }
                    }
                    @if let (Some(first), Some(last)) = (self.times.first(), self.times.last()) {
                        span.axis {
                            span { (&format::clock(*first)[11..16]) }
                            span { (&format::clock(self.times[self.times.len() / 2])[11..16]) }
                            span { (&format::clock(*last)[11..16]) }
                        }
                    }
                }
                @if self.series.len() > 1 {
                    ul.legend { @for series in &self.series { li { i class=(series.class) {} (series.name) } } }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_top_of_a_chart_is_a_round_number() {
        assert_eq!(
            [0.0, 1.0, 1.4, 2.5, 7.0, 10.0, 11.0, 450.0].map(ceiling),
            [1.0, 1.0, 1.5, 3.0, 8.0, 10.0, 15.0, 500.0]
        );
    }
}
