//! The state machine of one rule and one segment: inactive → pending → open → closed, and its transitions.
//!
//! Invariants: the rule's time never goes back; an alert's transitions are numbered 1, 2, 3, … and none is before
//! the last; the next alert opens strictly later than the last one ended, so `(segment, rule, opened_at)` names one.

use common::model::{AlertStatus, Position, Severity};

/// Times are the rule's own, epoch ms.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Episode {
    /// The last time that the rule's topic told of this segment.
    pub heard_ms: i64,
    pub place: Option<Position>,
    /// Since when the opening condition has held, while no alert is open.
    pub pending_since_ms: Option<i64>,
    /// When the last alert ended.
    pub closed_at_ms: Option<i64>,
    pub open: Option<Open>,
}

/// An open alert.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Open {
    pub opened_at_ms: i64,
    /// Of the last transition.
    pub changed_at_ms: i64,
    pub sequence: u32,
    pub severity: Severity,
    pub acknowledged: bool,
    /// Since when the closing condition has held.
    pub closing_since_ms: Option<i64>,
}

/// What a rule sees of a segment at a moment. `opens` and `closes` exclude each other.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sight {
    pub at_ms: i64,
    pub opens: bool,
    pub closes: bool,
    pub severity: Severity,
}

/// For how long conditions must hold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    pub open_for_ms: i64,
    pub close_for_ms: i64,
    pub reopen_after_ms: i64,
}

/// One transition of an alert.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Transition {
    pub opened_at_ms: i64,
    pub at_ms: i64,
    pub sequence: u32,
    pub severity: Severity,
    pub status: AlertStatus,
}

impl Episode {
    /// Looks at the condition; at most one transition follows. `silenced` is asked only when an alert would open.
    pub fn look(&mut self, sight: &Sight, limits: &Limits, silenced: impl FnOnce() -> bool) -> Option<Transition> {
        let at_ms = sight.at_ms;
        let Some(open) = &mut self.open else {
            if !sight.opens {
                self.pending_since_ms = None;
                return None;
            }
            let since_ms = *self.pending_since_ms.get_or_insert(at_ms);
            let soon = self.closed_at_ms.is_some_and(|c| at_ms <= c || at_ms - c < limits.reopen_after_ms);
            if at_ms - since_ms < limits.open_for_ms || soon || silenced() {
                return None;
            }
            return Some(self.begin(at_ms, sight.severity));
        };
        if sight.closes {
            let since_ms = *open.closing_since_ms.get_or_insert(at_ms);
            let over = at_ms - since_ms >= limits.close_for_ms;
            return if over { self.end(at_ms, AlertStatus::Resolved) } else { None };
        }
        open.closing_since_ms = None;
        if sight.severity > open.severity {
            open.severity = sight.severity;
            return Some(open.step(at_ms));
        }
        None
    }

    /// Nothing was seen for too long: what has held until then counts no more.
    pub fn interrupt(&mut self) {
        self.pending_since_ms = None;
        if let Some(open) = &mut self.open {
            open.closing_since_ms = None;
        }
    }

    fn begin(&mut self, at_ms: i64, severity: Severity) -> Transition {
        self.pending_since_ms = None;
        let open = self.open.insert(Open {
            opened_at_ms: at_ms,
            changed_at_ms: at_ms,
            sequence: 0,
            severity,
            acknowledged: false,
            closing_since_ms: None,
        });
        open.step(at_ms)
    }

    /// Somebody looks after it; `None` if somebody did already, or if nothing is open.
    pub fn acknowledge(&mut self, at_ms: i64) -> Option<Transition> {
        let open = self.open.as_mut().filter(|open| !open.acknowledged)?;
        open.acknowledged = true;
        Some(open.step(at_ms))
    }

    /// The open alert ends, as RESOLVED or CLEARED.
    pub fn end(&mut self, at_ms: i64, status: AlertStatus) -> Option<Transition> {
        let mut open = self.open.take()?;
        let last = Transition { status, ..open.step(at_ms) };
        self.closed_at_ms = Some(last.at_ms);
        Some(last)
    }

    /// Whether nothing in it matters at `at_ms` or later.
    pub fn is_idle(&self, at_ms: i64, reopen_after_ms: i64) -> bool {
        let closed = self.closed_at_ms.is_none_or(|c| at_ms > c && at_ms - c >= reopen_after_ms);
        self.open.is_none() && self.pending_since_ms.is_none() && closed
    }
}

impl Open {
    fn step(&mut self, at_ms: i64) -> Transition {
        self.sequence += 1;
        self.changed_at_ms = self.changed_at_ms.max(at_ms);
        Transition {
            opened_at_ms: self.opened_at_ms,
            at_ms: self.changed_at_ms,
            sequence: self.sequence,
            severity: self.severity,
            status: if self.acknowledged { AlertStatus::Investigating } else { AlertStatus::Active },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { open_for_ms: 5, close_for_ms: 10, reopen_after_ms: 15 };

    /// Plays a line of sights five apart: `^` opens, `v` closes, `-` neither, `!` opens and is worse, `s` opens but is
    /// silenced, `a` acknowledges, `c` clears. Returns what came, as `time status/severity sequence`.
    fn play(line: &str) -> Vec<String> {
        let mut episode = Episode::default();
        let mut came = Vec::new();
        for (i, sign) in line.chars().enumerate() {
            let at_ms = 5 * i64::try_from(i).expect("short");
            let severity = if sign == '!' { Severity::Critical } else { Severity::High };
            let sight = Sight { at_ms, opens: "^!s".contains(sign), closes: sign == 'v', severity };
            let transition = match sign {
                'a' => episode.acknowledge(at_ms),
                'c' => episode.end(at_ms, AlertStatus::Cleared),
                _ => episode.look(&sight, &LIMITS, || sign == 's'),
            };
            came.extend(transition.map(|t| format!("{} {:?}/{:?} {}", t.at_ms, t.status, t.severity, t.sequence)));
        }
        came
    }

    #[test]
    fn the_life_of_an_alert() {
        for (line, expected) in [
            ("^-^-^", &[][..]),
            ("^^^^", &["5 Active/High 1"]),
            ("^^vv-vv", &["5 Active/High 1"]),
            ("^^vvvv", &["5 Active/High 1", "20 Resolved/High 2"]),
            ("^^^!^!", &["5 Active/High 1", "15 Active/Critical 2"]),
            ("^^a!v", &["5 Active/High 1", "10 Investigating/High 2", "15 Investigating/Critical 3"]),
            ("^^aa", &["5 Active/High 1", "10 Investigating/High 2"]),
            ("a^c^", &["15 Active/High 1"]),
            ("^^vvv^^^^", &["5 Active/High 1", "20 Resolved/High 2", "35 Active/High 1"]),
            ("^^c^^^^", &["5 Active/High 1", "10 Cleared/High 2", "25 Active/High 1"]),
            ("ssss^", &["20 Active/High 1"]),
            ("ss-s^^", &["20 Active/High 1"]),
            ("s-^^", &["15 Active/High 1"]),
        ] {
            assert_eq!(play(line), expected, "{line}");
        }
    }

    #[test]
    fn an_interruption_lets_conditions_begin_anew() {
        let mut episode = Episode { pending_since_ms: Some(0), ..Episode::default() };
        episode.interrupt();
        let sight = Sight { at_ms: 100, opens: true, closes: false, severity: Severity::Low };
        assert_eq!(episode.look(&sight, &LIMITS, || false), None);
        assert!(episode.look(&Sight { at_ms: 105, ..sight }, &LIMITS, || false).is_some());
        assert_eq!(episode.look(&Sight { at_ms: 110, opens: false, closes: true, ..sight }, &LIMITS, || false), None);
        episode.interrupt();
        let closing = Sight { at_ms: 200, opens: false, closes: true, ..sight };
        assert_eq!(episode.look(&closing, &LIMITS, || false), None);
        assert!(episode.look(&Sight { at_ms: 210, ..closing }, &LIMITS, || false).is_some());
    }

    #[test]
    fn an_id_is_never_used_twice() {
        let limits = Limits { open_for_ms: 0, close_for_ms: 0, reopen_after_ms: 0 };
        let mut episode = Episode::default();
        let up = Sight { at_ms: 7, opens: true, closes: false, severity: Severity::Low };
        let down = Sight { opens: false, closes: true, ..up };
        let opened = |t: Option<Transition>| t.map(|t| (t.opened_at_ms, t.sequence));
        assert_eq!(opened(episode.look(&up, &limits, || false)), Some((7, 1)));
        assert_eq!(opened(episode.look(&down, &limits, || false)), Some((7, 2)));
        assert!(!episode.is_idle(7, 0));
        assert_eq!(opened(episode.look(&up, &limits, || false)), None, "the same moment again");
        assert_eq!(opened(episode.look(&Sight { at_ms: 8, ..up }, &limits, || false)), Some((8, 1)));
    }
}
