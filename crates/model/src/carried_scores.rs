//! The scores of several nodes, as an allocation carries them between Steppe's processes: what is scored is named once, not
//! for each node, which makes a row of five nodes half as long.
//!
//! ```text
//!   for people  [{"NodeID":"n1","Scores":{"binpack":0.5,"node-affinity":0.0},"NormScore":0.25}, …]
//!   carried     {"by":["binpack","node-affinity"],"of":[["n1",0.25,[0.5,0.0]], …]}        null: not scored so
//! ```
//!
//! Either form is read, and both are the same list.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::ids::NodeId;
use crate::metric::NodeScoreMeta;
use crate::{nil, sparse};

#[derive(Serialize)]
struct Told<'a> {
    by: &'a [&'a str],
    of: Vec<(&'a NodeId, f64, Vec<Option<f64>>)>,
}

/// # Errors
/// Those of the serializer.
pub fn serialize<S: Serializer>(scores: &Vec<NodeScoreMeta>, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_newtype_struct(sparse::CARRIED, &Inner(scores))
}

struct Inner<'a>(&'a Vec<NodeScoreMeta>);

impl Serialize for Inner<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let scores = self.0;
        if s.is_human_readable() || scores.is_empty() {
            return nil::serialize(scores, s);
        }
        let mut by: Vec<&str> = Vec::new();
        for (name, _) in scores.iter().flat_map(|node| node.scores.iter()) {
            if !by.contains(&name) {
                by.push(name);
            }
        }
        let row = |node: &NodeScoreMeta| by.iter().map(|name| node.scores.get(name)).collect();
        let of = scores.iter().map(|node| (&node.node_id, node.norm_score, row(node))).collect();
        Told { by: &by, of }.serialize(s)
    }
}

/// # Errors
/// Those of the deserializer.
pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<NodeScoreMeta>, D::Error> {
    d.deserialize_newtype_struct(sparse::CARRIED, Reader)
}

/// As [`crate::Carried`] is read: a deserializer that is not for people is asked for the list that people see.
struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Vec<NodeScoreMeta>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("scores of nodes")
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, d: D) -> Result<Vec<NodeScoreMeta>, D::Error> {
        if d.is_human_readable() { d.deserialize_any(Rows(PhantomData)) } else { nil::deserialize(d) }
    }
}

/// A node and its score, without what that is made of.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Total {
    #[serde(rename = "NodeID")]
    pub node_id: NodeId,
    pub norm_score: f64,
}

/// What is read of an [`crate::metric::AllocMetric`] where only these are wanted.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Totals {
    #[serde(deserialize_with = "totals")]
    pub score_meta_data: Vec<Total>,
}

fn totals<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<Total>, D::Error> {
    d.deserialize_any(Rows(PhantomData))
}

/// What a carried row is read into.
trait Row {
    fn new(node_id: NodeId, norm_score: f64, scores: &[Option<f64>], by: &[String]) -> Self;
}

impl Row for Total {
    fn new(node_id: NodeId, norm_score: f64, _: &[Option<f64>], _: &[String]) -> Self {
        Self { node_id, norm_score }
    }
}

impl Row for NodeScoreMeta {
    fn new(node_id: NodeId, norm_score: f64, scores: &[Option<f64>], by: &[String]) -> Self {
        let scores = by.iter().zip(scores).filter_map(|(name, score)| Some((name.as_str(), (*score)?))).collect();
        Self { node_id, norm_score, scores }
    }
}

struct Rows<T>(PhantomData<T>);

impl<'de, T: Row + Deserialize<'de>> Visitor<'de> for Rows<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("scores of nodes")
    }

    fn visit_unit<E>(self) -> Result<Vec<T>, E> {
        Ok(Vec::new())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
        let mut rows = Vec::new();
        while let Some(row) = list.next_element()? {
            rows.push(row);
        }
        Ok(rows)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vec<T>, A::Error> {
        let mut by: Vec<String> = Vec::new();
        let mut of: Vec<(NodeId, f64, Vec<Option<f64>>)> = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "by" => by = map.next_value()?,
                "of" => of = map.next_value()?,
                _ => drop(map.next_value::<serde::de::IgnoredAny>()?),
            }
        }
        Ok(of.into_iter().map(|(node, norm, scores)| T::new(node, norm, &scores, &by)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::AllocMetric;
    use crate::{Allocation, Carried, sparse};

    fn metric() -> AllocMetric {
        let node = |id: &str, norm_score, scores: &[(&str, f64)]| NodeScoreMeta {
            node_id: id.into(),
            norm_score,
            scores: scores.iter().copied().collect(),
        };
        let score_meta_data = vec![
            node("n1", 0.25, &[("binpack", 0.5), ("node-affinity", 0.0)]),
            node("n2", -0.1, &[("binpack", 0.1), ("of tomorrow", -0.3)]),
            node("n3", 0.0, &[]),
        ];
        AllocMetric { nodes_evaluated: 3, score_meta_data, ..AllocMetric::default() }
    }

    #[test]
    fn names_are_said_once_between_processes_and_for_each_node_to_people() {
        let row = Allocation { metrics: Some(Carried::new(metric())), ..Allocation::default() };
        let carried = sparse::to_string(&row).unwrap();
        let told = r#"{"by":["binpack","node-affinity","of tomorrow"],"of":[["n1",0.25,[0.5,0.0,null]],["n2",-0.1,[0.1,null,-0.3]],["n3",0.0,[null,null,null]]]}"#;
        assert!(carried.contains(&format!(r#""ScoreMetaData":{told}"#)), "{carried}");
        let read: Allocation = serde_json::from_str(&carried).unwrap();
        assert_eq!(*read.metrics.as_ref().unwrap().look(), metric());
        assert_eq!(sparse::to_string(&read).unwrap(), carried);
        // And so they read it.
        assert_eq!(serde_json::to_string(&read).unwrap(), serde_json::to_string(&row).unwrap());
        let public = serde_json::to_string(&row).unwrap();
        assert!(public.contains(r#"{"NodeID":"n1","Scores":{"binpack":0.5,"node-affinity":0.0},"NormScore":0.25}"#));
        let read: Allocation = serde_json::from_str(&public).unwrap();
        assert_eq!(*read.metrics.unwrap().look(), metric());
    }

    #[test]
    fn totals_are_read_of_either_form() {
        let carried = Carried::new(metric());
        let texts = [
            serde_json::to_string(&metric()).unwrap(),
            sparse::to_string(&carried).unwrap(),
            r#"{"ScoreMetaData":{"of":[["n1",0.25,[]],["n2",-0.1,[7]],["n3",0,[]]],"since":[1],"by":["x"]}}"#
                .to_owned(),
        ];
        for text in texts {
            let totals: Totals = serde_json::from_str(&text).unwrap();
            let told: Vec<_> = totals.score_meta_data.iter().map(|of| (of.node_id.as_str(), of.norm_score)).collect();
            assert_eq!(told, [("n1", 0.25), ("n2", -0.1), ("n3", 0.0)], "{text}");
        }
        for nothing in ["{}", r#"{"ScoreMetaData":null}"#, r#"{"ScoreMetaData":[]}"#, r#"{"ScoreMetaData":{}}"#] {
            assert!(serde_json::from_str::<Totals>(nothing).unwrap().score_meta_data.is_empty());
            assert!(serde_json::from_str::<AllocMetric>(nothing).unwrap().score_meta_data.is_empty());
        }
        assert!(serde_json::from_str::<AllocMetric>(r#"{"ScoreMetaData":7}"#).is_err());
    }
}
