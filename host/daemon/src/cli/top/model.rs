//! What `waymark top` shows, and what a key does.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use serde_json::Value;

/// Longest filter, characters.
const FILTER_CHARS_MAX: usize = 200;
/// Names that the API filters by; any other word of a filter is looked for in what is shown.
const FILTERS: [&str; 6] = ["status", "type", "queue", "tag", "correlation_id", "error_kind"];
/// Rows that PageUp and PageDown go.
const PAGE: usize = 10;

/// What is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Tab {
    #[default]
    Jobs,
    Queues,
    Hosts,
}

impl Tab {
    pub(super) const ALL: [Self; 3] = [Self::Jobs, Self::Queues, Self::Hosts];

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Jobs => "Jobs",
            Self::Queues => "Queues",
            Self::Hosts => "Hosts",
        }
    }

    pub(super) fn one(self) -> &'static str {
        match self {
            Self::Jobs => "job",
            Self::Queues => "queue",
            Self::Hosts => "host",
        }
    }

    /// The part of the API.
    pub(super) fn path(self) -> &'static str {
        match self {
            Self::Jobs => "jobs",
            Self::Queues => "queues",
            Self::Hosts => "hosts",
        }
    }

    /// Keys and what they ask for.
    pub(super) fn verbs(self) -> &'static [(char, &'static str)] {
        match self {
            Self::Jobs => &[('p', "pause"), ('r', "resume"), ('c', "cancel"), ('t', "retry")],
            Self::Queues => &[('p', "pause"), ('r', "resume")],
            Self::Hosts => &[('p', "pause"), ('r', "resume"), ('d', "drain")],
        }
    }
}

/// One line of a table: what it is called in requests, and its cells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) id: String,
    pub(super) cells: Vec<String>,
    /// What is shown of it when it is opened.
    pub(super) more: Vec<(String, String)>,
}

/// What the host said.
#[derive(Clone, Debug, Default)]
pub(super) struct Snapshot {
    /// State and number of jobs.
    pub(super) counts: Vec<(String, u64)>,
    pub(super) jobs: Vec<Row>,
    pub(super) queues: Vec<Row>,
    pub(super) hosts: Vec<Row>,
}

/// A text of others, on one line and without what moves a cursor.
fn clean(text: &str) -> String {
    text.chars().map(|one| if one.is_control() { ' ' } else { one }).collect()
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => clean(text),
        other => clean(&other.to_string()),
    }
}

/// Hours, minutes and seconds of a time, UTC.
fn clock(value: &Value) -> String {
    value.as_str().and_then(|time| time.get(11..19)).unwrap_or_default().to_owned()
}

fn list(answer: &Value, name: &str) -> Vec<Value> {
    answer[name].as_array().cloned().unwrap_or_default()
}

fn share(value: &Value) -> String {
    value.as_f64().map_or_else(String::new, |share| format!("{:.0}%", share * 100.0))
}

impl Snapshot {
    pub(super) fn read(counts: &Value, jobs: &Value, queues: &Value, hosts: &Value) -> Self {
        let mut by_state: Vec<(String, u64)> = Vec::new();
        for count in list(counts, "counts") {
            let (state, number) = (cell(&count["status"]), count["jobs"].as_u64().unwrap_or(0));
            match by_state.iter_mut().find(|(known, _)| *known == state) {
                Some((_, sum)) => *sum += number,
                None => by_state.push((state, number)),
            }
        }
        Self {
            counts: by_state,
            jobs: list(jobs, "jobs").iter().map(job).collect(),
            queues: list(queues, "queues").iter().map(queue).collect(),
            hosts: list(hosts, "hosts").iter().map(host).collect(),
        }
    }
}

fn job(job: &Value) -> Row {
    let progress = &job["progress"];
    let done = match (progress["percent"].as_f64(), progress["current"].as_u64()) {
        (Some(percent), _) => format!("{percent:.0}%"),
        (None, Some(current)) => current.to_string(),
        (None, None) => String::new(),
    };
    let status = if job["pause_pending"] == true { "pausing".to_owned() } else { cell(&job["status"]) };
    let names =
        ["id", "type", "queue", "status", "priority", "run", "attempt", "step", "host", "plugin_version"];
    let mut more: Vec<_> = names.iter().map(|name| ((*name).to_owned(), cell(&job[*name]))).collect();
    for (name, value) in [
        ("progress", &progress["message"]),
        ("error", &job["error"]["message"]),
        ("kind", &job["error"]["kind"]),
        ("created", &job["created_at"]),
        ("started", &job["started_at"]),
        ("ended", &job["ended_at"]),
    ] {
        more.push((name.to_owned(), cell(value)));
    }
    more.retain(|(_, value)| !value.is_empty());
    let cells = vec![
        cell(&job["id"]),
        cell(&job["type"]),
        status,
        done,
        cell(&job["attempt"]),
        clock(&job["created_at"]),
        cell(&job["queue"]),
    ];
    Row { id: cell(&job["id"]), cells, more }
}

fn queue(queue: &Value) -> Row {
    let switch = if queue["paused"] == true { "paused" } else { "open" };
    let cells =
        vec![cell(&queue["name"]), cell(&queue["depth"]), clock(&queue["oldest_at"]), switch.to_owned()];
    Row { id: cell(&queue["name"]), cells, more: vec![("oldest job".to_owned(), cell(&queue["oldest_at"]))] }
}

fn host(host: &Value) -> Row {
    let state = match () {
        () if host["draining"] == true => "draining",
        () if host["ready"] != true => "not ready",
        () if host["paused"] == true => "paused",
        () => "ready",
    };
    let cells = vec![
        cell(&host["id"]),
        state.to_owned(),
        format!("{}/{}", cell(&host["used"]), cell(&host["slots"])),
        share(&host["load"]["cpu"]),
        share(&host["load"]["memory"]),
        cell(&host["address"]),
    ];
    let names = ["version", "started_at", "leader", "queues", "types"];
    let more = names.iter().map(|name| ((*name).to_owned(), cell(&host[*name]))).collect();
    Row { id: cell(&host["id"]), cells, more }
}

/// What the next key is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Mode {
    #[default]
    Table,
    /// The filter is written.
    Filter,
    /// Something is asked for, and not yet confirmed.
    Confirm {
        id: String,
        verb: &'static str,
    },
    /// A line is opened.
    Open,
    Help,
}

/// What is to be done after a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Act {
    Nothing,
    /// Ask the host again.
    Look,
    Leave,
    Ask {
        tab: Tab,
        id: String,
        verb: &'static str,
    },
}

/// All that is shown.
#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    pub(super) tab: Tab,
    pub(super) mode: Mode,
    pub(super) filter: String,
    pub(super) snapshot: Snapshot,
    /// The chosen line of each tab, by its id: lines move while somebody reads them.
    chosen: [Option<String>; 3],
    /// What was done, or went wrong.
    pub(super) said: Option<(String, bool)>,
    /// Why what is shown is old.
    pub(super) stale: Option<String>,
}

impl Model {
    pub(super) fn looked(&mut self, snapshot: Snapshot) {
        self.snapshot = snapshot;
        self.stale = None;
    }

    pub(super) fn failed_to_look(&mut self, why: &str) {
        self.stale = Some(clean(why));
    }

    pub(super) fn say(&mut self, said: String) {
        self.said = Some((said, false));
    }

    pub(super) fn complain(&mut self, said: String) {
        self.said = Some((clean(&said), true));
    }

    /// The filter's words that the API knows.
    pub(super) fn query(&self) -> Vec<(String, String)> {
        let pair = |word: &str| {
            let (name, value) = word.split_once('=')?;
            (FILTERS.contains(&name) && !value.is_empty()).then(|| (name.to_owned(), value.to_owned()))
        };
        let mut pairs: Vec<(String, String)> = Vec::new();
        for (name, value) in self.filter.split_whitespace().filter_map(pair) {
            // The last one holds.
            pairs.retain(|(known, _)| *known != name);
            pairs.push((name, value));
        }
        pairs
    }

    /// The lines of this tab that the filter takes.
    pub(super) fn rows(&self) -> Vec<&Row> {
        let rows = match self.tab {
            Tab::Jobs => &self.snapshot.jobs,
            Tab::Queues => &self.snapshot.queues,
            Tab::Hosts => &self.snapshot.hosts,
        };
        let known = |word: &&str| !word.split_once('=').is_some_and(|(name, _)| FILTERS.contains(&name));
        let words: Vec<_> = self.filter.split_whitespace().filter(known).map(str::to_lowercase).collect();
        let takes = |row: &&Row| {
            words.iter().all(|word| row.cells.iter().any(|cell| cell.to_lowercase().contains(word.as_str())))
        };
        rows.iter().filter(takes).collect()
    }

    /// The chosen line.
    pub(super) fn at(&self) -> Option<usize> {
        let rows = self.rows();
        let chosen = self.chosen[self.tab as usize].as_ref();
        let found = chosen.and_then(|id| rows.iter().position(|row| row.id == *id));
        found.or_else(|| (!rows.is_empty()).then_some(0))
    }

    pub(super) fn row(&self) -> Option<&Row> {
        self.at().and_then(|at| self.rows().get(at).copied())
    }

    fn choose(&mut self, to: impl FnOnce(usize, usize) -> usize) {
        let Some(at) = self.at() else { return };
        let last = self.rows().len().saturating_sub(1);
        let id = self.rows().get(to(at, last).min(last)).map(|row| row.id.clone());
        self.chosen[self.tab as usize] = id;
    }

    fn turn(&mut self, by: usize) {
        self.tab = Tab::ALL[(self.tab as usize + by) % Tab::ALL.len()];
    }

    /// What a key does.
    pub(super) fn key(&mut self, key: KeyEvent) -> Act {
        if key.kind == KeyEventKind::Release {
            return Act::Nothing;
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return if key.code == KeyCode::Char('c') { Act::Leave } else { Act::Nothing };
        }
        match std::mem::take(&mut self.mode) {
            Mode::Filter => self.key_of_filter(key.code),
            Mode::Confirm { id, verb } => {
                if key.code == KeyCode::Char('y') {
                    return Act::Ask { tab: self.tab, id, verb };
                }
                self.say("nothing was done".to_owned());
                Act::Nothing
            }
            Mode::Open | Mode::Help => match key.code {
                KeyCode::Char('q') => Act::Leave,
                _ => Act::Nothing,
            },
            Mode::Table => self.key_of_table(key.code),
        }
    }

    fn key_of_filter(&mut self, code: KeyCode) -> Act {
        match code {
            KeyCode::Enter => return Act::Look,
            KeyCode::Esc => {
                self.filter.clear();
                return Act::Look;
            }
            KeyCode::Backspace => {
                self.filter.pop();
            }
            KeyCode::Char(one) if self.filter.chars().count() < FILTER_CHARS_MAX => self.filter.push(one),
            _ => {}
        }
        self.mode = Mode::Filter;
        Act::Nothing
    }

    fn key_of_table(&mut self, code: KeyCode) -> Act {
        self.said = None;
        match code {
            KeyCode::Char('q') => return Act::Leave,
            KeyCode::Char('?' | 'h') => self.mode = Mode::Help,
            KeyCode::Char('/') => self.mode = Mode::Filter,
            KeyCode::Esc if !self.filter.is_empty() => {
                self.filter.clear();
                return Act::Look;
            }
            KeyCode::Char('1') => self.tab = Tab::Jobs,
            KeyCode::Char('2') => self.tab = Tab::Queues,
            KeyCode::Char('3') => self.tab = Tab::Hosts,
            KeyCode::Tab | KeyCode::Right => self.turn(1),
            KeyCode::BackTab | KeyCode::Left => self.turn(Tab::ALL.len() - 1),
            KeyCode::Down | KeyCode::Char('j') => self.choose(|at, _| at + 1),
            KeyCode::Up | KeyCode::Char('k') => self.choose(|at, _| at.saturating_sub(1)),
            KeyCode::PageDown => self.choose(|at, _| at + PAGE),
            KeyCode::PageUp => self.choose(|at, _| at.saturating_sub(PAGE)),
            KeyCode::Home => self.choose(|_, _| 0),
            KeyCode::End => self.choose(|_, last| last),
            KeyCode::Enter if self.row().is_some() => self.mode = Mode::Open,
            KeyCode::Char(one) => {
                let verb = self.tab.verbs().iter().find(|(key, _)| *key == one).map(|(_, verb)| *verb);
                if let (Some(verb), Some(row)) = (verb, self.row()) {
                    let id = row.id.clone();
                    // It stays chosen, wherever it moves.
                    self.chosen[self.tab as usize] = Some(id.clone());
                    self.mode = Mode::Confirm { id, verb };
                }
            }
            _ => {}
        }
        Act::Nothing
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use serde_json::json;

    pub(in crate::cli::top) fn snapshot() -> Snapshot {
        let job = |number: u64, status: &str| {
            json!({
                "id": format!("01K0Q5Z3V6T4S8W2R9YBXNCM{number:02}"), "type": "counter", "queue": "counter",
                "status": status, "attempt": 1, "created_at": "2026-11-27T10:20:30.000Z",
                "progress": {"current": 5, "total": 10, "percent": 50.0, "message": "half\u{1b}[2J way"},
                "error": {"kind": "guest-trap", "message": "it broke"},
            })
        };
        let jobs: Vec<_> =
            (0..40).map(|number| job(number, if number % 2 == 0 { "running" } else { "failed" })).collect();
        Snapshot::read(
            &json!({"counts": [{"type": "counter", "status": "running", "jobs": 20}, {"type": "x", "status": "running", "jobs": 1}, {"type": "x", "status": "failed", "jobs": 20}]}),
            &json!({"jobs": jobs}),
            &json!({"queues": [{"name": "counter", "depth": 7, "oldest_at": "2026-11-27T10:20:30.000Z", "paused": true}]}),
            &json!({"hosts": [{"id": "node-1", "ready": true, "used": 3, "slots": 64, "address": "127.0.0.1:7420", "load": {"cpu": 0.5, "memory": 0.25}}]}),
        )
    }

    fn press(model: &mut Model, code: KeyCode) -> Act {
        model.key(KeyEvent::new(code, KeyModifiers::NONE))
    }

    fn typed(model: &mut Model, text: &str) {
        for one in text.chars() {
            press(model, KeyCode::Char(one));
        }
    }

    #[test]
    fn a_control_is_asked_for_once_it_is_confirmed() {
        let mut model = Model::default();
        model.looked(snapshot());
        press(&mut model, KeyCode::Down);
        let id = model.row().unwrap().id.clone();
        assert!(id.ends_with("01"));
        for (key, verb) in [('p', "pause"), ('r', "resume"), ('c', "cancel"), ('t', "retry")] {
            assert_eq!(press(&mut model, KeyCode::Char(key)), Act::Nothing);
            assert_eq!(model.mode, Mode::Confirm { id: id.clone(), verb });
            // The list changes under the question.
            model.snapshot.jobs.rotate_right(1);
            let asked = Act::Ask { tab: Tab::Jobs, id: id.clone(), verb };
            assert_eq!(press(&mut model, KeyCode::Char('y')), asked);
            press(&mut model, KeyCode::Char(key));
            assert_eq!(press(&mut model, KeyCode::Char('n')), Act::Nothing);
            assert_eq!(model.mode, Mode::Table);
        }
        press(&mut model, KeyCode::Char('2'));
        press(&mut model, KeyCode::Char('c'));
        assert_eq!(model.mode, Mode::Table, "a queue is not cancelled");
        press(&mut model, KeyCode::Tab);
        press(&mut model, KeyCode::Char('d'));
        let asked = Act::Ask { tab: Tab::Hosts, id: "node-1".into(), verb: "drain" };
        assert_eq!(press(&mut model, KeyCode::Char('y')), asked);
        model.looked(Snapshot::default());
        press(&mut model, KeyCode::Char('d'));
        assert_eq!(model.mode, Mode::Table, "nothing is chosen");
    }

    #[test]
    fn a_filter_is_for_the_host_where_it_knows_the_word_and_for_the_screen_else() {
        let mut model = Model::default();
        model.looked(snapshot());
        press(&mut model, KeyCode::Char('/'));
        typed(&mut model, "status=failed type=counter NCM03 status=running q");
        assert_eq!(model.mode, Mode::Filter);
        assert_eq!(press(&mut model, KeyCode::Backspace), Act::Nothing);
        assert_eq!(press(&mut model, KeyCode::Enter), Act::Look);
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(model.query(), vec![pair("type", "counter"), pair("status", "running")]);
        assert_eq!(model.rows().len(), 1);
        assert_eq!(press(&mut model, KeyCode::Esc), Act::Look);
        assert_eq!((model.query().len(), model.rows().len()), (0, 40));
    }

    #[test]
    fn keys_move_leave_and_never_go_beyond_the_ends() {
        let mut model = Model::default();
        assert_eq!(model.at(), None);
        press(&mut model, KeyCode::Down);
        model.looked(snapshot());
        press(&mut model, KeyCode::Up);
        assert_eq!(model.at(), Some(0));
        press(&mut model, KeyCode::PageDown);
        assert_eq!(model.at(), Some(10));
        press(&mut model, KeyCode::End);
        press(&mut model, KeyCode::Down);
        assert_eq!(model.at(), Some(39));
        press(&mut model, KeyCode::Home);
        assert_eq!(model.at(), Some(0));
        press(&mut model, KeyCode::BackTab);
        assert_eq!(model.tab, Tab::Hosts);
        press(&mut model, KeyCode::Char('?'));
        assert_eq!(model.mode, Mode::Help);
        press(&mut model, KeyCode::Char('x'));
        assert_eq!(press(&mut model, KeyCode::Char('q')), Act::Leave);
        assert_eq!(model.key(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)), Act::Leave);
        assert_eq!(model.snapshot.counts, vec![("running".to_owned(), 21), ("failed".to_owned(), 20)]);
    }
}
