//! Every log under the one contract.
//!
//! `TRAFFIC_TEST_KAFKA` is a broker's `host:port`; without it the cases on Kafka fail, or with
//! `TRAFFIC_QUICK=1` are skipped.

use std::sync::Arc;

use common::clock::SystemClock;
use common::stream::kafka::{KafkaConfig, KafkaLog};
use common::stream::memory::MemoryLog;
use common::stream::sqlite::SqliteLog;
use tests::log_contract::{SecondSession, Subject};

tests::log_contract!(sqlite);
tests::log_contract!(memory);
tests::log_contract!(kafka);

fn sqlite() -> Option<Subject> {
    let directory = tempfile::tempdir().expect("a directory");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().expect("a runtime");
    let path = directory.path().join("traffic.db");
    let log = SqliteLog::open(&path, runtime.handle().clone(), Arc::new(SystemClock)).expect("the log opens");
    Some(Subject {
        log: Arc::new(log),
        second_session: SecondSession::Refused,
        open_transactions_show: false,
        keep: Box::new((directory, runtime)),
    })
}

fn memory() -> Option<Subject> {
    Some(Subject {
        log: Arc::new(MemoryLog::new(Arc::new(SystemClock))),
        second_session: SecondSession::Fences,
        open_transactions_show: true,
        keep: Box::new(()),
    })
}

#[expect(clippy::disallowed_methods, reason = "tests are told by the environment where their services are")]
fn kafka() -> Option<Subject> {
    let Ok(bootstrap_servers) = std::env::var("TRAFFIC_TEST_KAFKA") else {
        let quick = std::env::var("TRAFFIC_QUICK").is_ok_and(|quick| quick == "1");
        assert!(quick, "TRAFFIC_TEST_KAFKA is not set: start a broker, or set TRAFFIC_QUICK=1 to skip its tests");
        println!("skipped: TRAFFIC_TEST_KAFKA not set");
        return None;
    };
    let config = KafkaConfig { bootstrap_servers, ..KafkaConfig::default() };
    Some(Subject {
        log: Arc::new(KafkaLog::connect(&config).expect("the broker answers")),
        second_session: SecondSession::Fences,
        open_transactions_show: true,
        keep: Box::new(()),
    })
}
