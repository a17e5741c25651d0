//! A cluster, as far as answers have to do with it: how far a push reaches, what other nodes are
//! asked and what they are answered.

pub(crate) mod reach;
pub(crate) mod answer;
pub(crate) mod ask;
pub(crate) mod lent;
