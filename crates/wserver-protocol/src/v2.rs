//! The JSON of the HTTP API: the requests to `/v2` and their answers, and the answers of `/push` to
//! requests that ask for JSON.
//!
//! Requests are read strictly: a field that is unknown, duplicate or of a wrong type is an error
//! that names it. Answers are read leniently, so that a client keeps working when later releases
//! add fields. `docs/http-api.md` in the repository is the contract.

mod admin;
mod body;
mod encode;
mod entry;
mod position;
mod problem;
mod push;
mod question;

pub use admin::{
    Closed, Connection, Connections, Disconnect, Explanation, LogNow, NodeInfo, Nodes, Now, Online,
    Presence, Registered, Registration, ReplayNow,
};
pub use body::{BodyError, LIST_ITEMS_MAX};
pub use encode::encode;
pub use entry::{Entry, Missed};
pub use position::{Kept, KeptMessage, PositionNow, PositionOf};
pub use problem::Problem;
pub use push::{
    Acks, Batch, BatchAnswer, BatchItem, Delivery, NodeDelivery, Push, PushAnswer, Reason,
    Recipients, UserDelivery, Wait, WaitFor,
};
pub use question::{Answer, AnswerValue, KnownRequest, LostPush, Question};
