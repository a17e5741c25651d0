//! Checks whether a request may push or administer, before its body is read.

pub(crate) mod open_push;
pub(crate) mod site;

use std::fmt;
use std::sync::Arc;

use wserver_auth::{Publisher, PushAuthorizer, PushCredentials, PushRefusal};

use self::open_push::OpenPushScope;
use crate::reply::refused::Refused;
use crate::request::{Request, Side};

/// Decides about every request that not everybody may make.
pub(crate) struct Authorization {
    authorizer: Arc<dyn PushAuthorizer>,
    /// Set if pushes need no key.
    open_push: Option<OpenPushScope>,
}

impl fmt::Debug for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorization").field("open_push", &self.open_push).finish_non_exhaustive()
    }
}

impl Authorization {
    pub(crate) fn new(
        authorizer: Arc<dyn PushAuthorizer>,
        open_push: Option<OpenPushScope>,
    ) -> Self {
        Self { authorizer, open_push }
    }

    /// The publisher that sent a push.
    pub(crate) async fn publisher(&self, request: Request) -> Result<Publisher, Refused> {
        if let Some(scope) = self.open_push {
            open_push::check(scope, &request.headers).map_err(|why| Refused::OpenPush { why })?;
        }
        let Request { uri, headers, client, .. } = request;
        let credentials = PushCredentials::new(headers, client).with_uri(uri);
        self.authorizer.authorize(credentials).await.map_err(|refusal| refused(&refusal))
    }

    /// Lets an administrator through.
    ///
    /// If no keys are configured, there are no administrators. A program on this machine may then
    /// administer, because its user could stop the server with a signal anyway. `allow_open_push`
    /// concerns only pushes and does not help here: other machines may reach the listener then, so
    /// the address of the socket must also belong to this machine.
    pub(crate) async fn admin(&self, request: Request) -> Result<(), Refused> {
        if self.open_push.is_some() {
            let refuse = |why| Refused::OpenAdmin { why };
            if !request.peer.ip().to_canonical().is_loopback() {
                return Err(refuse("the request came from another machine"));
            }
            open_push::check(OpenPushScope::Loopback, &request.headers).map_err(refuse)?;
            return self.publisher(request).await.map(drop);
        }
        let publisher = self.publisher(request).await?;
        if publisher.admin { Ok(()) } else { Err(Refused::NotAdmin) }
    }

    /// Lets monitoring through. A listener for backends accepts their monitoring without a key.
    /// Where browsers connect too, monitoring needs the rights of an administrator.
    pub(crate) async fn monitor(&self, request: Request) -> Result<(), Refused> {
        match (request.side, self.open_push) {
            (Side::Private, None) => Ok(()),
            (Side::Private, Some(scope)) => {
                open_push::check(scope, &request.headers).map_err(|why| Refused::OpenAdmin { why })
            }
            _ => self.admin(request).await,
        }
    }
}

/// The refusal for the client.
pub(crate) fn refused(refusal: &PushRefusal) -> Refused {
    match refusal {
        PushRefusal::Missing => Refused::Unauthorized { why: "the push key is missing" },
        PushRefusal::Expired => Refused::Unauthorized { why: "the push key is expired" },
        PushRefusal::NotYetValid => Refused::Unauthorized { why: "the push key is not yet valid" },
        PushRefusal::RateExceeded { wait } => Refused::PushRate { wait: *wait },
        PushRefusal::BeyondBurst { burst } => Refused::BeyondBurst { burst: *burst },
        PushRefusal::Unavailable { .. } => Refused::AuthorizerUnavailable,
        PushRefusal::Wrong => Refused::Unauthorized { why: "the push key is wrong" },
    }
}
