"""The project: settings, addresses, health, logs."""
