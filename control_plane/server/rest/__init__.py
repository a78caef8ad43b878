"""The discovery services over REST-JSON, polled."""
