//! What an operator sets, and what of it can be seen to be wrong before anything is connected.

use std::fmt;
use std::time::Duration;

use async_nats::ConnectOptions;
use wserver_cluster::BrokerError;

/// How to reach NATS. User with password, token and credentials exclude each other.
#[derive(Clone)]
#[non_exhaustive]
pub struct NatsSettings {
    /// `nats://a:4222,b:4222` or `tls://a:4222,b:4222`: the servers of one NATS cluster. The port may
    /// be left out; a secret has no place here.
    pub url: String,
    /// What the subjects begin with; two clusters at one NATS need two names.
    pub cluster: String,
    /// The user.
    pub username: Option<String>,
    /// The user's password.
    pub password: Option<String>,
    /// A token, for a server that knows no users.
    pub token: Option<String>,
    /// The content of a `.creds` file: a user's JWT and the seed of its NKEY.
    pub credentials: Option<String>,
    /// The authorities that may have signed the servers' certificates, in place of the system's.
    pub ca_pem: Option<Vec<u8>>,
    /// How long connecting may take altogether, and publishing.
    pub connect_timeout: Duration,
}

/// How a node shows who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Identity {
    Nobody,
    User,
    Token,
    Credentials,
}

impl NatsSettings {
    /// These servers and this name of the cluster; nobody's identity, the system's authorities, five
    /// seconds.
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

    /// Checks what the settings say of the cluster's name and the node's identity.
    pub(crate) fn check(&self) -> Result<(), BrokerError> {
        self.check_cluster()?;
        if self.password.is_some() && self.username.is_none() {
            return Err(BrokerError::refused("a password needs a user: set cluster_username"));
        }
        let ways = [self.username.is_some(), self.token.is_some(), self.credentials.is_some()];
        if ways.into_iter().filter(|&is_set| is_set).count() > 1 {
            let why = "a user with a password, a token and credentials exclude each other: set one";
            return Err(BrokerError::refused(why));
        }
        self.options().map(drop)
    }

    /// A name of one or more words with points between them, as NATS understands subjects.
    fn check_cluster(&self) -> Result<(), BrokerError> {
        let name = &self.cluster;
        let is_odd = |it: char| it.is_whitespace() || it.is_control() || matches!(it, '*' | '>');
        let why = if name.contains(is_odd) {
            "holds a space, a * or a >"
        } else if name.split('.').any(str::is_empty) {
            "has an empty word between its points"
        } else if name.starts_with('$') {
            "begins with $, which NATS keeps for itself"
        } else {
            return Ok(());
        };
        let message = format!("cluster name {name:?} cannot begin a NATS subject: it {why}");
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

    /// What the client is told of the node's identity.
    pub(crate) fn options(&self) -> Result<ConnectOptions, BrokerError> {
        let options = ConnectOptions::new();
        if let Some(credentials) = &self.credentials {
            let why = "the credentials do not hold a user's JWT and the seed of its NKEY";
            // What the client says of it may quote the seed.
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

    /// What a user of the server must be allowed.
    pub(crate) fn permissions(&self) -> String {
        let cluster = &self.cluster;
        format!("permissions {{ publish: \"{cluster}.>\", subscribe: \"{cluster}.>\" }}")
    }
}

impl fmt::Debug for NatsSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsSettings")
            // A URL with a secret in it is refused later than it may be shown.
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
