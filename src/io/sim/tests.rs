//! Stories of one machine: what the simulated kernel promises to shards, jobs and clients.
