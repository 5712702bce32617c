//! Topics become rows, on PostgreSQL and in a SQLite file: exactly those, whatever the order and whoever dies.

use std::time::Duration;

use common::db::{Control, Projection};
use tests::database::{
    AGGREGATES, ALERTS, Bed, Kind, PREDICTIONS, Traffic, aggregate_json, alert_json, days_ago, prediction_json,
};
use tests::wait_until;

const BOTH: [Kind; 2] = [Kind::Sqlite, Kind::Postgres];
const DEADLINE: Duration = Duration::from_secs(60);

/// Runs a test on both kinds of database.
fn on_both(partitions: u32, test: impl Fn(Bed)) {
    BOTH.into_iter().filter_map(|kind| Bed::new(kind, partitions)).for_each(test);
}

#[test]
fn rows_are_what_the_topics_say() {
    on_both(3, |bed| {
        let mut traffic = Traffic::default();
        traffic.windows(&bed, days_ago(1), 7, 0..30);
        bed.send_markers(AGGREGATES);
        bed.send_markers(PREDICTIONS);
        let summary = bed.run_to_end(bed.traffic());
        assert!(summary.rows >= traffic.count() as u64 && summary.refused == 0, "{summary:?}");
        traffic.assert_rows(&bed.rows);

        let nothing = bed.run_to_end(bed.traffic());
        assert_eq!((nothing.rows, nothing.transactions), (0, 0), "{nothing:?}");

        // Corrections of what is there, another model's forecasts in place of the first's, and more of both.
        traffic.aggregate(&bed, "S1", days_ago(1) + 6 * 300_000, 99, Some(33.5));
        traffic.aggregate(&bed, "S2", days_ago(1) + 6 * 300_000, 3, Some(99.0));
        traffic.aggregate(&bed, "S3", days_ago(1) + 6 * 300_000, 99, None);
        traffic.prediction(&bed, "S1", days_ago(1) + 300_000, 15, 44.0, "v0.2.0");
        traffic.windows(&bed, days_ago(1), 7, 30..50);
        bed.run_to_end(bed.traffic());
        traffic.assert_rows(&bed.rows);
        let segments = bed.rows.rows("select segment_id, latitude, MS(first_seen), MS(last_seen) from T.segments");
        assert_eq!(segments.len(), 7);
        assert!(segments.contains(&format!("S3|34.1|{}|{}", days_ago(1), days_ago(1) + 50 * 300_000)), "{segments:?}");
        let accuracy = bed.rows.rows("select sum(n * mean_absolute_error_kmh) from T.model_accuracy");
        let sums =
            bed.rows.rows("select cast(sum(sum_absolute_error_m_per_h) as double precision) from T.model_metrics");
        let (accuracy, sums): (f64, f64) = (accuracy[0].parse().expect("a number"), sums[0].parse().expect("a number"));
        assert!((accuracy * 1000.0 - sums).abs() < 0.01, "{accuracy} {sums}");
    });
}

#[test]
fn what_is_no_message_is_passed_over() {
    on_both(1, |bed| {
        let mut traffic = Traffic::default();
        let at = days_ago(0);
        traffic.aggregate(&bed, "S1", at, 5, Some(50.0));
        for value in [
            "no JSON".to_owned(),
            "{}".to_owned(),
            aggregate_json("S1", 1_000, 1, Some(50.0)),
            aggregate_json("S1", at + 3 * 86_400_000, 1, Some(50.0)),
            aggregate_json("S1", at, 1, Some(1e9)),
            aggregate_json("S\\u00001", at, 1, Some(50.0)),
            aggregate_json("S1", at, 1, Some(50.0)).replace(&(at + 300_000).to_string(), &(at + 60_000).to_string()),
        ] {
            bed.send(AGGREGATES, "S1", value.as_bytes());
        }
        bed.send(AGGREGATES, "S1", b"\xff\xfe");
        for value in [
            prediction_json("S1", at, 15, 50.0, 50.0, "v\\u0000"),
            prediction_json("S1", at, 0, 50.0, 50.0, "v1"),
            prediction_json("S1", at, 2_000, 50.0, 50.0, "v1"),
            prediction_json("S1", at, 15, 50.0, -1.0, "v1"),
            prediction_json("S1", at, 15, 50.0, 50.0, "v1").replace(&(at + 900_000).to_string(), &at.to_string()),
        ] {
            bed.send(PREDICTIONS, "S1", value.as_bytes());
        }
        traffic.prediction(&bed, "S1", at, 5, 51.0, "v1");
        let summary = bed.run_to_end(bed.traffic());
        assert_eq!((summary.refused, summary.retries), (13, 0), "{summary:?}");
        traffic.assert_rows(&bed.rows);
    });
}

#[test]
fn the_order_in_which_topics_meet_changes_nothing() {
    let mut dumps = Vec::new();
    let at = days_ago(2);
    let run = |bed: &Bed| bed.run_to_end(bed.traffic());
    for kind in BOTH {
        for (order, batch_rows) in [("ap", 5_000), ("pa", 5_000), ("mixed", 5_000), ("mixed", 1), ("pa", 7), ("ap", 3)]
        {
            let Some(mut bed) = Bed::new(kind, 2) else { continue };
            bed.settings.batch_rows = batch_rows;
            let mut traffic = Traffic::default();
            let aggregates = |traffic: &mut Traffic, window: i64| {
                for (segment, speed) in [("S1", Some(40.125)), ("S2", None), ("S3", Some(7.0))] {
                    let speed = speed.map(|speed| speed + window as f64 / 9.0);
                    traffic.aggregate(&bed, segment, at + window * 300_000, 5, speed);
                    traffic.aggregate(&bed, segment, at + window * 300_000, 8, speed.map(|speed| speed * 1.5));
                }
            };
            let predictions = |traffic: &mut Traffic, window: i64| {
                for segment in ["S1", "S2", "S3"] {
                    for horizon in [5, 15] {
                        let predicted = 30.0 + window as f64 / 7.0;
                        traffic.prediction(&bed, segment, at + window * 300_000, horizon, predicted, "v1");
                        traffic.prediction(&bed, segment, at + window * 300_000, horizon, predicted + 1.0, "v2");
                    }
                }
            };
            match order {
                "ap" => {
                    (0..8).for_each(|window| aggregates(&mut traffic, window));
                    run(&bed);
                    (0..8).for_each(|window| predictions(&mut traffic, window));
                }
                "pa" => {
                    (0..8).for_each(|window| predictions(&mut traffic, window));
                    run(&bed);
                    (0..8).for_each(|window| aggregates(&mut traffic, window));
                }
                _ => (0..8).for_each(|window| {
                    aggregates(&mut traffic, window);
                    predictions(&mut traffic, window);
                }),
            }
            run(&bed);
            traffic.assert_rows(&bed.rows);
            dumps.push(bed.rows.dump());
        }
    }
    assert!(dumps.len() >= 6 && dumps[0].len() > 70, "{} {}", dumps.len(), dumps[0].len());
    assert!(dumps.iter().all(|dump| *dump == dumps[0]), "{dumps:#?}");
}

#[test]
fn two_owners_at_once_never_double_and_never_skip() {
    on_both(2, |mut bed| {
        bed.settings.batch_rows = 40;
        let mut traffic = Traffic::default();
        traffic.windows(&bed, days_ago(1), 6, 0..80);
        let bed = &bed;
        let retries: u64 = std::thread::scope(|scope| {
            // Two groups: each believes that all partitions are its own.
            let owners = ["one", "other"].map(|group| {
                scope.spawn(move || {
                    let control = Control { shutdown: &|| false, report: &|_| {}, exit_at_end: true };
                    bed.run(bed.traffic(), group, &control)
                })
            });
            owners.map(|owner| owner.join().expect("a sink does not panic").retries).into_iter().sum()
        });
        assert!(retries > 0, "they never met");
        traffic.assert_rows(&bed.rows);
    });
}

#[test]
fn an_owner_of_only_one_topic_is_fenced_too() {
    on_both(1, |bed| {
        let mut traffic = Traffic::default();
        let at = days_ago(0);
        traffic.aggregate(&bed, "S1", at, 5, Some(50.0));
        traffic.prediction(&bed, "S1", at, 5, 48.0, "v1");
        let ((), summary) = bed.while_running(bed.traffic(), |reports| {
            wait_until(DEADLINE, "the first rows", || bed.is_complete(&traffic));
            // As if another owner had written a forecast: the next aggregate alone must not pass.
            bed.rows.execute("update T.projection_offsets set next_offset = 0 where topic = 'traffic-predictions'");
            traffic.aggregate(&bed, "S1", at + 300_000, 5, Some(51.0));
            wait_until(DEADLINE, "it is fenced", || (reports.unable() > 0).then_some(()));
            wait_until(DEADLINE, "it goes on", || bed.is_complete(&traffic));
        });
        assert!(summary.retries > 0, "{summary:?}");
        traffic.assert_rows(&bed.rows);
    });
}

#[test]
fn a_sink_that_dies_at_any_moment_is_succeeded() {
    let Some(mut bed) = Bed::new(Kind::Postgres, 2) else { return };
    bed.settings.batch_rows = 25;
    let mut traffic = Traffic::default();
    traffic.windows(&bed, days_ago(1), 24, 0..120);
    // Ends all of the sink's sessions: whatever it is doing is cut off, between any two statements.
    let kill = "select count(pg_terminate_backend(pid)) from pg_stat_activity
                where datname = current_database() and application_name = 'traffic'";
    let (killed, summary) = bed.while_running(bed.traffic(), |_| {
        let mut killed = 0;
        wait_until(DEADLINE, "all rows", || {
            if killed < 25 {
                killed += bed.rows.rows(kill)[0].parse::<u32>().expect("a count");
            }
            bed.is_complete(&traffic)
        });
        killed
    });
    assert!(killed > 3 && summary.retries > 3, "{killed} {summary:?}");
    traffic.assert_rows(&bed.rows);
}

#[test]
fn rows_can_be_made_anew_while_the_sink_runs() {
    on_both(2, |bed| {
        let mut traffic = Traffic::default();
        traffic.windows(&bed, days_ago(1), 4, 0..20);
        bed.while_running(bed.traffic(), |_| {
            wait_until(DEADLINE, "all rows", || bed.is_complete(&traffic));
            let tables = ["aggregates", "predictions", "model_metrics", "segments"];
            let mut statements = vec!["delete from T.projection_offsets where projection = 'traffic'".to_owned()];
            statements.extend(tables.map(|table| format!("delete from T.{table}")));
            bed.rows.execute(&statements.join("; "));
            traffic.aggregate(&bed, "S1", days_ago(1) + 20 * 300_000, 5, Some(50.0));
            wait_until(DEADLINE, "all rows again", || bed.is_complete(&traffic));
        });
        traffic.assert_rows(&bed.rows);
    });
}

#[test]
fn old_days_go_and_do_not_come_back() {
    on_both(1, |mut bed| {
        let days = |days: u64| Some(Duration::from_secs(days * 86_400));
        (bed.settings.retention.aggregates, bed.settings.retention.predictions) = (days(3), days(5));
        bed.settings.batch_rows = 50;
        let mut traffic = Traffic::default();
        for day in (0..10).rev() {
            // The forecasts of the day before's last windows meet this day's first.
            traffic.windows(&bed, days_ago(day), 2, -3..10);
        }
        let kept = |bed: &Bed, query: &str| bed.rows.rows(query)[0].parse::<i64>().expect("a time");
        let summary = bed.run_to_end(bed.traffic());
        assert_eq!(summary.retries, 0);
        bed.while_running(bed.traffic(), |_| {
            let oldest = "select MS(min(window_start)) from T.aggregates";
            wait_until(DEADLINE, "old rows are gone", || (kept(&bed, oldest) >= days_ago(3)).then_some(()));
            let oldest = "select MS(min(prediction_timestamp)) from T.predictions";
            wait_until(DEADLINE, "old rows are gone", || (kept(&bed, oldest) >= days_ago(5)).then_some(()));
        });
        let newest = kept(&bed, "select MS(max(window_start)) from T.aggregates");
        assert_eq!(newest, days_ago(0) + 9 * 300_000);
        if bed.rows.kind == Kind::Postgres {
            let partitions = "select count(*) from pg_inherits where inhparent = 'traffic.aggregates'::regclass";
            assert_eq!(bed.rows.rows(partitions), ["4"]);
        }
        // What comes too late for its day is dropped, and its day stays gone.
        traffic.aggregate(&bed, "S1", days_ago(8), 5, Some(50.0));
        traffic.aggregate(&bed, "S1", days_ago(0) + 10 * 300_000, 5, Some(50.0));
        let summary = bed.run_to_end(bed.traffic());
        assert_eq!((summary.rows, summary.expired), (1, 1), "{summary:?}");
    });
}

#[test]
fn a_replay_of_an_old_year_is_kept() {
    on_both(1, |bed| {
        let mut traffic = Traffic::default();
        traffic.windows(&bed, 1_330_560_000_000, 3, 0..40);
        bed.run_to_end(bed.traffic());
        bed.run_to_end(bed.traffic());
        traffic.assert_rows(&bed.rows);
    });
}

#[test]
fn alerts_are_as_their_last_transition_says_and_every_one_is_kept() {
    on_both(1, |mut bed| {
        bed.settings.retention.alerts = Some(Duration::from_secs(2 * 86_400));
        let alerts = || Projection::Alerts { alerts: ALERTS.to_owned() };
        let at = days_ago(0);
        let send = |alert: &str, sequence: u32, status: &str, at: i64, opened_at: i64| {
            bed.send(ALERTS, "S1", alert_json(alert, sequence, status, at, opened_at).as_bytes());
        };
        send("ALERT_S1_a_1", 1, "ACTIVE", at, at);
        send("ALERT_S1_a_1", 2, "INVESTIGATING", at + 1, at);
        send("ALERT_S1_b_1", 1, "ACTIVE", at, at);
        send("ALERT_S1_a_1", 3, "RESOLVED", at + 2, at);
        send("ALERT_S1_a_1", 2, "INVESTIGATING", at + 1, at);
        bed.send(ALERTS, "S1", b"{}");
        let summary = bed.run_to_end(alerts());
        assert_eq!((summary.rows, summary.refused), (4, 1), "{summary:?}");
        let present =
            "select alert_id, sequence, status, MS(changed_at), MS(resolved_at), value from T.alerts order by 1";
        let expected = [
            format!("ALERT_S1_a_1|3|RESOLVED|{}|{}|12.5", at + 2, at + 2),
            format!("ALERT_S1_b_1|1|ACTIVE|{at}|-|12.5"),
        ];
        assert_eq!(bed.rows.rows(present), expected);
        send("ALERT_S1_a_1", 2, "INVESTIGATING", at + 1, at);
        bed.run_to_end(alerts());
        assert_eq!(bed.rows.rows(present), expected);
        let history = "select alert_id, sequence, status from T.alert_history order by 1, 2";
        assert_eq!(
            bed.rows.rows(history),
            [
                "ALERT_S1_a_1|1|ACTIVE",
                "ALERT_S1_a_1|2|INVESTIGATING",
                "ALERT_S1_a_1|3|RESOLVED",
                "ALERT_S1_b_1|1|ACTIVE"
            ]
        );

        // Ended ones go when they are old; one that holds stays, however old.
        let old = days_ago(9);
        send("ALERT_S1_c_1", 1, "ACTIVE", old, old);
        send("ALERT_S1_d_1", 1, "RESOLVED", old, old);
        assert_eq!(bed.run_to_end(alerts()).rows, 2);
        bed.while_running(alerts(), |_| {
            let ids = "select alert_id from T.alerts order by 1";
            wait_until(DEADLINE, "the old one is gone", || {
                (bed.rows.rows(ids) == ["ALERT_S1_a_1", "ALERT_S1_b_1", "ALERT_S1_c_1"]).then_some(())
            });
            let old = format!("select alert_id from T.alert_history where MS(changed_at) = {old}");
            wait_until(DEADLINE, "so is its history", || bed.rows.rows(&old).is_empty().then_some(()));
        });
    });
}
