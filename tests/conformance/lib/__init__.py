"""What the suites in Python share: a broker, the report, tool environments, client programs."""
