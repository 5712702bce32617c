//! `traffic inspect` on files of this machine and of the store; and that nobody minds `| head`.

use std::process::{Command, Stdio};
use std::time::Duration;

use tests::Worker;

const DEADLINE: Duration = Duration::from_secs(60);
const ENVIRONMENT: [(&str, &str); 2] = [("TRAFFIC_DATABASE", "none"), ("TRAFFIC_HTTP_LISTEN", "off")];

fn run(directory: &tempfile::TempDir, binary: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut worker = Worker::start_in(directory.path(), binary, arguments, &ENVIRONMENT);
    let status = worker.wait(DEADLINE);
    (status.code(), worker.output(), worker.log())
}

#[test]
fn files_are_shown_with_their_times_offsets_and_rows() {
    let directory = tempfile::tempdir().expect("a directory");
    let fine = |binary: &str, arguments: &[&str]| {
        let (code, said, log) = run(&directory, binary, arguments);
        assert_eq!(code, Some(0), "{binary} {arguments:?}: {log}");
        said
    };
    fine("traffic", &["init"]);
    let what = ["simulate", "--segments", "20", "--hours", "1", "--start", "2026-01-05T08:00:00Z", "--malformed", "0"];
    fine("traffic", &what);
    fine("ingest", &["--exit-at-end"]);
    fine("traffic", &["compact", "--dataset", "events"]);

    let said = fine("traffic", &["inspect", "traffic-store/traffic-data/raw", "--limit", "2"]);
    for part in [
        "2026-01-05T08:00:00Z 2026-01-05T08:59:58.5Z",
        "0-11:0-",
        "compacted",
        "segment_id",
        "speed_kmh=",
        "timestamp=2026-01-05T08:0",
    ] {
        assert!(said.contains(part), "{part} is missing in {said}");
    }
    assert_eq!(said.matches("event_id=").count(), 2, "{said}");
    // The same by the store's path.
    let stored = fine("traffic", &["inspect", "/traffic-data/raw", "--limit", "2"]);
    assert_eq!(stored.lines().next(), said.lines().next());
    assert_eq!(stored.matches("event_id=").count(), 2, "{stored}");

    let (code, _, log) = run(&directory, "traffic", &["inspect", "traffic.db"]);
    assert!(code == Some(1) && log.contains("traffic.db: no Parquet file, or a damaged one"), "{log}");
    let (code, _, log) = run(&directory, "traffic", &["inspect", "nowhere"]);
    assert!(code == Some(1) && log.contains("nowhere: No such file"), "{log}");

    // As in `traffic lag | head`.
    let mut lag = Command::new(tests::built("traffic"));
    lag.arg("lag").current_dir(directory.path()).envs(ENVIRONMENT).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut lag = lag.spawn().expect("runs");
    drop(lag.stdout.take());
    let output = lag.wait_with_output().expect("ends");
    assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}
