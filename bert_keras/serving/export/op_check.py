"""Which operations a SavedModel uses, and whether a TensorFlow Serving release knows them.

The server links TensorFlow's own ops and one release of TensorFlow Text: 2.12.1 in TF Serving 2.15
to 2.19, 2.20.0 in 2.20 (`tensorflow_serving/workspace.bzl` of each branch). An export that
uses anything else loads here and fails there with "Op type not registered".
"""

import pathlib
from collections.abc import Iterator

from tensorflow.core.framework import op_def_pb2
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.client import pywrap_tf_session

from bert_keras.errors import InputError

TARGETS = ("2.15", "2.16", "2.17", "2.18", "2.19", "2.20")
OLDEST_TARGET = TARGETS[0]

# TensorFlow Text ops in the 2.12.1 release.
_TEXT_2_12 = frozenset(
    """
    CaseFoldUTF8 ConstrainedSequence FastBertNormalize FastWordpieceTokenizeWithOffsets
    FindSourceOffsets MaxSpanningTree NormalizeUTF8 NormalizeUTF8WithOffsetsMap PhraseTokenize
    RegexSplitWithOffsets RougeL SentenceFragments SentenceFragmentsV2 SentencepieceDetokenizeOp
    SentencepieceIdToStringOp SentencepieceOp SentencepieceStringToIdOp SentencepieceTokenizeOp
    SentencepieceTokenizeWithOffsetsOp SentencepieceVocabSizeOp SplitMergeTokenizeWithOffsets
    TFText>BoiseTagsToOffsets TFText>ByteSplitByOffsets TFText>ByteSplitWithOffsets
    TFText>FastSentencepieceDetokenize TFText>FastSentencepieceTokenize
    TFText>FastWordpieceDetokenize TFText>NgramsStringJoin TFText>OffsetsToBoiseTags
    TFText>PhraseDetokenize TFText>WhitespaceTokenizeWithOffsetsV2 TokenizerFromLogits
    UnicodeScriptTokenizeWithOffsets WhitespaceTokenizeWithOffsets WordpieceTokenizeWithOffsets
    """.split()
)
_TEXT_2_20 = _TEXT_2_12 | {
    "TFText>RoundRobinGenerateMasks",
    "TFText>RoundRobinTrim",
    "TFText>Utf8Binarize",
}

# TensorFlow's own ops that came after 2.15 (those for TPUs, "Xla...", go by their prefix).
_CORE_AFTER_2_15 = frozenset(
    """
    CalibrationStatisticsSaver CheckPinned ComputeDedupDataSize ComputeDedupDataSizeV2
    ComputeDedupDataTupleMaskV2 ConvertToCooTensor ConvertToListOfSparseCoreCooTensors
    ConvertToSparseCoreCsrWrappedCooTensor DatasetFingerprint DecodeWebP FinalizeTPUEmbeddingV2
    GetMinibatchSplitsWithPhysicalReplica GetMinibatchesInCsrWithPhysicalReplica
    GetStatsFromListOfSparseCoreCooTensors GetTpuTaskId GlobalIterId GlobalShuffleDataset
    IndexFlatMapDataset IteratorGetModelProto ListSnapshotChunksDataset
    SortListOfSparseCoreCooTensors StoreMinibatchStatisticsInFdo TPUAnnotateTensorsWithDynamicShape
    TPUCopyWithDynamicShape TPUDummyInput UpdateTaskIdAndGlobalCoreArray WeightedFlatMapDataset
    """.split()
)

# Registered everywhere, but they run Python, or reach for files of the machine they run on.
_NEVER = frozenset(
    "PyFunc PyFuncStateless EagerPyFunc ReadFile WriteFile MatchingFiles ImmutableConst "
    "LoadLibrary InitializeTableFromTextFile InitializeTableFromTextFileV2".split()
)


def check_ops(directory: str | pathlib.Path, target: str = OLDEST_TARGET) -> list[str]:
    """Checks a SavedModel against what a TensorFlow Serving release links.

    Args:
        directory: one version, with its `saved_model.pb`.
        target: the release, "2.15" to "2.20".

    Returns:
        The names of all operations used, sorted.

    Raises:
        InputError: naming the operations that the release does not know, and the functions that
            they stand in; or those that need Python or files of this machine.
    """
    if target not in TARGETS:
        raise InputError(
            f"TensorFlow Serving {target} is no known target; choose one of {', '.join(TARGETS)}."
        )
    text_ops = _TEXT_2_20 if target == "2.20" else _TEXT_2_12
    core = _registered_ops() - _TEXT_2_20
    used: dict[str, str] = {}
    for name, place in _nodes(pathlib.Path(directory) / "saved_model.pb"):
        used.setdefault(name, place)
    faults = []
    for name, place in sorted(used.items()):
        if name in _NEVER:
            faults.append(f"{name} in {place} needs Python or files of the machine it runs on")
        elif name in text_ops:
            continue
        elif name in _TEXT_2_20 or name not in core or (target != "2.20" and _is_new(name)):
            faults.append(f"{name} in {place} is not known to TensorFlow Serving {target}")
    if faults:
        raise InputError(f"{directory}: {'; '.join(faults)}.")
    return sorted(used)


def _is_new(name: str) -> bool:
    return name in _CORE_AFTER_2_15 or name.startswith(("Xla", "_"))


def _nodes(file: pathlib.Path) -> Iterator[tuple[str, str]]:
    """Yields (operation, where it stands) for the graph and every function in its library."""
    try:
        model = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    except FileNotFoundError:
        raise InputError(f"{file}: no such file; expected a SavedModel.") from None
    except Exception:
        raise InputError(f"{file}: not a SavedModel, or cut short.") from None
    for meta_graph in model.meta_graphs:
        functions = {f.signature.name for f in meta_graph.graph_def.library.function}
        for node in meta_graph.graph_def.node:
            if node.op not in functions:
                yield node.op, "the main graph"
        for function in meta_graph.graph_def.library.function:
            for node in function.node_def:
                if node.op not in functions:
                    yield node.op, function.signature.name


def _registered_ops() -> set[str]:
    buffer = pywrap_tf_session.TF_GetAllOpList()
    ops = op_def_pb2.OpList.FromString(pywrap_tf_session.TF_GetBuffer(buffer))
    return {op.name for op in ops.op}
