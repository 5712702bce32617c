//! The second machine: the only writer of `traffic-alerts`, and the table of open alerts.
//!
//! Its input has one partition, so one instance is active at a time and sees every transition in one order. Of each
//! rule and segment it keeps the last transition that it wrote. One that was written before is dropped; one that does
//! not follow on the last is written, because it is the newest that is known, and remarked.

use std::collections::BTreeMap;

use common::model::{Alert, Severity};
use common::stream::{Machine, Outbox, Record, Records, Tick};

use crate::codec::{self, Key};
use crate::voice::Counts;

/// Output: alerts, keyed by segment.
pub const ALERTS: usize = 0;

/// Alerts that ended so much earlier (event time) than the newest transition are forgotten; `alert-transitions` keeps
/// its records for less.
const REMEMBERED_MS: i64 = 30 * 86_400_000;

/// The last transition that was written of a rule and a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    pub opened_at_ms: i64,
    pub changed_at_ms: i64,
    pub sequence: u32,
    pub severity: Severity,
    pub open: bool,
}

enum Order {
    Next,
    Written,
    /// It does not follow on the last one.
    Astray,
}

/// The table of alerts and its rules of order.
#[derive(Default)]
pub struct Incidents {
    /// By rule and segment.
    last: BTreeMap<(Box<str>, Box<str>), Kept>,
    newest_ms: i64,
    changed: bool,
    written: u64,
    dropped: u64,
    astray: u64,
    counts: Counts,
}

struct Kept {
    written: Written,
    dirty: bool,
}

impl Incidents {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many alerts are open, by rule and severity.
    #[must_use]
    pub fn open(&self) -> BTreeMap<(&str, Severity), usize> {
        let mut open = BTreeMap::new();
        for ((rule, _), kept) in self.last.iter().filter(|(_, kept)| kept.written.open) {
            *open.entry((&**rule, kept.written.severity)).or_default() += 1;
        }
        open
    }

    /// Transitions written, dropped because they were written before, and written out of order; since the machine
    /// was made.
    #[must_use]
    pub fn totals(&self) -> (u64, u64, u64) {
        (self.written, self.dropped, self.astray)
    }

    /// Invalid transitions, and what is to be said about them.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    fn transition(&mut self, record: &Record<'_>, out: &mut Outbox) {
        let Some(value) = record.value else { return };
        let alert: Alert<'_> = match serde_json::from_slice(value) {
            Ok(alert) => alert,
            Err(error) => {
                self.counts.invalid += 1;
                return self.counts.remark(format!("transition at offset {} left out: {error}", record.offset));
            }
        };
        let place: (Box<str>, Box<str>) = ((*alert.rule).into(), (*alert.segment_id).into());
        match order(self.last.get(&place).map(|kept| &kept.written), &alert) {
            Order::Next => {}
            Order::Written => {
                self.dropped += 1;
                return;
            }
            Order::Astray => {
                self.astray += 1;
                let (id, sequence) = (&alert.alert_id, alert.sequence);
                self.counts.remark(format!("transition {sequence} of {id} does not follow on the last one"));
            }
        }
        out.emit(ALERTS, None, Some(alert.segment_id.as_bytes()), Some(value), &[]);
        out.hurry();
        self.written += 1;
        let written = Written {
            opened_at_ms: alert.opened_at,
            changed_at_ms: alert.timestamp,
            sequence: alert.sequence,
            severity: alert.severity,
            open: alert.status.is_open(),
        };
        self.newest_ms = self.newest_ms.max(alert.timestamp);
        self.last.insert(place, Kept { written, dirty: true });
        self.changed = true;
    }
}

fn order(last: Option<&Written>, alert: &Alert<'_>) -> Order {
    let first = alert.sequence == 1;
    match last {
        None if first => Order::Next,
        Some(last) if alert.opened_at < last.opened_at_ms => Order::Written,
        Some(last) if alert.opened_at == last.opened_at_ms && alert.sequence <= last.sequence => Order::Written,
        Some(last) if alert.opened_at == last.opened_at_ms && alert.sequence == last.sequence + 1 && last.open => {
            Order::Next
        }
        Some(last) if alert.opened_at > last.opened_at_ms && first && !last.open => Order::Next,
        Some(_) | None => Order::Astray,
    }
}

impl Machine for Incidents {
    fn assign(&mut self, partition: u32, _partitions: u32) {
        self.release(partition);
    }

    fn restore(&mut self, _partition: u32, key: &[u8], value: Option<&[u8]>) {
        let Some(Key::Incident { rule, segment }) = Key::decode(key) else { return };
        let place = (rule.into(), segment.into());
        match value.and_then(codec::decode_written) {
            Some(written) => {
                self.newest_ms = self.newest_ms.max(written.changed_at_ms);
                self.last.insert(place, Kept { written, dirty: false });
            }
            None => drop(self.last.remove(&place)),
        }
    }

    fn records(&mut self, records: &Records<'_>, _now_ms: i64, out: &mut Outbox) {
        for record in records.iter() {
            self.transition(&record, out);
        }
    }

    fn tick(&mut self, _partition: u32, _tick: Tick, _out: &mut Outbox) {}

    fn flush(&mut self, partition: u32, _now_ms: i64, out: &mut Outbox) {
        if !std::mem::take(&mut self.changed) {
            return;
        }
        let (mut key, mut value) = (Vec::new(), Vec::new());
        let newest_ms = self.newest_ms;
        self.last.retain(|(rule, segment), kept| {
            let Written { open, changed_at_ms, .. } = kept.written;
            let keep = open || newest_ms - changed_at_ms < REMEMBERED_MS;
            if kept.dirty || !keep {
                Key::Incident { rule, segment }.encode(&mut key);
            }
            if !keep {
                out.delete(partition, &key);
            } else if std::mem::take(&mut kept.dirty) {
                codec::encode_written(&kept.written, &mut value);
                out.put(partition, &key, &value);
            }
            keep
        });
    }

    fn release(&mut self, _partition: u32) {
        self.last.clear();
        self.newest_ms = 0;
        self.changed = false;
    }
}
