//! What is the host like that this process runs on? For whoever looks for what is wrong with it.
//!
//! Read anew for each who asks, and bounded: long files are cut, disks are those of local devices only, since asking
//! for another may never be answered.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use api::process::{DiskUsage, HostData};

const FILE_BYTES_MAX: u64 = 64 << 10;
const DISKS_MAX: usize = 64;
const VARIABLES_MAX: usize = 500;
const VALUE_BYTES_MAX: usize = 4 << 10;
const REDACTED: &str = "<redacted>";
/// A variable with one of these in its name may hold a secret.
const SECRET: [&str; 9] = ["TOKEN", "KEY", "SECRET", "PASS", "CREDENTIAL", "AUTH", "PRIVATE", "COOKIE", "DSN"];

/// Blocks on reading files.
pub fn read() -> HostData {
    HostData {
        os: os(),
        network: network(),
        resolv_conf: text("/etc/resolv.conf"),
        hosts: text("/etc/hosts"),
        environment: environment(std::env::vars_os().map(|(k, v)| (lossy(&k), lossy(&v)))),
        disk: disks(&text("/proc/self/mounts")),
    }
}

fn lossy(text: &std::ffi::OsStr) -> String {
    text.to_string_lossy().into_owned()
}

/// The file as text, or its beginning; empty when it cannot be read.
fn text(path: &str) -> String {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut bytes));
    read.map(|_| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

fn os() -> String {
    let name = rustix::system::uname();
    let release = text("/etc/os-release");
    let pretty = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    let part = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    let kernel = format!("{} {} {}", part(name.sysname()), part(name.release()), part(name.machine()));
    match pretty {
        Some(pretty) => format!("{} ({kernel})", pretty.trim_matches('"')),
        None => kernel,
    }
}

fn network() -> Vec<BTreeMap<String, String>> {
    let Ok(all) = nix::ifaddrs::getifaddrs() else { return Vec::new() };
    let found = all.filter_map(|entry| {
        let address = entry.address?;
        let v4 = address.as_sockaddr_in().map(|a| a.ip().to_string());
        let ip = v4.or_else(|| address.as_sockaddr_in6().map(|a| a.ip().to_string()))?;
        Some(BTreeMap::from([("interface".to_owned(), entry.interface_name), ("address".to_owned(), ip)]))
    });
    found.collect()
}

fn environment(all: impl Iterator<Item = (String, String)>) -> BTreeMap<String, String> {
    let shown = |(name, mut value): (String, String)| {
        let upper = name.to_ascii_uppercase();
        // A name and a password may be in an address, too.
        let hidden = SECRET.iter().any(|word| upper.contains(word)) || value.contains('@');
        if hidden && !value.is_empty() {
            return (name, REDACTED.to_owned());
        }
        if value.len() > VALUE_BYTES_MAX {
            value.truncate(value.floor_char_boundary(VALUE_BYTES_MAX));
        }
        (name, value)
    };
    all.take(VARIABLES_MAX).map(shown).collect()
}

/// Of what `/proc/self/mounts` lists.
fn disks(mounts: &str) -> BTreeMap<String, DiskUsage> {
    let local = mounts.lines().filter_map(|line| {
        let (device, rest) = line.split_once(' ')?;
        device.starts_with("/dev/").then(|| rest.split(' ').next())?
    });
    let usage = |place: &str| {
        // Blanks and such are written as numbers.
        let found = rustix::fs::statvfs(Path::new(&place.replace("\\040", " "))).ok()?;
        let mb = |blocks: u64| blocks.saturating_mul(found.f_frsize) >> 20;
        let usage =
            DiskUsage { disk_mb: mb(found.f_blocks), used_mb: mb(found.f_blocks.saturating_sub(found.f_bfree)) };
        Some((place.to_owned(), usage))
    };
    local.filter_map(usage).take(DISKS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_a_secret_is_not_shown_and_the_rest_is() {
        let given = [
            ("PATH", "/bin"),
            ("NOMAD_TOKEN", "t"),
            ("aws_secret_access", "s"),
            ("PROXY", "http://user:word@proxy"),
            ("EMPTY_KEY", ""),
        ];
        let shown = environment(given.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
        let of = |name: &str| shown[name].as_str();
        assert_eq!((of("PATH"), of("EMPTY_KEY")), ("/bin", ""));
        assert_eq!([of("NOMAD_TOKEN"), of("aws_secret_access"), of("PROXY")], [REDACTED; 3]);
        let long = environment([("LONG".to_owned(), "ä".repeat(VALUE_BYTES_MAX))].into_iter());
        assert!(long["LONG"].len() <= VALUE_BYTES_MAX);
    }

    #[test]
    fn a_disk_is_a_device_of_the_host_s_and_its_use_is_no_more_than_it_has() {
        let all = disks("proc /proc proc rw 0 0\n/dev/x / ext4 rw 0 0\n/dev/y /does/not/exist ext4 rw 0 0\nhalf");
        assert_eq!(all.keys().collect::<Vec<_>>(), ["/"]);
        assert!(all["/"].disk_mb > 0 && all["/"].used_mb <= all["/"].disk_mb);
    }

    #[test]
    fn this_host_has_a_name_and_a_loopback() {
        let host = read();
        assert!(host.os.contains("Linux"), "{}", host.os);
        assert!(host.network.iter().any(|one| one["address"] == "127.0.0.1"), "{:?}", host.network);
    }
}
