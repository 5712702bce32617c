use std::io::Write as _;

use secrecy::ExposeSecret as _;

use super::*;
use crate::stream::Cleanup;

fn env(variables: &[(&str, &str)]) -> Vec<(String, String)> {
    variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(text.as_bytes()).expect("a temporary file takes text");
    file
}

fn problems(toml: &str, variables: &[(&str, &str)]) -> Vec<String> {
    let file = file(toml);
    match Config::load(Some(file.path()), env(variables), &[]) {
        Ok(config) => panic!("should have been refused: {config:?}"),
        Err(error) => error.problems().iter().map(|p| p.replace(&file.path().display().to_string(), "FILE")).collect(),
    }
}

#[test]
fn nothing_set_is_embedded_and_valid() {
    let config = Config::load(None, env(&[("PATH", "/bin"), ("KAFKA_HOME", "/opt/kafka")]), &[]).expect("valid");
    assert_eq!(config.log, LogLocation::Sqlite("traffic.db".into()));
    assert_eq!(config.store, StoreLocation::Directory("traffic-store".into()));
    assert!(config.instance.ends_with("-0"), "{}", config.instance);
    assert_eq!(config.application_id("aggregator"), "aggregator");
    assert_eq!(config.aggregator, AggregatorSettings::default());
    assert_eq!(config.http.address(9101), Some("0.0.0.0:9101".parse().expect("an address")));
}

#[test]
fn a_full_file() {
    let file = file(
        r#"
        log = "kafka://a:9092,b:9092"
        store = "hdfs://namenode:9000"
        instance = "node-7"
        application_id = "aggregator-b"
        speed_unit = "mph"
        time_zone = "America/Los_Angeles"
        [topics]
        partitions = 3
        replication = 3
        [topics.retention]
        traffic-events = "2d"
        traffic-alerts = "forever"
        [kafka]
        security_protocol = "SASL_SSL"
        sasl_mechanism = "PLAIN"
        sasl_username = "app"
        sasl_password = "app-secret"
        [hdfs]
        replication_factor = 2
        timeout = "10s"
        [hive]
        metastore = "thrift://hive:9083"
        [http]
        listen = "off"
        [telemetry]
        format = "json"
        level = "info,aggregator=debug"
        [aggregator]
        out_of_orderness = "10s"
        lateness = "1h"
        idle = "30s"
        state_expiry = "7d"
        reading_interval = "20s"
        commit_interval = "250ms"
        [archive]
        flush_bytes = "1 MB"
        flush_age = "10s"
        memory_bytes = 2000000
        "#,
    );
    let config = Config::load(Some(file.path()), env(&[]), &[]).expect("valid");
    assert_eq!(config.log.to_string(), "kafka://a:9092,b:9092");
    assert_eq!(config.application_id("aggregator"), "aggregator-b");
    assert_eq!(config.normaliser().speed_unit, SpeedUnit::Mph);
    assert_eq!(config.normaliser().time_zone.iana_name(), Some("America/Los_Angeles"));
    assert_eq!(config.http.address(9101), None);
    let metastore = config.hive.metastore.expect("it is set");
    assert_eq!((metastore.address.as_str(), config.hive.database.as_str()), ("hive:9083", "traffic"));
    assert_eq!(config.aggregator.reading_interval.map(|i| i.as_secs()), Some(20));
    assert_eq!((config.archive.flush_bytes, config.archive.memory_bytes), (1_000_000, 2_000_000));
    let all = config.topics.specs();
    let spec = |name: &str| all.iter().find(|spec| spec.name == name).expect("a topic of the flow");
    let events = spec("traffic-events");
    assert_eq!((events.partitions, events.replication), (3, 3));
    assert_eq!(events.cleanup, Cleanup::Delete { retention_ms: Some(2 * 86_400_000) });
    let alerts = spec("traffic-alerts");
    assert_eq!(alerts.cleanup, Cleanup::Delete { retention_ms: None });
    assert_eq!(all.len(), 9);
    assert_eq!((spec("alert-transitions").partitions, spec("predictor-digest").partitions), (1, 1));
    assert_eq!(config.topics.changelog("aggregator-b", 3).name, "aggregator-b-state");
    let properties = config.kafka.client_properties();
    assert!(properties.contains(&("sasl.password", "app-secret".to_owned())));
}

#[test]
fn later_layers_win() {
    let file = file("log = \"sqlite:file.db\"\ninstance = \"from-file\"\n[hdfs]\nreplication_factor = 1");
    let variables = [
        ("TRAFFIC_LOG", "kafka://b:9092"),
        ("HDFS_NAMENODE_URL", "hdfs://namenode:9000"),
        ("HDFS_REPLICATION_FACTOR", "2"),
        ("TRAFFIC_INSTANCE", "from-variable"),
        ("TRAFFIC_HTTP_LISTEN", "127.0.0.1:0"),
        ("TRAFFIC_LOG_LEVEL", ""),
    ];
    let flags = [("instance", "17"), ("application_id", "true")];
    let config = Config::load(Some(file.path()), env(&variables), &flags).expect("valid");
    assert_eq!(config.log.to_string(), "kafka://b:9092");
    assert_eq!(config.store.to_string(), "hdfs://namenode:9000");
    assert_eq!(config.hdfs.replication_factor, 2);
    assert_eq!(config.instance, "17");
    assert_eq!(config.application_id.as_deref(), Some("true"));
    assert_eq!(config.telemetry.level, "info");

    let both = env(&[("HDFS_NAMENODE_URL", "hdfs://namenode:9000"), ("TRAFFIC_STORE", "file:x")]);
    assert_eq!(Config::load(None, both, &[]).expect("valid").store.to_string(), "file:x");
}

#[test]
fn every_wrong_type_is_reported_with_its_origin() {
    let found = problems(
        "log = \"mysql:x\"\nspeed = 1\n[aggregator]\nlateness = 15\nidle = \"soon\"\n[hdfs]\ntimeout = \"5\"\n[htp]\n",
        &[("TRAFFIC_HTTP_LISTEN", "9101"), ("HDFS_REPLICATION_FACTOR", "many")],
    );
    let expect = [
        "aggregator.idle = \"soon\", from FILE: allowed: a duration",
        "aggregator.lateness = \"15\", from FILE: invalid type: integer",
        "hdfs.replication_factor = \"many\", from HDFS_REPLICATION_FACTOR: ",
        "hdfs.timeout = \"5\", from FILE: allowed: a duration",
        "htp = \"{}\", from FILE: unknown field `htp`, expected one of `log`",
        "http.listen = \"9101\", from TRAFFIC_HTTP_LISTEN: allowed: default, off, or IP:PORT",
        "log = \"mysql:x\", from FILE: allowed: sqlite:FILE",
        "speed = \"1\", from FILE: unknown field `speed`",
    ];
    assert_eq!(found.len(), expect.len(), "{found:#?}");
    for text in expect {
        assert!(found.iter().any(|p| p.starts_with(text)), "{text:?} is not in {found:#?}");
    }
}

#[test]
fn every_value_out_of_range_is_reported_with_its_origin() {
    let found = problems(
        "[topics]\npartitions = 0\n[topics.retention]\ntraffic-events = \"1s\"\n[aggregator]\ncommit_interval = \"1m\"\n\
         [archive]\nflush_bytes = 1\n[telemetry]\nlevel = \"=loud\"",
        &[("TRAFFIC_INSTANCE", "a/b"), ("HDFS_REPLICATION_FACTOR", "0")],
    );
    assert_eq!(
        found,
        [
            "instance = \"a/b\", from TRAFFIC_INSTANCE: allowed: 1 to 200 of the characters a-z A-Z 0-9 . _ -",
            "topics.partitions = \"0\", from FILE: allowed: 1 to 1000",
            "topics.retention.traffic-events = \"1s\", from FILE: allowed: 1h to 36500d, or forever",
            "hdfs.replication_factor = \"0\", from HDFS_REPLICATION_FACTOR: allowed: 1 to 512",
            "telemetry.level = \"=loud\", from FILE: allowed: error, warn, info, debug, trace, or a list such as \
             info,aggregator=debug",
            "aggregator.commit_interval = \"60s\", from FILE: allowed: 1ms to 5s",
            "archive.flush_bytes = \"1\", from FILE: allowed: 64 kB to 4 GB",
        ]
    );
}

#[test]
fn unknown_variables_name_the_nearest_known() {
    let found = problems(
        "",
        &[
            ("TRAFFIC_STOR", "x"),
            ("TRAFFIC_KAFKA", "x"),
            ("KAFKA_SASL_PASWORD", "x"),
            ("TRAFFIC_TEST_KAFKA", "127.0.0.1:1"),
            ("TRAFFIC_DATA", "/data"),
            ("TRAFFIC_QUICK", "1"),
            ("TRAFFIC_FAILPOINT", "3"),
            ("JWT_SECRET_KEY", "x"),
            ("POSTGRES_INITDB_ARGS", "-k"),
        ],
    );
    assert_eq!(found.len(), 3, "{found:#?}");
    assert_eq!(found[0], "KAFKA_SASL_PASWORD: there is no such variable; the nearest is KAFKA_SASL_PASSWORD");
    assert!(found[1].starts_with("TRAFFIC_KAFKA: there is no such variable; the nearest is TRAFFIC_"), "{found:?}");
    assert_eq!(found[2], "TRAFFIC_STOR: there is no such variable; the nearest is TRAFFIC_STORE");
}

#[test]
fn secrets_come_from_files_and_are_never_shown() {
    let sasl = [
        ("KAFKA_SECURITY_PROTOCOL", "SASL_SSL"),
        ("KAFKA_SASL_MECHANISM", "SCRAM-SHA-512"),
        ("KAFKA_SASL_USERNAME", "app"),
    ];
    let secret = file("12345\n");
    let path = secret.path().display().to_string();
    let with = |more: &[(&str, &str)]| env(&[&sasl[..], more].concat());

    let config = Config::load(None, with(&[("KAFKA_SASL_PASSWORD_FILE", &path)]), &[]).expect("valid");
    assert_eq!(config.kafka.sasl_password.as_ref().map(|p| p.expose_secret()), Some("12345"));
    assert!(!format!("{config:?}").contains("12345"));

    let both = with(&[("KAFKA_SASL_PASSWORD", "x"), ("KAFKA_SASL_PASSWORD_FILE", &path)]);
    let error = Config::load(None, both, &[]).expect_err("both are set");
    assert!(error.to_string().contains("KAFKA_SASL_PASSWORD and KAFKA_SASL_PASSWORD_FILE are both set"), "{error}");

    let gone = with(&[("KAFKA_SASL_PASSWORD_FILE", "/nowhere/secret")]);
    let error = Config::load(None, gone, &[]).expect_err("no such file");
    assert!(error.to_string().contains("KAFKA_SASL_PASSWORD_FILE = \"/nowhere/secret\": cannot read"), "{error}");

    let typed = file("[kafka]\nsasl_password = 987654");
    let error = Config::load(Some(typed.path()), with(&[]), &[]).expect_err("not text");
    assert!(error.to_string().contains("kafka.sasl_password = (hidden)"), "{error}");
    assert!(!error.to_string().contains("987654"), "{error}");

    let broken = file("[kafka]\n\nsasl_password = \"987654\" oops");
    let error = Config::load(Some(broken.path()), with(&[]), &[]).expect_err("not TOML");
    assert!(error.to_string().contains("line 3: not TOML"), "{error}");
    assert!(!error.to_string().contains("987654"), "{error}");
}

#[test]
fn contradictions_in_kafka_security_are_refused() {
    let found = problems("", &[("KAFKA_SECURITY_PROTOCOL", "SASL_SSL"), ("KAFKA_SSL_CA_LOCATION", "/nowhere/ca.pem")]);
    assert_eq!(
        found,
        [
            "kafka.sasl_mechanism is not set: with kafka.security_protocol = SASL_SSL it must be set",
            "kafka.sasl_username is not set: with kafka.security_protocol = SASL_SSL it must be set",
            "kafka.sasl_password is not set: with kafka.security_protocol = SASL_SSL it must be set",
            "kafka.ssl_ca_location = \"/nowhere/ca.pem\", from KAFKA_SSL_CA_LOCATION: allowed: a PEM file that exists",
        ]
    );
    let found = problems("", &[("KAFKA_SASL_PASSWORD", "x")]);
    assert_eq!(found, ["kafka.sasl_password is set: with kafka.security_protocol = PLAINTEXT it must be not set"]);
    let found = problems("", &[("HDFS_NAMENODE_URL", "file:x")]);
    assert_eq!(found, ["HDFS_NAMENODE_URL = \"file:x\": allowed: hdfs://HOST:PORT (TRAFFIC_STORE takes other stores)"]);
}

#[test]
fn a_missing_file_is_named() {
    let error = Config::load(Some(Path::new("/nowhere/traffic.toml")), env(&[]), &[]).expect_err("no such file");
    assert!(error.to_string().contains("cannot read the settings file /nowhere/traffic.toml"), "{error}");
}

#[test]
fn a_client_s_certificate_needs_its_key() {
    let tls = ("KAFKA_SECURITY_PROTOCOL", "SSL");
    let pem = file("-----BEGIN CERTIFICATE-----");
    let path = pem.path().display().to_string();
    let given = [
        tls,
        ("KAFKA_SSL_CERTIFICATE_LOCATION", path.as_str()),
        ("KAFKA_SSL_KEY_LOCATION", &path),
        ("KAFKA_SSL_KEY_PASSWORD", "hunter2"),
    ];
    let config = Config::load(None, env(&given), &[]).expect("valid");
    let properties = config.kafka.client_properties();
    for (name, value) in
        [("ssl.certificate.location", &path), ("ssl.key.location", &path), ("ssl.key.password", &"hunter2".to_owned())]
    {
        assert!(properties.contains(&(name, value.clone())), "{name}");
    }
    assert!(!format!("{config:?}").contains("hunter2"));
    let found = problems("", &given[..2]);
    assert_eq!(found.len(), 1);
    assert!(found[0].contains("needs its key"), "{found:?}");
    let found = problems("", &[tls, given[3]]);
    assert_eq!(found, ["kafka.ssl_key_password is set, but kafka.ssl_key_location is not"]);
    let found = problems("", &given[1..3]);
    assert!(found.iter().all(|problem| problem.contains("only with SSL or SASL_SSL")), "{found:?}");
}

#[test]
fn a_metastore_and_its_database_are_checked() {
    let given = env(&[("TRAFFIC_HIVE_METASTORE", "thrift://h:1"), ("TRAFFIC_HIVE_DATABASE", "roads")]);
    let config = Config::load(None, given, &[]).expect("valid");
    assert_eq!(config.hive.metastore.map(|m| m.address), Some("h:1".to_owned()));
    assert_eq!(config.hive.database, "roads");
    assert_eq!(
        problems("", &[("TRAFFIC_HIVE_METASTORE", "hive:9083")]),
        ["hive.metastore = \"hive:9083\", from TRAFFIC_HIVE_METASTORE: allowed: thrift://HOST:PORT"]
    );
    assert_eq!(
        problems("[hive]\ndatabase = \"My-Roads\"", &[]),
        ["hive.database = \"My-Roads\", from FILE: allowed: 1 to 128 of the characters a-z 0-9 _"]
    );
}

#[test]
fn where_the_models_are_is_checked() {
    let config = Config::load(None, env(&[]), &[]).expect("valid");
    assert_eq!((config.predictor.models.as_str(), config.predictor.model_poll.as_secs()), ("/models/speed", 10));
    for path in ["models", "/", "/models/", "/models/../x", "/models/.speed", ""] {
        let found = problems(&format!("[predictor]\nmodels = {path:?}\nmodel_poll = \"0s\""), &[]);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(
            found[0].starts_with(&format!("predictor.models = {path:?}, from FILE: allowed: a directory")),
            "{found:?}"
        );
        assert_eq!(found[1], "predictor.model_poll = \"0ns\", from FILE: allowed: 1s to 1h");
    }
}
