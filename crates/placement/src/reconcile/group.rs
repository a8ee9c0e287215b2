//! One group of a counted job, step by step. The order matters: each step sees the results of the last.

use std::collections::{BTreeMap, BTreeSet};

use model::deployment::DeploymentState;
use model::metric::DesiredUpdates;
use model::{ClientStatus, Job, TaskGroup};

use super::{
    MIGRATING, NOT_NEEDED, Place, RESCHEDULED, Reconciler, Row, Stop, TRIGGER_FAILURE, TRIGGER_RESCHEDULE, UPDATING,
    Update, len,
};
use crate::names::Names;
use crate::read;

/// Least time between a client's loss and the replacement of what it was to stop itself.
const STOP_GRACE_MIN: i64 = 5_000_000_000;

/// What is known of a group so far.
struct Group<'a> {
    spec: &'a TaskGroup,
    count: usize,
    state: DeploymentState,
    canaries: Vec<Row<'a>>,
    untainted: Vec<Row<'a>>,
    migrate: Vec<Row<'a>>,
    lost: Vec<Row<'a>>,
    now: Vec<Row<'a>>,
    names: Names<'a>,
    desired: DesiredUpdates,
}

impl Group<'_> {
    fn canarying(&self) -> bool {
        self.state.desired_canaries > 0 && !self.state.promoted
    }
}

impl<'a> Reconciler<'a, '_> {
    pub(super) fn group(&mut self, job: &'a Job, spec: &'a TaskGroup, all: Vec<Row<'a>>) {
        let batch = self.given.batch;
        let keep = |a: &Row<'a>| !a.server_terminal() || batch && !a.desired_transition.should_reschedule();
        let count = read::group_count(spec);
        let (state, existed) = self.group_state(spec);
        if count == 0 {
            self.stop_all(spec.name(), &all);
            return;
        }
        let mut all: Vec<Row<'a>> = all.into_iter().filter(keep).collect();
        let mut desired = DesiredUpdates::default();
        if batch {
            let current = read::revision(job);
            let before = all.len();
            all.retain(|a| !(a.is_terminal() && read::alloc_revision(a) < current));
            desired.ignore += u64::try_from(before - all.len()).unwrap_or(0);
        }
        let had_current = all.iter().any(|a| read::alloc_revision(a) == read::revision(job));
        let canaries = self.clean_canaries(&mut all, spec, &state, &mut desired);
        let mut classes = self.classify(&all, Some((spec, read::revision(job))));
        desired.ignore += u64::try_from(classes.ignored).unwrap_or(0);
        let back = self.reconnect(job, spec, std::mem::take(&mut classes.reconnecting), &mut desired);
        classes.drop_all(&back.stopped);
        let mut failed = self.split_failed(&classes.untainted);
        if batch {
            let moved = self.split_failed(&classes.migrate);
            failed.now.extend(moved.now);
            failed.later.extend(moved.later);
        }
        let ordered = failed.stay.len();
        failed.extend(back.failed);
        failed.stay.extend(back.stay);
        failed.extend(self.disconnect(&classes.disconnecting, &mut desired));
        classes.lost.extend(classes.expiring);
        if failed.stay.len() > ordered {
            super::in_order(&mut failed.stay);
        }
        let mut group = Group {
            spec,
            count,
            state,
            canaries,
            untainted: failed.stay,
            migrate: classes.migrate,
            lost: classes.lost,
            now: failed.now,
            names: Names::default(),
            desired,
        };
        let delayed = self.stop_lost(&mut group);
        let named = [&group.untainted, &group.migrate, &group.now, &group.lost];
        let names = named.into_iter().flatten().map(|a| a.name.as_str());
        group.names = Names::new(job.id().as_str(), spec.name(), count, names);
        self.stop_surplus(&mut group);
        self.spare_away(&mut group);
        group.desired.reschedule_now = len(&group.now);
        self.change(job, group, existed, had_current, delayed, failed.later);
    }

    /// From what is left: updates, canaries, placements, moves, and the deployment.
    fn change(
        &mut self,
        job: &Job,
        mut group: Group<'a>,
        existed: bool,
        had_current: bool,
        delayed: bool,
        later: Vec<(Row<'a>, i64)>,
    ) {
        let spec = group.spec;
        let (mut in_place, mut destructive) = (Vec::new(), Vec::new());
        for alloc in group.untainted.iter().copied() {
            // Nothing can be told to it now: what becomes of it is decided when it is back or lost.
            let away = self.is_away(alloc);
            match (self.given.classify)(alloc) {
                _ if away => group.desired.ignore += 1,
                Update::Ignore => group.desired.ignore += 1,
                Update::InPlace => in_place.push(alloc),
                Update::Destructive => destructive.push(alloc),
            }
        }
        group.desired.in_place_update = len(&in_place);
        let changed = in_place.len() + destructive.len();
        if !existed {
            group.state.desired_total += i64::try_from(changed).unwrap_or(0);
        }
        if group.canarying() {
            let canaries = group.canaries.clone();
            group.untainted.retain(|a| !canaries.iter().any(|c| c.id == a.id));
        }
        let needs_canaries = self.place_canaries(&mut group, &destructive);
        let mut budget = self.budget(&group, &destructive);
        let mut candidates = if delayed { Vec::new() } else { Self::candidates(&mut group) };
        let canaries = usize::try_from(group.desired.canary).unwrap_or(0);
        candidates.truncate(group.count.saturating_sub(canaries));
        if !existed {
            group.state.desired_total += i64::try_from(candidates.len()).unwrap_or(0);
        }
        let ready = !self.paused && !self.failed && !group.canarying();
        let placed = self.place(&mut group, candidates, ready);
        budget -= placed.min(budget);
        let replaced = if ready { budget.min(destructive.len()) } else { 0 };
        group.desired.destructive_update = u64::try_from(replaced).unwrap_or(0);
        group.desired.ignore += u64::try_from(destructive.len() - replaced).unwrap_or(0);
        for alloc in destructive.drain(..replaced) {
            self.out.destructive.push(Place {
                canary: false,
                replaces: Some(Stop::new(alloc, UPDATING)),
                ..place(spec, alloc.name.clone(), Some(alloc))
            });
        }
        self.out.in_place.extend(in_place);
        let moving = !group.migrate.is_empty();
        self.migrate(&mut group);
        let later = self.note_followups(later);
        group.desired.reschedule_later = later;
        let quiet = changed == 0 && placed == 0 && !moving && group.now.is_empty() && later == 0 && !needs_canaries;
        if !existed
            && self.wants_deployment(spec, &group.state)
            && (!had_current || changed > 0)
            && (self.out.deployment.is_none() || self.out.created)
        {
            self.deploy(job, spec, group.state.clone());
        }
        let state = &group.state;
        let promoted = state.desired_canaries == 0 || state.promoted;
        let healthy = state.healthy_allocs >= state.desired_total.max(state.desired_canaries);
        self.complete &= quiet && self.out.deployment.is_some() && promoted && healthy;
        self.out.names.insert(spec.name().to_owned(), group.names);
        self.out.desired.insert(spec.name().to_owned(), group.desired);
    }

    fn wants_deployment(&self, spec: &TaskGroup, state: &DeploymentState) -> bool {
        !self.given.batch && spec.rolling_update().is_some() && state.desired_total > 0
    }

    /// Stops canaries that nobody waits for any more; returns those of the current deployment.
    fn clean_canaries(
        &mut self,
        all: &mut Vec<Row<'a>>,
        spec: &TaskGroup,
        state: &DeploymentState,
        desired: &mut DesiredUpdates,
    ) -> Vec<Row<'a>> {
        let mut given_up: Vec<model::AllocId> = Vec::new();
        let mut collect = |deployment: &model::Deployment| {
            for state in deployment.task_groups.values().filter(|s| !s.promoted) {
                given_up.extend(state.placed_canaries.iter().cloned());
            }
        };
        if let Some(old) = self.old {
            collect(old);
        }
        if let Some(current) = self.out.deployment.as_ref().filter(|_| self.failed) {
            collect(current);
        }
        for alloc in take(all, |a| given_up.contains(&a.id)) {
            if !alloc.is_terminal() {
                desired.stop += 1;
                self.out.stop.push(Stop::new(alloc, NOT_NEEDED));
            }
        }
        let current: Vec<Row<'a>> = all.iter().copied().filter(|a| state.placed_canaries.contains(&a.id)).collect();
        if spec.rolling_update().is_none() || current.is_empty() {
            return current;
        }
        let classes = self.classify(&current, None);
        for alloc in &classes.migrate {
            self.out.stop.push(Stop::new(alloc, MIGRATING));
        }
        let lost = || classes.lost.iter().chain(&classes.expiring);
        for alloc in lost() {
            self.out.stop.push(Stop::lost(alloc));
        }
        let gone = |a: &Row<'a>| classes.migrate.iter().chain(lost()).any(|g| g.id == a.id);
        all.retain(|a| !gone(a));
        // One out of reach is no canary to wait for, one that is back is.
        classes.untainted.into_iter().chain(classes.reconnecting).collect()
    }

    /// Lost allocations are stopped. Returns true when their replacement must wait, because the client
    /// is to stop them itself after a time.
    fn stop_lost(&mut self, group: &mut Group<'a>) -> bool {
        let mut waiting = Vec::new();
        for alloc in group.lost.iter().copied() {
            if let Some(at) = self.stops_itself_at(alloc) {
                waiting.push((alloc, at));
            }
        }
        let delayed = !waiting.is_empty();
        let ids = self.follow_up(waiting, TRIGGER_FAILURE, TRIGGER_FAILURE);
        for alloc in group.lost.iter().copied() {
            let followup = ids.iter().find(|(a, _)| a.id == alloc.id).map(|(_, id)| id.clone());
            self.out.stop.push(Stop { followup: followup.unwrap_or_default(), ..Stop::lost(alloc) });
        }
        group.desired.stop += len(&group.lost);
        delayed
    }

    /// When its node has stopped it by itself, if that is still to come.
    fn stops_itself_at(&self, alloc: Row<'a>) -> Option<i64> {
        let group = self.group_of(alloc)?;
        let after = group.stop_on_client_after()?;
        let kill = group.tasks.iter().map(|t| t.kill_timeout().0).max().unwrap_or(0).max(STOP_GRACE_MIN);
        let lost = alloc.alloc_states.iter().find(|state| state.value == ClientStatus::Lost.as_str());
        let since = lost.map_or(self.given.now, |state| state.time.unix_nanos());
        Some(since.saturating_add(after.0).saturating_add(kill)).filter(|at| *at > self.given.now)
    }

    /// Those that stay as they are take note of when they are looked at again. Returns how many.
    fn note_followups(&mut self, mut later: Vec<(Row<'a>, i64)>) -> u64 {
        let replaced = self.out.destructive.iter().chain(&self.out.place).filter_map(|p| p.replaces.as_ref());
        // One that is moved by hand, to be tried again, is stopped now and replaced then.
        let stopped = self.out.stop.iter().filter(|stop| stop.description != MIGRATING);
        let gone: BTreeSet<&model::AllocId> = stopped.chain(replaced).map(|s| &s.alloc.id).collect();
        later.retain(|(alloc, _)| !gone.contains(&alloc.id));
        let number = len(&later);
        for (alloc, id) in self.follow_up(later, TRIGGER_RESCHEDULE, TRIGGER_FAILURE) {
            let moved = self.out.stop.iter_mut().find(|stop| stop.alloc.id == alloc.id);
            match self.out.unknown.iter_mut().find(|(unknown, _)| unknown.id == alloc.id) {
                // The end of its time is noted already, and is what is cancelled when it is back.
                Some((_, followup)) if !followup.is_empty() => {}
                Some((_, followup)) => *followup = id,
                None => match moved {
                    Some(stop) => stop.followup = id,
                    None => self.out.followup_of.push((alloc, id)),
                },
            }
        }
        number
    }

    /// Out of reach, by this decision or one before.
    fn is_away(&self, alloc: Row<'a>) -> bool {
        alloc.client_status == ClientStatus::Unknown || self.away.contains(&alloc.id)
    }

    /// Stops what is above the count: twins of promoted canaries, those that would move anyway, the
    /// highest indexes, then whatever has a name twice. What is out of reach does not count.
    fn stop_surplus(&mut self, group: &mut Group<'a>) {
        let canarying = group.canarying();
        let is_canary = |a: &Row<'a>, g: &Group<'a>| g.canaries.iter().any(|c| c.id == a.id);
        let moving = |a: &Row<'a>| group.migrate.iter().any(|m| m.id == a.id);
        let again = group.now.iter().filter(|a| !moving(a));
        let counts = group.untainted.iter().chain(again).filter(|a| !(canarying && is_canary(a, group)));
        let working = counts.filter(|a| !self.is_away(a)).count();
        let mut surplus = (working + group.migrate.len()).saturating_sub(group.count);
        if surplus == 0 {
            return;
        }
        let mut stop: Vec<Row<'a>> = Vec::new();
        if !canarying && !group.canaries.is_empty() {
            let twins: Vec<Row<'a>> = group
                .untainted
                .iter()
                .copied()
                .filter(|a| !is_canary(a, group) && !a.server_terminal())
                .filter(|a| group.canaries.iter().any(|c| c.name == a.name))
                .take(surplus)
                .collect();
            surplus -= twins.len();
            group.untainted.retain(|a| !twins.iter().any(|t| t.id == a.id));
            for twin in &twins {
                unset(&mut group.names, twin);
            }
            stop.extend(twins);
        }
        for alloc in take_highest(&mut group.migrate, surplus, |_| true) {
            unset(&mut group.names, alloc);
            surplus -= 1;
            stop.push(alloc);
        }
        // Canaries do not count here, so they are not in the way either.
        let spared: Vec<model::AllocId> =
            if canarying { group.canaries.iter().map(|c| c.id.clone()).collect() } else { Vec::new() };
        let free = |a: &Row<'a>| !(a.server_terminal() || self.is_away(a) || spared.contains(&a.id));
        for alloc in take_highest(&mut group.untainted, surplus, free) {
            unset(&mut group.names, alloc);
            surplus -= 1;
            stop.push(alloc);
        }
        // Those that would be tried again come last: they are not.
        for alloc in take_highest(&mut group.now, surplus, free) {
            unset(&mut group.names, alloc);
            stop.push(alloc);
        }
        group.desired.stop += len(&stop);
        self.out.stop.extend(stop.into_iter().map(|a| Stop::new(a, NOT_NEEDED)));
    }

    /// Who is out of reach is replaced only where one is missing without it.
    fn spare_away(&self, group: &mut Group<'a>) {
        let there = group.untainted.iter().chain(&group.now).filter(|a| !self.is_away(a)).count() + group.migrate.len();
        let mut missing = group.count.saturating_sub(there);
        let spared = take(&mut group.now, |a| {
            let away = self.is_away(a);
            let replaced = away && missing > 0;
            missing -= usize::from(replaced);
            away && !replaced
        });
        group.untainted.extend(spared);
    }

    /// Returns whether canaries were still missing.
    fn place_canaries(&mut self, group: &mut Group<'a>, destructive: &[Row<'a>]) -> bool {
        let Some(update) = group.spec.rolling_update() else { return false };
        let wanted = usize::try_from(update.canary()).unwrap_or(0);
        if destructive.is_empty() || group.canaries.len() >= wanted || group.state.promoted || self.given.batch {
            return false;
        }
        group.state.desired_canaries = update.canary();
        if self.paused || self.failed {
            return true;
        }
        let missing = (wanted - group.canaries.len()).min(group.count);
        group.desired.canary += u64::try_from(missing).unwrap_or(0);
        let canaries: Vec<&str> = group.canaries.iter().map(|a| a.name.as_str()).collect();
        let replaced: Vec<&str> = destructive.iter().map(|a| a.name.as_str()).collect();
        for name in group.names.next_canaries(missing, &canaries, &replaced) {
            self.out.place.push(Place { canary: true, ..place(group.spec, name, None) });
        }
        true
    }

    /// How many running allocations may be replaced now.
    fn budget(&self, group: &Group<'a>, destructive: &[Row<'a>]) -> usize {
        let Some(update) = group.spec.rolling_update() else { return group.count };
        if destructive.is_empty() && group.migrate.is_empty() {
            return group.count;
        }
        let most = usize::try_from(update.max_parallel()).unwrap_or(0);
        let Some(id) = self.current_id() else { return most };
        if self.out.created {
            return most;
        }
        if self.paused || self.failed || group.canarying() {
            return 0;
        }
        let mut unproven = 0;
        for alloc in group.untainted.iter().filter(|a| a.deployment_id == *id) {
            match alloc.is_healthy() {
                Some(false) => return 0,
                Some(true) => {}
                None => unproven += 1,
            }
        }
        most.saturating_sub(unproven)
    }

    /// What is missing: replacements of the failed and of the lost, then new names.
    fn candidates(group: &mut Group<'a>) -> Vec<Place<'a>> {
        let canarying = group.canarying();
        let stable = |alloc: Row<'a>| (canarying && !alloc.is_canary()).then(|| read::alloc_revision(alloc).1);
        let mut existing = group.untainted.len() + group.migrate.len() + group.now.len();
        let mut candidates = Vec::new();
        for alloc in group.now.iter().copied() {
            candidates.push(Place {
                reschedule: true,
                canary: alloc.is_canary(),
                stable_from: stable(alloc),
                ..place(group.spec, alloc.name.clone(), Some(alloc))
            });
        }
        for alloc in group.lost.iter().copied() {
            if existing >= group.count {
                break;
            }
            existing += 1;
            candidates.push(Place {
                lost: true,
                canary: alloc.is_canary(),
                stable_from: stable(alloc),
                ..place(group.spec, alloc.name.clone(), Some(alloc))
            });
        }
        for name in group.names.next(group.count.saturating_sub(existing)) {
            let stable_from = canarying.then_some(0);
            candidates.push(Place { stable_from, ..place(group.spec, name, None) });
        }
        candidates
    }

    /// Places the candidates that the deployment lets through; returns how many.
    fn place(&mut self, group: &mut Group<'a>, candidates: Vec<Place<'a>>, ready: bool) -> usize {
        let mut placed = 0;
        for mut candidate in candidates {
            let of_failed = self.failed
                && candidate.previous.is_some_and(|p| self.current_id().is_some_and(|id| p.deployment_id == *id));
            if !(ready || candidate.lost || candidate.reschedule && !of_failed) {
                continue;
            }
            placed += 1;
            group.desired.place += 1;
            if let Some(previous) = candidate.previous.filter(|_| candidate.reschedule) {
                let moving = group.migrate.iter().any(|m| m.id == previous.id);
                // It may come back: who stays is decided then.
                let away = self.is_away(previous);
                if !moving && !away && !previous.server_terminal() {
                    group.desired.stop += 1;
                    candidate.replaces = Some(Stop::new(previous, RESCHEDULED));
                }
            }
            self.out.place.push(candidate);
        }
        placed
    }

    fn migrate(&mut self, group: &mut Group<'a>) {
        let canarying = group.canarying();
        group.desired.migrate = len(&group.migrate);
        for alloc in std::mem::take(&mut group.migrate) {
            self.out.stop.push(Stop::new(alloc, MIGRATING));
            let transition = &alloc.desired_transition;
            if self.given.batch && (transition.should_reschedule() || transition.should_skip_placement()) {
                continue;
            }
            self.out.place.push(Place {
                canary: alloc.is_canary(),
                stable_from: (canarying && !alloc.is_canary()).then(|| read::alloc_revision(alloc).1),
                ..place(group.spec, alloc.name.clone(), Some(alloc))
            });
        }
    }
}

fn place<'a>(spec: &'a TaskGroup, name: String, previous: Option<Row<'a>>) -> Place<'a> {
    Place {
        group: spec.name(),
        name,
        previous,
        reschedule: false,
        lost: false,
        canary: false,
        stable_from: None,
        replaces: None,
    }
}

fn unset(names: &mut Names<'_>, alloc: Row<'_>) {
    if let Some(index) = read::name_index(&alloc.name) {
        names.unset(index);
    }
}

/// Takes out those that `wanted` names.
fn take<'a>(set: &mut Vec<Row<'a>>, mut wanted: impl FnMut(&Row<'a>) -> bool) -> Vec<Row<'a>> {
    let (taken, left) = set.drain(..).partition(|a| wanted(a));
    *set = left;
    taken
}

/// Takes out up to `n`: all but the oldest of a name first, then the highest indexes.
fn take_highest<'a>(set: &mut Vec<Row<'a>>, n: usize, free: impl Fn(&Row<'a>) -> bool) -> Vec<Row<'a>> {
    if n == 0 {
        return Vec::new();
    }
    let mut oldest: BTreeMap<&str, Row<'a>> = BTreeMap::new();
    let age = |a: &Row<'a>| (a.create_index, a.id.clone());
    for alloc in set.iter().copied() {
        let first = oldest.entry(&alloc.name).or_insert(alloc);
        if age(&alloc) < age(first) {
            *first = alloc;
        }
    }
    let key =
        |a: &Row<'a>| (oldest.get(a.name.as_str()).is_some_and(|o| o.id != a.id), read::name_index(&a.name), age(a));
    let mut order: Vec<Row<'a>> = set.iter().copied().filter(|a| free(a)).collect();
    order.sort_by_cached_key(|a| std::cmp::Reverse(key(a)));
    order.truncate(n);
    let gone: BTreeSet<&model::AllocId> = order.iter().map(|a| &a.id).collect();
    set.retain(|a| !gone.contains(&a.id));
    order
}
