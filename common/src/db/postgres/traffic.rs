//! Aggregates, forecasts and their scores.

use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use super::column;
use crate::db::batch::{Seen, TrafficBatch};
use crate::db::retention::{DAY_MS, iso};
use crate::db::rows::{AggregateRow, PredictionRow};
use crate::db::score::{
    Actual, Facts, KnownAggregate, KnownPrediction, MetricKey, Questions, Sums, changes, questions,
};

/// Writes the batch and what follows from it.
pub(in crate::db) async fn write(transaction: &mut PgConnection, batch: &TrafficBatch) -> sqlx::Result<()> {
    let facts = look_up(transaction, &questions(batch)).await?;
    let changes = changes(batch, &facts);
    write_aggregates(transaction, &changes.aggregates).await?;
    write_predictions(transaction, &changes.predictions).await?;
    write_actuals(transaction, &changes.actuals).await?;
    let segments: Vec<_> = batch.segments.iter().collect();
    write_segments(transaction, &segments).await?;
    // Last, since other owners wait for these rows.
    let metrics: Vec<_> = changes.metrics.iter().collect();
    write_metrics(transaction, &metrics).await
}

async fn look_up(transaction: &mut PgConnection, questions: &Questions<'_>) -> sqlx::Result<Facts> {
    let mut facts = Facts::default();
    let asked = &questions.aggregates;
    let starts: Vec<i64> = column(asked, |(_, start)| *start);
    if let (Some(first), Some(last)) = (starts.iter().min(), starts.iter().max()) {
        // The bounds leave out the partitions that can hold none of them.
        let rows = sqlx::query(
            "select a.segment_id, k.window_start, a.event_count, a.avg_speed
             from unnest($1::text[], $2::bigint[]) as k (segment_id, window_start)
             join traffic.aggregates a
                 on a.segment_id = k.segment_id and a.window_start = traffic.from_ms(k.window_start)
             where a.window_start between traffic.from_ms($3) and traffic.from_ms($4)",
        )
        .bind(column(asked, |(segment, _)| *segment))
        .bind(&starts)
        .bind(first)
        .bind(last)
        .fetch_all(&mut *transaction)
        .await?;
        for row in &rows {
            facts.aggregates.push(KnownAggregate {
                segment_id: row.try_get(0)?,
                window_start: row.try_get(1)?,
                event_count: row.try_get(2)?,
                avg_speed: row.try_get(3)?,
            });
        }
    }
    let asked = &questions.predictions;
    let targets: Vec<i64> = column(asked, |(_, target, _)| *target);
    if let (Some(first), Some(last)) = (targets.iter().min(), targets.iter().max()) {
        let rows = sqlx::query(
            "select p.segment_id, traffic.to_ms(p.prediction_timestamp), p.horizon_minutes, k.target,
                 p.predicted_speed, p.current_speed, p.model_type, p.model_version, p.actual_speed
             from unnest($1::text[], $2::bigint[], $3::integer[]) as k (segment_id, target, horizon)
             join traffic.predictions p
                 on p.segment_id = k.segment_id and p.target_timestamp = traffic.from_ms(k.target)
             where (k.horizon is null or k.horizon = p.horizon_minutes)
                 and p.prediction_timestamp between traffic.from_ms($4) and traffic.from_ms($5)",
        )
        .bind(column(asked, |(segment, _, _)| *segment))
        .bind(&targets)
        .bind(column(asked, |(_, _, horizon)| *horizon))
        .bind(first - DAY_MS)
        .bind(last)
        .fetch_all(transaction)
        .await?;
        for row in &rows {
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

async fn write_aggregates(transaction: &mut PgConnection, rows: &[&AggregateRow]) -> sqlx::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "insert into traffic.aggregates as known (segment_id, window_start, window_end, avg_speed, speed_stddev,
             speed_min, speed_max, vehicle_count, occupancy_avg, occupancy_max, congestion_level, latitude, longitude,
             event_count, quality_score)
         select a, traffic.from_ms(b), traffic.from_ms(c), d, e, f, g, h, i, j, k, l, m, n, o
         from unnest($1::text[], $2::bigint[], $3::bigint[], $4::float8[], $5::float8[], $6::float8[], $7::float8[],
             $8::bigint[], $9::float8[], $10::float8[], $11::text[], $12::float8[], $13::float8[], $14::bigint[],
             $15::float8[]) as r (a, b, c, d, e, f, g, h, i, j, k, l, m, n, o)
         on conflict (segment_id, window_start) do update set window_end = excluded.window_end,
             avg_speed = excluded.avg_speed, speed_stddev = excluded.speed_stddev, speed_min = excluded.speed_min,
             speed_max = excluded.speed_max, vehicle_count = excluded.vehicle_count,
             occupancy_avg = excluded.occupancy_avg, occupancy_max = excluded.occupancy_max,
             congestion_level = excluded.congestion_level, latitude = excluded.latitude,
             longitude = excluded.longitude, event_count = excluded.event_count,
             quality_score = excluded.quality_score
         where excluded.event_count > known.event_count",
    )
    .bind(column(rows, |r| r.segment_id.as_str()))
    .bind(column(rows, |r| r.window_start))
    .bind(column(rows, |r| r.window_end))
    .bind(column(rows, |r| r.avg_speed))
    .bind(column(rows, |r| r.speed_stddev))
    .bind(column(rows, |r| r.speed_min))
    .bind(column(rows, |r| r.speed_max))
    .bind(column(rows, |r| r.vehicle_count))
    .bind(column(rows, |r| r.occupancy_avg))
    .bind(column(rows, |r| r.occupancy_max))
    .bind(column(rows, |r| r.congestion_level.as_deref()))
    .bind(column(rows, |r| r.position.map(|p| p.latitude)))
    .bind(column(rows, |r| r.position.map(|p| p.longitude)))
    .bind(column(rows, |r| r.event_count))
    .bind(column(rows, |r| r.quality_score))
    .execute(transaction)
    .await?;
    Ok(())
}

async fn write_predictions(transaction: &mut PgConnection, rows: &[(&PredictionRow, Option<f64>)]) -> sqlx::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "insert into traffic.predictions (segment_id, prediction_timestamp, horizon_minutes, target_timestamp,
             predicted_speed, current_speed, predicted_congestion_level, speed_lower, speed_upper, speed_quantiles,
             confidence_score, model_type, model_version, features_used, latitude, longitude, avg_speed_1h,
             avg_speed_24h, avg_speed_7d, actual_speed, prediction_error, predicted_volume)
         select a, traffic.from_ms(b), c, traffic.from_ms(d), e, f, g, h, i, j::jsonb, k, l, m, n::jsonb, o, p, q, r, s,
             t, e - t, u
         from unnest($1::text[], $2::bigint[], $3::integer[], $4::bigint[], $5::float8[], $6::float8[], $7::text[],
             $8::float8[], $9::float8[], $10::text[], $11::float8[], $12::text[], $13::text[], $14::text[],
             $15::float8[], $16::float8[], $17::float8[], $18::float8[], $19::float8[], $20::float8[],
             $21::integer[]) as x (a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u)
         on conflict (segment_id, prediction_timestamp, horizon_minutes) do update set
             target_timestamp = excluded.target_timestamp, predicted_speed = excluded.predicted_speed,
             current_speed = excluded.current_speed, predicted_congestion_level = excluded.predicted_congestion_level,
             speed_lower = excluded.speed_lower, speed_upper = excluded.speed_upper,
             speed_quantiles = excluded.speed_quantiles, confidence_score = excluded.confidence_score,
             model_type = excluded.model_type, model_version = excluded.model_version,
             features_used = excluded.features_used, latitude = excluded.latitude, longitude = excluded.longitude,
             avg_speed_1h = excluded.avg_speed_1h, avg_speed_24h = excluded.avg_speed_24h,
             avg_speed_7d = excluded.avg_speed_7d, actual_speed = excluded.actual_speed,
             prediction_error = excluded.prediction_error, predicted_volume = excluded.predicted_volume",
    )
    .bind(column(rows, |(r, _)| r.segment_id.as_str()))
    .bind(column(rows, |(r, _)| r.prediction_timestamp))
    .bind(column(rows, |(r, _)| r.horizon_minutes))
    .bind(column(rows, |(r, _)| r.target_timestamp))
    .bind(column(rows, |(r, _)| r.predicted_speed))
    .bind(column(rows, |(r, _)| r.current_speed))
    .bind(column(rows, |(r, _)| r.predicted_congestion_level.as_str()))
    .bind(column(rows, |(r, _)| r.speed_lower))
    .bind(column(rows, |(r, _)| r.speed_upper))
    .bind(column(rows, |(r, _)| r.speed_quantiles.as_str()))
    .bind(column(rows, |(r, _)| r.confidence_score))
    .bind(column(rows, |(r, _)| r.model_type.as_str()))
    .bind(column(rows, |(r, _)| r.model_version.as_str()))
    .bind(column(rows, |(r, _)| r.features_used.as_str()))
    .bind(column(rows, |(r, _)| r.position.map(|p| p.latitude)))
    .bind(column(rows, |(r, _)| r.position.map(|p| p.longitude)))
    .bind(column(rows, |(r, _)| r.avg_speed_1h))
    .bind(column(rows, |(r, _)| r.avg_speed_24h))
    .bind(column(rows, |(r, _)| r.avg_speed_7d))
    .bind(column(rows, |(_, actual)| *actual))
    .bind(column(rows, |(r, _)| r.predicted_volume))
    .execute(transaction)
    .await?;
    Ok(())
}

async fn write_actuals(transaction: &mut PgConnection, actuals: &[Actual]) -> sqlx::Result<()> {
    let times: Vec<i64> = column(actuals, |a| a.prediction_timestamp);
    let (Some(first), Some(last)) = (times.iter().min(), times.iter().max()) else { return Ok(()) };
    sqlx::query(
        "update traffic.predictions p
         set actual_speed = k.actual, prediction_error = p.predicted_speed - k.actual
         from unnest($1::text[], $2::bigint[], $3::integer[], $4::float8[]) as k (segment_id, at, horizon, actual)
         where p.segment_id = k.segment_id and p.prediction_timestamp = traffic.from_ms(k.at)
             and p.horizon_minutes = k.horizon
             and p.prediction_timestamp between traffic.from_ms($5) and traffic.from_ms($6)",
    )
    .bind(column(actuals, |a| a.segment_id.as_str()))
    .bind(&times)
    .bind(column(actuals, |a| a.horizon_minutes))
    .bind(column(actuals, |a| a.actual_speed))
    .bind(first)
    .bind(last)
    .execute(transaction)
    .await?;
    Ok(())
}

async fn write_segments(transaction: &mut PgConnection, segments: &[(&String, &Seen)]) -> sqlx::Result<()> {
    if segments.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "insert into traffic.segments as known (segment_id, first_seen, last_seen, latitude, longitude)
         select a, traffic.from_ms(b), traffic.from_ms(c), d, e
         from unnest($1::text[], $2::bigint[], $3::bigint[], $4::float8[], $5::float8[]) as r (a, b, c, d, e)
         on conflict (segment_id) do update set first_seen = least(known.first_seen, excluded.first_seen),
             last_seen = greatest(known.last_seen, excluded.last_seen),
             latitude = coalesce(excluded.latitude, known.latitude),
             longitude = coalesce(excluded.longitude, known.longitude)",
    )
    .bind(column(segments, |(id, _)| id.as_str()))
    .bind(column(segments, |(_, seen)| seen.first_ms))
    .bind(column(segments, |(_, seen)| seen.last_ms))
    .bind(column(segments, |(_, seen)| seen.position.map(|p| p.latitude)))
    .bind(column(segments, |(_, seen)| seen.position.map(|p| p.longitude)))
    .execute(transaction)
    .await?;
    Ok(())
}

async fn write_metrics(transaction: &mut PgConnection, metrics: &[(&MetricKey, &Sums)]) -> sqlx::Result<()> {
    if metrics.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "insert into traffic.model_metrics as known (day, horizon_minutes, model_version, model_type, n,
             sum_absolute_error_m_per_h, sum_squared_error_m2_per_h2, sum_absolute_persistence_error_m_per_h)
         select a::date, b, c, d, e, f, g, h
         from unnest($1::text[], $2::integer[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[],
             $8::bigint[]) as r (a, b, c, d, e, f, g, h)
         on conflict (day, horizon_minutes, model_version, model_type) do update set n = known.n + excluded.n,
             sum_absolute_error_m_per_h = known.sum_absolute_error_m_per_h + excluded.sum_absolute_error_m_per_h,
             sum_squared_error_m2_per_h2 = known.sum_squared_error_m2_per_h2 + excluded.sum_squared_error_m2_per_h2,
             sum_absolute_persistence_error_m_per_h = known.sum_absolute_persistence_error_m_per_h
                 + excluded.sum_absolute_persistence_error_m_per_h",
    )
    .bind(column(metrics, |(key, _)| iso(key.day)))
    .bind(column(metrics, |(key, _)| key.horizon_minutes))
    .bind(column(metrics, |(key, _)| key.model_version.as_str()))
    .bind(column(metrics, |(key, _)| key.model_type.as_str()))
    .bind(column(metrics, |(_, sums)| sums.n))
    .bind(column(metrics, |(_, sums)| sums.absolute))
    .bind(column(metrics, |(_, sums)| sums.squared))
    .bind(column(metrics, |(_, sums)| sums.persistence))
    .execute(&mut *transaction)
    .await?;
    if metrics.iter().any(|(_, sums)| sums.n < 0) {
        sqlx::query("delete from traffic.model_metrics where n = 0").execute(transaction).await?;
    }
    Ok(())
}
