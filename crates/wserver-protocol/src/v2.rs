//! The HTTP API's JSON: what is posted to `/v2`, and what is answered there and by `/push` where JSON
//! is asked for.
//!
//! Requests are read strictly: a field that is unknown, comes twice or has a wrong type is an error
//! that names it. Answers are read leniently, so that a client outlives fields that come later.
//! `docs/http-api.md` of the repository is the contract.

mod admin;
mod body;
mod encode;
mod entry;
mod problem;
mod push;
mod question;

pub use admin::{
    Closed, Connection, Connections, Disconnect, Explanation, NodeInfo, Nodes, Now, Online,
    Presence, Registered, Registration,
};
pub use body::{BodyError, LIST_ITEMS_MAX};
pub use encode::encode;
pub use entry::{Entry, Missed};
pub use problem::Problem;
pub use push::{
    Batch, BatchAnswer, BatchItem, Delivery, NodeDelivery, Push, PushAnswer, Reason, Recipients,
    UserDelivery,
};
pub use question::{Answer, Question, Said};
