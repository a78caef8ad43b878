"""State on disk: what a caller was told is done is there after a crash."""
