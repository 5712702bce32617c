//! The statements of SQLite: prepared ones, row by row, within one `begin immediate`.

pub(super) mod alerts;
pub(super) mod traffic;

use sqlx::Row as _;
use sqlx::sqlite::SqliteConnection;

use super::projection::{Move, Place};

/// Where the projection stands in each place; one that is new begins at its first offset.
pub(super) async fn take_over(
    connection: &mut SqliteConnection,
    projection: &str,
    places: &[Place],
) -> sqlx::Result<Vec<Option<i64>>> {
    let mut found = Vec::with_capacity(places.len());
    for place in places {
        sqlx::query("insert into projection_offsets values (?1, ?2, ?3, ?4) on conflict do nothing")
            .bind(projection)
            .bind(place.topic.as_str())
            .bind(place.partition)
            .bind(place.first)
            .execute(&mut *connection)
            .await?;
        let row = sqlx::query(
            "select next_offset from projection_offsets where projection = ?1 and topic = ?2 and partition = ?3",
        )
        .bind(projection)
        .bind(place.topic.as_str())
        .bind(place.partition)
        .fetch_optional(&mut *connection)
        .await?;
        found.push(row.map(|row| row.try_get(0)).transpose()?);
    }
    Ok(found)
}

/// Moves the offsets on; `false` if one of them is not where it is expected.
pub(super) async fn fence(
    transaction: &mut SqliteConnection,
    projection: &str,
    moves: &[Move<'_>],
) -> sqlx::Result<bool> {
    for m in moves {
        let moved = sqlx::query(
            "update projection_offsets set next_offset = ?5
             where projection = ?1 and topic = ?2 and partition = ?3 and next_offset = ?4",
        )
        .bind(projection)
        .bind(m.topic)
        .bind(m.partition)
        .bind(m.expected)
        .bind(m.next)
        .execute(&mut *transaction)
        .await?;
        if moved.rows_affected() != 1 {
            return Ok(false);
        }
    }
    Ok(true)
}
