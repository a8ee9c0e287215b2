//! The scores that one node got, by name.
//!
//! There are few names, and an allocation carries the scores of several nodes: a map would take a piece of
//! memory for each name. What is known stands in a row, and only other names (of rows that others wrote) go
//! into a map. On the wire it is a map from name to number.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::nil::Empty;

/// What gives a score. Ordered by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scorer {
    AllocationSpread,
    /// No score: what comes before the fit among nodes that would be well begun.
    Balance,
    Binpack,
    Devices,
    JobAntiAffinity,
    NodeAffinity,
    NodeReschedulePenalty,
    Preemption,
}

impl Scorer {
    pub const ALL: [Self; 8] = [
        Self::AllocationSpread,
        Self::Balance,
        Self::Binpack,
        Self::Devices,
        Self::JobAntiAffinity,
        Self::NodeAffinity,
        Self::NodeReschedulePenalty,
        Self::Preemption,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::AllocationSpread => "allocation-spread",
            Self::Balance => "balance",
            Self::Binpack => "binpack",
            Self::Devices => "devices",
            Self::JobAntiAffinity => "job-anti-affinity",
            Self::NodeAffinity => "node-affinity",
            Self::NodeReschedulePenalty => "node-reschedule-penalty",
            Self::Preemption => "preemption",
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scorer| scorer.name() == name)
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// See the module's text.
#[derive(Clone, Default, PartialEq)]
pub struct Scores {
    /// By scorer; nought where none was given.
    known: [f64; Scorer::ALL.len()],
    given: u8,
    other: BTreeMap<String, f64>,
}

impl Scores {
    pub fn set(&mut self, scorer: Scorer, score: f64) {
        self.known[scorer as usize] = score;
        self.given |= scorer.bit();
    }

    pub fn get(&self, name: &str) -> Option<f64> {
        match Scorer::named(name) {
            Some(scorer) => (self.given & scorer.bit() != 0).then(|| self.known[scorer as usize]),
            None => self.other.get(name).copied(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.given == 0 && self.other.is_empty()
    }

    /// The known ones by name, then others by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, f64)> {
        let given = Scorer::ALL.into_iter().filter(|scorer| self.given & scorer.bit() != 0);
        let known = given.map(|scorer| (scorer.name(), self.known[scorer as usize]));
        known.chain(self.other.iter().map(|(name, score)| (name.as_str(), *score)))
    }

    /// As a map of its own.
    pub fn to_map(&self) -> BTreeMap<String, f64> {
        self.iter().map(|(name, score)| (name.to_owned(), score)).collect()
    }
}

impl<'a> FromIterator<(&'a str, f64)> for Scores {
    fn from_iter<T: IntoIterator<Item = (&'a str, f64)>>(scores: T) -> Self {
        let mut all = Self::default();
        for (name, score) in scores {
            match Scorer::named(name) {
                Some(scorer) => all.set(scorer, score),
                None => {
                    all.other.insert(name.to_owned(), score);
                }
            }
        }
        all
    }
}

impl fmt::Debug for Scores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl Empty for Scores {
    fn is_nil(&self) -> bool {
        self.is_empty()
    }
}

impl Serialize for Scores {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for Scores {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Named;
        impl<'de> Visitor<'de> for Named {
            type Value = Scores;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map from names to numbers")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Scores, A::Error> {
                let mut all = Scores::default();
                while let Some(name) = entries.next_key::<Name>()? {
                    let score = entries.next_value()?;
                    match name {
                        Name::Known(scorer) => all.set(scorer, score),
                        Name::Other(name) => {
                            all.other.insert(name, score);
                        }
                    }
                }
                Ok(all)
            }
        }
        d.deserialize_map(Named)
    }
}

/// A name as it is read: one that is known needs no memory.
enum Name {
    Known(Scorer),
    Other(String),
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Name;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Name, E> {
                Ok(Scorer::named(text).map_or_else(|| Name::Other(text.to_owned()), Name::Known))
            }
        }
        d.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_read_and_write_as_a_map_of_numbers() {
        for text in [
            r#"{}"#,
            r#"{"binpack":0.5}"#,
            r#"{"allocation-spread":-1.0,"binpack":0.0,"preemption":0.25}"#,
            r#"{"job-anti-affinity":-0.1,"my-scorer":3.5,"normalized-score":0.7}"#,
        ] {
            let scores: Scores = serde_json::from_str(text).unwrap();
            let map: BTreeMap<String, f64> = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&scores).unwrap(), text);
            assert_eq!(scores.to_map(), map);
            assert_eq!(scores, map.iter().map(|(name, score)| (name.as_str(), *score)).collect());
            assert_eq!(scores.is_empty(), map.is_empty());
            for name in Scorer::ALL.map(Scorer::name).into_iter().chain(["my-scorer", "nobody"]) {
                assert_eq!(scores.get(name), map.get(name).copied(), "{name}");
            }
        }
        assert!(serde_json::from_str::<Scores>(r#"{"binpack":"much"}"#).is_err());
    }

    #[test]
    fn scorers_stand_in_the_order_of_their_names() {
        assert!(Scorer::ALL.is_sorted_by_key(|scorer| scorer.name()));
        assert!(Scorer::ALL.into_iter().enumerate().all(|(at, scorer)| scorer as usize == at));
    }
}
