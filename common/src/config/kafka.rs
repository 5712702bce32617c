//! How Kafka is spoken to.

use std::fmt;
use std::path::PathBuf;

use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Deserializer};

use super::problems::Problems;

/// `[kafka]`: security. Where the brokers are is `log`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KafkaSettings {
    pub security_protocol: SecurityProtocol,
    pub sasl_mechanism: Option<SaslMechanism>,
    pub sasl_username: Option<String>,
    #[serde(deserialize_with = "secret")]
    pub sasl_password: Option<SecretString>,
    /// The certificate authority of the brokers, PEM; the system's if not set.
    pub ssl_ca_location: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum SecurityProtocol {
    #[default]
    Plaintext,
    Ssl,
    SaslPlaintext,
    SaslSsl,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum SaslMechanism {
    #[serde(rename = "PLAIN")]
    Plain,
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
}

impl SecurityProtocol {
    #[must_use]
    pub fn uses_sasl(self) -> bool {
        matches!(self, Self::SaslPlaintext | Self::SaslSsl)
    }

    #[must_use]
    pub fn uses_tls(self) -> bool {
        matches!(self, Self::Ssl | Self::SaslSsl)
    }
}

/// As librdkafka's `security.protocol` names it.
impl fmt::Display for SecurityProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plaintext => "PLAINTEXT",
            Self::Ssl => "SSL",
            Self::SaslPlaintext => "SASL_PLAINTEXT",
            Self::SaslSsl => "SASL_SSL",
        })
    }
}

/// As librdkafka's `sasl.mechanism` names it.
impl fmt::Display for SaslMechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        })
    }
}

impl KafkaSettings {
    /// A broker answers wrong security settings with silence, so contradictions are found here.
    pub(super) fn validate(&self, problems: &mut Problems) {
        let protocol = self.security_protocol;
        let given = |is_some: bool| if is_some { "set" } else { "not set" };
        for (setting, is_some) in [
            ("kafka.sasl_mechanism", self.sasl_mechanism.is_some()),
            ("kafka.sasl_username", self.sasl_username.as_ref().is_some_and(|name| !name.is_empty())),
            ("kafka.sasl_password", self.sasl_password.as_ref().is_some_and(|p| !p.expose_secret().is_empty())),
        ] {
            if is_some != protocol.uses_sasl() {
                let needed = given(!is_some);
                problems.add(format!(
                    "{setting} is {}: with kafka.security_protocol = {protocol} it must be {needed}",
                    given(is_some)
                ));
            }
        }
        if let Some(ca) = &self.ssl_ca_location {
            let shown = ca.display();
            problems.require(protocol.uses_tls(), "kafka.ssl_ca_location", shown, "only with SSL or SASL_SSL");
            problems.require(ca.exists(), "kafka.ssl_ca_location", ca.display(), "a PEM file that exists");
        }
    }

    /// The settings by librdkafka's names, the password included.
    #[must_use]
    pub fn client_properties(&self) -> Vec<(&'static str, String)> {
        let mut properties = vec![("security.protocol", self.security_protocol.to_string())];
        properties.extend(self.sasl_mechanism.map(|m| ("sasl.mechanism", m.to_string())));
        properties.extend(self.sasl_username.clone().map(|u| ("sasl.username", u)));
        properties.extend(self.sasl_password.as_ref().map(|p| ("sasl.password", p.expose_secret().to_owned())));
        properties.extend(self.ssl_ca_location.as_ref().map(|ca| ("ssl.ca.location", ca.display().to_string())));
        properties
    }
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SecretString>, D::Error> {
    Ok(Some(SecretString::from(String::deserialize(deserializer)?)))
}
