//! Why a link is of no more use: what its tasks report, and whoever uses it waits for.

use tokio::sync::watch;
use wserver_cluster::BrokerError;

/// Why a link is no longer usable, once it is not. The first reason stays.
#[derive(Clone)]
pub(crate) struct FirstFailure(watch::Sender<Option<BrokerError>>);

impl FirstFailure {
    pub(crate) fn none() -> Self {
        Self(watch::Sender::new(None))
    }

    pub(crate) fn fail(&self, error: BrokerError) {
        self.0.send_if_modified(|reason| {
            let is_first = reason.is_none();
            reason.get_or_insert(error);
            is_first
        });
    }

    pub(crate) async fn failed(&self) -> BrokerError {
        let mut reasons = self.0.subscribe();
        let reason = reasons.wait_for(Option::is_some).await.expect("its sender is here");
        reason.clone().expect("it was waited for")
    }
}
