//! Alerts and their history.

use sqlx::Row as _;
use sqlx::sqlite::SqliteConnection;

use super::write_all;
use crate::db::batch::AlertBatch;
use crate::db::rows::AlertRow;

const COLUMNS: &str = "(alert_id, sequence, segment_id, rule, alert_type, severity, status, changed_at, opened_at,
    resolved_at, detection_source, description, value, threshold, confidence_score, latitude, longitude, changed_by)
    values";

/// Writes every transition, and of each alert the newest as its present state.
pub(in crate::db) async fn write(transaction: &mut SqliteConnection, batch: &AlertBatch) -> sqlx::Result<()> {
    let history: Vec<&AlertRow> = batch.history.values().collect();
    insert(transaction, "alert_history", "on conflict do nothing", &history).await?;
    let newest = "on conflict (alert_id) do update set sequence = excluded.sequence, segment_id = excluded.segment_id,
            rule = excluded.rule, alert_type = excluded.alert_type, severity = excluded.severity,
            status = excluded.status, changed_at = excluded.changed_at, opened_at = excluded.opened_at,
            resolved_at = excluded.resolved_at, detection_source = excluded.detection_source,
            description = excluded.description, value = excluded.value, threshold = excluded.threshold,
            confidence_score = excluded.confidence_score, latitude = excluded.latitude,
            longitude = excluded.longitude, changed_by = excluded.changed_by
        where excluded.sequence > sequence";
    insert(transaction, "alerts", newest, &batch.present()).await
}

async fn insert(
    transaction: &mut SqliteConnection,
    table: &'static str,
    conflict: &'static str,
    rows: &[&AlertRow],
) -> sqlx::Result<()> {
    write_all(transaction, &format!("insert into {table} {COLUMNS}"), 18, conflict, rows, |query, row| {
        query
            .bind(row.alert_id.clone())
            .bind(row.sequence)
            .bind(row.segment_id.clone())
            .bind(row.rule.clone())
            .bind(row.alert_type.clone())
            .bind(row.severity.clone())
            .bind(row.status.clone())
            .bind(row.changed_at)
            .bind(row.opened_at)
            .bind(row.resolved_at)
            .bind(row.detection_source.clone())
            .bind(row.description.clone())
            .bind(row.value)
            .bind(row.threshold)
            .bind(row.confidence_score)
            .bind(row.position.map(|p| p.latitude))
            .bind(row.position.map(|p| p.longitude))
            .bind(row.changed_by.clone())
    })
    .await
}

/// The newest transition, epoch ms.
pub(in crate::db) async fn newest_ms(connection: &mut SqliteConnection) -> sqlx::Result<Option<i64>> {
    sqlx::query("select max(changed_at) from alert_history").fetch_one(connection).await?.try_get(0)
}

/// Deletes at most `most` transitions, and as many ended alerts, that are older; returns how many of both.
pub(in crate::db) async fn delete_before(
    connection: &mut SqliteConnection,
    at_ms: i64,
    most: i64,
) -> sqlx::Result<u64> {
    let history = sqlx::query(
        "delete from alert_history where rowid in
             (select rowid from alert_history where changed_at < ? order by changed_at limit ?)",
    );
    let deleted = history.bind(at_ms).bind(most).execute(&mut *connection).await?.rows_affected();
    let ended = sqlx::query(
        "delete from alerts where rowid in (select rowid from alerts
             where changed_at < ? and status in ('RESOLVED', 'CLEARED') order by changed_at limit ?)",
    );
    Ok(deleted + ended.bind(at_ms).bind(most).execute(connection).await?.rows_affected())
}
