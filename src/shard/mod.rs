//! What one core owns: logs with their partitions, a copy of the catalog, its end of the mail.
//!
//! Knows no client protocol. A front end asks with a [`Call`](call::Call), here or by mail, and finds
//! the answers in [`News`] at the turn's end. The order of a turn is the server's business
//! (`server/turn`); each step here is one of its lines.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::base::mutant::{self, Mutant};
use crate::io::op::{ConnId, Event, Op};
use crate::io::socket::SocketHandle;
use crate::log::read::ReadLimits;
use crate::log::space::{Job, JobDone};
use crate::log::{Log, Room};
use crate::metadata::catalog::Catalog;
use crate::metadata::commands::{IdSource, TopicRules};
use crate::metadata::record::MetaRecord;
use crate::metrics::{LogGauges, ShardStats};
use crate::model::{LogId, Nanos, Now, PartitionKey, ShardId, WallMs};
use crate::partition::waiters::Waiter;
use crate::partition::{Accepted, CheckedBatch};

pub mod acks;
pub mod admin;
pub mod call;
pub mod groups;
pub mod hosted;
mod lookups;
pub mod mailbox;
#[cfg(test)]
pub mod testing;

use admin::{AdminQueue, Judged};
use call::{Answer, Call, CallError, ReadPart, ReadResult, Ticket};
use hosted::{Acked, Hosted, Origin, Outbox};
use lookups::Lookups;
use mailbox::{Mail, Mailbox};

/// Retention looks at what may be due this often.
pub const RETENTION_EVERY: Duration = Duration::from_secs(1);
/// A producer that was silent for so long is forgotten (Kafka's `producer.id.expiration.ms`).
pub const PRODUCER_EXPIRY_MS: i64 = 24 * 3600 * 1000;

/// What a shard is told when it starts.
pub struct ShardConfig {
    pub rules: TopicRules,
    pub offsets_retention_ms: i64,
    pub retention: Retention,
}

/// How long records stay on topics that do not say it themselves.
#[derive(Clone, Copy, Debug, Default)]
pub struct Retention {
    /// `None` keeps them for ever.
    pub ms: Option<u64>,
    /// Of one partition; `None` for no limit.
    pub bytes: Option<u64>,
}

/// A job of a hosted log, for the background.
#[derive(Debug)]
pub struct LogJob {
    pub shard: ShardId,
    pub log: LogId,
    pub job: Job,
}

/// What happened in a turn, for the front ends.
#[derive(Debug, Default)]
pub struct News {
    /// Answers to calls of this shard's connections.
    pub answers: Vec<(Ticket, Answer)>,
    /// Batches whose position is durable; their responses are staged.
    pub acked: Vec<Acked>,
    /// Connections that waited for records, or for a chunk: there may be something now.
    pub woken: Vec<Waiter>,
    /// Connections that another shard accepted for this one.
    pub connections: Vec<(SocketHandle, SocketAddr)>,
    /// Work for the background.
    pub jobs: Vec<LogJob>,
    /// What an operator should read.
    pub messages: Vec<String>,
}

pub struct Shard {
    id: ShardId,
    config: ShardConfig,
    catalog: Catalog,
    /// The shard that hosts each log, by log id.
    hosts: Arc<[ShardId]>,
    logs: Vec<Hosted>,
    mailbox: Mailbox,
    lookups: Lookups,
    admin: AdminQueue,
    ids: Box<dyn IdSource>,
    outbox: Outbox,
    retention_at: Nanos,
    jobs_under_way: usize,
    pub stats: ShardStats,
}

impl Shard {
    pub fn new(
        id: ShardId,
        config: ShardConfig,
        catalog: Catalog,
        hosts: Arc<[ShardId]>,
        logs: Vec<Hosted>,
        mailbox: Mailbox,
        ids: Box<dyn IdSource>,
    ) -> Shard {
        for hosted in &logs {
            assert_eq!(hosts[hosted.log.id().0 as usize], id, "a shard hosts what the table says");
        }
        Shard {
            id,
            config,
            catalog,
            hosts,
            logs,
            mailbox,
            lookups: Lookups::default(),
            admin: AdminQueue::default(),
            ids,
            outbox: Outbox { me: id, ..Outbox::default() },
            retention_at: Nanos(0),
            jobs_under_way: 0,
            stats: ShardStats::default(),
        }
    }

    pub fn id(&self) -> ShardId {
        self.id
    }

    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// How many shards the broker has.
    pub fn shards(&self) -> usize {
        self.mailbox.shards().count()
    }

    /// Logs of this shard.
    pub fn logs(&self) -> &[Hosted] {
        &self.logs
    }

    pub fn is_local(&self, log: LogId) -> bool {
        self.hosts.get(log.0 as usize) == Some(&self.id)
    }

    fn hosted(&mut self, log: LogId) -> &mut Hosted {
        let hosted = self.logs.iter_mut().find(|hosted| hosted.log.id() == log);
        hosted.expect("calls go to the shard that hosts the log")
    }

    /// What to do after a start, before anybody asks: finish deletions that were cut short, and take away
    /// what retention had taken away since the last checkpoint.
    pub fn start(&mut self, now: Now) {
        for hosted in &mut self.logs {
            if hosted.log.id() != LogId::METADATA {
                hosted.start(&self.catalog, now);
            }
            while !hosted.retain(&self.catalog, self.config.retention, now.wall) {}
        }
    }

    // --- What front ends ask. ---

    /// Ask the owner of a log. The answer is in [`News::answers`] of this turn or a later one.
    pub fn call(&mut self, log: LogId, ticket: Ticket, call: Call, now: Now) {
        if call.is_lookup() {
            self.lookups.push(log, ticket, call);
            self.begin_lookups(now);
        } else {
            self.send_call(log, ticket, call, now);
        }
    }

    /// As many as may be under way.
    fn begin_lookups(&mut self, now: Now) {
        while let Some((log, ticket, call)) = self.lookups.begin() {
            self.send_call(log, ticket, call, now);
        }
    }

    /// The connection is gone.
    pub fn forget(&mut self, conn: ConnId) {
        self.lookups.forget(conn);
    }

    fn send_call(&mut self, log: LogId, ticket: Ticket, call: Call, now: Now) {
        let Some(&host) = self.hosts.get(log.0 as usize) else {
            unreachable!("the catalog names no log that does not exist")
        };
        if host == self.id {
            self.do_call(log, Origin::new(self.id, ticket), call, now);
        } else {
            self.mailbox.call(host, Mail::Call { log, ticket, call });
        }
    }

    fn do_call(&mut self, log: LogId, origin: Origin, call: Call, now: Now) {
        if let Call::Admin(call) = call {
            assert_eq!(log, LogId::METADATA);
            self.admin.push(origin, call);
            return;
        }
        let may_defer = call.waits_for_others() && self.mailbox.may_defer(origin.shard);
        let later = Origin { deferred: may_defer, ..origin };
        let hosted = self.logs.iter_mut().find(|hosted| hosted.log.id() == log);
        let hosted = hosted.expect("calls go to the shard that hosts the log");
        match hosted.call(later, call, &self.catalog, now) {
            Some(answer) => self.outbox.answers.push((origin, answer)),
            None if may_defer => self.mailbox.defer(origin.shard),
            None => {}
        }
    }

    /// Is there room for `bytes` more of a client of this shard, in a log of it?
    pub fn room(&mut self, log: LogId, bytes: usize) -> Room {
        self.hosted(log).room(bytes)
    }

    /// There will be an append to this partition, if its log is of this shard.
    pub fn expect_append(&mut self, log: LogId, key: PartitionKey) {
        if self.is_local(log) {
            self.hosted(log).expect_append(key);
        }
    }

    /// Append to a log of this shard without a detour: the hot path. Acknowledged through
    /// [`News::acked`], or at once if `durable_at` is `None`.
    pub fn append(
        &mut self,
        log: LogId,
        key: PartitionKey,
        batch: CheckedBatch<'_>,
        ticket: Ticket,
        now: Now,
    ) -> Result<Accepted, CallError> {
        let (count, bytes) = (batch.batch.record_count(), batch.batch.bytes().len());
        let accepted = self.hosted(log).append(key, batch, ticket, now)?;
        self.stats.counters.batches_produced += 1;
        self.stats.counters.records_produced += u64::from(count);
        self.stats.counters.produced_bytes += bytes as u64;
        Ok(accepted)
    }

    /// Read from a log of this shard. `park`: the connection is woken when there is more.
    pub fn read(
        &mut self,
        log: LogId,
        part: &ReadPart,
        limits: ReadLimits,
        park: Option<ConnId>,
    ) -> ReadResult {
        let waiter = park.map(|conn| Waiter { shard: self.id, conn, part: part.waiter });
        let hosted = self.logs.iter_mut().find(|hosted| hosted.log.id() == log);
        let hosted = hosted.expect("calls go to the shard that hosts the log");
        hosted.read(part, limits, waiter, &self.catalog)
    }

    /// What was read of a log of this shard is not enough: the connection is woken when there is more.
    pub fn await_more(&mut self, log: LogId, part: &ReadPart, read: &ReadResult, conn: ConnId) {
        let waiter = Waiter { shard: self.id, conn, part: part.waiter };
        let hosted = self.logs.iter_mut().find(|hosted| hosted.log.id() == log);
        let hosted = hosted.expect("calls go to the shard that hosts the log");
        hosted.await_more(part, read, waiter, &self.catalog);
    }

    /// Give a connection that was accepted here to another shard.
    pub fn hand_over(&mut self, to: ShardId, socket: SocketHandle, peer: SocketAddr) {
        self.mailbox.call(to, Mail::Connection { socket, peer });
    }

    /// Calls that wait for another shard to catch up.
    pub fn calls_waiting(&self) -> usize {
        self.mailbox.waiting()
    }

    // --- The steps of a turn. ---

    /// An event of a log.
    pub fn on_event(&mut self, event: Event, now: Now, news: &mut News) {
        match event {
            Event::Written { token, result } => {
                let log = Log::of_token(token);
                if let Err(error) = self.hosted(log).log.on_written(token, result, now.mono) {
                    self.stats.counters.device_errors += 1;
                    news.messages.push(format!("log {log}: a write failed, the log has stopped: {error}"));
                }
            }
            Event::Synced { token, result } => {
                let log = Log::of_token(token);
                if let Err(error) = self.hosted(log).log.on_synced(result, now.mono) {
                    self.stats.counters.device_errors += 1;
                    news.messages.push(format!("log {log}: a sync failed, the log has stopped: {error}"));
                }
            }
            Event::Read { token, buf, result } => {
                let log = Log::of_token(token);
                let hosted = self.logs.iter_mut().find(|hosted| hosted.log.id() == log);
                let hosted = hosted.expect("reads are of hosted logs");
                let Some(read) = hosted.log.on_read(token, buf, result, now.mono) else { return };
                self.stats.record_cold_read(read.bytes, now.mono.since(read.since));
                hosted.on_chunk(read.chunk, &mut self.outbox);
                let errors = hosted.log.take_read_errors();
                self.stats.counters.stored_crc_errors += errors.len() as u64;
                news.messages.extend(errors.into_iter().map(|error| format!("a read failed: {error}")));
            }
            other => unreachable!("{other:?} is the server's"),
        }
    }

    /// Read the mail.
    pub fn receive(&mut self, now: Now, news: &mut News) {
        while let Some((from, mail)) = self.mailbox.receive() {
            match mail {
                Mail::Call { log, ticket, call } => {
                    self.do_call(log, Origin::new(from, ticket), call, now);
                }
                Mail::Answer { ticket, answer } => self.hand_out(ticket, answer, news),
                Mail::Late { ticket, answer } => {
                    self.hand_out(ticket, answer, news);
                    self.mailbox.answer(from, Mail::Done { number: 0 });
                }
                Mail::Ready { waiters } => {
                    news.woken.extend(waiters);
                    self.mailbox.answer(from, Mail::Done { number: 0 });
                }
                Mail::Apply { number, records } => {
                    self.apply_records(&records, now);
                    self.mailbox.answer(from, Mail::Done { number });
                }
                Mail::Connection { socket, peer } => {
                    news.connections.push((socket, peer));
                    self.mailbox.answer(from, Mail::Done { number: 0 });
                }
                Mail::Done { number } => self.on_done(number),
                // It is for the mailbox, which has seen it.
                Mail::Deferred { .. } => {}
            }
        }
        self.mailbox.return_deferred();
    }

    /// A background job of a log is done.
    pub fn on_job(&mut self, log: LogId, done: JobDone, now: Now, news: &mut News) {
        self.jobs_under_way -= 1;
        match self.hosted(log).log.on_job(done, now) {
            Ok(None) => {}
            Ok(Some(job)) => self.give_job(log, job, news),
            Err(message) => news.messages.push(message),
        }
    }

    fn give_job(&mut self, log: LogId, job: Job, news: &mut News) {
        self.jobs_under_way += 1;
        news.jobs.push(LogJob { shard: self.id, log, job });
    }

    /// Apply what has become durable: release acks, wake readers, go on with metadata.
    pub fn apply_durable(&mut self, now: Now, news: &mut News) {
        self.begin_lookups(now);
        for hosted in &mut self.logs {
            hosted.apply_durable(now, &self.catalog, &mut self.stats, &mut self.outbox);
        }
        let durable = std::mem::take(&mut self.outbox.metadata_durable);
        if durable > 0 && !mutant::is(Mutant::AnswerMetadataEarly) {
            self.on_metadata(durable, now);
        }
        if std::mem::take(&mut self.outbox.metadata_failed) {
            self.outbox.answers.extend(self.admin.fail());
        }
        self.run_admin(now);
        self.deliver(news);
    }

    /// An answer to a client of this shard.
    fn hand_out(&mut self, ticket: Ticket, answer: Answer, news: &mut News) {
        if matches!(answer, Answer::ListOffset(_)) {
            self.lookups.on_answer(ticket);
        }
        news.answers.push((ticket, answer));
    }

    /// Hand out what the hosted logs had to say.
    fn deliver(&mut self, news: &mut News) {
        news.acked.append(&mut self.outbox.acked);
        news.messages.append(&mut self.outbox.messages);
        for (origin, answer) in std::mem::take(&mut self.outbox.answers) {
            if origin.shard == self.id {
                self.hand_out(origin.ticket, answer, news);
            } else if origin.deferred {
                self.mailbox.answer_late(origin.shard, origin.ticket, answer);
            } else {
                self.mailbox.answer(origin.shard, Mail::Answer { ticket: origin.ticket, answer });
            }
        }
        for hosted in &mut self.logs {
            hosted.take_woken(&mut self.outbox.woken);
        }
        if self.outbox.woken.is_empty() {
            return;
        }
        self.outbox.woken.sort_unstable();
        self.outbox.woken.dedup();
        for waiters in self.outbox.woken.chunk_by(|a, b| a.shard == b.shard) {
            if waiters[0].shard == self.id {
                news.woken.extend(waiters);
            } else {
                self.mailbox.call(waiters[0].shard, Mail::Ready { waiters: waiters.to_vec() });
            }
        }
        self.outbox.woken.clear();
    }

    /// The turn's end: writes, reads and background work.
    pub fn submit(&mut self, now: Now, ops: &mut Vec<Op>, news: &mut News) {
        let retain = now.mono >= self.retention_at;
        let mut retained = true;
        for index in 0..self.logs.len() {
            let hosted = &mut self.logs[index];
            let log = hosted.log.id();
            hosted.end_turn();
            hosted.log.submit(now, ops);
            hosted.log.maintain();
            if retain {
                retained &= hosted.retain(&self.catalog, self.config.retention, now.wall);
            }
            // Before the checkpoint is asked for: a dead segment may want one.
            let structural = hosted.log.poll_job(now);
            let catalog = (log == LogId::METADATA).then_some(&self.catalog);
            let checkpoint = hosted.checkpoint(catalog, now);
            for job in structural.into_iter().chain(checkpoint) {
                self.give_job(log, job, news);
            }
        }
        if retain && retained {
            self.retention_at = now.mono.plus(RETENTION_EVERY);
            self.expire(now);
        }
    }

    /// Forget what nobody has used for days. These are days of the wall clock, like those that records are
    /// kept for: they go on while the broker is off. Who sets the clock forward by as much has all of it
    /// forgotten, in Kafka too.
    fn expire(&mut self, now: Now) {
        let producers = WallMs(now.wall.0 - PRODUCER_EXPIRY_MS);
        let offsets = WallMs(now.wall.0 - self.config.offsets_retention_ms);
        for hosted in &mut self.logs {
            hosted.expire(&self.catalog, producers, offsets, now);
            hosted.log.forget_read_failures();
        }
    }

    /// The shard is stopping and its clients have their answers. Once.
    pub fn tell_drained(&mut self) {
        self.mailbox.tell_drained();
    }

    /// That is so for every shard: nobody asks this one for anything any more.
    pub fn all_drained(&self) -> bool {
        self.mailbox.all_drained()
    }

    /// Shards to be woken, because they got mail.
    pub fn take_wakes(&mut self, wakes: &mut Vec<ShardId>) {
        self.mailbox.take_wakes(wakes);
    }

    /// When the shard must be run again although nothing happens.
    pub fn deadline(&self) -> Nanos {
        if self.logs.iter().any(Hosted::is_searching) {
            return Nanos(0);
        }
        let space = self.logs.iter().filter_map(|hosted| hosted.log.space_deadline());
        let reads = self.logs.iter().filter_map(|hosted| hosted.log.read_deadline());
        let groups = self.logs.iter().filter_map(Hosted::group_deadline);
        space.chain(reads).chain(groups).fold(self.retention_at, Nanos::min)
    }

    // --- Metadata. ---

    /// Judge calls, and append what they change, as long as the metadata log has room.
    fn run_admin(&mut self, now: Now) {
        while self.admin.has_calls() && self.room(LogId::METADATA, 0) == Room::Yes {
            let Some((origin, call)) = self.admin.pop() else { return };
            let planned = self.admin.planned(&self.catalog);
            match admin::judge(call, planned, &self.config.rules, &mut *self.ids) {
                Judged::Answer(answer) => {
                    let answer = self.admin.judged(origin, answer);
                    self.outbox.answers.extend(answer.map(|answer| (origin, answer)));
                }
                Judged::Write { record, answer } => self.write_change(origin, &record, answer, now),
            }
        }
    }

    fn write_change(&mut self, origin: Origin, record: &MetaRecord, answer: Answer, now: Now) {
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        match self.hosted(LogId::METADATA).append_metadata(&bytes, now) {
            Ok(()) => {
                let planned = self.admin.planned(&self.catalog);
                planned.apply(record).expect("a record that was judged by this catalog applies");
                self.admin.written(origin, bytes.into(), answer);
                if mutant::is(Mutant::AnswerMetadataEarly) {
                    self.on_metadata(1, now);
                }
            }
            Err(error) => {
                let answer = self.admin.judged(origin, admin::failed(answer, error));
                self.outbox.answers.extend(answer.map(|answer| (origin, answer)));
            }
        }
    }

    /// So many more changes are durable.
    fn on_metadata(&mut self, count: usize, now: Now) {
        let told = |shard: &ShardId| *shard != self.id && !mutant::is(Mutant::ApplyOnOneShard);
        let others: Vec<ShardId> = self.mailbox.shards().filter(told).collect();
        let (number, records) = self.admin.durable(count, others.len());
        self.apply_records(&records, now);
        for shard in others {
            self.mailbox.call(shard, Mail::Apply { number, records: records.clone() });
        }
        self.finish_changes();
    }

    fn on_done(&mut self, number: u64) {
        // Other calls than `Apply` have no number.
        if number > 0 {
            self.admin.applied(number);
            self.finish_changes();
        }
    }

    fn finish_changes(&mut self) {
        while let Some(answers) = self.admin.pop_applied() {
            self.outbox.answers.extend(answers);
        }
    }

    fn apply_records(&mut self, records: &[Box<[u8]>], now: Now) {
        for record in records {
            self.apply_record(record, now);
        }
    }

    /// A durable record of the metadata log: the only way the catalog changes.
    fn apply_record(&mut self, record: &[u8], now: Now) {
        let record = MetaRecord::decode(record).expect("a record that this broker has written decodes");
        self.catalog.apply(&record).expect("a record that was judged by this catalog applies");
        for hosted in &mut self.logs {
            match record {
                MetaRecord::TopicDeleted { id } => hosted.delete_topic(id, now),
                MetaRecord::TopicConfigsChanged { id, .. } => hosted.on_configs_changed(id),
                _ => {}
            }
        }
    }

    // --- The end. ---

    /// Finish what is on its way and take no new calls. Returns whether all is done.
    pub fn is_quiet(&self) -> bool {
        self.admin.is_empty() && self.outbox.answers.is_empty() && self.logs.iter().all(Hosted::is_quiet)
    }

    /// The broker is about to stop: members of groups that wait for others are sent away, no further
    /// segments are made, and nobody waits for lookups that take their time.
    pub fn begin_drain(&mut self, now: Now) {
        for hosted in &mut self.logs {
            hosted.stop_groups(now);
            hosted.stop_searches();
            hosted.log.stop_preparing();
        }
    }

    /// All that was answered is durable: write final checkpoints. Then wait for
    /// [`Shard::jobs_done`], and [`Shard::close`].
    pub fn begin_close(&mut self, news: &mut News) {
        for index in 0..self.logs.len() {
            let hosted = &mut self.logs[index];
            let log = hosted.log.id();
            if hosted.log.failed() || !hosted.log.space_is_quiet() {
                continue;
            }
            let catalog = (log == LogId::METADATA).then_some(&self.catalog);
            let job = hosted.begin_checkpoint(catalog);
            self.give_job(log, job, news);
        }
    }

    /// No background job is under way.
    pub fn jobs_done(&self) -> bool {
        self.jobs_under_way == 0
    }

    /// Mark the logs as closed in order.
    pub fn close(&mut self, news: &mut News) {
        for index in 0..self.logs.len() {
            let log = self.logs[index].log.id();
            if let Some(job) = self.logs[index].log.close() {
                self.give_job(log, job, news);
            }
        }
    }

    /// Memory of the logs' tails and of what was read back.
    pub fn cache_bytes(&self) -> (u64, u64) {
        let each = self.logs.iter().map(|hosted| hosted.log.cache_bytes());
        each.fold((0, 0), |sum, bytes| (sum.0 + bytes.0, sum.1 + bytes.1))
    }

    pub fn gauges(&self) -> Vec<LogGauges> {
        self.logs.iter().map(Hosted::gauges).collect()
    }
}
