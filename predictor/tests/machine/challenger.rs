//! A challenger forecasts beside the model at work: it is scored, and nothing else is any different for it.

use std::collections::HashMap;

use predictor::Live;

use crate::exactly_once::{START, STEPS, feed, model, settings, undisturbed, with_model};

fn challenger(version: &str) -> Live {
    Live { version: version.into(), model: model().model.clone(), ..Live::default() }
}

#[test]
fn what_is_published_is_the_same_with_a_challenger() {
    let mut cluster = with_model(2);
    cluster.model.put_challenger(Some(challenger("v1.3.0")));
    feed(&mut cluster);
    cluster.finish();
    assert_eq!(cluster.predictions, undisturbed());

    // The same trees make the same errors, on all forecasts of the model that have a truth.
    let duel = cluster.duel("v1.3.0");
    let speeds: HashMap<(String, i64), f64> = cluster
        .forecasts()
        .filter(|p| p.prediction_horizon == settings().horizons[0])
        .map(|p| ((p.segment_id.to_string(), p.prediction_timestamp), p.current_speed))
        .collect();
    assert!(duel.scored > 500.0 && duel.scored < 3.0 * speeds.len() as f64, "{duel:?}");
    assert!((duel.published_error - duel.challenger_error).abs() < 1e-3 * duel.published_error, "{duel:?}");
    assert_eq!(cluster.duel("v9.9.9").scored, 0.0);
}

#[test]
fn another_challenger_begins_anew_and_a_restart_does_not_end_it() {
    let mut cluster = with_model(1);
    cluster.model.put_challenger(Some(challenger("v1.3.0")));
    feed(&mut cluster);
    cluster.finish();
    let before = cluster.duel("v1.3.0");
    cluster.model.put_challenger(Some(challenger("v1.4.0")));
    feed_on(&mut cluster, 40..60);
    assert_eq!(cluster.duel("v1.3.0").scored, 0.0);
    let after = cluster.duel("v1.4.0");
    assert!(after.scored > 100.0 && after.scored < before.scored, "{after:?} after {before:?}");
    cluster.restart(0);
    feed_on(&mut cluster, 60..80);
    assert!(cluster.duel("v1.4.0").scored > 100.0);
}

#[test]
fn what_is_known_of_a_models_errors_survives_a_restart_and_not_another_model() {
    let mut cluster = with_model(1);
    feed(&mut cluster);
    cluster.finish();
    let recent = cluster.recent();
    assert!(recent.scored > 500.0 && recent.error > 0.0 && recent.persistence_error > 0.0, "{recent:?}");
    cluster.restart(0);
    cluster.finish();
    assert_eq!(cluster.recent(), recent);
    cluster.model.put(Some(challenger("v2.0.0")));
    feed_on(&mut cluster, 40..42);
    let other = cluster.recent();
    assert!(other.scored < 30.0, "forecasts of v1.2.3 are none of v2.0.0: {other:?}");
}

#[test]
fn what_a_model_says_of_windows_that_it_has_seen_proves_nothing() {
    let scored = |published: i64, challenger_seen: i64| {
        let mut cluster = with_model(1);
        let seen = |steps: i64, version: &str| Live { seen_until: START + steps, ..challenger(version) };
        cluster.model.put(Some(seen(published, "v1.2.3")));
        cluster.model.put_challenger(Some(seen(challenger_seen, "v1.3.0")));
        feed(&mut cluster);
        cluster.finish();
        (cluster.recent().scored, cluster.duel("v1.3.0").scored, cluster.forecasts().count())
    };
    let (recent, duel, published) = scored(0, 0);
    assert!(recent > 500.0 && duel > 500.0);
    let half = scored(STEPS / 2, 0);
    assert!(half.0 > 100.0 && half.0 < 0.7 * recent && half.1 < 0.7 * duel && half.2 == published, "{half:?}");
    assert_eq!(scored(0, STEPS / 2), (recent, half.1, published));
    assert_eq!(scored(STEPS, STEPS), (0.0, 0.0, published));
}

/// Windows that follow those of [`feed`].
fn feed_on(cluster: &mut crate::cluster::Cluster, steps: std::ops::Range<i64>) {
    for step in steps.map(|step| START + step) {
        for s in 0..4_i64 {
            let segment = format!("S{s}");
            let speed = 60.0 + f64::from(i32::try_from((step * 7 + s * 13) % 37).expect("small"));
            let partition = usize::try_from(s % 2).expect("few");
            cluster.send(partition, &crate::cluster::aggregate(&segment, step, speed, 10));
        }
        cluster.marker(step);
    }
    cluster.finish();
}
