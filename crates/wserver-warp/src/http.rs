//! One HTTP connection, from its first byte to its end or its upgrade.

pub(crate) mod exchange;
pub(crate) mod express;
pub(crate) mod routes;
pub(crate) mod site;
pub(crate) mod keep_alive;
pub(crate) mod refused;
pub(crate) mod unread;
pub(crate) mod proxies;
pub(crate) mod host;
pub(crate) mod date;
pub(crate) mod io;
pub(crate) mod notes;
pub(crate) mod framing;
