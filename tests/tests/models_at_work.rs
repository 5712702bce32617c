//! Models at work, with the binaries: predictors that train by themselves, with an archive that ends now, and predictors
//! that are killed while models are swapped.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use common::clock::{Clock as _, SystemClock};
use serde_json::Value;
use tests::{Worker, services, unique, wait_until};

const DEADLINE: Duration = Duration::from_secs(180);
const SENSORS: usize = 12;
const DAY: i64 = 288;
/// Windows of the archive, and of what follows it.
const TRAINED: i64 = 3 * DAY;
const FOLLOWING: i64 = 100;
const STEP_MS: i64 = 300_000;

/// Rush hours, a jam that moves upstream, and noise, km/h.
fn speed(sensor: usize, step: i64) -> f64 {
    let hour = step.rem_euclid(DAY) as f64 / 12.0;
    let rush = |at: f64| (-((hour - at - sensor as f64 * 0.15) / 0.9).powi(2)).exp() * 38.0;
    let noise = ((step * 7_919 + i64::try_from(sensor).expect("few") * 104_729) % 1_009) as f64 / 1_009.0 * 8.0;
    ((100.0 - rush(7.5) - rush(17.0) - noise) * 4.0).round() / 4.0
}

/// A deployment whose archive ends with the last full hour but the windows that follow.
struct Scene {
    directory: tempfile::TempDir,
    first: i64,
    /// Log and prefix of topics, in place of the embedded log, which has one member of each worker.
    kafka: Option<(String, String)>,
}

impl Scene {
    fn new(settings: &str) -> Self {
        Self::on(None, settings)
    }

    fn on(kafka: Option<String>, settings: &str) -> Self {
        let kafka = kafka.map(|servers| (format!("kafka://{servers}"), format!("{}.", unique("retraining"))));
        let now_ms = SystemClock.now_ms();
        let first = now_ms.div_euclid(3_600_000) * 12 - TRAINED - FOLLOWING;
        let scene = Self { directory: tempfile::tempdir().expect("a directory"), first, kafka };
        std::fs::write(scene.at().join("settings.toml"), settings).expect("written");
        scene.run("traffic", &["init"]);
        scene.replay(0..TRAINED);
        scene
    }

    fn at(&self) -> &Path {
        self.directory.path()
    }

    fn worker(&self, binary: &str, arguments: &[&str]) -> Worker {
        let mut environment = vec![("TRAFFIC_HTTP_LISTEN", "off"), ("TRAFFIC_DATABASE", "none")];
        if let Some((log, prefix)) = &self.kafka {
            environment.extend([("TRAFFIC_LOG", &**log), ("TRAFFIC_TOPIC_PREFIX", prefix)]);
        }
        Worker::start_in(self.at(), binary, arguments, &environment)
    }

    fn run(&self, binary: &str, arguments: &[&str]) -> String {
        let mut worker = self.worker(binary, arguments);
        let status = worker.wait(DEADLINE);
        assert!(status.success(), "{binary} {arguments:?}: {}", worker.log());
        worker.output()
    }

    /// Windows become aggregates in topic and archive.
    fn replay(&self, windows: std::ops::Range<i64>) {
        let mut text: String = (0..SENSORS).map(|s| s.to_string()).collect::<Vec<_>>().join(",");
        for window in windows.clone() {
            text.push('\n');
            for sensor in 0..SENSORS {
                let separator = if sensor == 0 { "" } else { "," };
                write!(text, "{separator}{}", speed(sensor, self.first + window)).expect("a string takes everything");
            }
        }
        std::fs::write(self.at().join("readings.csv"), text + "\n").expect("written");
        let start = self.start_of(windows.start);
        self.run("traffic", &["replay", "readings.csv", "--start", &start]);
        self.run("aggregator", &["--exit-at-end"]);
    }

    fn start_of(&self, window: i64) -> String {
        let start = jiff::Timestamp::from_millisecond((self.first + window) * STEP_MS).expect("in range");
        start.to_string().trim_end_matches('Z').to_owned()
    }

    fn predictor(&self, instance: &str) -> Worker {
        self.worker("predictor", &["--config", "settings.toml", "--instance", instance])
    }

    fn models(&self) -> Value {
        serde_json::from_str(&self.run("traffic", &["model", "list", "--json"])).expect("JSON")
    }

    fn current(&self) -> Option<String> {
        self.models()["current"]["version"].as_str().map(str::to_owned)
    }

    fn versions(&self) -> usize {
        self.models()["versions"].as_array().map_or(0, Vec::len)
    }

    fn wait_for_current(&self, version: &str) {
        wait_until(DEADLINE, version, || self.current().filter(|current| current == version));
    }
}

#[test]
fn one_of_two_trains_and_both_take_the_model() {
    let Some(kafka) = services::kafka() else { return };
    let settings = "[predictor]\nmodel_poll = \"1s\"\n[predictor.retrain]\nenabled = true\nheld_out_days = 1\n";
    let scene = Scene::on(Some(kafka), settings);
    let workers = [scene.predictor("a"), scene.predictor("b")];
    scene.wait_for_current("v1.0.0");
    for worker in &workers {
        worker.wait_for_log(DEADLINE, "model v1.0.0 forecasts from the next window on");
    }
    // The next one is due in a day: nobody trains a second one meanwhile.
    let begun = workers.iter().filter(|worker| worker.log().contains("a scheduled training begins")).count();
    assert_eq!((begun, scene.versions()), (1, 1));
    let reason = scene.run("traffic", &["model", "list"]);
    assert!(reason.contains("the first model that beats the last value"), "{reason}");
    for mut worker in workers {
        worker.terminate();
        assert!(worker.wait(DEADLINE).success(), "{}", worker.log());
    }
}

#[test]
fn a_predictor_that_is_killed_while_it_trains_begins_again() {
    let scene = Scene::new("[predictor.retrain]\nenabled = true\nheld_out_days = 1\n");
    for pause_ms in [0, 300, 900] {
        let mut worker = scene.predictor("a");
        worker.wait_for_log(DEADLINE, "a scheduled training begins");
        std::thread::sleep(Duration::from_millis(pause_ms));
        worker.kill();
        // Whatever was published by then is whole.
        let models = scene.models();
        assert!(!models.to_string().contains("damaged"), "{models}");
    }
    let mut worker = scene.predictor("a");
    wait_until(DEADLINE, "a model", || scene.current());
    worker.terminate();
    assert!(worker.wait(DEADLINE).success(), "{}", worker.log());
}

#[test]
fn a_challenger_has_to_win_live_before_it_is_promoted() {
    let retrain = "enabled = true\nheld_out_days = 1\nshadow = \"1s\"\n";
    let scene = Scene::new(&format!("[predictor]\nmodel_poll = \"1s\"\n[predictor.retrain]\n{retrain}"));
    let mut worker = scene.predictor("a");
    worker.wait_for_log(DEADLINE, "v1.0.0 forecasts beside what is published");
    assert_eq!((scene.current(), scene.versions()), (None, 1));
    // Killed in its trial: the next life goes on with it, and trains no other.
    worker.kill();
    let mut worker = scene.predictor("a");
    worker.wait_for_log(DEADLINE, "v1.0.0 forecasts beside what is published");
    scene.replay(TRAINED..TRAINED + FOLLOWING);
    scene.wait_for_current("v1.0.0");
    assert_eq!(scene.versions(), 1);
    let promoted = scene.run("traffic", &["model", "list"]);
    assert!(promoted.contains("below what was published, over"), "{promoted}");
    worker.terminate();
    assert!(worker.wait(DEADLINE).success(), "{}", worker.log());
}

#[test]
fn swaps_and_kills_lose_and_double_no_forecast() {
    let scene = Scene::new("[predictor]\nmodel_poll = \"1s\"\n");
    let start = scene.start_of(0);
    let train = ["train", "--csv", "readings.csv", "--start", &start, "--held-out-days", "1"];
    scene.run("traffic", &train);
    scene.run("traffic", &[&train[..], &["--no-promote"]].concat());
    for (life, version) in ["v1.0.0", "v1.1.0", "v1.0.0", "v1.1.0", "v1.0.0"].into_iter().enumerate() {
        scene.run("traffic", &["model", "promote", version]);
        let mut worker = scene.predictor("a");
        worker.wait_for_log(DEADLINE, &format!("model {version} forecasts from the next window on"));
        std::thread::sleep(Duration::from_millis(150 + 130 * life as u64));
        // On its way to another version when it dies, in every second life.
        if life % 2 == 1 {
            scene.run("traffic", &["model", "rollback"]);
        }
        worker.kill();
    }
    scene.run("predictor", &["--config", "settings.toml", "--instance", "a", "--exit-at-end"]);

    let published = scene.run("traffic", &["inspect", "topic", "traffic-predictions"]);
    let (mut ids, mut frames) = (BTreeSet::new(), HashMap::<(String, i64), BTreeSet<String>>::new());
    for line in published.lines() {
        let prediction = &serde_json::from_str::<Value>(line).expect("JSON")["value"];
        let text = |field: &str| prediction[field].as_str().expect("a text").to_owned();
        assert!(ids.insert(text("prediction_id")), "{} is doubled", text("prediction_id"));
        let made = prediction["prediction_timestamp"].as_i64().expect("a time");
        frames.entry((text("segment_id"), made)).or_default().insert(text("model_version"));
    }
    let expected = SENSORS * usize::try_from(TRAINED).expect("small") * 3;
    assert_eq!(ids.len(), expected, "each segment, window and horizon has a forecast");
    assert!(frames.values().all(|versions| versions.len() == 1), "a frame is of one model");
    let versions: BTreeSet<&String> = frames.values().flatten().collect();
    assert_eq!(versions.into_iter().collect::<Vec<_>>(), ["v1.0.0", "v1.1.0"]);
}

#[test]
fn without_enough_to_train_on_it_says_so_and_forecasts_go_on() {
    let scene = Scene::new("[predictor.retrain]\nenabled = true\ndays = 2\nheld_out_days = 1\n");
    std::fs::remove_dir_all(scene.at().join("traffic-store/traffic-data")).expect("the archive is gone");
    let mut worker = scene.predictor("a");
    worker.wait_for_log(DEADLINE, "no scheduled training: 0 windows of readings are too few");
    assert!(worker.runs());
    worker.terminate();
    assert!(worker.wait(DEADLINE).success(), "{}", worker.log());
}
