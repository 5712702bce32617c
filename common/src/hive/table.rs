//! The tables: what they are called, their columns and partitions.

use std::fmt::Write as _;

use arrow::datatypes::DataType;

use crate::archive::Dataset;
use crate::archive::layout::{Hour, Table};
use crate::archive::schema::schema;

pub(super) const SERDE: &str = "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe";
pub(super) const INPUT_FORMAT: &str = "org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat";
pub(super) const OUTPUT_FORMAT: &str = "org.apache.hadoop.hive.ql.io.parquet.MapredParquetOutputFormat";

/// The partition columns. The hour is text, as its directory spells it: of an integer, a metastore that is asked for 9
/// does not find the partition "09".
pub(super) const PARTITIONED_BY: [(&str, &str); 2] = [("date", "string"), ("hour", "string")];

/// A column as Hive names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HiveColumn {
    pub name: String,
    pub kind: String,
}

/// An archived dataset as a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HiveTable {
    pub name: &'static str,
    pub comment: &'static str,
    pub columns: Vec<HiveColumn>,
    /// The directory above its partitions, with the store in front.
    pub location: String,
}

impl HiveTable {
    /// The table of a dataset's valid records in the store at this URL.
    #[must_use]
    pub fn of(dataset: Dataset, store: &str) -> Self {
        let (name, comment) = match dataset {
            Dataset::Events => ("raw_events", "Valid sensor events, by event time (UTC)"),
            Dataset::Aggregates => (
                "aggregates",
                "5-minute aggregates by window_start (UTC), a correction as a row with a larger event_count",
            ),
            Dataset::Predictions => ("predictions", "Forecasts, by prediction_timestamp (UTC)"),
        };
        let table = Table::Accepted(dataset);
        let schema = schema(table);
        let columns = schema.fields().iter();
        let columns = columns.map(|f| HiveColumn { name: f.name().clone(), kind: kind(f.data_type()) }).collect();
        Self { name, comment, columns, location: format!("{}{}", store.trim_end_matches('/'), table.dir()) }
    }

    /// Where an hour's files are.
    pub(super) fn partition_location(&self, hour: Hour) -> String {
        format!("{}/{}", self.location, hour.dir())
    }

    fn ddl(&self, out: &mut String) {
        let columns: Vec<String> = self.columns.iter().map(|c| format!("  `{}` {}", c.name, c.kind)).collect();
        let partitions = PARTITIONED_BY.map(|(name, kind)| format!("`{name}` {kind}"));
        writeln!(
            out,
            "CREATE EXTERNAL TABLE IF NOT EXISTS {} (\n{}\n)\nCOMMENT '{}'\nPARTITIONED BY ({})\nSTORED AS PARQUET\nLOCATION '{}';\n",
            self.name,
            columns.join(",\n"),
            self.comment,
            partitions.join(", "),
            self.location
        )
        .expect("text can be written to");
    }
}

/// The values of an hour's partition columns, as its directories spell them.
pub(super) fn values(hour: Hour) -> [String; 2] {
    let dir = hour.dir();
    let (date, hour) = dir.split_once('/').expect("a directory of the day, and one of the hour");
    [date, hour].map(|part| part.split_once('=').map_or(part, |(_, value)| value).to_owned())
}

fn kind(of: &DataType) -> String {
    match of {
        DataType::Utf8 => "string".to_owned(),
        DataType::Binary => "binary".to_owned(),
        DataType::Float64 => "double".to_owned(),
        DataType::Int64 => "bigint".to_owned(),
        DataType::Int32 => "int".to_owned(),
        DataType::Timestamp(..) => "timestamp".to_owned(),
        DataType::List(of) => format!("array<{}>", kind(of.data_type())),
        other => unreachable!("no column of the archive is {other}"),
    }
}

/// The DDL that makes database and tables by hand, and finds the hours that are there.
#[must_use]
pub fn ddl(database: &str, store: &str) -> String {
    let tables = Dataset::ALL.map(|dataset| HiveTable::of(dataset, store));
    let mut out = format!("CREATE DATABASE IF NOT EXISTS {database};\nUSE {database};\n\n");
    tables.iter().for_each(|table| table.ddl(&mut out));
    // What lies beside the hours (`raw/rejected`) is no partition.
    out.push_str("SET hive.msck.path.validation=skip;\n");
    for table in &tables {
        writeln!(out, "MSCK REPAIR TABLE {};", table.name).expect("text can be written to");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What stands in front of the statements in `docs/hive.sql`.
    const HEAD: &str = "\
-- The archive as tables of Hive or Spark SQL, for those who do not let the workers register it (hive.metastore).
-- Put your store in place of hdfs://namenode:9000. MSCK REPAIR finds the hours that are there; say it again for new ones.
";

    #[test]
    fn the_documented_ddl_is_that_of_the_archive() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/hive.sql");
        let documented = std::fs::read_to_string(path).unwrap_or_default();
        let expected = format!("{HEAD}\n{}", ddl("traffic", "hdfs://namenode:9000"));
        assert_eq!(documented, expected, "docs/hive.sql should be:\n{expected}");
    }

    #[test]
    fn columns_have_the_types_of_their_parquet() {
        let table = HiveTable::of(Dataset::Predictions, "file:///srv");
        let kind = |name: &str| table.columns.iter().find(|c| c.name == name).map(|c| c.kind.as_str());
        for (name, expected) in [
            ("segment_id", "string"),
            ("prediction_timestamp", "timestamp"),
            ("prediction_horizon", "bigint"),
            ("q05", "double"),
            ("features_used", "array<string>"),
            ("partition", "int"),
            ("payload", "binary"),
        ] {
            assert_eq!(kind(name), Some(expected), "{name}");
        }
        assert_eq!(table.location, "file:///srv/traffic-data/processed/predictions");
    }

    #[test]
    fn no_column_has_the_name_of_a_partition_column() {
        for dataset in Dataset::ALL {
            let table = HiveTable::of(dataset, "hdfs://n:1/");
            assert!(table.columns.iter().all(|c| PARTITIONED_BY.iter().all(|(name, _)| c.name != *name)), "{table:?}");
            assert!(table.columns.iter().all(|c| c.name == c.name.to_lowercase()), "Hive knows small letters only");
        }
    }

    #[test]
    fn a_partition_has_the_values_of_its_directory() {
        let hour = Hour::of_ms(1_790_000_000_000 - 5 * 3_600_000);
        assert_eq!(values(hour), ["2026-09-21".to_owned(), "09".to_owned()]);
        let table = HiveTable::of(Dataset::Events, "hdfs://n:1");
        assert_eq!(table.partition_location(hour), "hdfs://n:1/traffic-data/raw/date=2026-09-21/hour=09");
    }
}
