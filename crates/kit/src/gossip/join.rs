//! Done by hand: joining others by their addresses, and saying that a member will not come back.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::oneshot;

use super::engine::Command;
use super::farewell::Farewell;
use super::{ENGINE_TIMEOUT, Gossip, GossipError, LOOKUP_TIMEOUT, sync};

/// Greetings may get lost.
const GREETINGS: u32 = 4;
/// For the answer to one of them.
const ANSWER: Duration = Duration::from_millis(700);
/// Addresses joined in one call.
pub const ADDRESSES_MAX: usize = 32;

/// What became of a wish to join.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Joined {
    /// The addresses that answered.
    pub joined: Vec<String>,
    /// One sentence for each that did not.
    pub errors: Vec<String>,
}

impl Gossip {
    /// Joins whoever is at these addresses (`host:port`), and goes on greeting them as if they had been
    /// among the seeds.
    pub async fn join(&self, addresses: &[String]) -> Joined {
        let asked = addresses.iter().take(ADDRESSES_MAX);
        let results = futures::future::join_all(asked.map(|address| self.join_one(address))).await;
        let mut done = Joined::default();
        for (address, result) in addresses.iter().zip(results) {
            match result {
                Ok(()) => done.joined.push(address.clone()),
                Err(why) => done.errors.push(format!("{address}: {why}")),
            }
        }
        if addresses.len() > ADDRESSES_MAX {
            done.errors.push(format!("only {ADDRESSES_MAX} addresses are joined at a time"));
        }
        done
    }

    async fn join_one(&self, address: &str) -> Result<(), String> {
        let found = tokio::time::timeout(LOOKUP_TIMEOUT, tokio::net::lookup_host(address)).await;
        let found: Vec<SocketAddr> = match found {
            Ok(Ok(found)) => found.collect(),
            Ok(Err(error)) => return Err(format!("the address cannot be looked up: {error}")),
            Err(_) => return Err("the address cannot be looked up in time".to_owned()),
        };
        let Some(to) = found.iter().find(|a| a.is_ipv4()).or(found.first()).copied() else {
            return Err("the name stands for no address".to_owned());
        };
        if self.is_own(to) {
            return Ok(());
        }
        for _ in 0..GREETINGS {
            let (reply, answer) = oneshot::channel();
            let greet = Command::Greet { seed: address.to_owned(), to, reply };
            self.commands.send(greet).await.map_err(|_| GossipError::Ended.to_string())?;
            if let Ok(Ok(result)) = tokio::time::timeout(ANSWER, answer).await {
                return result.map_err(str::to_owned);
            }
        }
        Err("nobody answers there who has a gossip key of this cluster".to_owned())
    }

    /// Says of the members of this name (`name` or `name.region`, whatever their role) that they will not
    /// come back as they are; with `prune` they are not even listed. It has no effect on one that is alive.
    /// Tells everybody at once. Answers how many members have the name.
    ///
    /// # Errors
    /// Gossip has ended.
    pub async fn force_leave(&self, name: &str, prune: bool) -> Result<usize, GossipError> {
        let all = self.directory.all();
        let is_meant = |m: &super::Member| *m.name == *name || format!("{}.{}", m.name, m.region) == name;
        let meant = all.iter().filter(|(member, _)| is_meant(member));
        let said: Vec<Farewell> =
            meant.map(|(m, _)| Farewell { key: m.key(), incarnation: m.incarnation, prune }).collect();
        if said.is_empty() {
            return Ok(0);
        }
        self.take_farewells(said.clone()).await?;
        let others = all.iter().filter(|(m, status)| status.is_there() && m.api != self.api);
        let told = others.map(|(member, _)| async {
            if let Err(error) = sync::tell(&self.http, member, &said).await {
                // It learns by push-pull.
                tracing::debug!(name = %member.name, role = %member.role, %error, "farewell is not told");
            }
        });
        futures::future::join_all(told).await;
        tracing::info!(name, prune, members = said.len(), "members are said not to come back");
        Ok(said.len())
    }

    pub(super) async fn take_farewells(&self, said: Vec<Farewell>) -> Result<(), GossipError> {
        let sent = self.commands.send(Command::Farewell(said));
        match tokio::time::timeout(ENGINE_TIMEOUT, sent).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(GossipError::Ended),
        }
    }
}
