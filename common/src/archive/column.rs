//! Columns: one list per table says name, type, encoding and value of each, so that these cannot disagree.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, Float64Builder, Int32Array, Int64Builder, ListBuilder, RecordBatch, StringBuilder,
    TimestampMillisecondBuilder, new_null_array,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use parquet::basic::Encoding;
use parquet::file::properties::WriterPropertiesBuilder;
use parquet::schema::types::ColumnPath;

use super::layout::Place;
use super::rows::{Row, Text};

/// A dictionary that outgrows this has no repetition worth it: the column goes on split byte by byte.
const NUMBER_DICTIONARY_BYTES: usize = 64 << 10;

/// What a table looks like from outside.
pub(super) struct Form {
    pub(super) schema: SchemaRef,
    /// The columns that its row groups are sorted by.
    pub(super) sorted_by: &'static [&'static str],
    codings: Vec<(&'static str, Coding)>,
}

impl Form {
    /// Sets how each column is encoded.
    pub(super) fn encode(&self, properties: WriterPropertiesBuilder) -> WriterPropertiesBuilder {
        self.codings
            .iter()
            .fold(properties, |properties, (name, coding)| coding.set(properties, ColumnPath::from(*name)))
    }
}

/// A table's columns, in order, with what they hold of a row.
pub(super) struct Columns<R: 'static> {
    pub(super) form: Form,
    values: Vec<Values<R>>,
}

impl<R: Row> Columns<R> {
    pub(super) fn new(sorted_by: &'static [&'static str], columns: impl IntoIterator<Item = Column<R>>) -> Self {
        let columns: Vec<Column<R>> = columns.into_iter().collect();
        let fields = columns.iter().map(|c| Field::new(c.name, c.values.data_type(), c.nullable));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let codings = columns.iter().map(|c| (c.name, c.values.coding())).collect();
        Self {
            form: Form { schema, sorted_by, codings },
            values: columns.into_iter().map(|column| column.values).collect(),
        }
    }

    pub(super) fn arrays(&self, rows: &[R], text: &Text, place: &Place) -> Vec<ArrayRef> {
        self.values.iter().map(|values| values.array(rows, text, place)).collect()
    }
}

/// A column of a row type.
pub(super) struct Column<R: 'static> {
    name: &'static str,
    nullable: bool,
    values: Values<R>,
}

impl<R> Column<R> {
    /// A column without nulls.
    pub(super) fn new(name: &'static str, values: Values<R>) -> Self {
        Self { name, nullable: false, values }
    }

    /// A column that may have nulls.
    pub(super) fn optional(name: &'static str, values: Values<R>) -> Self {
        Self { name, nullable: true, values }
    }
}

type Get<R, T> = for<'a> fn(&'a R, &'a Text) -> Option<T>;
type GetText<R> = for<'a> fn(&'a R, &'a Text) -> Option<&'a str>;
type GetBytes<R> = for<'a> fn(&'a R, &'a Text) -> Option<&'a [u8]>;

/// What a column holds of a row: its type, and by how its values recur its encoding.
pub(super) enum Values<R: 'static> {
    /// Text that recurs.
    Word(GetText<R>),
    /// Text that does not, but begins like the row's before.
    Id(GetText<R>),
    /// A list of words, separated by commas.
    Words(GetText<R>),
    /// Short bytes that recur.
    Key(GetBytes<R>),
    /// Bytes that do not.
    Payload(GetBytes<R>),
    /// UTC, epoch ms.
    Instant(Get<R, i64>),
    Integer(Get<R, i64>),
    /// An integer a little above the row's before.
    Counter(Get<R, i64>),
    Number(Get<R, f64>),
    /// The place of a quantile in the row's, 0 and up.
    Quantile(usize, for<'a> fn(&'a R) -> &'a [f64]),
    Topic,
    Partition,
}

/// How a column is encoded.
enum Coding {
    /// By a dictionary, as long as that is shorter.
    Dictionary,
    /// By a small dictionary, else split byte by byte.
    Split,
    /// Nearly every value is new: a dictionary would only be in the way.
    Plainly(Encoding),
}

impl Coding {
    fn set(&self, properties: WriterPropertiesBuilder, column: ColumnPath) -> WriterPropertiesBuilder {
        match self {
            Self::Dictionary => properties,
            Self::Split => properties
                .set_column_dictionary_page_size_limit(column.clone(), NUMBER_DICTIONARY_BYTES)
                .set_column_encoding(column, Encoding::BYTE_STREAM_SPLIT),
            Self::Plainly(encoding) => {
                properties.set_column_dictionary_enabled(column.clone(), false).set_column_encoding(column, *encoding)
            }
        }
    }
}

impl<R: Row> Values<R> {
    fn data_type(&self) -> DataType {
        match self {
            Self::Word(_) | Self::Id(_) | Self::Topic => DataType::Utf8,
            Self::Words(_) => DataType::new_list(DataType::Utf8, true),
            Self::Key(_) | Self::Payload(_) => DataType::Binary,
            Self::Instant(_) => DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())),
            Self::Integer(_) | Self::Counter(_) => DataType::Int64,
            Self::Number(_) | Self::Quantile(..) => DataType::Float64,
            Self::Partition => DataType::Int32,
        }
    }

    fn coding(&self) -> Coding {
        match self {
            Self::Id(_) => Coding::Plainly(Encoding::DELTA_BYTE_ARRAY),
            Self::Payload(_) => Coding::Plainly(Encoding::DELTA_LENGTH_BYTE_ARRAY),
            Self::Instant(_) | Self::Counter(_) => Coding::Plainly(Encoding::DELTA_BINARY_PACKED),
            Self::Number(_) | Self::Quantile(..) => Coding::Split,
            Self::Word(_) | Self::Words(_) | Self::Key(_) | Self::Integer(_) | Self::Topic | Self::Partition => {
                Coding::Dictionary
            }
        }
    }

    fn array(&self, rows: &[R], text: &Text, place: &Place) -> ArrayRef {
        match self {
            Self::Word(get) | Self::Id(get) => strings(rows.iter().map(|row| get(row, text))),
            Self::Topic => strings(rows.iter().map(|_| Some(place.topic.as_str()))),
            Self::Words(get) => lists(rows.iter().map(|row| get(row, text))),
            Self::Key(get) | Self::Payload(get) => {
                let mut array = BinaryBuilder::new();
                rows.iter().for_each(|row| array.append_option(get(row, text)));
                Arc::new(array.finish())
            }
            Self::Instant(get) => {
                let mut array = TimestampMillisecondBuilder::with_capacity(rows.len());
                rows.iter().for_each(|row| array.append_option(get(row, text)));
                Arc::new(array.finish().with_timezone("UTC"))
            }
            Self::Integer(get) | Self::Counter(get) => {
                let mut array = Int64Builder::with_capacity(rows.len());
                rows.iter().for_each(|row| array.append_option(get(row, text)));
                Arc::new(array.finish())
            }
            Self::Number(get) => numbers(rows.iter().map(|row| get(row, text))),
            Self::Quantile(at, get) => numbers(rows.iter().map(|row| get(row).get(*at).copied())),
            Self::Partition => {
                let partition = i32::try_from(place.partition).expect("partition numbers are Java ints");
                Arc::new(Int32Array::from(vec![partition; rows.len()]))
            }
        }
    }
}

fn strings<'a>(values: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
    let mut array = StringBuilder::new();
    values.for_each(|value| array.append_option(value));
    Arc::new(array.finish())
}

fn lists<'a>(values: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
    let mut array = ListBuilder::new(StringBuilder::new());
    for words in values {
        let words = words.filter(|words| !words.is_empty());
        words.iter().flat_map(|words| words.split(',')).for_each(|word| array.values().append_value(word));
        array.append(true);
    }
    Arc::new(array.finish())
}

fn numbers(values: impl ExactSizeIterator<Item = Option<f64>>) -> ArrayRef {
    let mut array = Float64Builder::with_capacity(values.len());
    values.for_each(|value| array.append_option(value));
    Arc::new(array.finish())
}

/// The same rows with these columns; one that is missing is null.
pub(super) fn conform(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, String> {
    let columns = schema.fields().iter().map(|field| match batch.column_by_name(field.name()) {
        Some(column) if column.data_type() == field.data_type() => Ok(Arc::clone(column)),
        Some(column) => Err(format!("{} is {}, not {}", field.name(), column.data_type(), field.data_type())),
        None if field.is_nullable() => Ok(new_null_array(field.data_type(), batch.num_rows())),
        None => Err(format!("{} is missing", field.name())),
    });
    let columns = columns.collect::<Result<Vec<ArrayRef>, String>>()?;
    RecordBatch::try_new(Arc::clone(schema), columns).map_err(|error| error.to_string())
}
