//! The index in `job.group[index]`: which are taken, which come next. Names are only read once somebody asks:
//! where nothing has to change nobody does.

use std::collections::BTreeMap;

/// How many allocations have each index.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names<'a> {
    prefix: String,
    count: usize,
    /// Not read yet.
    given: Vec<&'a str>,
    /// By index, up to the count; those beyond it (there are few, if any) by number.
    used: Vec<u32>,
    beyond: BTreeMap<usize, u32>,
}

impl<'a> Names<'a> {
    pub(crate) fn new(job: &str, group: &str, count: usize, names: impl Iterator<Item = &'a str>) -> Self {
        Self { prefix: format!("{job}.{group}"), count, given: names.collect(), ..Self::default() }
    }

    fn read(&mut self) {
        if self.used.len() < self.count {
            self.used.resize(self.count, 0);
        }
        for name in std::mem::take(&mut self.given) {
            if let Some(index) = crate::read::name_index(name) {
                *self.entry(index) += 1;
            }
        }
    }

    fn used(&self, index: usize) -> u32 {
        self.used.get(index).or_else(|| self.beyond.get(&index)).copied().unwrap_or(0)
    }

    fn entry(&mut self, index: usize) -> &mut u32 {
        self.used.get_mut(index).unwrap_or_else(|| self.beyond.entry(index).or_default())
    }

    fn name(&self, index: usize) -> String {
        format!("{}[{index}]", self.prefix)
    }

    fn take(&mut self, index: usize) -> String {
        *self.entry(index) += 1;
        self.name(index)
    }

    /// The lowest `n` free names below the count; when they run out, from 0 again.
    pub(crate) fn next(&mut self, n: usize) -> Vec<String> {
        if n == 0 {
            return Vec::new();
        }
        self.read();
        let free: Vec<usize> = (0..self.count).filter(|i| self.used(*i) == 0).take(n).collect();
        let more = (0..self.count.max(1)).cycle().take(n - free.len());
        let indexes: Vec<usize> = free.iter().copied().chain(more).collect();
        indexes.into_iter().map(|i| self.take(i)).collect()
    }

    /// Names for canaries: those of allocations about to be replaced, then free ones, then above the
    /// count; never one that a canary has.
    pub(crate) fn next_canaries(&mut self, n: usize, canaries: &[&str], destructive: &[&str]) -> Vec<String> {
        self.read();
        let held: Vec<usize> = canaries.iter().filter_map(|name| crate::read::name_index(name)).collect();
        let mut replaced: Vec<usize> = destructive.iter().filter_map(|name| crate::read::name_index(name)).collect();
        replaced.sort_unstable();
        let free = (0..self.count).filter(|i| self.used(*i) == 0);
        let candidates = replaced.iter().copied().filter(|i| *i < self.count).chain(free).chain(self.count..);
        let mut chosen: Vec<usize> = Vec::with_capacity(n);
        for index in candidates {
            if chosen.len() == n {
                break;
            }
            if !held.contains(&index) && !chosen.contains(&index) {
                chosen.push(index);
            }
        }
        chosen.into_iter().map(|i| self.take(i)).collect()
    }

    /// One allocation gives its index back.
    pub(crate) fn unset(&mut self, index: usize) {
        self.read();
        let number = self.entry(index);
        *number = number.saturating_sub(1);
    }

    /// A name under which nobody else runs: the same one, or the next free when others have it too.
    pub(crate) fn unique(&mut self, name: String) -> String {
        self.read();
        let Some(index) = crate::read::name_index(&name) else { return name };
        if self.used(index) <= 1 {
            return name;
        }
        let Some(free) = (0..self.count).find(|i| self.used(*i) == 0) else { return name };
        self.unset(index);
        self.take(free)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(count: usize, used: &[usize]) -> Names<'static> {
        let list = used.iter().map(|i| &*Box::leak(format!("j.g[{i}]").into_boxed_str()));
        Names::new("j", "g", count, list)
    }

    /// names-001, names-004
    #[test]
    fn names_001_004_free_indexes_come_first_and_then_they_overlap() {
        assert_eq!(names(10, &[0, 1, 2, 3, 4, 5, 6, 7]).next(2), ["j.g[8]", "j.g[9]"]);
        assert_eq!(names(3, &[0, 1, 2]).next(2), ["j.g[0]", "j.g[1]"]);
        assert_eq!(names(3, &[1]).next(2), ["j.g[0]", "j.g[2]"]);
    }

    /// names-003
    #[test]
    fn names_003_a_canary_takes_the_name_of_what_it_will_replace() {
        let got = names(3, &[0, 1, 2]).next_canaries(2, &["j.g[0]"], &["j.g[0]", "j.g[1]", "j.g[2]"]);
        assert_eq!(got, ["j.g[1]", "j.g[2]"]);
        let got = names(3, &[0, 1, 2]).next_canaries(2, &["j.g[0]", "j.g[1]", "j.g[2]"], &[]);
        assert_eq!(got, ["j.g[3]", "j.g[4]"]);
    }

    /// names-005
    #[test]
    fn names_005_a_shared_index_is_renamed_once() {
        let mut all = names(3, &[0, 0]);
        assert_eq!(all.unique("j.g[0]".to_owned()), "j.g[1]");
        assert_eq!(all.unique("j.g[0]".to_owned()), "j.g[0]");
    }
}
