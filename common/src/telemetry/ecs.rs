//! Log lines as JSON objects with the field names of the Elastic Common Schema (ECS 8.11).
//!
//! A field with a dot in its name is taken as an ECS name; `error` becomes `error.message`; every other
//! one, of the event or of the spans around it, goes into the namespace `traffic.`.

use std::fmt::Debug;
use std::io::Write as _;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use crate::clock::Clock;

pub(super) struct EcsLayer<C, W> {
    service: String,
    instance: String,
    clock: C,
    writer: W,
}

impl<C: Clock, W: for<'w> MakeWriter<'w>> EcsLayer<C, W> {
    pub(super) fn new(service: &str, instance: &str, clock: C, writer: W) -> Self {
        Self { service: service.to_owned(), instance: instance.to_owned(), clock, writer }
    }

    /// What is the same for all fields of an event.
    fn line(&self, event: &Event<'_>) -> Fields {
        let metadata = event.metadata();
        let mut fields = Fields::default();
        let time = jiff::Timestamp::from_millisecond(self.clock.now_ms()).unwrap_or_default();
        fields.put("@timestamp", format!("{time:.3}"));
        fields.put("ecs.version", "8.11.0");
        fields.put("log.level", metadata.level().as_str().to_ascii_lowercase());
        fields.put("log.logger", metadata.target());
        fields.put("service.name", self.service.as_str());
        fields.put("service.node.name", self.instance.as_str());
        if let Some(name) = std::thread::current().name() {
            fields.put("process.thread.name", name);
        }
        fields
    }
}

impl<S, C, W> Layer<S> for EcsLayer<C, W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    C: Clock + 'static,
    W: for<'w> MakeWriter<'w> + 'static,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut fields = Fields::default();
            attributes.record(&mut fields);
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut line = self.line(event);
        for span in context.event_scope(event).into_iter().flat_map(|scope| scope.from_root()) {
            if let Some(fields) = span.extensions().get::<Fields>() {
                line.0.extend(fields.0.clone());
            }
        }
        event.record(&mut line);
        let mut text = Value::Object(line.0).to_string();
        text.push('\n');
        // There is nowhere left to report that stderr is gone.
        let _ = self.writer.make_writer().write_all(text.as_bytes());
    }
}

/// Fields under their ECS names.
#[derive(Debug, Default)]
struct Fields(Map<String, Value>);

impl Fields {
    fn put(&mut self, name: &str, value: impl Into<Value>) {
        self.0.insert(name.to_owned(), value.into());
    }

    fn visit(&mut self, field: &Field, value: impl Into<Value>) {
        match field.name() {
            "message" => self.put("message", value),
            "error" => self.put("error.message", value),
            // What a library says through the `log` crate carries its origin in fields.
            "log.target" => self.put("log.logger", value),
            "log.file" => self.put("log.origin.file.name", value),
            "log.line" => self.put("log.origin.file.line", value),
            "log.module_path" => {}
            name if name.contains('.') => self.put(name, value),
            name => self.put(&format!("traffic.{name}"), value),
        }
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.visit(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.visit(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.visit(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.visit(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.visit(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.visit(field, format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;
    use crate::clock::ManualClock;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("no writer panics").write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_has_ecs_names() {
        let lines = Lines::default();
        let writer = lines.clone();
        let layer = EcsLayer::new("aggregator", "node-0", ManualClock::at(1_700_000_000_123), move || writer.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let span = tracing::info_span!("partition", partition = 3_u32, offset = tracing::field::Empty);
            span.record("offset", 41_i64);
            let _entered = span.enter();
            tracing::warn!(error = %"no route", event.duration = 5_u64, attempt = 2_u64, "cannot reach \"{}\"", "kafka");
        });
        let text = String::from_utf8(lines.0.lock().expect("no writer panics").clone()).expect("UTF-8");
        assert!(text.ends_with('\n') && text.lines().count() == 1, "{text}");
        let mut line: Map<String, Value> = serde_json::from_str(&text).expect("JSON");
        assert!(line.remove("process.thread.name").is_some());
        let expected = serde_json::json!({
            "@timestamp": "2023-11-14T22:13:20.123Z",
            "ecs.version": "8.11.0",
            "error.message": "no route",
            "event.duration": 5,
            "log.level": "warn",
            "log.logger": "common::telemetry::ecs::tests",
            "message": "cannot reach \"kafka\"",
            "service.name": "aggregator",
            "service.node.name": "node-0",
            "traffic.attempt": 2,
            "traffic.offset": 41,
            "traffic.partition": 3,
        });
        assert_eq!(Value::Object(line), expected);
    }
}
