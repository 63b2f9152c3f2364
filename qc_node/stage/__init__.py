"""The corridor: a bounded queue, a worker process of its own, the model registry, expectations."""
