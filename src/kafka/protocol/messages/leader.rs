//! Where a partition's leader went: what produce and fetch responses tell a client that asked the wrong
//! broker (KIP-951).

use crate::kafka::protocol::schema::message;

message! {
    /// The leader of a partition, as the answering broker knows it.
    pub struct LeaderIdAndEpoch {
        /// -1 when unknown.
        leader_id: i32 = -1, 0+;
        leader_epoch: i32 = -1, 0+;
    }

    /// The address of a broker that the response mentions.
    pub struct NodeEndpoint<'a> {
        node_id: i32, 0+;
        host: &'a str, 0+;
        port: i32, 0+;
        rack: Option<&'a str>, 0+;
    }
}
