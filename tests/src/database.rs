//! A projection under test: a log in memory, a database of its own, and what its rows must be.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use common::clock::{Clock as _, SystemClock};
use common::config::{DatabaseLocation, ProjectionSettings};
use common::db::{Control, Database, Direction, Projection, ProjectionSink, Summary, migrate};
use common::stream::memory::MemoryLog;
use common::stream::{Cleanup, Log as _, Outgoing, TopicSpec, WATERMARK_HEADER, partitioner};
use sqlx::{AssertSqlSafe, Column as _, Connection as _, Executor as _, Row, Type, TypeInfo as _};
use tokio::runtime::Runtime;

/// Of which kind the database is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Postgres,
    Sqlite,
}

/// A database of one test, gone with it.
#[derive(Debug)]
pub struct TestDatabase {
    pub kind: Kind,
    pub location: String,
    pub runtime: Runtime,
    /// The server's own database, and ours; of PostgreSQL.
    server: Option<(String, String)>,
    _directory: tempfile::TempDir,
}

fn runtime() -> Runtime {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime")
}

impl TestDatabase {
    /// An empty one; `None` where tests that need services are left out.
    ///
    /// # Panics
    /// If it cannot be made.
    #[must_use]
    pub fn new(kind: Kind) -> Option<Self> {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let runtime = runtime();
        let (location, server) = match kind {
            Kind::Sqlite => (format!("sqlite:{}", directory.path().join("rows.db").display()), None),
            Kind::Postgres => {
                let server = crate::services::postgres()?;
                let name = crate::unique("rows");
                let location = format!("{}/{name}", server.rsplit_once('/').expect("a database is named").0);
                let create = format!("create database \"{name}\"");
                runtime.block_on(on_server(&server, create)).expect("a database is made");
                (location, Some((server, name)))
            }
        };
        Some(Self { kind, location, runtime, server, _directory: directory })
    }

    /// # Panics
    /// If the location is none, which [`TestDatabase::new`] does not make.
    #[must_use]
    pub fn database(&self) -> Database {
        database(&self.location)
    }

    /// Makes the tables.
    ///
    /// # Panics
    /// If that fails.
    pub fn migrate_up(&self) {
        let database = self.database();
        self.runtime.block_on(migrate(&database, Direction::Up { to: None })).expect("the tables are made");
    }

    /// The rows of a query as text: `T.x` is the table x, `MS(x)` a time as epoch ms.
    ///
    /// # Panics
    /// If the query fails.
    #[must_use]
    pub fn rows(&self, query: &str) -> Vec<String> {
        self.try_rows(query).unwrap_or_else(|error| panic!("{query}: {error}"))
    }

    /// See [`TestDatabase::rows`].
    ///
    /// # Errors
    /// The database's.
    pub fn try_rows(&self, query: &str) -> Result<Vec<String>, sqlx::Error> {
        self.runtime.block_on(async {
            match self.kind {
                Kind::Postgres => {
                    let query = query.replace("T.", "traffic.").replace("MS(", "traffic.to_ms(");
                    let mut connection = connect(&self.location).await?;
                    let rows = sqlx::query(AssertSqlSafe(query)).fetch_all(&mut connection).await?;
                    Ok(rows.iter().map(shown).collect())
                }
                Kind::Sqlite => {
                    let query = query.replace("T.", "").replace("MS(", "(");
                    let mut connection = connect_sqlite(&self.location).await?;
                    let rows = sqlx::query(AssertSqlSafe(query)).fetch_all(&mut connection).await?;
                    Ok(rows.iter().map(shown).collect())
                }
            }
        })
    }

    /// Runs statements, as one transaction.
    ///
    /// # Panics
    /// If one fails.
    pub fn execute(&self, statements: &str) {
        let done = self.runtime.block_on(async {
            match self.kind {
                Kind::Postgres => {
                    let statements = statements.replace("T.", "traffic.");
                    let mut connection = connect(&self.location).await?;
                    connection.execute(AssertSqlSafe(statements)).await.map(|_| ())
                }
                Kind::Sqlite => {
                    let statements = format!("begin immediate; {}; commit", statements.replace("T.", ""));
                    let mut connection = connect_sqlite(&self.location).await?;
                    connection.execute(AssertSqlSafe(statements)).await.map(|_| ())
                }
            }
        });
        done.unwrap_or_else(|error| panic!("{statements}: {error}"));
    }

    /// Holds the write lock of a SQLite file until it is dropped.
    ///
    /// # Panics
    /// If it cannot be had.
    #[must_use]
    pub fn lock_file(&self) -> sqlx::SqliteConnection {
        let locked = self.runtime.block_on(async {
            let mut connection = connect_sqlite(&self.location).await?;
            connection.execute("begin immediate").await?;
            Ok::<_, sqlx::Error>(connection)
        });
        locked.expect("the file is locked")
    }

    /// All rows of all tables but the offsets.
    #[must_use]
    pub fn dump(&self) -> Vec<String> {
        [
            "select segment_id, latitude, longitude, MS(first_seen), MS(last_seen) from T.segments order by 1",
            "select segment_id, MS(window_start), MS(window_end), avg_speed, speed_stddev, speed_min, speed_max,
                 vehicle_count, occupancy_avg, occupancy_max, congestion_level, latitude, longitude, event_count,
                 quality_score from T.aggregates order by 1, 2",
            "select segment_id, MS(prediction_timestamp), horizon_minutes, MS(target_timestamp), predicted_speed,
                 predicted_volume, current_speed, predicted_congestion_level, speed_lower, speed_upper, confidence_score,
                 model_type, model_version, latitude, longitude, avg_speed_1h, avg_speed_24h, avg_speed_7d, actual_speed,
                 prediction_error from T.predictions order by 1, 2, 3",
            "select cast(day as text), horizon_minutes, model_version, model_type, n, sum_absolute_error_m_per_h,
                 sum_squared_error_m2_per_h2, sum_absolute_persistence_error_m_per_h from T.model_metrics
                 order by 1, 2, 3, 4",
            "select alert_id, sequence, segment_id, rule, alert_type, severity, status, MS(changed_at), MS(opened_at),
                 MS(resolved_at), detection_source, description, value, threshold, confidence_score, latitude,
                 longitude, changed_by from T.alerts order by 1",
            "select alert_id, sequence, status, MS(changed_at) from T.alert_history order by 1, 2",
        ]
        .iter()
        .flat_map(|query| self.rows(query))
        .collect()
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        if let Some((server, name)) = &self.server {
            let gone = self.runtime.block_on(on_server(server, format!("drop database \"{name}\" with (force)")));
            if let Err(error) = gone {
                eprintln!("database {name} is left behind: {error}");
            }
        }
    }
}

/// # Panics
/// If the location is none.
#[must_use]
pub fn database(location: &str) -> Database {
    let location = DatabaseLocation::try_from(location.to_owned()).expect("a location");
    Database::at(&location).expect("a database")
}

async fn on_server(server: &str, statement: String) -> Result<(), sqlx::Error> {
    let mut connection = connect(server).await?;
    sqlx::query(AssertSqlSafe(statement)).execute(&mut connection).await?;
    Ok(())
}

async fn connect(location: &str) -> Result<sqlx::PgConnection, sqlx::Error> {
    sqlx::PgConnection::connect(location).await
}

async fn connect_sqlite(location: &str) -> Result<sqlx::SqliteConnection, sqlx::Error> {
    sqlx::SqliteConnection::connect(location).await
}

/// The values of a row, separated by bars.
fn shown<R: Row>(row: &R) -> String
where
    usize: sqlx::ColumnIndex<R>,
    for<'r> Option<i64>: sqlx::Decode<'r, R::Database>,
    for<'r> Option<i32>: sqlx::Decode<'r, R::Database>,
    for<'r> Option<f64>: sqlx::Decode<'r, R::Database>,
    for<'r> Option<String>: sqlx::Decode<'r, R::Database>,
    Option<i64>: Type<R::Database>,
    Option<i32>: Type<R::Database>,
    Option<f64>: Type<R::Database>,
    Option<String>: Type<R::Database>,
{
    let value = |i: usize| {
        let long = || row.try_get::<Option<i64>, _>(i).map(|v| v.map(|v| v.to_string()));
        let int = || row.try_get::<Option<i32>, _>(i).map(|v| v.map(|v| v.to_string()));
        let float = || row.try_get::<Option<f64>, _>(i).map(|v| v.map(|v| format!("{v:?}")));
        let text = || row.try_get::<Option<String>, _>(i);
        let read = long().or_else(|_| int()).or_else(|_| float()).or_else(|_| text());
        let kind = row.columns()[i].type_info().name().to_owned();
        read.unwrap_or_else(|error| panic!("column {i} ({kind}): {error}")).unwrap_or_else(|| "-".to_owned())
    };
    (0..row.len()).map(value).collect::<Vec<_>>().join("|")
}

pub const AGGREGATES: &str = "processed-traffic-aggregates";
pub const PREDICTIONS: &str = "traffic-predictions";
pub const ALERTS: &str = "traffic-alerts";
const WINDOW_MS: i64 = 300_000;

/// Topics in memory, and sinks over them.
pub struct Bed {
    pub log: MemoryLog,
    pub rows: TestDatabase,
    pub settings: ProjectionSettings,
    partitions: u32,
}

impl Bed {
    /// Empty topics and a database with its tables; `None` where tests that need services are left out.
    #[must_use]
    pub fn new(kind: Kind, partitions: u32) -> Option<Self> {
        let rows = TestDatabase::new(kind)?;
        rows.migrate_up();
        Some(Self::on(rows, partitions))
    }

    /// Empty topics beside this database.
    ///
    /// # Panics
    /// If they cannot be made.
    #[must_use]
    pub fn on(rows: TestDatabase, partitions: u32) -> Self {
        let log = MemoryLog::new(Arc::new(SystemClock));
        let cleanup = Cleanup::Delete { retention_ms: None };
        let topic = |name: &str| TopicSpec { name: name.to_owned(), partitions, replication: 1, cleanup };
        log.ensure_topics(&[topic(AGGREGATES), topic(PREDICTIONS), topic(ALERTS)]).expect("the topics are made");
        let settings = ProjectionSettings { commit_interval: Duration::from_millis(20), ..Default::default() };
        Self { log, rows, settings, partitions }
    }

    /// Whether all rows of the traffic are there.
    #[must_use]
    pub fn is_complete(&self, traffic: &Traffic) -> Option<()> {
        let count = "select (select count(*) from T.aggregates) + (select count(*) from T.predictions)";
        (self.rows.try_rows(count).ok()?[0] == traffic.count().to_string()).then_some(())
    }

    /// Writes a message, keyed by its segment.
    ///
    /// # Panics
    /// If the log refuses it.
    pub fn send(&self, topic: &str, segment: &str, value: &[u8]) {
        let partition = partitioner::partition_of(segment.as_bytes(), self.partitions);
        let record = Outgoing {
            topic,
            partition: Some(partition),
            key: Some(segment.as_bytes()),
            value: Some(value),
            headers: &[],
        };
        let mut producer = self.log.producer().expect("a producer");
        producer.send(&record).expect("the log takes it");
    }

    /// Writes a watermark marker and a tombstone to every partition.
    ///
    /// # Panics
    /// If the log refuses them.
    pub fn send_markers(&self, topic: &str) {
        let mut producer = self.log.producer().expect("a producer");
        for partition in 0..self.partitions {
            let marker = Outgoing {
                topic,
                partition: Some(partition),
                key: None,
                value: None,
                headers: &[(WATERMARK_HEADER, b"1760000000000")],
            };
            producer.send(&marker).expect("the log takes it");
            producer.send(&Outgoing { key: Some(b"S1"), headers: &[], ..marker }).expect("the log takes it");
        }
    }

    #[must_use]
    pub fn traffic(&self) -> Projection {
        Projection::Traffic { aggregates: AGGREGATES.to_owned(), predictions: PREDICTIONS.to_owned() }
    }

    /// Runs a sink of its own consumer group on this thread.
    ///
    /// # Panics
    /// If it fails for good.
    pub fn run(&self, projection: Projection, group: &str, control: &Control<'_>) -> Summary {
        let sink = ProjectionSink {
            log: Arc::new(self.log.clone()),
            database: self.rows.database(),
            projection,
            settings: self.settings.clone(),
            clock: Arc::new(SystemClock),
            runtime: self.rows.runtime.handle().clone(),
            application_id: group.to_owned(),
            instance: "0".to_owned(),
        };
        sink.run(control).expect("the sink projects")
    }

    /// Runs a sink beside `test`, and stops it when that is done.
    ///
    /// # Panics
    /// If the sink or the test does.
    pub fn while_running<T>(&self, projection: Projection, test: impl FnOnce(&Reports) -> T) -> (T, Summary) {
        let (stop, reports) = (AtomicBool::new(false), Reports::default());
        std::thread::scope(|scope| {
            // A panic of the test must end the sink too, or the scope waits for it for ever.
            let stopping = StopOnDrop(&stop);
            let sink = scope.spawn(|| {
                let control = Control {
                    shutdown: &|| stop.load(Ordering::SeqCst),
                    report: &|state| reports.note(state),
                    exit_at_end: false,
                };
                self.run(projection, "database", &control)
            });
            let done = test(&reports);
            drop(stopping);
            (done, sink.join().expect("the sink does not panic"))
        })
    }

    /// Runs a sink to the end.
    pub fn run_to_end(&self, projection: Projection) -> Summary {
        // Shown if the test fails.
        let report = |state: Result<(), &str>| state.err().into_iter().for_each(|why| println!("not ready: {why}"));
        self.run(projection, "database", &Control { shutdown: &|| false, report: &report, exit_at_end: true })
    }
}

struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Writes traffic, and knows what its rows must be.
#[derive(Debug, Default)]
pub struct Traffic {
    aggregates: BTreeMap<(String, i64), (i64, Option<f64>)>,
    predictions: BTreeMap<(String, i64, i32), Forecast>,
}

#[derive(Debug, Clone)]
struct Forecast {
    predicted: f64,
    current: f64,
    version: String,
}

impl Traffic {
    /// An aggregate of `events` events, as the aggregator writes it.
    pub fn aggregate(&mut self, bed: &Bed, segment: &str, window_start: i64, events: i64, speed: Option<f64>) {
        let message = aggregate_json(segment, window_start, events, speed);
        bed.send(AGGREGATES, segment, message.as_bytes());
        let known = self.aggregates.entry((segment.to_owned(), window_start)).or_insert((events, speed));
        if events > known.0 {
            *known = (events, speed);
        }
    }

    /// A forecast as the predictor writes it.
    pub fn prediction(&mut self, bed: &Bed, segment: &str, at: i64, horizon: i32, predicted: f64, version: &str) {
        let current = 50.25;
        bed.send(PREDICTIONS, segment, prediction_json(segment, at, horizon, predicted, current, version).as_bytes());
        let forecast = Forecast { predicted, current, version: version.to_owned() };
        self.predictions.insert((segment.to_owned(), at, horizon), forecast);
    }

    /// `windows` windows of `segments` segments with three forecasts each, some corrected, some without a speed.
    pub fn windows(&mut self, bed: &Bed, from_ms: i64, segments: i64, windows: std::ops::Range<i64>) {
        for window in windows {
            let start = from_ms + window * WINDOW_MS;
            for number in 0..segments {
                let segment = format!("S{number}");
                let speed = ((window + number) % 11 != 0).then(|| 20.0 + ((window * 7 + number) % 80) as f64 / 3.0);
                self.aggregate(bed, &segment, start, 10 + number, speed);
                for (i, horizon) in [15, 30, 60].into_iter().enumerate() {
                    let predicted = 20.0 + ((window * 5 + number + i as i64) % 90) as f64 / 7.0;
                    self.prediction(bed, &segment, start + WINDOW_MS, horizon, predicted, "v0.1.0");
                }
                if (window + number) % 5 == 0 {
                    self.aggregate(bed, &segment, start, 11 + number, speed.map(|speed| speed + 1.125));
                }
            }
        }
    }

    /// What the rows must be, worked out from the messages alone: aggregates, forecasts, sums.
    #[must_use]
    pub fn expected(&self) -> [Vec<String>; 3] {
        let text = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:?}"));
        let aggregates = self.aggregates.iter().map(|((segment, start), (events, speed))| {
            format!("{segment}|{start}|{}|{}|{events}", start + WINDOW_MS, text(*speed))
        });
        let mut sums: BTreeMap<(String, i32, String), [i64; 4]> = BTreeMap::new();
        let mut predictions = Vec::new();
        for ((segment, at, horizon), forecast) in &self.predictions {
            let target = at + i64::from(*horizon) * 60_000;
            let actual = self.aggregates.get(&(segment.clone(), target - WINDOW_MS)).and_then(|(_, speed)| *speed);
            let error = actual.map(|actual| forecast.predicted - actual);
            predictions.push(format!(
                "{segment}|{at}|{horizon}|{:?}|{}|{}|{}",
                forecast.predicted,
                forecast.version,
                text(actual),
                text(error)
            ));
            if let (Some(actual), Some(error)) = (actual, error) {
                let day = jiff::Timestamp::from_millisecond(target).expect("a time").strftime("%Y-%m-%d").to_string();
                let thousandths = |value: f64| (value * 1000.0).round() as i64;
                let sums = sums.entry((day, *horizon, forecast.version.clone())).or_default();
                let error = thousandths(error);
                let persistence = thousandths(forecast.current - actual).abs();
                for (sum, more) in sums.iter_mut().zip([1, error.abs(), error * error, persistence]) {
                    *sum += more;
                }
            }
        }
        let sums = sums.into_iter().map(|((day, horizon, version), [n, absolute, squared, persistence])| {
            format!("{day}|{horizon}|{version}|LINEAR_REGRESSION|{n}|{absolute}|{squared}|{persistence}")
        });
        [aggregates.collect(), predictions, sums.collect()]
    }

    /// # Panics
    /// If a row is missing, doubled or another.
    pub fn assert_rows(&self, rows: &TestDatabase) {
        let [aggregates, predictions, sums] = self.expected();
        assert_same(
            &rows.rows(
                "select segment_id, MS(window_start), MS(window_end), avg_speed, event_count from T.aggregates
                 order by segment_id, window_start",
            ),
            &aggregates,
        );
        assert_same(
            &rows.rows(
                "select segment_id, MS(prediction_timestamp), horizon_minutes, predicted_speed, model_version,
                     actual_speed, prediction_error
                 from T.predictions order by segment_id, prediction_timestamp, horizon_minutes",
            ),
            &predictions,
        );
        assert_same(
            &rows.rows(
                "select cast(day as text), horizon_minutes, model_version, model_type, n, sum_absolute_error_m_per_h,
                     sum_squared_error_m2_per_h2, sum_absolute_persistence_error_m_per_h
                 from T.model_metrics order by 1, 2, 3, 4",
            ),
            &sums,
        );
    }

    /// How many aggregates and forecasts there must be.
    #[must_use]
    pub fn count(&self) -> usize {
        self.aggregates.len() + self.predictions.len()
    }
}

/// Both in one order: C's and the server's collations differ.
fn assert_same(found: &[String], expected: &[String]) {
    let sorted = |rows: &[String]| {
        let mut rows = rows.to_vec();
        rows.sort();
        rows
    };
    let (found, expected) = (sorted(found), sorted(expected));
    let differs = found.iter().zip(&expected).position(|(found, expected)| found != expected);
    if let Some(at) = differs {
        panic!("row {at} is\n{}\nand should be\n{}", found[at], expected[at]);
    }
    assert_eq!(found.len(), expected.len());
}

/// A message of `processed-traffic-aggregates`.
#[must_use]
pub fn aggregate_json(segment: &str, window_start: i64, events: i64, speed: Option<f64>) -> String {
    let window_end = window_start + WINDOW_MS;
    let speed = speed.map_or("null".to_owned(), |speed| speed.to_string());
    format!(
        r#"{{"aggregate_id":"AGG_{segment}_{window_start}","segment_id":"{segment}","window_start":{window_start},"window_end":{window_end},"avg_speed":{speed},"speed_stddev":2.5,"vehicle_count":40,"occupancy_avg":12.5,"congestion_level":"LIGHT","coordinates":{{"latitude":34.1,"longitude":-118.25}},"event_count":{events},"quality_score":0.95}}"#
    )
}

/// A message of `traffic-predictions`.
#[must_use]
pub fn prediction_json(segment: &str, at: i64, horizon: i32, predicted: f64, current: f64, version: &str) -> String {
    let target = at + i64::from(horizon) * 60_000;
    let quantiles: Vec<f64> = (0..19).map(|i| predicted + f64::from(i - 9) / 2.0).collect();
    format!(
        r#"{{"prediction_id":"PRED_{segment}_{at}_{horizon}","segment_id":"{segment}","prediction_timestamp":{at},"prediction_horizon":{horizon},"target_timestamp":{target},"predicted_speed":{predicted},"predicted_volume":45,"current_speed":{current},"predicted_congestion_level":"MODERATE","uncertainty_bounds":{{"speed_lower":{},"speed_upper":{}}},"speed_quantiles":{quantiles:?},"confidence_score":0.75,"model_version":"{version}","model_type":"LINEAR_REGRESSION","features_used":["HISTORICAL_SPEED"],"historical_context":{{"avg_speed_1h":51.5}}}}"#,
        quantiles[0], quantiles[18]
    )
}

/// A message of `traffic-alerts`.
#[must_use]
pub fn alert_json(alert: &str, sequence: u32, status: &str, at: i64, opened_at: i64) -> String {
    let resolved = if status == "RESOLVED" { format!(r#","resolved_at":{at}"#) } else { String::new() };
    format!(
        r#"{{"alert_id":"{alert}","sequence":{sequence},"segment_id":"S1","rule":"congestion","alert_type":"CONGESTION","severity":"HIGH","status":"{status}","timestamp":{at},"opened_at":{opened_at}{resolved},"detection_source":"PREDICTION_MODEL","description":"slow","value":12.5,"threshold":20.0}}"#
    )
}

/// Today's first window, some days ago, epoch ms.
#[must_use]
pub fn days_ago(days: i64) -> i64 {
    let now = SystemClock.now_ms();
    now - now % 86_400_000 - days * 86_400_000
}

/// Counts how often a sink was able to write, and was not.
#[derive(Debug, Default)]
pub struct Reports {
    able: AtomicI64,
    unable: AtomicI64,
    last: std::sync::Mutex<Option<String>>,
}

impl Reports {
    /// What a sink's control takes.
    pub fn note(&self, state: Result<(), &str>) {
        // Shown if the test fails.
        state.err().into_iter().for_each(|why| println!("not ready: {why}"));
        let count = if state.is_ok() { &self.able } else { &self.unable };
        count.fetch_add(1, Ordering::SeqCst);
        *self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = state.err().map(str::to_owned);
    }

    #[must_use]
    pub fn unable(&self) -> i64 {
        self.unable.load(Ordering::SeqCst)
    }

    #[must_use]
    pub fn able(&self) -> i64 {
        self.able.load(Ordering::SeqCst)
    }

    /// Why the sink is unable to write now.
    #[must_use]
    pub fn reason(&self) -> Option<String> {
        self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}
