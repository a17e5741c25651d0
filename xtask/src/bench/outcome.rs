//! All that a run has found, and what of it is not as it should be.

use super::binder::Binder;
use super::cluster::Clusters;
use super::failures::Failures;
use super::memory::Memory;
use super::runs::Runs;
use super::scaling::Scaling;
use super::subject::Subject;

/// All that was measured.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) runs: Runs,
    pub(super) binder: Binder,
    pub(super) memory: Memory,
    pub(super) scaling: Scaling,
    pub(super) clusters: Clusters,
    /// This run wrote the page of clusters that the other page names.
    pub(super) has_cluster_page: bool,
    pub(super) failures: Failures,
}

impl Outcome {
    /// What is wrong with ours: untrue, or not to be measured.
    pub(super) fn wrong(&self) -> Vec<String> {
        let failed = self.failures.0.iter().filter(|(subject, _)| subject.is_ours());
        let failed = failed.map(|(_, what)| what.clone()).collect();
        let ours = Subject::ALL.into_iter().chain([Subject::Before]).filter(|it| it.is_ours());
        let untrue = ours.flat_map(|subject| self.runs.untrue(subject)).collect();
        [untrue, self.scaling.untrue(), self.clusters.untrue(), failed].concat()
    }
}
