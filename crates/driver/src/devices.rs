//! Devices of the host that tasks are given for themselves: which there are, and what a task needs to use one.
//!
//! Two sources, looked at anew each time, so nothing is kept:
//! * **found**: NVIDIA's GPUs as its kernel driver lists them (`/proc/driver/nvidia`), other GPUs as render
//!   nodes (`/sys/class/drm`);
//! * **named** by the operator: `vendor/type/name=/dev/x[,/dev/y…]`, each path one instance.
//!
//! [`Devices::list`] is what the node's row says. [`Devices::reserve`] turns what the cluster gave a task into
//! the files it may open and what its environment says; an id that is not there any more is an error of the
//! start. The cluster sees to it that an instance has one task: nothing is counted here.
//!
//! Everything is read below a root, which tests set. Limits: [`INSTANCES_MAX`] instances of one source.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use model::alloc::AllocatedDeviceResource;
use model::node::{Attribute, NodeDevice, NodeDeviceLocality, NodeDeviceResource};

/// Instances of one source that are looked at.
const INSTANCES_MAX: usize = 256;
/// What every user of an NVIDIA GPU opens besides the GPU itself.
const NVIDIA_COMMON: [&str; 3] = ["/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools"];
const MIB: u64 = 1 << 20;

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DeviceError {
    #[error("`{0}` is not VENDOR/TYPE/NAME=/dev/PATH[,/dev/PATH]")]
    Named(String),
    #[error("device {id:?} of {group} is not on this node")]
    Gone { group: String, id: String },
    #[error("device {id:?} of {group} does not work: {reason}")]
    Broken { group: String, id: String, reason: String },
}

/// A file below `/dev` that a task may open, under the same name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeviceNode(pub String);

/// What a task gets with its devices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reservation {
    pub nodes: Vec<DeviceNode>,
    pub env: Vec<(String, String)>,
}

/// One kind of device, as the operator names it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Named {
    vendor: String,
    kind: String,
    name: String,
    paths: Vec<String>,
}

/// An instance with the files that belong to it alone.
struct Found {
    vendor: &'static str,
    kind: &'static str,
    name: String,
    attributes: BTreeMap<String, Attribute>,
    instance: NodeDevice,
    nodes: Vec<String>,
}

/// See the module's text.
#[derive(Clone, Debug)]
pub struct Devices {
    root: PathBuf,
    named: Vec<Named>,
}

impl Default for Devices {
    fn default() -> Self {
        Self { root: "/".into(), named: Vec::new() }
    }
}

impl Devices {
    /// Those that are found, and those of these lines.
    ///
    /// # Errors
    /// A line that names no devices.
    pub fn new(lines: &[(String, String)]) -> Result<Self, DeviceError> {
        let named = lines.iter().map(|(name, paths)| Named::parse(name, paths)).collect::<Result<_, _>>()?;
        Ok(Self { named, ..Self::default() })
    }

    /// The same of a host whose files are below `root`.
    #[must_use]
    pub fn below(self, root: PathBuf) -> Self {
        Self { root, ..self }
    }

    /// All devices, by vendor, type and name.
    pub fn list(&self) -> Vec<NodeDeviceResource> {
        let mut groups: BTreeMap<(String, String, String), NodeDeviceResource> = BTreeMap::new();
        for found in self.found() {
            let key = (found.vendor.to_owned(), found.kind.to_owned(), found.name.clone());
            let group = groups.entry(key.clone()).or_insert_with(|| NodeDeviceResource {
                vendor: key.0,
                kind: key.1,
                name: key.2,
                attributes: found.attributes,
                ..NodeDeviceResource::default()
            });
            group.instances.push(found.instance);
        }
        for named in &self.named {
            let key = (named.vendor.clone(), named.kind.clone(), named.name.clone());
            let group = groups.entry(key.clone()).or_insert_with(|| NodeDeviceResource {
                vendor: key.0,
                kind: key.1,
                name: key.2,
                ..NodeDeviceResource::default()
            });
            group.instances.extend(named.paths.iter().map(|path| self.instance(path)));
        }
        for group in groups.values_mut() {
            group.instances.sort_by(|a, b| a.id.cmp(&b.id));
            group.instances.dedup_by(|a, b| a.id == b.id);
        }
        groups.into_values().collect()
    }

    /// What a task needs that was given these.
    ///
    /// # Errors
    /// One is not there any more, or does not work.
    pub fn reserve(&self, given: &[AllocatedDeviceResource]) -> Result<Reservation, DeviceError> {
        let mut all = Reservation::default();
        if given.is_empty() {
            return Ok(all);
        }
        let (found, mut nvidia, mut own) = (self.found(), Vec::new(), Vec::new());
        for device in given {
            let group = format!("{}/{}/{}", device.vendor, device.kind, device.name);
            for id in &device.device_ids {
                let of = |one: &&Found| {
                    (one.vendor, one.kind, one.name.as_str()) == (&device.vendor, &device.kind, &device.name)
                        && one.instance.id == *id
                };
                let (instance, nodes) = match found.iter().find(of) {
                    Some(one) => (one.instance.clone(), one.nodes.clone()),
                    None if self.is_named(device, id) => (self.instance(id), vec![id.clone()]),
                    None => return Err(DeviceError::Gone { group, id: id.clone() }),
                };
                if !instance.healthy {
                    let reason = instance.health_description;
                    return Err(DeviceError::Broken { group, id: id.clone(), reason });
                }
                if device.vendor == "nvidia" && !self.is_named(device, id) {
                    nvidia.push(id.clone());
                    let common = NVIDIA_COMMON.iter().filter(|path| self.has(path));
                    all.nodes.extend(common.map(|path| DeviceNode((*path).to_owned())));
                }
                own.extend(nodes);
            }
        }
        if !nvidia.is_empty() {
            all.env.push(("NVIDIA_VISIBLE_DEVICES".to_owned(), nvidia.join(",")));
        }
        all.env.push(("STEPPE_DEVICES".to_owned(), own.join(",")));
        all.nodes.extend(own.into_iter().map(DeviceNode));
        all.nodes.sort();
        all.nodes.dedup();
        Ok(all)
    }

    fn is_named(&self, device: &AllocatedDeviceResource, id: &str) -> bool {
        let same = |n: &&Named| n.vendor == device.vendor && n.kind == device.kind && n.name == device.name;
        self.named.iter().filter(same).any(|named| named.paths.iter().any(|path| path == id))
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    fn has(&self, path: &str) -> bool {
        self.at(path).exists()
    }

    /// One of the operator's: its path is its id.
    fn instance(&self, path: &str) -> NodeDevice {
        let healthy = self.has(path);
        let health_description = if healthy { String::new() } else { format!("{path} is missing") };
        NodeDevice { id: path.to_owned(), healthy, health_description, locality: None }
    }

    fn found(&self) -> Vec<Found> {
        let mut all = self.nvidia();
        all.extend(self.rendering());
        all
    }

    /// What NVIDIA's kernel driver lists, one directory per GPU by its PCI address.
    fn nvidia(&self) -> Vec<Found> {
        let version = text(&self.at("proc/driver/nvidia/version"));
        // NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.54.03  Tue …
        let version = version.lines().next().and_then(|line| {
            let mut words = line.split_whitespace();
            words.find(|word| word.contains('.') && word.starts_with(|c: char| c.is_ascii_digit()))
        });
        let gpu = |bus: String| {
            let said = text(&self.at(&format!("proc/driver/nvidia/gpus/{bus}/information")));
            let field = |name: &str| {
                let found = said.lines().filter_map(|line| line.split_once(':')).find(|(key, _)| key.trim() == name);
                found.map(|(_, value)| value.trim().to_owned()).filter(|value| !value.is_empty())
            };
            let (name, id) = (field("Model")?, field("GPU UUID")?);
            let node = format!("/dev/nvidia{}", field("Device Minor")?.parse::<u32>().ok()?);
            let healthy = self.has(&node);
            let mut attributes = BTreeMap::new();
            if let Some(version) = version {
                attributes.insert("driver_version".to_owned(), word(version));
            }
            if let Some(bytes) = self.window(&bus, 1) {
                attributes.insert("bar1".to_owned(), mebibytes(bytes));
            }
            let health_description = if healthy { String::new() } else { format!("{node} is missing") };
            let locality = Some(NodeDeviceLocality { pci_bus_id: bus });
            let instance = NodeDevice { id, healthy, health_description, locality };
            Some(Found { vendor: "nvidia", kind: "gpu", name, attributes, instance, nodes: vec![node] })
        };
        names(&self.at("proc/driver/nvidia/gpus")).into_iter().filter_map(gpu).collect()
    }

    /// Other GPUs: render nodes with a PCI device behind them.
    fn rendering(&self) -> Vec<Found> {
        let gpu = |node: String| {
            let device = self.at(&format!("sys/class/drm/{node}/device"));
            let read = |name: &str| Some(text(&device.join(name)).trim().to_owned()).filter(|text| !text.is_empty());
            let vendor = match read("vendor")?.as_str() {
                "0x1002" => "amd",
                "0x8086" => "intel",
                // NVIDIA's own driver lists its GPUs itself; what is not hardware is no device.
                _ => return None,
            };
            let model = read("device")?;
            let name = read("product_name").unwrap_or_else(|| model.trim_start_matches("0x").to_owned());
            let bus = fs::canonicalize(&device).ok()?.file_name()?.to_string_lossy().into_owned();
            let path = format!("/dev/dri/{node}");
            let healthy = self.has(&path);
            let mut attributes = BTreeMap::new();
            if let Some(bytes) = read("mem_info_vram_total").and_then(|text| text.parse().ok()) {
                attributes.insert("memory".to_owned(), mebibytes(bytes));
            }
            let mut nodes = vec![path.clone()];
            nodes.extend(Some("/dev/kfd".to_owned()).filter(|kfd| vendor == "amd" && self.has(kfd)));
            let health_description = if healthy { String::new() } else { format!("{path} is missing") };
            let locality = Some(NodeDeviceLocality { pci_bus_id: bus.clone() });
            let id = read("unique_id").unwrap_or(bus);
            let instance = NodeDevice { id, healthy, health_description, locality };
            Some(Found { vendor, kind: "gpu", name, attributes, instance, nodes })
        };
        let nodes = names(&self.at("sys/class/drm")).into_iter().filter(|name| name.starts_with("renderD"));
        nodes.filter_map(gpu).collect()
    }

    /// Bytes of a PCI device's memory window.
    fn window(&self, bus: &str, at: usize) -> Option<u64> {
        let listed = text(&self.at(&format!("sys/bus/pci/devices/{}/resource", bus.to_ascii_lowercase())));
        let mut ends = listed.lines().nth(at)?.split_whitespace().map(|word| {
            let digits = word.trim_start_matches("0x");
            u64::from_str_radix(digits, 16).ok()
        });
        let (start, end) = (ends.next()??, ends.next()??);
        (end > start).then(|| (end - start).saturating_add(1))
    }
}

impl Named {
    fn parse(name: &str, paths: &str) -> Result<Self, DeviceError> {
        let bad = || DeviceError::Named(format!("{name}={paths}"));
        let parts: Vec<&str> = name.split('/').collect();
        let &[vendor, kind, model] = parts.as_slice() else { return Err(bad()) };
        let paths: Vec<String> = paths.split(',').map(|path| path.trim().to_owned()).collect();
        let fine = |path: &String| {
            path.starts_with("/dev/") && path.len() > 5 && !path.split('/').any(|part| part == ".." || part == ".")
        };
        if [vendor, kind, model].iter().any(|part| part.trim().is_empty())
            || paths.len() > INSTANCES_MAX
            || !paths.iter().all(fine)
        {
            return Err(bad());
        }
        Ok(Self { vendor: vendor.to_owned(), kind: kind.to_owned(), name: model.to_owned(), paths })
    }
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
    let mut names: Vec<String> =
        entries.take(INSTANCES_MAX).map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn word(value: &str) -> Attribute {
    Attribute { string_val: Some(value.to_owned()), ..Attribute::default() }
}

fn mebibytes(bytes: u64) -> Attribute {
    let int_val = Some(i64::try_from(bytes / MIB).unwrap_or(i64::MAX));
    Attribute { int_val, unit: "MiB".to_owned(), ..Attribute::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn gpu(root: &Path, bus: &str, minor: u32) {
        let said = format!(
            "Model: \t\t Tesla T4\nIRQ:   \t\t 57\nGPU UUID: \t GPU-0000-{minor}\nBus Location: \t {bus}\nDevice Minor: \t {minor}\n"
        );
        put(root, &format!("proc/driver/nvidia/gpus/{bus}/information"), &said);
        let windows = "0x00000000fa000000 0x00000000faffffff 0x40200\n0x00000000e0000000 0x00000000efffffff 0x14220c\n";
        put(root, &format!("sys/bus/pci/devices/{bus}/resource"), windows);
    }

    fn host() -> (tempfile::TempDir, Devices) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let version = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.54.03  Tue Jun  6 22:20:39 UTC 2023\nGCC\n";
        put(root, "proc/driver/nvidia/version", version);
        gpu(root, "0000:01:00.0", 0);
        gpu(root, "0000:02:00.0", 1);
        for node in ["nvidia0", "nvidiactl", "nvidia-uvm", "dri/renderD128", "kfd", "fpga0"] {
            put(root, &format!("dev/{node}"), "");
        }
        put(root, "sys/devices/0000:03:00.0/vendor", "0x1002\n");
        put(root, "sys/devices/0000:03:00.0/device", "0x744c\n");
        put(root, "sys/devices/0000:03:00.0/mem_info_vram_total", "25753026560\n");
        fs::create_dir_all(root.join("sys/class/drm/renderD128")).unwrap();
        std::os::unix::fs::symlink("../../../devices/0000:03:00.0", root.join("sys/class/drm/renderD128/device"))
            .unwrap();
        put(root, "sys/class/drm/renderD129/device/vendor", "0x1af4\n");
        let named = [("acme/fpga/x1".to_owned(), "/dev/fpga0,/dev/fpga1".to_owned())];
        let devices = Devices::new(&named).unwrap().below(root.to_path_buf());
        (dir, devices)
    }

    fn given(vendor: &str, kind: &str, name: &str, ids: &[&str]) -> AllocatedDeviceResource {
        AllocatedDeviceResource {
            vendor: vendor.into(),
            kind: kind.into(),
            name: name.into(),
            device_ids: ids.iter().map(|id| (*id).to_owned()).collect(),
        }
    }

    #[test]
    fn a_node_lists_what_is_found_and_what_is_named_device_01_device_05() {
        let (_dir, devices) = host();
        let list = devices.list();
        let keys: Vec<_> =
            list.iter().map(|g| (g.vendor.as_str(), g.kind.as_str(), g.name.as_str(), g.instances.len())).collect();
        assert_eq!(keys, [("acme", "fpga", "x1", 2), ("amd", "gpu", "744c", 1), ("nvidia", "gpu", "Tesla T4", 2)]);
        let nvidia = &list[2];
        assert_eq!(nvidia.attributes["driver_version"], word("535.54.03"));
        assert_eq!(nvidia.attributes["bar1"], mebibytes(256 * MIB));
        assert_eq!(nvidia.instances[0].id, "GPU-0000-0");
        assert_eq!(nvidia.instances[0].locality.as_ref().unwrap().pci_bus_id, "0000:01:00.0");
        assert_eq!(list[1].attributes["memory"].int_val, Some(24_560));
        assert_eq!(list[1].instances[0].id, "0000:03:00.0");
        let (dir, bare) = (tempfile::tempdir().unwrap(), Devices::default());
        assert!(bare.below(dir.path().to_path_buf()).list().is_empty());
    }

    #[test]
    fn an_instance_without_its_file_is_listed_and_does_not_work_device_02() {
        let (_dir, devices) = host();
        let list = devices.list();
        let health = |at: usize| list[at].instances.iter().map(|one| one.healthy).collect::<Vec<_>>();
        assert_eq!((health(0), health(2)), (vec![true, false], vec![true, false]));
        assert_eq!(list[2].instances[1].health_description, "/dev/nvidia1 is missing");
        let broken = devices.reserve(&[given("acme", "fpga", "x1", &["/dev/fpga1"])]);
        assert!(matches!(broken, Err(DeviceError::Broken { .. })), "{broken:?}");
    }

    #[test]
    fn a_task_gets_the_files_and_the_names_of_its_devices_device_03() {
        let (_dir, devices) = host();
        let reserved = devices
            .reserve(&[
                given("nvidia", "gpu", "Tesla T4", &["GPU-0000-0"]),
                given("acme", "fpga", "x1", &["/dev/fpga0"]),
            ])
            .unwrap();
        let nodes: Vec<&str> = reserved.nodes.iter().map(|node| node.0.as_str()).collect();
        assert_eq!(nodes, ["/dev/fpga0", "/dev/nvidia-uvm", "/dev/nvidia0", "/dev/nvidiactl"]);
        let env = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            reserved.env,
            [env("NVIDIA_VISIBLE_DEVICES", "GPU-0000-0"), env("STEPPE_DEVICES", "/dev/nvidia0,/dev/fpga0")]
        );
        let amd = devices.reserve(&[given("amd", "gpu", "744c", &["0000:03:00.0"])]).unwrap();
        assert_eq!(amd.env, [env("STEPPE_DEVICES", "/dev/dri/renderD128,/dev/kfd")]);
        assert_eq!(devices.reserve(&[]).unwrap(), Reservation::default());
    }

    #[test]
    fn what_is_not_there_is_an_error_of_the_start_device_04() {
        let (_dir, devices) = host();
        for unknown in [
            given("nvidia", "gpu", "Tesla T4", &["GPU-9"]),
            given("nvidia", "gpu", "Tesla T5", &["GPU-0000-0"]),
            given("acme", "fpga", "x1", &["/dev/sda"]),
        ] {
            let refused = devices.reserve(std::slice::from_ref(&unknown));
            assert!(matches!(refused, Err(DeviceError::Gone { .. })), "{unknown:?}: {refused:?}");
        }
    }

    #[test]
    fn only_files_below_dev_can_be_named() {
        for (name, paths) in [
            ("acme/fpga", "/dev/a"),
            ("acme//x", "/dev/a"),
            ("acme/fpga/x/y", "/dev/a"),
            ("acme/fpga/x", ""),
            ("acme/fpga/x", "/etc/shadow"),
            ("acme/fpga/x", "/dev/../etc/shadow"),
            ("acme/fpga/x", "/dev/"),
        ] {
            assert!(Devices::new(&[(name.to_owned(), paths.to_owned())]).is_err(), "{name}={paths}");
        }
    }
}
