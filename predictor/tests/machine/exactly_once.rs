//! However instances share the partitions, die and come back: the forecasts are the same, to the byte.

use std::collections::{BTreeSet, HashMap};
use std::sync::OnceLock;

use crate::cluster::{Cluster, aggregate};
use common::model::ModelType;
use predictor::forecast::fit::{Plan, fit};
use predictor::forecast::series::Series;
use predictor::{Live, Settings};
use proptest::prelude::*;

pub const START: i64 = 5_900_000;
const PARTITIONS: usize = 3;
const SEGMENTS: usize = 7;
pub const STEPS: i64 = 40;

/// Speeds that rise and fall, with gaps, a correction now and then, and a partition without segments.
pub fn feed(cluster: &mut Cluster) {
    for step in START..START + STEPS {
        for s in 0..SEGMENTS {
            let n = step * 7 + i64::try_from(s).expect("few") * 13;
            if n % 11 == 0 {
                continue;
            }
            let segment = format!("S{s}");
            let speed = speed(i64::try_from(s).expect("few"), step);
            cluster.send(s % 2, &aggregate(&segment, step, speed, 10));
            if n % 5 == 0 && step > START + 2 {
                cluster.send(s % 2, &aggregate(&segment, step - 2, speed + 3.0, 11));
            }
        }
        cluster.marker(step);
    }
}

pub fn settings() -> Settings {
    Settings { horizons: vec![5, 15, 30], ..Settings::default() }
}

fn speed(segment: i64, step: i64) -> f64 {
    let n = step * 7 + segment * 13;
    60.0 + f64::from(i32::try_from(n % 37).expect("small")) - 0.5 * f64::from(i32::try_from(segment).expect("few"))
}

/// A model of all segments but the last, fitted to the three days before.
pub fn model() -> &'static Live {
    static MODEL: OnceLock<Live> = OnceLock::new();
    MODEL.get_or_init(|| {
        let days = 3 * 288;
        #[expect(clippy::cast_possible_truncation, reason = "speeds")]
        let speeds = |s| (START - days..START).map(|step| speed(s, step) as f32).collect();
        let segments = i64::try_from(SEGMENTS).expect("few") - 1;
        let series = Series::new(START - days, (0..segments).map(|s| (format!("S{s}").into(), speeds(s))).collect());
        let mut plan = Plan::new(&settings().horizons, 0..700, 700..864);
        (plan.trees.trees, plan.spread.trees) = (12, 6);
        let model = fit(&series, &[(0, 1, 0.5), (1, 2, 0.9)], &settings().time, &plan, &|| ());
        Live { version: "v1.2.3".into(), model, ..Live::default() }
    })
}

pub fn with_model(instances: usize) -> Cluster {
    let cluster = Cluster::new(settings(), PARTITIONS, instances);
    let Live { version, model, .. } = model();
    cluster.model.put(Some(Live { version: version.clone(), model: model.clone(), ..Live::default() }));
    cluster
}

pub fn undisturbed() -> Vec<Vec<Vec<u8>>> {
    let mut cluster = with_model(1);
    feed(&mut cluster);
    cluster.finish();
    cluster.predictions
}

#[test]
fn a_model_forecasts_what_it_knows_and_the_fallback_the_rest() {
    let mut cluster = with_model(1);
    feed(&mut cluster);
    cluster.finish();
    let last = format!("S{}", SEGMENTS - 1);
    assert!(cluster.forecasts().count() > 500);
    for forecast in cluster.forecasts() {
        let is_known = forecast.segment_id != last;
        assert_eq!(forecast.model_type == ModelType::GradientBoosting, is_known, "{forecast:?}");
        assert_eq!(forecast.model_version == "v1.2.3", is_known, "{forecast:?}");
        assert!(forecast.speed_quantiles.is_sorted() && (0.0..=1.0).contains(&forecast.confidence_score));
    }
}

/// A model is swapped, withdrawn and swapped back while frames close: each has the forecasts of one of them.
#[test]
fn models_change_between_frames() {
    let mut cluster = with_model(2);
    feed(&mut cluster);
    let swap = |cluster: &Cluster, version: Option<&str>| {
        let live =
            version.map(|version| Live { version: version.into(), model: model().model.clone(), ..Live::default() });
        cluster.model.put(live);
    };
    for (round, version) in [Some("v1.0.0"), None, Some("v2.0.0"), Some("v1.0.0")].into_iter().enumerate() {
        swap(&cluster, version);
        (0..PARTITIONS).for_each(|p| cluster.read(p, 60 + round));
        (0..2).for_each(|i| cluster.tail(i, usize::MAX / 2));
        if round == 2 {
            cluster.restart(0);
        }
        (0..2).for_each(|i| cluster.commit(i));
    }
    cluster.finish();
    let ids: BTreeSet<String> = cluster.forecasts().map(|p| p.prediction_id.into_owned()).collect();
    assert_eq!(ids.len(), cluster.forecasts().count(), "a forecast is doubled");
    let expected: usize = undisturbed().iter().map(Vec::len).sum();
    assert_eq!(ids.len(), expected, "a forecast is lost");
    let mut versions: HashMap<(String, i64), BTreeSet<String>> = HashMap::new();
    for p in cluster.forecasts().filter(|p| p.model_type == ModelType::GradientBoosting) {
        let frame = (p.segment_id.into_owned(), p.prediction_timestamp);
        versions.entry(frame).or_default().insert(p.model_version.into_owned());
    }
    assert!(versions.values().all(|versions| versions.len() == 1), "a frame has two models");
    let all: BTreeSet<&String> = versions.values().flatten().collect();
    assert_eq!(all.len(), 2, "{all:?}");
}

#[test]
fn one_forecast_for_each_segment_window_and_horizon() {
    let mut cluster = Cluster::new(settings(), PARTITIONS, 1);
    feed(&mut cluster);
    cluster.finish();
    let ids: Vec<String> = cluster.forecasts().map(|p| p.prediction_id.into_owned()).collect();
    let distinct: BTreeSet<&String> = ids.iter().collect();
    assert_eq!(ids.len(), distinct.len());
    // Every segment from the first window it was heard of: its gaps are shorter than an hour.
    let expected = (0..SEGMENTS).map(|s| {
        let first = (START..).find(|step| (step * 7 + i64::try_from(s).expect("few") * 13) % 11 != 0);
        usize::try_from(START + STEPS - first.expect("some window")).expect("few") * 3
    });
    assert_eq!(ids.len(), expected.sum::<usize>());
    let schema = include_str!("../../../docs/schemas/traffic-prediction.json");
    let schema = jsonschema::draft202012::new(&serde_json::from_str(schema).expect("JSON")).expect("a schema");
    for json in cluster.predictions.iter().flatten() {
        let message = serde_json::from_slice(json).expect("JSON");
        assert!(schema.is_valid(&message), "{message}");
    }
    for forecast in cluster.forecasts() {
        assert!(forecast.speed_quantiles.is_sorted() && forecast.speed_quantiles[0] >= 0.0);
        assert!(forecast.uncertainty_bounds.speed_lower <= forecast.predicted_speed);
        assert!((0.0..=1.0).contains(&forecast.confidence_score));
    }
}

/// All windows of a partition at once, behind one marker, as after an outage; then a gap of three days.
#[test]
fn a_marker_may_pass_many_windows() {
    let feed = |cluster: &mut Cluster, every: i64| {
        for step in START..START + 300 {
            for s in 0..4 {
                cluster.send(
                    s % 2,
                    &aggregate(&format!("S{s}"), step, 50.0 + f64::from(u8::try_from(step % 30).expect("small")), 10),
                );
            }
            if (step - START) % every == every - 1 {
                cluster.marker(step);
            }
        }
        cluster.send(0, &aggregate("S0", START + 1_200, 70.0, 10));
        cluster.marker(START + 1_210);
    };
    let forecasts = |every, instances| {
        let mut cluster = Cluster::new(settings(), PARTITIONS, instances);
        feed(&mut cluster, every);
        cluster.finish();
        let mut ids: Vec<String> = cluster.forecasts().map(|p| p.prediction_id.into_owned()).collect();
        ids.sort_unstable();
        (ids, cluster.predictions)
    };
    let (ids, one_by_one) = forecasts(1, 1);
    for (every, instances) in [(300, 1), (100, 3)] {
        let found = forecasts(every, instances).0;
        let differs = found.iter().zip(&ids).find(|(found, expected)| found != expected);
        assert_eq!((found.len(), differs), (ids.len(), None), "a marker every {every} windows");
    }
    assert!(forecasts(1, 3).1 == one_by_one, "three instances forecast otherwise than one");
}

#[derive(Debug, Clone)]
enum Action {
    Read(usize, usize),
    Tail(usize, usize),
    Commit(usize),
    Crash(usize),
    Give(usize, usize),
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let action = prop_oneof![
        10 => (0..PARTITIONS, 1..40_usize).prop_map(|(p, n)| Action::Read(p, n)),
        6 => (0..3_usize, 1..20_usize).prop_map(|(i, n)| Action::Tail(i, n)),
        8 => (0..3_usize).prop_map(Action::Commit),
        2 => (0..3_usize).prop_map(Action::Crash),
        1 => (0..PARTITIONS, 0..3_usize).prop_map(|(p, i)| Action::Give(p, i)),
    ];
    proptest::collection::vec(action, 0..250)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]
    #[test]
    fn instances_crashes_and_moves_change_nothing(actions in actions()) {
        let mut cluster = with_model(3);
        feed(&mut cluster);
        for action in actions {
            match action {
                Action::Read(p, n) => cluster.read(p, n),
                Action::Tail(i, n) => cluster.tail(i, n),
                Action::Commit(i) => cluster.commit(i),
                Action::Crash(i) => cluster.restart(i),
                Action::Give(p, i) => cluster.give(p, i),
            }
        }
        cluster.finish();
        let expected = undisturbed();
        for (partition, (found, expected)) in cluster.predictions.iter().zip(&expected).enumerate() {
            prop_assert_eq!(found.len(), expected.len(), "partition {}", partition);
            for (found, expected) in found.iter().zip(expected) {
                prop_assert_eq!(String::from_utf8_lossy(found), String::from_utf8_lossy(expected));
            }
        }
    }
}
