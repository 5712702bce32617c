//! `traffic compact` on a real HDFS: killed at any moment, two at once, beside an ingest that goes on; and what DuckDB
//! sees of a directory, and whoever lists HDFS, while files are exchanged.

use std::process::Command;
use std::time::{Duration, Instant};

use common::store::{StoreOptions, open};
use serde_json::Value;
use tests::{Worker, services, unique};

const DEADLINE: Duration = Duration::from_secs(120);

/// A deployment on an embedded log, and topics of its own.
struct Scene {
    directory: tempfile::TempDir,
    environment: Vec<(&'static str, String)>,
    topic: String,
    archived: u32,
}

impl Scene {
    fn new(store: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let prefix = format!("{}.", unique("compact"));
        std::fs::write(directory.path().join("traffic.toml"), SETTINGS).expect("written");
        let environment = vec![
            ("TRAFFIC_LOG", format!("sqlite:{}", directory.path().join("traffic.db").display())),
            ("TRAFFIC_STORE", store.replace("{}", &directory.path().display().to_string())),
            ("TRAFFIC_TOPIC_PREFIX", prefix.clone()),
            ("TRAFFIC_DATABASE", "none".to_owned()),
            ("TRAFFIC_HTTP_LISTEN", "off".to_owned()),
        ];
        let scene = Self { directory, environment, topic: format!("{prefix}traffic-events"), archived: 0 };
        scene.run("traffic", &["init"]);
        scene
    }

    fn start(&self, binary: &str, arguments: &[&str]) -> Worker {
        let environment: Vec<(&str, &str)> = self.environment.iter().map(|(n, v)| (*n, v.as_str())).collect();
        let config = self.directory.path().join("traffic.toml").display().to_string();
        let arguments = [arguments, &["--config", &config]].concat();
        Worker::start(binary, &arguments, &environment)
    }

    fn run(&self, binary: &str, arguments: &[&str]) -> String {
        let mut worker = self.start(binary, arguments);
        let status = worker.wait(DEADLINE);
        assert!(status.success(), "{binary} {arguments:?}: {status}: {}", worker.log());
        worker.output()
    }

    /// Three hours of events, in many files.
    fn archive(&mut self) {
        let seed = self.archived.to_string();
        let what = ["simulate", "--segments", "80", "--start", "2026-01-05T08:00:00Z", "--hours", "3", "--seed"];
        self.run("traffic", &[&what[..], &[&seed]].concat());
        self.run("ingest", &["--exit-at-end"]);
        self.archived += 1;
    }

    fn compact(&self) -> Value {
        let said = self.run("traffic", &["compact", "--dataset", "events", "--json"]);
        serde_json::from_str(&said).expect("JSON")
    }

    /// Sound by itself, and against the log.
    fn verify(&self) -> Value {
        let said = self.run("traffic", &["verify", "archive", "--dataset", "events", "--json"]);
        serde_json::from_str(&said).expect("JSON")
    }
}

/// Many small files.
const SETTINGS: &str = "[topics]\npartitions = 2\n[archive]\nflush_bytes = 64000\nmemory_bytes = 1000000\n";

/// A small generator of its own, so that a seed means the same for ever.
fn random(seed: u64) -> u64 {
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0xbf58_476d_1ce4_e5b9;
    x ^= x >> 30;
    x = x.wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[test]
fn killed_at_any_moment_on_hdfs_it_loses_and_doubles_nothing() {
    let Some(hdfs) = services::hdfs() else { return };
    let mut scene = Scene::new(&hdfs);
    scene.archive();
    let mut whole = scene.start("traffic", &["compact", "--dataset", "events", "--dry-run", "--json"]);
    assert!(whole.wait(DEADLINE).success(), "{}", whole.log());
    let planned: Value = serde_json::from_str(&whole.output()).expect("JSON");
    assert!(planned["merges"].as_array().expect("a list").len() >= 3, "{planned}");
    let mut killed = 0;
    for round in 0..12 {
        let mut compact = scene.start("traffic", &["compact", "--dataset", "events"]);
        // From when it has begun to read until it is about done.
        std::thread::sleep(Duration::from_millis(100 + random(round) % 600));
        let at_work = compact.runs();
        killed += u32::from(at_work);
        compact.kill();
        if round == 5 || !at_work {
            // Late events, into the hours that are being merged; and something to do for the next one.
            scene.archive();
        }
    }
    assert!(killed > 3, "{killed} of them were still at work");
    // Whatever the last one left half done.
    scene.run("traffic", &["verify", "archive", "--dataset", "events", "--repair"]);
    scene.compact();
    let again = scene.compact();
    assert_eq!((again["merged_files"].as_u64(), again["removed_rows"].as_u64()), (Some(0), Some(0)), "{again}");
    scene.verify();
}

#[test]
fn two_at_once_beside_an_ingest_that_goes_on() {
    let Some(hdfs) = services::hdfs() else { return };
    let mut scene = Scene::new(&hdfs);
    scene.archive();
    let (mut one, mut two) = (
        scene.start("traffic", &["compact", "--dataset", "events"]),
        scene.start("traffic", &["compact", "--dataset", "events"]),
    );
    scene.archive();
    for worker in [&mut one, &mut two] {
        let status = worker.wait(DEADLINE);
        assert!(status.success(), "{status}: {}", worker.log());
    }
    scene.compact();
    scene.verify();
}

#[test]
fn what_is_too_old_goes_for_good() {
    let mut scene = Scene::new("file://{}/store");
    scene.archive();
    let wrong = scene.start("traffic", &["compact", "--date", "2026-01-32"]).wait(DEADLINE);
    assert_eq!(wrong.code(), Some(2), "a usage error");
    let said = scene.run("traffic", &["compact", "--dataset", "events", "--retain-days", "1"]);
    assert!(said.contains("files removed"), "{said}");
    let report = scene.verify();
    let retired = report["retired"]["rows"].as_object().expect("an object");
    assert!(retired.values().filter_map(Value::as_u64).sum::<u64>() > 20_000, "{report}");
}

/// A reader that globs sees each row at most once at any moment.
#[test]
fn duckdb_never_sees_a_row_twice_while_files_are_exchanged() {
    let Some(python) = services::python() else { return };
    let mut scene = Scene::new("file://{}/store");
    scene.archive();
    let root = scene.directory.path().join("store");
    let mut reader = Command::new(python)
        .args(["readers/count_while_compacting.py", &scene.topic])
        .arg(&root)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("runs");
    for _ in 0..4 {
        scene.compact();
        scene.archive();
    }
    std::fs::write(root.join("stop"), "").expect("written");
    let output = {
        let status = reader.wait().expect("ends");
        assert!(status.success(), "{status}");
        reader.stdout.take()
    };
    let said: Value = serde_json::from_reader(output.expect("piped")).expect("JSON");
    println!("{said}");
    assert!(said["looks"].as_u64() > Some(10) && said["doubled"].as_u64() == Some(0), "{said}");
}

/// What somebody sees of an hour who lists it again and again.
#[derive(Debug)]
struct Watched {
    dir: String,
    /// How many files it had before.
    files: usize,
    /// The last look that found all of them.
    whole: Instant,
    /// The first look that found fewer, and the last one.
    missing: Option<(Instant, Instant)>,
    /// The first look that found the merged file.
    merged: Option<Instant>,
}

impl Watched {
    fn look(&mut self, names: &[&str], now: Instant) {
        let (merged, others): (Vec<&str>, Vec<&str>) =
            names.iter().copied().partition(|name| name.contains("-compacted-"));
        assert!(merged.is_empty() || others.is_empty(), "rows are there twice: {names:?}");
        if !merged.is_empty() {
            self.merged.get_or_insert(now);
        } else if others.len() == self.files {
            self.whole = now;
        } else {
            self.missing = Some((self.missing.map_or(now, |(first, _)| first), now));
        }
    }

    /// For how long rows were missed, at least and at most.
    fn missed(&self) -> (Duration, Duration) {
        let merged = self.merged.unwrap_or_else(|| panic!("{} is merged", self.dir));
        (self.missing.map_or(Duration::ZERO, |(first, last)| last - first), merged - self.whole)
    }
}

/// Prints for how long an hour is missed, which is what `docs/benchmarks.md` says.
#[test]
#[expect(clippy::disallowed_methods, reason = "looks are told apart by real time")]
fn whoever_lists_hdfs_sees_no_row_twice_and_misses_an_hour_for_a_moment() {
    let Some(hdfs) = services::hdfs() else { return };
    let mut scene = Scene::new(&hdfs);
    // Two files of each hour each time: as many as an hour of flushes leaves.
    (0..6).for_each(|_| scene.archive());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let store = runtime.block_on(async { open(&hdfs, &StoreOptions::default()) }).expect("the URL is sound");
    let list = |dir: &str| {
        let entries = runtime.block_on(store.list(dir, false)).expect("HDFS answers");
        let own = entries.into_iter().filter(|entry| entry.name().starts_with(&scene.topic));
        own.map(|entry| entry.name().to_owned()).collect::<Vec<_>>()
    };
    let hours = ["08", "09", "10"].map(|hour| format!("/traffic-data/raw/date=2026-01-05/hour={hour}"));
    let mut watched = hours.map(|dir| {
        let files = list(&dir).len();
        assert_eq!(files, 12, "{dir}");
        Watched { dir, files, whole: Instant::now(), missing: None, merged: None }
    });
    let (mut compact, mut looks) = (scene.start("traffic", &["compact", "--dataset", "events"]), 0);
    loop {
        let last = !compact.runs();
        for hour in &mut watched {
            let names = list(&hour.dir);
            hour.look(&names.iter().map(String::as_str).collect::<Vec<_>>(), Instant::now());
        }
        looks += 1;
        if last {
            break;
        }
    }
    assert!(compact.wait(DEADLINE).success(), "{}", compact.log());
    for hour in &watched {
        let (least, most) = hour.missed();
        println!("{}: {} files, missed for {least:.1?} to {most:.1?}, in {looks} looks", hour.dir, hour.files);
    }
    scene.verify();
}
