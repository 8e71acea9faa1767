//! InitProducerId: an identity for an idempotent producer.
//!
//! Ids come in blocks from the metadata log, one durable write for many producers. Transactions are not
//! there yet, so a transactional id is refused.

use std::cell::Cell;

use super::{Outcome, Pending, unexpected};
use crate::kafka::context::Context;
use crate::kafka::protocol::messages::{InitProducerIdRequest, InitProducerIdResponse};
use crate::kafka::protocol::wire::Writer;
use crate::kafka::protocol::{ErrorCode, Message};
use crate::model::{LogId, ProducerId};
use crate::shard::call::{AdminCall, AdminError, Answer, Call};

/// The producer ids that the metadata log gave to this shard. What is left at the end is never used.
#[derive(Debug, Default)]
pub struct ProducerIds {
    next: Cell<i64>,
    end: Cell<i64>,
}

impl ProducerIds {
    fn take(&self) -> Option<ProducerId> {
        let next = self.next.get();
        (next < self.end.get()).then(|| {
            self.next.set(next + 1);
            ProducerId(next)
        })
    }

    /// Takes the first id of a new block; the others are for the next.
    fn refill(&self, first: ProducerId, count: u32) -> ProducerId {
        assert!(count > 0, "a block has ids");
        // Several producers may have found the former block empty, and each brings a block: the last stays.
        self.next.set(first.0 + 1);
        self.end.set(first.0 + i64::from(count));
        first
    }
}

pub fn handle(
    ctx: &Context<'_>,
    version: i16,
    request: InitProducerIdRequest<'_>,
    out: &mut Writer<'_>,
) -> Outcome {
    // An id without an epoch, or the other way round, is a client's bug. Both are legal, and forgotten: who
    // has no transactions gets a new identity.
    let is_half_known = (request.producer_id == -1) != (request.producer_epoch == -1);
    if request.transactional_id.is_some() || is_half_known {
        // Of the codes that end a transactional producer, the one that tells of an incompatible broker.
        reply(Err(ErrorCode::INVALID_REQUEST), version, out);
        return Outcome::Reply;
    }
    if let Some(id) = ctx.producer_ids.take() {
        reply(Ok(id), version, out);
        return Outcome::Reply;
    }
    let calls = vec![(LogId::METADATA, Call::Admin(AdminCall::AllocateProducerIds))];
    Outcome::Wait { calls, pending: Box::new(InitProducerId { version, block: None }) }
}

struct InitProducerId {
    version: i16,
    block: Option<Result<(ProducerId, u32), AdminError>>,
}

impl Pending for InitProducerId {
    fn on_answer(&mut self, _: u32, answer: Answer) -> Vec<(LogId, Call)> {
        let Answer::ProducerIds(block) = answer else { unexpected(&answer) };
        self.block = Some(block);
        Vec::new()
    }

    fn encode(&mut self, ctx: &Context<'_>, out: &mut Writer<'_>) {
        let id = match self.block.take().expect("the call was answered") {
            Ok((first, count)) => Ok(ctx.producer_ids.refill(first, count)),
            // Whatever it was, the one code with which every client simply asks again.
            Err(_) => Err(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS),
        };
        reply(id, self.version, out);
    }
}

fn reply(id: Result<ProducerId, ErrorCode>, version: i16, out: &mut Writer<'_>) {
    let response = match id {
        Ok(id) => InitProducerIdResponse { producer_id: id.0, ..Default::default() },
        Err(error_code) => InitProducerIdResponse { error_code, producer_epoch: -1, ..Default::default() },
    };
    response.encode(out, version);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::handlers::testing::{World, decode};
    use crate::shard::call::CallError;

    fn id_of(body: &[u8]) -> Result<(i64, i16), ErrorCode> {
        let response: InitProducerIdResponse = decode(body, 4);
        let id = (response.producer_id, response.producer_epoch);
        if response.error_code.is_error() {
            assert_eq!(id, (-1, -1));
            return Err(response.error_code);
        }
        Ok(id)
    }

    #[test]
    fn a_block_serves_many_producers() {
        let world = World::default();
        let mut block = 0;
        let ids: Vec<_> = (0..5)
            .map(|_| {
                let body = world.ask(4, &InitProducerIdRequest::default(), |log, call| {
                    assert_eq!(log, LogId::METADATA);
                    assert!(matches!(call, Call::Admin(AdminCall::AllocateProducerIds)));
                    block += 100;
                    Answer::ProducerIds(Ok((ProducerId(block), 3)))
                });
                id_of(&body).expect("granted")
            })
            .collect();
        assert_eq!(ids, [(100, 0), (101, 0), (102, 0), (200, 0), (201, 0)]);
    }

    #[test]
    fn a_metadata_log_that_fails_is_asked_again() {
        let world = World::default();
        let failed = AdminError::Log(CallError::Storage);
        let body =
            world.ask(4, &InitProducerIdRequest::default(), |_, _| Answer::ProducerIds(Err(failed.clone())));
        assert_eq!(id_of(&body), Err(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS));
        let body = world.ask(4, &InitProducerIdRequest::default(), |_, _| {
            Answer::ProducerIds(Ok((ProducerId(i64::from(u32::MAX)), 1)))
        });
        assert_eq!(id_of(&body), Ok((i64::from(u32::MAX), 0)));
    }

    #[test]
    fn what_is_refused() {
        let plain = InitProducerIdRequest::default();
        let table = [
            InitProducerIdRequest { transactional_id: Some("t"), ..plain.clone() },
            InitProducerIdRequest { transactional_id: Some(""), ..plain.clone() },
            InitProducerIdRequest { producer_id: 5, ..plain.clone() },
            InitProducerIdRequest { producer_epoch: 5, ..plain },
        ];
        for request in table {
            let body = World::default().reply(4, &request);
            assert_eq!(id_of(&body), Err(ErrorCode::INVALID_REQUEST), "{request:?}");
        }
    }
}
