//! Bytes from peers that mean harm. No bytes make a decoder panic, or take memory that they do not pay for.

use ringmq::kafka::protocol::api::schemas;
