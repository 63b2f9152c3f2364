"""The outbox: reports are written and delivered; retries, storage commitment."""
