"""Pretraining from end to end: read records, start or go on, train, evaluate, save, report.

Devlin et al., 2019, sections 3.1 and A.2: the masked language model and next sentence prediction
over one encoder. https://arxiv.org/abs/1810.04805

Training is resumable to the bit (see `bert_keras.training`): the same call goes on where an
interrupted one stopped.
"""

import contextlib
import logging
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from bert_keras import checkpoint, models, training
from bert_keras.checkpoint import formats
from bert_keras.checkpoint.config_file import read_config_file
from bert_keras.data.record_manifest import Manifest
from bert_keras.errors import InputError
from bert_keras.text_model import TextModel, check_vocabulary
from bert_keras.training import replicas, throughput
from bert_keras.training.log import Work
from bert_keras.training.loss_guard import LossGuard
from bert_keras.training.pretraining_losses import pretraining_losses
from bert_keras.training.weight_average import WeightAverage
from tasks import (
    output,
    pretrain_data,
    pretrain_evaluation,
    pretrain_records,
    pretrain_report,
)
from tasks.pretrain_settings import PretrainSettings

_logger = logging.getLogger(__name__)


def pretrain(
    settings: PretrainSettings,
    output_dir: str | pathlib.Path,
    *,
    do_train: bool = False,
    do_eval: bool = False,
    eval_input_file: str | None = None,
    eval_batch_size: int = 8,
    max_eval_steps: int = 100,
    save_checkpoints_steps: int = 1000,
    keep_checkpoint_max: int = 5,
    log_steps: int = 10,
    guard: LossGuard | None = None,
    command: Sequence[str] = (),
    say: Callable[[str], object] = _logger.info,
) -> dict[str, Any]:
    """Trains and evaluates as asked, and writes everything into `output_dir`.

    Args:
        settings: what decides the numbers; a run of others is not gone on with.
        output_dir: gets the model directory with both heads, `eval_results.txt` and `.json`,
            `run.json`, `loss.png`, and the run's checkpoints and metrics. New, empty, or of the
            same settings.
        do_train: train.
        do_eval: evaluate at the end, and with `eval_input_file` at every checkpoint. Without
            training the model in `init_checkpoint`, or else in `output_dir`, is evaluated.
        eval_input_file: held-out records, as `input_file`; by default the training set, as in
            google-research/bert.
        eval_batch_size: rows of an evaluation batch.
        max_eval_steps: batches of an evaluation.
        save_checkpoints_steps: steps between checkpoints.
        keep_checkpoint_max: how many stay, beside the best on the held-out set.
        log_steps: steps between lines of metrics.
        guard: what to do about a bad loss.
        command: the command line, for `run.json`.
        say: is told each thing worth a line.

    Returns:
        google's metrics, `perplexity`, `unigram_entropy`, counts, and under "training" what
        `training.fit` returns.

    Raises:
        InputError: a file, a flag or the checkpoint is wrong; nothing was written.
    """
    first = replicas.is_first()  # Several processes compute the same; the first writes and speaks.
    say = say if first else _logger.debug
    output_dir = pathlib.Path(output_dir)
    if not (do_train or do_eval):
        raise InputError("nothing to do: give --do_train or --do_eval")
    data = {"train": settings.input_file} if do_train else {}
    data |= {"eval": eval_input_file or settings.input_file} if do_eval else {}
    trained_on = settings.input_files if do_train else []
    manifests = pretrain_records.read_manifests(settings, [*trained_on, *data.values()])
    train = pretrain_data.train_batches(settings, manifests) if do_train else None
    held_out = None
    if do_eval:
        # Rows as the last phase has them; the masks of epoch 0, always the same.
        held_out = pretrain_data.open_records(
            data["eval"],
            manifests,
            eval_batch_size,
            settings.phases[-1],
            settings,
        )
    fingerprint = _fingerprint(settings, manifests) if do_train else None
    output.check(output_dir, fingerprint)
    with contextlib.ExitStack() as stack:
        if do_train and settings.data_parallel:
            stack.enter_context(replicas.on_all_devices())
            for phase in settings.phases:
                replicas.check_rows(phase.train_batch_size, settings.gradient_accumulation_steps)
        model = _start(settings, say) if do_train else _finished(settings, output_dir)
        entropy = pretrain_evaluation.unigram_entropy(train or held_out)  # type: ignore[arg-type]
        vocab_size = model.network.config.vocab_size
        average = None
        if do_train and settings.ema_momentum is not None:
            average = WeightAverage(model.network, settings.ema_momentum)

        if first:
            output.clean(output_dir)
        if first and (fingerprint is not None or not (output_dir / output.RUN_NAME).exists()):
            seed, init = settings.random_seed, settings.init_checkpoint
            told = {
                n: pretrain_records.described(path, manifests[path]) for n, path in data.items()
            }
            output.write_run(output_dir, command, seed, fingerprint, told, init)

        def measured() -> dict[str, float]:
            assert held_out is not None
            with average.in_place() if average else contextlib.nullcontext():
                mask_id = model.tokenizer.vocabulary.mask_id
                return pretrain_evaluation.measure(model.network, held_out, max_eval_steps, mask_id)

        results: dict[str, Any] = {}
        if train is not None:
            during = do_eval and eval_input_file is not None
            say(f"training {settings.num_train_steps} steps; {_device(settings)}")
            summary = training.fit(
                model.network,
                train,
                loss=pretraining_losses,
                optimizer=settings.make_optimizer(),
                num_epochs=1,
                work_dir=output_dir,
                save_checkpoints_steps=save_checkpoints_steps,
                keep_checkpoints=keep_checkpoint_max,
                best_metric="masked_lm_loss" if during else None,
                accumulation_steps=settings.gradient_accumulation_steps,
                jit_compile=settings.jit_compile,
                evaluate=measured if during else None,
                evaluate_steps=save_checkpoints_steps,
                guard=guard,
                average=average,
                work=_work(model.network, settings),
                run_info=fingerprint,
                seed=settings.random_seed,
                log_steps=log_steps,
            )
            if average is not None:
                average.use()
                average = None  # The network has it now.
            results["training"] = summary
            loss = summary.get("masked_lm_loss")
            picture = None
            if first:
                checkpoint.save(model, output_dir)
                picture = pretrain_report.draw_losses(output_dir, vocab_size, entropy)
            say(f"wrote the model directory {output_dir}; {_speed(summary)}")
            if picture is not None:
                say(f"wrote {picture}")
        if do_eval:
            found = measured()
            loss = found["masked_lm_loss"]
            step = settings.num_train_steps if do_train else _steps_of(output_dir)
            results = {"global_step": step, **found, **results}
        results["unigram_entropy"] = entropy
        results["health"] = pretrain_report.health(loss, vocab_size, entropy)
        say(results["health"])
        if do_eval and first:
            pretrain_report.write_results(output_dir, results)
            shown = [f"{n} {results[n]:.4f}" for n in pretrain_report.METRICS[1:] if n in results]
            say(f"wrote {output_dir / 'eval_results.txt'}: {', '.join(shown)}")
        return results


def _start(settings: PretrainSettings, say: Callable[[str], object]) -> TextModel:
    """A Pretrainer with new weights, or with those of a checkpoint, and the records' tokenizer."""
    tokenizer = pretrain_records.read_tokenizer(settings)
    source = checkpoint.resolve(settings.init_checkpoint) if settings.init_checkpoint else None
    left_to_right = settings.left_to_right
    if source:
        config, reads_left = checkpoint.read_encoder_config(source, settings.bert_config_file)
        left_to_right = left_to_right or reads_left
    elif settings.bert_config_file:
        _, config, _ = read_config_file(settings.bert_config_file)
    else:
        raise InputError("--do_train needs --bert_config_file, or --init_checkpoint")
    check_vocabulary(tokenizer, config, settings.vocab_file or settings.input_file)
    for phase in settings.phases:
        if phase.max_seq_length > config.max_position_embeddings:
            raise InputError(
                f"--max_seq_length={phase.max_seq_length}: the model has max_position_embeddings="
                f"{config.max_position_embeddings}; give at most that"
            )
    keras.utils.set_random_seed(settings.random_seed)
    network = models.Pretrainer(
        config,
        unpad=keras.backend.backend() == "tensorflow" and not settings.jit_compile,
        left_to_right=left_to_right,
        dtype=settings.dtype,
    )
    network.encoder.remat = settings.remat
    if source:
        _fill(network, source, settings, say)
    longest = max(phase.max_seq_length for phase in settings.phases)
    return TextModel(network, tokenizer, task={"max_seq_length": longest})


def _fill(
    network: models.Pretrainer,
    source: pathlib.Path,
    settings: PretrainSettings,
    say: Callable[[str], object],
) -> None:
    """Takes encoder and heads from a checkpoint of any format; where it lacks heads, new ones."""
    try:
        loaded = formats.load_network(
            source,
            config_file=settings.bert_config_file,
            head="pretraining",
            dtype=settings.dtype,
        ).network
    except checkpoint.CheckpointMismatch:
        report = checkpoint.load_encoder_weights(
            network, source, config_file=settings.bert_config_file, allow_missing=["pooler"]
        )
        say(f"{source}: has not both heads of pretraining; {len(report.fresh)} tensors are new")
        return
    for variable, value in zip(network.weights, loaded.weights, strict=True):
        variable.assign(value)


def _finished(settings: PretrainSettings, output_dir: pathlib.Path) -> TextModel:
    source = settings.init_checkpoint or str(output_dir)
    return checkpoint.load(
        source, head="pretraining", config_file=settings.bert_config_file, dtype=settings.dtype
    )


def _fingerprint(settings: PretrainSettings, manifests: Mapping[str, Manifest]) -> dict[str, Any]:
    """The settings, with files by what they hold."""
    told = settings.to_dict()
    for part in (told, *told["phases"]):
        if path := part["input_file"]:
            part["input_file"] = pretrain_records.described(path, manifests[path])["sha256"]
    if settings.vocab_file:
        told["vocab_file"] = output.sha256(settings.vocab_file)
    if settings.init_checkpoint:
        told["init_checkpoint"] = output.checkpoint_sha256(settings.init_checkpoint)
    if settings.bert_config_file:
        told["bert_config_file"] = output.sha256(settings.bert_config_file)
    return told


def _steps_of(output_dir: pathlib.Path) -> int:
    steps = sorted((output_dir / "checkpoints").glob("step-*"))
    return int(steps[-1].name.removeprefix("step-")) if steps else 0


def _work(network: models.Pretrainer, settings: PretrainSettings) -> Work:
    peak = throughput.peak_flops(throughput.device_name(), settings.dtype)
    peak = peak and peak * replicas.device_count()
    return Work(lambda batch: throughput.training_flops(network.config, batch), peak)


def _device(settings: PretrainSettings) -> str:
    name, devices = throughput.device_name(), replicas.device_count()
    peak = throughput.peak_flops(name, settings.dtype)
    several = f"{devices} x " if devices > 1 else ""
    return f"on {several}{name}, {settings.dtype}, " + (
        f"peak {peak / 1e12:.0f} TFLOP/s" if peak else "peak not known, so no MFU"
    )


def _speed(summary: dict[str, Any]) -> str:
    told = f"{summary['tokens_per_second']:,.0f} real tokens/s"
    if "padding_share" in summary:
        told += f", {summary['padding_share']:.1%} padding"
    told += f", {summary.get('teraflops', 0.0):.3g} TFLOP/s"
    return told + (f", MFU {summary['mfu']:.1%}" if "mfu" in summary else "")
