//! The metastore's calls. A connection that has failed once is not used again.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use hive_metastore::{
    AddPartitionsRequest, Database, EnvironmentContext, FieldSchema, GetTableRequest, Partition, SerDeInfo,
    StorageDescriptor, Table, ThriftHiveMetastoreAlterTableWithEnvironmentContextException as AlterException,
    ThriftHiveMetastoreClient, ThriftHiveMetastoreClientBuilder,
    ThriftHiveMetastoreCreateDatabaseException as DatabaseException,
    ThriftHiveMetastoreCreateTableException as TableException,
    ThriftHiveMetastoreDropPartitionByNameException as DropException,
    ThriftHiveMetastoreGetTableReqException as GetException,
};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use volo_thrift::codec::default::DefaultMakeCodec;
use volo_thrift::{ClientError, MaybeException};

use super::table::{HiveColumn, HiveTable, INPUT_FORMAT, OUTPUT_FORMAT, PARTITIONED_BY, SERDE, values};
use super::{Catalogue, HiveError};
use crate::archive::layout::Hour;

const CONNECT: Duration = Duration::from_secs(5);
/// For one call.
const CALL: Duration = Duration::from_secs(30);
/// Partitions added by one call: a second's work for the metastore.
const AT_ONCE: usize = 200;
/// Owner of what is made.
const OWNER: &str = "traffic";

/// A connection to the metastore.
pub struct Metastore {
    client: ThriftHiveMetastoreClient,
    catalogue: Catalogue,
}

/// How a table that is there differs from what the archive has.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Unmatched {
    /// It lacks these.
    Lacks(Vec<HiveColumn>),
    /// It cannot be used, and why.
    Clash(String),
}

impl Metastore {
    /// Connects.
    ///
    /// # Errors
    /// `Retry` if nobody answers.
    pub async fn connect(catalogue: &Catalogue) -> Result<Self, HiveError> {
        let address = reach(&catalogue.address).await?;
        let client = ThriftHiveMetastoreClientBuilder::new("hive-metastore")
            .address(address)
            .make_codec(DefaultMakeCodec::buffered())
            .rpc_timeout(Some(CALL))
            .connect_timeout(Some(CONNECT))
            .read_write_timeout(Some(CALL))
            .build();
        Ok(Self { client, catalogue: catalogue.clone() })
    }

    /// Whether there is such a table; adds the columns that it lacks.
    ///
    /// # Errors
    /// `Refused` if there is a table of that name that cannot be this one.
    pub async fn find(&self, table: &HiveTable) -> Result<bool, HiveError> {
        match self.table(table).await? {
            Some(found) => self.match_columns(table, found).await.map(|()| true),
            None => Ok(false),
        }
    }

    /// Makes database and table unless they are there; adds the columns that the table lacks.
    ///
    /// # Errors
    /// As [`Metastore::find`].
    pub async fn ensure(&self, table: &HiveTable) -> Result<(), HiveError> {
        if self.find(table).await? {
            return Ok(());
        }
        self.create_database().await?;
        match self.call("create_table", self.client.create_table(self.described(table))).await? {
            MaybeException::Ok(()) => {
                let name = self.name(table);
                tracing::info!(table = name, "made the table {name} in the Hive metastore, at {}", table.location);
                Ok(())
            }
            // Another instance was faster.
            MaybeException::Exception(TableException::O1(_)) => match self.find(table).await? {
                true => Ok(()),
                false => Err(HiveError::Retry(format!("{}: there, and not there", self.name(table)))),
            },
            MaybeException::Exception(error) => Err(self.failed("create_table", &error)),
        }
    }

    /// The names of the table's partitions: `date=2026-09-21/hour=14`.
    ///
    /// # Errors
    /// `Retry` if it does not answer.
    pub async fn partitions(&self, table: &HiveTable) -> Result<BTreeSet<String>, HiveError> {
        let (database, name) = (self.catalogue.database.clone().into(), table.name.into());
        match self.call("get_partition_names", self.client.get_partition_names(database, name, -1)).await? {
            MaybeException::Ok(names) => Ok(names.iter().map(ToString::to_string).collect()),
            MaybeException::Exception(error) => Err(self.failed("get_partition_names", &error)),
        }
    }

    /// Adds these hours; those that are there stay as they are.
    ///
    /// # Errors
    /// `Retry` if it does not answer or has no such table.
    pub async fn add(&self, table: &HiveTable, hours: &[Hour]) -> Result<(), HiveError> {
        for hours in hours.chunks(AT_ONCE) {
            let request = AddPartitionsRequest {
                db_name: self.catalogue.database.clone().into(),
                tbl_name: table.name.into(),
                parts: hours.iter().map(|hour| self.partition(table, *hour)).collect(),
                if_not_exists: true,
                need_result: Some(false),
                cat_name: None,
            };
            match self.call("add_partitions_req", self.client.add_partitions_req(request)).await? {
                MaybeException::Ok(_) => {}
                MaybeException::Exception(error) => return Err(self.failed("add_partitions_req", &error)),
            }
        }
        Ok(())
    }

    /// Removes an hour from the table; its directory stays untouched.
    ///
    /// # Errors
    /// `Retry` if it does not answer.
    pub async fn drop_hour(&self, table: &HiveTable, hour: Hour) -> Result<(), HiveError> {
        let (database, name) = (self.catalogue.database.clone().into(), table.name.into());
        let dropping = self.client.drop_partition_by_name(database, name, hour.dir().into(), false);
        match self.call("drop_partition_by_name", dropping).await? {
            // Another instance may have been faster.
            MaybeException::Ok(_) | MaybeException::Exception(DropException::O1(_)) => Ok(()),
            MaybeException::Exception(error) => Err(self.failed("drop_partition_by_name", &error)),
        }
    }

    async fn create_database(&self) -> Result<(), HiveError> {
        let database = Database {
            name: Some(self.catalogue.database.clone().into()),
            description: Some("The archive of traffic".into()),
            owner_name: Some(OWNER.into()),
            ..Database::default()
        };
        match self.call("create_database", self.client.create_database(database)).await? {
            MaybeException::Ok(()) | MaybeException::Exception(DatabaseException::O1(_)) => Ok(()),
            MaybeException::Exception(error) => Err(self.failed("create_database", &error)),
        }
    }

    async fn table(&self, table: &HiveTable) -> Result<Option<Table>, HiveError> {
        let request = GetTableRequest {
            db_name: self.catalogue.database.clone().into(),
            tbl_name: table.name.into(),
            capabilities: None,
        };
        match self.call("get_table_req", self.client.get_table_req(request)).await? {
            MaybeException::Ok(found) => Ok(Some(found.table)),
            MaybeException::Exception(GetException::O2(_)) => Ok(None),
            MaybeException::Exception(error) => Err(self.failed("get_table_req", &error)),
        }
    }

    async fn match_columns(&self, table: &HiveTable, mut found: Table) -> Result<(), HiveError> {
        let name = self.name(table);
        let lacking = match unmatched(table, &found) {
            None => return Ok(()),
            Some(Unmatched::Clash(why)) => {
                return Err(HiveError::Refused(format!(
                    "the table {name} is there, but {why}; drop or rename it (it is external: its files stay), or set \
                     hive.database to another name"
                )));
            }
            Some(Unmatched::Lacks(lacking)) => lacking,
        };
        let names: Vec<&str> = lacking.iter().map(|column| column.name.as_str()).collect();
        tracing::info!(table = name, columns = ?names, "{name} in the Hive metastore gets new columns: {names:?}");
        let descriptor = found.sd.get_or_insert_default();
        descriptor.cols.get_or_insert_default().extend(lacking.iter().map(field));
        let (database, table) = (self.catalogue.database.clone().into(), table.name.into());
        // Hours that are there get the columns too: late events may still add files to them.
        let cascade =
            EnvironmentContext { properties: Some([("CASCADE".into(), "true".into())].into_iter().collect()) };
        let altering = self.client.alter_table_with_environment_context(database, table, found, cascade);
        match self.call("alter_table", altering).await? {
            MaybeException::Ok(()) => Ok(()),
            MaybeException::Exception(AlterException::O1(error)) => {
                Err(HiveError::Refused(format!("{name}: {error:?}")))
            }
            MaybeException::Exception(error) => Err(self.failed("alter_table", &error)),
        }
    }

    fn name(&self, table: &HiveTable) -> String {
        format!("{}.{}", self.catalogue.database, table.name)
    }

    fn described(&self, table: &HiveTable) -> Table {
        // Dropping the table must never take the archive with it.
        let parameters = [("EXTERNAL", "TRUE"), ("external.table.purge", "FALSE"), ("comment", table.comment)];
        Table {
            table_name: Some(table.name.into()),
            db_name: Some(self.catalogue.database.clone().into()),
            owner: Some(OWNER.into()),
            sd: Some(descriptor(table, table.location.clone())),
            partition_keys: Some(
                PARTITIONED_BY
                    .map(|(name, kind)| field(&HiveColumn { name: name.to_owned(), kind: kind.to_owned() }))
                    .to_vec(),
            ),
            parameters: Some(parameters.into_iter().map(|(name, value)| (name.into(), value.into())).collect()),
            table_type: Some("EXTERNAL_TABLE".into()),
            ..Table::default()
        }
    }

    fn partition(&self, table: &HiveTable, hour: Hour) -> Partition {
        Partition {
            values: Some(values(hour).map(Into::into).to_vec()),
            db_name: Some(self.catalogue.database.clone().into()),
            table_name: Some(table.name.into()),
            sd: Some(descriptor(table, table.partition_location(hour))),
            ..Partition::default()
        }
    }

    async fn call<T>(&self, what: &str, call: impl Future<Output = Result<T, ClientError>>) -> Result<T, HiveError> {
        let address = &self.catalogue.address;
        match timeout(CALL, call).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(HiveError::Retry(format!("{address}, {what}: {error}"))),
            Err(_) => Err(HiveError::Retry(format!("{address}, {what}: no answer within {} s", CALL.as_secs()))),
        }
    }

    fn failed(&self, what: &str, error: &dyn Debug) -> HiveError {
        HiveError::Retry(format!("{}, {what}: {error:?}", self.catalogue.address))
    }
}

/// The first of the host's addresses that somebody listens on.
async fn reach(address: &str) -> Result<SocketAddr, HiveError> {
    let nobody = |why: &dyn std::fmt::Display| HiveError::Retry(format!("{address}: {why}"));
    let found = timeout(CONNECT, lookup_host(address)).await;
    let found = found.map_err(|_| nobody(&"its name was not looked up in time"))?.map_err(|error| nobody(&error))?;
    let mut last = nobody(&"the name has no address");
    for address in found {
        match timeout(CONNECT, TcpStream::connect(address)).await {
            Ok(Ok(_)) => return Ok(address),
            Ok(Err(error)) => last = nobody(&error),
            Err(_) => last = nobody(&format_args!("no connection within {} s", CONNECT.as_secs())),
        }
    }
    Err(last)
}

fn field(column: &HiveColumn) -> FieldSchema {
    FieldSchema { name: Some(column.name.clone().into()), r#type: Some(column.kind.clone().into()), comment: None }
}

fn descriptor(table: &HiveTable, location: String) -> StorageDescriptor {
    StorageDescriptor {
        cols: Some(table.columns.iter().map(field).collect()),
        location: Some(location.into()),
        input_format: Some(INPUT_FORMAT.into()),
        output_format: Some(OUTPUT_FORMAT.into()),
        compressed: Some(false),
        num_buckets: Some(-1),
        serde_info: Some(SerDeInfo {
            name: None,
            serialization_lib: Some(SERDE.into()),
            parameters: Some([("serialization.format".into(), "1".into())].into_iter().collect()),
        }),
        bucket_cols: Some(Vec::new()),
        sort_cols: Some(Vec::new()),
        parameters: Some(std::iter::empty().collect()),
        ..StorageDescriptor::default()
    }
}

/// What a table that was found has against being ours.
fn unmatched(table: &HiveTable, found: &Table) -> Option<Unmatched> {
    let there = |fields: Option<&Vec<FieldSchema>>| -> Vec<(String, String)> {
        let text = |text: Option<&str>| text.unwrap_or_default().to_ascii_lowercase();
        let fields = fields.into_iter().flatten();
        fields.map(|f| (text(f.name.as_deref()), text(f.r#type.as_deref()))).collect()
    };
    let partitioned_by = there(found.partition_keys.as_ref());
    let expected = PARTITIONED_BY.map(|(name, kind)| (name.to_owned(), kind.to_owned()));
    if partitioned_by != expected {
        return Some(Unmatched::Clash(format!("is partitioned by {partitioned_by:?}, not {expected:?}")));
    }
    let descriptor = found.sd.as_ref();
    let location = descriptor.and_then(|d| d.location.as_deref()).unwrap_or_default();
    if plain(location) != plain(&table.location) {
        return Some(Unmatched::Clash(format!("lies at {location}, and the archive at {}", table.location)));
    }
    let format = descriptor.and_then(|d| d.input_format.as_deref()).unwrap_or_default();
    if format != INPUT_FORMAT {
        return Some(Unmatched::Clash(format!("its format is {format:?}, not Parquet")));
    }
    let columns = there(descriptor.and_then(|d| d.cols.as_ref()));
    let mut lacking = Vec::new();
    for column in &table.columns {
        match columns.iter().find(|(name, _)| *name == column.name) {
            None => lacking.push(column.clone()),
            Some((_, kind)) if *kind == column.kind => {}
            Some((name, kind)) => {
                return Some(Unmatched::Clash(format!(
                    "its column {name} is {kind}, and the archive's {}",
                    column.kind
                )));
            }
        }
    }
    (!lacking.is_empty()).then_some(Unmatched::Lacks(lacking))
}

/// A location without what metastores write in more than one way.
fn plain(location: &str) -> String {
    let location = location.trim_end_matches('/');
    location.strip_prefix("file:").map_or(location.to_owned(), |path| format!("file:/{}", path.trim_start_matches('/')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::Dataset;

    fn table() -> HiveTable {
        HiveTable::of(Dataset::Events, "file:///srv")
    }

    fn found() -> Table {
        let catalogue = Catalogue { address: "a:1".to_owned(), database: "traffic".to_owned(), store: String::new() };
        let keys =
            PARTITIONED_BY.map(|(name, kind)| field(&HiveColumn { name: name.to_owned(), kind: kind.to_owned() }));
        Table {
            db_name: Some(catalogue.database.into()),
            sd: Some(descriptor(&table(), table().location)),
            partition_keys: Some(keys.to_vec()),
            ..Table::default()
        }
    }

    fn columns(found: &mut Table) -> &mut Vec<FieldSchema> {
        found.sd.get_or_insert_default().cols.get_or_insert_default()
    }

    fn clash(found: &Table) -> String {
        match unmatched(&table(), found) {
            Some(Unmatched::Clash(why)) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_table_may_have_more_columns_in_any_order_but_not_other_types() {
        let mut there = found();
        assert_eq!(unmatched(&table(), &there), None);
        columns(&mut there).reverse();
        columns(&mut there).push(field(&HiveColumn { name: "note".to_owned(), kind: "string".to_owned() }));
        assert_eq!(unmatched(&table(), &there), None);
        columns(&mut there).retain(|column| column.name.as_deref() != Some("speed_kmh"));
        let lacks = vec![HiveColumn { name: "speed_kmh".to_owned(), kind: "double".to_owned() }];
        assert_eq!(unmatched(&table(), &there), Some(Unmatched::Lacks(lacks)));
        columns(&mut there)[1].r#type = Some("decimal(10,2)".into());
        assert!(clash(&there).contains("is decimal(10,2), and the archive's"), "{}", clash(&there));
    }

    #[test]
    fn a_table_of_another_place_or_kind_is_none_of_ours() {
        let mut there = found();
        there.sd.get_or_insert_default().location = Some("file:/srv/traffic-data/raw/".into());
        assert_eq!(unmatched(&table(), &there), None);
        there.sd.get_or_insert_default().location = Some("hdfs://other:9000/traffic-data/raw".into());
        assert!(clash(&there).contains("lies at hdfs://other:9000/traffic-data/raw"), "{}", clash(&there));
        let mut there = found();
        there.sd.get_or_insert_default().input_format = Some("org.apache.hadoop.mapred.TextInputFormat".into());
        assert!(clash(&there).contains("not Parquet"));
        let mut there = found();
        there.partition_keys.get_or_insert_default().pop();
        assert!(clash(&there).contains("partitioned by"));
    }
}
