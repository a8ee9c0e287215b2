//! Devices of a node: which instances are free, and who gets which.
//!
//! A node lists *groups* of like devices (vendor, type, name), each with instances. A request is served by
//! one group: `count` free, healthy instances of it. All requests of all tasks of a group are served
//! together, by a search over which group serves whom with a matching of instances beneath it, so that an
//! assignment is found whenever there is one (within [`STEPS_MAX`]), and of several the one whose groups
//! the requests like best.
//!
//! What a request may be served by is the same for all nodes of a shape and compiled once for it
//! ([`DeviceAsk::options`]); which instances are free is asked node by node, in buffers that are used
//! again. Instances are named by two small numbers in the order of the node's row: (group, instance).

use std::cmp::Ordering;
use std::collections::BTreeMap;

use model::node::{Attribute, NodeDeviceResource};
use model::resources::RequestedDevice;
use model::{Node, TaskGroup};

use crate::constraint::{Operator, compare_text};

/// Steps of the search before it gives up.
const STEPS_MAX: u32 = 4096;
/// Instances of one request that are looked at.
const COUNT_MAX: u64 = 4096;
/// Instances of one group that are looked at.
const INSTANCES_MAX: usize = 1024;
const NOBODY: u16 = u16::MAX;

/// (group, instance) in the order of the node's row.
pub(crate) type Instance = (u16, u16);

/// What the row of a node says of its devices that the row itself does not say fast enough.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DeviceIndex {
    ids: BTreeMap<(String, String, String), BTreeMap<String, Instance>>,
    /// Per group: for each instance, whether it works, and the memory node it hangs on.
    groups: Vec<Vec<(bool, Option<u16>)>>,
}

impl DeviceIndex {
    pub(crate) fn of(node: &Node) -> Self {
        let mut index = Self::default();
        let Some(resources) = &node.node_resources else { return index };
        let buses: BTreeMap<String, u16> = (resources.processors.topology.iter())
            .flat_map(|t| &t.bus_associativity)
            .map(|(bus, memory)| (bus_id(bus), *memory))
            .collect();
        for (g, device) in (0u16..).zip(&resources.devices) {
            let key = (device.vendor.clone(), device.kind.clone(), device.name.clone());
            let mut group = Vec::with_capacity(device.instances.len());
            for (i, instance) in (0u16..).zip(device.instances.iter().take(INSTANCES_MAX)) {
                let bus = instance.locality.as_ref().map(|l| bus_id(&l.pci_bus_id));
                group.push((instance.healthy, bus.and_then(|bus| buses.get(&bus).copied())));
                index.ids.entry(key.clone()).or_default().insert(instance.id.clone(), (g, i));
            }
            index.groups.push(group);
        }
        index
    }

    /// The instance of that id; `None` when the node has it no more.
    pub(crate) fn find(&self, vendor: &str, kind: &str, name: &str, id: &str) -> Option<Instance> {
        if self.ids.is_empty() {
            return None;
        }
        let key = (vendor.to_owned(), kind.to_owned(), name.to_owned());
        self.ids.get(&key)?.get(id).copied()
    }

    pub(crate) fn works(&self, at: Instance) -> bool {
        self.get(at).is_some_and(|(works, _)| works)
    }

    fn get(&self, (group, instance): Instance) -> Option<(bool, Option<u16>)> {
        self.groups.get(usize::from(group))?.get(usize::from(instance)).copied()
    }
}

/// A PCI bus id without what is written in different ways: leading zeros of its parts, case.
pub(crate) fn bus_id(text: &str) -> String {
    let parts: Vec<String> = text.split(':').map(|p| p.trim_start_matches('0').to_ascii_lowercase()).collect();
    // The domain may be left out when it is 0.
    let from = usize::from(parts.len() == 3 && parts[0].is_empty());
    parts[from..].join(":")
}

#[derive(Clone, Debug)]
enum Target {
    Literal(Value),
    Vendor,
    Kind,
    Model,
    Ids,
    Attribute(String),
    Unknown,
}

/// A device's attribute, or what is held against one.
#[derive(Clone, Debug, PartialEq)]
enum Value {
    Text(String),
    Flag(bool),
    /// With its unit; empty for none.
    Number(f64, String),
}

impl Value {
    fn parse(text: &str) -> Self {
        let text = text.trim();
        if let Ok(flag) = text.parse() {
            return Self::Flag(flag);
        }
        let end = text.rfind(|c: char| c.is_ascii_digit() || c == '.').map_or(0, |at| at + 1);
        let (number, unit) = text.split_at(end);
        match number.trim().parse::<f64>() {
            Ok(number) if number.is_finite() && (unit.is_empty() || scale(unit.trim()).is_some()) => {
                Self::Number(number, unit.trim().to_owned())
            }
            _ => Self::Text(text.to_owned()),
        }
    }

    #[allow(clippy::cast_precision_loss)]
    fn of(attribute: &Attribute) -> Self {
        match attribute {
            Attribute { float_val: Some(number), unit, .. } => Self::Number(*number, unit.clone()),
            Attribute { int_val: Some(number), unit, .. } => Self::Number(*number as f64, unit.clone()),
            Attribute { bool_val: Some(flag), .. } => Self::Flag(*flag),
            Attribute { string_val, .. } => Self::Text(string_val.clone().unwrap_or_default()),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Flag(flag) => flag.to_string(),
            Self::Number(number, unit) => format!("{number}{unit}"),
        }
    }

    /// `None` when the two cannot be compared.
    fn compare(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Number(a, of_a), Self::Number(b, of_b)) => {
                let ((base_a, scale_a), (base_b, scale_b)) = (scale(of_a)?, scale(of_b)?);
                (base_a == base_b).then(|| (a * scale_a).partial_cmp(&(b * scale_b))).flatten()
            }
            (Self::Flag(a), Self::Flag(b)) => (a == b).then_some(Ordering::Equal),
            (Self::Text(a), Self::Text(b)) => Some(a.as_bytes().cmp(b.as_bytes())),
            _ => None,
        }
    }
}

/// What a unit measures, and how many of the base unit it is.
fn scale(unit: &str) -> Option<(char, f64)> {
    if unit.is_empty() {
        return Some((' ', 1.0));
    }
    let (what, base) = match unit.strip_suffix("/s") {
        Some(what) => (what, 's'),
        None => (unit, 'B'),
    };
    let power = |base: f64, n: i32| base.powi(n);
    let bytes = match what {
        "B" => 1.0,
        "kB" | "KB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        "TB" => 1e12,
        "PB" => 1e15,
        "EB" => 1e18,
        "KiB" => 1024.0,
        "MiB" => power(1024.0, 2),
        "GiB" => power(1024.0, 3),
        "TiB" => power(1024.0, 4),
        "PiB" => power(1024.0, 5),
        "EiB" => power(1024.0, 6),
        _ => 0.0,
    };
    if bytes > 0.0 {
        return Some((base, bytes));
    }
    Some(match unit {
        "Hz" => ('h', 1.0),
        "kHz" => ('h', 1e3),
        "MHz" => ('h', 1e6),
        "GHz" => ('h', 1e9),
        "mW" => ('w', 1e-3),
        "W" => ('w', 1.0),
        "kW" => ('w', 1e3),
        "MW" => ('w', 1e6),
        "GW" => ('w', 1e9),
        _ => return None,
    })
}

/// A condition on a device.
#[derive(Clone, Debug)]
struct Check {
    left: Target,
    right: Target,
    operator: Operator,
}

impl Check {
    fn new(left: &str, operand: &str, right: &str) -> Self {
        Self { left: target(left), right: target(right), operator: Operator::parse(operand, right) }
    }

    /// True when instances of one group answer differently.
    fn is_of_instances(&self) -> bool {
        matches!(self.left, Target::Ids) || matches!(self.right, Target::Ids)
    }

    fn is_unique(&self) -> bool {
        [&self.left, &self.right].iter().any(|t| matches!(t, Target::Attribute(key) if key.starts_with("unique.")))
    }

    /// `id` is that of an instance, where the check is of instances.
    fn holds(&self, device: &NodeDeviceResource, id: &str) -> bool {
        let resolve = |target: &Target| match target {
            Target::Literal(value) => Some(value.clone()),
            Target::Vendor => Some(Value::Text(device.vendor.clone())),
            Target::Kind => Some(Value::Text(device.kind.clone())),
            Target::Model => Some(Value::Text(device.name.clone())),
            Target::Ids => Some(Value::Text(id.to_owned())),
            Target::Attribute(key) => device.attributes.get(key).map(Value::of),
            Target::Unknown => None,
        };
        let (left, right) = (resolve(&self.left), resolve(&self.right));
        let order = || left.as_ref().zip(right.as_ref()).and_then(|(l, r)| l.compare(r));
        match &self.operator {
            Operator::Equal => order().is_some_and(Ordering::is_eq),
            Operator::NotEqual => (left.is_some() || right.is_some()) && !order().is_some_and(Ordering::is_eq),
            Operator::Order(wanted) => order().is_some_and(wanted),
            operator => {
                let (left, right) = (left.map(|v| v.text()), right.map(|v| v.text()));
                // Of its ids an instance has one, which must be among those listed.
                let of_ids = matches!(self.left, Target::Ids);
                let (left, right) = match operator {
                    Operator::SetContainsAll | Operator::SetContainsAny if of_ids => (right, left),
                    _ => (left, right),
                };
                compare_text(operator, left.as_deref(), right.as_deref())
            }
        }
    }
}

fn target(text: &str) -> Target {
    let Some(name) = text.strip_prefix("${") else { return Target::Literal(Value::parse(text)) };
    match name.strip_suffix('}') {
        Some("device.vendor") => Target::Vendor,
        Some("device.type") => Target::Kind,
        Some("device.model") => Target::Model,
        Some("device.ids") => Target::Ids,
        Some(name) => match name.strip_prefix("device.attr.") {
            Some(key) => Target::Attribute(key.to_owned()),
            None => Target::Unknown,
        },
        None => Target::Unknown,
    }
}

/// One request of one task.
#[derive(Clone, Debug)]
pub(crate) struct DeviceAsk {
    pub task: String,
    /// As asked: `type`, `vendor/type` or `vendor/type/name`.
    pub name: String,
    pub count: u16,
    checks: Vec<Check>,
    affinities: Vec<(Check, i64)>,
    /// Must hang on the memory node of the task's cores.
    pub near: bool,
}

/// Which groups of a node may serve each request, best liked first: (group, sum of matching weights).
pub(crate) type Options = Vec<Vec<(u16, i64)>>;

impl DeviceAsk {
    /// All requests of a group's tasks.
    pub(crate) fn all(group: &TaskGroup) -> Vec<Self> {
        let of_task = |task: &model::Task| -> Vec<Self> {
            let Some(resources) = &task.resources else { return Vec::new() };
            let near = |name: &str| {
                let numa = resources.numa.as_ref().filter(|n| matches!(n.affinity.as_str(), "prefer" | "require"));
                numa.is_some_and(|n| n.devices.iter().any(|d| d == name))
            };
            resources.devices.iter().map(|d| Self::new(&task.name, d, near(&d.name))).collect()
        };
        group.tasks.iter().flat_map(of_task).filter(|ask| ask.count > 0).collect()
    }

    fn new(task: &str, asked: &RequestedDevice, near: bool) -> Self {
        let count = asked.count.unwrap_or(1).min(COUNT_MAX);
        let check = |l: &str, o: &str, r: &str| Check::new(l, o, r);
        Self {
            task: task.to_owned(),
            name: asked.name.clone(),
            count: u16::try_from(count).unwrap_or(u16::MAX),
            checks: asked.constraints.iter().map(|c| check(&c.l_target, &c.operand, &c.r_target)).collect(),
            affinities: (asked.affinities.iter())
                .map(|a| (check(&a.l_target, &a.operand, &a.r_target), a.weight.unwrap_or(0)))
                .collect(),
            near,
        }
    }

    /// True when nodes of one shape may answer it differently.
    pub(crate) fn is_unique(&self) -> bool {
        let all = self.checks.iter().chain(self.affinities.iter().map(|(check, _)| check));
        all.into_iter().any(|check| check.is_unique() || check.is_of_instances())
    }

    pub(crate) fn weight(&self) -> i64 {
        self.affinities.iter().map(|(_, weight)| weight.saturating_abs()).fold(0, i64::saturating_add)
    }

    fn is_named(&self, device: &NodeDeviceResource) -> bool {
        let mut parts = self.name.splitn(3, '/');
        match (parts.next(), parts.next(), parts.next()) {
            (Some(kind), None, _) => device.kind == kind,
            (Some(vendor), Some(kind), None) => device.vendor == vendor && device.kind == kind,
            (Some(vendor), Some(kind), Some(name)) => {
                device.vendor == vendor && device.kind == kind && device.name == name
            }
            _ => false,
        }
    }

    fn takes(&self, device: &NodeDeviceResource, id: &str) -> bool {
        self.checks.iter().all(|check| !check.is_of_instances() || check.holds(device, id))
    }

    /// The groups that may serve it.
    fn groups(&self, devices: &[NodeDeviceResource]) -> Vec<(u16, i64)> {
        let may = |device: &&NodeDeviceResource| {
            self.is_named(device) && self.checks.iter().all(|c| c.is_of_instances() || c.holds(device, ""))
        };
        let mut groups: Vec<(u16, i64)> = (0u16..)
            .zip(devices)
            .filter(|(_, device)| may(device))
            .map(|(g, device)| {
                let liked = self.affinities.iter().filter(|(check, _)| check.holds(device, ""));
                (g, liked.map(|(_, weight)| *weight).fold(0, i64::saturating_add))
            })
            .collect();
        groups.sort_by_key(|(g, liked)| (std::cmp::Reverse(*liked), *g));
        groups
    }

    pub(crate) fn options(asks: &[Self], node: &Node) -> Options {
        let devices = node.node_resources.as_ref().map_or(&[][..], |r| &r.devices);
        asks.iter().map(|ask| ask.groups(devices)).collect()
    }
}

/// Buffers of the search, and what it found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Match {
    offsets: Vec<usize>,
    /// Per instance of the node: whom it is given to.
    owner: Vec<u16>,
    seen: Vec<bool>,
    may: Vec<bool>,
    saved: Vec<Vec<u16>>,
    order: Vec<usize>,
    best: Option<i64>,
    best_owner: Vec<u16>,
    steps: u32,
}

/// A node as the search sees it.
pub(crate) struct Offer<'a> {
    pub node: &'a Node,
    pub index: &'a DeviceIndex,
    /// Sorted.
    pub taken: &'a [Instance],
    pub options: &'a Options,
}

impl Match {
    /// Serves all requests at once. `memory` says on which memory node a request's instances must hang.
    /// Gives the sum of the weights that match.
    ///
    /// # Errors
    /// The request that could not be served, as far as one can be named.
    pub(crate) fn solve(
        &mut self,
        asks: &[DeviceAsk],
        offer: &Offer<'_>,
        memory: &dyn Fn(usize) -> Option<u16>,
    ) -> Result<i64, usize> {
        self.prepare(asks, offer, memory);
        for (at, ask) in asks.iter().enumerate() {
            let enough = |group: u16| {
                let mine = self.of_group(group).filter(|i| self.may[at * self.owner.len() + i]).count();
                mine >= usize::from(ask.count)
            };
            if !offer.options[at].iter().any(|(group, _)| enough(*group)) {
                return Err(at);
            }
        }
        self.search(asks, offer.options, 0, 0);
        let last = self.order.last().copied().unwrap_or(0);
        self.best.ok_or(last)
    }

    /// The instances given to a request by the last successful search.
    pub(crate) fn given(&self, at: usize) -> impl Iterator<Item = Instance> + '_ {
        let mine = move |i: &usize| usize::from(self.best_owner[*i]) == at;
        (0..self.best_owner.len()).filter(mine).map(|i| self.instance(i))
    }

    fn instance(&self, flat: usize) -> Instance {
        let group = self.offsets.partition_point(|offset| *offset <= flat) - 1;
        let number = |n: usize| u16::try_from(n).unwrap_or(u16::MAX);
        (number(group), number(flat - self.offsets[group]))
    }

    fn of_group(&self, group: u16) -> std::ops::Range<usize> {
        let group = usize::from(group);
        self.offsets[group]..self.offsets[group + 1]
    }

    fn prepare(&mut self, asks: &[DeviceAsk], offer: &Offer<'_>, memory: &dyn Fn(usize) -> Option<u16>) {
        self.offsets.clear();
        self.offsets.push(0);
        let mut len = 0;
        for group in &offer.index.groups {
            len += group.len();
            self.offsets.push(len);
        }
        self.owner.clear();
        self.owner.resize(len, NOBODY);
        self.may.clear();
        self.may.resize(len * asks.len(), false);
        let devices = offer.node.node_resources.as_ref().map_or(&[][..], |r| &r.devices);
        for (at, ask) in asks.iter().enumerate() {
            let memory = memory(at);
            let picky = ask.checks.iter().any(Check::is_of_instances);
            for (group, _) in &offer.options[at] {
                let Some(device) = devices.get(usize::from(*group)) else { continue };
                for (i, (works, hangs_on)) in (0u16..).zip(&offer.index.groups[usize::from(*group)]) {
                    let free = *works && offer.taken.binary_search(&(*group, i)).is_err();
                    let near = memory.is_none() || memory == *hangs_on;
                    let liked = !picky || ask.takes(device, &device.instances[usize::from(i)].id);
                    self.may[at * len + self.offsets[usize::from(*group)] + usize::from(i)] = free && near && liked;
                }
            }
        }
        self.order.clear();
        self.order.extend(0..asks.len());
        self.order.sort_by_key(|at| (offer.options[*at].len(), std::cmp::Reverse(asks[*at].count), *at));
        self.saved.resize_with(asks.len(), Vec::new);
        (self.best, self.steps) = (None, 0);
    }

    fn search(&mut self, asks: &[DeviceAsk], options: &Options, depth: usize, liked: i64) {
        let Some(&at) = self.order.get(depth) else {
            if self.best.is_none_or(|best| liked > best) {
                self.best = Some(liked);
                self.best_owner.clone_from(&self.owner);
            }
            return;
        };
        self.steps += 1;
        let most = |at: &usize| options[*at].first().map_or(0, |(_, liked)| *liked);
        let hope: i64 = self.order[depth..].iter().map(most).fold(liked, i64::saturating_add);
        if self.steps > STEPS_MAX || self.best.is_some_and(|best| best >= hope) {
            return;
        }
        for &(group, weight) in &options[at] {
            let mut saved = std::mem::take(&mut self.saved[depth]);
            saved.clone_from(&self.owner);
            if (0..asks[at].count).all(|_| self.give(at, group)) {
                self.search(asks, options, depth + 1, liked.saturating_add(weight));
            }
            self.owner.clone_from(&saved);
            self.saved[depth] = saved;
        }
    }

    /// Gives one more instance to a request, moving others of the group along if need be.
    fn give(&mut self, at: usize, group: u16) -> bool {
        self.seen.clear();
        self.seen.resize(self.owner.len(), false);
        self.augment(at, group)
    }

    fn augment(&mut self, at: usize, group: u16) -> bool {
        let len = self.owner.len();
        let nobody = |i: &usize| self.may[at * len + i] && self.owner[*i] == NOBODY;
        if let Some(i) = self.of_group(group).find(nobody) {
            self.owner[i] = u16::try_from(at).unwrap_or(NOBODY);
            return true;
        }
        for i in self.of_group(group) {
            if self.seen[i] || !self.may[at * len + i] || usize::from(self.owner[i]) == at {
                continue;
            }
            self.seen[i] = true;
            let owner = self.owner[i];
            if self.augment(usize::from(owner), group) {
                self.owner[i] = u16::try_from(at).unwrap_or(NOBODY);
                return true;
            }
        }
        false
    }
}
