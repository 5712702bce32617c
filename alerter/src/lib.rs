//! Rules over forecasts and aggregates; alerts and their transitions.
