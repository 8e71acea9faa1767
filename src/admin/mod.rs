//! What the operator sees: metrics, health, latency by stage. Ordinary threads.
