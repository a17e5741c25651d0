//! The settings, and the checks that need no connection.

use std::fmt;
use std::time::Duration;

use async_nats::ConnectOptions;
use wserver_cluster::BrokerError;

/// How to reach NATS. A user with password, a token, and credentials exclude each other.
#[derive(Clone)]
#[non_exhaustive]
pub struct NatsSettings {
    /// The servers of one NATS cluster: `nats://a:4222,b:4222` or `tls://a:4222,b:4222`. The port
    /// is optional, and a secret is not allowed.
    pub url: String,
    /// The name of the cluster, with which all subjects begin; two clusters at one NATS need two
    /// names.
    pub cluster: String,
    /// The user.
    pub username: Option<String>,
    /// The user's password.
    pub password: Option<String>,
    /// A token, for a server without users.
    pub token: Option<String>,
    /// The content of a `.creds` file: a user's JWT and the seed of its NKEY.
    pub credentials: Option<String>,
    /// The authorities to trust instead of the system's, as PEM.
    pub ca_pem: Option<Vec<u8>>,
    /// How long connecting may take in all, and one publish.
    pub connect_timeout: Duration,
}

/// How a node authenticates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Identity {
    Nobody,
    User,
    Token,
    Credentials,
}

impl NatsSettings {
    /// Settings with these servers and this name of the cluster, without authentication, with the
    /// system's authorities and a timeout of five seconds.
    #[must_use]
    pub fn new(url: impl Into<String>, cluster: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            cluster: cluster.into(),
            username: None,
            password: None,
            token: None,
            credentials: None,
            ca_pem: None,
            connect_timeout: Duration::from_secs(5),
        }
    }

    /// Checks the cluster's name and the node's identity.
    pub(crate) fn check(&self) -> Result<(), BrokerError> {
        self.check_cluster()?;
        if self.password.is_some() && self.username.is_none() {
            return Err(BrokerError::refused("a password needs a user: set cluster_username"));
        }
        let ways = [self.username.is_some(), self.token.is_some(), self.credentials.is_some()];
        if ways.into_iter().filter(|&is_set| is_set).count() > 1 {
            let why = "a user with a password, a token, and credentials exclude each other: set \
                       only one of them";
            return Err(BrokerError::refused(why));
        }
        self.options().map(drop)
    }

    /// Checks that the name is one or more words joined by dots, as in the subjects of NATS.
    fn check_cluster(&self) -> Result<(), BrokerError> {
        let name = &self.cluster;
        let is_odd = |it: char| it.is_whitespace() || it.is_control() || matches!(it, '*' | '>');
        let why = if name.contains(is_odd) {
            "contains a space, a * or a >"
        } else if name.split('.').any(str::is_empty) {
            "has an empty part between its dots"
        } else if name.starts_with('$') {
            "begins with $, which NATS reserves"
        } else {
            return Ok(());
        };
        let message = format!("cluster_name {name:?} cannot begin a NATS subject: it {why}");
        Err(BrokerError::refused(message))
    }

    pub(crate) const fn identity(&self) -> Identity {
        if self.credentials.is_some() {
            Identity::Credentials
        } else if self.token.is_some() {
            Identity::Token
        } else if self.username.is_some() {
            Identity::User
        } else {
            Identity::Nobody
        }
    }

    /// The node's identity as options of the client library.
    pub(crate) fn options(&self) -> Result<ConnectOptions, BrokerError> {
        let options = ConnectOptions::new();
        if let Some(credentials) = &self.credentials {
            let why = "the credentials do not contain a user's JWT and the seed of its NKEY";
            // The client library's error may quote the seed.
            return options.credentials(credentials).map_err(|_secret| BrokerError::refused(why));
        }
        if let Some(token) = &self.token {
            return Ok(options.token(token.clone()));
        }
        Ok(match &self.username {
            Some(username) => {
                let password = self.password.clone().unwrap_or_default();
                options.user_and_password(username.clone(), password)
            }
            None => options,
        })
    }

    /// The permissions that a user of the server needs.
    pub(crate) fn permissions(&self) -> String {
        let cluster = &self.cluster;
        format!("permissions {{ publish: \"{cluster}.>\", subscribe: \"{cluster}.>\" }}")
    }
}

impl fmt::Debug for NatsSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsSettings")
            // A URL with a secret may be shown before it is refused.
            .field("url", &self.url.rsplit('@').next().unwrap_or_default())
            .field("cluster", &self.cluster)
            .field("username", &self.username)
            .field("identity", &self.identity())
            .field("has_ca", &self.ca_pem.is_some())
            .field("connect_timeout", &self.connect_timeout)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_secret() {
        let mut settings = NatsSettings::new("nats://me:s3cret@a,me:s3cret@b:1", "wserver");
        settings.username = Some("me".to_owned());
        settings.password = Some("s3cret".to_owned());
        settings.token = Some("s3cret".to_owned());
        settings.credentials = Some("s3cret".to_owned());
        let text = format!("{settings:?}");
        assert!(!text.contains("s3cret") && text.contains("b:1"), "{text}");
    }
}
