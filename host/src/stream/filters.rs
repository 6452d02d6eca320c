//! What a consumer is asked for. A handler subscribes to some subjects, and that is what it gets. But where
//! several filters are given, or one that is not the stream's own subject, JetStream may look for each next
//! message among all subjects of the stream, which takes long where they are many: a thousand messages
//! a second of ten thousand keys. So a consumer is asked for all of a stream, or of a partition, where that comes to the
//! same. Where it turns out that it does not, it goes by the filters from then on.

use std::sync::atomic::{AtomicBool, Ordering};

use async_nats::jetstream::stream::Config;

use crate::model::Unit;
use crate::model::subject::covers;

/// The filters of one handler, or a partition of it, for one stream.
#[derive(Debug)]
pub struct Filters {
    exact: Vec<String>,
    /// What stands before the subjects of a partition.
    prefix: Option<String>,
    met_others: AtomicBool,
}

impl Filters {
    /// `exact`: what of the stream the handler subscribes to.
    pub fn new(exact: Vec<String>, unit: &Unit) -> Filters {
        let prefix = unit.partition().map(|_| unit.prefix());
        Filters { exact, prefix, met_others: AtomicBool::new(false) }
    }

    /// What the handler subscribes to.
    pub(super) fn exact(&self) -> &[String] {
        &self.exact
    }

    /// For a consumer that is made.
    pub(super) fn of_new(&self, stream: &Config) -> Vec<String> {
        if self.met_others.load(Ordering::Relaxed) {
            return self.exact.clone();
        }
        self.broad(stream)
    }

    /// For a consumer that is there and has these. It is not asked for more than it was: what lies behind
    /// it and is not the handler's would look as if it had been handled. Nor is one that takes its place.
    pub(super) fn of_existing(&self, stream: &Config, has: &[String]) -> Vec<String> {
        if has != self.broad(stream) {
            self.met_others();
        }
        self.of_new(stream)
    }

    /// Something was delivered that the handler does not subscribe to.
    pub(super) fn met_others(&self) {
        self.met_others.store(true, Ordering::Relaxed);
    }

    /// What comes to the same, as far as can be told beforehand.
    fn broad(&self, stream: &Config) -> Vec<String> {
        if let Some(prefix) = &self.prefix {
            return vec![format!("{prefix}>")];
        }
        // What a stream takes from others is not told by its subjects.
        let alone = stream.sources.is_none() && stream.mirror.is_none();
        let covered = |held: &String| self.exact.iter().any(|filter| covers(filter, held));
        if alone && stream.subjects.iter().all(covered) { Vec::new() } else { self.exact.clone() }
    }
}

#[cfg(test)]
mod tests {
    use async_nats::jetstream::stream::Source;

    use super::*;

    fn owned(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|&text| text.to_owned()).collect()
    }

    fn stream(subjects: &[&str]) -> Config {
        Config { subjects: owned(subjects), ..Config::default() }
    }

    #[test]
    fn all_is_asked_for_where_it_comes_to_the_same() {
        let exact = owned(&["a.*.x", "a.*.y"]);
        let filters = Filters::new(exact.clone(), &Unit::whole("h"));
        let all = stream(&["a.*.x", "a.7.y"]);
        assert_eq!(filters.of_new(&all), owned(&[]));
        assert_eq!(filters.of_existing(&all, &[]), owned(&[]));
        for subjects in [&["a.>"][..], &["a.*.x", "a.*.z"], &["a.*.*"]] {
            assert_eq!(filters.of_new(&stream(subjects)), exact, "{subjects:?}");
        }
        let sourced = Config { sources: Some(vec![Source::default()]), ..all.clone() };
        assert_eq!(filters.of_new(&sourced), exact);
        filters.met_others();
        assert_eq!(filters.of_new(&all), exact);
        assert_eq!(filters.of_existing(&all, &[]), exact);
    }

    #[test]
    fn a_consumer_that_goes_by_the_filters_goes_on_doing_so() {
        let exact = owned(&["a.*.x"]);
        let filters = Filters::new(exact.clone(), &Unit::whole("h"));
        let all = stream(&["a.*.x"]);
        assert_eq!(filters.of_existing(&all, &owned(&["a.*.y"])), exact);
        assert_eq!(filters.of_new(&all), exact, "set back");
    }

    #[test]
    fn a_partition_is_asked_for_by_its_number() {
        let exact = owned(&["tribox.partition.h.4.2.a.*"]);
        let filters = Filters::new(exact.clone(), &Unit::parse("h/2of4").unwrap());
        let all = stream(&["tribox.partition.h.4.>"]);
        assert_eq!(filters.of_new(&all), owned(&["tribox.partition.h.4.2.>"]));
        filters.met_others();
        assert_eq!(filters.of_new(&all), exact);
    }
}
