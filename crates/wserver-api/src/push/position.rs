//! `POST /v2/position`: where a page stands that fetches its data now and connects afterwards.

use wserver_node::{PositionError, Wire};
use wserver_protocol::v2::{self, PositionNow, PositionOf};

use crate::api::Api;
use crate::body::Body;
use crate::parameters;
use crate::reply::refused::Refused;
use crate::reply::{self, Reply};
use crate::request::Request;

/// Answers with the position of the user's log, which begins now if there is none.
pub(crate) async fn answer<W: Wire>(
    api: &Api<W>,
    request: Request,
    read: impl Future<Output = Result<Body, Refused>>,
) -> Result<Reply, Refused> {
    let publisher = api.authorization.publisher(request).await?;
    let body = read.await?;
    let PositionOf { user } = PositionOf::parse(&body.bytes).map_err(Refused::Body)?;
    if !publisher.scope.permits_user(&user) {
        let why = "this push key may not push to this user";
        return Err(Refused::Forbidden { field: "user".into(), why });
    }
    let user = parameters::user(&api.limits, "user", &user)?;
    let at = api.node.position(&user).map_err(|error| match error {
        PositionError::Off => Refused::ReplayOff,
        PositionError::Full { max } => Refused::ReplayFull { max },
    })?;
    Ok(reply::json(v2::encode(&PositionNow { at: at.to_string() })))
}
