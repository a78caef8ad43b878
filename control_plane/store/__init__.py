"""State on disk: what was answered is there after a crash."""
