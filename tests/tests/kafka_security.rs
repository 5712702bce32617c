//! Every way in which clients prove who they are, against a real broker: TLS with a password (PLAIN, SCRAM) and with a
//! certificate. From the settings, as a deployment gives them, to a record that was written and read back.

use std::path::Path;
use std::time::Duration;

use tests::{Worker, services, unique};

const DEADLINE: Duration = Duration::from_secs(60);

type Environment = Vec<(&'static str, String)>;

fn start(binary: &str, arguments: &[&str], environment: &Environment) -> Worker {
    let environment: Vec<(&str, &str)> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
    Worker::start(binary, arguments, &environment)
}

fn run(binary: &str, arguments: &[&str], environment: &Environment) -> String {
    let mut worker = start(binary, arguments, environment);
    let status = worker.wait(DEADLINE);
    assert!(status.success(), "{binary} {arguments:?}: {status}: {}", worker.log());
    worker.output()
}

fn environment(server: &str, prefix: &str, security: &[(&'static str, &str)]) -> Environment {
    let mut environment = vec![
        ("TRAFFIC_LOG", format!("kafka://{server}")),
        ("TRAFFIC_TOPIC_PREFIX", prefix.to_owned()),
        ("TRAFFIC_ARCHIVE_ENABLED", "false".to_owned()),
        ("TRAFFIC_HTTP_LISTEN", "off".to_owned()),
    ];
    environment.extend(security.iter().map(|(name, value)| (*name, (*value).to_owned())));
    environment
}

/// Admin, producer, transactions, group and readers, all of them: events go in and aggregates come out.
fn works(server: &str, security: &[(&'static str, &str)]) {
    let prefix = format!("{}.", unique("security"));
    let environment = environment(server, &prefix, security);
    run("traffic", &["init"], &environment);
    let simulate = ["simulate", "--events", "2000", "--segments", "50", "--start", "2026-01-05T08:00:00Z"];
    run("traffic", &simulate, &environment);
    run("aggregator", &["--exit-at-end", "--instance", "one"], &environment);
    let aggregates =
        run("traffic", &["inspect", "topic", &format!("{prefix}processed-traffic-aggregates")], &environment);
    assert!(aggregates.lines().count() > 100, "{aggregates}");
}

/// Says so instead of working.
fn fails(server: &str, security: &[(&'static str, &str)], words: &[&str]) {
    let mut worker = start("traffic", &["init"], &environment(server, "refused.", security));
    let status = worker.wait(DEADLINE);
    let said = worker.log();
    assert!(!status.success(), "{said}");
    assert!(words.iter().all(|word| said.contains(word)), "{words:?} are missing in: {said}");
    assert!(!said.contains("secret"), "{said}");
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[test]
fn a_password_over_tls() {
    let Some(broker) = services::kafka_sasl() else { return };
    for mechanism in ["PLAIN", "SCRAM-SHA-512"] {
        let mut security = vec![
            ("KAFKA_SECURITY_PROTOCOL", "SASL_SSL"),
            ("KAFKA_SASL_MECHANISM", mechanism),
            ("KAFKA_SASL_USERNAME", "app"),
            ("KAFKA_SASL_PASSWORD", "app-secret"),
            ("KAFKA_SSL_CA_LOCATION", text(&broker.ca)),
        ];
        works(&broker.server, &security);
        security[3].1 = "another-secret";
        fails(&broker.server, &security, &["password"]);
    }
}

#[test]
fn a_certificate() {
    let Some(broker) = services::kafka_mutual() else { return };
    let file = |name: &str| text(&broker.folder.join(name)).to_owned();
    let (ca, certificate, key) = (file("ca.pem"), file("client.crt"), file("client.key"));
    let mut security = vec![
        ("KAFKA_SECURITY_PROTOCOL", "SSL"),
        ("KAFKA_SSL_CA_LOCATION", ca.as_str()),
        ("KAFKA_SSL_CERTIFICATE_LOCATION", &certificate),
        ("KAFKA_SSL_KEY_LOCATION", &key),
        ("KAFKA_SSL_KEY_PASSWORD", "key-secret"),
    ];
    works(&broker.server, &security);
    // The key's password.
    security[4].1 = "another-secret";
    fails(&broker.server, &security, &["ssl.key"]);
    // Nobody's certificate, and none.
    let (certificate, key) = (file("stranger.crt"), file("stranger.key"));
    let stranger = [
        security[0],
        security[1],
        ("KAFKA_SSL_CERTIFICATE_LOCATION", certificate.as_str()),
        ("KAFKA_SSL_KEY_LOCATION", &key),
    ];
    fails(&broker.server, &stranger, &["certificate"]);
    fails(&broker.server, &security[..2], &["certificate"]);
}
