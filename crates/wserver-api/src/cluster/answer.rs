//! Answers the questions of other nodes, about this node only.

use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use wserver_node::{NodeId, Wire};
use wserver_protocol::v2::{self, Answer, AnswerValue, Question};

use crate::api::Api;
use crate::cluster::{kept, lost, repeated};
use crate::operate::{admin, explain};
use crate::parameters;
use crate::reply::refused::Refused;

impl<W: Wire> Api<W> {
    /// Answers another node of the cluster; `None` if the question cannot be read.
    pub fn answer_node(
        self: &Arc<Self>,
        from: NodeId,
        question: &Bytes,
    ) -> BoxFuture<'static, Option<Bytes>> {
        let Some(question) = Question::parse(question) else {
            return std::future::ready(None).boxed();
        };
        let api = Arc::clone(self);
        async move { Some(Bytes::from(answer_here(&api, from, question))) }.boxed()
    }
}

fn answer_here<W: Wire>(api: &Arc<Api<W>>, from: NodeId, question: Question) -> String {
    match question {
        Question::Presence { users } => encode(admin::presence_here(api, &users)),
        Question::UserConnections { user } => encode(
            parameters::user(&api.limits, "user", &user)
                .map(|it| admin::connections_here(api, &it)),
        ),
        Question::Repeated { id, request } => {
            encode(Ok(repeated::repeated_here(api, from, &id, &request)))
        }
        Question::Lost { pushes } => {
            lost::lost_here(&api.node, &api.limits, pushes);
            encode(Ok(()))
        }
        Question::Kept { user, after } => encode(kept::kept_here(api, &user, &after)),
        Question::Connection { id } => {
            encode(parameters::connection_id(&id).and_then(|id| admin::connection_here(api, id)))
        }
        Question::Disconnect { body } => encode(admin::disconnect_here(api, body.as_bytes())),
        Question::Register { id, user, event } => encode(
            parameters::connection_id(&id)
                .and_then(|id| admin::register_here(api, id, &user, &event)),
        ),
        Question::Unregister { id, user, event } => encode(
            parameters::connection_id(&id)
                .and_then(|id| admin::unregister_here(api, id, &user, &event)),
        ),
        Question::Explain { user, event } => encode(explain::explain_here(api, &user, &event)),
        Question::Trace { user, stream } => encode(
            parameters::user(&api.limits, "user", &user)
                .and_then(|user| api.lent_traces.lend(from, stream, &user)),
        ),
        Question::Node => encode(Ok(admin::node_here(api))),
        _ => encode::<()>(Err(Refused::NotFound)),
    }
}

fn encode<T: AnswerValue>(answer: Result<T, Refused>) -> String {
    v2::encode(&match answer {
        Ok(answer) => Answer::Ok(answer),
        Err(refused) => Answer::Problem(refused.details().problem()),
    })
}
