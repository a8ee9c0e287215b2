//! What an operator keeps from tasks: drivers, variables of the environment, users.

use driver::env::DENY_LIST_DEFAULT;

/// Our own names of what no task inherits.
const OWN_SECRETS: [&str; 1] = ["STEPPE_TOKEN"];
/// Users that the checked drivers refuse unless somebody says otherwise.
const USERS_DEFAULT: [&str; 2] = ["root", "Administrator"];
const CHECKED_DEFAULT: [&str; 3] = ["exec", "qemu", "java"];

#[derive(Clone, Debug, Default, clap::Args)]
pub struct Denied {
    /// Drivers this node offers; all it has unless given. May be repeated.
    #[arg(long = "driver-allow", value_name = "NAME", value_delimiter = ',')]
    pub drivers_allowed: Vec<String>,
    /// Drivers this node does not offer. May be repeated.
    #[arg(long = "driver-deny", value_name = "NAME", value_delimiter = ',')]
    pub drivers_denied: Vec<String>,
    /// Variables of this agent that no task inherits, in place of the usual ones. May be repeated.
    #[arg(long = "env-deny", value_name = "NAME", value_delimiter = ',')]
    pub env_denied: Vec<String>,
    /// Users that tasks of the checked drivers may not run as; root unless given. May be repeated.
    #[arg(long = "user-deny", value_name = "NAME", value_delimiter = ',')]
    pub users_denied: Vec<String>,
    /// Drivers of which users are checked; exec, qemu and java unless given. May be repeated.
    #[arg(long = "user-check", value_name = "DRIVER", value_delimiter = ',')]
    pub users_checked: Vec<String>,
    /// Variables, as globs, that `raw_exec` tasks do not have. May be repeated.
    #[arg(long, value_name = "GLOB", value_delimiter = ',')]
    pub raw_exec_denied_envvars: Vec<String>,
}

impl Denied {
    /// Whether the node offers the driver, if it has it.
    pub fn offers(&self, driver: &str) -> bool {
        let named = |list: &[String]| list.iter().any(|name| name == driver);
        !named(&self.drivers_denied) && (self.drivers_allowed.is_empty() || named(&self.drivers_allowed))
    }

    /// What no task inherits.
    pub fn env(&self) -> Vec<String> {
        let own = OWN_SECRETS.iter().map(|name| (*name).to_owned());
        let usual = || DENY_LIST_DEFAULT.iter().map(|name| (*name).to_owned()).collect();
        let said = if self.env_denied.is_empty() { usual() } else { self.env_denied.clone() };
        said.into_iter().chain(own).collect()
    }

    /// # Errors
    /// The driver may not run tasks as this user.
    pub fn check_user(&self, driver: &str, user: &str) -> Result<(), String> {
        let listed = |said: &[String], usual: &[&str], name: &str| {
            if said.is_empty() { usual.contains(&name) } else { said.iter().any(|said| said == name) }
        };
        let checked = listed(&self.users_checked, &CHECKED_DEFAULT, driver);
        if checked && listed(&self.users_denied, &USERS_DEFAULT, user) {
            return Err(format!("running as user {user:?} is disallowed"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_driver_is_offered_unless_denied_or_left_out() {
        assert!(Denied::default().offers("docker"));
        let denied = Denied { drivers_denied: list(&["docker"]), ..Denied::default() };
        assert!(!denied.offers("docker") && denied.offers("raw_exec"));
        let allowed = Denied { drivers_allowed: list(&["docker"]), ..Denied::default() };
        assert!(allowed.offers("docker") && !allowed.offers("raw_exec"));
        let both = Denied { drivers_denied: list(&["docker"]), ..allowed };
        assert!(!both.offers("docker"));
    }

    #[test]
    fn a_list_of_variables_takes_the_usual_one_s_place_but_never_ours() {
        let usual = Denied::default().env();
        assert!(usual.contains(&"VAULT_TOKEN".to_owned()) && usual.contains(&"STEPPE_TOKEN".to_owned()));
        let said = Denied { env_denied: list(&["SECRET"]), ..Denied::default() }.env();
        assert_eq!(said, ["SECRET", "STEPPE_TOKEN"]);
    }

    #[test]
    fn users_are_refused_for_checked_drivers_only() {
        let usual = Denied::default();
        assert!(usual.check_user("exec", "root").is_err() && usual.check_user("raw_exec", "root").is_ok());
        let said = Denied { users_checked: list(&["raw_exec"]), users_denied: list(&["eve"]), ..Denied::default() };
        assert_eq!(said.check_user("raw_exec", "eve").unwrap_err(), "running as user \"eve\" is disallowed");
        assert!(said.check_user("raw_exec", "root").is_ok() && said.check_user("exec", "eve").is_ok());
    }
}
