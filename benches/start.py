"""A child process of `bench_rivals.py`: from the start of Python to a first answer, with one engine and nothing else.

    python start.py ENGINE FILE THREADS [TIMESTEPS] [BATCH]     prints {"peak_kb": ..., "answer": ...}

ENGINE: fastbilstm, onnxruntime, openvino, litert, torch (FILE: the weights, .npz), tensorflow (a SavedModel), or numpy,
which only imports it. The parent measures the time; this process reports its largest resident size.
"""

import json
import sys


def token_ids(timesteps, batch):
    import numpy as np

    return (np.arange(batch * timesteps, dtype=np.int64) * 7919 % 4999 + 1).reshape(batch, timesteps).astype(np.int32)


def fastbilstm(path, threads, x):
    import fastbilstm

    return fastbilstm.load(path, n_threads=threads).predict(x, batch_size=len(x))


def onnxruntime(path, threads, x):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    x = x if path.endswith("converted.onnx") else x.T
    return session.run(None, {session.get_inputs()[0].name: x})[0]


def openvino(path, threads, x):
    import openvino

    options = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(path, "CPU", options)
    return compiled(x if path.endswith("converted.onnx") else x.T.copy())[0]


def litert(path, threads, x):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(path, num_threads=threads)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def torch(path, threads, x):
    import handmade
    import nets
    import torch

    torch.set_num_threads(threads)
    return handmade.torch_net(nets.NETS["bilstm64"], nets.load_weights(path))(torch.from_numpy(x.T.copy()))


def tensorflow(path, threads, x):
    import tensorflow

    tensorflow.config.threading.set_intra_op_parallelism_threads(threads)
    tensorflow.config.threading.set_inter_op_parallelism_threads(threads)
    loaded = tensorflow.saved_model.load(path)
    function = loaded.signatures["serving_default"]
    name = next(iter(function.structured_input_signature[1]))
    return next(iter(function(**{name: tensorflow.constant(x)}).values())).numpy()


def numpy(path, threads, x):
    return x[:, :1]


def peak_kb():
    """The largest resident size of this process so far, or None where the system does not tell."""
    try:
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        return None


if __name__ == "__main__":
    engine, path, threads, *size = sys.argv[1:]
    timesteps, batch = (int(number) for number in size) if size else (400, 1)
    answer = globals()[engine](path, int(threads), token_ids(timesteps, batch))
    print(json.dumps({"peak_kb": peak_kb(), "answer": float(answer[0, 0])}))
