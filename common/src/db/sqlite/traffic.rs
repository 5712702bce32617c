//! Aggregates, forecasts and their scores.

use sqlx::Row as _;
use sqlx::sqlite::SqliteConnection;

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
    for row in changes.aggregates {
        write_aggregate(transaction, row).await?;
    }
    for (row, actual) in changes.predictions {
        write_prediction(transaction, row, actual).await?;
    }
    for actual in &changes.actuals {
        write_actual(transaction, actual).await?;
    }
    for (segment_id, seen) in &batch.segments {
        write_segment(transaction, segment_id, seen).await?;
    }
    for (key, sums) in &changes.metrics {
        write_metric(transaction, key, sums).await?;
    }
    Ok(())
}

async fn look_up(transaction: &mut SqliteConnection, questions: &Questions<'_>) -> sqlx::Result<Facts> {
    let mut facts = Facts::default();
    for (segment_id, window_start) in &questions.aggregates {
        let row =
            sqlx::query("select event_count, avg_speed from aggregates where segment_id = ? and window_start = ?")
                .bind(*segment_id)
                .bind(window_start)
                .fetch_optional(&mut *transaction)
                .await?;
        if let Some(row) = row {
            facts.aggregates.push(KnownAggregate {
                segment_id: (*segment_id).to_owned(),
                window_start: *window_start,
                event_count: row.try_get(0)?,
                avg_speed: row.try_get(1)?,
            });
        }
    }
    for (segment_id, target, horizon) in &questions.predictions {
        let rows = sqlx::query(
            "select prediction_timestamp, horizon_minutes, predicted_speed, current_speed, model_type, model_version,
                 actual_speed
             from predictions where segment_id = ?1 and target_timestamp = ?2 and (?3 is null or horizon_minutes = ?3)",
        )
        .bind(*segment_id)
        .bind(target)
        .bind(horizon)
        .fetch_all(&mut *transaction)
        .await?;
        for row in &rows {
            facts.predictions.push(KnownPrediction {
                segment_id: (*segment_id).to_owned(),
                prediction_timestamp: row.try_get(0)?,
                horizon_minutes: row.try_get(1)?,
                target_timestamp: *target,
                predicted_speed: row.try_get(2)?,
                current_speed: row.try_get(3)?,
                model_type: row.try_get(4)?,
                model_version: row.try_get(5)?,
                actual_speed: row.try_get(6)?,
            });
        }
    }
    Ok(facts)
}

async fn write_aggregate(transaction: &mut SqliteConnection, row: &AggregateRow) -> sqlx::Result<()> {
    sqlx::query(
        "insert or replace into aggregates (segment_id, window_start, window_end, avg_speed, speed_stddev, speed_min,
             speed_max, vehicle_count, occupancy_avg, occupancy_max, congestion_level, latitude, longitude, event_count,
             quality_score)
         values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(row.segment_id.as_str())
    .bind(row.window_start)
    .bind(row.window_end)
    .bind(row.avg_speed)
    .bind(row.speed_stddev)
    .bind(row.speed_min)
    .bind(row.speed_max)
    .bind(row.vehicle_count)
    .bind(row.occupancy_avg)
    .bind(row.occupancy_max)
    .bind(row.congestion_level.as_deref())
    .bind(row.position.map(|p| p.latitude))
    .bind(row.position.map(|p| p.longitude))
    .bind(row.event_count)
    .bind(row.quality_score)
    .execute(transaction)
    .await?;
    Ok(())
}

async fn write_prediction(
    transaction: &mut SqliteConnection,
    row: &PredictionRow,
    actual: Option<f64>,
) -> sqlx::Result<()> {
    sqlx::query(
        "insert or replace into predictions (segment_id, prediction_timestamp, horizon_minutes, target_timestamp,
             predicted_speed, current_speed, predicted_congestion_level, speed_lower, speed_upper, speed_quantiles,
             confidence_score, model_type, model_version, features_used, latitude, longitude, avg_speed_1h,
             avg_speed_24h, avg_speed_7d, actual_speed, prediction_error)
         values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20,
             ?5 - ?20)",
    )
    .bind(row.segment_id.as_str())
    .bind(row.prediction_timestamp)
    .bind(row.horizon_minutes)
    .bind(row.target_timestamp)
    .bind(row.predicted_speed)
    .bind(row.current_speed)
    .bind(row.predicted_congestion_level.as_str())
    .bind(row.speed_lower)
    .bind(row.speed_upper)
    .bind(row.speed_quantiles.as_str())
    .bind(row.confidence_score)
    .bind(row.model_type.as_str())
    .bind(row.model_version.as_str())
    .bind(row.features_used.as_str())
    .bind(row.position.map(|p| p.latitude))
    .bind(row.position.map(|p| p.longitude))
    .bind(row.avg_speed_1h)
    .bind(row.avg_speed_24h)
    .bind(row.avg_speed_7d)
    .bind(actual)
    .execute(transaction)
    .await?;
    Ok(())
}

async fn write_actual(transaction: &mut SqliteConnection, actual: &Actual) -> sqlx::Result<()> {
    sqlx::query(
        "update predictions set actual_speed = ?4, prediction_error = predicted_speed - ?4
         where segment_id = ?1 and prediction_timestamp = ?2 and horizon_minutes = ?3",
    )
    .bind(actual.segment_id.as_str())
    .bind(actual.prediction_timestamp)
    .bind(actual.horizon_minutes)
    .bind(actual.actual_speed)
    .execute(transaction)
    .await?;
    Ok(())
}

async fn write_segment(transaction: &mut SqliteConnection, segment_id: &str, seen: &Seen) -> sqlx::Result<()> {
    sqlx::query(
        "insert into segments (segment_id, first_seen, last_seen, latitude, longitude) values (?, ?, ?, ?, ?)
         on conflict (segment_id) do update set first_seen = min(first_seen, excluded.first_seen),
             last_seen = max(last_seen, excluded.last_seen), latitude = coalesce(excluded.latitude, latitude),
             longitude = coalesce(excluded.longitude, longitude)",
    )
    .bind(segment_id)
    .bind(seen.first_ms)
    .bind(seen.last_ms)
    .bind(seen.position.map(|p| p.latitude))
    .bind(seen.position.map(|p| p.longitude))
    .execute(transaction)
    .await?;
    Ok(())
}

async fn write_metric(transaction: &mut SqliteConnection, key: &MetricKey, sums: &Sums) -> sqlx::Result<()> {
    sqlx::query(
        "insert into model_metrics (day, horizon_minutes, model_version, model_type, n, sum_absolute_error_m_per_h,
             sum_squared_error_m2_per_h2, sum_absolute_persistence_error_m_per_h)
         values (?, ?, ?, ?, ?, ?, ?, ?)
         on conflict (day, horizon_minutes, model_version, model_type) do update set n = n + excluded.n,
             sum_absolute_error_m_per_h = sum_absolute_error_m_per_h + excluded.sum_absolute_error_m_per_h,
             sum_squared_error_m2_per_h2 = sum_squared_error_m2_per_h2 + excluded.sum_squared_error_m2_per_h2,
             sum_absolute_persistence_error_m_per_h = sum_absolute_persistence_error_m_per_h
                 + excluded.sum_absolute_persistence_error_m_per_h",
    )
    .bind(iso(key.day))
    .bind(key.horizon_minutes)
    .bind(key.model_version.as_str())
    .bind(key.model_type.as_str())
    .bind(sums.n)
    .bind(sums.absolute)
    .bind(sums.squared)
    .bind(sums.persistence)
    .execute(&mut *transaction)
    .await?;
    if sums.n < 0 {
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
