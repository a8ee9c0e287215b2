//! Which events does a reader want? `Topic`, `Topic:key` or `Topic:*`, any of several.

use std::collections::{BTreeMap, BTreeSet};

use model::NamespaceName;

/// Every topic of the compatible interface. Those whose tables are not built have no events.
pub const TOPICS: [&str; 18] = [
    "*",
    "Job",
    "Evaluation",
    "Allocation",
    "Deployment",
    "Node",
    "NodePool",
    "Service",
    "ACLToken",
    "ACLPolicy",
    "ACLRole",
    "ACLAuthMethod",
    "ACLBindingRule",
    "HostVolume",
    "CSIVolume",
    "CSIPlugin",
    "Operator",
    "Variable",
];
const ANY: &str = "*";

/// A topic that cannot be meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    #[error("Invalid topic query: {0:?}, want Topic, Topic:key or Topic:*")]
    Form(String),
    #[error("Invalid topic query: there is no topic {topic:?}, there are {}", TOPICS.join(", "))]
    Unknown { topic: String },
}

/// What a reader asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Keys by topic; `*` stands for all, in both places.
    topics: BTreeMap<String, BTreeSet<String>>,
    /// `None`: all of them.
    namespace: Option<NamespaceName>,
}

impl Wanted {
    /// No topic asks for everything.
    ///
    /// # Errors
    /// See [`TopicError`].
    pub fn parse<'a>(
        topics: impl Iterator<Item = &'a str>,
        namespace: Option<NamespaceName>,
    ) -> Result<Self, TopicError> {
        let mut wanted = BTreeMap::<String, BTreeSet<String>>::new();
        for text in topics {
            let (topic, key) = text.split_once(':').unwrap_or((text, ANY));
            if topic.is_empty() || key.contains(':') {
                return Err(TopicError::Form(text.to_owned()));
            }
            if !TOPICS.contains(&topic) {
                return Err(TopicError::Unknown { topic: topic.to_owned() });
            }
            let key = if key.is_empty() { ANY } else { key };
            wanted.entry(topic.to_owned()).or_default().insert(key.to_owned());
        }
        if wanted.is_empty() {
            wanted.insert(ANY.to_owned(), BTreeSet::from([ANY.to_owned()]));
        }
        Ok(Self { topics: wanted, namespace })
    }

    /// Whether it is everything there is.
    pub fn is_all(&self) -> bool {
        self.namespace.is_none() && self.topics.get(ANY).is_some_and(|keys| keys.contains(ANY))
    }

    pub fn takes(&self, topic: &str, namespace: Option<&NamespaceName>, key: &str, filter_keys: &[String]) -> bool {
        if let (Some(wanted), Some(given)) = (&self.namespace, namespace)
            && wanted != given
        {
            return false;
        }
        let hit = |keys: &BTreeSet<String>| {
            keys.contains(ANY) || keys.contains(key) || filter_keys.iter().any(|key| keys.contains(key))
        };
        [topic, ANY].iter().filter_map(|topic| self.topics.get(*topic)).any(hit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(topics: &[&str]) -> Result<Wanted, TopicError> {
        Wanted::parse(topics.iter().copied(), Some("default".into()))
    }

    /// event-004
    #[test]
    fn an_event_is_taken_by_its_key_or_a_filter_key_in_its_namespace() {
        let filter = ["web".to_owned(), "d1".to_owned()];
        let takes = |topics: &[&str], namespace: &str| {
            wanted(topics).unwrap().takes("Allocation", Some(&namespace.into()), "a1", &filter)
        };
        for good in
            [&["Allocation:web"][..], &["Allocation:a1"], &["Allocation"], &["*"], &["*:*"], &["Job", "*:d1"], &[]]
        {
            assert!(takes(good, "default"), "{good:?}");
            assert!(!takes(good, "other"), "{good:?}");
        }
        for bad in [&["Allocation:other"][..], &["Job"], &["*:other"]] {
            assert!(!takes(bad, "default"), "{bad:?}");
        }
        assert!(wanted(&["Node"]).unwrap().takes("Node", None, "n", &[]));
    }

    #[test]
    fn a_topic_that_is_none_is_refused() {
        assert_eq!(wanted(&["Job:a:b"]), Err(TopicError::Form("Job:a:b".to_owned())));
        assert_eq!(wanted(&[":x"]), Err(TopicError::Form(":x".to_owned())));
        assert!(matches!(wanted(&["Jobs"]), Err(TopicError::Unknown { .. })));
        assert!(Wanted::parse([].into_iter(), None).unwrap().is_all());
        assert!(!wanted(&["Job"]).unwrap().is_all());
    }
}
