//! Laws of the Kafka codec, for every API and version.
//!
//! `oracle`: another implementation reads and writes the same. `docs`: the protocol table is what the
//! code supports. Hostile bytes are `tests/fuzz`.

mod docs;
mod generator;
mod oracle;
mod random;
