"""TensorFlow Serving's API over HTTP and gRPC: models, their versions, batches, limits, metrics.

`server.py` puts the parts together. A request comes in by `rest.py` or `grpc_service.py`, finds its
model in `model_registry.py` and its version in `model_store.py`, and `runner.py` takes it to the
graph, with others where `batching.py` joins them.
"""
