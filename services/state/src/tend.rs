//! When is it looked after what nobody asks for: the membership, the leader's chores, autopilot?
//!
//! Each chore looks at the world and moves it on, whenever it is woken ([`kit::background`]). They are woken
//! when something changed that they depend on, and seldom otherwise: a cluster where nothing happens sleeps.

use std::sync::Arc;
use std::time::Duration;

use fsm::command::Founding;
use kit::background::{Spec, Task};
use kit::shell::Shell;
use tokio::sync::Mutex;
use tokio::sync::watch::Receiver;

use crate::autopilot::{self, Autopilot};
use crate::leader;
use crate::members::Members;
use crate::server::Server;

/// Between looks at what there is to be done while no leader is known.
const UNLED: Duration = Duration::from_millis(250);

/// Starts the chores, which end with the process.
pub fn start(shell: &Shell, server: &Server, bootstrap_expect: usize, founding: Founding) {
    let tasks = &shell.background;
    let members = Members::new(shell.clone(), server.clone(), bootstrap_expect);
    let members = Arc::new(Mutex::new(members));
    let spec = |name, period| Spec { name, period, limit: Duration::from_secs(10) };
    let members = tasks.spawn(spec("raft_members", Duration::from_secs(1)), move || {
        let members = Arc::clone(&members);
        async move { members.lock().await.tend().await }
    });
    let autopilot = Arc::new(Mutex::new(Autopilot::new(shell.clone(), server.clone())));
    let autopilot = tasks.spawn(spec("autopilot", autopilot::LOOK), move || {
        let autopilot = Arc::clone(&autopilot);
        async move { autopilot.lock().await.tend().await }
    });
    let (region, sv, led) = (shell.settings.region.clone(), server.clone(), Arc::new(Mutex::new(0)));
    let founding = Arc::new(founding);
    let leader = tasks.spawn(spec("raft_leader", Duration::from_millis(500)), move || {
        let (region, sv, led, founding) = (region.clone(), sv.clone(), Arc::clone(&led), Arc::clone(&founding));
        async move { leader::tend(&sv, &region, &founding, &mut *led.lock().await).await }
    });
    let (server, shutdown, mut known) = (server.clone(), shell.shutdown.clone(), shell.directory.version());
    tokio::spawn(async move {
        while shutdown.or(changed(&server, &mut known)).await.is_some() {
            [&members, &autopilot, &leader].into_iter().for_each(Task::poke);
        }
    });
}

/// Something changed among the servers that gossip knows, or in who leads and belongs to the group; while there
/// is no leader, also when nothing did.
async fn changed(server: &Server, known: &mut Receiver<u64>) {
    let mut status = server.get().map(|running| running.raft.status());
    let gist =
        |s: &raft::Status| (s.role, s.leader.as_ref().map(|l| l.id), s.initialized, s.voters.len(), s.learners.len());
    let before = status.as_mut().map(|status| gist(&status.borrow_and_update()));
    let raft = async {
        let told = match &mut status {
            Some(status) => status.wait_for(|now| Some(gist(now)) != before).await.is_ok(),
            None => false,
        };
        if !told {
            std::future::pending::<()>().await;
        }
    };
    let led = before.is_some_and(|(_, leader, ..)| leader.is_some());
    tokio::select! {
        () = raft => {}
        Ok(()) = known.changed() => {}
        () = tokio::time::sleep(UNLED), if !led => {}
    }
}
