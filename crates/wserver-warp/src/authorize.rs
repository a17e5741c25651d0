//! Who may push and who may administer: asked before a body is read.

use std::net::SocketAddr;

use wserver_auth::{Publisher, PushCredentials, PushRefusal};

use crate::edge::Edge;
use crate::open_push::{self, OpenPushScope};
use crate::reply::Refused;
use crate::routes::Arrival;

/// The publisher behind a push. `client` is who sent it, as a trusted proxy tells.
pub(crate) async fn publisher(
    edge: &Edge,
    arrival: Arrival,
    client: SocketAddr,
) -> Result<Publisher, Refused> {
    if let Some(scope) = edge.open_push {
        open_push::check(scope, &arrival.headers).map_err(|why| Refused::OpenPush { why })?;
    }
    let credentials = PushCredentials::new(arrival.headers, client).with_uri(arrival.uri);
    edge.push_authorizer.authorize(credentials).await.map_err(|refusal| refused(&refusal))
}

/// The publisher behind a request to administer.
///
/// Where nobody has a key, nobody is an administrator, and a program on this machine may do what
/// its user could do with a signal. `allow_open_push` is about pushes and changes nothing here: then
/// the listener may be reached from elsewhere, so the socket's own address must be of this machine too.
pub(crate) async fn admin(
    edge: &Edge,
    arrival: Arrival,
    client: SocketAddr,
) -> Result<Publisher, Refused> {
    if edge.open_push.is_some() {
        let refuse = |why| Refused::OpenAdmin { why };
        if !arrival.peer.ip().to_canonical().is_loopback() {
            return Err(refuse("it came from another machine"));
        }
        open_push::check(OpenPushScope::Loopback, &arrival.headers).map_err(refuse)?;
        return publisher(edge, arrival, client).await;
    }
    let publisher = publisher(edge, arrival, client).await?;
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
