//! What a worker says about itself over HTTP: `/health/live`, `/health/ready`, `/metrics`, on a port
//! of its own.
//!
//! Live: the process answers. Ready: every component that registered has reported that it works, and
//! nobody has asked the process to stop.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;

use crate::shutdown::Shutdown;
use crate::telemetry::Metrics;

/// The components of a process and whether they work. Cheap to clone, usable from any thread.
#[derive(Debug, Clone, Default)]
pub struct Health {
    components: Arc<Mutex<Vec<Component>>>,
}

/// One part that a process needs in order to work, such as `kafka`.
#[derive(Debug, Clone)]
pub struct Component {
    name: Arc<str>,
    /// Why it does not work; `None` while it does.
    not_ready: Arc<Mutex<Option<String>>>,
}

impl Health {
    /// The component of that name; a new one is not ready, "starting".
    #[must_use]
    pub fn component(&self, name: &str) -> Component {
        let mut components = lock(&self.components);
        if let Some(known) = components.iter().find(|c| &*c.name == name) {
            return known.clone();
        }
        let not_ready = Arc::new(Mutex::new(Some("starting".to_owned())));
        let component = Component { name: name.into(), not_ready };
        components.push(component.clone());
        component
    }

    /// The components that do not work, with the reason, in the order of their registration.
    #[must_use]
    pub fn not_ready(&self) -> Vec<(String, String)> {
        let components = lock(&self.components);
        components.iter().filter_map(|c| Some((c.name.to_string(), lock(&c.not_ready).clone()?))).collect()
    }
}

impl Component {
    /// It works.
    pub fn ready(&self) {
        *lock(&self.not_ready) = None;
    }

    /// It does not work, and why.
    pub fn not_ready(&self, reason: impl Into<String>) {
        *lock(&self.not_ready) = Some(reason.into());
    }
}

/// A panic elsewhere does not make these values any less true.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why health checks cannot be answered.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot listen on {address} for health checks and metrics: {source}; set http.listen (TRAFFIC_HTTP_LISTEN) to a free address, or to off"
)]
pub struct ListenError {
    address: SocketAddr,
    source: std::io::Error,
}

/// A server that has its port and does not answer yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
}

#[derive(Clone)]
struct Answers {
    health: Health,
    metrics: Metrics,
    shutdown: Shutdown,
}

impl Server {
    /// Takes the port.
    ///
    /// # Errors
    /// If the address is taken or not ours.
    pub async fn bind(address: SocketAddr) -> Result<Self, ListenError> {
        let bound = async {
            let listener = TcpListener::bind(address).await?;
            let address = listener.local_addr()?;
            Ok(Self { listener, address })
        };
        bound.await.map_err(|source| ListenError { address, source })
    }

    /// Where it listens; the port is the one that the system chose if 0 was asked for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until it is dropped, through a drain too: then as live and not ready.
    pub async fn run(self, health: Health, metrics: Metrics, shutdown: Shutdown) {
        let router = Router::new()
            .route("/health/live", get(live))
            .route("/health/ready", get(ready))
            .route("/metrics", get(render_metrics))
            .with_state(Answers { health, metrics, shutdown });
        if let Err(error) = axum::serve(self.listener, router).await {
            tracing::error!(%error, "health checks and metrics are answered no more");
        }
    }
}

async fn live() -> Response {
    json_response(StatusCode::OK, &json!({ "status": "live" }))
}

async fn ready(State(answers): State<Answers>) -> Response {
    let mut waiting_for: Map<String, Value> =
        answers.health.not_ready().into_iter().map(|(name, reason)| (name, Value::String(reason))).collect();
    if answers.shutdown.requested() {
        waiting_for.insert("process".to_owned(), Value::String("stopping".to_owned()));
    }
    if waiting_for.is_empty() {
        return json_response(StatusCode::OK, &json!({ "status": "ready" }));
    }
    json_response(StatusCode::SERVICE_UNAVAILABLE, &json!({ "status": "not ready", "components": waiting_for }))
}

async fn render_metrics(State(answers): State<Answers>) -> Response {
    let content_type = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (content_type, answers.metrics.render()).into_response()
}

fn json_response(status: StatusCode, body: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;
    use tokio::task::JoinSet;

    use super::*;

    /// Status and body of one GET.
    async fn get(address: SocketAddr, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(address).await.expect("the server listens");
        let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("the server reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("the server answers");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
        (status, body.to_owned())
    }

    #[tokio::test]
    async fn readiness_names_every_component_that_is_not_ready() {
        let (health, metrics, shutdown) = (Health::default(), Metrics::detached(), Shutdown::default());
        let server = Server::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("a free port");
        let address = server.address();
        let mut tasks = JoinSet::new();
        tasks.spawn(server.run(health.clone(), metrics, shutdown.clone()));

        assert_eq!(get(address, "/health/ready").await, (200, r#"{"status":"ready"}"#.to_owned()));
        let (kafka, archive) = (health.component("kafka"), health.component("archive"));
        health.component("archive").not_ready("namenode:9000 does not answer");
        let expected =
            r#"{"components":{"archive":"namenode:9000 does not answer","kafka":"starting"},"status":"not ready"}"#;
        assert_eq!(get(address, "/health/ready").await, (503, expected.to_owned()));
        assert_eq!(get(address, "/health/live").await.0, 200);

        kafka.ready();
        std::thread::spawn(move || archive.ready()).join().expect("it does not panic");
        assert_eq!(get(address, "/health/ready").await.0, 200);

        shutdown.request();
        let (status, body) = get(address, "/health/ready").await;
        assert_eq!((status, body.contains(r#""process":"stopping""#)), (503, true), "{body}");
        assert_eq!(get(address, "/health/live").await.0, 200);
        assert_eq!(get(address, "/metrics").await.0, 200);
        assert_eq!(get(address, "/").await.0, 404);
    }

    #[tokio::test]
    async fn a_taken_port_names_the_setting() {
        let taken = Server::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("a free port");
        let error = Server::bind(taken.address()).await.expect_err("the port is taken").to_string();
        assert!(error.contains(&taken.address().to_string()) && error.contains("TRAFFIC_HTTP_LISTEN"), "{error}");
    }
}
