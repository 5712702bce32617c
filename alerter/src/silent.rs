//! `sensor-silent`: a segment from which there were readings has none any more.
//!
//! The rule's time is the watermark marker of the partition; a segment is silent when its last window with readings
//! ended more than `after` before it. Markers alone open, windows alone close. A window that comes late or again
//! moves the segment's last one forward or not at all, so a correction of an older window changes nothing.
//!
//! Where markers leap by more than `after`, nobody vouched for the time between: the feed stood still, or a replay
//! left days out. Silence is then counted from the leap on, so that it opens nothing by itself.

use common::model::{AlertStatus, Severity};

use crate::episode::{Episode, Limits, Sight};
use crate::input::Window;
use crate::settings::{Rule, SensorSilent};
use crate::silences::Silences;
use crate::table::{Table, Time};
use crate::voice::{Voice, Words, minutes};

/// Markers come every five minutes of event time; a leap is more than one left out.
const LEAP_MS: i64 = 10 * 60_000;

/// `after` is all the patience there is.
fn limits(rule: &Rule) -> Limits {
    Limits { open_for_ms: 0, close_for_ms: 0, reopen_after_ms: rule.reopen_after_ms }
}

/// The partition is complete up to `marker_ms`.
pub fn marker(
    rule: &Rule,
    set: &SensorSilent,
    table: &mut Table,
    silences: &Silences,
    marker_ms: i64,
    voice: &mut Voice<'_>,
) {
    let Time { now_ms, steady_since_ms } = table.time();
    if marker_ms <= now_ms {
        return;
    }
    let leap = marker_ms.saturating_sub(now_ms) > set.after_ms.max(LEAP_MS);
    let steady_since_ms = if leap { marker_ms } else { steady_since_ms };
    table.set_time(Time { now_ms: marker_ms, steady_since_ms });
    let limits = limits(rule);
    table.sweep(&rule.state_name, voice, |segment, episode: &mut Episode, voice| {
        let unheard_ms = marker_ms - episode.heard_ms;
        if unheard_ms >= rule.forget_ms {
            if let Some(said) = episode.end(marker_ms, AlertStatus::Resolved) {
                let words = Words::only(format!("No readings for {}: no longer watched", minutes(unheard_ms)));
                voice.say(rule, segment, episode.place, &said, &words);
            }
            return false;
        }
        let opens = marker_ms - episode.heard_ms.max(steady_since_ms) > set.after_ms;
        let sight = Sight { at_ms: marker_ms, opens, closes: false, severity: Severity::Medium };
        if let Some(said) = episode.look(&sight, &limits, || silences.cover(segment, &rule.name, marker_ms)) {
            let description = format!("No readings for {}", minutes(unheard_ms));
            voice.say(rule, segment, episode.place, &said, &words(description, unheard_ms, set));
        }
        true
    });
}

/// A window of a segment with readings; `false` if it is older than is remembered.
pub fn window(rule: &Rule, set: &SensorSilent, table: &mut Table, window: &Window<'_>, voice: &mut Voice<'_>) -> bool {
    let (end_ms, segment) = (window.window_end, &*window.segment_id);
    let now_ms = table.time().now_ms.max(end_ms);
    if now_ms - end_ms >= rule.forget_ms {
        return false;
    }
    let mut episode = match table.get(segment) {
        Some(known) if end_ms <= known.heard_ms => return true,
        Some(known) => *known,
        None => Episode::default(),
    };
    let unheard_ms = now_ms - episode.heard_ms;
    (episode.heard_ms, episode.place) = (end_ms, window.coordinates.or(episode.place));
    if now_ms - end_ms <= set.after_ms {
        let sight = Sight { at_ms: now_ms, opens: false, closes: true, severity: Severity::Medium };
        if let Some(said) = episode.look(&sight, &limits(rule), || false) {
            let description = format!("Readings again, after {}", minutes(unheard_ms));
            voice.say(rule, segment, episode.place, &said, &words(description, now_ms - end_ms, set));
        }
    }
    table.put(segment, episode);
    true
}

/// Silence and threshold in minutes.
#[expect(clippy::cast_precision_loss, reason = "minutes")]
fn words(description: String, silent_ms: i64, set: &SensorSilent) -> Words<'static> {
    let (value, threshold) = (silent_ms as f64 / 60_000.0, set.after_ms as f64 / 60_000.0);
    Words { value: Some(value), threshold: Some(threshold), ..Words::only(description) }
}
