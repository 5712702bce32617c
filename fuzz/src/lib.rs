//! The parser of events, compiled from `common`'s own sources without the rest of `common`.

#[path = "../../common/src/model/canonical.rs"]
mod canonical;
#[path = "../../common/src/model/dialect.rs"]
mod dialect;
#[path = "../../common/src/model/event.rs"]
pub mod event;
#[path = "../../common/src/model/fields.rs"]
mod fields;
#[path = "../../common/src/model/properties.rs"]
pub mod properties;
#[path = "../../common/src/model/time.rs"]
mod time;
