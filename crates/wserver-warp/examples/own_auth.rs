//! An embedded server with its own authentication, pushing from within the program.
//!
//! Listeners present a token that looks like `USER.SIGNATURE`; publishers present a key. The
//! program itself pushes the time to everyone who registered `clock`, by the server's handle.
//!
//! `cargo run -p wserver-warp --example own_auth`

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::Result;
use async_trait::async_trait;
use wserver_warp::auth::{
    Authenticator, Credentials, EventScope, Identity, Refusal, StaticPushKeys,
};
use wserver_warp::{LimitSettings, OriginPolicy, Server};

/// Asks whatever knows this program's sessions; here, a list in memory.
#[derive(Clone, Default)]
struct Sessions {
    seen: Arc<Mutex<HashSet<String>>>,
}

#[async_trait]
impl Authenticator for Sessions {
    async fn authenticate(&self, credentials: Credentials) -> Result<Identity, Refusal> {
        let Some((user, "signed")) = credentials.token.split_once('.') else {
            return Err(Refusal::Unknown);
        };
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).insert(user.to_owned());
        // The connection is closed at the end of the hour, and may hear these events only.
        let hour = SystemTime::now() + Duration::from_secs(3600);
        Ok(Identity::new(user)
            .with_expires_at(hour)
            .with_events(EventScope::only(["clock", "chat.*"])))
    }
}

#[tokio::main]
#[expect(clippy::print_stderr, reason = "an example talks to whoever started it")]
async fn main() -> Result<()> {
    let sessions = Sessions::default();
    let server = Server::builder()
        .address("127.0.0.1:12345")
        .origin(OriginPolicy::same_origin())
        .authenticator(sessions.clone())
        .push_authorizer(StaticPushKeys::new(["a-key-of-sixteen-bytes-or-more"])?)
        .limits(LimitSettings { bindings_per_connection_max: 16, ..LimitSettings::default() })
        .before_close(|connection, reason| eprintln!("{} left: {reason}", connection.id()))
        .build()?
        .bind()?;
    let handle = server.handle();
    eprintln!(
        "register {{\"token\":\"jack.signed\",\"event\":\"clock\"}} at ws://{}/ws",
        server.local_addr()
    );

    let ticking = async move {
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        loop {
            ticks.tick().await;
            let users: Vec<String> = sessions
                .seen
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .iter()
                .cloned()
                .collect();
            for user in users {
                let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
                handle.push(&user, "clock", &now.to_string()).await?;
            }
        }
    };
    let ctrl_c = async { tokio::signal::ctrl_c().await.unwrap_or_default() };
    tokio::select! {
        result = ticking => result,
        _ = server.serve_until(ctrl_c) => Ok(()),
    }
}
