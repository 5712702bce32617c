//! Which version forecasts, as a metric.

/// Sets `traffic_model_info{version}` to 1 for `version`, and to 0 for the one that forecast before.
pub fn in_use(before: Option<&str>, version: &str) {
    if let Some(before) = before {
        metrics::gauge!("traffic_model_info", "version" => before.to_owned()).set(0.0);
    }
    metrics::gauge!("traffic_model_info", "version" => version.to_owned()).set(1.0);
}
