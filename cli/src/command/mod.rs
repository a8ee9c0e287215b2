//! What is a command, and how is one found and run?
//!
//! ```text
//!   words ─ find ─► Command (a row of table::commands) ─ flags::parse ─► Cx ─ run ─► exit code
//! ```
//!
//! A command is a row in a table: path, flags, texts, and a function. Parsing, help and "did you mean"
//! read the table, so that nothing is said twice. A command's function gets a [`Cx`] and answers an exit
//! code or a [`Failure`], which is printed here, once, on stderr with what to do about it.
//!
//! Exit codes: 0 done; 1 failed or misused; 2 a watched evaluation could not place everything; 127 there
//! is no such command; `job plan` and `job validate` have codes of their own.

pub mod agent_monitor;
pub mod alloc_act;
pub mod alloc_exec;
pub mod alloc_fs;
pub mod alloc_logs;
pub mod alloc_status;
pub mod alloc_stop;
pub mod complete;
pub mod deployment;
pub mod deployment_wish;
pub mod diff;
pub mod eval;
pub mod eval_delete;
pub mod eval_explain;
pub mod findings;
mod fmt;
pub mod gossip_keys;
pub mod help;
pub mod job_change;
pub mod job_convert;
pub mod job_history;
pub mod job_inspect;
pub mod job_launch;
pub mod job_misc;
pub mod job_plan;
pub mod job_restart;
pub mod job_run;
pub mod job_status;
pub mod job_stop;
pub mod jobfile;
pub mod lookup;
pub mod machine;
pub mod monitor;
pub mod namespace;
pub mod node_choice;
pub mod node_drain;
pub mod node_eligibility;
pub mod node_intro;
pub mod node_meta;
pub mod node_pool;
pub mod node_purge;
pub mod node_status;
pub mod operator;
pub mod operator_care;
pub mod operator_debug;
pub mod operator_raft;
pub mod operator_snapshot;
pub mod placement;
pub mod scaling_policy;
pub mod scheduler;
pub mod server;
pub mod server_join;
pub mod show;
pub mod spec_file;
pub mod status;
pub mod system;
pub mod table;
pub mod tls;
pub mod usage;

use std::error::Error as _;

use client::public::{PublicClient, PublicError, Query, Settings};
use futures::future::LocalBoxFuture;

use crate::env::{self, Env};
use crate::flags::{self, Flag, FlagError, Parsed, nearest, switch, text};
use crate::ui::Ui;

/// A name that is not known.
pub const CODE_UNKNOWN: u8 = 127;
/// Placement failed.
pub const CODE_UNPLACED: u8 = 2;

/// Which flags for reaching the API a command has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// It calls nobody.
    Nobody,
    /// What it asks has no namespace.
    Cluster,
    Namespace,
}

/// A command's function.
pub type Run = for<'a> fn(&'a mut Cx) -> LocalBoxFuture<'a, Result<u8, Failure>>;

/// What runs a command.
#[derive(Clone, Copy)]
pub enum Runner {
    /// Flags are taken apart and the API is at hand.
    Client(Run),
    /// Gets its words as they are and may run for long: services, the local cluster.
    Process(fn(&[String], &Env, &mut Ui) -> u8),
}

/// One command.
pub struct Command {
    /// `job run`.
    pub path: &'static str,
    /// Further names: `run`.
    pub aliases: &'static [&'static str],
    /// What follows the name: `[options] <path>`.
    pub usage: &'static str,
    /// One line.
    pub summary: &'static str,
    /// More lines, for its own help.
    pub about: &'static str,
    pub reach: Reach,
    pub flags: &'static [Flag],
    /// Least and greatest number of arguments.
    pub args: (usize, usize),
    /// After so many arguments, the rest is another program's command line.
    pub verbatim_after: usize,
    /// Exit code of an error.
    pub code_error: u8,
    pub hidden: bool,
    pub runner: Runner,
}

/// Flags of every command that calls the API.
pub const GENERAL: &[Flag] = &[
    text("address", "ADDR", "Address of the public API, as http://, https:// or unix://. [$STEPPE_ADDR, $NOMAD_ADDR]"),
    text("region", "REGION", "Region to send requests to. [$STEPPE_REGION, $NOMAD_REGION]"),
    text("token", "SECRET", "Secret of the caller. [$STEPPE_TOKEN, $NOMAD_TOKEN]"),
    switch("no-color", "No colours. [$NOMAD_CLI_NO_COLOR, $NO_COLOR]"),
    switch("force-color", "Colours even when the output is no terminal. [$NOMAD_CLI_FORCE_COLOR]"),
    text("ca-cert", "FILE", "CA to trust, PEM. [$STEPPE_CACERT, $NOMAD_CACERT]"),
    text("ca-path", "DIR", "Directory of CAs to trust, when -ca-cert names none. [$STEPPE_CAPATH, $NOMAD_CAPATH]"),
    text("client-cert", "FILE", "Certificate of the caller, PEM. [$STEPPE_CLIENT_CERT, $NOMAD_CLIENT_CERT]"),
    text("client-key", "FILE", "Key of the certificate, PEM. [$STEPPE_CLIENT_KEY, $NOMAD_CLIENT_KEY]"),
    text("tls-server-name", "NAME", "Name to expect in the server's certificate. [$NOMAD_TLS_SERVER_NAME]"),
    switch("tls-skip-verify", "Trust any certificate. Not for production. [$NOMAD_SKIP_VERIFY]"),
    switch("insecure", "The same as -tls-skip-verify."),
];

/// Flag of every command that asks about something in a namespace.
pub const NAMESPACE: &[Flag] =
    &[text("namespace", "NAME", "Namespace to work in; `*` where several can be asked. [$NOMAD_NAMESPACE]")];

impl Command {
    /// Its further names that are worth telling: not those of older versions, nor those that the reference hides.
    pub fn shown_aliases(&self) -> impl Iterator<Item = &'static str> {
        self.aliases.iter().copied().filter(|alias| !alias.contains('-') && *alias != "debug")
    }

    /// All of its flags.
    pub fn tables(&self) -> Vec<&'static [Flag]> {
        match self.reach {
            Reach::Nobody => vec![self.flags],
            Reach::Cluster => vec![self.flags, GENERAL],
            Reach::Namespace => vec![self.flags, GENERAL, NAMESPACE],
        }
    }
}

/// A command ends without having done its work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub code: Option<u8>,
    pub text: String,
    pub hint: Option<String>,
}

impl Failure {
    pub fn new(text: impl Into<String>) -> Self {
        Self { code: None, text: text.into(), hint: None }
    }

    #[must_use]
    pub fn code(mut self, code: u8) -> Self {
        self.code = Some(code);
        self
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// A call to the API failed while `doing` (`Error querying jobs`).
    pub fn api(doing: &str, error: &PublicError) -> Self {
        let mut text = match error {
            PublicError::Status { status, body } => {
                format!("{doing}: Unexpected response code: {} ({})", status.as_u16(), body.trim_end())
            }
            other => format!("{doing}: {other}"),
        };
        let mut source = error.source();
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            if !text.ends_with(&cause_text) {
                text.push_str(&format!(": {cause_text}"));
            }
            source = cause.source();
        }
        let about_tls = of_tls(&text);
        let failure = Self::new(text);
        match error {
            _ if about_tls.is_some() => Self { hint: about_tls.map(str::to_owned), ..failure },
            PublicError::Connect { .. } => failure.hint(
                "is the cluster running? `steppe dev` starts one here; -address or $NOMAD_ADDR says where another is",
            ),
            PublicError::Status { status, body } if status.as_u16() == 403 => match refused(body) {
                Some(hint) => failure.hint(hint),
                None => failure,
            },
            _ => failure,
        }
    }
}

/// What to do where the two ends do not agree on HTTPS, by what the TLS library and servers say.
fn of_tls(text: &str) -> Option<&'static str> {
    const KNOWN: [(&str, &str); 5] = [
        ("HTTP request to an HTTPS server", "the API speaks HTTPS: say https:// in -address or $NOMAD_ADDR"),
        ("UnknownIssuer", "-ca-cert or $NOMAD_CACERT names the authority that made the server's certificate"),
        (
            "NotValidForName",
            "-tls-server-name or $NOMAD_TLS_SERVER_NAME gives a name that is in the server's certificate",
        ),
        ("CertificateRequired", "the API wants a certificate of the caller: -client-cert and -client-key"),
        ("InvalidContentType", "the API speaks plain HTTP: say http:// in -address or $NOMAD_ADDR"),
    ];
    KNOWN.iter().find(|(said, _)| text.contains(said)).map(|(_, hint)| *hint)
}

/// What to do about a 403, where something can be done.
fn refused(body: &str) -> Option<&'static str> {
    if body.contains("disabled by the scheduler configuration") {
        return Some("`steppe operator scheduler set-config -reject-job-registration=false` turns it on again");
    }
    body.contains("Permission denied").then_some("-token or $NOMAD_TOKEN names the caller")
}

/// A running command's surroundings.
pub struct Cx {
    pub ui: Ui,
    pub env: Env,
    pub flags: Parsed,
    pub client: PublicClient,
    settings: Settings,
}

impl Cx {
    /// # Errors
    /// The settings cannot be used.
    pub fn new(ui: Ui, env: Env, flags: Parsed, reach: Reach) -> Result<Self, Box<(Ui, Failure)>> {
        // Whoever calls nobody is not held up by what the environment says about calls.
        let settings = if reach == Reach::Nobody { Settings::default() } else { settings(&flags, &env) };
        match PublicClient::new(settings.clone()) {
            Ok(client) => Ok(Self { ui, env, flags, client, settings }),
            Err(error) => Err(Box::new((ui, Failure::api("Error initializing client", &error)))),
        }
    }

    /// An argument; the table has seen to it that there are enough.
    pub fn arg(&self, at: usize) -> &str {
        self.flags.args.get(at).map_or("", String::as_str)
    }

    pub fn verbose(&self) -> bool {
        self.flags.is("verbose")
    }

    /// The namespace asked for, or the default.
    pub fn namespace(&self) -> &str {
        self.settings.namespace.as_deref().unwrap_or("default")
    }

    pub fn namespace_given(&self) -> bool {
        self.settings.namespace.is_some()
    }

    pub fn region_given(&self) -> bool {
        self.settings.region.is_some()
    }

    /// A client for one write: its request carries a name, so that a repetition acts once.
    ///
    /// # Errors
    /// As [`Cx::new`].
    pub fn writer(&self) -> Result<PublicClient, Failure> {
        self.client_with(vec![(api::headers::REQUEST_ID.to_owned(), request_id(self.ui.now()))])
    }

    /// A client that sends these headers too.
    ///
    /// # Errors
    /// As [`Cx::new`].
    pub fn client_with(&self, headers: Vec<(String, String)>) -> Result<PublicClient, Failure> {
        let mut settings = self.settings.clone();
        settings.headers.extend(headers);
        PublicClient::new(settings).map_err(|error| Failure::api("Error initializing client", &error))
    }

    /// A query in a row's own namespace.
    pub fn within(&self, namespace: &str) -> Query {
        Query { namespace: Some(namespace.to_owned()), ..Query::default() }
    }

    pub fn stamp(&self, unix_ns: i64) -> String {
        crate::format::stamp(unix_ns, &self.ui.zone)
    }

    /// Says how to get the page behind this one: the same command line, with the token.
    pub fn more(&mut self, command: &str, token: Option<&str>) {
        let Some(token) = token else { return };
        let again = self.flags.again(&["page-token", "token"]);
        self.ui.note(format!(
            "\nResults have been paginated. To get the next page run:\n\nsteppe {command} {again}-page-token={}{}",
            quoted(token),
            self.flags.args.iter().map(|arg| format!(" {}", quoted(arg))).collect::<String>()
        ));
    }

    /// A moment: how long ago, or exactly with `-verbose`.
    pub fn when(&self, unix_ns: i64) -> String {
        if self.verbose() { self.stamp(unix_ns) } else { crate::format::ago(unix_ns, self.ui.now()) }
    }
}

/// A word as a shell takes it.
pub(crate) fn quoted(word: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./:,@%+=".contains(&b);
    if !word.is_empty() && word.bytes().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// `<unix ms>-<16 hex digits>`.
fn request_id(now_ns: i64) -> String {
    let random = uuid::Uuid::new_v4().as_u128();
    format!("{}-{:016x}", now_ns / 1_000_000, random & u128::from(u64::MAX))
}

pub(crate) fn settings(flags: &Parsed, env: &Env) -> Settings {
    let either = |flag: &str, names| flags.some(flag).or_else(|| env.get(names)).map(str::to_owned);
    let mut settings = Settings {
        token: either("token", env::TOKEN),
        region: either("region", env::REGION),
        namespace: either("namespace", env::NAMESPACE),
        ca_cert: either("ca-cert", env::CACERT).map(Into::into),
        ca_path: either("ca-path", env::CAPATH).map(Into::into),
        client_cert: either("client-cert", env::CLIENT_CERT).map(Into::into),
        client_key: either("client-key", env::CLIENT_KEY).map(Into::into),
        tls_server_name: either("tls-server-name", env::TLS_SERVER_NAME),
        tls_skip_verify: flags.is("tls-skip-verify") || flags.is("insecure") || env.is_on(env::SKIP_VERIFY),
        ..Settings::default()
    };
    if let Some(address) = either("address", env::ADDR) {
        settings.address = address;
    }
    if let Some(login) = env.get(env::HTTP_AUTH) {
        use base64::Engine as _;
        let coded = base64::engine::general_purpose::STANDARD.encode(login);
        settings.headers.push(("authorization".to_owned(), format!("Basic {coded}")));
    }
    settings
}

/// Finds the command that `words` begin with, and how many of them name it.
pub fn find(words: &[String]) -> Option<(&'static Command, usize)> {
    (1..=words.len().min(4)).rev().find_map(|count| {
        let name = words[..count].join(" ");
        let found = table::commands().find(|c| c.path == name || c.aliases.contains(&name.as_str()));
        found.map(|command| (command, count))
    })
}

/// Runs a command line.
pub fn run(words: &[String], env: Env, mut ui: Ui) -> u8 {
    let leading: Vec<String> = words.iter().take_while(|word| !word.starts_with('-')).cloned().collect();
    if leading.is_empty() {
        return root(words, &env, &mut ui);
    }
    match find(&leading) {
        Some((command, count)) => run_command(command, &words[count..], env, ui),
        None => {
            colours(words, &mut ui);
            unknown(&leading, words.len() > leading.len(), &mut ui)
        }
    }
}

/// What a command line that is not understood says about colours.
fn colours(words: &[String], ui: &mut Ui) {
    for word in words.iter().take_while(|word| *word != "--") {
        match word.trim_start_matches('-') {
            "no-color" | "no-color=true" if word.starts_with('-') => return ui.set_colour(false),
            "force-color" | "force-color=true" if word.starts_with('-') => ui.set_colour(true),
            _ => {}
        }
    }
}

fn root(words: &[String], env: &Env, ui: &mut Ui) -> u8 {
    colours(words, ui);
    match words.first().map(|word| word.trim_start_matches('-')) {
        Some("version" | "v") => {
            ui.line(version());
            0
        }
        Some("autocomplete-install") => complete::install(true, env, ui),
        Some("autocomplete-uninstall") => complete::install(false, env, ui),
        Some("h" | "help") => {
            ui.line(help::root());
            0
        }
        None => {
            ui.note(help::root());
            CODE_UNKNOWN
        }
        Some(other) => {
            ui.error(&format!("flag provided but not defined: -{other}"));
            ui.hint("flags follow the command: `steppe job status -json`; `steppe -help` lists the commands");
            CODE_UNKNOWN
        }
    }
}

/// A group's name, or none at all.
fn unknown(words: &[String], flagged: bool, ui: &mut Ui) -> u8 {
    let group = (1..=words.len()).rev().map(|n| words[..n].join(" ")).find(|name| help::is_group(name));
    let name = words.join(" ");
    if let Some(group) = group.as_ref().filter(|group| **group == name) {
        let text = help::group(group);
        if flagged {
            ui.line(text)
        } else {
            ui.note(text)
        }
        return if flagged { 0 } else { CODE_UNKNOWN };
    }
    if let Some(known) = table::NOT_BUILT.iter().find(|known| name == **known || name.starts_with(&format!("{known} ")))
    {
        ui.error(&format!("steppe {known} is not built yet"));
        ui.hint("`steppe -help` lists what is");
        return 1;
    }
    ui.error(&format!("There is no command \"steppe {name}\""));
    let names = table::commands().filter(|c| !c.hidden).flat_map(|c| c.aliases.iter().copied().chain([c.path]));
    let groups = help::GROUPS.iter().map(|(name, _)| *name);
    let asked = words.iter().take(2).cloned().collect::<Vec<_>>().join(" ");
    match nearest(&asked, names.chain(groups)) {
        Some(near) => ui.hint(&format!("did you mean `steppe {near}`?")),
        None => ui.hint(&match group {
            Some(group) => format!("`steppe {group} -help` lists the commands"),
            None => "`steppe -help` lists the commands".to_owned(),
        }),
    }
    CODE_UNKNOWN
}

fn run_command(command: &'static Command, words: &[String], env: Env, mut ui: Ui) -> u8 {
    let run = match command.runner {
        Runner::Process(run) => {
            if words.iter().any(|word| matches!(word.as_str(), "-h" | "-help" | "--help")) && command.path != "serve" {
                ui.line(help::command(command));
                return 0;
            }
            return run(words, &env, &mut ui);
        }
        Runner::Client(run) => run,
    };
    let parsed = match flags::parse_until(&command.tables(), words, command.verbatim_after) {
        Ok(parsed) => parsed,
        Err(error) => {
            colours(words, &mut ui);
            return misused(command, &error, &mut ui);
        }
    };
    if parsed.help {
        ui.line(help::command(command));
        return 0;
    }
    if parsed.is("no-color") || parsed.is("force-color") {
        ui.set_colour(parsed.is("force-color") && !parsed.is("no-color"));
    }
    let (least, most) = command.args;
    if !(least..=most).contains(&parsed.args.len()) {
        ui.error(&help::arity(command));
        ui.hint(&format!("for more help, `steppe {} -help`", command.path));
        return command.code_error;
    }
    let mut cx = match Cx::new(ui, env, parsed, command.reach) {
        Ok(cx) => cx,
        Err(failed) => {
            let (ui, failure) = *failed;
            return tell(command, ui, &failure);
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = match runtime {
        Ok(runtime) => runtime.block_on(run(&mut cx)),
        Err(error) => Err(Failure::new(format!("Error starting: {error}"))),
    };
    match done {
        Ok(code) => code,
        Err(failure) => tell(command, cx.ui, &failure),
    }
}

fn misused(command: &Command, error: &FlagError, ui: &mut Ui) -> u8 {
    ui.error(&error.to_string());
    ui.hint(&error.hint().unwrap_or_else(|| format!("for more help, `steppe {} -help`", command.path)));
    command.code_error
}

fn tell(command: &Command, mut ui: Ui, failure: &Failure) -> u8 {
    if !failure.text.is_empty() {
        ui.error(&failure.text);
    }
    if let Some(hint) = &failure.hint {
        ui.hint(hint);
    }
    failure.code.unwrap_or(command.code_error)
}

/// What `steppe version` says.
pub fn version() -> String {
    format!("Steppe v{}", env!("CARGO_PKG_VERSION"))
}

#[cfg(test)]
mod tests {
    use super::of_tls;

    #[test]
    fn who_does_not_agree_on_https_is_told_what_to_say() {
        let told = |text: &str| of_tls(text).unwrap_or_default();
        assert!(told("400 (Client sent an HTTP request to an HTTPS server.)").contains("https://"));
        assert!(told("invalid peer certificate: UnknownIssuer").contains("-ca-cert"));
        assert!(told("received fatal alert: CertificateRequired").contains("-client-cert"));
        assert_eq!(of_tls("Connection refused (os error 111)"), None);
    }
}
