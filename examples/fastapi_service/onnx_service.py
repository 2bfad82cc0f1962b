"""The service of service.py on ONNX Runtime, to measure against: the same routes, tokenizer and answers.

    ONNX=model.onnx python examples/fastapi_service/serve.py --app onnx_service:app --workers 2

bench_service.py writes the model and starts it: the weights of the net in ONNX' own LSTM operator. The session has one
thread, and each request is a call of its own in the event loop: to hand so short a call to another thread takes longer.
Needs FastAPI, uvicorn, onnxruntime; fastbilstm for its tokenizer and labels.
"""

import os
from contextlib import asynccontextmanager

import numpy as np
import onnxruntime
from fastapi import FastAPI
from service import LONGEST, Answer, Asked, load_model

from fastbilstm.preprocessing import label_answers

ready = {}


@asynccontextmanager
async def lifespan(app):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(os.environ["ONNX"], options, providers=["CPUExecutionProvider"])
    model = load_model()
    ready.update(session=session, text=model.text, labels=model.labels)
    yield


app = FastAPI(lifespan=lifespan)


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.post("/classify")
async def classify(asked: Asked) -> Answer:
    (ids,) = ready["text"].encode([asked.text])
    (y,) = ready["session"].run(None, {"x": ids[-LONGEST:, np.newaxis]})  # time-major
    (label,), (score,) = label_answers(y, ready["labels"])
    return Answer(label=label, score=float(score))
