//! The archive's tables, a row type each.
//!
//! Every table is a complete copy of its records. A rejected record keeps its bytes. An accepted one keeps
//! its typed columns, and its bytes only where the columns do not say everything: `payload` is null for the
//! bulk of most archives.

mod aggregate;
mod event;
mod prediction;
mod rejected;

pub(super) use aggregate::AggregateRow;
pub(super) use event::EventRow;
pub(super) use prediction::PredictionRow;
pub(super) use rejected::RejectedRow;

/// The name that a value has in JSON.
fn word(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        other => unreachable!("a name is a string: {other:?}"),
    }
}
