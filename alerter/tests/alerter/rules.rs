//! The rules over synthetic frames and windows: what opens, escalates and ends when.

use alerter::{AGGREGATES, COMMANDS, PREDICTIONS, Settings};
use common::config::{AlerterSettings, PredictedCongestionSettings, SensorSilentSettings};
use common::model::{AlertStatus, AlertType, AlerterCommand, CommandKind, DetectionSource};
use common::stream::StoredRecord;

use crate::support::*;

fn congestion_of(came: &[String]) -> Vec<&str> {
    came.iter().map(String::as_str).collect()
}

fn bench() -> Bench {
    Bench::new(Settings::default())
}

const FREE: f64 = 80.0;
/// P(< 40) is 0.8.
const HEAVY: f64 = 28.0;
const SEVERE: f64 = 12.0;
/// P(< 40) is below 0.6 and P(< 50) above 0.4.
const BETWEEN: f64 = 45.0;

#[test]
fn congestion_opens_after_two_frames_and_closes_after_three() {
    let mut bench = bench();
    bench.forecasts("S1", 30, 0..1, HEAVY);
    assert_eq!(bench.short(), [""; 0], "one frame is not enough");
    bench.forecasts("S1", 30, 1..4, HEAVY);
    bench.forecasts("S1", 30, 4..8, BETWEEN);
    bench.forecasts("S1", 30, 8..10, FREE);
    bench.forecasts("S1", 30, 10..11, BETWEEN);
    assert_eq!(bench.short(), ["1 S1 Active/High 1"], "between the thresholds nothing changes");
    bench.forecasts("S1", 30, 11..14, FREE);
    assert_eq!(bench.short(), ["1 S1 Active/High 1", "13 S1 Resolved/High 2"]);

    let (opened, resolved) = (&bench.came[0], &bench.came[1]);
    assert_eq!(opened.alert_id, format!("ALERT_S1_predicted-congestion_{}", at(1)));
    assert_eq!((opened.alert_type, opened.detection_source), (AlertType::Congestion, DetectionSource::PredictionModel));
    assert_eq!((opened.opened_at, opened.resolved_at, opened.value), (at(1), None, Some(HEAVY)));
    assert!((opened.confidence_score.expect("a probability") - 0.8).abs() < 1e-9);
    assert!(opened.coordinates.is_some());
    assert_eq!(
        opened.description,
        "Congestion is forecast in 30 min: 28 km/h, below 40 km/h with a probability of 80 %"
    );
    assert_eq!((&resolved.alert_id, resolved.opened_at), (&opened.alert_id, at(1)));
    assert_eq!((resolved.timestamp, resolved.resolved_at), (at(13), Some(at(13))));
    bench.forecasts("S1", 30, 14..20, FREE);
    bench.commit();
    assert_eq!(bench.live().len(), 1, "nothing is kept of a quiet segment: only the rule's time");
}

#[test]
fn other_horizons_and_bad_records_change_nothing() {
    let mut bench = bench();
    bench.forecasts("S1", 15, 0..9, SEVERE);
    bench.forecasts("S1", 60, 0..9, SEVERE);
    let mut ahead = forecast("S1", 50, 30, SEVERE);
    ahead.timestamp_ms = at(5);
    let odd = record("S1", forecast("S 1", 0, 30, SEVERE).value.expect("a value"), at(0));
    bench.feed(PREDICTIONS, &[record("S1", b"{}".to_vec(), at(0)), ahead, odd, StoredRecord::default()]);
    bench.forecasts("S1", 30, 0..1, SEVERE);
    assert_eq!(bench.short(), [""; 0]);
    assert_eq!(bench.machine.counts().invalid, 3);
    assert_eq!(bench.machine.counts().remarks(0).count(), 3);
}

#[test]
fn severity_escalates_and_never_flaps_down() {
    let mut bench = bench();
    bench.forecasts("S1", 30, 0..2, HEAVY);
    bench.forecasts("S1", 30, 2..3, SEVERE);
    bench.forecasts("S1", 30, 3..4, HEAVY);
    bench.forecasts("S1", 30, 4..5, SEVERE);
    assert_eq!(bench.short(), ["1 S1 Active/High 1", "2 S1 Active/Critical 2"]);
}

#[test]
fn late_and_repeated_forecasts_change_nothing_and_missing_ones_break_the_wait() {
    let mut bench = bench();
    bench.forecasts("S1", 30, 3..4, HEAVY);
    bench.forecasts("S1", 30, 1..4, HEAVY);
    assert_eq!(bench.short(), [""; 0]);
    assert_eq!(bench.machine.counts().late, 2);
    // S1 is missing in two frames of three: what held before counts no more.
    bench.forecasts("S2", 30, 4..7, FREE);
    bench.forecasts("S1", 30, 6..7, HEAVY);
    assert_eq!(bench.short(), [""; 0]);
    // One frame missing is forgiven.
    bench.forecasts("S1", 30, 8..9, HEAVY);
    assert_eq!(bench.short(), ["8 S1 Active/High 1"]);
}

#[test]
fn an_alert_whose_segment_is_forecast_no_more_is_resolved() {
    let mut bench = bench();
    bench.forecasts("S1", 30, 0..2, HEAVY);
    bench.forecasts("S2", 30, 2..30, FREE);
    assert_eq!(bench.short(), ["1 S1 Active/High 1", "13 S1 Resolved/High 2"], "after an hour");
    assert_eq!(bench.live().len(), 1);
}

#[test]
fn a_gap_lies_between_two_alerts() {
    let mut bench = bench();
    bench.forecasts("S1", 30, 0..2, HEAVY);
    bench.forecasts("S1", 30, 2..5, FREE);
    bench.forecasts("S1", 30, 5..9, HEAVY);
    assert_eq!(bench.short()[1..], ["4 S1 Resolved/High 2", "7 S1 Active/High 1"]);
}

#[test]
fn a_silence_delays_an_opening_until_it_ends() {
    let silence = AlerterCommand { until: Some(at(6)), ..command(CommandKind::Silence) };
    for (silence, expected) in [
        (silence.clone(), 6),
        (AlerterCommand { segment_id: Some("S1".into()), ..silence.clone() }, 6),
        (AlerterCommand { segment_id: Some("S2".into()), ..silence.clone() }, 1),
        (AlerterCommand { rule: Some("predicted-congestion".into()), ..silence.clone() }, 6),
        (AlerterCommand { rule: Some("sensor-silent".into()), ..silence.clone() }, 1),
        (AlerterCommand { from: Some(at(2)), ..silence.clone() }, 1),
        (AlerterCommand { from: Some(at(1)), ..silence }, 6),
    ] {
        let mut bench = bench();
        bench.command(&silence);
        bench.forecasts("S1", 30, 0..9, HEAVY);
        assert_eq!(bench.short(), [format!("{expected} S1 Active/High 1")], "{silence:?}");
    }
}

#[test]
fn a_silence_does_not_hold_back_what_happens_to_an_open_alert() {
    let mut bench = bench();
    bench.forecasts("S1", 30, 0..2, HEAVY);
    bench.command(&AlerterCommand { until: Some(at(99)), ..command(CommandKind::Silence) });
    bench.forecasts("S1", 30, 2..3, SEVERE);
    bench.forecasts("S1", 30, 3..6, FREE);
    assert_eq!(bench.short()[1..], ["2 S1 Active/Critical 2", "5 S1 Resolved/Critical 3"]);
}

#[test]
fn a_silence_may_be_ended_and_is_forgotten_once_over() {
    let mut bench = bench();
    bench.command(&AlerterCommand { until: Some(at(9)), ..command(CommandKind::Silence) });
    bench.forecasts("S1", 30, 0..4, HEAVY);
    bench.command(&AlerterCommand { silence_id: Some("C1".into()), ..command(CommandKind::Unsilence) });
    bench.forecasts("S1", 30, 4..5, HEAVY);
    assert_eq!(bench.short(), ["4 S1 Active/High 1"]);
    bench.command(&AlerterCommand { until: Some(at(9)), ..command(CommandKind::Silence) });
    bench.commit();
    assert!(bench.live().keys().any(|key| key[0] == b's'));
    bench.forecasts("S1", 30, 5..10, HEAVY);
    bench.commit();
    assert!(bench.live().keys().any(|key| key[0] == b's'), "sensor-silent has not come so far");
    bench.windows(&["S1"], 9..10);
    bench.commit();
    assert!(!bench.live().keys().any(|key| key[0] == b's'));
    assert_eq!(bench.machine.counts().commands_followed, 3);
}

#[test]
fn an_operator_acknowledges_and_clears() {
    let mut bench = bench();
    bench.forecasts("S1", 30, 0..2, HEAVY);
    let id = format!("ALERT_S1_predicted-congestion_{}", at(1));
    bench.command(&on_alert(CommandKind::Acknowledge, "S1", &id));
    bench.forecasts("S1", 30, 2..3, SEVERE);
    let clear = on_alert(CommandKind::Clear, "S1", &id);
    bench.command(&AlerterCommand { reason: Some("false alarm".into()), ..clear });
    bench.forecasts("S1", 30, 3..7, HEAVY);
    let expected = [
        "1 S1 Active/High 1",
        "1 S1 Investigating/High 2",
        "2 S1 Investigating/Critical 3",
        "2 S1 Cleared/Critical 4",
        "5 S1 Active/High 1",
    ];
    assert_eq!(bench.short(), expected);
    assert_eq!((bench.came[1].by.as_deref(), &*bench.came[1].description), (Some("Ada"), "Acknowledged by Ada"));
    assert_eq!(bench.came[3].description, "Cleared by Ada: false alarm");
    assert_eq!(bench.came[3].resolved_at, Some(at(2)));
}

#[test]
fn commands_that_can_not_be_followed_are_ignored_and_said() {
    let mut bench = bench();
    bench.forecasts("S1", 30, 0..2, HEAVY);
    let id = format!("ALERT_S1_predicted-congestion_{}", at(1));
    let acknowledge = on_alert(CommandKind::Acknowledge, "S1", &id);
    bench.command(&acknowledge);
    let before = bench.short();
    bench.command(&acknowledge);
    bench.command(&on_alert(CommandKind::Clear, "S1", "ALERT_S1_predicted-congestion_1"));
    bench.command(&on_alert(CommandKind::Clear, "S2", &id));
    bench.command(&command(CommandKind::Silence));
    bench.command(&AlerterCommand {
        rule: Some("no-rule".into()),
        until: Some(at(9)),
        ..command(CommandKind::Silence)
    });
    bench.command(&AlerterCommand { silence_id: Some("C9".into()), ..command(CommandKind::Unsilence) });
    bench.feed(COMMANDS, &[record("", b"not JSON".to_vec(), START_MS)]);
    assert_eq!(bench.short(), before);
    let counts = bench.machine.counts();
    assert_eq!((counts.commands_followed, counts.commands_ignored), (1, 7));
    let said: Vec<&str> = counts.remarks(0).map(|(_, remark)| remark).collect();
    for (remark, expected) in said.iter().zip([
        "acknowledged already",
        "no open alert",
        "no open alert",
        "until is missing",
        "no rule no-rule",
        "no silence C9",
        "not a command",
    ]) {
        assert!(remark.contains(expected), "{remark}");
    }
}

#[test]
fn silence_of_a_sensor_opens_after_fifteen_minutes_and_closes_with_readings() {
    let mut bench = bench();
    bench.windows(&["S1", "S2"], 0..3);
    bench.windows(&["S2"], 3..6);
    assert_eq!(bench.short(), [""; 0], "fifteen minutes are not more than fifteen");
    bench.windows(&["S2"], 6..9);
    bench.windows(&["S1", "S2"], 9..20);
    assert_eq!(bench.short(), ["6 S1 Active/Medium 1", "9 S1 Resolved/Medium 2"]);
    let opened = &bench.came[0];
    assert_eq!(
        (opened.alert_type, opened.detection_source),
        (AlertType::SystemAnomaly, DetectionSource::SensorAnomaly)
    );
    assert_eq!((opened.value, opened.threshold, opened.confidence_score), (Some(20.0), Some(15.0), None));
    assert_eq!(opened.description, "No readings for 20 min");
    assert_eq!(bench.came[1].description, "Readings again, after 35 min");
}

#[test]
fn corrections_of_older_windows_neither_open_nor_close() {
    let mut bench = bench();
    bench.windows(&["S1", "S2"], 0..3);
    bench.windows(&["S2"], 3..8);
    // A correction of its last window, and a window that comes too late to end the silence.
    bench.feed(AGGREGATES, &[window("S1", 2, 11), window("S1", 3, 1), window("S1", 1, 12)]);
    bench.windows(&["S2"], 8..9);
    assert_eq!(bench.short(), ["6 S1 Active/Medium 1"]);
    // One of ten minutes ago: the segment is not silent.
    bench.feed(AGGREGATES, &[window("S1", 6, 1)]);
    assert_eq!(bench.short()[1..], ["8 S1 Resolved/Medium 2"]);
    // Corrections do not make a lively segment older.
    bench.windows(&["S1", "S2"], 9..12);
    bench.feed(AGGREGATES, &[window("S1", 5, 20)]);
    bench.windows(&["S1", "S2"], 12..13);
    assert_eq!(bench.short().len(), 2);
}

#[test]
fn a_leap_of_markers_opens_nothing_by_itself() {
    let mut bench = bench();
    let many: Vec<String> = (0..50).map(|i| format!("S{i}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    bench.windows(&many, 0..3);
    // Three days are left out.
    bench.windows(&many[1..], 866..880);
    assert_eq!(bench.short(), [""; 0], "S0 was not heard of for more than a day: it is watched no more");
    // Six hours are left out.
    bench.windows(&many[2..], 952..953);
    assert_eq!(bench.short(), [""; 0]);
    bench.windows(&many[2..], 953..960);
    assert_eq!(bench.short(), ["956 S1 Active/Medium 1"], "silence counts from the leap on");
}

#[test]
fn a_segment_without_readings_for_a_day_is_watched_no_more() {
    let mut bench = bench();
    bench.windows(&["S1", "S2"], 0..1);
    bench.windows(&["S2"], 1..300);
    assert_eq!(bench.short(), ["4 S1 Active/Medium 1", "288 S1 Resolved/Medium 2"]);
    assert_eq!(bench.came[1].description, "No readings for 1440 min: no longer watched");
    assert_eq!(bench.live().keys().filter(|key| key[0] == b'e').count(), 1, "S2");
}

#[test]
fn a_silence_holds_back_silent_sensors_too() {
    let mut bench = bench();
    let silence = AlerterCommand { until: Some(at(10)), ..command(CommandKind::Silence) };
    bench.command(&silence);
    bench.windows(&["S1", "S2"], 0..1);
    bench.windows(&["S2"], 1..9);
    bench.windows(&["S1", "S2"], 9..10);
    bench.windows(&["S1"], 10..12);
    assert_eq!(bench.short(), [""; 0], "S2 has come back meanwhile");
    bench.windows(&["S1"], 12..20);
    assert_eq!(bench.short(), ["13 S2 Active/Medium 1"]);
}

#[test]
fn rules_that_are_configured_no_more_end_their_alerts() {
    let mut bench = bench();
    bench.forecasts("S1", 30, 0..2, HEAVY);
    bench.windows(&["S2"], 0..1);
    bench.windows(&[], 1..5);
    bench.commit();
    let off = AlerterSettings {
        predicted_congestion: [].into(),
        sensor_silent: [("predicted-congestion".to_owned(), SensorSilentSettings::default())].into(),
        ..AlerterSettings::default()
    };
    bench.restart_with(Settings::from(&off));
    let came = bench.short();
    let expected = ["1 S1 Active/High 1", "4 S2 Active/Medium 1", "1 S1 Resolved/High 2", "4 S2 Resolved/Medium 2"];
    assert_eq!(congestion_of(&came), expected);
    assert_eq!((bench.came[2].alert_type, &*bench.came[2].rule), (AlertType::Congestion, "predicted-congestion"));
    assert_eq!(bench.live().len(), 0);
    bench.restart();
    assert_eq!(bench.short().len(), 4, "once");
}

#[test]
fn horizons_may_have_rules_of_their_own() {
    let jam = |horizon_minutes| PredictedCongestionSettings {
        horizon_minutes,
        hold_for: std::time::Duration::ZERO,
        ..PredictedCongestionSettings::default()
    };
    let set = AlerterSettings {
        predicted_congestion: [("jam-15".to_owned(), jam(15)), ("jam-60".to_owned(), jam(60))].into(),
        ..AlerterSettings::default()
    };
    let mut bench = Bench::new(Settings::from(&set));
    bench.forecasts("S1", 15, 0..1, HEAVY);
    bench.forecasts("S1", 60, 0..1, SEVERE);
    bench.commit();
    let rules: Vec<&str> = bench.came.iter().map(|alert| &*alert.rule).collect();
    assert_eq!(rules, ["jam-15", "jam-60"]);
    assert!(bench.came.iter().all(|alert| alert.status == AlertStatus::Active));
}
