//! Fetch: whole batches from an offset on, with a long poll.
//!
//! A fetch looks at all its partitions; if that is not enough it is parked and looks again when one of
//! them has more, when a chunk it needs has been read, or when its time is over. It goes on where the last
//! look ended: what it has gathered is not read again.
//!
//! Of partitions that lag, each gives what one chunk has of it, so that those of a fetch share the chunks that
//! are read, and none is read whose records would find no room.
//!
//! What was read back from the device is found by searching and summed before it is served, megabytes for one answer. A
//! look at such goes on over several turns ([`crate::kafka::cost`]); one at the tail ends in the turn that woke it.
//!
//! A fetch that goes on with a session ([`fetch_session`](crate::kafka::fetch_session)) looks only at the
//! partitions that are ready, and answers only with those that it has something to say about.

use std::rc::Rc;
use std::time::Duration;

use rustc_hash::FxHashMap;
use uuid::Uuid;

mod part;
mod response;

use crate::kafka::context::epoch_of;
use crate::kafka::fetch_session::{FetchSession, FetchedTopic, Held, Wanted};
use crate::kafka::front::{Close, Turn};
use crate::kafka::protocol::header::RequestHeader;
use crate::kafka::protocol::messages::FetchRequest;
use crate::kafka::protocol::wire::Reader;
use crate::kafka::protocol::{ErrorCode, Message};
use crate::log::read::ReadLimits;
use crate::metadata::topic::Topic;
use crate::model::{LogId, Nanos, Offset, PartitionKey, TopicId};
use crate::partition::waiters::{NO_PART, Waiter};
use crate::shard::call::{Answer, Call, ReadPart, ReadResult, Ticket};
use part::Part;

/// A client that does not want to wait still waits this long for the device.
const COLD_WAIT: Duration = Duration::from_secs(5);
/// What is fresh waits so long for what is being read from the device. Whoever lags in some partitions gets
/// what those were asked for, and would otherwise have it read again and again; Kafka waits for its reads however
/// long they take.
const FRESH_WAIT: Duration = Duration::from_millis(20);
/// A wait from here on may end a little late, together with others: of a thousand idle consumers each would wake
/// the shard by itself otherwise, once with its deadline and once with its next request.
const LONG_POLL: Duration = Duration::from_millis(100);
/// They end at the multiples of this.
const LONG_POLLS_END: Duration = Duration::from_millis(5);
/// No client needs a longer poll.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// First version in which topics are named by their ids.
const BY_ID_SINCE: i16 = 13;

/// A look at the partitions that is under way.
#[derive(Default)]
struct Look {
    /// The next one's place in [`FetchRequestState::parts`].
    next: usize,
    /// What had been gathered when it began is enough, as soon as the others have theirs.
    enough: bool,
    /// What is being read for those before `next`.
    loading_bytes: usize,
    /// Those of other shards among them.
    remote: Vec<RemoteRead>,
}

/// What one log of another shard is asked for.
struct RemoteRead {
    log: LogId,
    parts: Vec<ReadPart>,
    /// Where each belongs, in the order of [`FetchRequestState::parts`].
    places: Vec<usize>,
}

/// A fetch that is under way.
pub struct FetchRequestState {
    by_id: bool,
    /// Why the whole request is refused.
    refused: Option<ErrorCode>,
    /// Lent by the connection until the answer leaves.
    session: Option<Box<FetchSession>>,
    /// Of a request without session.
    topics: Vec<FetchedTopic>,
    /// All partitions of the request; with a session, those of the last look.
    parts: Vec<Part>,
    /// The look that this turn, or one of the next, goes on with.
    look: Option<Look>,
    /// What the last look has found has not been judged.
    looked: bool,
    /// What had been gathered when it began.
    bytes_before: usize,
    read_committed: bool,
    min_bytes: usize,
    max_bytes: usize,
    begun: Nanos,
    /// How long its client would wait for enough.
    wait: Duration,
    /// It waits for nothing any more.
    given_up: bool,
    /// Calls to other shards that are not answered, and which parts each asked for.
    calls: Vec<Option<Vec<usize>>>,
    outstanding: usize,
    /// What was answered, by part, until all are.
    answered: Vec<(usize, ReadResult)>,
    /// Something happened since the last look.
    again: bool,
    /// At the last look the shard had memory for small batches only, if for any.
    limited: bool,
    /// Just received. Its deadline is looked at later in the turn, even if that has come.
    new: bool,
}

/// Read the request; the caller lets it run. `held` is the session of its connection.
pub fn begin(
    turn: &mut Turn<'_>,
    held: &mut Held,
    header: &RequestHeader<'_>,
    body: &[u8],
) -> Result<Box<FetchRequestState>, Close> {
    let request = FetchRequest::decode(&mut Reader::new(body), header.version)
        .map_err(|error| Close(format!("Fetch request: {error}")))?;
    let wait = Duration::from_millis(request.max_wait_ms.max(0) as u64).min(WAIT_MAX);
    let max_bytes = (request.max_bytes.max(0) as usize).min(turn.front.settings.fetch_bytes_max);
    let by_id = header.version >= BY_ID_SINCE;
    // Whoever follows says so here or, since version 15, there.
    let follows = request.replica_id >= 0 || request.replica_state.replica_id >= 0;
    let begun = if follows {
        // There is nothing to remember of somebody who gets nothing.
        Ok(None)
    } else {
        held.begin(&request, by_id, &mut turn.front.fetch_sessions)
    };
    let (session, refused) = match begun {
        Ok(session) => (session, None),
        Err(code) => (None, Some(code)),
    };
    let mut state = FetchRequestState {
        by_id,
        refused,
        session,
        topics: Vec::new(),
        parts: Vec::new(),
        look: None,
        looked: false,
        bytes_before: 0,
        read_committed: request.isolation_level == 1,
        min_bytes: (request.min_bytes.max(0) as usize).min(max_bytes),
        max_bytes,
        begun: turn.now.mono,
        wait,
        given_up: false,
        calls: Vec::new(),
        outstanding: 0,
        answered: Vec::new(),
        again: true,
        limited: false,
        new: true,
    };
    if state.session.is_none() && state.refused.is_none() {
        state.name_all(turn, &request, follows);
    }
    Ok(Box::new(state))
}

fn find_topic<'t>(turn: &'t Turn<'_>, name: &str, id: Uuid, by_id: bool) -> Option<&'t Rc<Topic>> {
    let catalog = turn.shard.catalog();
    if by_id { catalog.topic_by_id(TopicId(id.into_bytes())) } else { catalog.topic(name) }
}

/// Where to read a partition, or why not.
fn find(
    turn: &Turn<'_>,
    topic: Option<&Rc<Topic>>,
    by_id: bool,
    (slot, index, wanted): (u32, i32, Wanted),
) -> Result<(LogId, ReadPart), ErrorCode> {
    let unknown = if by_id { ErrorCode::UNKNOWN_TOPIC_ID } else { ErrorCode::UNKNOWN_TOPIC_OR_PARTITION };
    let known = topic.ok_or(unknown)?;
    let log = known.log_of(index).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    let current = turn.front.log_terms.get(log.0 as usize).map_or(-1, |term| epoch_of(*term));
    let partition = PartitionKey { topic: known.id, index };
    let bytes_max = wanted.bytes_max.max(0) as usize;
    match wanted.leader_epoch {
        epoch if epoch < 0 || epoch == current => {
            Ok((log, ReadPart { partition, offset: Offset(wanted.offset), bytes_max, waiter: slot }))
        }
        epoch if epoch < current => Err(ErrorCode::FENCED_LEADER_EPOCH),
        _ => Err(ErrorCode::UNKNOWN_LEADER_EPOCH),
    }
}

/// What a broker is told that would follow a partition: nobody does, whatever number it has. The codes are
/// Kafka's for a replica that the leader does not know.
fn not_a_replica(wanted: Wanted) -> ErrorCode {
    if wanted.leader_epoch < 0 { ErrorCode::NOT_LEADER_OR_FOLLOWER } else { ErrorCode::UNKNOWN_LEADER_EPOCH }
}

impl FetchRequestState {
    /// Without a session the request says it all.
    fn name_all(&mut self, turn: &Turn<'_>, request: &FetchRequest<'_>, follows: bool) {
        let count = request.topics.iter().map(|topic| topic.partitions.len()).sum();
        self.parts.reserve(count);
        self.topics.reserve(request.topics.len());
        // Each look is at all parts: of a partition that is named again and again, the last time counts, as in
        // Kafka and in a session.
        let mut places: FxHashMap<PartitionKey, usize> = FxHashMap::default();
        for wanted in &request.topics {
            let number = self.topics.len() as u32;
            let known = find_topic(turn, wanted.topic, wanted.topic_id, self.by_id);
            let name = known.map_or_else(|| Rc::from(wanted.topic), |topic| topic.name.clone());
            for partition in &wanted.partitions {
                let (index, from) = (partition.partition, Wanted::of(partition));
                let found = find(turn, known, self.by_id, (NO_PART, index, from));
                let target = if follows { found.and(Err(not_a_replica(from))) } else { found };
                if count > 1
                    && let Ok((_, read)) = &target
                {
                    let place = *places.entry(read.partition).or_insert(self.parts.len());
                    if let Some(earlier) = self.parts.get_mut(place) {
                        earlier.target = target;
                        continue;
                    }
                }
                let result = ReadResult::default();
                self.parts.push(Part { slot: NO_PART, topic: number, index, target, result });
            }
            self.topics.push(FetchedTopic { name, id: wanted.topic_id });
        }
    }

    /// When it is answered with what there is.
    pub fn deadline(&self) -> Nanos {
        let any_fresh = || self.parts.iter().any(|part| part.result.fresh);
        let wait = if self.given_up {
            Duration::ZERO
        } else if !self.is_loading() {
            self.wait
        } else if !any_fresh() {
            self.wait.max(COLD_WAIT)
        } else if self.bytes() >= self.min_bytes {
            FRESH_WAIT
        } else {
            self.wait
        };
        let ends = self.begun.plus(wait);
        if wait < LONG_POLL { ends } else { ends.round_up(LONG_POLLS_END) }
    }

    pub fn max_bytes(&self) -> usize {
        self.max_bytes
    }

    /// It would look, or look on, if it were run.
    pub fn is_unread(&self) -> bool {
        self.is_put_off() || (self.again && self.outstanding == 0)
    }

    /// It has looked at everything, and only time can answer it, even if that has come: see `new`.
    pub fn may_be_late(&self) -> bool {
        self.outstanding == 0 && !self.again && !self.is_put_off()
    }

    /// It goes on looking in a turn that has time for it.
    pub fn is_put_off(&self) -> bool {
        self.look.is_some()
    }

    /// It waits for memory of the shard.
    pub fn is_starved(&self) -> bool {
        self.limited && self.outstanding == 0 && !self.is_put_off() && self.bytes() == 0
    }

    /// Memory that the request holds: its partitions, and the records gathered so far.
    pub fn held_bytes(&self) -> usize {
        self.parts.len() * size_of::<Part>() + self.bytes() + self.answered_bytes()
    }

    /// Wait no longer: the broker is stopping.
    pub fn give_up(&mut self) {
        self.given_up = true;
    }

    /// There is news for the connection, perhaps for this fetch.
    pub fn on_woken(&mut self, waiters: &[Waiter]) {
        match &mut self.session {
            None => self.again = true,
            Some(session) => {
                for waiter in waiters {
                    self.again |= session.wake(waiter.part);
                }
            }
        }
    }

    /// There may be more for it now, or memory.
    pub fn retry(&mut self) {
        self.again = true;
    }

    /// What another shard found.
    pub fn on_answer(&mut self, part: u32, answer: Answer) {
        let Answer::Read(results) = answer else { unreachable!("a read is answered as one") };
        let places = self.calls.get_mut(part as usize).and_then(Option::take);
        let places = places.expect("a call is answered once");
        self.outstanding -= 1;
        self.answered.extend(places.into_iter().zip(results));
        if self.outstanding == 0 {
            self.take_answers();
        }
    }

    /// What all shards have found, as far as it fits. In the order of the parts, not of the answers: who got nothing may
    /// come first the next time.
    fn take_answers(&mut self) {
        let mut bytes = self.bytes();
        let mut answered = std::mem::take(&mut self.answered);
        answered.sort_unstable_by_key(|(place, _)| *place);
        for (place, result) in answered {
            let part = &mut self.parts[place];
            if bytes > 0 && bytes + result.bytes > self.max_bytes {
                // Each log was to give one batch, whatever its size, because another might have none.
                self.min_bytes = self.min_bytes.min(1);
                part.add(part.without_room_for(result));
            } else {
                bytes += result.bytes;
                part.add(result);
            }
        }
    }

    fn bytes(&self) -> usize {
        self.parts.iter().map(|part| part.result.bytes).sum()
    }

    fn answered_bytes(&self) -> usize {
        self.answered.iter().map(|(_, result)| result.bytes).sum()
    }

    /// Some of what it asked for is being read from the device.
    pub fn is_loading(&self) -> bool {
        self.parts.iter().any(|part| part.result.is_loading())
    }

    /// Look, if there is a reason to; `held_bytes`: what the connection holds besides. Returns whether the
    /// response should leave now.
    pub fn run(&mut self, turn: &mut Turn<'_>, ticket: Ticket, held_bytes: usize) -> bool {
        if self.refused.is_some() {
            return true;
        }
        // A session looks at nothing that was quiet before this turn's mail was read: that comes first.
        let too_early = std::mem::take(&mut self.new) && self.session.is_some();
        loop {
            if self.outstanding > 0 {
                return false;
            }
            if let Some(look) = self.look.take() {
                self.look_on(look, turn, ticket, held_bytes);
                if self.is_put_off() {
                    return false;
                }
                continue;
            }
            // Before the next look, or news that keep coming would put off the answer for ever.
            if std::mem::take(&mut self.looked) {
                self.tell_session();
                if self.is_done(turn.now.mono, too_early) {
                    return true;
                }
                // A read waits for one chunk at most: there may be more behind what it has found.
                self.again |= self.bytes() > self.bytes_before;
            }
            if !std::mem::take(&mut self.again) {
                return self.is_done(turn.now.mono, too_early);
            }
            self.begin_look(turn);
        }
    }

    /// There is enough, something else to say, or no time left.
    fn is_done(&self, now: Nanos, too_early: bool) -> bool {
        let failed = self.parts.iter().any(Part::failed);
        let nothing_asked = self.session.is_none() && self.parts.is_empty();
        let enough = self.bytes() >= self.min_bytes && !self.is_loading();
        enough || failed || nothing_asked || (now >= self.deadline() && !too_early)
    }

    /// With a session: the partitions that are ready. Those of which something has been gathered are among
    /// them, and keep it.
    fn name_ready(&mut self, turn: &Turn<'_>) {
        let Some(session) = &mut self.session else { return };
        let gathered = self.parts.drain(..).filter(|part| part.result.bytes > 0);
        let mut gathered: FxHashMap<u32, Part> = gathered.map(|part| (part.slot, part)).collect();
        let ready: Vec<_> = session.take_ready().collect();
        self.parts.extend(ready.into_iter().map(|(slot, topic, index, wanted)| {
            gathered.remove(&slot).unwrap_or_else(|| {
                let FetchedTopic { name, id } = session.topic(topic);
                let known = find_topic(turn, name, *id, self.by_id);
                let target = find(turn, known, self.by_id, (slot, index, wanted));
                Part { slot, topic, index, target, result: ReadResult::default() }
            })
        }));
        assert!(gathered.is_empty(), "a partition with records stays ready");
    }

    fn begin_look(&mut self, turn: &Turn<'_>) {
        self.name_ready(turn);
        self.bytes_before = self.bytes();
        self.look = Some(Look { enough: self.bytes_before >= self.min_bytes, ..Look::default() });
    }

    /// Read the partitions: those of this shard, as far as the turn has time for it, and then those of others by call.
    fn look_on(&mut self, mut look: Look, turn: &mut Turn<'_>, ticket: Ticket, held_bytes: usize) {
        let fits = turn.front.memory.response_bytes(held_bytes, self.max_bytes);
        self.limited = turn.front.memory.is_used_up();
        if fits < self.max_bytes {
            // More than fits cannot be waited for.
            self.min_bytes = self.min_bytes.min(1);
        }
        // What is being read will fill the answer: no chunk is read that would find no room in it.
        let found_bytes = self.bytes() + look.loading_bytes;
        let mut left = fits.saturating_sub(found_bytes);
        // One batch is given whatever its size, so that readers get on, but not of memory that is not there.
        let mut any = self.limited || found_bytes > 0;
        while let Some(part) = self.parts.get_mut(look.next) {
            let Ok((log, read)) = part.target else {
                look.next += 1;
                continue;
            };
            if look.enough && part.result.bytes > 0 {
                // It waits for nothing more, whatever it was waiting for.
                part.result.loading_bytes = 0;
            } else if turn.shard.is_local(log) {
                let limits = ReadLimits {
                    bytes_max: left.min(read.bytes_max),
                    at_least_one: !any,
                    past: !turn.front.budget.are_reads_spent(),
                };
                let found = turn.shard.read(log, &read, limits, Some(ticket.conn));
                if found.past {
                    self.look = Some(look);
                    return;
                }
                turn.front.budget.spend_on_read(found.past_work);
                left = left.saturating_sub(found.bytes + found.loading_bytes);
                any |= found.bytes > 0 || found.is_loading();
                look.loading_bytes += found.loading_bytes;
                part.add(found);
            } else {
                let place = look.next;
                match look.remote.iter_mut().find(|other| other.log == log) {
                    Some(other) => {
                        other.parts.push(read);
                        other.places.push(place);
                    }
                    None => look.remote.push(RemoteRead { log, parts: vec![read], places: vec![place] }),
                }
            }
            look.next += 1;
        }
        self.looked = true;
        let missing = self.min_bytes.saturating_sub(self.bytes());
        if missing > 0 {
            for part in &self.parts {
                if let Ok((log, read)) = &part.target
                    && turn.shard.is_local(*log)
                {
                    turn.shard.await_more(*log, read, &part.result, ticket.conn);
                }
            }
        }
        self.calls.clear();
        let share = left / look.remote.len().max(1);
        let at_least_one = !any;
        for RemoteRead { log, parts: partitions, places } in look.remote {
            let part = self.calls.len() as u32;
            self.calls.push(Some(places));
            self.outstanding += 1;
            let call = Call::Read { partitions, bytes_max: share, at_least_one, park: Some(missing) };
            turn.shard.call(log, Ticket { part, ..ticket }, call, turn.now);
        }
    }

    /// Tell the session what was found: what waits for its log from now on, and what does not.
    fn tell_session(&mut self) {
        if let Some(session) = &mut self.session {
            session.on_looked(self.parts.iter().map(|part| (part.slot, part.look())));
        }
    }

    /// The session, for the next fetch of the connection.
    pub fn take_session(&mut self) -> Option<Box<FetchSession>> {
        self.session.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::call::CallError;

    /// Where long polls end, so that they end when they say.
    const BEGUN: Nanos = Nanos(LONG_POLLS_END.as_nanos() as u64);
    const WAIT: Duration = Duration::from_millis(500);

    fn state(found: &[ReadResult]) -> FetchRequestState {
        let part = |result: &ReadResult| {
            let partition = PartitionKey { topic: TopicId([1; 16]), index: 0 };
            let read = ReadPart { partition, offset: result.next, bytes_max: 1000, waiter: NO_PART };
            let mut part = Part {
                slot: NO_PART,
                topic: 0,
                index: 0,
                target: Ok((LogId(1), read)),
                result: ReadResult::default(),
            };
            part.add(ReadResult { records: Vec::new(), error: None, ..*result });
            part
        };
        FetchRequestState {
            by_id: false,
            refused: None,
            session: None,
            topics: Vec::new(),
            parts: found.iter().map(part).collect(),
            look: None,
            looked: true,
            bytes_before: 0,
            read_committed: false,
            min_bytes: 1,
            max_bytes: 1000,
            begun: BEGUN,
            wait: WAIT,
            given_up: false,
            calls: Vec::new(),
            outstanding: 0,
            answered: Vec::new(),
            again: false,
            limited: false,
            new: false,
        }
    }

    fn found(bytes: usize, fresh: bool, loading_bytes: usize) -> ReadResult {
        ReadResult { bytes, fresh, loading_bytes, ..ReadResult::default() }
    }

    #[test]
    fn an_answer_takes_what_is_being_read_but_keeps_what_is_fresh_only_for_a_moment() {
        let (cold, fresh, loading) = (found(10, false, 0), found(10, true, 0), found(0, false, 10));
        let (nothing, both) = (found(0, false, 0), found(10, false, 10));
        const NO_WAIT: Duration = Duration::ZERO;
        for (partitions, done_after) in [
            (vec![&cold, &nothing], NO_WAIT),
            (vec![&cold, &loading], COLD_WAIT),
            (vec![&loading, &nothing], COLD_WAIT),
            (vec![&fresh, &nothing], NO_WAIT),
            (vec![&fresh, &loading], FRESH_WAIT),
            (vec![&nothing, &nothing], WAIT),
            (vec![&both, &nothing], COLD_WAIT),
        ] {
            let partitions: Vec<_> = partitions
                .into_iter()
                .map(|result| found(result.bytes, result.fresh, result.loading_bytes))
                .collect();
            let waits = [NO_WAIT, FRESH_WAIT, WAIT, COLD_WAIT];
            let first = waits.into_iter().find(|wait| state(&partitions).is_done(BEGUN.plus(*wait), false));
            assert_eq!(first, Some(done_after), "{partitions:?}");
            let given_up = FetchRequestState { given_up: true, ..state(&partitions) };
            assert!(given_up.is_done(BEGUN, false), "{partitions:?}");
        }
    }

    #[test]
    fn long_polls_end_together_and_none_too_early() {
        let deadline = |after: u64, wait| {
            let begun = BEGUN.plus(Duration::from_micros(after));
            let ends = FetchRequestState { begun, wait, ..state(&[found(0, false, 0)]) }.deadline();
            ends.since(BEGUN)
        };
        let short = LONG_POLL - Duration::from_nanos(1);
        assert_eq!(deadline(7, short), (short + Duration::from_micros(7)).as_nanos() as u64);
        let ends: Vec<u64> = [1, 2_500, 5_000, 5_001].map(|after| deadline(after, LONG_POLL) / 1000).to_vec();
        assert_eq!(ends, [105_000, 105_000, 105_000, 110_000], "microseconds");
    }

    #[test]
    fn what_several_logs_give_at_least_is_no_more_than_fits() {
        let answer = |bytes| {
            let records = vec![bytes::Bytes::from(vec![0; bytes])];
            let (next, high_watermark) = (Offset(1), Offset(1));
            Answer::Read(vec![ReadResult { records, next, high_watermark, ..found(bytes, true, 0) }])
        };
        for (given, taken) in [([600, 400], [600, 400]), ([600, 401], [600, 0]), ([5000, 1], [5000, 0])] {
            let nothing = found(0, false, 0);
            let mut state = state(&[nothing, found(0, false, 0)]);
            state.min_bytes = 1000;
            state.calls = vec![Some(vec![0]), Some(vec![1])];
            state.outstanding = 2;
            // Whoever answers first.
            for call in [1, 0] {
                state.on_answer(call, answer(given[call as usize]));
            }
            let bytes: Vec<_> = state.parts.iter().map(|part| part.result.bytes).collect();
            assert_eq!(bytes, taken, "{given:?}");
            let looks: Vec<_> =
                state.parts.iter().map(Part::look).map(|look| (look.found, look.waits)).collect();
            assert_eq!(looks[0], (true, true));
            assert_eq!(looks[1], if taken[1] > 0 { (true, true) } else { (false, false) }, "there is more");
            assert!(state.is_done(BEGUN, false), "it would wait for what does not fit: {given:?}");
        }
    }

    #[test]
    fn what_was_fresh_stays_so_when_more_is_found() {
        let mut state = state(&[found(10, true, 10)]);
        state.parts[0].add(found(10, false, 0));
        let result = &state.parts[0].result;
        assert_eq!((result.bytes, result.fresh, result.is_loading()), (20, true, false));
        state.parts[0].add(ReadResult { error: Some(CallError::Storage), ..found(0, false, 0) });
        assert_eq!(state.parts[0].result.bytes, 20, "the error comes with the next fetch");
    }
}
