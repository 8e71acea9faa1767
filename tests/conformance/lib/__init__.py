"""What the conformance runner and the crash loops share: a broker, tool environments, client programs."""
