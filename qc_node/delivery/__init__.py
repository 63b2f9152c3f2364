"""The post: a durable outbox, C-STORE, storage commitment, retries."""
