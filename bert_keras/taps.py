"""What a study asks of the encoder, and what it changes inside."""

import dataclasses
from typing import Any

OUTPUTS = ("hidden_states", "attention_scores", "queries", "keys", "values")


@dataclasses.dataclass(frozen=True, eq=False)
class Taps:
    """Looks and cuts inside the encoder; without one, its graph is untouched.

    A class of its own, because Keras refuses a dict in which tensors and names are mixed.

    Attributes:
        outputs: names in `OUTPUTS` to add to the result: `hidden_states` (L + 1 of
            [B, T, D], the embeddings first), `attention_scores` (L of float32 [B, N, T, T],
            rows sum to 1), `queries`, `keys`, `values` (L of [B, N, T, H], as projected).
        head_gates: float [L, N] or [B, L, N]; multiplies each head's output before the heads
            are merged. The gradient of the loss by it is a head's importance (Michel et al.,
            2019, section 4.1: https://arxiv.org/abs/1905.10650).
        ffn_gates: float [L, F]; multiplies the activations between W₁ and W₂.
    """

    outputs: tuple[str, ...] = ()
    head_gates: Any = None
    ffn_gates: Any = None

    def __post_init__(self) -> None:
        for name in self.outputs:
            if name not in OUTPUTS:
                raise ValueError(
                    f"`outputs` may name {', '.join(OUTPUTS)}. Received outputs={self.outputs!r}."
                )

    def head_gate(self, layer: int) -> Any:
        """Returns the gates of one layer's heads, [N] or [B, N], or None."""
        return None if self.head_gates is None else self.head_gates[..., layer, :]

    def ffn_gate(self, layer: int) -> Any:
        """Returns the gates of one layer's feed-forward, [F], or None."""
        return None if self.ffn_gates is None else self.ffn_gates[layer]


NO_TAPS = Taps()
