//! Machines joined by wires that can be cut: each in a network namespace of its own, on one bridge.
//!
//! The bridge is in a namespace of its own, too, which the calling thread moves into: so the host's firewall has
//! no say, and the test reaches every machine by its address. Needs root and `ip`.

use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::cluster::{program, text};

static LAID: AtomicU32 = AtomicU32::new(0);

/// Gone at the end, and the thread is where it was before.
pub struct Wires {
    /// Of the namespaces: `<name>-0` has the bridge.
    name: String,
    machines: u8,
    home: std::fs::File,
}

impl Wires {
    /// Joins so many machines, at 10.77.0.1 and following. Threads that exist already do not see them: call it on
    /// a runtime of one thread, before anything else.
    pub fn lay(machines: u8) -> Self {
        let home = std::fs::File::open("/proc/thread-self/ns/net").unwrap();
        let name = format!("e2e-{}-{}", std::process::id(), LAID.fetch_add(1, Ordering::Relaxed));
        let wires = Self { name, machines, home };
        let room = wires.space(0);
        ip(&["netns", "add", &room]);
        ip(&["-n", &room, "link", "set", "lo", "up"]);
        ip(&["-n", &room, "link", "add", "room", "type", "bridge"]);
        ip(&["-n", &room, "addr", "add", "10.77.0.254/24", "dev", "room"]);
        ip(&["-n", &room, "link", "set", "room", "up"]);
        for n in 1..=machines {
            let (space, wire) = (wires.space(n), format!("wire{n}"));
            ip(&["netns", "add", &space]);
            ip(&["-n", &room, "link", "add", &wire, "type", "veth", "peer", "name", "eth0", "netns", &space]);
            ip(&["-n", &room, "link", "set", &wire, "master", "room", "up"]);
            ip(&["-n", &space, "addr", "add", &format!("{}/24", Self::ip(n)), "dev", "eth0"]);
            for link in ["lo", "eth0"] {
                ip(&["-n", &space, "link", "set", link, "up"]);
            }
        }
        let file = std::fs::File::open(format!("/run/netns/{room}")).unwrap();
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        wires
    }

    pub fn ip(n: u8) -> String {
        format!("10.77.0.{n}")
    }

    /// The name of its namespace.
    pub fn space(&self, n: u8) -> String {
        format!("{}-{n}", self.name)
    }

    /// From now on nobody hears the machine, and it nobody; it is not told.
    pub fn cut(&self, n: u8) {
        ip(&["-n", &self.space(0), "link", "set", &format!("wire{n}"), "nomaster"]);
    }

    pub fn mend(&self, n: u8) {
        ip(&["-n", &self.space(0), "link", "set", &format!("wire{n}"), "master", "room"]);
    }

    /// `steppe`, run on a machine: a script in `dir`.
    pub fn program(&self, dir: &Path, n: u8) -> PathBuf {
        let path = dir.join(format!("steppe-{n}"));
        let text = format!("#!/bin/sh\nexec ip netns exec {} {} \"$@\"\n", self.space(n), program().display());
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }
}

impl Drop for Wires {
    fn drop(&mut self) {
        let _ = move_into_link_name_space(self.home.as_fd(), Some(LinkNameSpaceType::Network));
        for n in 0..=self.machines {
            let _ = Command::new("ip").args(["netns", "del", &self.space(n)]).output();
        }
    }
}

fn ip(words: &[&str]) {
    let done = Command::new("ip").args(words).output().expect("`ip` is there (iproute2)");
    assert!(done.status.success(), "tests run as root: ip {}: {}", words.join(" "), text(&done.stderr));
}
