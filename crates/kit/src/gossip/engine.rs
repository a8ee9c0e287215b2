//! The task that owns foca: packets, timers and commands in; packets, a directory and log lines out.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use client::http::Http;
use foca::{
    AccumulatingRuntime, Codec as _, Config, Foca, Header, Message, OwnedNotification, PeriodicParams, PostcardCodec,
    State, Timer,
};
use model::Role;
use rand::RngExt as _;
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::AbortOnDropHandle;

use super::farewell::{Farewell, Farewells};
use super::member::Tags;
use super::seal::{KeyId, OVERHEAD_BYTES};
use super::sync::{self, Known};
use super::{GossipConfig, Helper, Member, Publisher, Status, Timing};
use crate::process::Shutdown;

/// Fits into one Ethernet frame with all heads.
const PACKET_BYTES_MAX: usize = 1400;
const KIND_FOCA: u8 = 0;
const KIND_HELLO: u8 = 1;
const KIND_HERE: u8 = 2;
/// A rejected packet is worth a line this often.
/// Who was told to join others knows one of them by then.
const LONELY: Duration = Duration::from_secs(5);
const REJECTED_LOG_EVERY: Duration = Duration::from_secs(60);
const SEED_ADDRESSES_MAX: usize = 16;
/// Seeds, those that were joined by hand included.
const SEEDS_MAX: usize = 64;
/// Addresses being joined at a time.
const GREETED_MAX: usize = 64;

type Swim = Foca<Member, PostcardCodec, StdRng, foca::NoCustomBroadcast>;

/// What others may ask of the engine.
pub(super) enum Command {
    SetTags(Tags),
    Exchange {
        theirs: Known,
        reply: oneshot::Sender<Known>,
    },
    /// A push-pull of ours came back.
    Learned(Known),
    /// Somebody wants us to join whoever is at an address, which is a seed once it answered.
    Greet {
        seed: String,
        to: SocketAddr,
        reply: oneshot::Sender<Result<(), &'static str>>,
    },
    Farewell(Vec<Farewell>),
    /// Addresses that the seeds' names stand for.
    Seeds(Vec<SocketAddr>),
}

/// Greeting to an address of which we do not know who is there.
#[derive(Serialize, Deserialize)]
struct Hello {
    from: Member,
}

/// Answer to [`Hello`].
#[derive(Serialize, Deserialize)]
struct Here {
    from: Member,
    /// The highest incarnation of the greeter that the answerer remembers; 0 for none.
    known: u64,
}

/// One to be joined, who has not answered yet.
struct Greeted {
    seed: String,
    to: SocketAddr,
    reply: oneshot::Sender<Result<(), &'static str>>,
}

pub(super) struct Engine {
    config: GossipConfig,
    me: Member,
    swim: Swim,
    runtime: AccumulatingRuntime<Member>,
    /// By due time; the number keeps events of one instant in order.
    timers: BTreeMap<(Instant, u64), Timer<Member>>,
    timer_count: u64,
    socket: UdpSocket,
    publisher: Publisher,
    http: Http,
    own_commands: mpsc::WeakSender<Command>,
    next_greeting: Instant,
    next_sync: Instant,
    /// While there is news that not enough others were told: nobody wakes for nothing.
    next_spread: Option<Instant>,
    /// A look-up of the seeds and a push-pull, one of each at a time.
    lookup: Option<Helper>,
    sync: Option<Helper>,
    rejected_logged: Option<Instant>,
    began: Instant,
    lonely_told: bool,
    farewells: Farewells,
    greeted: Vec<Greeted>,
    /// Whom foca probes, if he has not answered yet.
    probed: Option<Member>,
}

fn swim_config(timing: &Timing) -> Config {
    let every = |frequency, n: usize| {
        let num_members = n.try_into().ok()?;
        Some(PeriodicParams { frequency, num_members })
    };
    let mut config = Config::simple();
    config.probe_period = timing.probe_period;
    config.probe_rtt = timing.probe_rtt;
    config.suspect_to_down_after = timing.suspect;
    config.remove_down_after = Some(timing.forget);
    // One byte says what kind of packet it is.
    if let Ok(size) = (PACKET_BYTES_MAX - OVERHEAD_BYTES - 1).try_into() {
        config.max_packet_size = size;
    }
    config.notify_down_members = true;
    config.periodic_announce = every(timing.announce, 1);
    config.periodic_announce_to_down_members = every(timing.announce, 1);
    config
}

impl Engine {
    pub(super) fn new(
        config: GossipConfig,
        me: Member,
        socket: UdpSocket,
        publisher: Publisher,
        http: Http,
        own_commands: mpsc::WeakSender<Command>,
    ) -> Self {
        let swim = Foca::new(me.clone(), swim_config(&config.timing), rand::make_rng(), PostcardCodec);
        let now = Instant::now();
        Self {
            next_sync: now + config.timing.sync,
            config,
            me,
            swim,
            runtime: AccumulatingRuntime::new(),
            timers: BTreeMap::new(),
            timer_count: 0,
            socket,
            publisher,
            http,
            own_commands,
            next_greeting: now,
            next_spread: None,
            lookup: None,
            sync: None,
            rejected_logged: None,
            began: now,
            lonely_told: false,
            farewells: Farewells::default(),
            greeted: Vec::new(),
            probed: None,
        }
    }

    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<Command>, shutdown: Shutdown) {
        tracing::info!(name = %self.me.name, role = %self.me.role, addr = %self.me.gossip, "gossip started");
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let due = self.next_due();
            tokio::select! {
                received = self.socket.recv_from(&mut buffer) => match received {
                    Ok((n, from)) => self.packet(&mut buffer[..n], from),
                    Err(error) => tracing::debug!(%error, "cannot receive gossip"),
                },
                () = tokio::time::sleep_until(due.into()) => self.time(Instant::now()),
                // The handle outside keeps a sender, or is gone and needs nothing more.
                Some(command) = commands.recv() => self.command(command),
                () = shutdown.requested() => break,
            }
            self.flush();
        }
        let left = self.swim.leave_cluster(&mut self.runtime);
        self.note(left);
        self.send_all();
        tracing::info!(name = %self.me.name, "left gossip");
    }

    fn next_due(&self) -> Instant {
        // Whether a member that answered is to be asked in another way needs no wake of its own.
        let is_due = |timer: &Timer<Member>| !matches!(timer, Timer::SendIndirectProbe { .. }) || self.probed.is_some();
        let timer = self.timers.iter().find(|(_, timer)| is_due(timer)).map(|((at, _), _)| *at);
        let own = self.next_greeting.min(self.next_sync).min(self.next_spread.unwrap_or(self.next_sync));
        timer.map_or(own, |at| at.min(own))
    }

    fn time(&mut self, now: Instant) {
        while let Some(entry) = self.timers.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let event = entry.remove();
            if matches!(event, Timer::SendIndirectProbe { .. }) && self.probed.is_some() {
                self.hasten(now);
            }
            let result = self.swim.handle_timer(event, &mut self.runtime);
            self.note(result);
            self.schedule();
        }
        if self.next_spread.is_some_and(|at| now >= at) {
            self.next_spread = None;
            let result = self.swim.gossip(&mut self.runtime);
            self.note(result);
        }
        if now >= self.next_greeting {
            self.look_up_seeds();
            let alone = self.swim.num_members() == 0;
            self.tell_lonely(alone, now);
            let pause = if alone { self.config.timing.join } else { self.config.timing.greet };
            self.next_greeting = calm_after(now, jittered(pause));
        }
        if now >= self.next_sync {
            self.take_up_keys();
            self.push_pull();
            self.next_sync = calm_after(now, jittered(self.config.timing.sync));
        }
    }

    /// The probed member did not answer: that it is suspect needs not wait for the next one's turn.
    fn hasten(&mut self, now: Instant) {
        let soon = now + self.config.timing.probe_rtt.mul_f64(1.5);
        let late = |(at, timer): (&(Instant, u64), &Timer<Member>)| {
            (matches!(timer, Timer::ProbeRandomMember(_)) && at.0 > soon).then_some(*at)
        };
        if let Some((at, event)) = self.timers.iter().find_map(late).and_then(|at| self.timers.remove_entry(&at)) {
            self.timers.insert((soon, at.1), event);
        }
    }

    /// Said once: whoever has a wrong key is answered by nobody, and only the others see why.
    fn tell_lonely(&mut self, alone: bool, now: Instant) {
        let late = now.duration_since(self.began) > LONELY;
        if !alone || self.lonely_told || !late || self.me.role == Role::State || self.config.seeds.is_empty() {
            return;
        }
        self.lonely_told = true;
        let at = self.config.seeds.join(", ");
        tracing::warn!(at, "nobody answers who has a gossip key of ours: is this process's identity of that cluster?");
    }

    fn take_up_keys(&self) {
        match self.config.keys.reload_if_changed() {
            Ok(true) => tracing::info!("gossip keys changed"),
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "changed gossip keys cannot be used, the old ones stay"),
        }
    }

    fn packet(&mut self, packet: &mut [u8], from: SocketAddr) {
        let keys = self.config.keys.clone();
        let opened = keys.open(packet).and_then(|(plain, key)| Some((plain.split_first()?, key)));
        let Some(((kind, content), key)) = opened else {
            return self.rejected(from, "it is not sealed with a key of this cluster");
        };
        match *kind {
            KIND_FOCA => {
                self.hear_answer(content);
                let result = self.swim.handle_data(content, &mut self.runtime);
                self.note(result);
            }
            KIND_HELLO => match serde_json::from_slice(content) {
                Ok(hello) => self.hello(hello, key),
                Err(_) => self.rejected(from, "its greeting cannot be read"),
            },
            KIND_HERE => match serde_json::from_slice(content) {
                Ok(here) => self.here(here, from),
                Err(_) => self.rejected(from, "its answer cannot be read"),
            },
            _ => self.rejected(from, "it is of an unknown kind"),
        }
    }

    /// Notes that the member that is probed has answered.
    fn hear_answer(&mut self, mut packet: &[u8]) {
        if self.probed.is_some()
            && let Ok(header) = PostcardCodec.decode_header(&mut packet)
            && let Header { src, message: Message::Ack(_), .. } = header
        {
            self.probed.take_if(|probed| *probed == src);
        }
    }

    fn rejected(&mut self, from: SocketAddr, reason: &str) {
        if self.rejected_logged.is_none_or(|at| at.elapsed() > REJECTED_LOG_EVERY) {
            self.rejected_logged = Some(Instant::now());
            tracing::warn!(%from, reason, "gossip packet rejected");
        }
    }

    /// Somebody asks who is here.
    fn hello(&mut self, hello: Hello, key: KeyId) {
        let from = hello.from;
        if from == self.me || !self.acceptable(&from) {
            return;
        }
        let known = if from.is_same_process_as(&self.me) {
            tracing::warn!(name = %from.name, role = %from.role, addr = %from.gossip, "another process has our name");
            self.me.incarnation
        } else {
            let same = self.swim.iter_membership_state().find(|m| m.id().is_same_process_as(&from));
            // Its own incarnation is no news to it, unless it was declared down.
            let known = same.filter(|m| m.id() != &from || m.state() == State::Down);
            known.map_or(0, |m| m.id().incarnation)
        };
        let here = Here { from: self.me.clone(), known };
        if let Ok(json) = serde_json::to_vec(&here) {
            self.send_with(KIND_HERE, &json, from.gossip, Some(key));
        }
    }

    /// Who is at a seed's address.
    fn here(&mut self, here: Here, from: SocketAddr) {
        self.answered(&here.from, from);
        if here.from.is_same_process_as(&self.me) || !self.acceptable(&here.from) {
            return;
        }
        if here.known >= self.me.incarnation {
            self.become_new(self.me.renewed(here.known));
        }
        let news = !self.swim.iter_members().any(|m| m.id() == &here.from);
        if news {
            let result = self.swim.announce(here.from.clone(), &mut self.runtime);
            self.note(result);
            self.push_pull_with(here.from);
        }
    }

    /// Tells those who wanted to join who answers there.
    fn answered(&mut self, member: &Member, from: SocketAddr) {
        let is_meant = |greeted: &mut Greeted| greeted.to == from || greeted.to == member.gossip;
        let waiting: Vec<_> = self.greeted.extract_if(.., is_meant).collect();
        if waiting.is_empty() {
            return;
        }
        let result = match member.check() {
            Ok(()) if member.region != self.me.region => Err("it is of another region"),
            Ok(()) if member.is_same_process_as(&self.me) => Err("it has the name of this very process"),
            other => other,
        };
        for greeted in waiting {
            let seeds = &mut self.config.seeds;
            if result.is_ok() && !seeds.contains(&greeted.seed) && seeds.len() < SEEDS_MAX {
                seeds.push(greeted.seed);
            }
            // If the asker is gone, nobody needs it.
            let _ = greeted.reply.send(result);
        }
    }

    fn greet(&mut self, seed: String, to: SocketAddr, reply: oneshot::Sender<Result<(), &'static str>>) {
        self.greeted.retain(|greeted| !greeted.reply.is_closed());
        if self.greeted.len() >= GREETED_MAX {
            let _ = reply.send(Err("too many addresses are being joined"));
            return;
        }
        self.greeted.push(Greeted { seed, to, reply });
        if let Ok(json) = serde_json::to_vec(&Hello { from: self.me.clone() }) {
            self.send(KIND_HELLO, &json, to);
        }
    }

    fn take_farewells(&mut self, said: &[Farewell]) {
        let now = Instant::now();
        let mut news = false;
        for farewell in said {
            news |= self.farewells.take(farewell, now);
        }
        if news {
            self.publish();
        }
    }

    fn acceptable(&self, member: &Member) -> bool {
        match member.check() {
            Ok(()) if member.region == self.me.region => true,
            Ok(()) => {
                tracing::debug!(name = %member.name, region = %member.region, "member of another region passed over");
                false
            }
            Err(reason) => {
                tracing::debug!(name = %member.name, reason, "member is not usable");
                false
            }
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::SetTags(tags) => {
                if tags != self.me.tags {
                    self.become_new(Member { tags, ..self.me.renewed(0) });
                }
            }
            Command::Exchange { theirs, reply } => {
                self.learn(theirs);
                // If the asker is gone, nobody needs it.
                let _ = reply.send(self.known());
            }
            Command::Learned(theirs) => self.learn(theirs),
            Command::Greet { seed, to, reply } => self.greet(seed, to, reply),
            Command::Farewell(said) => self.take_farewells(&said),
            Command::Seeds(addresses) => {
                let hello = Hello { from: self.me.clone() };
                if let Ok(json) = serde_json::to_vec(&hello) {
                    let others = addresses.into_iter().filter(|a| *a != self.me.gossip);
                    others.take(SEED_ADDRESSES_MAX).for_each(|to| self.send(KIND_HELLO, &json, to));
                }
            }
        }
    }

    fn become_new(&mut self, me: Member) {
        self.me = me.clone();
        let result = self.swim.change_identity(me, &mut self.runtime);
        self.note(result);
        self.publish();
    }

    fn learn(&mut self, theirs: Known) {
        let usable: Vec<_> = theirs.members.into_iter().filter(|m| self.acceptable(m.id())).collect();
        let result = self.swim.apply_many(usable.into_iter(), true, &mut self.runtime);
        self.note(result);
        self.take_farewells(&theirs.farewells);
    }

    /// All we know, ourselves included.
    fn known(&self) -> Known {
        let others = self.swim.iter_membership_state().cloned();
        let members = others.chain([foca::Member::alive(self.me.clone())]).collect();
        Known { members, farewells: self.farewells.all(), ring: None }
    }

    /// Resolves the seeds away from the engine; the answer comes back as a command.
    fn look_up_seeds(&mut self) {
        let running = self.lookup.as_ref().is_some_and(|h| !h.is_finished());
        if running || self.config.seeds.is_empty() {
            return;
        }
        let Some(commands) = self.own_commands.upgrade() else {
            return;
        };
        let mut seeds = self.config.seeds.clone();
        if self.swim.num_members() > 0 {
            // Joined: one of them is enough.
            let one = rand::rng().random_range(0..seeds.len());
            seeds = vec![seeds.swap_remove(one)];
        }
        let work = async move {
            let mut addresses = Vec::new();
            for seed in seeds {
                match tokio::net::lookup_host(&seed).await {
                    Ok(found) => addresses.extend(found),
                    Err(error) => tracing::debug!(seed, %error, "seed's name is not known"),
                }
            }
            // Ends with the engine if that is gone.
            let _ = commands.send(Command::Seeds(addresses)).await;
        };
        self.lookup = Some(AbortOnDropHandle::new(tokio::spawn(work)));
    }

    fn push_pull(&mut self) {
        let members: Vec<_> = self.swim.iter_members().map(|m| m.id().clone()).collect();
        if !members.is_empty() {
            let one = rand::rng().random_range(0..members.len());
            self.push_pull_with(members[one].clone());
        }
    }

    fn push_pull_with(&mut self, member: Member) {
        if self.sync.as_ref().is_some_and(|h| !h.is_finished()) {
            return;
        }
        let Some(commands) = self.own_commands.upgrade() else {
            return;
        };
        let keys = self.config.keys.clone();
        let (http, ours) = (self.http.clone(), Known { ring: Some(keys.ring()), ..self.known() });
        let work = async move {
            match sync::call(&http, &member, ours).await {
                Ok(mut known) => {
                    sync::adopt(&keys, known.ring.take());
                    let _ = commands.send(Command::Learned(known)).await;
                }
                Err(error) => tracing::debug!(name = %member.name, %error, "push-pull failed"),
            }
        };
        self.sync = Some(AbortOnDropHandle::new(tokio::spawn(work)));
    }

    /// Errors of foca are about single packets or its own timers; it goes on after all of them.
    fn note(&self, result: Result<(), foca::Error>) {
        if let Err(error) = result {
            tracing::debug!(%error, "gossip passed over an event");
        }
    }

    /// Does what foca asked for since the last time.
    fn flush(&mut self) {
        if self.next_spread.is_none() && self.swim.updates_backlog() > 0 {
            self.next_spread = Some(Instant::now() + self.config.timing.spread);
        }
        self.schedule();
        self.send_all();
        let mut changed = false;
        while let Some(notification) = self.runtime.to_notify() {
            changed = true;
            self.noticed(notification);
        }
        if changed {
            self.publish();
        }
    }

    fn schedule(&mut self) {
        let now = Instant::now();
        while let Some((after, event)) = self.runtime.to_schedule() {
            let due = match &event {
                Timer::SendIndirectProbe { probed_id, .. } => {
                    self.probed = Some(probed_id.clone());
                    now + after
                }
                // Not before the one asked is asked in another way.
                Timer::ProbeRandomMember(_) => {
                    calm_after(now, after).max(now + self.config.timing.probe_rtt.mul_f64(2.5))
                }
                Timer::PeriodicAnnounce(_) | Timer::PeriodicAnnounceDown(_) => calm_after(now, after),
                _ => now + after,
            };
            self.timer_count += 1;
            self.timers.insert((due, self.timer_count), event);
        }
    }

    fn send_all(&mut self) {
        while let Some((to, data)) = self.runtime.to_send() {
            self.send(KIND_FOCA, &data, to.gossip);
        }
    }

    fn send(&self, kind: u8, content: &[u8], to: SocketAddr) {
        self.send_with(kind, content, to, None);
    }

    fn send_with(&self, kind: u8, content: &[u8], to: SocketAddr, key: Option<KeyId>) {
        let mut plain = Vec::with_capacity(content.len() + 1);
        plain.push(kind);
        plain.extend_from_slice(content);
        let Some(packet) = self.config.keys.seal_with(&plain, key) else {
            return;
        };
        if let Err(error) = self.socket.try_send_to(&packet, to) {
            tracing::debug!(%to, %error, "gossip packet not sent");
        }
    }

    fn noticed(&mut self, notification: OwnedNotification<Member>) {
        match notification {
            OwnedNotification::MemberUp(m) => {
                tracing::info!(name = %m.name, role = %m.role, api = %m.api, "member joined");
            }
            OwnedNotification::MemberDown(m) => {
                tracing::info!(name = %m.name, role = %m.role, api = %m.api, "member failed or left");
            }
            OwnedNotification::Rename(_, m) => {
                tracing::info!(name = %m.name, role = %m.role, api = %m.api, "member changed");
            }
            OwnedNotification::Rejoin(m) => {
                tracing::warn!(name = %m.name, incarnation = m.incarnation, "we were declared down, rejoined");
                self.me = m;
            }
            OwnedNotification::Idle => tracing::info!("no other member is reachable"),
            OwnedNotification::Active | OwnedNotification::Defunct => {}
        }
    }

    fn publish(&mut self) {
        let status = |state| match state {
            State::Alive => Status::Alive,
            State::Suspect => Status::Suspect,
            State::Down => Status::Failed,
        };
        let others = self.swim.iter_membership_state();
        // A late word about what we were before a restart is not about another.
        let others = others.filter(|m| !m.id().is_same_process_as(&self.me));
        let (now, farewells) = (Instant::now(), &mut self.farewells);
        let others = others.filter_map(|m| {
            let status = farewells.seen(m.id(), status(m.state()), now)?;
            Some((m.id().clone(), status))
        });
        self.publisher.publish(others.chain([(self.me.clone(), Status::Alive)]).collect());
    }
}

/// About `pause` after `now`, in step with what else this process does now and then.
fn calm_after(now: Instant, pause: Duration) -> Instant {
    client::calm::near(now.into(), (now + pause).into()).into()
}

/// Within a quarter of `period`, so that members do not act in step.
fn jittered(period: Duration) -> Duration {
    period.mul_f64(rand::rng().random_range(0.875..1.125))
}
