"""A service that labels texts: POST /classify {"text": "..."} -> {"label": "pos", "score": 0.89}; GET /health.

    python examples/fastapi_service/serve.py --workers 2            # a process for each core
    MODEL=model.fbl python examples/fastapi_service/serve.py        # a converted file with tokenizer and labels

Each worker process loads the model once, before it takes requests, and computes on one thread: the processes are the
threads. A net that is quick is computed where the request is read. For others, requests that wait at the same time are
computed together, in a thread. Needs FastAPI, uvicorn, NumPy and fastbilstm.
"""

import os
import timeit
from contextlib import asynccontextmanager

import numpy as np
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, Field

import fastbilstm
from fastbilstm.preprocessing import label_answers

STEP = 16  # rows are padded to a multiple, so that they share batches; the mask of the model makes it without effect
LONGEST = 400  # tokens of a text that are read, the last ones
QUICK = 0.0003  # seconds of a prediction: to hand a shorter one to a thread costs more than that others wait for it

ready = {}


def load_model():
    """The file that MODEL names, or the sample."""
    path = os.environ.get("MODEL")
    model = fastbilstm.load(path, n_threads=1) if path else fastbilstm.sample_model(n_threads=1)
    if model.text is None or model.labels is None:
        raise RuntimeError(f"{model.source} holds no tokenizer or no labels: fastbilstm convert --tokenizer --labels")
    return model


def tokens(model, text):
    """The input of a text."""
    (ids,) = model.text.encode([text])
    if model.text.width is None:
        ids = ids[-LONGEST:]
        ids = np.pad(ids, (0, -len(ids) % STEP))
    return ids


@asynccontextmanager
async def lifespan(app):
    """Load before the first request; answer what waits before the end."""
    model = load_model()
    x = tokens(model, "a long text of some words to start with " * 100)[np.newaxis]
    seconds = min(timeit.repeat(lambda: model.predict(x), number=1, repeat=7))
    async with fastbilstm.aio.Batcher(model) as batcher:
        ready.update(model=model, batcher=batcher, quick=seconds < QUICK)
        yield
        ready.clear()


app = FastAPI(title="fastbilstm", lifespan=lifespan)


class Asked(BaseModel):
    text: str = Field(max_length=20_000)


class Answer(BaseModel):
    label: str
    score: float


@app.get("/health")
async def health():
    """For who starts and restarts the service: whether it answers."""
    return {"status": "ok", "model": ready["model"].name, "fastbilstm": fastbilstm.__version__}


@app.post("/classify")
async def classify(asked: Asked) -> Answer:
    """The label of a text, and its probability."""
    model = ready["model"]
    try:
        ids = tokens(model, asked.text)
        y = model.predict(ids[np.newaxis])[0] if ready["quick"] else await ready["batcher"].predict(ids)
    except fastbilstm.InputError as error:
        raise HTTPException(422, str(error)) from error
    (label,), (score,) = label_answers(y[np.newaxis], model.labels)
    return Answer(label=label, score=float(score))
