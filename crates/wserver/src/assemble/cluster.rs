//! The cluster: which broker, and how the node takes part.

use std::path::Path;
use std::sync::Arc;

use wserver_auth::{invisible_character, without_byte_order_mark};
use wserver_warp::{Broker, BrokerError, ClusterSettings};

use crate::files::{self, KEYS_BYTES_MAX};
use crate::settings::{Problem, Settings};

/// The setting that says where the broker is.
const BROKER: &str = "cluster_broker";

/// The broker, and the node's settings in the cluster.
type Part = (Arc<dyn Broker>, ClusterSettings);

/// The cluster that the server joins, if any.
///
/// # Errors
/// What is wrong with the settings, as far as this is visible without a connection to the broker.
pub(super) fn cluster(settings: &Settings) -> Result<Option<Part>, Problem> {
    let Some(url) = &settings.cluster_broker else {
        return match without_a_broker(settings) {
            Some(name) => Err(Problem::new([name], format!("{name} needs a cluster_broker"))),
            None => Ok(None),
        };
    };
    let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
    let broker = match scheme {
        "nats" | "tls" => nats(url, settings)?,
        _ if scheme.starts_with("redis") => redis(url, settings)?,
        _ => {
            let words = format!(
                "cluster_broker is {}, but must begin with redis://, redis-sentinel://, \
                 redis-cluster://, rediss://, rediss-sentinel://, rediss-cluster://, nats:// or \
                 tls://",
                shown(url)
            );
            return Err(Problem::new([BROKER], words));
        }
    };
    let mut cluster = ClusterSettings::default();
    cluster.name.clone_from(&settings.cluster_name);
    cluster.node_name = settings.cluster_node_name.clone().unwrap_or_default();
    cluster.lease = settings.cluster_lease;
    cluster.release_when_cut_off = settings.cluster_release_when_cut_off;
    cluster.cut_off_max = settings.cluster_cut_off_max;
    cluster.answer_timeout = settings.cluster_answer_timeout;
    cluster.queue_bytes_max = settings.cluster_queue_bytes_max;
    cluster.requests_max = settings.cluster_requests_max;
    Ok(Some((broker, cluster)))
}

/// A setting that has no effect without a broker.
fn without_a_broker(settings: &Settings) -> Option<&'static str> {
    [
        ("cluster_node_name", settings.cluster_node_name.is_some()),
        ("cluster_username", settings.cluster_username.is_some()),
        ("cluster_password_file", settings.cluster_password_file.is_some()),
        ("cluster_credentials_file", settings.cluster_credentials_file.is_some()),
        ("cluster_ca_file", settings.cluster_ca_file.is_some()),
    ]
    .into_iter()
    .find_map(|(name, is_set)| is_set.then_some(name))
}

/// An address as a message can repeat it: without a part that might be a password.
fn shown(url: &str) -> String {
    match url.rsplit_once('@') {
        Some((_, host)) => format!("…@{host}"),
        None => format!("{url:?}"),
    }
}

fn text(name: &str, file: Option<&Path>) -> Result<Option<String>, Problem> {
    let Some(file) = file else { return Ok(None) };
    let place = format!("{name} {}", file.display());
    let bytes = files::read(file, KEYS_BYTES_MAX)
        .map_err(|error| Problem::new([name], format!("{place}: {error:#}")))?;
    let text = str::from_utf8(&bytes)
        .map_err(|_holds_it| Problem::new([name], format!("{place} is not UTF-8")))?;
    Ok(Some(without_byte_order_mark(text).to_owned()))
}

/// A secret from a file, without the line end that editors add.
#[cfg_attr(
    not(any(feature = "nats", feature = "redis")),
    expect(dead_code, reason = "neither broker is built in")
)]
fn secret(name: &str, file: Option<&Path>) -> Result<Option<String>, Problem> {
    let Some(text) = text(name, file)? else { return Ok(None) };
    let secret = text.trim_end_matches(['\r', '\n']);
    if secret.is_empty() {
        return Err(Problem::new([name], format!("{name} is empty")));
    }
    if let Some(character) = invisible_character(secret) {
        let code = u32::from(character);
        let words = format!("{name} contains the invisible character U+{code:04X}");
        return Err(Problem::new([name], words));
    }
    Ok(Some(secret.to_owned()))
}

#[cfg_attr(
    not(any(feature = "nats", feature = "redis")),
    expect(dead_code, reason = "neither broker is built in")
)]
fn problem(error: &BrokerError) -> Problem {
    Problem::new([BROKER], format!("{BROKER}: {error}"))
}

#[cfg(feature = "redis")]
fn redis(url: &str, settings: &Settings) -> Result<Arc<dyn Broker>, Problem> {
    use wserver_cluster_redis::{RedisBroker, RedisSettings};
    if settings.cluster_credentials_file.is_some() {
        let words = "cluster_credentials_file is for NATS, but cluster_broker is Redis: set \
                     cluster_password_file";
        return Err(Problem::new(["cluster_credentials_file", BROKER], words));
    }
    let mut redis = RedisSettings::new(url, &settings.cluster_name);
    redis.username.clone_from(&settings.cluster_username);
    redis.password = secret("cluster_password_file", settings.cluster_password_file.as_deref())?;
    redis.ca_pem = text("cluster_ca_file", settings.cluster_ca_file.as_deref())?.map(Into::into);
    RedisBroker::new(redis)
        .map(|broker| Arc::new(broker) as Arc<dyn Broker>)
        .map_err(|it| problem(&it))
}

#[cfg(not(feature = "redis"))]
fn redis(_: &str, _: &Settings) -> Result<Arc<dyn Broker>, Problem> {
    let words = "cluster_broker is Redis, but this wserver was built without the feature redis";
    Err(Problem::new([BROKER], words))
}

#[cfg(feature = "nats")]
fn nats(url: &str, settings: &Settings) -> Result<Arc<dyn Broker>, Problem> {
    use wserver_cluster_nats::{NatsBroker, NatsSettings};
    let mut nats = NatsSettings::new(url, &settings.cluster_name);
    nats.username.clone_from(&settings.cluster_username);
    let password = secret("cluster_password_file", settings.cluster_password_file.as_deref())?;
    // NATS calls a password without a user a token.
    if settings.cluster_username.is_some() {
        nats.password = password;
    } else {
        nats.token = password;
    }
    let credentials = settings.cluster_credentials_file.as_deref();
    nats.credentials = text("cluster_credentials_file", credentials)?;
    nats.ca_pem = text("cluster_ca_file", settings.cluster_ca_file.as_deref())?.map(Into::into);
    NatsBroker::new(nats)
        .map(|broker| Arc::new(broker) as Arc<dyn Broker>)
        .map_err(|it| problem(&it))
}

#[cfg(not(feature = "nats"))]
fn nats(_: &str, _: &Settings) -> Result<Arc<dyn Broker>, Problem> {
    let words = "cluster_broker is NATS, but this wserver was built without the feature nats";
    Err(Problem::new([BROKER], words))
}
