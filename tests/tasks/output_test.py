"""Which folders a run may write into."""

import pytest

from bert_keras import files
from bert_keras.errors import InputError
from tasks import output


def test_training_spares_a_model_that_was_only_evaluated(tmp_path):
    files.write_json(tmp_path / "config.json", {})
    files.write_json(tmp_path / "run.json", {"settings": None})
    output.check(tmp_path, None)
    with pytest.raises(InputError, match="holds a model that no run here trained"):
        output.check(tmp_path, {"task": "x"})
