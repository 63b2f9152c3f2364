"""The engine: the queue of series, the worker process, the registry of classifiers, checks against the order."""
