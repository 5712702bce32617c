//! The alerter's histories, rules and incidents in one world: whatever happens, and however topics interleave, its
//! transitions are those of processes that nothing happens to, each of them once.
//!
//! There are no commands among the input: what these do depends, rightly, on when they arrive.

use std::collections::BTreeMap;

use alerter::{APPLICATION, Incidents, Rules, Settings, incidents_id, incidents_topology, rules_topology};
use common::model::{
    Alert, CongestionLevel, Feature, HistoricalContext, ModelType, Position, Prediction, QUANTILES, UncertaintyBounds,
};
use common::stream::partitioner::partition_of;
use common::stream::{Log, Machine};
use common::topics::Topics;

use super::chance::Chance;
use super::invariants;
use super::script::{AHEAD_MS, PLAYED_AT_MS, Script, aggregate, end_of, excerpt, marker, record, shorten, topic};
use super::world::{Kind, Scenario, Sent, World, read};
use super::{Ending, Play};

/// Plays the history; the undisturbed one is always the true machines'.
pub fn play<R: Machine + 'static, I: Machine + 'static>(
    play: &Play,
    rules: &dyn Fn() -> R,
    incidents: &dyn Fn() -> I,
    ending: &mut Ending,
) -> Result<(), String> {
    let mut chance = Chance::new(play.seed);
    let partitions = 1 + u32::try_from(chance.below(3)).expect("small");
    let mut records = input(&mut chance, partitions);
    shorten(&mut records, play.events);
    let instances = 1 + chance.index(3);
    let mut world = World::new(play, scenario(play.seed, kinds(rules, incidents), &records, partitions, instances));
    let played = world.play().and_then(|()| invariants::check(&world));
    ending.take(&world);
    played?;
    let true_kinds = kinds(&|| Rules::new(Settings::default()), &Incidents::new);
    let mut undisturbed = World::undisturbed(scenario(play.seed, true_kinds, &records, partitions, 1));
    undisturbed.play_undisturbed().map_err(|what| format!("undisturbed: {what}"))?;
    let expected = transitions(&undisturbed.log, partitions).map_err(|what| format!("undisturbed: {what}"))?;
    let found = transitions(&world.log, partitions)?;
    compare(&found, &expected)?;
    ending.summary.outputs = found.len();
    let names = Topics::default();
    let changelogs = [names.changelog(APPLICATION), names.changelog(&incidents_id(APPLICATION))];
    changelogs.iter().try_for_each(|name| invariants::same_state(&world.log, &undisturbed.log, name))
}

fn kinds<'m, R: Machine + 'static, I: Machine + 'static>(
    rules: &'m dyn Fn() -> R,
    incidents: &'m dyn Fn() -> I,
) -> Vec<Kind<'m>> {
    vec![
        Kind::new(rules, |instance| rules_topology(&Topics::default(), APPLICATION, instance)),
        Kind::new(incidents, |instance| incidents_topology(&Topics::default(), APPLICATION, instance)),
    ]
}

fn scenario<'m>(
    seed: u64,
    kinds: Vec<Kind<'m>>,
    records: &[Sent],
    partitions: u32,
    instances: usize,
) -> Scenario<'m, Script> {
    let names = Topics::default();
    let topics = vec![
        topic(&names.predictions, partitions, false),
        topic(&names.aggregates, partitions, false),
        topic(&names.alerter_commands, partitions, false),
        topic(&names.alerts, partitions, false),
        topic(&names.alert_transitions, 1, false),
        topic(&names.changelog(APPLICATION), partitions, true),
        topic(&names.changelog(&incidents_id(APPLICATION)), 1, true),
    ];
    let feed = Script::new(records, seed);
    Scenario { kinds, instances, topics, start_ms: PLAYED_AT_MS, ahead_ms: AHEAD_MS, feed }
}

type Transitions = BTreeMap<(String, u32), Vec<u8>>;

/// Every transition of `traffic-alerts`, each once, those of an alert in order and where its segment belongs.
fn transitions(log: &dyn Log, partitions: u32) -> Result<Transitions, String> {
    let alerts = Topics::default().alerts;
    let mut found = Transitions::new();
    for partition in 0..partitions {
        let mut last: BTreeMap<String, u32> = BTreeMap::new();
        for record in read(log, &alerts, partition)? {
            let value = record.value.unwrap_or_default();
            let alert: Alert<'_> = serde_json::from_slice(&value).map_err(|e| format!("{e}: {}", excerpt(&value)))?;
            let before = last.insert(alert.alert_id.to_string(), alert.sequence).unwrap_or(0);
            if alert.sequence != before + 1 {
                return Err(format!("after transition {before} of its alert came {}", excerpt(&value)));
            }
            if partition_of(alert.segment_id.as_bytes(), partitions) != partition {
                return Err(format!("in partition {partition}: {}", excerpt(&value)));
            }
            found.insert((alert.alert_id.into_owned(), alert.sequence), value);
        }
    }
    Ok(found)
}

fn compare(found: &Transitions, expected: &Transitions) -> Result<(), String> {
    let shown = |value: Option<&Vec<u8>>| value.map_or("nothing".to_owned(), |value| excerpt(value));
    match found.keys().chain(expected.keys()).find(|id| found.get(*id) != expected.get(*id)) {
        Some(id) => Err(format!(
            "{} transitions instead of {}; {id:?} is\n  {}\ninstead of\n  {}",
            found.len(),
            expected.len(),
            shown(found.get(id)),
            shown(expected.get(id))
        )),
        None => Ok(()),
    }
}

/// Segments that jam, clear up and fall silent; forecasts and windows that are missing, come twice or late, or are
/// none; markers that leap.
fn input(chance: &mut Chance, partitions: u32) -> Vec<Sent> {
    let names = Topics::default();
    let (predictions, aggregates) = (&names.predictions, &names.aggregates);
    let mut segments = vec![(80.0, false); 2 + chance.index(5)];
    let (mut step, mut left) = (0, 15 + chance.below(25));
    let mut records = Vec::new();
    while left > 0 {
        (step, left) = (step + if chance.one_in(40) { 10 } else { 1 }, left - 1);
        for (s, (median, silent)) in segments.iter_mut().enumerate() {
            let segment = format!("SEG_{s}");
            let partition = partition_of(segment.as_bytes(), partitions);
            if chance.one_in(4) {
                *median = [12.0, 20.0, 28.0, 45.0, 80.0, 80.0, 80.0][chance.index(7)];
            }
            if chance.one_in(if *silent { 6 } else { 12 }) {
                *silent = !*silent;
            }
            let of_step = if chance.one_in(25) { step - 2 } else { step };
            let times = if chance.one_in(15) { 0 } else { 1 + usize::from(chance.one_in(20)) };
            for horizon in [15, 30] {
                let json = forecast(&segment, of_step, horizon, *median);
                records.extend((0..times).map(|_| record(predictions, partition, &segment, json.clone())));
            }
            if !*silent {
                let of_step = if chance.one_in(25) { step - 2 } else { step };
                records.push(aggregate(aggregates, partition, &segment, of_step, Some(*median), 10));
            }
            if chance.one_in(80) {
                let topic = if chance.one_in(2) { predictions } else { aggregates };
                records.push(record(topic, partition, &segment, b"no JSON".to_vec()));
            }
        }
        for partition in 0..partitions {
            if !chance.one_in(12) {
                records.push(marker(aggregates, partition, step));
            }
        }
    }
    records
}

/// A forecast whose speed is spread evenly over `median` ± 19 km/h.
fn forecast(segment: &str, step: i64, horizon: u32, median: f64) -> Vec<u8> {
    let at_ms = end_of(step);
    let mut quantiles = [0.0; QUANTILES];
    let mut spread = -18.0;
    for quantile in &mut quantiles {
        *quantile = f64::max(median + spread, 0.0);
        spread += 2.0;
    }
    let prediction = Prediction {
        prediction_id: format!("PRED_{segment}_{at_ms}_{horizon}").into(),
        segment_id: segment.into(),
        prediction_timestamp: at_ms,
        prediction_horizon: horizon,
        target_timestamp: at_ms + i64::from(horizon) * 60_000,
        predicted_speed: median,
        predicted_volume: None,
        current_speed: 60.0,
        predicted_congestion_level: CongestionLevel::of(median),
        uncertainty_bounds: UncertaintyBounds { speed_lower: quantiles[0], speed_upper: quantiles[QUANTILES - 1] },
        speed_quantiles: quantiles,
        confidence_score: 0.5,
        model_version: "v0.1.0".into(),
        model_type: ModelType::LinearRegression,
        features_used: vec![Feature::HistoricalSpeed, Feature::TimeOfDay].into(),
        coordinates: Some(Position { latitude: 34.05, longitude: -118.25 }),
        historical_context: HistoricalContext::default(),
    };
    serde_json::to_vec(&prediction).expect("forecasts are JSON")
}
