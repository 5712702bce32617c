//! The commands of docs/simulation.md, as a user runs them, and that their files belong together.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tests::Worker;

const DEADLINE: Duration = Duration::from_secs(180);

/// The rows of a CSV file without quotes, as columns.
fn rows(path: &Path, header: &str) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some(header), "{}", path.display());
    lines.map(|line| line.split(',').map(str::to_owned).collect()).collect()
}

/// Runs every command of the page in `dir`; returns what each said on stdout.
fn run_commands(dir: &Path) -> Vec<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/simulation.md");
    let page = std::fs::read_to_string(page).expect("the page");
    let commands = page.lines().filter_map(|line| line.strip_prefix("traffic "));
    let run = |command: &str| {
        let arguments: Vec<&str> = command.split_whitespace().collect();
        let mut worker = Worker::start_in(dir, "traffic", &arguments, &[]);
        let status = worker.wait(DEADLINE);
        assert!(status.success(), "traffic {command}: {status}: {}", worker.log());
        worker.output()
    };
    commands.map(run).collect()
}

#[test]
fn what_the_page_says_can_be_run_and_belongs_together() {
    let dir = tempfile::tempdir().expect("a directory");
    let said = run_commands(dir.path());
    assert_eq!(said.len(), 3);

    let truth = dir.path().join("truth");
    let columns = "segment_id,corridor,direction,latitude,longitude,length_km,lanes,free_flow_kmh,position_km";
    let segments = rows(&truth.join("segments.csv"), columns);
    let known: HashSet<&str> = segments.iter().map(|row| row[0].as_str()).collect();
    assert_eq!(known.len(), 200);
    for row in rows(&truth.join("edges.csv"), "from,to,distance_km") {
        assert!(known.contains(row[0].as_str()) && known.contains(row[1].as_str()), "{row:?}");
        assert!((0.4..1.0).contains(&row[2].parse::<f64>().expect("a number")), "{row:?}");
    }
    let columns = "incident_id,segment_id,begin,end,capacity_lost,lanes_blocked,lanes";
    let incidents = rows(&truth.join("incidents.csv"), columns);
    let dropouts = rows(&truth.join("dropouts.csv"), "segment_id,kind,begin,end");
    let time = |text: &str| text.parse::<jiff::Timestamp>().expect("RFC 3339");
    for (segment, begin, end) in
        incidents.iter().map(|r| (&r[1], &r[2], &r[3])).chain(dropouts.iter().map(|r| (&r[0], &r[2], &r[3])))
    {
        assert!(known.contains(segment.as_str()) && time(begin) < time(end), "{segment} {begin} {end}");
    }

    let summary: Value = serde_json::from_str(said[0].lines().last().expect("a summary")).expect("JSON");
    let events = std::fs::read_to_string(dir.path().join("day.ndjson")).expect("events");
    assert_eq!(summary["events"].as_u64(), Some(events.lines().count() as u64));
    assert_eq!(summary["incidents"].as_u64(), Some(incidents.len() as u64));
    assert!(incidents.len() >= 3, "{incidents:?}");
    let parsed = events.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let (mut seen, mut slow) = (HashSet::new(), 0);
    for event in parsed {
        let segment = event["segment_id"].as_str().unwrap_or_default().to_owned();
        assert!(known.contains(segment.as_str()), "{event}");
        slow += u32::from(event["speed"].as_f64().is_some_and(|speed| (10.0..40.0).contains(&speed)));
        seen.insert(segment);
    }
    assert_eq!(seen.len(), 200);
    assert!(slow > 10_000, "{slow} readings in a queue");
    let picture = std::fs::read_to_string(dir.path().join("day.svg")).expect("a picture");
    assert!(picture.starts_with("<svg") && picture.contains("I405_S"));
}
