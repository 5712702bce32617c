//! Day partitions: made when a row first needs one, dropped whole.
//!
//! A partition is made as a table of its own and then attached: unlike `create table … partition of`, that lets
//! readers and other writers go on. Dropping locks the parent for a moment; who cannot have it within two seconds
//! tries again an hour later.

use std::collections::BTreeSet;

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, Row as _};

use crate::db::retention::{DAY_MS, Day, iso};

/// A table that is partitioned by day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::db) enum Table {
    Aggregates,
    Predictions,
}

impl Table {
    fn name(self) -> &'static str {
        match self {
            Self::Aggregates => "aggregates",
            Self::Predictions => "predictions",
        }
    }

    /// Every forecast is updated once, when its truth arrives: that needs room on its page.
    fn fill_factor(self) -> u8 {
        match self {
            Self::Aggregates => 95,
            Self::Predictions => 80,
        }
    }

    fn partition(self, day: Day) -> String {
        format!("{}_{}", self.name(), iso(day).replace('-', ""))
    }
}

/// The days that have a partition.
pub(in crate::db) async fn days(connection: &mut PgConnection, table: Table) -> sqlx::Result<BTreeSet<Day>> {
    let rows = sqlx::query(
        "select to_date(right(c.relname, 8), 'YYYYMMDD') - date '1970-01-01'
         from pg_inherits i join pg_class c on c.oid = i.inhrelid
         where i.inhparent = ('traffic.' || $1)::regclass and c.relname ~ '_[0-9]{8}$'",
    )
    .bind(table.name())
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| row.try_get::<i32, _>(0).map(Day::from)).collect()
}

/// Makes the partitions of these days, where they are missing.
pub(in crate::db) async fn make(connection: &mut PgConnection, table: Table, days: &[Day]) -> sqlx::Result<()> {
    let mut transaction = connection.begin().await?;
    // Another owner may be about to make the same one.
    sqlx::query("select pg_advisory_xact_lock(hashtext('traffic.days'))").execute(&mut *transaction).await?;
    for day in days {
        let (parent, partition) = (table.name(), table.partition(*day));
        let exists = sqlx::query("select to_regclass('traffic.' || $1) is not null").bind(&partition);
        if exists.fetch_one(&mut *transaction).await?.try_get(0)? {
            continue;
        }
        let (from, to, fill_factor) = (iso(*day), iso(*day + 1), table.fill_factor());
        // The names are made of a fixed word and digits.
        let statements = format!(
            "create table traffic.{partition} (like traffic.{parent}) with (fillfactor = {fill_factor});
             alter table traffic.{parent} attach partition traffic.{partition}
                 for values from ('{from} 00:00:00+00') to ('{to} 00:00:00+00')"
        );
        transaction.execute(AssertSqlSafe(statements)).await?;
    }
    transaction.commit().await
}

/// Drops the partitions of days before `first`; returns how many.
pub(in crate::db) async fn drop_before(connection: &mut PgConnection, table: Table, first: Day) -> sqlx::Result<usize> {
    let old: Vec<Day> = days(connection, table).await?.into_iter().filter(|day| *day < first).collect();
    for day in &old {
        let partition = table.partition(*day);
        let statements = format!("set local lock_timeout = '2s'; drop table if exists traffic.{partition}");
        let mut transaction = connection.begin().await?;
        transaction.execute(AssertSqlSafe(statements)).await?;
        transaction.commit().await?;
    }
    Ok(old.len())
}

/// The newest day's first moment, epoch ms.
pub(in crate::db) fn newest_ms(days: &BTreeSet<Day>) -> Option<i64> {
    days.last().map(|day| day * DAY_MS)
}
