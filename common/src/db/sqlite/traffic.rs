//! Aggregates, forecasts and their scores.

use sqlx::Row as _;
use sqlx::sqlite::SqliteConnection;

use super::{groups, statement, write_all};
use crate::db::batch::{Seen, TrafficBatch};
use crate::db::retention::{DAY_MS, Day, iso};
use crate::db::rows::{AggregateRow, PredictionRow};
use crate::db::score::{
    Actual, Facts, KnownAggregate, KnownPrediction, MetricKey, Questions, Sums, changes, questions,
};

/// Writes the batch and what follows from it.
pub(in crate::db) async fn write(transaction: &mut SqliteConnection, batch: &TrafficBatch) -> sqlx::Result<()> {
    let facts = look_up(transaction, &questions(batch)).await?;
    let changes = changes(batch, &facts);
    write_aggregates(transaction, &changes.aggregates).await?;
    write_predictions(transaction, &changes.predictions).await?;
    write_actuals(transaction, &changes.actuals).await?;
    let segments: Vec<_> = batch.segments.iter().collect();
    write_segments(transaction, &segments).await?;
    let metrics: Vec<_> = changes.metrics.iter().collect();
    write_metrics(transaction, &metrics).await
}

async fn look_up(transaction: &mut SqliteConnection, questions: &Questions<'_>) -> sqlx::Result<Facts> {
    let mut facts = Facts::default();
    for group in groups(&questions.aggregates) {
        // `cross join` keeps the order: each question is one search in the primary key.
        let rows = statement(
            "with k (segment_id, window_start) as (values",
            2,
            ") select a.segment_id, a.window_start, a.event_count, a.avg_speed from k cross join aggregates a
                 on a.segment_id = k.segment_id and a.window_start = k.window_start",
            group,
            |query, (segment_id, window_start)| query.bind((*segment_id).to_owned()).bind(*window_start),
        );
        for row in &rows.fetch_all(&mut *transaction).await? {
            facts.aggregates.push(KnownAggregate {
                segment_id: row.try_get(0)?,
                window_start: row.try_get(1)?,
                event_count: row.try_get(2)?,
                avg_speed: row.try_get(3)?,
            });
        }
    }
    for group in groups(&questions.predictions) {
        let rows = statement(
            "with k (segment_id, target, horizon) as (values",
            3,
            ") select p.segment_id, p.prediction_timestamp, p.horizon_minutes, p.target_timestamp, p.predicted_speed,
                 p.current_speed, p.model_type, p.model_version, p.actual_speed
             from k cross join predictions p on p.segment_id = k.segment_id and p.target_timestamp = k.target
                 and (k.horizon is null or k.horizon = p.horizon_minutes)",
            group,
            |query, (segment_id, target, horizon)| query.bind((*segment_id).to_owned()).bind(*target).bind(*horizon),
        );
        for row in &rows.fetch_all(&mut *transaction).await? {
            facts.predictions.push(KnownPrediction {
                segment_id: row.try_get(0)?,
                prediction_timestamp: row.try_get(1)?,
                horizon_minutes: row.try_get(2)?,
                target_timestamp: row.try_get(3)?,
                predicted_speed: row.try_get(4)?,
                current_speed: row.try_get(5)?,
                model_type: row.try_get(6)?,
                model_version: row.try_get(7)?,
                actual_speed: row.try_get(8)?,
            });
        }
    }
    Ok(facts)
}

async fn write_aggregates(transaction: &mut SqliteConnection, rows: &[&AggregateRow]) -> sqlx::Result<()> {
    write_all(
        transaction,
        "insert or replace into aggregates (segment_id, window_start, window_end, avg_speed, speed_stddev, speed_min,
             speed_max, vehicle_count, occupancy_avg, occupancy_max, congestion_level, latitude, longitude, event_count,
             quality_score) values",
        15,
        "",
        rows,
        |query, row| {
            query
                .bind(row.segment_id.clone())
                .bind(row.window_start)
                .bind(row.window_end)
                .bind(row.avg_speed)
                .bind(row.speed_stddev)
                .bind(row.speed_min)
                .bind(row.speed_max)
                .bind(row.vehicle_count)
                .bind(row.occupancy_avg)
                .bind(row.occupancy_max)
                .bind(row.congestion_level.clone())
                .bind(row.position.map(|p| p.latitude))
                .bind(row.position.map(|p| p.longitude))
                .bind(row.event_count)
                .bind(row.quality_score)
        },
    )
    .await
}

async fn write_predictions(
    transaction: &mut SqliteConnection,
    rows: &[(&PredictionRow, Option<f64>)],
) -> sqlx::Result<()> {
    write_all(
        transaction,
        "insert or replace into predictions (segment_id, prediction_timestamp, horizon_minutes, target_timestamp,
             predicted_speed, current_speed, predicted_congestion_level, speed_lower, speed_upper, speed_quantiles,
             confidence_score, model_type, model_version, features_used, latitude, longitude, avg_speed_1h,
             avg_speed_24h, avg_speed_7d, actual_speed, prediction_error, predicted_volume) values",
        22,
        "",
        rows,
        |query, (row, actual)| {
            query
                .bind(row.segment_id.clone())
                .bind(row.prediction_timestamp)
                .bind(row.horizon_minutes)
                .bind(row.target_timestamp)
                .bind(row.predicted_speed)
                .bind(row.current_speed)
                .bind(row.predicted_congestion_level.clone())
                .bind(row.speed_lower)
                .bind(row.speed_upper)
                .bind(row.speed_quantiles.clone())
                .bind(row.confidence_score)
                .bind(row.model_type.clone())
                .bind(row.model_version.clone())
                .bind(row.features_used.clone())
                .bind(row.position.map(|p| p.latitude))
                .bind(row.position.map(|p| p.longitude))
                .bind(row.avg_speed_1h)
                .bind(row.avg_speed_24h)
                .bind(row.avg_speed_7d)
                .bind(*actual)
                .bind(actual.map(|actual| row.predicted_speed - actual))
                .bind(row.predicted_volume)
        },
    )
    .await
}

async fn write_actuals(transaction: &mut SqliteConnection, actuals: &[Actual]) -> sqlx::Result<()> {
    write_all(
        transaction,
        "with k (segment_id, at, horizon, actual) as (values",
        4,
        ") update predictions set actual_speed = k.actual, prediction_error = predicted_speed - k.actual from k
         where predictions.segment_id = k.segment_id and prediction_timestamp = k.at and horizon_minutes = k.horizon",
        actuals,
        |query, actual| {
            let query = query.bind(actual.segment_id.clone()).bind(actual.prediction_timestamp);
            query.bind(actual.horizon_minutes).bind(actual.actual_speed)
        },
    )
    .await
}

async fn write_segments(transaction: &mut SqliteConnection, segments: &[(&String, &Seen)]) -> sqlx::Result<()> {
    write_all(
        transaction,
        "insert into segments (segment_id, first_seen, last_seen, latitude, longitude) values",
        5,
        "on conflict (segment_id) do update set first_seen = min(first_seen, excluded.first_seen),
             last_seen = max(last_seen, excluded.last_seen), latitude = coalesce(excluded.latitude, latitude),
             longitude = coalesce(excluded.longitude, longitude)",
        segments,
        |query, (segment_id, seen)| {
            let query = query.bind((*segment_id).clone()).bind(seen.first_ms).bind(seen.last_ms);
            query.bind(seen.position.map(|p| p.latitude)).bind(seen.position.map(|p| p.longitude))
        },
    )
    .await
}

async fn write_metrics(transaction: &mut SqliteConnection, metrics: &[(&MetricKey, &Sums)]) -> sqlx::Result<()> {
    write_all(
        transaction,
        "insert into model_metrics (day, horizon_minutes, model_version, model_type, n, sum_absolute_error_m_per_h,
             sum_squared_error_m2_per_h2, sum_absolute_persistence_error_m_per_h) values",
        8,
        "on conflict (day, horizon_minutes, model_version, model_type) do update set n = n + excluded.n,
             sum_absolute_error_m_per_h = sum_absolute_error_m_per_h + excluded.sum_absolute_error_m_per_h,
             sum_squared_error_m2_per_h2 = sum_squared_error_m2_per_h2 + excluded.sum_squared_error_m2_per_h2,
             sum_absolute_persistence_error_m_per_h = sum_absolute_persistence_error_m_per_h
                 + excluded.sum_absolute_persistence_error_m_per_h",
        metrics,
        |query, (key, sums)| {
            let query = query.bind(iso(key.day)).bind(key.horizon_minutes);
            let query = query.bind(key.model_version.clone()).bind(key.model_type.clone());
            query.bind(sums.n).bind(sums.absolute).bind(sums.squared).bind(sums.persistence)
        },
    )
    .await?;
    if metrics.iter().any(|(_, sums)| sums.n < 0) {
        sqlx::query("delete from model_metrics where n = 0").execute(transaction).await?;
    }
    Ok(())
}

/// The newest times of aggregates and predictions, epoch ms.
pub(in crate::db) async fn newest_ms(connection: &mut SqliteConnection) -> sqlx::Result<(Option<i64>, Option<i64>)> {
    let row = sqlx::query(
        "select (select max(window_start) from aggregates), (select max(prediction_timestamp) from predictions)",
    );
    let row = row.fetch_one(connection).await?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}

/// Deletes at most `most` rows of each table whose day is before the first that stays; returns how many.
pub(in crate::db) async fn delete_before(
    connection: &mut SqliteConnection,
    aggregates_from: Option<Day>,
    predictions_from: Option<Day>,
    most: i64,
) -> sqlx::Result<u64> {
    let mut deleted = 0;
    if let Some(first) = aggregates_from {
        let statement = sqlx::query(
            "delete from aggregates where (segment_id, window_start) in (select segment_id, window_start
                 from aggregates where window_start < ? order by window_start limit ?)",
        );
        deleted += statement.bind(first * DAY_MS).bind(most).execute(&mut *connection).await?.rows_affected();
    }
    if let Some(first) = predictions_from {
        let statement = sqlx::query(
            "delete from predictions where rowid in (select rowid from predictions
                 where prediction_timestamp < ? order by prediction_timestamp limit ?)",
        );
        deleted += statement.bind(first * DAY_MS).bind(most).execute(connection).await?.rows_affected();
    }
    Ok(deleted)
}
