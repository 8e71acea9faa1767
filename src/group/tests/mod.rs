//! Stories of groups, told in commands: `a joins; b joins; 3s; a syncs a=0 b=1`.
//!
//! A client keeps the id and the generation that it was last told, as a real one does. What the
//! group's log was given to store is durable at once, unless `the disk waits`.

mod budget;
mod crowd;
mod instances;
#[cfg(feature = "mutants")]
mod mutants;
mod stories;
mod weeks;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use expect_test::Expect;

use super::call::{GroupError, JoinCall, Joined, Leaving, MemberRef, SyncCall, Synced};
use super::{Action, GroupRules, Groups, StoreId, StoredGroups, testing};
use crate::model::{Nanos, Now, WallMs};

const GROUP: &str = "g";

const RULES: GroupRules =
    GroupRules { members_max: 4, bytes_max: 4096, total_bytes_max: 1 << 20, ..testing::RULES };

#[derive(Clone, Debug, Default)]
struct Client {
    id: String,
    generation: i32,
    protocol: String,
    instance: Option<String>,
}

struct Stage {
    groups: Groups<&'static str>,
    stored: StoredGroups,
    now: Now,
    clients: BTreeMap<&'static str, Client>,
    ids: u32,
    disk_waits: bool,
    to_store: VecDeque<(StoreId, Vec<u8>)>,
    told: Vec<String>,
}

/// How a group stands when a story begins, in commands. What is heard up to then is not told again.
struct Given(String);

/// These have joined, and the first is to assign. Each with what it says, as after `joins`.
fn joined(members: &[&str]) -> Given {
    let joins = members.iter().map(|member| {
        let (name, how) = member.split_once(' ').unwrap_or((member, ""));
        format!("{name} joins {how}; ")
    });
    Given(joins.collect::<String>() + "6s")
}

/// And it has assigned: `0` to itself, `1` to the next.
fn stable(members: &[&str]) -> Given {
    let names = || members.iter().filter_map(|member| member.split_whitespace().next());
    let assigned: String = names().enumerate().map(|(index, name)| format!(" {name}={index}")).collect();
    let syncs = names().enumerate().map(|(index, name)| match index {
        0 => format!("; {name} syncs{assigned}"),
        _ => format!("; {name} syncs"),
    });
    Given(joined(members).0 + &syncs.collect::<String>())
}

/// A story of a group that nobody has joined yet.
fn check(story: &'static str, expected: Expect) {
    Given(String::new()).then(story, expected);
}

impl Given {
    /// Plays a story and compares what is heard: one line for each command that led to something.
    fn then(self, story: &'static str, expected: Expect) {
        let mut stage = Stage::new();
        stage.play(self.0.leak());
        expected.assert_eq(&stage.play(story));
    }
}

impl Stage {
    fn new() -> Stage {
        Stage {
            groups: Groups::new(RULES),
            stored: StoredGroups::default(),
            now: Now { mono: Nanos(1_000_000_000), wall: WallMs(1_000_000) },
            clients: BTreeMap::new(),
            ids: 0,
            disk_waits: false,
            to_store: VecDeque::new(),
            told: Vec::new(),
        }
    }

    fn play(&mut self, story: &'static str) -> String {
        let mut lines = String::new();
        for command in story.split(';').map(str::trim).filter(|command| !command.is_empty()) {
            self.command(command);
            self.settle();
            if !self.told.is_empty() {
                lines += &format!("{command}: {}\n", std::mem::take(&mut self.told).join(", "));
            }
        }
        lines
    }

    fn command(&mut self, command: &'static str) {
        let words: Vec<&'static str> = command.split_whitespace().collect();
        match words[..] {
            ["the", "disk", "waits"] => self.disk_waits = true,
            ["the", "disk", "works"] => self.disk_waits = false,
            ["the", "disk", "fails"] => {
                while let Some((id, _)) = self.to_store.pop_front() {
                    self.groups.on_stored(self.now, id, Err(GroupError::NotStored));
                }
            }
            ["the", "broker", "restarts"] => {
                self.to_store.clear();
                self.groups = Groups::new(RULES);
                self.groups.restore(&self.stored, self.now);
            }
            ["the", "broker", "stops"] => self.groups.stop(self.now, &GroupError::Stopping),
            [client, "joins", ref how @ ..] => self.join(client, how),
            [client, "syncs", ref assigned @ ..] => self.sync(client, assigned),
            [client, "beats"] => {
                let who = self.who(client);
                let result = self.groups.handle_heartbeat(self.now, GROUP, &who);
                self.tell_result(client, result);
            }
            [client, "commits"] => {
                let who = self.who(client);
                let result = self.groups.handle_commit(self.now, GROUP, &who);
                self.tell_result(client, result);
            }
            [ref clients @ .., "leaves"] => {
                let leaving = clients.iter().map(|client| Leaving {
                    member: self.who(client).member,
                    instance: self.who(client).instance,
                });
                let leaving: Vec<_> = leaving.collect();
                self.leave(clients, &leaving);
            }
            [instance, "is", "removed"] => {
                let leaving = Leaving { member: String::new(), instance: Some(instance.to_owned()) };
                self.leave(&[instance], &[leaving]);
            }
            // It forgets its id, as a restarted process does.
            [client, "restarts"] => self.clients.entry(client).or_default().id.clear(),
            ["describe"] => {
                let text = match self.groups.describe(GROUP) {
                    None => "nothing".to_owned(),
                    Some(group) => {
                        let members: Vec<String> = group
                            .members
                            .iter()
                            .map(|member| format!("{}={}", member.member, text(&member.assignment)))
                            .collect();
                        format!("{:?} {:?} [{}]", group.state, group.protocol, members.join(" "))
                    }
                };
                self.told.push(text);
            }
            [time] if time.ends_with('s') => {
                let seconds: u64 = time.trim_end_matches('s').parse().expect("a number of seconds");
                let until = self.now.mono.plus(Duration::from_secs(seconds));
                let started = self.now;
                while let Some(at) = self.groups.deadline().filter(|at| *at <= until) {
                    self.now.mono = at.max(self.now.mono);
                    self.groups.on_time(self.now);
                    self.settle();
                }
                self.now.mono = until;
                self.now.wall = WallMs(started.wall.0 + seconds as i64 * 1000);
            }
            _ => panic!("what is {command:?}?"),
        }
    }

    fn who(&self, client: &str) -> MemberRef {
        let Client { id, generation, instance, .. } = self.clients.get(client).cloned().unwrap_or_default();
        MemberRef { member: id, instance, generation }
    }

    fn join(&mut self, client: &'static str, how: &[&'static str]) {
        let value = |key: &str| how.iter().find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
        let seconds = |key| Duration::from_secs(value(key).map_or(10, |text| text.parse().expect("seconds")));
        if let Some(instance) = value("static") {
            self.clients.entry(client).or_default().instance = Some(instance.to_owned());
        }
        let Client { id, instance, .. } = self.clients.entry(client).or_default().clone();
        let said = Bytes::from(value("says").unwrap_or("").to_owned());
        let protocols = value("knows").unwrap_or("range").split(',').filter(|name| !name.is_empty());
        let join = JoinCall {
            member: value("as").map_or(id, str::to_owned),
            instance,
            client_id: client.to_owned(),
            client_host: "/10.0.0.1".into(),
            session_timeout: seconds("session"),
            rebalance_timeout: value("rebalance").map_or(Duration::from_secs(60), |_| seconds("rebalance")),
            protocol_type: value("type").unwrap_or("consumer").into(),
            protocols: protocols.map(|name| (name.to_owned(), said.clone())).collect(),
            needs_id: how.contains(&"politely"),
            can_skip: how.contains(&"skipping"),
        };
        self.ids += 1;
        let new_id = format!("{client}{}", self.ids);
        match self.groups.handle_join(self.now, GROUP, join, new_id, client) {
            Ok(None) => {}
            Ok(Some(joined)) => self.on_joined(client, Ok(joined)),
            Err(error) => self.on_joined(client, Err(error)),
        }
    }

    fn on_joined(&mut self, client: &'static str, joined: Result<Joined, GroupError>) {
        match joined {
            Ok(joined) => {
                let members: Vec<&str> = joined.members.iter().map(|member| &*member.member).collect();
                self.told.push(format!(
                    "{client} is {} in {} led by {} {}[{}]{}",
                    joined.member,
                    joined.generation,
                    joined.leader,
                    joined.protocol,
                    members.join(" "),
                    if joined.skip_assignment { " skips" } else { "" },
                ));
                let told = self.clients.entry(client).or_default();
                (told.id, told.generation, told.protocol) =
                    (joined.member, joined.generation, joined.protocol);
            }
            Err(GroupError::MemberIdRequired { member }) => {
                self.told.push(format!("{client} is to be {member}"));
                self.clients.entry(client).or_default().id = member;
            }
            Err(error) => self.told.push(format!("{client} joins: {error:?}")),
        }
    }

    /// `a=0` assigns `0` to client `a`.
    fn sync(&mut self, client: &'static str, assigned: &[&'static str]) {
        let assignments = assigned.iter().map(|word| {
            let (to, what) = word.split_once('=').expect("a client and what it is assigned");
            (self.who(to).member, Bytes::from_static(what.as_bytes()))
        });
        let sync = SyncCall {
            assignments: assignments.collect(),
            who: self.who(client),
            protocol_type: None,
            protocol: Some(self.clients.get(client).cloned().unwrap_or_default().protocol),
        };
        match self.groups.handle_sync(self.now, GROUP, sync, client) {
            Ok(None) => {}
            Ok(Some(synced)) => self.on_synced(client, Ok(synced)),
            Err(error) => self.on_synced(client, Err(error)),
        }
    }

    fn on_synced(&mut self, client: &'static str, synced: Result<Synced, GroupError>) {
        self.told.push(match synced {
            Ok(synced) => format!("{client} has [{}]", text(&synced.assignment)),
            Err(error) => format!("{client} syncs: {error:?}"),
        });
    }

    fn leave(&mut self, names: &[&'static str], leaving: &[Leaving]) {
        match self.groups.handle_leave(self.now, GROUP, leaving) {
            Ok(results) => {
                for (name, result) in names.iter().zip(results) {
                    self.tell_result(name, result);
                }
            }
            Err(error) => self.told.push(format!("{error:?}")),
        }
    }

    fn tell_result(&mut self, client: &str, result: Result<(), GroupError>) {
        self.told.push(match result {
            Ok(()) => format!("{client} ok"),
            Err(error) => format!("{client} {error:?}"),
        });
    }

    /// Do what the groups ask for.
    fn settle(&mut self) {
        loop {
            while let Some(action) = self.groups.poll_action() {
                match action {
                    Action::Join(client, joined) => self.on_joined(client, joined),
                    Action::Sync(client, synced) => self.on_synced(client, synced),
                    Action::Store { id, record } => self.to_store.push_back((id, record)),
                }
            }
            assert_eq!(self.groups.bytes(), self.groups.recounted_bytes());
            if self.disk_waits {
                return;
            }
            let Some((id, record)) = self.to_store.pop_front() else { return };
            self.stored.apply(&record).expect("what a group encodes decodes");
            self.groups.on_stored(self.now, id, Ok(()));
        }
    }
}

fn text(bytes: &Bytes) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
