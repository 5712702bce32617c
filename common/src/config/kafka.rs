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
    /// This client's certificate, PEM, with the authorities between it and one the brokers trust behind it.
    pub ssl_certificate_location: Option<PathBuf>,
    /// The certificate's private key, PEM.
    pub ssl_key_location: Option<PathBuf>,
    #[serde(deserialize_with = "secret")]
    pub ssl_key_password: Option<SecretString>,
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
        for (setting, file) in [
            ("kafka.ssl_ca_location", &self.ssl_ca_location),
            ("kafka.ssl_certificate_location", &self.ssl_certificate_location),
            ("kafka.ssl_key_location", &self.ssl_key_location),
        ] {
            if let Some(file) = file {
                problems.require(protocol.uses_tls(), setting, file.display(), "only with SSL or SASL_SSL");
                problems.require(file.exists(), setting, file.display(), "a PEM file that exists");
            }
        }
        if self.ssl_certificate_location.is_some() != self.ssl_key_location.is_some() {
            problems.add(
                "kafka.ssl_certificate_location and kafka.ssl_key_location: only one is set; a client's certificate \
                 needs its key, and a key its certificate"
                    .to_owned(),
            );
        }
        if self.ssl_key_password.is_some() && self.ssl_key_location.is_none() {
            problems.add("kafka.ssl_key_password is set, but kafka.ssl_key_location is not".to_owned());
        }
    }

    /// The settings by librdkafka's names, the passwords included.
    #[must_use]
    pub fn client_properties(&self) -> Vec<(&'static str, String)> {
        let mut properties = vec![("security.protocol", self.security_protocol.to_string())];
        properties.extend(self.sasl_mechanism.map(|m| ("sasl.mechanism", m.to_string())));
        properties.extend(self.sasl_username.clone().map(|u| ("sasl.username", u)));
        properties.extend(self.sasl_password.as_ref().map(|p| ("sasl.password", p.expose_secret().to_owned())));
        for (name, file) in [
            ("ssl.ca.location", &self.ssl_ca_location),
            ("ssl.certificate.location", &self.ssl_certificate_location),
            ("ssl.key.location", &self.ssl_key_location),
        ] {
            properties.extend(file.as_ref().map(|file| (name, file.display().to_string())));
        }
        properties.extend(self.ssl_key_password.as_ref().map(|p| ("ssl.key.password", p.expose_secret().to_owned())));
        properties
    }
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SecretString>, D::Error> {
    Ok(Some(SecretString::from(String::deserialize(deserializer)?)))
}
