//! The demo, as a user runs it: its sums, and that kill -9 at any moment changes none of them.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tests::Worker;

const DEADLINE: Duration = Duration::from_secs(180);

fn demo(dir: &Path) -> Worker {
    let dir = dir.to_str().expect("UTF-8");
    Worker::start("traffic", &["demo", "--dir", dir, "--hours", "3", "--speed", "max", "--seed", "7", "--json"], &[])
}

fn summary(worker: &mut Worker) -> Value {
    let status = worker.wait(DEADLINE);
    assert!(status.success(), "{status}: {}", worker.log());
    let output = worker.output();
    serde_json::from_str(output.lines().last().expect("a summary")).expect("JSON")
}

/// What must not depend on how often it was interrupted.
fn sums(summary: &Value) -> Vec<u64> {
    ["events", "counted", "duplicates", "invalid", "late", "aggregates", "raw_rows"]
        .map(|name| summary[name].as_u64().unwrap_or_else(|| panic!("{name} is missing in {summary}")))
        .to_vec()
}

#[test]
fn killed_at_any_moment_it_goes_on_without_loss_or_doubling() {
    let (whole, torn) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let expected = sums(&summary(&mut demo(whole.path())));
    assert_eq!(expected[0], expected[1] + expected[2] + expected[3] + expected[4]);
    assert_eq!(expected[0], expected[6]);
    assert!(expected[2..5].iter().all(|n| *n > 0), "duplicates, invalid and late events are sent: {expected:?}");

    // Killed the earlier, the less it has done; the last ones hit the drain.
    let mut killed = 0;
    for after_ms in [60, 150, 300, 500, 700, 900, 1_100, 1_300] {
        let mut worker = demo(torn.path());
        let deadline = common::clock::Clock::now_ms(&common::clock::SystemClock) + after_ms;
        tests::wait_until(DEADLINE, "the moment to kill", || {
            (!worker.runs() || common::clock::Clock::now_ms(&common::clock::SystemClock) >= deadline).then_some(())
        });
        killed += u32::from(worker.runs());
        worker.kill();
    }
    assert!(killed >= 3, "it was killed only {killed} times");
    assert_eq!(sums(&summary(&mut demo(torn.path()))), expected);
}

#[test]
fn hours_that_end_within_a_window_add_up_too() {
    for hours in ["0.01", "0.1", "1.77"] {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().to_str().expect("UTF-8");
        let arguments = ["demo", "--dir", path, "--hours", hours, "--speed", "max", "--segments", "7", "--json"];
        let sums = sums(&summary(&mut Worker::start("traffic", &arguments, &[])));
        assert_eq!(sums[0], sums[1] + sums[2] + sums[3] + sums[4], "--hours {hours}");
        assert!(sums[0] > 0 && sums[0] == sums[6], "--hours {hours}");
    }
}

#[test]
fn another_demo_in_the_same_directory_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().to_str().expect("UTF-8");
    let run = |seed: &str| {
        let mut worker =
            Worker::start("traffic", &["demo", "--dir", path, "--hours", "0.5", "--speed", "max", "--seed", seed], &[]);
        (worker.wait(DEADLINE).success(), worker.log())
    };
    assert!(run("1").0);
    let (done, said) = run("2");
    assert!(!done && said.contains("--seed 1"), "{said}");
}
