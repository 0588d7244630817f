"""`hf://owner/name[@revision]`: the few files that a model needs, from the Hugging Face Hub."""

import os
import pathlib
import re
from typing import TypeGuard

from bert_keras.errors import InputError

SCHEME = "hf://"

# The files that are read, and no other: no pickle is ever fetched.
PATTERNS = (
    "config.json",
    "task.json",
    "vocab.txt",
    "tokenizer.json",
    "tokenizer_config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "model-*-of-*.safetensors",
    # A KerasHub preset.
    "model.weights.h5",
    "task.weights.h5",
    "assets/tokenizer/vocabulary.txt",
)

_PART = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_HANDLE = re.compile(rf"hf://(?P<name>{_PART}/{_PART})(@(?P<revision>{_PART}(/{_PART})*))?")


def is_handle(text: str | os.PathLike[str]) -> TypeGuard[str]:
    """Tells whether `text` is meant for the Hub rather than the disk."""
    return isinstance(text, str) and text.startswith(SCHEME)


def download(handle: str) -> pathlib.Path:
    """Returns the directory, in Hugging Face's cache, with the files of a handle.

    Files already there are not fetched again; a broken download leaves none behind under its
    final name. The cache is `HF_HUB_CACHE` or `HF_HOME`, the server `HF_ENDPOINT`, all as
    huggingface_hub has them. A revision (a branch, a tag or, safest, a commit) follows `@`.

    Raises:
        InputError: the handle is malformed, huggingface_hub is not installed, the model or
            revision does not exist, or the Hub cannot be reached and the cache has no copy.
    """
    match = _HANDLE.fullmatch(handle)
    if match is None:
        raise InputError(f"{handle!r} is malformed; expected hf://owner/name or with @revision.")
    try:
        import huggingface_hub
        from huggingface_hub import errors
    except ImportError:
        raise InputError(
            f"{handle} needs huggingface-hub: pip install 'bert-keras[hub]', or give a directory."
        ) from None
    try:
        return pathlib.Path(
            huggingface_hub.snapshot_download(
                match["name"],
                revision=match["revision"],
                allow_patterns=list(PATTERNS),
                endpoint=os.environ.get("HF_ENDPOINT"),
                cache_dir=os.environ.get("HF_HUB_CACHE"),
            )
        )
    except errors.RevisionNotFoundError:
        reason = f"the model has no revision {match['revision'] or 'main'!r}"
    except errors.GatedRepoError:
        reason = "the model asks for an accepted licence and a token (HF_TOKEN)"
    except errors.RepositoryNotFoundError:
        reason = "there is no such model, or it is private (HF_TOKEN)"
    except errors.LocalEntryNotFoundError:
        reason = "the Hub cannot be reached and the cache has no copy; give a directory instead"
    except Exception as error:  # of whichever HTTP library this huggingface_hub stands on
        reason = f"the download failed ({' '.join(str(error).split())[:200]})"
    raise InputError(f"{handle}: {reason}.") from None
