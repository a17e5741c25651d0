//! Whether another node knows a request with an `Idempotency-Key`.

use bytes::Bytes;
use wserver_node::{NodeId, Wire};
use wserver_protocol::v2::{self, Answer, KnownRequest, Question};

use crate::api::Api;
use crate::cluster::{Cluster, Whom, ask};
use crate::push::idempotency::{Asked, Digest, Known};

/// Asks the other nodes of the cluster, if there are any.
pub(crate) async fn ask_others<W: Wire>(
    cluster: Option<&Cluster<W>>,
    id: Digest,
    request: Digest,
) -> Asked {
    let nothing = Asked { known: Known::Nothing, unheard: Vec::new() };
    let Some(cluster) = cluster else { return nothing };
    let question = Question::Repeated { id: id.to_string(), request: request.to_string() };
    let question = Bytes::from(v2::encode(&question));
    let read = |answer: &[u8], _took| match Answer::<KnownRequest>::parse(answer)? {
        Answer::Ok(known) => Some(Known::from(known)),
        Answer::Problem(_) => None,
    };
    let here = std::future::ready(Known::Nothing);
    let gathered = cluster.ask(Whom::Everybody, question, here, read).await;
    let unheard = ask::missing(&gathered);
    let known = gathered.others.into_iter().map(|(_, known)| known);
    let known = known.max_by_key(Known::weight).unwrap_or(Known::Nothing);
    Asked { known, unheard }
}

/// Answers another node.
pub(crate) fn repeated_here<W: Wire>(
    api: &Api<W>,
    from: NodeId,
    id: &str,
    request: &str,
) -> KnownRequest {
    let (Some(id), Some(request)) = (Digest::parse(id), Digest::parse(request)) else {
        return Known::Nothing.into();
    };
    let goes_first = api.cluster.as_ref().is_some_and(|cluster| from < cluster.id());
    api.pushes.idempotency.known(id, request, goes_first).into()
}

impl From<Known> for KnownRequest {
    fn from(known: Known) -> Self {
        let (state, answer) = match known {
            Known::Nothing => ("nothing", None),
            Known::UnderWay => ("under_way", None),
            Known::Answered(answer) => ("answered", Some(answer.as_ref().to_owned())),
            Known::Another => ("another", None),
        };
        Self { state: state.to_owned(), answer }
    }
}

impl From<KnownRequest> for Known {
    fn from(KnownRequest { state, answer }: KnownRequest) -> Self {
        match (state.as_str(), answer) {
            ("answered", Some(answer)) => Self::Answered(answer.into()),
            ("another", _) => Self::Another,
            ("nothing", _) => Self::Nothing,
            // What a later release may say is not nothing.
            _ => Self::UnderWay,
        }
    }
}
