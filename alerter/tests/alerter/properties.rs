//! What must not matter: where batches are cut, how topics interleave, when a process dies and is restored.

use std::collections::{BTreeMap, BTreeSet};

use alerter::{AGGREGATES, ALERTS, Incidents, PREDICTIONS, Settings};
use common::config::{AlerterSettings, PredictedCongestionSettings};
use common::model::{Alert, AlertStatus, AlerterCommand, CommandKind};
use common::stream::{Machine, Outbox, Records, StoredRecord};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::support::*;

const SEGMENTS: [&str; 3] = ["S1", "S2", "S3"];
const HORIZONS: [u32; 2] = [15, 30];

/// Two horizons, and waits so short that much happens in a few frames.
fn settings() -> Settings {
    let jam = |horizon_minutes, minutes: u64| PredictedCongestionSettings {
        horizon_minutes,
        hold_for: std::time::Duration::from_secs(60 * minutes),
        close_for: std::time::Duration::from_secs(60 * minutes),
        reopen_after: std::time::Duration::from_secs(60 * minutes),
        forget: std::time::Duration::from_secs(60 * 30),
        ..PredictedCongestionSettings::default()
    };
    Settings::from(&AlerterSettings {
        predicted_congestion: [("jam-15".to_owned(), jam(15, 0)), ("jam-30".to_owned(), jam(30, 5))].into(),
        ..AlerterSettings::default()
    })
}

/// Forecasts frame by frame; segments are missing, records come again, late or with another content.
fn forecasts() -> impl Strategy<Value = Vec<StoredRecord>> {
    let median = prop::sample::select(vec![10.0, 25.0, 25.0, 45.0, 70.0, 70.0, 70.0]);
    let one = (0..SEGMENTS.len(), 0..HORIZONS.len(), median, 0..20_i64);
    vec(vec(one, 4..14), 1..25).prop_map(|frames| {
        let mut records = Vec::new();
        for (step, frame) in (0..).zip(frames) {
            for (segment, horizon, median, luck) in frame {
                let step = if luck == 0 { step - 2 } else { step };
                let record = forecast(SEGMENTS[segment], step, HORIZONS[horizon], median);
                if luck == 1 {
                    records.push(record.clone());
                }
                records.push(record);
            }
        }
        records
    })
}

/// Windows and markers; segments fall silent, windows are corrected or come late, markers leap.
fn aggregates() -> impl Strategy<Value = Vec<StoredRecord>> {
    let one = (0..SEGMENTS.len(), prop_oneof![6 => Just(0_i64), 1 => 1..6_i64]);
    let leap = prop_oneof![20 => Just(1_i64), 1 => 2..9_i64, 1 => Just(400_i64)];
    vec((vec(one, 0..4), leap), 1..40).prop_map(|windows| {
        let (mut records, mut step) = (Vec::new(), 0);
        for (segments, leap) in windows {
            step += leap;
            for (i, (segment, late)) in segments.into_iter().enumerate() {
                records.push(window(SEGMENTS[segment], step - late, 1 + i as u64));
            }
            records.push(marker(step));
        }
        records
    })
}

/// How a run goes on: so many records of one topic or the other, then perhaps a commit, or a death after it.
#[derive(Debug, Clone, Copy)]
struct Move {
    input: usize,
    records: usize,
    commit: bool,
    die: bool,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = (prop::sample::select(vec![PREDICTIONS, AGGREGATES]), 0..9_usize, any::<bool>(), any::<bool>());
    vec(one.prop_map(|(input, records, commit, die)| Move { input, records, commit, die }), 0..80)
}

/// Transitions in an order of their own.
fn sorted(bench: &Bench) -> Vec<String> {
    let mut all: Vec<String> = bench.came.iter().map(|a| serde_json::to_string(a).expect("JSON")).collect();
    all.sort();
    all
}

fn in_one_go(forecasts: &[StoredRecord], aggregates: &[StoredRecord]) -> Bench {
    let mut bench = Bench::new(settings());
    bench.feed(PREDICTIONS, forecasts);
    bench.feed(AGGREGATES, aggregates);
    bench.commit();
    bench
}

/// A death may come before the commit too: what was done since the last one is done again.
fn torn(forecasts: &[StoredRecord], aggregates: &[StoredRecord], moves: &[Move]) -> Bench {
    let topics = [forecasts, aggregates];
    let (mut bench, mut read, mut committed) = (Bench::new(settings()), [0, 0], [0, 0]);
    for go in moves {
        let end = (read[go.input] + go.records).min(topics[go.input].len());
        bench.feed(go.input, &topics[go.input][read[go.input]..end]);
        read[go.input] = end;
        if go.commit {
            bench.commit();
            committed = read;
        }
        if go.die {
            bench.restart();
            read = committed;
        }
    }
    for (input, topic) in topics.into_iter().enumerate() {
        bench.feed(input, &topic[read[input]..]);
    }
    bench.commit();
    bench
}

/// Commands about alerts that there would be without them, and about none; silences that may come and go.
fn commands(came: &[Alert<'_>], picks: &[(usize, prop::sample::Index)]) -> Vec<StoredRecord> {
    let silence = |until| AlerterCommand { until: Some(at(until)), ..command(CommandKind::Silence) };
    let spoken = picks.iter().map(|(kind, pick)| {
        let one = came.get(pick.index(came.len().max(1)));
        let (segment, id) = one.map_or(("S1", "ALERT_S1_jam-15_1"), |alert| (&*alert.segment_id, &*alert.alert_id));
        let command = match kind {
            0 | 1 => on_alert(CommandKind::Acknowledge, segment, id),
            2 => on_alert(CommandKind::Clear, segment, id),
            3 => AlerterCommand { segment_id: Some(segment.to_owned().into()), ..silence(9) },
            4 => AlerterCommand { from: Some(at(3)), ..silence(12) },
            _ => AlerterCommand { silence_id: Some("C1".into()), ..command(CommandKind::Unsilence) },
        };
        record(segment, serde_json::to_vec(&command).expect("JSON"), START_MS)
    });
    spoken.collect()
}

/// All topics in one order of arrival.
fn merged(topics: [&[StoredRecord]; 3], turns: &[prop::sample::Index]) -> Vec<(usize, StoredRecord)> {
    let (mut all, mut read) = (Vec::new(), [0; 3]);
    for turn in turns.iter().cycle() {
        let left: Vec<usize> = (0..3).filter(|input| read[*input] < topics[*input].len()).collect();
        if left.is_empty() {
            break;
        }
        let input = left[turn.index(left.len())];
        // A few at a time, so that commands come in between.
        for record in topics[input].iter().skip(read[input]).take(1 + turn.index(5)) {
            all.push((input, record.clone()));
            read[input] += 1;
        }
    }
    all
}

/// Feeds one order of arrival, cut and killed: after so many records a commit, and perhaps a death.
fn arrived(all: &[(usize, StoredRecord)], cuts: &[(usize, bool, bool)]) -> Bench {
    let (mut bench, mut next, mut committed) = (Bench::new(settings()), 0, 0);
    for &(records, commit, die) in cuts.iter().chain([&(all.len(), true, false)]) {
        let end = (next + records).min(all.len());
        for batch in all[next..end].chunk_by(|a, b| a.0 == b.0) {
            let records: Vec<StoredRecord> = batch.iter().map(|(_, record)| record.clone()).collect();
            bench.feed(batch[0].0, &records);
        }
        next = end;
        if commit {
            bench.commit();
            committed = next;
        }
        if die {
            bench.restart();
            next = committed;
        }
    }
    bench
}

/// Of each alert: numbered from 1 without a gap, in time's order, never less severe, and ended once at most.
fn check_lives(came: &[Alert<'_>]) {
    let mut lives: BTreeMap<&str, Vec<&Alert<'_>>> = BTreeMap::new();
    came.iter().for_each(|alert| lives.entry(&alert.alert_id).or_default().push(alert));
    for (id, life) in lives {
        for (i, alert) in life.iter().enumerate() {
            assert_eq!(alert.sequence as usize, i + 1, "{id}");
            assert_eq!(alert.status.is_open(), alert.resolved_at.is_none(), "{id}");
        }
        assert_eq!(life[0].timestamp, life[0].opened_at);
        for pair in life.windows(2) {
            assert!(pair[0].status.is_open(), "{id} goes on after its end");
            assert!(pair[0].timestamp <= pair[1].timestamp && pair[0].severity <= pair[1].severity, "{id}");
        }
    }
}

/// No two alerts of a rule and segment overlap.
fn check_no_overlap(came: &[Alert<'_>]) {
    let mut open = BTreeSet::new();
    for alert in came {
        let place = (&alert.rule, &alert.segment_id);
        match alert.status {
            AlertStatus::Active if alert.sequence == 1 => assert!(open.insert(place), "{place:?} is open already"),
            AlertStatus::Resolved | AlertStatus::Cleared => assert!(open.remove(&place)),
            AlertStatus::Active | AlertStatus::Investigating => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn transitions_do_not_depend_on_batches_interleaving_or_deaths(
        forecasts in forecasts(), aggregates in aggregates(), moves in moves(),
    ) {
        let expected = in_one_go(&forecasts, &aggregates);
        check_lives(&expected.came);
        check_no_overlap(&expected.came);
        let found = torn(&forecasts, &aggregates, &moves);
        prop_assert_eq!(sorted(&found), sorted(&expected));
        prop_assert_eq!(found.live(), expected.live(), "and leave the same state");
    }

    #[test]
    fn nor_do_they_with_commands_once_these_have_arrived_somewhere(
        forecasts in forecasts(),
        aggregates in aggregates(),
        picks in vec((0..6_usize, any::<prop::sample::Index>()), 0..12),
        turns in vec(any::<prop::sample::Index>(), 1..40),
        cuts in vec((0..30_usize, any::<bool>(), any::<bool>()), 0..30),
    ) {
        let spoken = commands(&in_one_go(&forecasts, &aggregates).came, &picks);
        let all = merged([&forecasts, &aggregates, &spoken], &turns);
        let expected = arrived(&all, &[]);
        check_lives(&expected.came);
        check_no_overlap(&expected.came);
        let found = arrived(&all, &cuts);
        prop_assert_eq!(sorted(&found), sorted(&expected));
        prop_assert_eq!(found.live(), expected.live());
    }

    #[test]
    fn the_second_machine_writes_each_transition_once(
        forecasts in forecasts(), aggregates in aggregates(), mut cuts in vec((0..9_usize, 0..5_usize), 0..20),
    ) {
        let came = in_one_go(&forecasts, &aggregates).came;
        let records: Vec<StoredRecord> = came
            .iter()
            .map(|alert| record(&alert.segment_id, serde_json::to_vec(alert).expect("JSON"), alert.timestamp))
            .collect();
        let (mut machine, mut out, mut written, mut changelog) = (Incidents::new(), Outbox::default(), Vec::new(), vec![]);
        machine.assign(0, 1);
        let mut next = 0;
        cuts.push((records.len(), 0));
        for (records_now, back) in cuts {
            // Some come again.
            let from = next - back.min(next);
            next = (next + records_now).min(records.len());
            if from < next {
                machine.records(&Records::stored(0, 0, &records[from..next]), 0, &mut out);
            }
            machine.flush(0, 0, &mut out);
            written.extend(out.emitted(ALERTS).into_iter().map(|e| e.value.expect("a value")));
            changelog.extend(out.entries());
            out.clear();
            machine = Incidents::new();
            machine.assign(0, 1);
            for (_, key, value) in &changelog {
                machine.restore(0, key, value.as_deref());
            }
        }
        let expected: Vec<Vec<u8>> = records.into_iter().map(|record| record.value.expect("a value")).collect();
        prop_assert_eq!(written, expected);
        let open = came.iter().filter(|a| a.sequence == 1).count() - came.iter().filter(|a| !a.status.is_open()).count();
        prop_assert_eq!(machine.open().values().sum::<usize>(), open);
        prop_assert_eq!(machine.totals().2, 0);
    }
}

/// The properties would hold of a machine that does nothing: this one does.
#[test]
fn much_happens_in_these_histories() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..100 {
        let forecasts = forecasts().new_tree(&mut runner).expect("a value").current();
        let aggregates = aggregates().new_tree(&mut runner).expect("a value").current();
        for alert in in_one_go(&forecasts, &aggregates).came {
            let escalated = alert.sequence > 1 && alert.status.is_open();
            *kinds.entry(format!("{} {:?} {escalated}", alert.rule, alert.status)).or_default() += 1;
        }
    }
    for kind in [
        "jam-15 Active false",
        "jam-15 Active true",
        "jam-15 Resolved false",
        "jam-30 Active false",
        "jam-30 Resolved false",
        "sensor-silent Active false",
        "sensor-silent Resolved false",
    ] {
        assert!(kinds.get(kind).is_some_and(|n| *n >= 20), "{kind}: {kinds:?}");
    }
}
