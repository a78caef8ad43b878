"""What happens, for the log, the audit log and watchers of events."""
