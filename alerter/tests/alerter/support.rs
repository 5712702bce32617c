//! Forecasts, aggregates and commands as their topics hold them, and a machine fed with them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::OnceLock;

use alerter::{AGGREGATES, COMMANDS, PREDICTIONS, Rules, Settings, TRANSITIONS};
use common::model::{
    Aggregate, Alert, AlerterCommand, CommandKind, CongestionLevel, Feature, HistoricalContext, ModelType, Position,
    Prediction, UncertaintyBounds,
};
use common::stream::{Header, Machine, Outbox, Records, StoredRecord, WATERMARK_HEADER};

pub const START_MS: i64 = 1_750_000_200_000;
pub const MINUTE_MS: i64 = 60_000;
/// Of frames and windows.
pub const STEP_MS: i64 = 5 * MINUTE_MS;

/// The time of frame or window end number `step`.
pub fn at(step: i64) -> i64 {
    START_MS + step * STEP_MS
}

/// A forecast whose speed is spread evenly over `median` ± 19 km/h.
pub fn prediction(segment: &str, step: i64, horizon: u32, median: f64) -> Prediction<'static> {
    let (at_ms, quantiles) = (at(step), std::array::from_fn(|i| (median + 2.0 * (i as f64 - 9.0)).max(0.0)));
    Prediction {
        prediction_id: format!("PRED_{segment}_{at_ms}_{horizon}").into(),
        segment_id: segment.to_owned().into(),
        prediction_timestamp: at_ms,
        prediction_horizon: horizon,
        target_timestamp: at_ms + i64::from(horizon) * MINUTE_MS,
        predicted_speed: median,
        predicted_volume: None,
        current_speed: 60.0,
        predicted_congestion_level: CongestionLevel::of(median),
        uncertainty_bounds: UncertaintyBounds { speed_lower: quantiles[0], speed_upper: quantiles[18] },
        speed_quantiles: quantiles,
        confidence_score: 0.5,
        model_version: "v0.1.0".into(),
        model_type: ModelType::LinearRegression,
        features_used: vec![Feature::HistoricalSpeed, Feature::TimeOfDay].into(),
        coordinates: Some(Position { latitude: 34.05, longitude: -118.25 }),
        historical_context: HistoricalContext::default(),
    }
}

pub fn forecast(segment: &str, step: i64, horizon: u32, median: f64) -> StoredRecord {
    let json = serde_json::to_vec(&prediction(segment, step, horizon, median)).expect("JSON");
    record(segment, json, at(step))
}

/// The window that ends at `step`, with readings.
pub fn window(segment: &str, step: i64, event_count: u64) -> StoredRecord {
    let (start, end) = (at(step - 1), at(step));
    let aggregate = Aggregate {
        aggregate_id: format!("AGG_{segment}_{start}").into(),
        segment_id: segment.into(),
        window_start: start,
        window_end: end,
        avg_speed: Some(60.0),
        speed_stddev: None,
        speed_min: None,
        speed_max: None,
        vehicle_count: 10,
        occupancy_avg: 0.0,
        occupancy_max: None,
        congestion_level: None,
        coordinates: None,
        event_count,
        quality_score: 1.0,
    };
    record(segment, serde_json::to_vec(&aggregate).expect("JSON"), end)
}

pub fn marker(step: i64) -> StoredRecord {
    let headers = vec![Header { name: WATERMARK_HEADER.into(), value: at(step).to_string().into_bytes() }];
    StoredRecord { timestamp_ms: at(step), headers, ..StoredRecord::default() }
}

pub fn record(key: &str, value: Vec<u8>, timestamp_ms: i64) -> StoredRecord {
    StoredRecord { timestamp_ms, key: Some(key.as_bytes().to_vec()), value: Some(value), ..StoredRecord::default() }
}

pub fn command(kind: CommandKind) -> AlerterCommand<'static> {
    AlerterCommand {
        command_id: "C1".into(),
        command: kind,
        alert_id: None,
        segment_id: None,
        rule: None,
        silence_id: None,
        from: None,
        until: None,
        by: "Ada".into(),
        reason: None,
        timestamp: START_MS,
    }
}

pub fn on_alert(kind: CommandKind, segment: &str, alert_id: &str) -> AlerterCommand<'static> {
    let (alert_id, segment_id) = (Some(Cow::Owned(alert_id.to_owned())), Some(Cow::Owned(segment.to_owned())));
    AlerterCommand { alert_id, segment_id, ..command(kind) }
}

/// What came out, short: `step status/severity sequence` and segment.
pub fn short(alert: &Alert<'_>) -> String {
    let step = (alert.timestamp - START_MS) / STEP_MS;
    format!("{step} {} {:?}/{:?} {}", alert.segment_id, alert.status, alert.severity, alert.sequence)
}

/// What `traffic-alerts` promises.
fn schema() -> &'static jsonschema::Validator {
    static SCHEMA: OnceLock<jsonschema::Validator> = OnceLock::new();
    SCHEMA.get_or_init(|| {
        let text = include_str!("../../../docs/schemas/traffic-alert.json");
        jsonschema::validator_for(&serde_json::from_str(text).expect("JSON")).expect("a schema")
    })
}

/// The rules of one partition, with its changelog.
pub struct Bench {
    settings: Settings,
    pub machine: Rules,
    out: Outbox,
    pub came: Vec<Alert<'static>>,
    /// Every state entry ever committed.
    pub changelog: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Bench {
    pub fn new(settings: Settings) -> Self {
        let mut machine = Rules::new(settings.clone());
        machine.assign(0, 1);
        let out = Outbox::default();
        Self { settings, machine, out, came: Vec::new(), changelog: Vec::new() }
    }

    pub fn feed(&mut self, input: usize, records: &[StoredRecord]) {
        if !records.is_empty() {
            self.machine.records(&Records::stored(input, 0, records), 0, &mut self.out);
        }
    }

    pub fn forecasts(&mut self, segment: &str, horizon: u32, steps: Range<i64>, median: f64) {
        let records: Vec<_> = steps.map(|step| forecast(segment, step, horizon, median)).collect();
        self.feed(PREDICTIONS, &records);
    }

    /// Windows end, with readings of `segments`, and markers say so.
    pub fn windows(&mut self, segments: &[&str], steps: Range<i64>) {
        for step in steps {
            let mut records: Vec<_> = segments.iter().map(|segment| window(segment, step, 10)).collect();
            records.push(marker(step));
            self.feed(AGGREGATES, &records);
        }
    }

    pub fn command(&mut self, command: &AlerterCommand<'_>) {
        let json = serde_json::to_vec(command).expect("JSON");
        self.feed(COMMANDS, &[record("", json, START_MS)]);
    }

    /// Commits: what was emitted has come, what was put is in the changelog.
    pub fn commit(&mut self) {
        self.machine.flush(0, 0, &mut self.out);
        for emitted in self.out.emitted(TRANSITIONS) {
            assert_eq!(emitted.partition, Some(0));
            let json = emitted.value.expect("a transition has a value");
            let value = serde_json::from_slice(&json).expect("JSON");
            if let Err(error) = schema().validate(&value) {
                panic!("{error} in {value}");
            }
            let alert: Alert<'static> = serde_json::from_value(value).expect("an alert");
            assert_eq!(emitted.key.as_deref(), Some(alert.segment_id.as_bytes()));
            self.came.push(alert);
        }
        self.changelog.extend(self.out.entries().into_iter().map(|(_, key, value)| (key, value)));
        self.out.clear();
    }

    /// The process dies after a commit and another takes over, with these settings.
    pub fn restart_with(&mut self, settings: Settings) {
        self.settings = settings;
        self.out.clear();
        self.machine = Rules::new(self.settings.clone());
        self.machine.assign(0, 1);
        for (key, value) in &self.changelog {
            self.machine.restore(0, key, value.as_deref());
        }
        let tick = common::stream::Tick { now_ms: 0, at_end_for_ms: None };
        self.machine.tick(0, tick, &mut self.out);
    }

    pub fn restart(&mut self) {
        self.restart_with(self.settings.clone());
    }

    /// The changelog's live entries.
    pub fn live(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let mut live = BTreeMap::new();
        for (key, value) in &self.changelog {
            match value {
                Some(value) => live.insert(key.clone(), value.clone()),
                None => live.remove(key),
            };
        }
        live
    }

    /// Commits, and gives what has come so far, short.
    pub fn short(&mut self) -> Vec<String> {
        self.commit();
        self.came.iter().map(short).collect()
    }
}
