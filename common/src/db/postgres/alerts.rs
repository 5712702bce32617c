//! Alerts and their history.

use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use super::column;
use crate::db::batch::AlertBatch;
use crate::db::rows::AlertRow;

macro_rules! columns {
    () => {
        "(alert_id, sequence, segment_id, rule, alert_type, severity, status, changed_at, opened_at, resolved_at,
            detection_source, description, value, threshold, confidence_score, latitude, longitude, changed_by)
         select a, b, c, d, e, f, g, traffic.from_ms(h), traffic.from_ms(i), traffic.from_ms(j), k, l, m, n, o, p, q, r
         from unnest($1::text[], $2::integer[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
            $8::bigint[], $9::bigint[], $10::bigint[], $11::text[], $12::text[], $13::float8[], $14::float8[],
            $15::float8[], $16::float8[], $17::float8[], $18::text[])
            as x (a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r)"
    };
}

/// Writes every transition, and of each alert the newest as its present state.
pub(in crate::db) async fn write(transaction: &mut PgConnection, batch: &AlertBatch) -> sqlx::Result<()> {
    let history: Vec<&AlertRow> = batch.history.values().collect();
    if history.is_empty() {
        return Ok(());
    }
    insert(
        transaction,
        concat!("insert into traffic.alert_history ", columns!(), " on conflict (alert_id, sequence) do nothing"),
        &history,
    )
    .await?;
    insert(
        transaction,
        concat!(
            "insert into traffic.alerts as known ",
            columns!(),
            " on conflict (alert_id) do update set sequence = excluded.sequence, segment_id = excluded.segment_id,
                rule = excluded.rule, alert_type = excluded.alert_type, severity = excluded.severity,
                status = excluded.status, changed_at = excluded.changed_at, opened_at = excluded.opened_at,
                resolved_at = excluded.resolved_at, detection_source = excluded.detection_source,
                description = excluded.description, value = excluded.value, threshold = excluded.threshold,
                confidence_score = excluded.confidence_score, latitude = excluded.latitude,
                longitude = excluded.longitude, changed_by = excluded.changed_by
              where excluded.sequence > known.sequence"
        ),
        &batch.present(),
    )
    .await
}

async fn insert(transaction: &mut PgConnection, statement: &'static str, rows: &[&AlertRow]) -> sqlx::Result<()> {
    sqlx::query(statement)
        .bind(column(rows, |r| r.alert_id.as_str()))
        .bind(column(rows, |r| r.sequence))
        .bind(column(rows, |r| r.segment_id.as_str()))
        .bind(column(rows, |r| r.rule.as_str()))
        .bind(column(rows, |r| r.alert_type.as_str()))
        .bind(column(rows, |r| r.severity.as_str()))
        .bind(column(rows, |r| r.status.as_str()))
        .bind(column(rows, |r| r.changed_at))
        .bind(column(rows, |r| r.opened_at))
        .bind(column(rows, |r| r.resolved_at))
        .bind(column(rows, |r| r.detection_source.as_str()))
        .bind(column(rows, |r| r.description.as_str()))
        .bind(column(rows, |r| r.value))
        .bind(column(rows, |r| r.threshold))
        .bind(column(rows, |r| r.confidence_score))
        .bind(column(rows, |r| r.position.map(|p| p.latitude)))
        .bind(column(rows, |r| r.position.map(|p| p.longitude)))
        .bind(column(rows, |r| r.changed_by.as_deref()))
        .execute(transaction)
        .await?;
    Ok(())
}

/// The newest transition, epoch ms.
pub(in crate::db) async fn newest_ms(connection: &mut PgConnection) -> sqlx::Result<Option<i64>> {
    let row = sqlx::query("select traffic.to_ms(max(changed_at)) from traffic.alert_history").fetch_one(connection);
    row.await?.try_get(0)
}

/// Deletes at most `most` transitions, and as many ended alerts, that are older; returns how many of both.
pub(in crate::db) async fn delete_before(connection: &mut PgConnection, at_ms: i64, most: i64) -> sqlx::Result<u64> {
    let history = sqlx::query(
        "delete from traffic.alert_history where (alert_id, sequence) in (select alert_id, sequence
             from traffic.alert_history where changed_at < traffic.from_ms($1) order by changed_at limit $2)",
    );
    let deleted = history.bind(at_ms).bind(most).execute(&mut *connection).await?.rows_affected();
    let ended = sqlx::query(
        "delete from traffic.alerts where alert_id in (select alert_id from traffic.alerts
             where changed_at < traffic.from_ms($1) and status in ('RESOLVED', 'CLEARED') order by changed_at limit $2)",
    );
    Ok(deleted + ended.bind(at_ms).bind(most).execute(connection).await?.rows_affected())
}
