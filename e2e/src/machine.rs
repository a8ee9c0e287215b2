//! Machines as an operator has them: `steppe agent -config`, each with a file, an address and a data directory.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use client::public::{PublicClient, Query, Settings};
use serde_json::Value;

use crate::cluster::{WITHIN, program, text};
use crate::leftovers::sweep;

/// A gossip key.
pub const KEY: &str = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY=";
pub const RAW_EXEC: &str = "plugin \"raw_exec\" { config { enabled = true } }\n";
/// A server that is a cluster by itself.
pub const ALONE: &str = "server {\n  enabled = true\n  bootstrap_expect = 1\n}\n";

/// The `n`th of three servers at 127.0.0.1 to 127.0.0.3.
pub fn one_of_three(dir: &Path, n: u16, port: u16) -> Machine {
    let serf = port + 2;
    let more = format!(
        "server {{\n  enabled = true\n  bootstrap_expect = 3\n  encrypt = \"{KEY}\"\n  server_join {{\n    retry_join = \
         [\"127.0.0.1:{serf}\", \"127.0.0.2:{serf}\", \"127.0.0.3:{serf}\"]\n  }}\n}}\n"
    );
    Machine::new(dir, &format!("server-{n}"), &format!("127.0.0.{n}"), port, &more)
}

/// Runs `steppe tls` in a directory.
pub fn tls(dir: &Path, words: &[&str]) {
    let done = Command::new(program()).arg("tls").args(words).current_dir(dir).output().unwrap();
    assert!(done.status.success(), "{words:?}: {}", text(&done.stderr));
}

/// An operator's authority in `dir`, with certificates for servers, people and clients; those of clients as
/// the words say, too.
pub fn certificates(dir: &Path, clients: &[&str]) {
    std::fs::create_dir_all(dir).unwrap();
    tls(dir, &["ca", "create"]);
    for (holder, more) in [("-server", &[] as &[&str]), ("-client", clients), ("-cli", &[])] {
        tls(dir, &[&["cert", "create", holder], more].concat());
    }
}

/// Waits until what is tried succeeds.
pub async fn until<T>(what: &str, mut tried: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + WITHIN;
    loop {
        if let Some(done) = tried().await {
            return done;
        }
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// One machine, and the process that runs it.
pub struct Machine {
    pub address: String,
    pub data: PathBuf,
    file: PathBuf,
    log: PathBuf,
    /// How its API is reached.
    settings: Settings,
    child: Option<Child>,
    /// What it runs.
    pub program: PathBuf,
}

impl Machine {
    /// A machine named `name` at `ip`, whose three ports begin at `port`; `more` is the rest of its file.
    pub fn new(dir: &Path, name: &str, ip: &str, port: u16, more: &str) -> Self {
        let (file, data) = (dir.join(format!("{name}.hcl")), dir.join(name));
        let (rpc, serf) = (port + 1, port + 2);
        let text = format!(
            "name = \"{name}\"\ndata_dir = \"{}\"\nbind_addr = \"{ip}\"\nports {{\n  http = {port}\n  rpc = {rpc}\n  serf = \
             {serf}\n}}\n{more}",
            data.display()
        );
        std::fs::write(&file, text).unwrap();
        let log = dir.join(format!("{name}.log"));
        let address = format!("http://{ip}:{port}");
        let settings = Settings { address: address.clone(), ..Settings::default() };
        Self { address, data, file, log, settings, child: None, program: program() }
    }

    /// Its API is reached by HTTPS, with the certificates that `steppe tls` made in `dir`.
    pub fn by_https(mut self, dir: &Path) -> Self {
        self.address = self.address.replace("http://", "https://");
        self.settings = Settings {
            address: self.address.clone(),
            ca_cert: Some(dir.join("nomad-agent-ca.pem")),
            client_cert: Some(dir.join("global-cli-nomad.pem")),
            client_key: Some(dir.join("global-cli-nomad-key.pem")),
            tls_server_name: Some("server.global.nomad".to_owned()),
            ..Settings::default()
        };
        self
    }

    pub fn settings(&self) -> Settings {
        self.settings.clone()
    }

    pub fn start(&mut self, flags: &[&str]) {
        let log = std::fs::File::options().create(true).append(true).open(&self.log).unwrap();
        let mut command = Command::new(&self.program);
        command.args(["agent", "-config"]).arg(&self.file).args(flags);
        self.child = Some(command.stdout(Stdio::null()).stderr(log).spawn().unwrap());
    }

    /// Starts it although it cannot run; what it says.
    pub fn refused(&self, flags: &[&str]) -> String {
        let mut command = Command::new(&self.program);
        command.args(["agent", "-config"]).arg(&self.file).args(flags).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let deadline = Instant::now() + WITHIN;
        while child.try_wait().unwrap().is_none() {
            if Instant::now() > deadline {
                let _ = child.kill();
                panic!("it runs");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(!child.wait().unwrap().success());
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        said
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// Pid of one of its processes.
    pub fn process(&self, dir: &str) -> u32 {
        let noted = std::fs::read(self.data.join(dir).join("process.json")).unwrap();
        let noted: Value = serde_json::from_slice(&noted).unwrap();
        u32::try_from(noted["pid"].as_u64().unwrap()).unwrap()
    }

    /// Sends a signal, and waits for the end.
    pub fn end(&mut self, signal: &str) -> Duration {
        let began = Instant::now();
        if let Some(mut child) = self.child.take() {
            assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
            child.wait().unwrap();
        }
        began.elapsed()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Runs the command line against its API.
    pub fn steppe(&self, words: &[&str]) -> Output {
        let mut command = Command::new(program());
        command.args(words).env("NOMAD_ADDR", &self.address);
        let settings = &self.settings;
        for (name, file) in [
            ("NOMAD_CACERT", &settings.ca_cert),
            ("NOMAD_CLIENT_CERT", &settings.client_cert),
            ("NOMAD_CLIENT_KEY", &settings.client_key),
        ] {
            command.envs(file.iter().map(|file| (name, file)));
        }
        command.envs(settings.tls_server_name.iter().map(|name| ("NOMAD_TLS_SERVER_NAME", name)));
        command.output().unwrap()
    }

    /// The same, and it must succeed; its stdout.
    pub fn ok(&self, words: &[&str]) -> String {
        let done = self.steppe(words);
        assert!(done.status.success(), "{words:?}: {}{}", text(&done.stdout), text(&done.stderr));
        text(&done.stdout)
    }

    /// Asks its API until the answer is as wanted.
    pub async fn until(&self, path: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let api = PublicClient::new(self.settings.clone()).unwrap();
        let deadline = Instant::now() + WITHIN;
        let mut last = Value::Null;
        loop {
            if let Ok((value, _)) = api.get::<Value>(path, &Query::default()).await {
                if wanted(&value) {
                    return value;
                }
                last = value;
            }
            assert!(Instant::now() < deadline, "not in time: {what}\n{path}: {last:#}\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Its children end with it.
            let _ = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
            let _ = child.wait();
        }
        sweep(&self.data);
    }
}
