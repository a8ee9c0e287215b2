//! A map of few entries: a sorted list, which takes the room of what is in it. The standard library's sorted
//! map takes that of eleven entries for the first one, and most maps of an allocation have one: 5 of its 12 KB.
//!
//! On the wire and in order it is as that map is. Looking up is a binary search. Inserting moves what comes
//! after, so it is meant for up to some dozens of entries; more of them work, and inserting them out of order
//! costs their square.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Index;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::nil::Empty;

/// Entries sorted by key, each key once.
#[derive(Clone, PartialEq, Eq)]
pub struct SmallMap<K, V>(Vec<(K, V)>);

impl<K, V> Default for SmallMap<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K, V> SmallMap<K, V> {
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }

    pub fn iter(&self) -> Iter<'_, K, V> {
        Iter(self.0.iter())
    }

    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &K> + ExactSizeIterator {
        self.0.iter().map(|(key, _)| key)
    }

    pub fn values(&self) -> impl DoubleEndedIterator<Item = &V> + ExactSizeIterator {
        self.0.iter().map(|(_, value)| value)
    }

    pub fn values_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut V> + ExactSizeIterator {
        self.0.iter_mut().map(|(_, value)| value)
    }
}

impl<K: Ord, V> SmallMap<K, V> {
    fn find<Q: Ord + ?Sized>(&self, key: &Q) -> Result<usize, usize>
    where
        K: Borrow<Q>,
    {
        self.0.binary_search_by(|(here, _)| here.borrow().cmp(key))
    }

    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let at = self.find(key).ok()?;
        self.0.get(at).map(|(_, value)| value)
    }

    pub fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let at = self.find(key).ok()?;
        self.0.get_mut(at).map(|(_, value)| value)
    }

    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.find(key).is_ok()
    }

    /// Gives what was there under this key.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self.find(&key) {
            Ok(at) => self.0.get_mut(at).map(|(_, here)| std::mem::replace(here, value)),
            Err(at) => {
                if self.0.capacity() == 0 {
                    self.0.reserve_exact(1);
                }
                self.0.insert(at, (key, value));
                None
            }
        }
    }

    /// The place of a key, to be filled if it is not.
    pub fn entry(&mut self, key: K) -> Entry<'_, K, V> {
        let found = self.find(&key);
        Entry { map: self, key, found }
    }

    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let at = self.find(key).ok()?;
        Some(self.0.remove(at).1)
    }
}

/// The place of a key.
pub struct Entry<'a, K, V> {
    map: &'a mut SmallMap<K, V>,
    key: K,
    found: Result<usize, usize>,
}

impl<'a, K, V> Entry<'a, K, V> {
    pub fn or_insert_with(self, value: impl FnOnce() -> V) -> &'a mut V {
        let at = match self.found {
            Ok(at) => at,
            Err(at) => {
                if self.map.0.capacity() == 0 {
                    self.map.0.reserve_exact(1);
                }
                self.map.0.insert(at, (self.key, value()));
                at
            }
        };
        &mut self.map.0[at].1
    }

    pub fn or_insert(self, value: V) -> &'a mut V {
        self.or_insert_with(|| value)
    }

    pub fn or_default(self) -> &'a mut V
    where
        V: Default,
    {
        self.or_insert_with(V::default)
    }
}

/// Entries in the order of their keys.
#[derive(Clone, Debug)]
pub struct Iter<'a, K, V>(std::slice::Iter<'a, (K, V)>);

impl<'a, K, V> Iterator for Iter<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|(key, value)| (key, value))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl<K, V> DoubleEndedIterator for Iter<'_, K, V> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.0.next_back().map(|(key, value)| (key, value))
    }
}

impl<K, V> ExactSizeIterator for Iter<'_, K, V> {}

impl<'a, K, V> IntoIterator for &'a SmallMap<K, V> {
    type Item = (&'a K, &'a V);
    type IntoIter = Iter<'a, K, V>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<K, V> IntoIterator for SmallMap<K, V> {
    type Item = (K, V);
    type IntoIter = std::vec::IntoIter<(K, V)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<K: Ord, V> Extend<(K, V)> for SmallMap<K, V> {
    fn extend<T: IntoIterator<Item = (K, V)>>(&mut self, entries: T) {
        for (key, value) in entries {
            self.insert(key, value);
        }
    }
}

impl<K: Ord, V> FromIterator<(K, V)> for SmallMap<K, V> {
    fn from_iter<T: IntoIterator<Item = (K, V)>>(entries: T) -> Self {
        let mut map = Self::new();
        map.extend(entries);
        map.0.shrink_to_fit();
        map
    }
}

impl<K: Ord, V, const N: usize> From<[(K, V); N]> for SmallMap<K, V> {
    fn from(entries: [(K, V); N]) -> Self {
        entries.into_iter().collect()
    }
}

impl<K: Ord, V> From<BTreeMap<K, V>> for SmallMap<K, V> {
    fn from(map: BTreeMap<K, V>) -> Self {
        map.into_iter().collect()
    }
}

/// As with the standard library's maps, asking for what is not there is a mistake of the caller's.
impl<K: Ord + Borrow<Q>, Q: Ord + ?Sized, V> Index<&Q> for SmallMap<K, V> {
    type Output = V;

    fn index(&self, key: &Q) -> &V {
        self.get(key).expect("the key is in the map")
    }
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for SmallMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<K, V> Empty for SmallMap<K, V> {
    fn is_nil(&self) -> bool {
        self.is_empty()
    }

    fn fit(&mut self) {
        self.0.shrink_to_fit();
    }
}

impl<K: Serialize, V: Serialize> Serialize for SmallMap<K, V> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_map(self.iter())
    }
}

impl<'de, K: Ord + Deserialize<'de>, V: Deserialize<'de>> Deserialize<'de> for SmallMap<K, V> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Entries<K, V>(PhantomData<(K, V)>);
        impl<'de, K: Ord + Deserialize<'de>, V: Deserialize<'de>> Visitor<'de> for Entries<K, V> {
            type Value = SmallMap<K, V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<SmallMap<K, V>, A::Error> {
                // Sorted once: a body of many entries in the wrong order must not cost their square.
                let mut all: Vec<(K, V)> = Vec::new();
                while let Some(entry) = entries.next_entry()? {
                    if all.capacity() == 0 {
                        all.reserve_exact(1);
                    }
                    all.push(entry);
                }
                if !all.is_sorted_by(|(a, _), (b, _)| a < b) {
                    // The sort is stable: of equal keys the last one counts, as with the standard library's maps.
                    all.sort_by(|(a, _), (b, _)| a.cmp(b));
                    all.reverse();
                    all.dedup_by(|(a, _), (b, _)| a == b);
                    all.reverse();
                }
                all.shrink_to_fit();
                Ok(SmallMap(all))
            }
        }
        d.deserialize_map(Entries(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both(entries: &[(&str, i32)]) -> (SmallMap<String, i32>, BTreeMap<String, i32>) {
        let owned = || entries.iter().map(|(key, value)| ((*key).to_owned(), *value));
        (owned().collect(), owned().collect())
    }

    #[test]
    fn it_reads_writes_and_orders_as_the_standard_librarys_sorted_map() {
        for entries in
            [&[][..], &[("a", 1)], &[("b", 1), ("a", 2), ("b", 3), ("c", 4)], &[("z", 1), ("y", 1), ("y", 2)]]
        {
            let (small, sorted) = both(entries);
            assert!(small.iter().eq(sorted.iter()) && small.keys().eq(sorted.keys()) && small.len() == sorted.len());
            let text = serde_json::to_string(&sorted).unwrap();
            assert_eq!(serde_json::to_string(&small).unwrap(), text);
            assert_eq!(serde_json::from_str::<SmallMap<String, i32>>(&text).unwrap(), small);
            let twice =
                format!("{{{}}}", entries.iter().map(|(k, v)| format!("{k:?}:{v}")).collect::<Vec<_>>().join(","));
            assert_eq!(serde_json::from_str::<SmallMap<String, i32>>(&twice).unwrap(), small, "{twice}");
            for key in ["a", "b", "c", "nothing"] {
                assert_eq!(small.get(key), sorted.get(key));
            }
        }
    }

    #[test]
    fn what_is_put_in_comes_out() {
        let (mut small, mut sorted) = both(&[("m", 0)]);
        for key in ["q", "a", "m", "z", "b", "q"] {
            assert_eq!(small.insert(key.to_owned(), 7), sorted.insert(key.to_owned(), 7));
        }
        assert_eq!(small.remove("m"), Some(7));
        assert_eq!(small.remove("m"), None);
        sorted.remove("m");
        assert!(small.into_iter().eq(sorted));
    }

    #[test]
    fn one_entry_takes_the_room_of_one() {
        let read: SmallMap<String, [u64; 16]> = serde_json::from_str(&format!("{{\"a\":{:?}}}", [1; 16])).unwrap();
        let mut made = SmallMap::new();
        made.insert("a".to_owned(), [1; 16]);
        assert_eq!((read.0.capacity(), made.0.capacity()), (1, 1));
    }
}
