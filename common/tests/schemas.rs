//! The documents in `docs/` and the code say the same: schemas accept what the code writes, the parser
//! accepts what the schema of events accepts, and nothing else of that form.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};

use common::model::{
    Aggregate, Alert, AlertStatus, AlertType, AlerterCommand, CongestionLevel, Coordinates, DetectionSource, Event,
    Normaliser, Position, Severity, Volume,
};
use common::topics::Topics;
use jsonschema::Validator;
use proptest::option;
use proptest::prelude::*;
use serde_json::{Value, json};

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn schema(name: &str) -> Value {
    serde_json::from_str(&read(&docs().join("schemas").join(name))).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn validator(name: &str) -> Validator {
    jsonschema::draft202012::new(&schema(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// What is wrong with a message, by the schema.
fn complaint(validator: &Validator, json: &[u8]) -> Option<String> {
    let message: Value = serde_json::from_slice(json).expect("JSON");
    validator.validate(&message).err().map(|e| format!("{e} at {} in {message}", e.instance_path()))
}

#[test]
fn schemas_are_schemas_and_their_examples_fit() {
    let files: Vec<_> = fs::read_dir(docs().join("schemas")).expect("the schemas").collect();
    assert!(files.len() >= 3, "{}", files.len());
    for file in files {
        let name = file.expect("an entry").file_name().into_string().expect("UTF-8");
        let text = schema(&name);
        assert!(jsonschema::draft202012::meta::is_valid(&text), "{name} is no draft 2020-12 schema");
        assert_eq!(text["$id"], name.as_str());
        let examples = text["examples"].as_array().cloned().unwrap_or_default();
        assert!(!examples.is_empty(), "{name} has no example");
        let validator = validator(&name);
        for example in examples {
            assert_eq!(complaint(&validator, example.to_string().as_bytes()), None, "{name}");
        }
    }
}

#[test]
fn the_example_events_parse_and_their_aggregate_does_too() {
    for example in schema("traffic-event.json")["examples"].as_array().expect("examples") {
        let event = example.to_string();
        assert!(Normaliser::default().parse(event.as_bytes()).is_ok(), "{event}");
    }
    for example in schema("processed-traffic-aggregate.json")["examples"].as_array().expect("examples") {
        let aggregate: Aggregate<'_> = serde_json::from_value(example.clone()).expect("an aggregate");
        assert_eq!(serde_json::to_value(&aggregate).expect("JSON"), *example);
    }
}

#[test]
fn asyncapi_names_every_topic_and_its_references_exist() {
    let text = read(&docs().join("asyncapi.yaml"));
    let topics = Topics::default();
    let alerting =
        [&topics.alerter_commands, &topics.alert_transitions, &topics.alerts, &topics.predictions, &topics.digest];
    for topic in [&topics.events, &topics.rekeyed, &topics.dead_letters, &topics.aggregates].into_iter().chain(alerting)
    {
        assert!(text.contains(&format!("address: {topic}\n")), "{topic}");
    }
    let references = text.lines().filter_map(|line| line.split_once("$ref: ./")).map(|(_, path)| path.trim());
    let references: Vec<&str> = references.collect();
    assert!(references.len() >= 3, "{references:?}");
    for path in references {
        assert!(docs().join(path).is_file(), "docs/{path} is missing");
    }
}

/// A value in a range, its ends included.
fn between(low: f64, high: f64) -> impl Strategy<Value = f64> {
    prop_oneof![8 => low..=high, 1 => Just(low), 1 => Just(high)]
}

fn aggregates() -> impl Strategy<Value = Aggregate<'static>> {
    let speeds = (option::of(between(0.0, 200.0)), option::of(between(0.0, 100.0)));
    let position = option::of((between(-90.0, 90.0), between(-180.0, 180.0)));
    let counts = (0_u64..=100_000, 1_u64..=u64::from(u32::MAX), between(0.0, 1.0));
    let occupancies = (between(0.0, 100.0), option::of(between(0.0, 100.0)));
    ("[A-Za-z0-9_-]{1,64}", 3_333_334_i64..=33_333_332, speeds, position, counts, occupancies).prop_map(
        |(
            segment,
            window,
            (avg_speed, speed_stddev),
            position,
            (vehicle_count, event_count, quality_score),
            occupancy,
        )| {
            let window_start = window * 300_000;
            Aggregate {
                aggregate_id: format!("AGG_{segment}_{window_start}").into(),
                segment_id: segment.into(),
                window_start,
                window_end: window_start + 300_000,
                avg_speed,
                speed_stddev: avg_speed.and(speed_stddev),
                speed_min: avg_speed,
                speed_max: avg_speed,
                vehicle_count,
                occupancy_avg: occupancy.0,
                occupancy_max: occupancy.1,
                congestion_level: avg_speed.map(CongestionLevel::of),
                coordinates: position.map(|(latitude, longitude)| Position { latitude, longitude }),
                event_count,
                quality_score,
            }
        },
    )
}

fn events() -> impl Strategy<Value = Event<'static>> {
    let volume = prop_oneof![
        Just(None),
        (0_u32..=10_000).prop_map(|count| Some(Volume::Count(count))),
        between(0.0, 10_000.0).prop_map(|flow| Some(Volume::PerHour(flow))),
    ];
    let sources =
        prop_oneof![Just("SENSOR"), Just("CAMERA"), Just("PROBE"), Just("INCIDENT_REPORT"), Just("WEATHER_STATION")];
    let ids = ("[A-Za-z0-9_-]{1,128}", "[A-Za-z0-9_-]{1,64}", 1_000_000_000_000_i64..=9_999_999_999_999);
    let measures = (option::of(between(0.0, 200.0)), volume, option::of(between(0.0, 100.0)));
    let position = option::of((between(-90.0, 90.0), between(-180.0, 180.0)));
    (ids, measures, position, sources, between(0.0, 1.0)).prop_map(
        |(
            (event_id, segment_id, timestamp_ms),
            (speed_kmh, volume, occupancy_percent),
            position,
            source,
            quality_score,
        )| Event {
            event_id: event_id.into(),
            segment_id: segment_id.into(),
            timestamp_ms,
            speed_kmh,
            volume,
            occupancy_percent,
            coordinates: position.map(|(latitude, longitude)| Coordinates { latitude, longitude }),
            source,
            quality_score,
        },
    )
}

/// A number in or out of a range, or something else.
fn measure(low: f64, high: f64) -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => (low..=high).prop_map(Value::from),
        2 => Just(Value::from(low)),
        2 => Just(Value::from(high)),
        1 => Just(Value::from(low - 0.5)),
        1 => Just(Value::from(high + 0.5)),
        1 => Just(json!("1")),
        1 => Just(json!(true)),
    ]
}

/// Payloads with the canonical fields, and mostly with valid values.
fn canonical() -> impl Strategy<Value = Value> {
    let required = (
        "[A-Za-z0-9_-]{1,20}|[A-Za-z0-9_-]{127,129}",
        "[A-Za-z0-9_-]{1,20}|[A-Za-z0-9_-]{63,65}",
        prop_oneof![
            6 => 1_700_000_000_000_i64..1_800_000_000_000,
            1 => Just(999_999_999_999),
            1 => Just(1_000_000_000_000),
            1 => Just(9_999_999_999_999),
            1 => Just(10_000_000_000_000),
        ],
        prop_oneof![8 => Just("SENSOR"), 1 => Just("PROBE"), 1 => Just("sensor"), 1 => Just("")],
        measure(0.0, 1.0),
    );
    let volume =
        prop_oneof![4 => (0..=10_000).prop_map(Value::from), 1 => Just(Value::Null), 1 => measure(0.0, 10_000.0)];
    let optional = (
        option::of(measure(0.0, 200.0)),
        option::of(volume),
        option::of(measure(0.0, 100.0)),
        option::of((measure(-90.0, 90.0), option::weighted(0.9, measure(-180.0, 180.0)))),
        option::of("[a-z]{0,3}"),
    );
    (required, optional).prop_map(|((id, segment, time, source, quality), (speed, volume, occupancy, at, note))| {
        let mut event = json!({
            "event_id": id, "segment_id": segment, "timestamp": time, "source": source, "quality_score": quality,
        });
        let mut put = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                event[name] = value;
            }
        };
        put("speed", speed);
        put("volume", volume);
        put("occupancy", occupancy);
        put("metadata", note.map(|note| json!({ "note": note })));
        put(
            "coordinates",
            at.map(|(latitude, longitude)| match longitude {
                Some(longitude) => json!({ "latitude": latitude, "longitude": longitude }),
                None => json!({ "latitude": latitude }),
            }),
        );
        event
    })
}

#[test]
fn every_aggregate_fits_its_schema() {
    let validator = validator("processed-traffic-aggregate.json");
    proptest!(|(aggregate in aggregates())| {
        let json = serde_json::to_vec(&aggregate).expect("JSON");
        prop_assert_eq!(complaint(&validator, &json), None);
    });
}

#[test]
fn every_written_event_fits_its_schema_and_parses() {
    let validator = validator("traffic-event.json");
    proptest!(|(event in events())| {
        let mut json = Vec::new();
        event.write_json(&mut json);
        prop_assert_eq!(complaint(&validator, &json), None);
        let parsed = Normaliser::default().parse(&json).expect("it was an event");
        prop_assert_eq!(&parsed.event_id, &event.event_id);
        prop_assert_eq!(&parsed.segment_id, &event.segment_id);
        prop_assert_eq!((parsed.timestamp_ms, parsed.source), (event.timestamp_ms, event.source));
        prop_assert_eq!(parsed.volume.is_some(), event.volume.is_some());
    });
}

#[test]
fn the_parser_accepts_of_the_canonical_form_what_the_schema_accepts() {
    let validator = validator("traffic-event.json");
    let (accepted, refused) = (Cell::new(0), Cell::new(0));
    proptest!(|(payload in canonical())| {
        let json = payload.to_string();
        let by_schema = complaint(&validator, json.as_bytes());
        let by_parser = Normaliser::default().parse(json.as_bytes());
        prop_assert_eq!(by_parser.is_ok(), by_schema.is_none(), "{:?}, but {:?}: {}", by_parser, by_schema, json);
        let count = if by_schema.is_none() { &accepted } else { &refused };
        count.set(count.get() + 1);
    });
    assert!(accepted.get() > 0 && refused.get() > 0, "{accepted:?} accepted, {refused:?} refused");
}

#[test]
fn the_example_alerts_and_commands_are_what_the_code_reads_and_writes() {
    for example in schema("traffic-alert.json")["examples"].as_array().expect("examples") {
        let alert: Alert<'_> = serde_json::from_value(example.clone()).expect("an alert");
        assert_eq!(serde_json::to_value(&alert).expect("JSON"), *example);
        assert_eq!(alert.alert_id, Alert::id_of(&alert.segment_id, &alert.rule, alert.opened_at));
    }
    for example in schema("alerter-command.json")["examples"].as_array().expect("examples") {
        let json = example.to_string();
        let command = AlerterCommand::parse(json.as_bytes()).expect("a command");
        assert_eq!(serde_json::to_value(&command).expect("JSON"), *example);
    }
}

fn alerts() -> impl Strategy<Value = Alert<'static>> {
    let time = || 1_000_000_000_000_i64..=9_999_999_999_999;
    let classes = (
        prop::sample::select(vec![AlertType::Congestion, AlertType::SystemAnomaly]),
        prop::sample::select(vec![Severity::Low, Severity::Medium, Severity::High, Severity::Critical]),
        prop::sample::select(vec![DetectionSource::PredictionModel, DetectionSource::SensorAnomaly]),
    );
    let statuses = vec![AlertStatus::Active, AlertStatus::Investigating, AlertStatus::Resolved, AlertStatus::Cleared];
    let measures = (option::of(between(0.0, 200.0)), option::of(between(0.0, 200.0)), option::of(between(0.0, 1.0)));
    let position = option::of((between(-90.0, 90.0), between(-180.0, 180.0)));
    let texts = ("[A-Za-z0-9_-]{1,64}", "[a-z0-9-]{1,30}", ".{0,500}", option::of("[A-Za-z ]{1,100}"));
    (texts, 1_u32.., classes, prop::sample::select(statuses), (time(), time()), measures, position).prop_map(
        |(
            (segment, rule, description, by),
            sequence,
            (alert_type, severity, detection_source),
            status,
            (opened_at, timestamp),
            (value, threshold, confidence_score),
            position,
        )| Alert {
            alert_id: Alert::id_of(&segment, &rule, opened_at).into(),
            sequence,
            segment_id: segment.into(),
            rule: rule.into(),
            alert_type,
            severity,
            status,
            timestamp,
            opened_at,
            resolved_at: (!status.is_open()).then_some(timestamp),
            detection_source,
            description: description.into(),
            value,
            threshold,
            confidence_score,
            coordinates: position.map(|(latitude, longitude)| Position { latitude, longitude }),
            by: by.map(Into::into),
        },
    )
}

#[test]
fn every_alert_fits_its_schema() {
    let validator = validator("traffic-alert.json");
    proptest!(|(alert in alerts())| {
        let json = serde_json::to_vec(&alert).expect("JSON");
        prop_assert_eq!(complaint(&validator, &json), None);
    });
}

/// Commands with some of their fields, and mostly with valid values.
fn commands() -> impl Strategy<Value = Value> {
    let kind = prop_oneof![
        8 => prop::sample::select(vec!["ACKNOWLEDGE", "CLEAR", "SILENCE", "UNSILENCE"]).prop_map(str::to_owned),
        1 => Just("silence".to_owned()),
    ];
    let id = || option::of("[A-Za-z0-9_-]{1,20}|[A-Za-z0-9_-]{64,65}|[A-Za-z0-9_-]{128,129}|[a-z]\\.");
    let rule = option::weighted(0.3, "[a-z0-9-]{1,31}|[A-Z]");
    let time = || option::weighted(0.4, prop_oneof![8 => 1_700_000_000_000_i64..1_800_000_000_000, 1 => Just(1_i64)]);
    let texts = (prop_oneof![8 => "[A-Za-z ]{1,20}", 1 => ".{0,101}"], option::of("[A-Za-z ]{0,300}"));
    let fields = (id(), id(), rule, id(), time(), time(), texts, any::<bool>());
    (kind, fields).prop_map(|(kind, (alert, segment, rule, silence, from, until, (by, reason), known))| {
        let mut command = json!({ "command_id": "C1", "command": kind, "by": by, "timestamp": 1_759_675_000_000_i64 });
        // Half of them have only what belongs to their kind.
        let belongs = |field: &str| match kind.as_str() {
            "SILENCE" => ["segment_id", "rule", "until"].contains(&field),
            "UNSILENCE" => field == "silence_id",
            _ => ["alert_id", "segment_id"].contains(&field),
        };
        let mut put = |field: &str, value: Value| {
            if known || belongs(field) {
                command[field] = value;
            }
        };
        put("alert_id", json!(alert));
        put("segment_id", json!(segment));
        put("rule", json!(rule));
        put("silence_id", json!(silence));
        put("from", json!(from));
        put("until", json!(until));
        if let Some(reason) = reason {
            command["reason"] = reason.into();
        }
        command
    })
}

#[test]
fn of_commands_the_alerter_accepts_what_the_schema_accepts() {
    let validator = validator("alerter-command.json");
    let (accepted, refused) = (Cell::new(0), Cell::new(0));
    proptest!(ProptestConfig::with_cases(1_000), |(command in commands())| {
        // That a silence ends after it begins, and control characters, a schema can not say.
        prop_assume!(command["from"].as_i64().is_none_or(|from| command["until"].as_i64().is_none_or(|u| from < u)));
        prop_assume!(!command["by"].as_str().is_some_and(|by| by.chars().any(char::is_control)));
        let json = command.to_string();
        let by_schema = complaint(&validator, json.as_bytes());
        let by_code = AlerterCommand::parse(json.as_bytes());
        prop_assert_eq!(by_code.is_ok(), by_schema.is_none(), "{:?}, but {:?}: {}", by_code, by_schema, json);
        let count = if by_schema.is_none() { &accepted } else { &refused };
        count.set(count.get() + 1);
    });
    assert!(accepted.get() > 20 && refused.get() > 20, "{accepted:?} accepted, {refused:?} refused");
}
