//! The live view as lines of text.
//!
//! No line is wider than the screen, a low screen shows fewer alerts, and nothing that came in with a record can move the cursor.

use common::model::{AlertStatus, CongestionLevel, Severity};

use super::state::{Errors, State, Transition};

/// What is shown beside the state.
pub struct Around<'a> {
    pub title: &'a str,
    /// What is counted in the header.
    pub events: &'a str,
    pub elapsed_ms: i64,
    /// Records each worker has still to read.
    pub lag: &'a [(String, u64)],
    pub files: &'a str,
    /// Why something is not up to date.
    pub trouble: Option<&'a str>,
}

/// The screen: columns and lines to draw on, and whether it shows colours.
#[derive(Clone, Copy)]
pub struct Screen {
    pub width: usize,
    pub height: usize,
    pub colours: bool,
}

/// Select Graphic Rendition.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    Plain = 0,
    Bold = 1,
    Dim = 2,
    Red = 31,
    Green = 32,
    Yellow = 33,
    Magenta = 35,
    Cyan = 36,
}

const LEVELS: [(CongestionLevel, &str, Style); 5] = [
    (CongestionLevel::FreeFlow, "FREE_FLOW", Style::Green),
    (CongestionLevel::Light, "LIGHT", Style::Cyan),
    (CongestionLevel::Moderate, "MODERATE", Style::Yellow),
    (CongestionLevel::Heavy, "HEAVY", Style::Magenta),
    (CongestionLevel::Severe, "SEVERE", Style::Red),
];
/// Columns before a bar, and at its end.
const BEFORE_BAR: usize = 22;
/// From this width on an alert and its description share a line.
const WIDE: usize = 120;
/// Lines below the alerts: an empty one, what is still to read, files, trouble.
const BELOW: usize = 4;

type Line = Vec<(Style, String)>;

/// All lines, top to bottom. The first is empty: a log line that comes between two frames goes there.
#[must_use]
pub fn lines(state: &State, around: &Around<'_>, screen: Screen) -> Vec<String> {
    let mut lines = vec![Line::new(), header(state, around), Line::new()];
    segments(state, screen.width, &mut lines);
    forecasts(state, &mut lines);
    alerts(state, screen, &mut lines);
    let lag = around.lag.iter().map(|(worker, records)| format!("{worker} {}", grouped(*records)));
    lines.push(section("Still to read", lag.collect::<Vec<_>>().join("   ")));
    lines.push(section("Files", around.files.to_owned()));
    lines.extend(around.trouble.map(|why| vec![(Style::Yellow, why.to_owned())]));
    lines.truncate(screen.height);
    lines.iter().map(|line| render(line, screen)).collect()
}

fn header(state: &State, around: &Around<'_>) -> Line {
    let reached = state.reached_ms.map_or("-".to_owned(), |ms| written(ms, "%Y-%m-%d %H:%M UTC"));
    let (events, rate) = (grouped(state.event_count()), grouped(state.event_rate()));
    let seconds = around.elapsed_ms / 1000;
    let elapsed = format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    vec![
        (Style::Bold, around.title.to_owned()),
        (Style::Plain, format!("  {reached}  {events} {}, {rate}/s  {elapsed}", around.events)),
    ]
}

fn segments(state: &State, width: usize, lines: &mut Vec<Line>) {
    let (counts, none) = state.congestion();
    let all = counts.iter().sum::<usize>() + none;
    lines.push(section("Segments", format!("{}, by the speed of the newest window", grouped(all as u64))));
    let room = width.saturating_sub(BEFORE_BAR);
    let bar = |count: usize| "█".repeat((count * room).div_ceil(all.max(1)));
    for (level, name, style) in LEVELS {
        let count = counts[level as usize];
        lines.push(vec![(Style::Plain, format!("  {name:<10} {count:>7}  ")), (style, bar(count))]);
    }
    if none > 0 {
        lines.push(vec![(Style::Plain, format!("  {:<10} {none:>7}  ", "no speed")), (Style::Dim, bar(none))]);
    }
    lines.push(Line::new());
}

fn forecasts(state: &State, lines: &mut Vec<Line>) {
    let (name, head) = ("Forecasts", "   mean error   last value's   in 90 % interval     scored");
    lines.push(vec![(Style::Bold, name.to_owned()), (Style::Dim, head.to_owned())]);
    if state.errors.is_empty() {
        lines.push(vec![(Style::Dim, "  none yet".to_owned())]);
    }
    for (horizon, errors) in &state.errors {
        lines.push(vec![(Style::Plain, format!("  {horizon:>3} min{}", figures(errors)))]);
    }
    lines.push(Line::new());
}

#[expect(clippy::cast_precision_loss, reason = "counts of forecasts")]
fn figures(errors: &Errors) -> String {
    if errors.scored == 0 {
        return "   the truth is still to come".to_owned();
    }
    let scored = errors.scored as f64;
    format!(
        "{:>8.2} km/h {:>9.2} km/h {:>16.1} % {:>10}",
        errors.forecast / scored,
        errors.last / scored,
        errors.inside as f64 / scored * 100.0,
        grouped(errors.scored)
    )
}

fn alerts(state: &State, screen: Screen, lines: &mut Vec<Line>) {
    lines.push(section("Alerts", format!("{} open; the newest changes:", grouped(state.open_alerts() as u64))));
    let room = screen.height.saturating_sub(lines.len() + BELOW);
    for t in state.transitions.iter().take(if screen.width < WIDE { room / 2 } else { room }) {
        let mut line = transition(t);
        if screen.width < WIDE {
            lines.push(line);
            line = vec![(Style::Plain, format!("{:9}", ""))];
        }
        line.push((Style::Dim, t.description.clone()));
        lines.push(line);
    }
    lines.push(Line::new());
}

fn transition(t: &Transition) -> Line {
    let (severity, style) = match t.severity {
        Severity::Low => ("LOW", Style::Plain),
        Severity::Medium => ("MEDIUM", Style::Yellow),
        Severity::High => ("HIGH", Style::Magenta),
        Severity::Critical => ("CRITICAL", Style::Red),
    };
    let (status, status_style) = match t.status {
        AlertStatus::Active => ("ACTIVE", Style::Bold),
        AlertStatus::Investigating => ("INVESTIGATING", Style::Cyan),
        AlertStatus::Resolved => ("RESOLVED", Style::Green),
        AlertStatus::Cleared => ("CLEARED", Style::Green),
    };
    vec![
        (Style::Plain, format!("  {}  {}  {}  ", written(t.at_ms, "%H:%M"), t.segment, t.rule)),
        (style, format!("{severity:<8}  ")),
        (status_style, format!("{status:<8}  ")),
    ]
}

fn section(name: &str, rest: String) -> Line {
    vec![(Style::Bold, format!("{name:<14}")), (Style::Plain, rest)]
}

/// Cut to the width, without spaces at the end; a control character becomes a dot.
fn render(line: &Line, screen: Screen) -> String {
    let (mut text, mut room) = (String::new(), screen.width);
    for (style, piece) in line {
        let piece: String = piece.chars().take(room).map(|c| if c.is_control() { '·' } else { c }).collect();
        room -= piece.chars().count();
        if screen.colours && *style != Style::Plain && !piece.is_empty() {
            text.push_str(&format!("\x1b[{}m{piece}\x1b[0m", *style as u8));
        } else {
            text.push_str(&piece);
        }
    }
    text.truncate(text.trim_end().len());
    text
}

fn written(ms: i64, form: &str) -> String {
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| ms.to_string(), |time| time.strftime(form).to_string())
}

/// With a comma between thousands.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::state::tests::{aggregate, alert, prediction};
    use super::*;

    const TARGET_MS: i64 = 1_777_617_300_000;

    fn drawn(width: usize, height: usize, colours: bool) -> Vec<String> {
        let mut state = State::default();
        for (segment, speed) in [("A", Some(60.0)), ("B", Some(95.0)), ("C", Some(12.0)), ("D", None)] {
            aggregate(&mut state, segment, TARGET_MS, speed);
        }
        prediction(&mut state, TARGET_MS, 15, 57.5);
        prediction(&mut state, TARGET_MS + 1, 60, 57.5);
        alert(&mut state, "ALERT_1", TARGET_MS, AlertStatus::Active);
        alert(&mut state, "ALERT_1", TARGET_MS + 60_000, AlertStatus::Resolved);
        state.events(0, 1_000_000);
        state.events(1000, 1_234_567);
        let lag = [("aggregator".to_owned(), 0), ("predictor".to_owned(), 1200)];
        let around = Around {
            title: "traffic demo",
            events: "events sent",
            elapsed_ms: 3_723_000,
            lag: &lag,
            files: "/tmp/traffic-demo: traffic.db, store/, database.db",
            trouble: Some("traffic-alerts: it does not answer"),
        };
        lines(&state, &around, Screen { width, height, colours })
    }

    #[test]
    fn the_view_at_80_columns_without_colours() {
        let expected = "
traffic demo  2026-05-01 06:35 UTC  1,234,567 events sent, 234,567/s  1:02:03

Segments      4, by the speed of the newest window
  FREE_FLOW        1  ███████████████
  LIGHT            1  ███████████████
  MODERATE         0
  HEAVY            0
  SEVERE           1  ███████████████
  no speed         1  ███████████████

Forecasts   mean error   last value's   in 90 % interval     scored
   15 min    2.50 km/h     30.00 km/h            100.0 %          1
   60 min   the truth is still to come

Alerts        0 open; the newest changes:
  06:36  SEG_7  predicted-congestion  HIGH      RESOLVED
         HEAVY within 15 min·[2J with a probability of 83 %
  06:35  SEG_7  predicted-congestion  HIGH      ACTIVE
         HEAVY within 15 min·[2J with a probability of 83 %

Still to read aggregator 0   predictor 1,200
Files         /tmp/traffic-demo: traffic.db, store/, database.db
traffic-alerts: it does not answer";
        assert_eq!(drawn(80, 40, false).join("\n"), expected);
    }

    #[test]
    fn a_low_screen_shows_fewer_alerts_and_a_wide_one_has_their_descriptions_beside_them() {
        let low = drawn(80, 23, false);
        assert_eq!(low.iter().filter(|line| line.contains("SEG_7")).count(), 1, "{low:#?}");
        assert!(low.len() <= 23 && low[low.len() - 2].starts_with("Files"), "{low:#?}");
        assert_eq!(drawn(80, 10, false).len(), 10);
        let wide = drawn(120, 40, false);
        assert!(wide.contains(
            &"  06:35  SEG_7  predicted-congestion  HIGH      ACTIVE    HEAVY within 15 min·[2J with a probability of 83 %"
                .to_owned()
        ), "{wide:#?}");
    }

    #[test]
    fn colours_add_only_what_a_terminal_takes_as_colours() {
        let (plain, coloured) = (drawn(60, 40, false), drawn(60, 40, true));
        assert!(plain.iter().all(|line| !line.contains('\x1b') && line.chars().count() <= 60), "{plain:#?}");
        assert!(coloured.iter().any(|line| line.contains("\x1b[32m█")), "FREE_FLOW is green: {coloured:#?}");
        let mut bare = coloured.join("\n");
        for style in [0, 1, 2, 31, 32, 33, 35, 36] {
            bare = bare.replace(&format!("\x1b[{style}m"), "");
        }
        let bare: Vec<&str> = bare.split('\n').map(str::trim_end).collect();
        assert_eq!(bare, plain);
    }
}
