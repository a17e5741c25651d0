//! Who may push and who may administer: asked before a body is read.

pub(crate) mod open_push;
pub(crate) mod site;

use wserver_auth::{Publisher, PushCredentials, PushRefusal};

use self::open_push::OpenPushScope;
use crate::api::Api;
use crate::reply::refused::Refused;
use crate::request::Request;
use wserver_node::Wire;

/// The publisher behind a push.
pub(crate) async fn publisher<W: Wire>(
    api: &Api<W>,
    request: Request,
) -> Result<Publisher, Refused> {
    if let Some(scope) = api.open_push {
        open_push::check(scope, &request.headers).map_err(|why| Refused::OpenPush { why })?;
    }
    let credentials = PushCredentials::new(request.headers, request.client).with_uri(request.uri);
    api.push_authorizer.authorize(credentials).await.map_err(|refusal| refused(&refusal))
}

/// The publisher behind a request to administer.
///
/// Where nobody has a key, nobody is an administrator, and a program on this machine may do what
/// its user could do with a signal. `allow_open_push` is about pushes and changes nothing here: then
/// the listener may be reached from elsewhere, so the socket's own address must be of this machine too.
pub(crate) async fn admin<W: Wire>(api: &Api<W>, request: Request) -> Result<Publisher, Refused> {
    if api.open_push.is_some() {
        let refuse = |why| Refused::OpenAdmin { why };
        if !request.peer.ip().to_canonical().is_loopback() {
            return Err(refuse("it came from another machine"));
        }
        open_push::check(OpenPushScope::Loopback, &request.headers).map_err(refuse)?;
        return publisher(api, request).await;
    }
    let publisher = publisher(api, request).await?;
    if publisher.admin { Ok(publisher) } else { Err(Refused::NotAdmin) }
}

/// The refusal as it is told.
pub(crate) fn refused(refusal: &PushRefusal) -> Refused {
    match refusal {
        PushRefusal::Missing => Refused::Unauthorized { why: "the push key is missing" },
        PushRefusal::Expired => Refused::Unauthorized { why: "the push key is expired" },
        PushRefusal::NotYetValid => Refused::Unauthorized { why: "the push key is not yet valid" },
        PushRefusal::RateExceeded { wait } => Refused::PushRate { wait: *wait },
        PushRefusal::BeyondBurst { burst } => Refused::BeyondBurst { burst: *burst },
        PushRefusal::Unavailable { .. } => Refused::AuthorizerUnavailable,
        _ => Refused::Unauthorized { why: "the push key is wrong" },
    }
}
