//! Three real brokers (`tests/services/cluster.sh`), each of which a test may kill, freeze and bring back.
//!
//! One cluster for all tests of a file, started by the first that asks. They borrow it one after the other, each finds
//! it whole, and it goes when the tests' process does, however that ends.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use common::clock::{Clock as _, SystemClock};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};

use crate::{services, unique, wait_until};

const PATIENCE: Duration = Duration::from_secs(60);

static TURN: Mutex<()> = Mutex::new(());
/// Where it lives, and the process that cleans up after us: it outlives us, and nobody waits for it.
static HOME: OnceLock<(PathBuf, Child)> = OnceLock::new();

/// The brokers' numbers.
pub const BROKERS: [u32; 3] = [1, 2, 3];

/// The cluster, for one test.
#[derive(Debug)]
pub struct Cluster {
    addresses: BTreeMap<String, String>,
    _turn: MutexGuard<'static, ()>,
}

impl Cluster {
    /// The cluster with all its brokers; waits for its turn. `None` where tests with services are left out.
    ///
    /// # Panics
    /// If it can not be started.
    #[must_use]
    pub fn start() -> Option<Self> {
        if services::quick() {
            println!("skipped: a cluster of brokers, since TRAFFIC_QUICK=1");
            return None;
        }
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        run(&["start"]);
        let env = run(&["env"]);
        let addresses = env.lines().filter_map(|line| line.split_once('='));
        let addresses = addresses.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let cluster = Self { addresses, _turn: turn };
        cluster.wait_until_whole();
        Some(cluster)
    }

    /// A directory that goes with the cluster.
    #[must_use]
    pub fn directory(&self) -> PathBuf {
        directory().to_owned()
    }

    /// Where clients connect: `host:port,…`.
    #[must_use]
    pub fn servers(&self) -> String {
        BROKERS.map(|broker| self.address("CLIENT", broker)).join(",")
    }

    /// By broker: where a proxy has to listen so that clients are told to come to it, and where it has to lead them.
    #[must_use]
    pub fn proxied(&self) -> Vec<(String, String)> {
        BROKERS.map(|broker| (self.address("PROXY", broker), self.address("PROXIED", broker))).to_vec()
    }

    fn address(&self, listener: &str, broker: u32) -> String {
        self.addresses[&format!("{listener}_{broker}")].clone()
    }

    /// SIGKILL; returns once it is gone.
    pub fn kill(&self, broker: u32) {
        run(&["kill", &broker.to_string()]);
    }

    /// Starts a broker that was killed, or thaws a frozen one; returns once it serves.
    pub fn restart(&self, broker: u32) {
        run(&["start", &broker.to_string()]);
    }

    /// SIGSTOP.
    pub fn freeze(&self, broker: u32) {
        run(&["freeze", &broker.to_string()]);
    }

    /// The active controller.
    ///
    /// # Panics
    /// If the brokers have told of none.
    #[must_use]
    pub fn controller(&self) -> u32 {
        run(&["controller"]).trim().parse().expect("a broker's number")
    }

    /// The broker that leads a partition.
    ///
    /// # Panics
    /// If it has none for a minute.
    #[must_use]
    pub fn leader(&self, topic: &str, partition: u32) -> u32 {
        wait_until(PATIENCE, &format!("a leader of {topic}-{partition}"), || {
            self.leaders(topic).get(&partition).copied().filter(|leader| *leader > 0).map(i32::cast_unsigned)
        })
    }

    /// The coordinator of a transactional id.
    #[must_use]
    pub fn transaction_coordinator(&self, transactional_id: &str) -> u32 {
        self.leader("__transaction_state", slot(transactional_id, 3))
    }

    fn leaders(&self, topic: &str) -> BTreeMap<u32, i32> {
        let Ok(metadata) = client(&self.servers()).fetch_metadata(Some(topic), Duration::from_secs(5)) else {
            return BTreeMap::new();
        };
        let partitions = metadata.topics().iter().flat_map(|topic| topic.partitions());
        partitions.map(|partition| (partition.id().cast_unsigned(), partition.leader())).collect()
    }

    /// A broker that an earlier test has killed leads again what it led only some time after its start.
    fn wait_until_whole(&self) {
        wait_until(PATIENCE, "three brokers that know each other", || {
            let metadata = client(&self.servers()).fetch_metadata(None, Duration::from_secs(5)).ok()?;
            let in_sync = |topic: &rdkafka::metadata::MetadataTopic| {
                topic.partitions().iter().all(|partition| partition.isr().len() == partition.replicas().len())
            };
            (metadata.brokers().len() == BROKERS.len() && metadata.topics().iter().all(in_sync)).then_some(())
        });
    }
}

/// A client for questions.
fn client(servers: &str) -> BaseConsumer {
    ClientConfig::new().set("bootstrap.servers", servers).create().expect("a client")
}

/// Where Kafka puts what is coordinated under this name: Java's hash of the text.
fn slot(name: &str, slots: u32) -> u32 {
    let hash = name.encode_utf16().fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    (hash & i32::MAX).cast_unsigned() % slots
}

/// Where the cluster lives; made by the first who asks.
fn directory() -> &'static Path {
    let (directory, _) = HOME.get_or_init(|| {
        let directory = std::env::temp_dir().join(unique("traffic-cluster"));
        std::fs::create_dir_all(&directory).expect("a directory");
        let keeper = Command::new("setsid")
            .arg(script())
            .args([Path::new("keep"), &directory])
            .arg(std::process::id().to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        (directory, keeper.expect("setsid is there"))
    });
    directory
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("services/cluster.sh")
}

/// Runs a command of the script to its end; says what it said.
fn run(arguments: &[&str]) -> String {
    let (command, rest) = arguments.split_first().expect("a command");
    let began_ms = SystemClock.now_ms();
    let output = Command::new(script()).arg(command).arg(directory()).args(rest).output().expect("the script runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cluster.sh {arguments:?}: {said}");
    if !matches!(*command, "env" | "controller") {
        println!("cluster.sh {}: {} ms", arguments.join(" "), SystemClock.now_ms() - began_ms);
    }
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_java_s() {
        // "hello".hashCode() is 99162322; "polygenelubricants".hashCode() is Integer.MIN_VALUE.
        assert_eq!(slot("hello", 1_000), 322);
        assert_eq!(slot("polygenelubricants", 50), 0);
    }
}
