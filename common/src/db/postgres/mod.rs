//! The statements of PostgreSQL: whole batches as arrays, taken apart by `unnest`.
//!
//! Rows are written in the order of their keys, shared ones (`segments`, `model_metrics`) too, so that two owners'
//! transactions wait for each other and never deadlock.

pub(super) mod alerts;
pub(super) mod days;
pub(super) mod traffic;

use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use super::projection::{Move, Place};

/// Where the projection stands in each place; one that is new begins at its first offset.
pub(super) async fn take_over(
    connection: &mut PgConnection,
    projection: &str,
    places: &[Place],
) -> sqlx::Result<Vec<Option<i64>>> {
    let topics: Vec<&str> = column(places, |place| place.topic.as_str());
    let partitions: Vec<i32> = column(places, |place| place.partition.cast_signed());
    sqlx::query(
        "insert into traffic.projection_offsets (projection, topic, partition, next_offset)
         select $1::text, * from unnest($2::text[], $3::integer[], $4::bigint[]) order by 2, 3 on conflict do nothing",
    )
    .bind(projection)
    .bind(&topics)
    .bind(&partitions)
    .bind(column(places, |place| place.first))
    .execute(&mut *connection)
    .await?;
    let rows = sqlx::query(
        "select o.next_offset from unnest($2::text[], $3::integer[]) with ordinality as p (topic, partition, i)
         left join traffic.projection_offsets o on o.projection = $1 and (o.topic, o.partition) = (p.topic, p.partition)
         order by p.i",
    )
    .bind(projection)
    .bind(&topics)
    .bind(&partitions)
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

/// Locks the offsets and moves them on; `false` if one of them is not where it is expected.
pub(super) async fn fence(transaction: &mut PgConnection, projection: &str, moves: &[Move<'_>]) -> sqlx::Result<bool> {
    let topics: Vec<&str> = column(moves, |m| m.topic);
    let partitions: Vec<i32> = column(moves, |m| m.partition.cast_signed());
    // In one order for all owners.
    sqlx::query(
        "select from traffic.projection_offsets
         where projection = $1 and (topic, partition) in (select * from unnest($2::text[], $3::integer[]))
         order by topic, partition for update",
    )
    .bind(projection)
    .bind(&topics)
    .bind(&partitions)
    .execute(&mut *transaction)
    .await?;
    let moved = sqlx::query(
        "update traffic.projection_offsets o set next_offset = m.next
         from unnest($2::text[], $3::integer[], $4::bigint[], $5::bigint[]) as m (topic, partition, expected, next)
         where o.projection = $1 and (o.topic, o.partition) = (m.topic, m.partition) and o.next_offset = m.expected",
    )
    .bind(projection)
    .bind(&topics)
    .bind(&partitions)
    .bind(column(moves, |m| m.expected))
    .bind(column(moves, |m| m.next))
    .execute(transaction)
    .await?;
    Ok(moved.rows_affected() == moves.len() as u64)
}

/// One value of each row.
fn column<'r, R, T>(rows: &'r [R], value: impl Fn(&'r R) -> T) -> Vec<T> {
    rows.iter().map(value).collect()
}
