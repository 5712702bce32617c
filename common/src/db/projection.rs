//! The projections there are, and their transactions on either database.

use std::collections::BTreeSet;

use sqlx::Connection as _;

use super::batch::{AlertBatch, TrafficBatch};
use super::postgres::days::Table;
use super::retention::{DAY_MS, Day, day_of, first_kept};
use super::rows::Refused;
use super::{Connection, Database, DbError, postgres, sqlite};
use crate::config::ProjectionRetention;
use crate::stream::Record;

/// A set of topics that become rows together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Projection {
    /// Aggregates and forecasts, scored where they meet; their topics have equal numbers of partitions.
    Traffic { aggregates: String, predictions: String },
    /// Alerts and every transition of them.
    Alerts { alerts: String },
}

impl Projection {
    /// Its name in `projection_offsets`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Traffic { .. } => "traffic",
            Self::Alerts { .. } => "alerts",
        }
    }

    /// What it reads.
    #[must_use]
    pub fn topics(&self) -> Vec<String> {
        match self {
            Self::Traffic { aggregates, predictions } => vec![aggregates.clone(), predictions.clone()],
            Self::Alerts { alerts } => vec![alerts.clone()],
        }
    }

    pub(super) fn batch(&self) -> Batch {
        match self {
            Self::Traffic { .. } => Batch::Traffic(TrafficBatch::default()),
            Self::Alerts { .. } => Batch::Alerts(AlertBatch::default()),
        }
    }
}

/// Rows of a projection in memory.
#[derive(Debug)]
pub(super) enum Batch {
    Traffic(TrafficBatch),
    Alerts(AlertBatch),
}

impl Batch {
    /// Takes in a record of the projection's `input`-th topic.
    pub(super) fn add(&mut self, input: usize, record: &Record<'_>, value: &[u8]) -> Result<(), Refused> {
        match self {
            Self::Traffic(batch) if input == 0 => batch.add_aggregate(record, value),
            Self::Traffic(batch) => batch.add_prediction(record, value),
            Self::Alerts(batch) => batch.add(record, value),
        }
    }

    pub(super) fn rows(&self) -> usize {
        match self {
            Self::Traffic(batch) => batch.rows(),
            Self::Alerts(batch) => batch.history.len(),
        }
    }
}

/// A partition to be taken over, and where to begin if nobody has yet.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub topic: String,
    pub partition: u32,
    pub first: i64,
}

/// A partition's offset, to be moved on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Move<'a> {
    pub topic: &'a str,
    pub partition: u32,
    pub expected: i64,
    pub next: i64,
}

/// Rows that one statement of SQLite's retention, or of alerts', deletes at most.
const DELETED_AT_ONCE: i64 = 2_000;
const HOUR_MS: i64 = 3_600_000;

/// What is known of the days in the tables: which there are, and which stay.
#[derive(Debug)]
pub(super) struct House {
    retention: ProjectionRetention,
    /// Partitions of PostgreSQL.
    aggregate_days: BTreeSet<Day>,
    prediction_days: BTreeSet<Day>,
    /// Newest rows, epoch ms: of aggregates (or alerts), of predictions.
    newest_ms: [Option<i64>; 2],
    /// First days that stayed when it was last looked.
    kept_from: [Option<Day>; 2],
    look_again_ms: i64,
}

impl House {
    pub(super) fn new(retention: ProjectionRetention) -> Self {
        Self {
            retention,
            aggregate_days: BTreeSet::new(),
            prediction_days: BTreeSet::new(),
            newest_ms: [None; 2],
            kept_from: [None; 2],
            look_again_ms: i64::MIN,
        }
    }

    fn traffic_from(&self, now_ms: i64) -> [Option<Day>; 2] {
        let [aggregates, predictions] = self.newest_ms;
        [
            first_kept(aggregates, now_ms, self.retention.aggregates),
            first_kept(predictions, now_ms, self.retention.predictions),
        ]
    }

    /// Drops rows that would not stay; returns how many.
    pub(super) fn expire(&mut self, batch: &mut Batch, now_ms: i64) -> usize {
        let Batch::Traffic(batch) = batch else { return 0 };
        let (aggregates, predictions) = batch.newest_ms();
        self.newest_ms = [self.newest_ms[0].max(aggregates), self.newest_ms[1].max(predictions)];
        let [aggregates, predictions] = self.traffic_from(now_ms);
        batch.expire(aggregates, predictions)
    }

    /// Whether rows may have to go: once an hour, and when a new day begins.
    pub(super) fn is_due(&self, now_ms: i64) -> bool {
        now_ms >= self.look_again_ms || self.traffic_from(now_ms) != self.kept_from
    }

    fn done(&mut self, now_ms: i64, all: bool) {
        if all {
            self.look_again_ms = now_ms + HOUR_MS;
            self.kept_from = self.traffic_from(now_ms);
        }
    }
}

/// A database and a connection to it.
#[derive(Debug)]
pub(super) struct Open<'d> {
    pub database: &'d Database,
    pub connection: Connection,
}

impl Open<'_> {
    fn explain(&self, doing: &str, error: &sqlx::Error) -> DbError {
        self.database.explain(doing, error)
    }

    /// Where the projection stands in each place.
    pub(super) async fn take_over(&mut self, projection: &str, places: &[Place]) -> Result<Vec<i64>, DbError> {
        let found = match &mut self.connection {
            Connection::Postgres(connection) => postgres::take_over(connection, projection, places).await,
            Connection::Sqlite(connection) => sqlite::take_over(connection, projection, places).await,
        };
        let found = found.map_err(|error| self.explain("read the offsets in", &error))?;
        let found: Option<Vec<i64>> = found.into_iter().collect();
        found.ok_or_else(|| DbError::Fenced("the projection is being made anew by somebody".to_owned()))
    }

    /// Learns which rows there are.
    pub(super) async fn look_around(&mut self, house: &mut House, projection: &Projection) -> Result<(), DbError> {
        self.look(house, projection).await.map_err(|error| self.explain("look into", &error))
    }

    async fn look(&mut self, house: &mut House, projection: &Projection) -> sqlx::Result<()> {
        match (&mut self.connection, projection) {
            (Connection::Postgres(connection), Projection::Traffic { .. }) => {
                house.aggregate_days = postgres::days::days(connection, Table::Aggregates).await?;
                house.prediction_days = postgres::days::days(connection, Table::Predictions).await?;
                let newest = [&house.aggregate_days, &house.prediction_days].map(postgres::days::newest_ms);
                house.newest_ms = [house.newest_ms[0].max(newest[0]), house.newest_ms[1].max(newest[1])];
            }
            (Connection::Sqlite(connection), Projection::Traffic { .. }) => {
                let (aggregates, predictions) = sqlite::traffic::newest_ms(connection).await?;
                house.newest_ms = [house.newest_ms[0].max(aggregates), house.newest_ms[1].max(predictions)];
            }
            (Connection::Postgres(connection), Projection::Alerts { .. }) => {
                house.newest_ms[0] = postgres::alerts::newest_ms(connection).await?;
            }
            (Connection::Sqlite(connection), Projection::Alerts { .. }) => {
                house.newest_ms[0] = sqlite::alerts::newest_ms(connection).await?;
            }
        }
        Ok(())
    }

    /// Rows and offsets, in one transaction.
    pub(super) async fn commit(
        &mut self,
        house: &mut House,
        projection: &str,
        batch: &Batch,
        moves: &[Move<'_>],
    ) -> Result<(), DbError> {
        let committed = match &mut self.connection {
            Connection::Postgres(connection) => commit_to_postgres(connection, house, projection, batch, moves).await,
            Connection::Sqlite(connection) => commit_to_sqlite(connection, projection, batch, moves).await,
        };
        match committed {
            Ok(true) => Ok(()),
            Ok(false) => Err(DbError::Fenced(format!(
                "another owner of the projection {projection} wrote to the database {} meanwhile",
                self.database
            ))),
            Err(error) => Err(self.explain("write to", &error)),
        }
    }

    /// Lets rows go that are too old, some at a time.
    pub(super) async fn keep_house(
        &mut self,
        house: &mut House,
        projection: &Projection,
        now_ms: i64,
    ) -> Result<(), DbError> {
        let cleaned = async {
            self.look(house, projection).await?;
            let [aggregates, predictions] = house.traffic_from(now_ms);
            let alerts = first_kept(house.newest_ms[0], now_ms, house.retention.alerts).map(|day| day * DAY_MS);
            match (&mut self.connection, projection) {
                (Connection::Postgres(connection), Projection::Traffic { .. }) => {
                    for (table, first) in [(Table::Aggregates, aggregates), (Table::Predictions, predictions)] {
                        if let Some(first) = first {
                            postgres::days::drop_before(connection, table, first).await?;
                        }
                    }
                    house.aggregate_days.retain(|day| aggregates.is_none_or(|first| *day >= first));
                    house.prediction_days.retain(|day| predictions.is_none_or(|first| *day >= first));
                    Ok(true)
                }
                (Connection::Sqlite(connection), Projection::Traffic { .. }) => {
                    let most = DELETED_AT_ONCE;
                    let deleted = sqlite::traffic::delete_before(connection, aggregates, predictions, most).await?;
                    Ok(deleted == 0)
                }
                (connection, Projection::Alerts { .. }) => {
                    let Some(alerts) = alerts else { return Ok(true) };
                    let deleted = match connection {
                        Connection::Postgres(connection) => {
                            postgres::alerts::delete_before(connection, alerts, DELETED_AT_ONCE).await?
                        }
                        Connection::Sqlite(connection) => {
                            sqlite::alerts::delete_before(connection, alerts, DELETED_AT_ONCE).await?
                        }
                    };
                    Ok(deleted == 0)
                }
            }
        };
        let cleaned: sqlx::Result<bool> = cleaned.await;
        match cleaned {
            Ok(all) => {
                house.done(now_ms, all);
                Ok(())
            }
            Err(error) => {
                house.done(now_ms, true);
                Err(self.explain("remove old rows from", &error))
            }
        }
    }
}

async fn commit_to_postgres(
    connection: &mut sqlx::PgConnection,
    house: &mut House,
    projection: &str,
    batch: &Batch,
    moves: &[Move<'_>],
) -> sqlx::Result<bool> {
    if let Batch::Traffic(batch) = batch {
        let aggregates = batch.aggregates.keys().map(|(_, start)| day_of(*start));
        make_days(connection, Table::Aggregates, &mut house.aggregate_days, aggregates).await?;
        let predictions = batch.predictions.keys().map(|(_, at, _)| day_of(*at));
        make_days(connection, Table::Predictions, &mut house.prediction_days, predictions).await?;
    }
    let mut transaction = connection.begin().await?;
    if !postgres::fence(&mut transaction, projection, moves).await? {
        transaction.rollback().await?;
        return Ok(false);
    }
    match batch {
        Batch::Traffic(batch) => postgres::traffic::write(&mut transaction, batch).await?,
        Batch::Alerts(batch) => postgres::alerts::write(&mut transaction, batch).await?,
    }
    transaction.commit().await?;
    Ok(true)
}

async fn make_days(
    connection: &mut sqlx::PgConnection,
    table: Table,
    known: &mut BTreeSet<Day>,
    needed: impl Iterator<Item = Day>,
) -> sqlx::Result<()> {
    let missing: BTreeSet<Day> = needed.filter(|day| !known.contains(day)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    postgres::days::make(connection, table, &missing.iter().copied().collect::<Vec<_>>()).await?;
    known.extend(missing);
    Ok(())
}

async fn commit_to_sqlite(
    connection: &mut sqlx::SqliteConnection,
    projection: &str,
    batch: &Batch,
    moves: &[Move<'_>],
) -> sqlx::Result<bool> {
    let mut transaction = connection.begin_with("begin immediate").await?;
    if !sqlite::fence(&mut transaction, projection, moves).await? {
        transaction.rollback().await?;
        return Ok(false);
    }
    match batch {
        Batch::Traffic(batch) => sqlite::traffic::write(&mut transaction, batch).await?,
        Batch::Alerts(batch) => sqlite::alerts::write(&mut transaction, batch).await?,
    }
    transaction.commit().await?;
    Ok(true)
}
