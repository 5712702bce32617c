//! Speed forecasts with intervals.
