"""The files that TensorFlow Serving, Docker Compose and Kubernetes run an export with."""
