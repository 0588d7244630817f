"""The peer of `text_servers`: transformers on PyTorch behind FastAPI, with dynamic batching.

    python -m benchmarks.fastapi_server --model_dir=MODEL --port=8000 [--dtype=bfloat16]

Written as one would who wants it fast: the fast tokenizer, fused attention, inference mode, uvloop
and httptools under uvicorn where they are installed, and the model in a thread beside the event
loop. Whenever the model is free it takes all requests that wait, up to `--max_batch_size`, with
no timer; they are sorted by length and padded to the longest of at most `--max_rows`.

    POST /classifier:predict  {"texts": [...]} -> {"predictions": [{"label", "probabilities"}]}
"""

import argparse
import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

Answers = Iterator[tuple[list[int], list[Any]]]  # which of the texts, and what is said of them


class Batcher:
    """Answers together what is asked at the same time.

    Args:
        answer: gives the answers to some texts, piece by piece.
        most: texts that it is given at a time.
    """

    def __init__(self, answer: Callable[[list[str]], Answers], most: int):
        self._answer, self._most = answer, most
        self._waiting: asyncio.Queue[tuple[str, asyncio.Future]] = asyncio.Queue()
        self._thread = ThreadPoolExecutor(1)

    async def ask(self, texts: Sequence[str]) -> list[Any]:
        """The answers, in order."""
        loop = asyncio.get_running_loop()
        futures = [loop.create_future() for _ in texts]
        for pair in zip(texts, futures, strict=True):
            self._waiting.put_nowait(pair)
        return await asyncio.gather(*futures)

    async def run(self) -> None:
        """Takes what waits and answers it, for ever."""
        loop = asyncio.get_running_loop()
        while True:
            taken = [await self._waiting.get()]
            while len(taken) < self._most and not self._waiting.empty():
                taken.append(self._waiting.get_nowait())
            await loop.run_in_executor(self._thread, self._work, loop, taken)

    def _work(self, loop: asyncio.AbstractEventLoop, taken: list) -> None:
        open_futures = {place: future for place, (_, future) in enumerate(taken)}
        try:
            for places, answers in self._answer([text for text, _ in taken]):
                for place, answer in zip(places, answers, strict=True):
                    loop.call_soon_threadsafe(_settle, open_futures.pop(place), answer)
        except Exception as error:
            for future in open_futures.values():
                loop.call_soon_threadsafe(_settle, future, error)


def _settle(future: asyncio.Future, answer: Any) -> None:
    if future.done():  # the client has gone
        return
    if isinstance(answer, Exception):
        future.set_exception(answer)
    else:
        future.set_result(answer)


def rows_together(lengths: Sequence[int], most: int) -> list[list[int]]:
    """The places of texts, sorted by length, at most so many in a list."""
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    return [order[start : start + most] for start in range(0, len(order), most)]


def classifier(
    model_dir: str, dtype: str, threads: int, max_seq_length: int, max_rows: int
) -> Callable[[list[str]], Answers]:
    """transformers' classifier as a function of texts."""
    import torch
    import transformers

    torch.set_num_threads(threads)
    tokenizer = transformers.AutoTokenizer.from_pretrained(model_dir, use_fast=True)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        model_dir, dtype=getattr(torch, dtype), attn_implementation="sdpa"
    ).eval()
    names = [model.config.id2label[index] for index in range(model.config.num_labels)]

    def answer(texts: list[str]) -> Answers:
        encoded = tokenizer(texts, truncation=True, max_length=max_seq_length)
        for places in rows_together([len(ids) for ids in encoded["input_ids"]], max_rows):
            batch = {name: [values[row] for row in places] for name, values in encoded.items()}
            with torch.inference_mode():
                logits = model(**tokenizer.pad(batch, return_tensors="pt")).logits
                probabilities = logits.float().softmax(-1).tolist()
            rows = [dict(zip(names, row, strict=True)) for row in probabilities]
            yield places, [{"label": max(r, key=r.__getitem__), "probabilities": r} for r in rows]

    return answer


def application(answer: Callable[[list[str]], Answers], most: int) -> Any:
    """The ASGI application."""
    import fastapi
    import pydantic

    class Question(pydantic.BaseModel):
        texts: list[str]

    batcher = Batcher(answer, most)

    @contextlib.asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        running = asyncio.create_task(batcher.run())
        yield
        running.cancel()

    app = fastapi.FastAPI(lifespan=lifespan)

    @app.post("/classifier:predict")
    async def predict(question: Question) -> Any:
        # A response of its own is sent as it is: FastAPI checks and copies any other once more.
        return fastapi.responses.JSONResponse({"predictions": await batcher.ask(question.texts)})

    return app


def main() -> None:
    """Serves until it is stopped."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model_dir", required=True, help="a Hugging Face directory")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--max_seq_length", type=int, default=128)
    parser.add_argument("--max_batch_size", type=int, default=32, help="texts taken at a time")
    parser.add_argument("--max_rows", type=int, default=8, help="of these, padded together")
    flags = parser.parse_args()
    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    import uvicorn

    answer = classifier(
        flags.model_dir, flags.dtype, flags.threads, flags.max_seq_length, flags.max_rows
    )
    for _ in answer(["warm", "and warmer"]):
        pass
    app = application(answer, flags.max_batch_size)
    uvicorn.run(app, host="127.0.0.1", port=flags.port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
