//! Compacts on a schedule, beside the sink, on a thread of its own. Of all instances that one does which owns partition 0;
//! if two believe to, nothing worse happens than that one of them gives up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use jiff::civil::Date;

use super::ArchiveError;
use super::compaction::{Compacted, Compactor, Wish};
use super::layout::Hour;
use super::registrar::Notices;
use super::sink::Sink;
use crate::clock::has_passed;

const LOOK: Duration = Duration::from_millis(100);
const DAY_MS: i64 = 86_400_000;
/// Events that come later than this find their hour compacted and stay beside it, until somebody asks for their day.
const DAYS_BACK: i64 = 3;

/// When to compact, and what is under way.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    last_ms: Option<i64>,
    running: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
}

impl Schedule {
    /// Begins a compaction if one is due; the registrar then looks for hours that are gone.
    pub(super) fn look(&mut self, sink: &Sink, registrar: Option<Notices>) {
        let (config, now_ms) = (&sink.config, sink.clock.now_ms());
        let interval_ms = i64::try_from(config.compact_interval_s * 1000).unwrap_or(i64::MAX);
        let last_ms = *self.last_ms.get_or_insert(now_ms);
        if interval_ms == 0 || !has_passed(interval_ms, last_ms, now_ms) {
            return;
        }
        if self.running.as_ref().is_some_and(|running| !running.is_finished()) {
            return;
        }
        self.last_ms = Some(now_ms);
        let (store, config, clock) = (sink.store.clone(), config.clone(), Arc::clone(&sink.clock));
        let (dataset, topic) = (sink.dataset, sink.topic.clone());
        let (runtime, stop) = (sink.runtime.clone(), Arc::clone(&self.stop));
        let work = move || {
            let compactor = Compactor {
                store: &store,
                config: &config,
                dataset,
                topic: &topic,
                now_ms: &|| clock.now_ms(),
                id: &|| uuid::Uuid::new_v4().simple().to_string(),
            };
            let (wish, mut done) = (wish(&compactor, now_ms), Compacted::default());
            let progress = &mut |_| {};
            let outcome = runtime.block_on(async {
                tokio::select! {
                    biased;
                    () = stopped(&stop) => Ok(()),
                    outcome = compactor.run(&wish, &mut done, progress) => outcome,
                }
            });
            // Hours may be gone, by this compaction or by one that somebody ran by hand.
            if let Some(registrar) = registrar {
                registrar.look();
            }
            report(&topic, &done, outcome);
        };
        match std::thread::Builder::new().name("compactor".to_owned()).spawn(work) {
            Ok(thread) => self.running = Some(thread),
            Err(error) => tracing::warn!(%error, "no thread to compact {} with: {error}", sink.topic),
        }
    }
}

impl Drop for Schedule {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(running) = self.running.take() {
            // A panic in it has been reported by the panic hook.
            let _ = running.join();
        }
    }
}

async fn stopped(stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        tokio::time::sleep(LOOK).await;
    }
}

fn wish(compactor: &Compactor<'_>, now_ms: i64) -> Wish {
    let config = compactor.config;
    let day = |ms: i64| -> Date { Hour::of_ms(ms).date() };
    let days_ms = |days: u64| i64::try_from(days).unwrap_or(i64::MAX).saturating_mul(DAY_MS);
    // What retention removes may be of any day.
    let retain_from_ms = (config.retain_days > 0).then(|| now_ms.saturating_sub(days_ms(config.retain_days)));
    Wish {
        dates: retain_from_ms.is_none().then(|| day(now_ms - DAYS_BACK * DAY_MS)..=day(now_ms)),
        closed_by_ms: now_ms.saturating_sub(i64::try_from(config.compact_after_s * 1000).unwrap_or(i64::MAX)),
        min_files: config.compact_min_files,
        retain_from_ms,
    }
}

fn report(topic: &str, done: &Compacted, outcome: Result<(), ArchiveError>) {
    metrics::counter!("traffic_archive_compacted_files_total", "topic" => topic.to_owned())
        .increment(done.merged_files);
    metrics::counter!("traffic_archive_removed_rows_total", "topic" => topic.to_owned()).increment(done.removed_rows);
    if done.merged_files + done.removed_files > 0 {
        tracing::info!(
            topic,
            merged = done.merged_files,
            written = done.written_files,
            removed = done.removed_files,
            "{topic}: {} files merged into {}, {} removed by retention",
            done.merged_files,
            done.written_files,
            done.removed_files
        );
    }
    match outcome {
        Ok(()) => {}
        Err(ArchiveError::Retry(error)) => tracing::warn!(topic, error, "compaction of {topic}: {error}; later again"),
        Err(ArchiveError::Fatal(error)) => {
            metrics::counter!("traffic_archive_compaction_failures_total", "topic" => topic.to_owned()).increment(1);
            tracing::error!(topic, error, "compaction of {topic}: {error}");
        }
    }
}
