//! A producer without transactions: records gather in memory and are stored some thousand at a time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::pending::Pending;
use super::{Shared, now};
use crate::stream::log::{LogError, Outgoing, Producer};

/// Written when this much has gathered …
const BYTES: usize = 4 << 20;
const RECORDS: usize = 16_384;
/// … or with the first record sent this long after the oldest.
const LINGER: Duration = Duration::from_millis(50);

/// What is sent is durable once `flush` has returned; what was not flushed is lost with the producer.
///
/// After an error everything not yet stored is still held: `send` refuses more of it, `flush` tries again.
pub(super) struct SqliteProducer {
    log: Arc<Shared>,
    pending: Pending,
    oldest: Option<Instant>,
}

impl SqliteProducer {
    pub fn new(log: Arc<Shared>) -> Self {
        Self { log, pending: Pending::default(), oldest: None }
    }

    fn due(&self) -> bool {
        self.pending.bytes() >= BYTES
            || self.pending.records() >= RECORDS
            || self.oldest.is_some_and(|oldest| now().duration_since(oldest) >= LINGER)
    }
}

impl Producer for SqliteProducer {
    fn send(&mut self, record: &Outgoing<'_>) -> Result<(), LogError> {
        if self.due() {
            self.flush()?;
        }
        self.pending.push(&self.log, record)?;
        self.oldest.get_or_insert_with(now);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), LogError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        self.log.append(&mut self.pending, None)?;
        self.oldest = None;
        Ok(())
    }
}
