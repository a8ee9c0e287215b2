//! A part of a row that most who have the row only carry on: why an allocation was placed where it is, what happened to
//! its tasks.
//!
//! On its way from the scheduler to the API it passes through every service's memory. Who made it has the value; who got
//! it has its JSON, which is read when somebody looks ([`Carried::look`]) and else handed on as it came.
//!
//! Invariants
//! * Between Steppe's processes (`sparse`) it is written as it was read, byte for byte: who has a row from the same
//!   bytes as another has the same text of it.
//! * It is one line, whoever wrote it: the feed, snapshots and agents' streams end a row with a line's end. A text that
//!   is laid out in lines is read at once, and written anew.
//! * In a public answer it is written whole, as the value is.
//! * What is no JSON is refused when it is read. What is JSON of another shape is found empty when somebody looks.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::de::{DeserializeOwned, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::nil::Empty;
use crate::sparse;

/// A value, or its JSON. Clones share it.
pub struct Carried<T>(Form<T>);

enum Form<T> {
    Value(Arc<T>),
    Text(Arc<RawValue>),
}

impl<T> Carried<T> {
    pub fn new(value: T) -> Self {
        Self(Form::Value(Arc::new(value)))
    }
}

impl<T: DeserializeOwned + Default> Carried<T> {
    /// The value; read anew each time, where only its text is known.
    pub fn look(&self) -> Arc<T> {
        match &self.0 {
            Form::Value(value) => Arc::clone(value),
            Form::Text(text) => Arc::new(serde_json::from_str(text.get()).unwrap_or_default()),
        }
    }
}

impl<T> Carried<T> {
    /// A part of it, read without the rest: `of_value` where the value is known, else from its text.
    pub fn part<'a, P: Deserialize<'a> + Default>(&'a self, of_value: impl FnOnce(&'a T) -> P) -> P {
        match &self.0 {
            Form::Value(value) => of_value(value),
            Form::Text(text) => serde_json::from_str(text.get()).unwrap_or_default(),
        }
    }
}

impl<T> Carried<Vec<T>> {
    /// Known without reading it.
    pub fn is_empty(&self) -> bool {
        match &self.0 {
            Form::Value(list) => list.is_empty(),
            Form::Text(text) => matches!(text.get(), "[]" | "null"),
        }
    }
}

impl<T> Empty for Carried<Vec<T>> {
    fn is_nil(&self) -> bool {
        self.is_empty()
    }
}

impl<T> FromIterator<T> for Carried<Vec<T>> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        Self::new(items.into_iter().collect())
    }
}

impl<T> Clone for Carried<T> {
    fn clone(&self) -> Self {
        Self(match &self.0 {
            Form::Value(value) => Form::Value(Arc::clone(value)),
            Form::Text(text) => Form::Text(Arc::clone(text)),
        })
    }
}

impl<T: Default> Default for Carried<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T: DeserializeOwned + Default + PartialEq> PartialEq for Carried<T> {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Form::Text(one), Form::Text(other)) if one.get() == other.get() => true,
            _ => self.look() == other.look(),
        }
    }
}

impl<T: DeserializeOwned + Default + fmt::Debug> fmt::Debug for Carried<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.look().fmt(f)
    }
}

impl<T: Serialize + DeserializeOwned + Default> Serialize for Carried<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_newtype_struct(sparse::CARRIED, &Inner(self))
    }
}

/// What is inside, for a serializer that says by [`Serializer::is_human_readable`] whether people shall read it.
struct Inner<'a, T>(&'a Carried<T>);

impl<T: Serialize + DeserializeOwned + Default> Serialize for Inner<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0.0 {
            Form::Value(value) => value.serialize(serializer),
            Form::Text(text) if !serializer.is_human_readable() => text.serialize(serializer),
            Form::Text(_) => self.0.look().serialize(serializer),
        }
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Carried<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(sparse::CARRIED, Reader(PhantomData))
    }
}

struct Reader<T>(PhantomData<T>);

impl<'de, T: DeserializeOwned> Visitor<'de> for Reader<T> {
    type Value = Carried<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON")
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Carried<T>, D::Error> {
        if !deserializer.is_human_readable() {
            return T::deserialize(deserializer).map(Carried::new);
        }
        let text = Box::<RawValue>::deserialize(deserializer)?;
        // No string of JSON holds a line's end as it is: this is layout.
        if text.get().contains(['\n', '\r']) {
            return serde_json::from_str(text.get()).map(Carried::new).map_err(serde::de::Error::custom);
        }
        Ok(Carried(Form::Text(text.into())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Allocation;
    use crate::alloc::{TaskEvent, TaskState};
    use crate::metric::{AllocMetric, NodeScoreMeta};

    fn metric() -> AllocMetric {
        let score = NodeScoreMeta { node_id: "n".into(), norm_score: 0.25, ..NodeScoreMeta::default() };
        AllocMetric { nodes_evaluated: 3, score_meta_data: vec![score], ..AllocMetric::default() }
    }

    fn row() -> Allocation {
        Allocation { id: "a".into(), metrics: Some(Carried::new(metric())), ..Allocation::default() }
    }

    #[test]
    fn between_processes_the_text_is_handed_on_as_it_came() {
        let made = sparse::to_string(&row()).unwrap();
        assert!(made.contains(r#""Metrics":{"NodesEvaluated":3,"ScoreMetaData":{"#), "{made}");
        let read: Allocation = serde_json::from_str(&made).unwrap();
        assert_eq!((&read, sparse::to_string(&read).unwrap()), (&row(), made));
        // Not as we would write it, but as it was read.
        let odd = r#"{"ID":"a","Metrics":{ "NodesFiltered": 0,  "NodesEvaluated":3.0e0, "New":[1] }}"#;
        let read: Allocation = serde_json::from_str(odd).unwrap();
        let written = sparse::to_string(&read).unwrap();
        assert!(
            written.contains(r#""Metrics":{ "NodesFiltered": 0,  "NodesEvaluated":3.0e0, "New":[1] },"#),
            "{written}"
        );
    }

    /// A node could otherwise end the rows of all others in the feed and in snapshots, by how it lays out its own news.
    #[test]
    fn a_text_of_several_lines_is_told_in_one() {
        for lines in ["[\n {\"Type\":\"Started\"}\r\n]", "[{\"Type\":\"Started\"}\r]"] {
            let state: TaskState = serde_json::from_str(&format!(r#"{{"Events":{lines}}}"#)).unwrap();
            let told = sparse::to_string(&state).unwrap();
            assert!(!told.contains(['\n', '\r']) && told.contains(r#""Events":[{"Type":"Started"}]"#), "{told}");
            assert_eq!(serde_json::from_str::<TaskState>(&told).unwrap(), state);
        }
        assert!(serde_json::from_str::<TaskState>("{\"Events\":[\n7]}").is_err());
    }

    #[test]
    fn people_get_every_field_whoever_it_passed_through() {
        let whole = serde_json::to_value(row()).unwrap();
        assert_eq!(whole["Metrics"]["NodesFiltered"], 0);
        let carried: Allocation = serde_json::from_str(&sparse::to_string(&row()).unwrap()).unwrap();
        assert_eq!(serde_json::to_string(&carried).unwrap(), serde_json::to_string(&row()).unwrap());
        assert_eq!(serde_json::to_value(&carried).unwrap(), whole);
        assert_eq!(serde_json::from_value::<Allocation>(whole).unwrap(), row());
    }

    #[test]
    fn an_empty_list_is_null_for_people_and_nothing_between_processes() {
        let list = |text: &str| serde_json::from_str::<TaskState>(&format!(r#"{{"Events":{text}}}"#)).unwrap();
        for empty in [list("[]"), list("null"), TaskState::default()] {
            assert!(empty.events.is_empty());
            assert_eq!(sparse::to_string(&empty).unwrap(), r#"{"State":"pending"}"#);
            assert_eq!(serde_json::to_value(&empty).unwrap()["Events"], serde_json::Value::Null);
        }
        let told = TaskState {
            events: [TaskEvent { kind: "Started".into(), ..TaskEvent::default() }].into_iter().collect(),
            ..TaskState::default()
        };
        let read: TaskState = serde_json::from_str(&sparse::to_string(&told).unwrap()).unwrap();
        assert!(!read.events.is_empty() && read == told);
        assert_eq!(serde_json::to_value(&read).unwrap(), serde_json::to_value(&told).unwrap());
    }

    #[test]
    fn what_is_of_another_shape_is_empty_and_what_is_no_json_is_refused() {
        let read: Allocation = serde_json::from_str(r#"{"ID":"a","Metrics":"?"}"#).unwrap();
        assert_eq!(read.metrics.unwrap().look().as_ref(), &AllocMetric::default());
        assert!(serde_json::from_str::<Allocation>(r#"{"ID":"a","Metrics":{"NodesEvaluated":}}"#).is_err());
        assert!(serde_json::from_str::<Allocation>(r#"{"ID":"a","Metrics":null}"#).unwrap().metrics.is_none());
    }
}
