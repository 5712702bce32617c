//! Logs to stderr and metrics for Prometheus: set up once, before anything else runs.
//!
//! Standard output stays free for what a command prints.

mod ecs;

use std::io::IsTerminal as _;
use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

use crate::clock::SystemClock;
use crate::config::{LogFormat, TelemetrySettings};
use ecs::EcsLayer;

/// Upper bounds of the buckets of a histogram whose name ends in `_seconds`: 1 ms to 60 s.
const SECONDS: [f64; 14] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0];
/// The same for `_bytes`: 1 KiB to 256 MiB.
const BYTES: [f64; 10] =
    [1024.0, 4096.0, 16384.0, 65536.0, 262_144.0, 1_048_576.0, 4_194_304.0, 16_777_216.0, 67_108_864.0, 268_435_456.0];

/// How often what histograms have gathered is folded, so that memory is bounded when nobody scrapes.
const UPKEEP: Duration = Duration::from_secs(5);

/// Why logs and metrics cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error("telemetry.level: {0}")]
    Level(#[from] tracing_subscriber::filter::ParseError),
    #[error("logs are already set up in this process: {0}")]
    Logs(#[from] tracing_subscriber::util::TryInitError),
    #[error("cannot set up metrics: {0}")]
    Metrics(#[from] metrics_exporter_prometheus::BuildError),
    #[error("cannot start the thread that keeps metrics small: {0}")]
    Thread(#[from] std::io::Error),
}

/// The process's metrics, to be rendered.
#[derive(Clone)]
pub struct Metrics(PrometheusHandle);

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    /// All metrics in Prometheus' text format.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = self.0.render();
        if let Some(bytes) = resident_memory_bytes() {
            text.push_str("# TYPE process_resident_memory_bytes gauge\n");
            text.push_str(&format!("process_resident_memory_bytes {bytes}\n"));
        }
        text
    }

    /// Metrics of nothing: for tests of what renders them.
    #[must_use]
    pub fn detached() -> Self {
        Self(PrometheusBuilder::new().build_recorder().handle())
    }
}

/// Sets up logs and metrics of the whole process, of `service`'s instance `instance`.
///
/// # Errors
/// If they are set up already, or the settings were not validated.
pub fn init(service: &str, instance: &str, settings: &TelemetrySettings) -> Result<Metrics, TelemetryError> {
    let json = match settings.format {
        LogFormat::Json => true,
        LogFormat::Pretty => false,
        LogFormat::Auto => !std::io::stderr().is_terminal(),
    };
    let layer = if json {
        EcsLayer::new(service, instance, SystemClock, std::io::stderr).boxed()
    } else {
        let ansi = std::io::stderr().is_terminal();
        tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(ansi).boxed()
    };
    tracing_subscriber::registry().with(layer.with_filter(EnvFilter::try_new(&settings.level)?)).try_init()?;
    std::panic::set_hook(Box::new(log_panic));
    install_metrics(service)
}

fn install_metrics(service: &str) -> Result<Metrics, TelemetryError> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?
        .set_buckets_for_metric(Matcher::Suffix("_bytes".to_owned()), &BYTES)?
        .install_recorder()?;
    let info =
        metrics::gauge!("traffic_build_info", "service" => service.to_owned(), "version" => env!("CARGO_PKG_VERSION"));
    info.set(1.0);
    let upkeep = handle.clone();
    std::thread::Builder::new().name("metrics-upkeep".to_owned()).spawn(move || {
        loop {
            std::thread::sleep(UPKEEP);
            upkeep.run_upkeep();
        }
    })?;
    Ok(Metrics(handle))
}

/// A panic as a log line like all others, with the place where it happened.
fn log_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let location = panic.location().map(ToString::to_string).unwrap_or_default();
    let message = panic.payload_as_str().unwrap_or("(no message)");
    // `traffic … | head`: whoever read has seen enough, which is no error.
    if message.starts_with("failed printing to stdout") && message.contains("Broken pipe") {
        std::process::exit(0);
    }
    let backtrace = std::backtrace::Backtrace::capture();
    tracing::error!(error.stack_trace = %backtrace, "panicked at {location}: {message}");
}

/// Linux only.
fn resident_memory_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rendered_metrics_name_the_resident_memory() {
        let text = Metrics::detached().render();
        let value = text.lines().find_map(|line| line.strip_prefix("process_resident_memory_bytes "));
        let bytes: u64 = value.and_then(|v| v.parse().ok()).expect("a number");
        assert!(bytes > 1_000_000, "{bytes}");
    }
}
