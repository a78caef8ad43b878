"""What happens, for the log, the audit log and whoever watches."""
