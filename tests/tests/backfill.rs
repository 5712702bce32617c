//! `traffic backfill`: what the archive's events come to is what the stream made of them, and late events are corrected.

use std::collections::BTreeSet;
use std::time::Duration;

use common::clock::{Clock as _, SystemClock};
use serde_json::Value;
use tests::Worker;

const DEADLINE: Duration = Duration::from_secs(60);
const DAY: [&str; 4] = ["--from", "2026-01-05T00:00:00Z", "--to", "2026-01-06T00:00:00Z"];

/// A deployment in a directory of its own.
struct Scene {
    directory: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let scene = Self { directory: tempfile::tempdir().expect("a directory") };
        scene.run("traffic", &["init"]);
        scene
    }

    fn run(&self, binary: &str, arguments: &[&str]) -> String {
        let environment =
            [("TRAFFIC_DATABASE", "none"), ("TRAFFIC_HTTP_LISTEN", "off"), ("TRAFFIC_LOG", "sqlite:traffic.db")];
        let mut worker = Worker::start_in(self.directory.path(), binary, arguments, &environment);
        let status = worker.wait(DEADLINE);
        assert!(status.success(), "{binary} {arguments:?}: {status}: {}", worker.log());
        worker.output()
    }

    /// Two hours of events, of which this share is late beyond the windows' patience.
    fn events(&self, late: &str) {
        let what = ["simulate", "--segments", "30", "--start", "2026-01-05T08:00:00Z", "--hours", "2", "--late", late];
        self.run("traffic", &what);
        self.run("ingest", &["--exit-at-end"]);
    }

    /// Aggregates the topic of events, and archives that.
    fn aggregate(&self) {
        self.run("aggregator", &["--exit-at-end"]);
    }

    fn backfill(&self, more: &[&str]) -> Value {
        let said = self.run("traffic", &[&["backfill", "--json"], &DAY[..], more].concat());
        serde_json::from_str(&said).expect("JSON")
    }

    /// Key and value of each aggregate, corrections included.
    fn aggregates(&self) -> BTreeSet<String> {
        let said = self.run("traffic", &["inspect", "topic", "processed-traffic-aggregates", "--limit", "1000000"]);
        let records = said.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        records
            .filter(|record| !record["value"].is_null())
            .map(|record| format!("{} {}", record["key"], record["value"]))
            .collect()
    }
}

fn number(outcome: &Value, name: &str) -> u64 {
    outcome[name].as_u64().unwrap_or_else(|| panic!("{name} is missing in {outcome}"))
}

#[test]
fn the_archive_comes_to_what_the_stream_made() {
    let streamed = Scene::new();
    streamed.events("0");
    streamed.aggregate();
    let outcome = streamed.backfill(&[]);
    let windows = number(&outcome, "windows");
    assert!(windows > 600, "{outcome}");
    assert_eq!((number(&outcome, "equal"), number(&outcome, "missing")), (windows, 0), "{outcome}");

    let archived = Scene::new();
    archived.events("0");
    let planned = archived.backfill(&["--dry-run"]);
    assert_eq!((number(&planned, "missing"), archived.aggregates().len()), (windows, 0), "{planned}");
    assert_eq!(number(&archived.backfill(&[]), "missing"), windows);
    assert_eq!(archived.aggregates(), streamed.aggregates(), "the same messages");
}

#[test]
fn events_that_came_too_late_are_corrected_once() {
    let scene = Scene::new();
    scene.events("0.02");
    scene.aggregate();
    let before = scene.aggregates();
    let outcome = scene.backfill(&[]);
    let (windows, corrected) = (number(&outcome, "windows"), number(&outcome, "corrected"));
    assert!(corrected > 20 && number(&outcome, "fewer") == 0, "{outcome}");
    // The archive of aggregates takes the corrections up.
    scene.aggregate();
    assert_eq!(number(&scene.backfill(&[]), "equal"), windows);
    let after = scene.aggregates();
    assert_eq!(after.difference(&before).count() as u64, corrected + number(&outcome, "missing"));
}

#[test]
fn the_present_is_the_workers_own() {
    let scene = Scene::new();
    let now = jiff::Timestamp::from_millisecond(SystemClock.now_ms()).expect("a time").to_string();
    let environment = [("TRAFFIC_DATABASE", "none"), ("TRAFFIC_LOG", "sqlite:traffic.db")];
    let arguments = ["backfill", "--from", "2026-01-05T00:00:00Z", "--to", &now];
    let mut worker = Worker::start_in(scene.directory.path(), "traffic", &arguments, &environment);
    assert_eq!(worker.wait(DEADLINE).code(), Some(1));
    assert!(worker.log().contains("the last hour is the workers' own"), "{}", worker.log());
}
