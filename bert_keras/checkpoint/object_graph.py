"""The tree of objects in a TensorFlow checkpoint: who owns which variable, under which names."""

from bert_keras.checkpoint.tf_checkpoint import VALUE_SUFFIX, TFCheckpoint
from bert_keras.errors import InputError


class ObjectGraph:
    """The objects of a checkpoint by number, 0 the root, each with its children by name.

    An object may be reached on several paths; the checkpoint keeps its variables under one.

    Args:
        checkpoint: one that was saved by `tf.train.Checkpoint`.

    Raises:
        InputError: the graph is damaged.
    """

    def __init__(self, checkpoint: TFCheckpoint) -> None:
        from tensorflow.core.protobuf import trackable_object_graph_pb2

        contents = checkpoint.object_graph()
        try:
            graph = trackable_object_graph_pb2.TrackableObjectGraph.FromString(contents)
        except Exception as error:  # google.protobuf's DecodeError
            raise InputError(
                f"{checkpoint.source}: its object graph is damaged ({error}). Copy or download it "
                "again."
            ) from None
        count = len(graph.nodes)
        self._children = [
            {child.local_name: child.node_id for child in node.children if child.node_id < count}
            for node in graph.nodes
        ] or [{}]
        self._keys = [
            next((each.checkpoint_key for each in node.attributes if each.checkpoint_key), None)
            for node in graph.nodes
        ] or [None]
        self._paths = self._shortest_paths()

    def having(self, *names: str) -> int | None:
        """Returns the one object that has all of these children; None if none or several have."""
        found = [
            node
            for node, children in enumerate(self._children)
            if node in self._paths and children.keys() >= set(names)
        ]
        return found[0] if len(found) == 1 else None

    def child(self, node: int | None, path: str) -> int | None:
        """Returns the object at the end of `path` (names with slashes) from `node`, or None."""
        for name in path.split("/"):
            node = None if node is None else self._children[node].get(name)
        return node

    def children_ending(self, ending: str) -> list[int]:
        """Returns the root's children whose names end so."""
        return [node for name, node in self._children[0].items() if name.endswith(ending)]

    def path(self, node: int) -> str:
        """Returns the shortest path of names from the root to an object."""
        return self._paths[node]

    def name(self, node: int, path: str) -> str:
        """Returns the name in the checkpoint of the variable at `path` from `node`.

        Where there is no such variable, it is the name that it would have.
        """
        variable = self.child(node, path)
        key = None if variable is None else self._keys[variable]
        if key is not None:
            return key.removesuffix(VALUE_SUFFIX)
        return "/".join(part for part in (self._paths[node], path) if part)

    def _shortest_paths(self) -> dict[int, str]:
        paths, queue = {0: ""}, [0]
        for node in queue:
            for name, child in self._children[node].items():
                if child not in paths:
                    paths[child] = f"{paths[node]}/{name}" if paths[node] else name
                    queue.append(child)
        return paths
