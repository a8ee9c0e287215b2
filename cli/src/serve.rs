//! `steppe serve SERVICE`: one service as this process. `steppe supervise DIR`: one allocation's tasks.
//!
//! A service's options are its `Config`; each may be given in the environment too, as `STEPPE_` and its
//! name in capitals. What is typed wins.

use std::future::Future;

use clap::{Args, Command, FromArgMatches};
use client::tls::CERT_FILE;
use kit::process::{Settings, Shutdown};

use crate::env::{Env, SERVICE_PREFIX};
use crate::ui::Ui;

/// What can be served.
pub const SERVICES: &[&str] = &["state", "broker", "scheduler", "applier", "controller", "gateway", "agent"];

/// Runs the service named by the first word.
pub fn run(words: &[String], env: &Env, ui: &mut Ui) -> u8 {
    let Some((service, rest)) = words.split_first() else {
        ui.error("Error: which service?");
        ui.hint(&format!("one of {}", SERVICES.join(", ")));
        return 1;
    };
    let given = Given { service, rest, env };
    match service.as_str() {
        "state" => given.serve(ui, |c: &state::Config| c.settings.clone(), state::run),
        "broker" => given.serve(ui, |c: &broker::Config| c.settings.clone(), broker::run),
        "scheduler" => given.serve(ui, |c: &scheduler::Config| c.settings.clone(), scheduler::run),
        "applier" => given.serve(ui, |c: &applier::Config| c.settings.clone(), applier::run),
        "controller" => given.serve(ui, |c: &controller::Config| c.settings.clone(), controller::run),
        "gateway" => given.serve(ui, |c: &gateway::Config| c.settings.clone(), gateway::run),
        "agent" => given.serve(ui, |c: &agent::Config| c.settings.clone(), agent::run),
        "-h" | "-help" | "--help" | "help" => {
            ui.line(format!("Usage: steppe serve <service> [options]\n\nServices: {}", SERVICES.join(", ")));
            0
        }
        other => {
            ui.error(&format!("Error: there is no service `{other}`"));
            let near = crate::flags::nearest(other, SERVICES.iter().copied());
            let hint =
                near.map_or_else(|| format!("one of {}", SERVICES.join(", ")), |n| format!("did you mean `{n}`?"));
            ui.hint(&hint);
            1
        }
    }
}

/// Holds one allocation's tasks. Comes before any runtime: it must stay small.
pub fn supervise(words: &[String], _: &Env, ui: &mut Ui) -> u8 {
    if words.is_empty() {
        ui.error("Error: a directory is needed");
        return 1;
    }
    let words: Vec<std::ffi::OsString> = words.iter().map(std::ffi::OsString::from).collect();
    let code = driver::supervisor::main(&words);
    u8::from(code != std::process::ExitCode::SUCCESS)
}

struct Given<'a> {
    service: &'a str,
    rest: &'a [String],
    env: &'a Env,
}

impl Given<'_> {
    fn serve<C, F, E>(&self, ui: &mut Ui, settings: fn(&C) -> Settings, run: impl FnOnce(C, Shutdown) -> F) -> u8
    where
        C: Args + FromArgMatches,
        F: Future<Output = Result<(), E>>,
        E: std::error::Error + 'static,
    {
        let config = match self.parse::<C>() {
            Ok(config) => config,
            Err(error) => {
                let code = u8::try_from(error.exit_code()).unwrap_or(1);
                // Help goes to stdout, mistakes to stderr.
                let _ = error.print();
                return code;
            }
        };
        match self.run(&settings(&config), config, run) {
            Ok(()) => 0,
            Err(error) => {
                let mut text = format!("Error: {} does not run: {error}", self.service);
                let mut source = error.source();
                while let Some(cause) = source {
                    text.push_str(&format!(": {cause}"));
                    source = cause.source();
                }
                ui.error(&text);
                1
            }
        }
    }

    fn run<C, F, E>(
        &self,
        settings: &Settings,
        config: C,
        run: impl FnOnce(C, Shutdown) -> F,
    ) -> Result<(), Box<dyn std::error::Error>>
    where
        F: Future<Output = Result<(), E>>,
        E: std::error::Error + 'static,
    {
        let dir = &settings.identity_dir;
        if !dir.join(CERT_FILE).exists() {
            return Err(no_certificate(dir).into());
        }
        kit::process::start(settings)?;
        let runtime = kit::process::runtime(self.service)?;
        let done = runtime.block_on(async {
            let shutdown = Shutdown::on_signals()?;
            kit::process::reload_on_hangup(settings)?;
            run(config, shutdown).await.map_err(Box::from)
        });
        // What still blocks a thread does not keep the process.
        runtime.shutdown_timeout(std::time::Duration::from_secs(1));
        done
    }

    fn parse<C: Args + FromArgMatches>(&self) -> Result<C, clap::Error> {
        let command = C::augment_args(Command::new("steppe serve").bin_name(format!("steppe serve {}", self.service)));
        let mut line = vec![format!("steppe serve {}", self.service)];
        line.extend(from_env(&command, self.env, self.rest));
        line.extend(self.rest.iter().map(|word| double_dash(word)));
        C::from_arg_matches(&command.try_get_matches_from(line)?)
    }
}

/// What to do about a certificate that is missing.
fn no_certificate(dir: &std::path::Path) -> String {
    format!(
        "there is no certificate in {}: for containers, `docker compose up certificates` makes those of the cluster; \
         `steppe agent`, `steppe dev` and scripts/up make their processes' own",
        dir.display()
    )
}

/// `-data-dir` is `--data-dir`.
fn double_dash(word: &str) -> String {
    let single = word.starts_with('-') && !word.starts_with("--") && word.len() > 2;
    if single { format!("-{word}") } else { word.to_owned() }
}

/// Options that the environment gives and nobody typed.
fn from_env(command: &Command, env: &Env, typed: &[String]) -> Vec<String> {
    let mut line = Vec::new();
    for arg in command.get_arguments() {
        let Some(long) = arg.get_long() else { continue };
        let flag = format!("--{long}");
        let is_typed = typed.iter().map(|w| double_dash(w)).any(|w| w == flag || w.starts_with(&format!("{flag}=")));
        let name = format!("{SERVICE_PREFIX}{}", long.replace('-', "_").to_uppercase());
        let Some(value) = env.0.get(&name).filter(|v| !v.is_empty() && !is_typed) else { continue };
        if arg.get_action().takes_values() {
            line.push(format!("{flag}={value}"));
        } else if !matches!(value.as_str(), "0" | "false" | "no") {
            line.push(flag);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given<'a>(rest: &'a [String], env: &'a Env) -> Given<'a> {
        Given { service: "state", rest, env }
    }

    #[test]
    fn what_is_typed_wins_over_the_environment_and_one_dash_will_do() {
        let env = Env([("STEPPE_DATA_DIR", "/env"), ("STEPPE_REGION", "env"), ("STEPPE_LOG_JSON", "1")]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into());
        let rest = ["-data-dir", "/typed", "--bootstrap-expect=3"].map(str::to_owned);
        let config: state::Config = given(&rest, &env).parse().unwrap();
        assert_eq!(config.settings.data_dir, std::path::Path::new("/typed"));
        assert_eq!(
            (config.settings.region.as_str(), config.settings.log_json, config.bootstrap_expect),
            ("env", true, 3)
        );
    }

    #[test]
    fn a_service_without_a_certificate_says_where_certificates_come_from() {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings { identity_dir: dir.path().to_owned(), ..Settings::default() };
        let nothing = |(), _| async { Ok::<(), kit::shell::ShellError>(()) };
        let error = given(&[], &Env::default()).run(&settings, (), nothing).unwrap_err().to_string();
        assert!(error.contains("`docker compose up certificates` makes those of the cluster"), "{error}");
    }

    #[test]
    fn a_misspelt_option_is_refused() {
        let rest = ["-data-dri", "/typed"].map(str::to_owned);
        assert!(given(&rest, &Env::default()).parse::<state::Config>().is_err());
    }
}
