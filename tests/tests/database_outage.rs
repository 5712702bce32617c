//! Rows while the database is away: they wait in the log, and none is lost or doubled.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tests::database::{Bed, Kind, Traffic, days_ago};
use tests::services::{Blow, Outage, Victim};
use tests::wait_until;

/// Another test's outage would be met by this one's looks at the rows.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

const DEADLINE: Duration = Duration::from_secs(90);

/// Projects before, during and after an outage that lasts until the sink has noticed it.
fn survives(blow: Blow) {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(mut bed) = Bed::new(Kind::Postgres, 2) else { return };
    bed.settings.batch_rows = 20;
    let mut traffic = Traffic::default();
    traffic.windows(&bed, days_ago(1), 5, 0..10);
    let ((), summary) = bed.while_running(bed.traffic(), |reports| {
        wait_until(DEADLINE, "the first rows", || bed.is_complete(&traffic));
        // In the middle of these.
        traffic.windows(&bed, days_ago(1), 5, 10..60);
        let outage = Outage::begin(Victim::Postgres, blow);
        traffic.windows(&bed, days_ago(1), 5, 60..70);
        wait_until(DEADLINE, "the sink says it is not ready", || reports.reason());
        traffic.windows(&bed, days_ago(1), 5, 70..80);
        outage.end();
        wait_until(DEADLINE, "all rows", || bed.is_complete(&traffic));
        wait_until(DEADLINE, "the sink is ready again", || reports.reason().is_none().then_some(()));
    });
    assert!(blow == Blow::Freeze || summary.retries > 0, "{summary:?}");
    traffic.assert_rows(&bed.rows);
}

#[test]
fn a_stopped_server() {
    survives(Blow::Stop);
}

#[test]
fn a_killed_server() {
    survives(Blow::Kill);
}

#[test]
fn a_frozen_server() {
    survives(Blow::Freeze);
}

/// Another process holds the file's lock for longer than anybody waits for it.
#[test]
fn a_locked_file() {
    let Some(bed) = Bed::new(Kind::Sqlite, 1) else { return };
    let mut traffic = Traffic::default();
    bed.while_running(bed.traffic(), |reports| {
        wait_until(DEADLINE, "the sink is ready", || (reports.able() > 0).then_some(()));
        let lock = bed.rows.lock_file();
        traffic.windows(&bed, days_ago(1), 5, 0..10);
        wait_until(DEADLINE, "the sink says it is not ready", || reports.reason());
        drop(lock);
        wait_until(DEADLINE, "all rows", || bed.is_complete(&traffic));
        wait_until(DEADLINE, "the sink is ready again", || reports.reason().is_none().then_some(()));
    });
    traffic.assert_rows(&bed.rows);
}
