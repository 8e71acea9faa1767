//! Kafka messages, declared once.
