//! What an operator may say about the log and about a cluster's beginning.

use fsm::command::Founding;

#[derive(Clone, Debug, PartialEq, clap::Args)]
pub struct Tuning {
    /// Log entries that stay behind a snapshot, for servers that lag a little.
    #[arg(long, default_value_t = 4096)]
    pub trailing_logs: u64,
    /// How many times as long as usual servers wait before they take their leader for dead.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10))]
    pub raft_multiplier: u32,
    /// The scheduler's and autopilot's configuration, should this server found the cluster: JSON with
    /// `scheduler` and `autopilot`, each in the API's form.
    #[arg(long, value_name = "JSON", default_value = "{}", value_parser = founding)]
    pub founding: Founding,
}

fn founding(text: &str) -> Result<Founding, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

impl Default for Tuning {
    fn default() -> Self {
        Self { trailing_logs: 4096, raft_multiplier: 1, founding: Founding::default() }
    }
}

impl Tuning {
    pub fn apply(&self, config: &mut raft::Config) {
        let times = self.raft_multiplier.max(1);
        config.keep_entries_after_snapshot = self.trailing_logs;
        config.heartbeat *= times;
        config.election_min *= times;
        config.election_max *= times;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Args as _, FromArgMatches as _};

    #[test]
    fn what_is_said_reaches_raft_and_the_first_command() {
        let parse = |words: &[&str]| {
            let command = Tuning::augment_args(clap::Command::new("state"));
            Tuning::from_arg_matches(&command.try_get_matches_from([&["state"], words].concat()).ok()?).ok()
        };
        assert_eq!(parse(&[]), Some(Tuning::default()));
        assert_eq!(parse(&["--raft-multiplier=11"]), None);
        assert_eq!(parse(&["--founding={"]), None);
        let said = parse(&[
            "--raft-multiplier=5",
            "--trailing-logs=7",
            r#"--founding={"scheduler":{"SchedulerAlgorithm":"spread"}}"#,
        ])
        .unwrap();
        let me = raft::Peer { id: 1, name: "s".into(), addr: String::new() };
        let mut config = raft::Config::new(me, "/d".into());
        let usual = config.clone();
        said.apply(&mut config);
        assert_eq!(config.keep_entries_after_snapshot, 7);
        assert_eq!((config.heartbeat, config.election_max), (usual.heartbeat * 5, usual.election_max * 5));
        assert_eq!(said.founding.scheduler.unwrap().scheduler_algorithm, "spread");
    }
}
