//! The statements of SQLite: prepared ones, many rows at a time, within one `begin immediate`.

pub(super) mod alerts;
pub(super) mod traffic;

use sqlx::query::Query;
use sqlx::sqlite::{Sqlite, SqliteArguments, SqliteConnection};
use sqlx::{AssertSqlSafe, Row as _};

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

type Statement = Query<'static, Sqlite, SqliteArguments>;

/// Rows in one statement, largest first: every statement is a trip to another thread, and few texts are prepared once.
const AT_ONCE: [usize; 3] = [128, 16, 1];

/// The rows in groups of these sizes.
fn groups<R>(rows: &[R]) -> impl Iterator<Item = &[R]> {
    let mut rest = rows;
    std::iter::from_fn(move || {
        let size = AT_ONCE.into_iter().find(|size| *size <= rest.len())?;
        let (group, later) = rest.split_at(size);
        rest = later;
        Some(group)
    })
}

/// A statement with as many tuples of `columns` marks as there are rows between its two parts, and the rows' values.
fn statement<R>(
    before: &str,
    columns: usize,
    after: &str,
    rows: &[R],
    bind: impl Fn(Statement, &R) -> Statement,
) -> Statement {
    let tuple = format!("({})", vec!["?"; columns].join(", "));
    // Made of constants alone.
    let text = format!("{before} {} {after}", vec![tuple.as_str(); rows.len()].join(", "));
    rows.iter().fold(sqlx::query(AssertSqlSafe(text)), bind)
}

/// Writes all rows.
async fn write_all<R>(
    transaction: &mut SqliteConnection,
    before: &str,
    columns: usize,
    after: &str,
    rows: &[R],
    bind: impl Fn(Statement, &R) -> Statement,
) -> sqlx::Result<()> {
    for group in groups(rows) {
        statement(before, columns, after, group, &bind).execute(&mut *transaction).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_of_few_sizes_and_leave_nothing_out() {
        let sizes = |n: usize| groups(&vec![(); n]).map(<[()]>::len).collect::<Vec<_>>();
        assert_eq!(sizes(0), [0_usize; 0]);
        assert_eq!(sizes(1), [1]);
        assert_eq!(sizes(274), [128, 128, 16, 1, 1]);
        let rows: Vec<u32> = (0..500).collect();
        assert_eq!(groups(&rows).flatten().copied().collect::<Vec<_>>(), rows);
    }
}
