//! The alerter: rules over forecasts and aggregates, and the alerts that come of them.
//!
//! Two machines in a row. [`Rules`], partitioned by segment, decides every transition and writes it to
//! `alert-transitions`; [`Incidents`], of which one instance is active, is the only writer of `traffic-alerts`.
//! Each rule reads one topic and its time is that topic's, so what comes of it does not depend on how topics
//! interleave, nor on wall time. A transition's `(alert_id, sequence)` occurs once.
//!
//! | file | owns |
//! |---|---|
//! | `rules.rs` | [`Rules`], the first machine: one [`partition::Partition`] per assigned partition |
//! | `partition.rs` | what happens to a record: to the rules that read it, or a command followed |
//! | `congestion.rs`, `silent.rs` | the two kinds of rule |
//! | `episode.rs` | the state machine of one rule and segment |
//! | `table.rs` | a rule's time and episodes, and which of them changed |
//! | `silences.rs` | which alerts may not open when |
//! | `input.rs` | the fields that are read of forecasts and aggregates |
//! | `voice.rs` | transitions as messages; counts |
//! | `incidents.rs` | [`Incidents`], the second machine |
//! | `codec.rs` | changelog entries |
//! | `settings.rs` | the rules as they are set |
//! | `worker.rs` | the process around the machines |

mod codec;
mod congestion;
mod episode;
mod incidents;
mod input;
mod partition;
mod rules;
mod settings;
mod silences;
mod silent;
mod table;
mod voice;
mod worker;

pub use incidents::{ALERTS, Incidents};
pub use rules::{AGGREGATES, COMMANDS, PREDICTIONS, Rules};
pub use settings::{Kind, PredictedCongestion, Rule, SensorSilent, Settings};
pub use voice::{Counts, TRANSITIONS};
pub use worker::{APPLICATION, enlist, incidents_id, incidents_topology, rules_topology, run};
