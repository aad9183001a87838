//! Draws `waymark top`. Made for 80 columns and 24 lines; more room shows more.

use super::model::{Mode, Model, Tab};
use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style, Stylize as _},
    text::{Line, Span},
    widgets::{Block, Clear, Paragraph, Row, Table, TableState, Tabs, Wrap},
};

pub(super) fn draw(frame: &mut Frame<'_>, model: &Model) {
    let [totals, tabs, table, said, keys] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Min(3),
        Constraint::Length(1),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(Paragraph::new(counts(model)), totals);
    let titles = Tab::ALL.iter().zip(1..).map(|(tab, number)| format!("{number} {}", tab.title()));
    let chosen = Style::new().add_modifier(Modifier::REVERSED);
    frame.render_widget(Tabs::new(titles).select(model.tab as usize).highlight_style(chosen), tabs);
    rows(frame, model, table);
    frame.render_widget(Paragraph::new(line(model)), said);
    frame.render_widget(Paragraph::new(help_line(model)).style(Style::new().dim()), keys);
    match &model.mode {
        Mode::Help => window(frame, "Keys", &help(), 60),
        Mode::Open => {
            if let Some(row) = model.row() {
                let facts = row.more.iter().map(|(name, value)| {
                    Line::from(vec![Span::raw(format!("{name:<15} ")).dim(), Span::raw(value.clone())])
                });
                window(frame, model.tab.one(), &facts.collect::<Vec<_>>(), 76);
            }
        }
        Mode::Table | Mode::Filter | Mode::Confirm { .. } => {}
    }
}

fn counts(model: &Model) -> Line<'static> {
    let mut spans = vec![Span::raw("waymark").bold()];
    if model.snapshot.counts.is_empty() {
        spans.push(Span::raw("  no jobs yet").dim());
    }
    for (state, number) in &model.snapshot.counts {
        spans.push(Span::raw(format!("  {state} ")).dim());
        spans.push(Span::styled(number.to_string(), colour(state)));
    }
    Line::from(spans)
}

fn colour(state: &str) -> Style {
    let colour = match state {
        "running" | "ready" | "open" => Color::Green,
        "failed" | "not ready" => Color::Red,
        "paused" | "pausing" | "draining" | "cancelled" => Color::Yellow,
        "queued" | "scheduled" | "waiting" => Color::Cyan,
        _ => return Style::new(),
    };
    Style::new().fg(colour)
}

fn rows(frame: &mut Frame<'_>, model: &Model, area: Rect) {
    let (heads, widths): (&[&str], &[Constraint]) = match model.tab {
        Tab::Jobs => (
            &["ID", "TYPE", "STATUS", "DONE", "TRY", "CREATED", "QUEUE"],
            &[
                Constraint::Length(26),
                Constraint::Min(8),
                Constraint::Length(9),
                Constraint::Length(5),
                Constraint::Length(3),
                Constraint::Length(8),
                Constraint::Max(12),
            ],
        ),
        Tab::Queues => (
            &["QUEUE", "QUEUED", "OLDEST", "SWITCH"],
            &[Constraint::Min(20), Constraint::Length(9), Constraint::Length(8), Constraint::Length(7)],
        ),
        Tab::Hosts => (
            &["HOST", "STATE", "SLOTS", "CPU", "MEM", "ADDRESS"],
            &[
                Constraint::Min(20),
                Constraint::Length(9),
                Constraint::Length(9),
                Constraint::Length(4),
                Constraint::Length(4),
                Constraint::Length(21),
            ],
        ),
    };
    let found = model.rows();
    if found.is_empty() {
        let words = match (model.tab, model.filter.is_empty()) {
            (_, false) => "Nothing fits the filter; Esc takes it away.",
            (Tab::Jobs, _) => "No jobs yet: waymark job submit TYPE INPUT",
            (Tab::Queues, _) => "No queue holds jobs or is paused.",
            (Tab::Hosts, _) => "No host is there.",
        };
        frame.render_widget(Paragraph::new(words).dim(), area);
        return;
    }
    let lines = found.iter().map(|row| {
        let cells = row.cells.iter().map(|cell| Span::styled(cell.clone(), colour(cell)));
        Row::new(cells.map(Line::from))
    });
    let head = Row::new(heads.iter().map(|head| Line::from(*head))).style(Style::new().bold());
    let table = Table::new(lines, widths)
        .header(head)
        .column_spacing(1)
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let mut state = TableState::new().with_selected(model.at());
    frame.render_stateful_widget(table, area, &mut state);
}

/// What is asked, done or wrong.
fn line(model: &Model) -> Line<'static> {
    match (&model.mode, &model.said, &model.stale) {
        (Mode::Confirm { id, verb }, ..) => {
            Line::from(format!("{verb} {} {id}? y/n", model.tab.one())).yellow().bold()
        }
        (Mode::Filter, ..) => Line::from(format!("/{}_", model.filter)),
        (_, Some((said, true)), _) => Line::from(said.clone()).red(),
        (_, Some((said, false)), _) => Line::from(said.clone()),
        (_, None, Some(why)) => Line::from(format!("not up to date: {why}")).red(),
        (_, None, None) if !model.filter.is_empty() => Line::from(format!("filter: {}", model.filter)),
        _ => Line::default(),
    }
}

fn help_line(model: &Model) -> String {
    match model.mode {
        Mode::Filter => {
            "Enter: use it   Esc: take it away   status= type= queue= tag=, or any word".to_owned()
        }
        Mode::Confirm { .. } => "y: do it   any other key: leave it".to_owned(),
        Mode::Open | Mode::Help => "any key: back   q: leave".to_owned(),
        Mode::Table => {
            let verbs = model.tab.verbs().iter().map(|(key, verb)| format!("{key}: {verb}"));
            let verbs: Vec<_> = verbs.collect();
            format!("{}   /: filter   ?: help   q: leave", verbs.join("  "))
        }
    }
}

fn help() -> Vec<Line<'static>> {
    [
        ("1 2 3, Tab", "jobs, queues, hosts"),
        ("↑ ↓, j k", "choose a line; PageUp, PageDown, Home, End"),
        ("Enter", "more about the line"),
        ("p r", "pause, resume the job, queue or host"),
        ("c t", "cancel, retry the job"),
        ("d", "drain the host"),
        ("/", "filter: status=failed type=NAME queue=NAME tag=NAME"),
        ("", "correlation_id=ID error_kind=KIND, or any word"),
        ("Esc", "take the filter away"),
        ("q, Ctrl-C", "leave"),
    ]
    .iter()
    .map(|(key, what)| Line::from(vec![Span::raw(format!("{key:<12}")).bold(), Span::raw(*what)]))
    .collect()
}

/// A window in the middle.
fn window(frame: &mut Frame<'_>, title: &str, lines: &[Line<'static>], width: u16) {
    let area = frame.area();
    let [middle] =
        Layout::horizontal([Constraint::Max(width)]).flex(ratatui::layout::Flex::Center).areas(area);
    let height = u16::try_from(lines.len()).unwrap_or(u16::MAX).saturating_add(4);
    let [middle] =
        Layout::vertical([Constraint::Max(height)]).flex(ratatui::layout::Flex::Center).areas(middle);
    frame.render_widget(Clear, middle);
    let block = Block::bordered().title(format!(" {title} "));
    let text = Paragraph::new(lines.to_vec()).wrap(Wrap { trim: false }).block(block);
    frame.render_widget(text, middle);
}

#[cfg(test)]
mod tests {
    use super::super::model::{Snapshot, tests::snapshot};
    use super::*;
    use ratatui::{Terminal, backend::TestBackend};

    fn screen(model: &Model, width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, model)).unwrap();
        let buffer = terminal.backend().buffer().clone();
        let cells = buffer.content().chunks(usize::from(width));
        cells
            .map(|line| line.iter().map(|cell| cell.symbol()).collect::<String>().trim_end().to_owned())
            .collect()
    }

    #[test]
    fn everything_fits_into_80_columns_and_24_lines() {
        let mut model = Model::default();
        model.looked(snapshot());
        let lines = screen(&model, 80, 24);
        assert_eq!(lines.len(), 24);
        assert!(lines[0].starts_with("waymark  running 21  failed 20"), "{}", lines[0]);
        assert!(lines[1].contains("1 Jobs") && lines[1].contains("3 Hosts"), "{}", lines[1]);
        let line = &lines[3];
        for part in ["01K0Q5Z3V6T4S8W2R9YBXNCM00", "counter", "running", "50%", "10:20:30"] {
            assert!(line.contains(part), "{part}: {line}");
        }
        assert!(lines[23].ends_with("q: leave"), "{}", lines[23]);
        model.tab = Tab::Hosts;
        let lines = screen(&model, 80, 24);
        for part in ["node-1", "ready", "3/64", "50%", "25%", "127.0.0.1:7420"] {
            assert!(lines[3].contains(part), "{part}: {}", lines[3]);
        }
        model.mode = Mode::Help;
        assert!(screen(&model, 80, 24).iter().any(|line| line.contains("drain the host")));
    }

    #[test]
    fn what_others_wrote_moves_no_cursor() {
        let mut model = Model::default();
        model.looked(snapshot());
        model.mode = Mode::Open;
        let lines = screen(&model, 80, 24);
        assert!(lines.iter().any(|line| line.contains("half [2J way")), "{lines:#?}");
        assert!(lines.iter().any(|line| line.contains("it broke")), "{lines:#?}");
    }

    #[test]
    fn empty_old_and_tiny_screens_say_what_they_can() {
        let mut model = Model::default();
        model.looked(Snapshot::default());
        assert!(screen(&model, 80, 24).iter().any(|line| line.contains("waymark job submit")));
        model.filter = "x".into();
        assert!(screen(&model, 80, 24).iter().any(|line| line.contains("Esc takes it away")));
        model.failed_to_look("the host has not answered for 5 s");
        assert!(screen(&model, 80, 24)[22].starts_with("not up to date: the host"));
        model.mode = Mode::Confirm { id: "A".into(), verb: "cancel" };
        assert_eq!(screen(&model, 80, 24)[22], "cancel job A? y/n");
        for (width, height) in [(1, 1), (10, 3), (200, 2)] {
            for mode in [Mode::Help, Mode::Open, Mode::Table] {
                model.mode = mode;
                assert_eq!(screen(&model, width, height).len(), usize::from(height));
            }
        }
    }
}
