"""Operations that a TensorFlow Serving release does not link are refused by name."""

import pytest
import tensorflow as tf
import tensorflow_text as tf_text

from bert_keras.errors import InputError
from bert_keras.serving.export.op_check import check_ops


def save(function, directory, spec=None):
    module = tf.Module()
    module.f = tf.function(function, input_signature=[spec or tf.TensorSpec([None], tf.string)])
    tf.saved_model.save(module, str(directory), signatures={"serving_default": module.f})
    return directory


def test_plain_ops_pass_and_are_listed(tmp_path):
    used = check_ops(save(lambda text: {"y": tf.strings.length(text)}, tmp_path / "m"))
    assert "StringLength" in used and "StatefulPartitionedCall" not in used[:0]


def test_wordpiece_passes_for_every_release(tmp_path):
    tokenizer = tf_text.FastBertTokenizer(
        ["[PAD]", "[UNK]", "a", "b", "##b"], lower_case_nfd_strip_accents=True
    )
    path = save(lambda text: {"y": tokenizer.tokenize(text).flat_values}, tmp_path / "m")
    for target in ("2.15", "2.19", "2.20"):
        assert "FastWordpieceTokenizeWithOffsets" in check_ops(path, target)


def test_round_robin_trim_needs_2_20(tmp_path):
    """The op on which KerasHub's exports fail in TensorFlow Serving before 2.20."""

    def trim(text):
        tokens = tf.strings.split(text)
        return {"y": tf_text.RoundRobinTrimmer(4).trim([tokens])[0].flat_values}

    path = save(trim, tmp_path / "m")
    with pytest.raises(InputError, match=r"TFText>RoundRobinTrim in .*TensorFlow Serving 2\.15"):
        check_ops(path)
    with pytest.raises(InputError, match="TFText>RoundRobinTrim"):
        check_ops(path, "2.19")
    assert "TFText>RoundRobinTrim" in check_ops(path, "2.20")


def test_python_inside_the_graph_is_refused(tmp_path):
    def python(text):
        y = tf.numpy_function(lambda x: x, [text], tf.string)
        return {"y": tf.ensure_shape(y, [None])}

    with pytest.raises(InputError, match="PyFunc.* needs Python"):
        check_ops(save(python, tmp_path / "m"), "2.20")


def test_reading_files_is_refused_even_inside_a_branch(tmp_path):
    def read(text):
        here = tf.reduce_any(text == "x")
        content = tf.cond(here, lambda: tf.io.read_file("/etc/passwd"), lambda: tf.constant(""))
        return {"y": tf.strings.join([text, content])}

    with pytest.raises(InputError, match="ReadFile in .* needs"):
        check_ops(save(read, tmp_path / "m"))


def test_an_op_newer_than_the_target_is_refused(tmp_path):
    def new(images):
        return {"y": tf.raw_ops.DecodeWebP(contents=images[0], channels=3)}

    path = save(new, tmp_path / "m")
    with pytest.raises(InputError, match=r"DecodeWebP in .* not known to TensorFlow Serving 2\.15"):
        check_ops(path)
    assert "DecodeWebP" in check_ops(path, "2.20")


def test_what_is_no_saved_model_is_one_line(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        check_ops(tmp_path)
    (tmp_path / "saved_model.pb").write_bytes(b"\xff\xff nonsense")
    with pytest.raises(InputError, match="not a SavedModel"):
        check_ops(tmp_path)
    with pytest.raises(InputError, match="choose one of 2.15"):
        check_ops(tmp_path, "1.15")
