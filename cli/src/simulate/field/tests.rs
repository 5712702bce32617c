use super::*;

const HOUR_MS: i64 = 3_600_000;
/// Monday 2026-01-05, 03:00 in Los Angeles.
const MONDAY_MS: i64 = 1_767_610_800_000;
const SATURDAY_MS: i64 = MONDAY_MS + 5 * 24 * HOUR_MS;

fn field(seed: u64, segments: u32, incident_rate: f64, from_ms: i64) -> Field {
    Field::new(Network::new(seed, segments), seed, incident_rate, from_ms, HOUR_MS)
}

/// Calls back with every segment's truth every 5 minutes.
fn watch(field: &mut Field, from_ms: i64, until_ms: i64, see: &mut dyn FnMut(i64, usize, Truth)) {
    let mut at_ms = from_ms;
    while at_ms < until_ms {
        field.cover(at_ms);
        (0..field.network.segments.len()).for_each(|s| see(at_ms, s, field.truth(s, at_ms, 300_000)));
        at_ms += 300_000;
    }
}

#[test]
fn weekdays_have_rush_hours_and_weekends_have_not() {
    // Shares of (segment, five minutes) below 40 km/h: from 6 to 10, from 10 to 14, from 15 to 19.
    let slow = |begin_ms: i64| {
        let mut field = field(1, 200, 0.0, begin_ms);
        let mut counts = [(0_u32, 0_u32); 3];
        watch(&mut field, begin_ms + HOUR_MS, begin_ms + 18 * HOUR_MS, &mut |at_ms, _, truth| {
            let hour = 3 + (at_ms - begin_ms) / HOUR_MS;
            let part = match hour {
                6..=9 => 0,
                10..=13 => 1,
                15..=18 => 2,
                _ => return,
            };
            counts[part].0 += u32::from(truth.speed_kmh < 40.0);
            counts[part].1 += 1;
        });
        counts.map(|(slow, all)| f64::from(slow) / f64::from(all))
    };
    let (monday, saturday) = (slow(MONDAY_MS + 24 * HOUR_MS), slow(SATURDAY_MS));
    assert!(monday[0] > 0.05 && monday[2] > 0.05, "{monday:?}");
    assert!(monday[1] < monday[0] / 2.0, "{monday:?}");
    assert!(saturday.iter().all(|s| *s < 0.03), "{saturday:?}");
}

#[test]
fn queues_are_as_slow_as_queues_are() {
    let mut field = field(1, 200, 0.04, MONDAY_MS + 3 * HOUR_MS);
    let (mut queued, mut all) = (Vec::new(), 0);
    watch(&mut field, MONDAY_MS + 3 * HOUR_MS, MONDAY_MS + 16 * HOUR_MS, &mut |_, segment, truth| {
        all += 1;
        assert!(truth.speed_kmh > 2.0 && truth.speed_kmh <= 115.0, "{segment}: {truth:?}");
        assert!((0.0..=90.0).contains(&truth.occupancy));
        if truth.speed_kmh < 50.0 {
            queued.push(truth.speed_kmh);
        }
    });
    queued.sort_by(f64::total_cmp);
    assert!(queued.len() * 30 > all, "{} of {all}", queued.len());
    let median = queued[queued.len() / 2];
    assert!((15.0..=40.0).contains(&median), "{median}");
}

/// With the incident and without it, the same road differs upstream of it, after it began, and as a queue does.
#[test]
fn an_incident_slows_who_comes_after_it() {
    let network = Network::new(1, 200);
    let until_ms = MONDAY_MS + 20 * HOUR_MS;
    let all = incidents::between(&network, 1, 0.2, MONDAY_MS + 8 * HOUR_MS, until_ms);
    // Around noon, when nothing else queues, with lanes blocked, and with road before it.
    let chosen = |i: &&Incident| {
        let corridor = &network.corridors[network.segments[i.segment].corridor];
        i.lanes_blocked > 0
            && i.begin_ms < MONDAY_MS + 10 * HOUR_MS
            && i.end_ms - i.begin_ms > 25 * 60_000
            && (corridor.segments.start + 8..corridor.segments.end - 4).contains(&i.segment)
    };
    let mut chosen: Vec<&Incident> = all.iter().filter(chosen).collect();
    assert!(!chosen.is_empty());
    chosen.sort_by_key(|incident| incident.end_ms);
    let (mut with, mut without) = (field(1, 200, 0.2, MONDAY_MS), field(1, 200, 0.0, MONDAY_MS));
    for incident in chosen {
        let end_ms = incident.end_ms - SAMPLE_MS;
        let speed = |field: &mut Field, back: usize| {
            field.cover(end_ms);
            field.truth(incident.segment - back, end_ms, 300_000).speed_kmh
        };
        for back in [0, 1] {
            let slow = speed(&mut with, back);
            assert!(slow < 50.0, "{incident:?}: {slow} km/h {back} segments before it");
        }
        let free = speed(&mut without, 0);
        assert!(free > 70.0, "{incident:?}: {free} km/h without it");
    }
}

#[test]
fn the_field_is_the_same_whenever_one_begins_to_look() {
    let at_ms = MONDAY_MS + 30 * HOUR_MS + 12_345;
    let mut early = field(4, 80, 0.3, MONDAY_MS - 30 * HOUR_MS);
    early.cover(at_ms);
    let mut late = field(4, 80, 0.3, at_ms - 20 * 60_000);
    late.cover(at_ms);
    for segment in 0..80 {
        for back_ms in [0, 30_000, 299_000, 600_000] {
            let truth = |field: &Field| field.truth(segment, at_ms - back_ms, 77_000);
            assert_eq!(truth(&early), truth(&late));
        }
    }
}

#[test]
fn one_day_goes_over_into_the_next() {
    let mut worst = 0.0_f64;
    for seed in 0..10 {
        let mut field = field(seed, 120, 0.2, MONDAY_MS + 23 * HOUR_MS);
        field.cover(field.day.end_ms - SAMPLE_MS);
        assert_eq!(field.next_ms, field.day.end_ms);
        let before: Vec<f64> = field.traffic.iter().flat_map(|t| t.state.vehicles.clone()).collect();
        field.begin(field.day.next());
        let after = field.traffic.iter().flat_map(|t| t.state.vehicles.clone());
        for (b, a) in before.iter().zip(after) {
            worst = worst.max((b - a).abs());
        }
    }
    assert!(worst < 1e-3, "{worst} vehicles appear or vanish in a cell");
}

#[test]
fn an_incident_lasts_into_the_next_day() {
    let mut field = field(1, 120, 5.0, MONDAY_MS + 23 * HOUR_MS);
    field.cover(field.day.end_ms - SAMPLE_MS);
    let exits = |field: &Field| field.traffic.iter().flat_map(|t| t.state.exit.clone()).collect::<Vec<f64>>();
    let before = exits(&field);
    field.begin(field.day.next());
    let lasting = field.incidents.iter().filter(|i| i.active(field.day.begin_ms) && i.begin_ms < field.day.begin_ms);
    assert!(lasting.count() > 2);
    assert_eq!(before, exits(&field));
}

/// Vehicles counted by a sensor over a day = vehicles counted by the next one, if no ramp is between and none waits.
#[test]
fn counts_are_conserved_from_sensor_to_sensor() {
    let mut field = field(2, 100, 0.05, MONDAY_MS);
    let mut counts = vec![0_u64; 100];
    watch(&mut field, MONDAY_MS + HOUR_MS, MONDAY_MS + 24 * HOUR_MS, &mut |_, s, truth| counts[s] += truth.vehicles);
    let mut compared = 0;
    for corridor in &field.network.corridors {
        for (i, pair) in field.network.along(corridor).windows(2).enumerate() {
            let cells = &corridor.cells[pair[0].cell..pair[1].cell];
            let ramp = corridor.ramp_cells.iter().any(|c| (pair[0].cell + 1..=pair[1].cell).contains(c));
            if cells.iter().all(|c| c.leaves == 0.0) && !ramp {
                let at = corridor.segments.start + i;
                let difference = counts[at].abs_diff(counts[at + 1]);
                assert!(counts[at] > 20_000 && difference < 60, "{}: {} {}", pair[0].id, counts[at], counts[at + 1]);
                compared += 1;
            }
        }
    }
    assert!(compared > 20);
}
