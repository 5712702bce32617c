//! The archive on an HDFS that asks for Kerberos: with tickets, without, with ones that end, at each level of protection.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tests::kerberos::{Protection, SecureHdfs};
use tests::{Worker, unique, wait_until};

const DEADLINE: Duration = Duration::from_secs(120);
/// How to mend it, in the log of whoever has no ticket.
const REMEDY: &str = "get a ticket (kinit -k -t KEYTAB PRINCIPAL";

/// One for all tests of this file, one test at a time: they restart it.
fn hdfs() -> Option<MutexGuard<'static, SecureHdfs>> {
    static HDFS: OnceLock<Option<Mutex<SecureHdfs>>> = OnceLock::new();
    let hdfs = HDFS.get_or_init(|| SecureHdfs::start().map(Mutex::new)).as_ref()?;
    Some(hdfs.lock().unwrap_or_else(PoisonError::into_inner))
}

/// A deployment on an embedded log, with topics and tickets of its own.
struct Scene<'h> {
    hdfs: &'h SecureHdfs,
    directory: tempfile::TempDir,
    environment: Vec<(&'static str, String)>,
}

impl<'h> Scene<'h> {
    /// The operator has a ticket; `ingest` has what its test gives it.
    fn new(hdfs: &'h SecureHdfs) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join("traffic.toml"), SETTINGS).expect("written");
        let shown = |path: PathBuf| path.display().to_string();
        let environment = vec![
            ("TRAFFIC_LOG", format!("sqlite:{}", shown(directory.path().join("log.db")))),
            ("TRAFFIC_STORE", hdfs.url().to_owned()),
            ("TRAFFIC_TOPIC_PREFIX", format!("{}.", unique("kerberos"))),
            ("TRAFFIC_DATABASE", "none".to_owned()),
            ("TRAFFIC_HTTP_LISTEN", "off".to_owned()),
            ("HADOOP_CONF_DIR", shown(hdfs.conf())),
            ("KRB5_CONFIG", shown(hdfs.krb5_conf())),
        ];
        let scene = Self { hdfs, directory, environment };
        hdfs.ticket("traffic", &scene.cache("operator"));
        scene.run("traffic", &["init"]);
        scene
    }

    fn set(&mut self, name: &'static str, value: String) {
        self.environment.retain(|(other, _)| *other != name);
        self.environment.push((name, value));
    }

    /// Where somebody's tickets are.
    fn cache(&self, of: &str) -> PathBuf {
        self.directory.path().join(of)
    }

    fn start(&self, binary: &str, arguments: &[&str], cache: &Path) -> Worker {
        let mut environment: Vec<(&str, &str)> = self.environment.iter().map(|(n, v)| (*n, v.as_str())).collect();
        let (cache, config) = (cache.display().to_string(), self.cache("traffic.toml").display().to_string());
        environment.push(("KRB5CCNAME", &cache));
        Worker::start(binary, &[arguments, &["--config", &config]].concat(), &environment)
    }

    fn run(&self, binary: &str, arguments: &[&str]) -> String {
        let mut worker = self.start(binary, arguments, &self.cache("operator"));
        let status = worker.wait(DEADLINE);
        assert!(status.success(), "{binary} {arguments:?}: {status}: {}", worker.log());
        worker.output()
    }

    /// What a command says that fails.
    fn refused(&self, binary: &str, arguments: &[&str], cache: &Path) -> String {
        let mut worker = self.start(binary, arguments, cache);
        let status = worker.wait(DEADLINE);
        assert_eq!(status.code(), Some(1), "{binary} {arguments:?}: {}", worker.log());
        worker.log()
    }

    /// So many events more, of hours that ended long ago.
    fn send(&self, events: u64) {
        let start = ["--start", "2026-01-05T08:00:00Z"];
        self.run("traffic", &[&["simulate", "--segments", "50", "--events", &events.to_string()], &start[..]].concat());
    }

    /// The archive is sound and has these rows.
    fn rows(&self) -> u64 {
        rows(&self.run("traffic", &VERIFY)).expect("a report")
    }

    /// Waits for them, while a commit may be under way, which then looks unsound.
    fn wait_for_rows(&self, wanted: u64) {
        wait_until(DEADLINE, &format!("{wanted} rows in the archive"), || {
            let mut verify = self.start("traffic", &VERIFY, &self.cache("operator"));
            verify.wait(DEADLINE);
            (rows(&verify.output()) == Some(wanted)).then_some(())
        });
    }

    /// The same cluster as a service of two namenodes, the first of which is away.
    fn as_a_service(&mut self) {
        let conf = self.cache("conf");
        std::fs::create_dir(&conf).expect("made");
        let property =
            |(name, value): (&str, &str)| format!("<property><name>{name}</name><value>{value}</value></property>");
        let more = [
            ("dfs.nameservices", "city"),
            ("dfs.ha.namenodes.city", "one,two"),
            ("dfs.namenode.rpc-address.city.one", "127.0.0.1:1"),
            ("dfs.namenode.rpc-address.city.two", self.hdfs.url().trim_start_matches("hdfs://")),
        ];
        let more = format!("{}</configuration>", more.map(property).concat());
        for (file, end) in [("core-site.xml", "</configuration>"), ("hdfs-site.xml", &more)] {
            let site = std::fs::read_to_string(self.hdfs.conf().join(file)).expect("it has one");
            std::fs::write(conf.join(file), site.replace("</configuration>", end)).expect("written");
        }
        self.set("HADOOP_CONF_DIR", conf.display().to_string());
        self.set("TRAFFIC_STORE", "hdfs://city".to_owned());
    }
}

const VERIFY: [&str; 5] = ["verify", "archive", "--dataset", "events", "--json"];

/// Of a report on the archive.
fn rows(report: &str) -> Option<u64> {
    let report: Value = serde_json::from_str(report).ok()?;
    report["partitions"].as_array()?.iter().map(|partition| partition["rows"].as_u64()).sum()
}

const SETTINGS: &str =
    "[topics]\npartitions = 2\n[archive]\nflush_age = \"1s\"\nflush_bytes = 64000\nmemory_bytes = 1000000\n";

#[test]
fn it_is_written_merged_and_read_at_each_level_of_protection() {
    let Some(hdfs) = hdfs() else { return };
    for protection in [Protection::Authentication, Protection::Integrity, Protection::Privacy] {
        hdfs.protect(protection);
        let mut scene = Scene::new(&hdfs);
        if protection == Protection::Privacy {
            scene.as_a_service();
        }
        scene.send(20_000);
        scene.run("ingest", &["--exit-at-end"]);
        assert_eq!(scene.rows(), 20_000, "{protection:?}");
        let said = scene.run("traffic", &["compact", "--dataset", "events", "--json"]);
        let merged: Value = serde_json::from_str(&said).expect("JSON");
        assert!(merged["merged_files"].as_u64() > Some(1), "{merged}");
        assert_eq!(scene.rows(), 20_000, "{protection:?}");
        assert!(hdfs.has_had(protection), "{protection:?}");
    }
}

#[test]
fn without_a_ticket_it_says_how_to_get_one_and_goes_on_once_it_is_there() {
    let Some(hdfs) = hdfs() else { return };
    let mut scene = Scene::new(&hdfs);
    scene.send(3_000);
    let cache = scene.cache("ingest");
    let mut ingest = scene.start("ingest", &["--exit-at-end"], &cache);
    let said = ingest.wait_for_log(DEADLINE, REMEDY);
    for part in [hdfs.url(), "No Kerberos credentials available", &cache.display().to_string()] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let said = scene.refused("traffic", &VERIFY, &cache);
    assert!(said.contains(REMEDY), "{said}");
    hdfs.ticket("traffic", &cache);
    assert!(ingest.wait(DEADLINE).success(), "{}", ingest.log());
    assert_eq!(scene.rows(), 3_000);

    scene.send(500);
    hdfs.ticket("stranger", &scene.cache("stranger"));
    let said = scene.refused("ingest", &["--exit-at-end"], &scene.cache("stranger"));
    assert!(said.contains("Permission denied: user=stranger") && said.contains("another principal's ticket"), "{said}");
    // Without the cluster's settings nobody knows of Kerberos.
    let none = scene.cache("none");
    std::fs::create_dir(&none).expect("made");
    scene.set("HADOOP_CONF_DIR", none.display().to_string());
    let said = scene.refused("traffic", &VERIFY, &cache);
    assert!(said.contains("hadoop.security.authentication"), "{said}");
}

#[test]
fn a_ticket_that_ends_while_it_runs_is_waited_for() {
    let Some(hdfs) = hdfs() else { return };
    let scene = Scene::new(&hdfs);
    let cache = scene.cache("ingest");
    hdfs.ticket("traffic", &cache);
    let mut ingest = scene.start("ingest", &[], &cache);
    scene.send(2_000);
    scene.wait_for_rows(2_000);
    std::fs::remove_file(&cache).expect("it is there");
    hdfs.restart_namenode();
    scene.send(1_000);
    ingest.wait_for_log(DEADLINE, REMEDY);
    assert!(ingest.runs(), "{}", ingest.log());
    hdfs.ticket("traffic", &cache);
    scene.wait_for_rows(3_000);
    ingest.terminate();
    assert!(ingest.wait(DEADLINE).success(), "{}", ingest.log());
    assert_eq!(scene.rows(), 3_000);
}

#[test]
fn with_a_keytab_it_gets_its_tickets_itself_again_and_again() {
    let Some(hdfs) = hdfs() else { return };
    let mut scene = Scene::new(&hdfs);
    let krb5_conf = std::fs::read_to_string(hdfs.krb5_conf()).expect("it is there");
    let short = scene.cache("krb5.conf");
    std::fs::write(&short, krb5_conf.replace("ticket_lifetime = 1h", "ticket_lifetime = 3s")).expect("written");
    scene.set("KRB5_CONFIG", short.display().to_string());
    scene.set("KRB5_CLIENT_KTNAME", hdfs.keytab().display().to_string());
    let cache = scene.cache("ingest");
    let mut ingest = scene.start("ingest", &[], &cache);
    scene.send(2_000);
    scene.wait_for_rows(2_000);
    wait_until(DEADLINE, "the end of its ticket", || {
        let listed = Command::new("klist").arg("-s").arg(&cache).env("KRB5_CONFIG", &short).status();
        (!listed.expect("klist is there").success()).then_some(())
    });
    hdfs.restart_namenode();
    scene.send(1_000);
    scene.wait_for_rows(3_000);
    ingest.terminate();
    assert!(ingest.wait(DEADLINE).success(), "{}", ingest.log());
    assert_eq!(scene.rows(), 3_000);
    assert!(!ingest.log().contains(REMEDY), "{}", ingest.log());
}
