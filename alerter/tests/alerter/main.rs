//! The alerter's machines over synthetic input.

mod properties;
mod rules;
mod runner;
mod support;
