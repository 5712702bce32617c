//! A model from training to forecasts, with the binaries: what is published is what an evaluation says, the rows count the
//! same errors, and a training that is killed leaves everything sound.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use common::model::{Prediction, SpeedUnit};
use common::store::{StoreOptions, open};
use predictor::evaluate::Task;
use predictor::forecast::artifact;
use predictor::forecast::series::Series;
use predictor::forecast::snapshot::fixed;
use predictor::registry::Registry;
use predictor::{Live, Settings, Slot};
use serde_json::Value;
use sqlx::{Connection as _, Row as _};
use tests::{Worker, services, wait_until};

const DEADLINE: Duration = Duration::from_secs(300);
const SENSORS: usize = 12;
const DAY: usize = 288;
const TRAINED: usize = 4 * DAY;
const REPLAYED: usize = DAY;
/// 2026-01-05 (a Monday), minutes.
const START_MIN: i64 = 1_767_571_200 / 60;
const PARTITIONS: u32 = 12;

/// A free road with two rush hours, a jam that moves upstream, and noise; in quarters of km/h, so that nothing is rounded.
fn speed(sensor: usize, step: usize) -> f64 {
    let (hour, day) = ((step % DAY) as f64 / 12.0, step / DAY);
    let delay = sensor as f64 * 0.15;
    let rush = |at: f64| (-((hour - at - delay) / 0.9).powi(2)).exp() * (35.0 + 5.0 * ((day + sensor) % 4) as f64);
    let noise = ((step * 7_919 + sensor * 104_729) % 1_009) as f64 / 1_009.0 * 8.0;
    ((100.0 - rush(7.5) - rush(17.0) - noise) * 4.0).round() / 4.0
}

fn is_gap(sensor: usize, step: usize) -> bool {
    (step * 13 + sensor * 5).is_multiple_of(47)
}

fn write_csv(path: &Path, steps: std::ops::Range<usize>) {
    let mut text: String = (0..SENSORS).map(|s| format!("{s}")).collect::<Vec<_>>().join(",");
    for step in steps {
        text.push('\n');
        for sensor in 0..SENSORS {
            let separator = if sensor == 0 { "" } else { "," };
            let cell = if is_gap(sensor, step) { String::new() } else { speed(sensor, step).to_string() };
            text.extend([separator, &cell]);
        }
    }
    std::fs::write(path, text + "\n").expect("written");
}

fn start_of(step: usize) -> String {
    let minutes = START_MIN + 5 * i64::try_from(step).expect("small");
    jiff::Timestamp::from_second(minutes * 60).expect("in range").to_string().trim_end_matches('Z').to_owned()
}

fn run(directory: &Path, binary: &str, arguments: &[&str]) -> String {
    let mut worker = Worker::start_in(directory, binary, arguments, &[("TRAFFIC_HTTP_LISTEN", "off")]);
    let status = worker.wait(DEADLINE);
    assert!(status.success(), "{binary} {arguments:?}: {}", worker.log());
    worker.output()
}

fn train<'a>(start: &'a str, extra: &[&'a str]) -> Vec<&'a str> {
    let base = ["train", "--csv", "train.csv", "--start", start, "--held-out-days", "1", "--json"];
    base.into_iter().chain(extra.iter().copied()).collect()
}

#[test]
fn what_is_published_is_what_an_evaluation_says() {
    let directory = tempfile::tempdir().expect("a directory");
    let at = directory.path();
    write_csv(&at.join("train.csv"), 0..TRAINED);
    write_csv(&at.join("rest.csv"), TRAINED..TRAINED + REPLAYED);
    run(at, "traffic", &["init"]);
    let start = start_of(0);
    let trained: Value = serde_json::from_str(&run(at, "traffic", &train(&start, &[]))).expect("JSON");
    assert_eq!((&trained["version"], &trained["promoted"]), (&"v1.0.0".into(), &true.into()), "{trained}");

    run(at, "traffic", &["replay", "rest.csv", "--start", &start_of(TRAINED)]);
    let first = START_MIN / 5 + i64::try_from(TRAINED).expect("small") + 1;
    let columns = (0..SENSORS).map(|sensor| {
        let of = |step: usize| {
            if is_gap(sensor, step) { f32::NAN } else { speed(sensor, step) as f32 }
        };
        (format!("SEG_{sensor}").into(), (TRAINED..TRAINED + REPLAYED).map(of).collect())
    });
    let scored = forecasts_are_those_of_an_evaluation(at, &Series::new(first, columns.collect()));
    assert!(scored > 9_000, "{scored}");
}

/// The real sensors: a model of five days of the week forecasts the last two.
#[test]
fn what_is_published_of_the_real_week_is_what_an_evaluation_says() {
    const DAYS: usize = 5;
    let Some(data) = services::data() else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let at = directory.path();
    let week = std::fs::read_to_string(data.join("los_speed.csv")).expect("readable");
    let (header, rows) = week.split_once('\n').expect("a header");
    let rows: Vec<&str> = rows.lines().collect();
    let (known, rest) = rows.split_at(DAYS * DAY);
    for (name, rows) in [("train.csv", known), ("rest.csv", rest)] {
        std::fs::write(at.join(name), format!("{header}\n{}\n", rows.join("\n"))).expect("written");
    }
    run(at, "traffic", &["init"]);
    let trained = run(at, "traffic", &train("2012-03-01T08:00", &["--unit", "mph"]));
    let trained: Value = serde_json::from_str(&trained).expect("JSON");
    assert_eq!((&trained["version"], &trained["promoted"]), (&"v1.0.0".into(), &true.into()), "{trained}");

    run(at, "traffic", &["replay", "rest.csv", "--start", "2012-03-06T08:00", "--unit", "mph"]);
    let start: jiff::Timestamp = "2012-03-06T08:00Z".parse().expect("a time");
    let mut columns: Vec<(Box<str>, Vec<f32>)> =
        header.split(',').map(|sensor| (format!("SEG_{}", sensor.trim()).into(), Vec::new())).collect();
    for row in rest {
        for ((_, speeds), cell) in columns.iter_mut().zip(row.split(',')) {
            let mph: f64 = cell.trim().parse().expect("every reading is there");
            speeds.push(fixed(SpeedUnit::Mph.to_kmh(mph)));
        }
    }
    let series = Series::new(start.as_second() / 300 + 1, columns);
    let scored = forecasts_are_those_of_an_evaluation(at, &series);
    assert!(scored > 340_000, "{scored}");
}

/// What the predictor's page of metrics says of one horizon: forecasts scored, and the sum of their errors, km/h.
fn live(page: &str, horizon: u32) -> Option<(f64, f64)> {
    let value = |name: &str| {
        let line =
            page.lines().find(|line| line.starts_with(name) && line.contains(&format!("horizon=\"{horizon}\"")))?;
        line.rsplit(' ').next()?.parse().ok()
    };
    Some((value("traffic_forecasts_scored{")?, value("traffic_absolute_error_kmh_sum{of=\"forecast\"")?))
}

fn page(address: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: predictor\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// Takes the replayed readings through aggregator and predictor: every forecast that is published, and the errors that
/// metrics and database count, are those of an evaluation with the model that the registry holds. Returns how many were
/// scored.
fn forecasts_are_those_of_an_evaluation(at: &Path, series: &Series) -> u64 {
    run(at, "aggregator", &["--exit-at-end"]);
    let address = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").to_string();
    let mut predictor = Worker::start_in(at, "predictor", &[], &[("TRAFFIC_HTTP_LISTEN", &address)]);
    let (forecasts, errors) = evaluate(at, series);
    for (horizon, (sum, n)) in &errors {
        let (live_n, live_sum) = wait_until(DEADLINE, "as many forecasts are scored", || {
            live(&page(&address)?, *horizon).filter(|(live_n, _)| *live_n >= *n as f64)
        });
        assert_eq!(live_n, *n as f64, "{horizon} min");
        assert!(
            (live_sum - sum).abs() < 1e-3 * *n as f64,
            "{horizon} min: metrics {live_sum}, evaluation {sum} of {n}"
        );
    }
    predictor.terminate();
    assert!(predictor.wait(DEADLINE).success(), "{}", predictor.log());
    run(at, "predictor", &["--exit-at-end"]);
    let published = run(at, "traffic", &["inspect", "topic", "traffic-predictions"]);
    let mut by_id: HashMap<String, Said> = HashMap::new();
    for line in published.lines() {
        let record: Value = serde_json::from_str(line).expect("JSON");
        let text = record["value"].to_string();
        let prediction: Prediction<'_> = serde_json::from_str(&text).expect("a prediction");
        assert_eq!(prediction.model_version, "v1.0.0");
        let narrow = |speed: &f64| *speed as f32;
        let forecast = (narrow(&prediction.predicted_speed), prediction.speed_quantiles.iter().map(narrow).collect());
        assert!(by_id.insert(prediction.prediction_id.to_string(), forecast).is_none(), "{text} is doubled");
    }
    for (id, forecast) in &forecasts {
        assert_eq!(by_id.get(id), Some(forecast), "{id}");
    }
    rows_count(at, &errors);
    forecasts.len() as u64
}

/// Of a forecast: median and quantiles.
type Said = (f32, Vec<f32>);

/// By horizon: the sum of the errors, km/h, and their number.
type Errors = HashMap<u32, (f64, u64)>;

/// What an evaluation says: each forecast by its id, and the errors.
fn evaluate(at: &Path, series: &Series) -> (Vec<(String, Said)>, Errors) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let url = format!("file://{}", at.join("traffic-store").display());
    let store = open(&url, &StoreOptions::default()).expect("a store");
    let registry = Registry::new(store, "/models/speed");
    let current = runtime.block_on(registry.current()).expect("readable").expect("promoted");
    let (_, bytes) = runtime.block_on(registry.load(current.version)).expect("sound");
    let slot = Slot::default();
    slot.put(Some(Live {
        version: "v1.0.0".into(),
        model: artifact::decode(&bytes).expect("a model"),
        ..Live::default()
    }));
    let task = Task {
        series,
        fitted: 0..DAY / 2,
        fed: 0..series.windows(),
        scored: 0..series.windows(),
        partitions: PARTITIONS,
        averaged: false,
    };
    let (mut forecasts, mut errors) = (Vec::new(), Errors::new());
    let reports = task.run(&Settings::default(), &slot, &|| (), &mut |forecast| {
        let made_ms = series.step(forecast.window as usize) * 300_000;
        let id = format!("PRED_{}_{made_ms}_{}", series.segments[forecast.segment as usize], forecast.horizon);
        let sum = errors.entry(forecast.horizon).or_default();
        sum.0 += f64::from((forecast.forecast - forecast.truth).abs());
        sum.1 += 1;
        forecasts.push((id, (forecast.forecast, forecast.quantiles.to_vec())));
    });
    let reports = reports.expect("predictions");
    for report in &reports {
        assert!(report.model.mae < report.last_value.mae, "{report:?}");
    }
    (forecasts, errors)
}

/// The rows that the projection keeps count the same errors.
fn rows_count(at: &Path, errors: &Errors) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let rows = runtime.block_on(async {
        let database = format!("sqlite:{}", at.join("traffic-database.db").display());
        let mut connection = sqlx::SqliteConnection::connect(&database).await.expect("a database");
        let query = "select horizon_minutes, sum(sum_absolute_error_m_per_h), sum(n) from model_metrics group by 1";
        sqlx::query(query).fetch_all(&mut connection).await.expect("rows")
    });
    assert_eq!(rows.len(), 3);
    for row in rows {
        let (horizon, sum, n): (i64, i64, i64) = (row.get(0), row.get(1), row.get(2));
        let (expected, expected_n) = errors[&u32::try_from(horizon).expect("minutes")];
        let (mae, expected_mae) = (sum as f64 / 1_000.0 / n as f64, expected / expected_n as f64);
        assert_eq!(u64::try_from(n).expect("a number"), expected_n, "{horizon} min");
        assert!((mae - expected_mae).abs() < 0.002, "{horizon} min: rows {mae}, evaluation {expected_mae}");
    }
}

#[test]
fn a_training_that_is_killed_leaves_the_registry_sound() {
    let directory = tempfile::tempdir().expect("a directory");
    let at = directory.path();
    write_csv(&at.join("train.csv"), 0..TRAINED);
    let start = start_of(0);
    let versions = || -> Vec<Value> {
        let listed: Value = serde_json::from_str(&run(at, "traffic", &["model", "list", "--json"])).expect("JSON");
        listed["versions"].as_array().cloned().unwrap_or_default()
    };
    let trained: Value = serde_json::from_str(&run(at, "traffic", &train(&start, &[]))).expect("JSON");
    assert_eq!(trained["promoted"], true);
    let took = Duration::from_secs_f64(trained["fit_seconds"].as_f64().expect("seconds"));
    // Early, in the middle, and around the moment when it publishes and promotes.
    for part in [0.1, 0.6, 0.9, 1.0, 1.02, 1.05, 1.1] {
        let arguments = train(&start, &["--margin", "-0.5"]);
        let mut training = Worker::start_in(at, "traffic", &arguments, &[]);
        std::thread::sleep(took.mul_f64(part));
        training.kill();
        let known = versions();
        assert!(!known.is_empty());
        // What is current can be read, whoever died.
        let current: Value = serde_json::from_str(&run(at, "traffic", &["model", "list", "--json"])).expect("JSON");
        let version = current["current"]["version"].as_str().expect("a current version").to_owned();
        run(at, "traffic", &["model", "show", &version]);
    }
    let before = versions().len();
    let trained: Value =
        serde_json::from_str(&run(at, "traffic", &train(&start, &["--margin", "-0.5"]))).expect("JSON");
    assert_eq!(trained["promoted"], true, "{trained}");
    assert!(versions().len() > before);
    run(at, "traffic", &["model", "rollback"]);
    let pinned: Value = serde_json::from_str(&run(at, "traffic", &train(&start, &["--margin", "-0.5"]))).expect("JSON");
    assert_eq!(pinned["promoted"], false, "a rollback pins: {pinned}");
    assert!(pinned["refused"].as_str().is_some_and(|why| why.contains("pinned")), "{pinned}");
}

/// Whether a text is XML as far as it goes: every element that is opened is closed in its turn, and all numbers are finite.
fn is_well_formed(text: &str) -> bool {
    let mut open = Vec::new();
    let mut rest = text;
    while let Some((_, tag)) = rest.split_once('<') {
        let Some((tag, after)) = tag.split_once('>') else { return false };
        rest = after;
        let name = |tag: &str| tag.split(' ').next().unwrap_or_default().to_owned();
        let is_as_expected = match tag.strip_prefix('/') {
            Some(closed) => open.pop().as_deref() == Some(closed),
            None if tag.ends_with('/') => true,
            None => {
                open.push(name(tag));
                true
            }
        };
        if !is_as_expected || tag.matches('"').count() % 2 == 1 || tag.contains("NaN") || tag.contains("inf") {
            return false;
        }
    }
    open.is_empty() && !rest.contains('>') && text.starts_with("<svg ") && text.ends_with("</svg>\n")
}

#[test]
fn an_evaluation_is_drawn() {
    let directory = tempfile::tempdir().expect("a directory");
    let at = directory.path();
    write_csv(&at.join("train.csv"), 0..TRAINED);
    let start = start_of(0);
    let evaluate = ["evaluate", "--train", "train.csv", "--train-start", &*start, "--segment-prefix", "A&B<", "--plot"];
    let table = run(at, "traffic", &[&evaluate[..], &["new/pictures"]].concat());
    assert!(table.contains("CONFIDENCE") && table.contains("90 to 100 %"), "{table}");
    for (name, parts) in [
        ("error-by-hour.svg", &["60 min, model", "15 min, last value", "local time", "mean absolute error (km/h)"][..]),
        ("error-by-horizon.svg", &["historical average", "linear regression", "minutes ahead"]),
        ("calibration.svg", &["quantile said", "confidence said", "ideal"]),
        ("segments.svg", &["A&amp;B&lt;11", "last value"]),
        ("day.svg", &["as it was forecast 30 minutes before", "90 % interval", "2026-01-0"]),
    ] {
        let svg = std::fs::read_to_string(at.join("new/pictures").join(name)).expect(name);
        assert!(is_well_formed(&svg), "{name}: {svg}");
        parts.iter().for_each(|part| assert!(svg.contains(part), "{name} has no {part}"));
    }
    assert_eq!(std::fs::read_dir(at.join("new/pictures")).expect("readable").count(), 5);
    // Before a fit, not after it.
    let mut worker = Worker::start_in(at, "traffic", &[&evaluate[..], &["train.csv/pictures"]].concat(), &[]);
    assert!(!worker.wait(DEADLINE).success());
    assert!(
        worker.log().contains("--plot: train.csv/pictures is no folder that can be written to"),
        "{}",
        worker.log()
    );
    let broken = ["<svg ><b></svg>\n", "<svg x=\"></svg>\n", "<svg ><b x=\"NaN\"/></svg>\n", "<svg >a>b</svg>\n<svg >"];
    assert!(broken.iter().all(|text| !is_well_formed(text)));
}

/// What is given wrong is named, with what would be right.
#[test]
fn what_cannot_be_evaluated_is_said() {
    let directory = tempfile::tempdir().expect("a directory");
    let at = directory.path();
    write_csv(&at.join("train.csv"), 0..200);
    std::fs::write(at.join("broken.csv"), "a,b\n50,60\n50,fast\n").expect("written");
    std::fs::write(at.join("short.csv"), "a,b\n50,60\n51,61\n").expect("written");
    std::fs::write(at.join("twice.csv"), "a,a\n50,60\n51,61\n").expect("written");
    let start = start_of(0);
    let refused = |arguments: &[&str], why: &str| {
        let mut worker = Worker::start_in(at, "traffic", arguments, &[]);
        assert!(!worker.wait(DEADLINE).success(), "{arguments:?}");
        assert!(worker.log().contains(why), "{arguments:?}: {}", worker.log());
    };
    let evaluate = |file| ["evaluate", "--train", file, "--train-start", &*start];
    refused(&evaluate("broken.csv"), "broken.csv, line 3, sensor b: \"fast\" is no number");
    refused(&evaluate("short.csv"), "2 windows are too few");
    refused(&evaluate("nowhere.csv"), "nowhere.csv");
    refused(&evaluate("twice.csv"), "sensor a has two columns");
    refused(&[&evaluate("train.csv")[..], &["--shares", "4294967295,100,1"]].concat(), "--shares");
    refused(&[&evaluate("train.csv")[..], &["--step", "3650d"]].concat(), "--step: 1s to 1h");
    refused(&[&evaluate("train.csv")[..], &["--horizons", "15,17"]].concat(), "--horizons: multiples of 5");
    refused(&[&evaluate("train.csv")[..], &["--shares", "70,10,10"]].concat(), "--shares");
    refused(&train(&start, &[]), "are too few: a model takes 576");
    refused(&["train"], "the archive has no aggregate");
}
