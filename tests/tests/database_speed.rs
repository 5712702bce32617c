//! How fast topics become rows. Left out of ordinary runs, where other tests take the processor:
//! `cargo test -p tests --test database_speed -- --ignored --nocapture`.

use std::time::{Duration, Instant};

use tests::database::{Bed, Kind, Traffic, days_ago};

/// Rows a second of a backfill: per window 2,000 aggregates, a fifth of them corrected, and 6,000 forecasts with 19
/// quantiles, all scored as soon as their truth has come.
fn rate(kind: Kind) -> Option<f64> {
    let mut bed = Bed::new(kind, 12)?;
    bed.settings.commit_interval = Duration::from_millis(500);
    let mut traffic = Traffic::default();
    traffic.windows(&bed, days_ago(1), 2_000, 0..20);
    #[expect(clippy::disallowed_methods, reason = "measures")]
    let began = Instant::now();
    let summary = bed.run_to_end(bed.traffic());
    let took = began.elapsed();
    traffic.assert_rows(&bed.rows);
    let rate = summary.rows as f64 / took.as_secs_f64();
    println!("{kind:?}: {} rows in {took:?}, {} transactions: {rate:.0} rows/s", summary.rows, summary.transactions);
    Some(rate)
}

#[test]
#[ignore = "measures, and wants the machine for itself"]
fn postgres_takes_20_000_rows_a_second() {
    assert!(rate(Kind::Postgres).is_none_or(|rate| rate >= 20_000.0));
}

#[test]
#[ignore = "measures, and wants the machine for itself"]
fn sqlite_takes_5_000_rows_a_second() {
    assert!(rate(Kind::Sqlite).is_none_or(|rate| rate >= 5_000.0));
}
