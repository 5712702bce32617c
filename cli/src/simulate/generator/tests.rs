use super::*;

const HOUR_MS: i64 = 3_600_000;

fn config() -> GeneratorConfig {
    GeneratorConfig { duplicates: 0.1, late: 0.02, malformed: 0.02, dropouts: 1.0, ..GeneratorConfig::default() }
}

type Event = (Kind, Vec<u8>, i64);

fn take(generator: &mut Generator, n: usize) -> Vec<Event> {
    let mut out = Emission::default();
    let mut next = || {
        let kind = generator.next(&mut out);
        (kind, out.value.clone(), out.timestamp_ms)
    };
    (0..n).map(|_| next()).collect()
}

#[test]
fn a_stream_goes_on_from_any_position() {
    let odd = GeneratorConfig { segments: 3, interval_ms: 420_000, dropouts: 5.0, ..config() };
    for (config, n) in [(config(), 60_000), (odd, 2_000)] {
        let mut generator = Generator::new(config.clone());
        let (mut positions, mut whole) = (vec![generator.position()], Vec::new());
        for _ in 0..n {
            whole.extend(take(&mut generator, 1));
            positions.push(generator.position());
        }
        assert!(whole.iter().any(|e| e.0 == Kind::Late));
        for at in [0, 1, 777, n / 2, n - 1] {
            let mut rest = Generator::resume(config.clone(), positions[at]);
            let count = (n - at).min(3_000);
            assert_eq!(take(&mut rest, count), whole[at..at + count]);
            assert_eq!(rest.position(), positions[at + count]);
        }
    }
}

#[test]
fn the_seed_and_the_start_decide() {
    let first = |config: &GeneratorConfig| take(&mut Generator::new(config.clone()), 2_000);
    assert_eq!(first(&config()), first(&config()));
    assert_ne!(first(&config()), first(&GeneratorConfig { seed: 2, ..config() }));
    // The traffic is that of the time, whenever the sensors began to send.
    let plain = GeneratorConfig { disorder: 0.0, duplicates: 0.0, malformed: 0.0, late: 0.0, ..config() };
    let later = GeneratorConfig { start_ms: plain.start_ms + 2 * HOUR_MS, ..plain.clone() };
    let mut early = Generator::new(plain);
    while early.now_ms() < later.start_ms {
        early.next(&mut Emission::default());
    }
    let volumes = |events: Vec<Event>| {
        let volume = |e: Event| serde_json::from_slice::<serde_json::Value>(&e.1).expect("JSON")["volume"].clone();
        events.into_iter().map(volume).collect::<Vec<_>>()
    };
    assert_eq!(volumes(take(&mut early, 2_000)), volumes(take(&mut Generator::new(later), 2_000)));
}

#[test]
fn kinds_are_what_they_say() {
    let events = take(&mut Generator::new(config()), 80_000);
    let count = |kind| events.iter().filter(|e| e.0 == kind).count();
    assert!((6_000..10_000).contains(&count(Kind::Duplicate)), "{}", count(Kind::Duplicate));
    assert!((500..2_000).contains(&count(Kind::Late)));
    assert!((1_200..2_000).contains(&count(Kind::Malformed)));
    let normaliser = common::model::Normaliser::default();
    let mut seen = std::collections::HashSet::new();
    let mut newest = 0;
    for (kind, value, _) in &events {
        let parsed = normaliser.parse(value);
        assert_eq!(parsed.is_err(), *kind == Kind::Malformed, "{}", String::from_utf8_lossy(value));
        let Ok(event) = parsed else { continue };
        assert_eq!(seen.insert(event.event_id.to_string()), *kind != Kind::Duplicate);
        if *kind == Kind::Late {
            assert!(event.timestamp_ms <= newest - LATE_MS + 1_000);
        } else if *kind == Kind::Normal {
            assert!(event.timestamp_ms >= newest - DISORDER_MS);
        }
        newest = newest.max(event.timestamp_ms);
    }
}

#[test]
fn a_marker_claims_no_more_than_was_sent() {
    let one = GeneratorConfig { segments: 1, interval_ms: 1_000, dropouts: 10.0, ..config() };
    for config in [config(), one] {
        let start_ms = config.start_ms;
        let mut generator = Generator::new(config);
        let mut out = Emission::default();
        let mut claimed = i64::MIN;
        for _ in 0..50_000 {
            let kind = generator.next(&mut out);
            if kind == Kind::Normal {
                assert!(out.timestamp_ms >= claimed);
            }
            if let Some(marker) = generator.marker_due() {
                assert!(marker >= claimed);
                claimed = marker;
            }
        }
        assert!(claimed > start_ms);
    }
}

#[test]
fn silent_sensors_send_nothing_and_stuck_ones_the_same() {
    let config = GeneratorConfig { dropouts: 1.0, late: 0.0, duplicates: 0.0, malformed: 0.0, ..config() };
    let config = GeneratorConfig { disorder: 0.0, ..config };
    let end_ms = config.start_ms + 8 * HOUR_MS;
    let faults = super::super::simulation::faults(&config, end_ms);
    let mut generator = Generator::new(config);
    let mut sent: std::collections::HashMap<String, Vec<(i64, String)>> = std::collections::HashMap::new();
    let mut out = Emission::default();
    while generator.now_ms() < end_ms {
        generator.next(&mut out);
        let event: serde_json::Value = serde_json::from_slice(&out.value).expect("JSON");
        let reading = format!("{} {} {}", event["speed"], event["volume"], event["occupancy"]);
        let key = String::from_utf8(out.key.clone()).expect("UTF-8");
        sent.entry(key).or_default().push((out.timestamp_ms, reading));
    }
    let (mut silent, mut stuck) = (0, 0);
    for (sensor, fault) in faults {
        let events = &sent[&generator.sensors[sensor].id];
        let during: Vec<&String> =
            events.iter().filter(|(at, _)| (fault.begin_ms..fault.end_ms).contains(at)).map(|(_, r)| r).collect();
        if fault.kind == super::super::faults::FaultKind::Silent {
            assert!(during.is_empty());
            silent += 1;
        } else if during.len() > 10 {
            assert!(during.iter().all(|r| *r == during[0]), "{during:?}");
            stuck += 1;
        }
    }
    assert!(silent > 20 && stuck > 5, "{silent} {stuck}");
}

#[test]
fn a_day_has_as_many_events_as_sensors_send() {
    let config = GeneratorConfig::default();
    let end_ms = config.start_ms + 24 * HOUR_MS;
    let mut generator = Generator::new(config);
    let mut events = 0_u32;
    let mut out = Emission::default();
    while generator.now_ms() < end_ms {
        generator.next(&mut out);
        events += 1;
    }
    // A few sensors are silent for a while.
    assert!((570_000..576_000).contains(&events), "{events}");
}

#[test]
fn what_was_saved_before_there_were_incidents_is_understood() {
    let text = r#"{"seed":7,"segments":20,"start_ms":1750000200000,"interval_ms":30000,"duplicates":0.01,
        "disorder":0.05,"late":0.001,"malformed":0.001}"#;
    let config: GeneratorConfig = serde_json::from_str(text).expect("a configuration");
    assert_eq!(config, GeneratorConfig { seed: 7, segments: 20, ..GeneratorConfig::default() });
}
