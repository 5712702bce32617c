//! What must have come out of the aggregator, worked out from what the senders know.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use common::stream::{Cleanup, Log, Machine, Membership, TopicSpec, Topology};
use serde_json::Value;

use super::chance::Chance;
use super::invariants;
use super::sensors::{EVENTS, Habits, Reading, START_MS, Senders, Truth, WINDOW_MS};
use super::world::{Kind, Scenario, World, each, read};
use super::{Ending, Play};

const APPLICATION: &str = "aggregator";
const REKEYED: &str = "traffic-events-rekeyed";
const AGGREGATES: &str = "processed-traffic-aggregates";
const DEAD_LETTERS: &str = "traffic-events-dlq";
const STATE: &str = "aggregator-state";

const OUT_OF_ORDERNESS_MS: i64 = 30_000;
const LATENESS_MS: i64 = 900_000;
/// Forwarded events are given this much more.
const REKEYED_LATENESS_MS: i64 = 60_000;

type Window = (String, i64);

/// Aggregators that `machine` makes, and sensors as the seed picks them.
pub fn play<M: Machine + 'static>(play: &Play, machine: &dyn Fn() -> M, ending: &mut Ending) -> Result<(), String> {
    let mut world = World::new(play, scenario(play, machine));
    let played = world.play().and_then(|()| check(&world));
    ending.take(&world);
    let (outputs, late) = played?;
    (ending.summary.outputs, ending.summary.late) = (outputs, late);
    Ok(())
}

fn scenario<'m, M: Machine + 'static>(play: &Play, machine: &'m dyn Fn() -> M) -> Scenario<'m, Senders> {
    let mut chance = Chance::new(play.seed);
    let mut habits = Habits::pick(&mut chance);
    habits.events = play.events.unwrap_or(habits.events);
    let topics = [EVENTS, REKEYED, AGGREGATES, DEAD_LETTERS, STATE].map(|name| TopicSpec {
        name: name.to_owned(),
        partitions: habits.partitions,
        replication: 1,
        cleanup: if name == STATE { Cleanup::Compact } else { Cleanup::Delete { retention_ms: None } },
    });
    let topology = |instance: &str| Topology {
        membership: Membership {
            application_id: APPLICATION.into(),
            instance: instance.into(),
            inputs: vec![EVENTS.into(), REKEYED.into()],
            transactional: true,
        },
        outputs: vec![AGGREGATES.into(), REKEYED.into(), DEAD_LETTERS.into()],
        changelog: Some(STATE.into()),
        tail: None,
    };
    let ten_days_ms = 864_000_000;
    Scenario {
        kinds: vec![Kind::new(machine, topology)],
        instances: 1 + chance.index(3),
        topics: topics.into(),
        start_ms: if habits.live { START_MS } else { START_MS + ten_days_ms },
        // A silent partition follows the clock: one that is far ahead rightly makes what comes then late.
        ahead_ms: if habits.live { LATENESS_MS / 3 } else { 3_600_000 },
        feed: Senders::new(habits, play.seed),
    }
}

/// Compares the committed output of a finished history with the truth; returns how many windows there were, and how
/// many late events.
fn check(world: &World<'_, Senders>) -> Result<(usize, usize), String> {
    let partitions = world.feed.habits.partitions;
    let log = &world.log;
    invariants::check(world)?;
    let sent = located(world)?;
    let dead = dead_letters(log, partitions)?;
    check_dead_letters(&sent, &dead, &told(log, partitions)?, partitions)?;

    let mut counted: BTreeMap<Window, Vec<&Reading>> = BTreeMap::new();
    let mut known = HashSet::new();
    let mut duplicates = 0;
    for (at, truth) in &sent {
        match truth {
            Truth::Reading(reading) if !dead.contains_key(at) => {
                if known.insert((&reading.segment, &reading.event_id)) {
                    let window = (reading.segment.clone(), reading.timestamp_ms / WINDOW_MS * WINDOW_MS);
                    counted.entry(window).or_default().push(reading);
                } else {
                    duplicates += 1;
                }
            }
            Truth::Reading(_) | Truth::Malformed | Truth::Marker(_) => {}
        }
    }
    let aggregates = aggregates(log, partitions)?;
    compare(&counted, &aggregates)?;
    let total: usize = counted.values().map(Vec::len).sum();
    check_totals(log, partitions, [total, duplicates, dead.len()])?;
    check_state(log, &aggregates)?;
    let late = dead.values().filter(|reason| *reason == "late").count();
    Ok((aggregates.len(), late))
}

type At = (u32, i64);

/// What was sent, by its place in the log.
fn located(world: &World<'_, Senders>) -> Result<BTreeMap<At, Truth>, String> {
    let mut next: BTreeMap<u32, i64> = BTreeMap::new();
    let mut located = BTreeMap::new();
    for (partition, truth) in &world.feed.sent {
        let offset = next.entry(*partition).or_default();
        located.insert((*partition, *offset), truth.clone());
        *offset += 1;
    }
    for partition in 0..world.feed.habits.partitions {
        let there = read(&world.log, EVENTS, partition)?.len();
        let put = located.keys().filter(|(p, _)| *p == partition).count();
        if there != put {
            return Err(format!("{there} records in partition {partition}, {put} sent"));
        }
    }
    Ok(located)
}

/// Reasons by the place of the original.
fn dead_letters(log: &dyn Log, partitions: u32) -> Result<BTreeMap<At, String>, String> {
    let mut dead = BTreeMap::new();
    for record in (0..partitions).map(|p| read(log, DEAD_LETTERS, p)).collect::<Result<Vec<_>, _>>()?.concat() {
        let record = record.as_record();
        let number = |name| record.header_number(name).ok_or(format!("a dead letter without header {name}"));
        let at = (u32::try_from(number("partition")?).map_err(|e| e.to_string())?, number("offset")?);
        let reason = String::from_utf8_lossy(record.header("reason").unwrap_or_default()).into_owned();
        if record.header("topic") != Some(EVENTS.as_bytes()) {
            return Err(format!("the dead letter of {at:?} does not name {EVENTS}"));
        }
        if dead.insert(at, reason).is_some() {
            return Err(format!("two dead letters for {at:?}"));
        }
    }
    Ok(dead)
}

/// By the place of a forwarded event's original: how far all others had told its owner to have come when it came there.
/// The owner's horizon was no further, and what may be late is what is behind it. Told of a partition that had never
/// had an event is that it holds nobody back (ADR 2): whatever it has afterwards may find the owner ahead.
fn told(log: &dyn Log, partitions: u32) -> Result<BTreeMap<At, i64>, String> {
    let mut told = BTreeMap::new();
    for owner in 0..partitions {
        let mut others: BTreeMap<i64, i64> =
            (0..partitions).filter(|p| *p != owner).map(|p| (i64::from(p), i64::MIN)).collect();
        let (mut all_ms, mut heard, mut wrong) = (i64::MIN, BTreeSet::new(), None);
        each(log, REKEYED, owner, &mut |record| {
            let Some(from) = record.header_number("partition") else { return };
            let first = heard.insert(from);
            if let Some(watermark_ms) = record.watermark_ms() {
                if watermark_ms == invariants::UNCONSTRAINED && !first {
                    wrong = Some(format!("partition {from} says that it never had an event after it had one"));
                }
                others.insert(from, watermark_ms);
                // A horizon never goes back, even if one that was empty begins in the past.
                all_ms = all_ms.max(others.values().copied().min().unwrap_or(i64::MIN));
            } else if let (Ok(from), Some(offset)) = (u32::try_from(from), record.header_number("offset")) {
                told.insert((from, offset), all_ms);
            }
        })?;
        wrong.map_or(Ok(()), Err)?;
    }
    Ok(told)
}

/// Malformed records are all dead; late ones exactly those that arrived behind the watermark, and of the forwarded ones
/// none that the owner had to wait for.
fn check_dead_letters(
    sent: &BTreeMap<At, Truth>,
    dead: &BTreeMap<At, String>,
    told: &BTreeMap<At, i64>,
    partitions: u32,
) -> Result<(), String> {
    let mut watermarks: BTreeMap<u32, i64> = BTreeMap::new();
    for (at, truth) in sent {
        let watermark = watermarks.entry(at.0).or_insert(i64::MIN);
        let reason = dead.get(at).map(String::as_str);
        match truth {
            Truth::Marker(up_to_ms) => *watermark = (*watermark).max(*up_to_ms),
            Truth::Malformed if reason.is_some_and(|r| r.starts_with("invalid: ")) => {}
            Truth::Malformed => return Err(format!("malformed record at {at:?}: dead letter {reason:?}")),
            Truth::Reading(reading) => {
                let end_ms = (reading.timestamp_ms / WINDOW_MS + 1) * WINDOW_MS;
                let behind = *watermark >= end_ms + LATENESS_MS;
                let direct = common::stream::partitioner::partition_of(reading.segment.as_bytes(), partitions) == at.0;
                let told_ms = told.get(at).copied().unwrap_or(i64::MIN);
                let right = match reason {
                    // A record that came by way of another partition may be given a little longer.
                    None => !behind || !direct,
                    Some("late") if direct => behind,
                    Some("late") => told_ms >= end_ms + LATENESS_MS + REKEYED_LATENESS_MS,
                    Some(_) => false,
                };
                if !right {
                    return Err(format!(
                        "{reading:?} at {at:?}, watermark {watermark}, told {told_ms}: dead letter {reason:?}"
                    ));
                }
                *watermark = (*watermark).max(reading.timestamp_ms - OUT_OF_ORDERNESS_MS);
            }
        }
    }
    let strangers: BTreeSet<_> = dead.keys().filter(|at| !sent.contains_key(at)).collect();
    if strangers.is_empty() { Ok(()) } else { Err(format!("dead letters of nothing: {strangers:?}")) }
}

/// The newest aggregate of each window; a correction must count more events than what it corrects.
fn aggregates(log: &dyn Log, partitions: u32) -> Result<BTreeMap<Window, Value>, String> {
    let mut newest: BTreeMap<Window, Value> = BTreeMap::new();
    for partition in 0..partitions {
        for record in read(log, AGGREGATES, partition)? {
            let Some(value) = record.value else { continue };
            let value: Value = serde_json::from_slice(&value).map_err(|e| e.to_string())?;
            let segment = value["segment_id"].as_str().ok_or("no segment_id")?.to_owned();
            let window = (segment, value["window_start"].as_i64().ok_or("no window_start")?);
            if let Some(before) = newest.get(&window)
                && before["event_count"].as_i64() >= value["event_count"].as_i64()
            {
                return Err(format!("{value} was written after {before}"));
            }
            newest.insert(window, value);
        }
    }
    Ok(newest)
}

fn compare(counted: &BTreeMap<Window, Vec<&Reading>>, aggregates: &BTreeMap<Window, Value>) -> Result<(), String> {
    for (window, readings) in counted {
        let aggregate = aggregates.get(window).ok_or(format!("no aggregate of {window:?}: {readings:?}"))?;
        let speeds: Vec<f64> = readings.iter().filter_map(|r| r.speed).collect();
        #[expect(clippy::cast_precision_loss, reason = "a few events")]
        let mean = (!speeds.is_empty()).then(|| speeds.iter().sum::<f64>() / speeds.len() as f64);
        let vehicles: u64 = readings.iter().map(|r| u64::from(r.volume)).sum();
        let same_mean = match (mean, aggregate["avg_speed"].as_f64()) {
            (Some(expected), Some(found)) => (expected - found).abs() < 1e-6,
            (None, None) => true,
            _ => false,
        };
        let same = same_mean
            && aggregate["event_count"].as_u64() == Some(readings.len() as u64)
            && aggregate["vehicle_count"].as_u64() == Some(vehicles);
        if !same {
            return Err(format!("{aggregate}, but the readings were {readings:?}"));
        }
    }
    match aggregates.keys().find(|window| !counted.contains_key(*window)) {
        Some(window) => Err(format!("an aggregate of nothing: {window:?}")),
        None => Ok(()),
    }
}

/// Sent = counted + duplicates + dead letters, by the worker's own totals.
fn check_totals(log: &dyn Log, partitions: u32, expected: [usize; 3]) -> Result<(), String> {
    let mut found = [0; 3];
    for partition in 0..partitions {
        let mut newest = aggregator::Totals::default();
        each(log, STATE, partition, &mut |entry| {
            let (key, value) = (entry.key.unwrap_or_default(), entry.value.unwrap_or_default());
            newest = aggregator::decode_totals(key, value).unwrap_or(newest);
        })?;
        found[0] += newest.counted;
        found[1] += newest.duplicates;
        found[2] += newest.invalid + newest.late;
    }
    let expected = expected.map(|n| n as u64);
    if found == expected { Ok(()) } else { Err(format!("totals {found:?}, expected {expected:?}")) }
}

/// No state without its output: every window that would be restored was written with as many events.
fn check_state(log: &dyn Log, aggregates: &BTreeMap<Window, Value>) -> Result<(), String> {
    for ((_, key), value) in invariants::state(log, STATE)? {
        let Some(held) = aggregator::decode_count(&key, &value) else { continue };
        let window = (held.segment.to_owned(), held.start_ms);
        let written = aggregates.get(&window).and_then(|aggregate| aggregate["event_count"].as_u64());
        if written != Some(held.count) {
            return Err(format!("state holds {} events of {window:?}, {written:?} were written", held.count));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forwarded_event_is_late_only_behind_what_its_owner_was_told() {
        let segment = (0..)
            .map(|n| format!("SEG_{n}"))
            .find(|segment| common::stream::partitioner::partition_of(segment.as_bytes(), 2) == 0);
        let reading = Reading {
            event_id: "EVT_1".into(),
            segment: segment.expect("one of them"),
            timestamp_ms: START_MS,
            speed: None,
            volume: 0,
        };
        let at = (1, 0);
        let sent = [(at, Truth::Reading(reading))].into();
        let dead = [(at, "late".to_owned())].into();
        let kept_ms = START_MS + WINDOW_MS + LATENESS_MS + REKEYED_LATENESS_MS;
        for (told_ms, right) in [(i64::MIN, false), (kept_ms - 1, false), (kept_ms, true), (i64::MAX, true)] {
            let checked = check_dead_letters(&sent, &dead, &[(at, told_ms)].into(), 2);
            assert_eq!(checked.is_ok(), right, "{told_ms}: {checked:?}");
        }
        check_dead_letters(&sent, &dead, &BTreeMap::new(), 2).expect_err("it was not even forwarded");
    }
}
