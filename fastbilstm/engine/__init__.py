"""The engine: `compiling.compile` makes a plan from a graph; it runs batches of rows.

compiling.py         from a graph and its weights to a plan; the choice of a backend
plan.py              the plan: what runs, on which threads, batch after batch
fusion.py            backend "vector": what of the graph is dropped, folded and fused; folding.py: constants in weights;
                     calls.py: the calls of the graph and who reads whom
network.py           the network that fusion.py makes and the plan runs: steps that call layers
vector_layers.py     layers on the float32 kernels (ext/_kernels.pyx); vector_recurrent.py: the recurrent ones;
                     vector_embedded.py: an Embedding and the layer after it
blas_layers.py       backend "blas": LSTM and Dense on SciPy's BLAS (ext/_recurrent.pyx)
threads.py           the pool of threads
streaming.py         sequences that arrive in pieces
summary.py           what was planned, as text; show_config.py: what this installation can do

May import: analysis, inputs, layers, graph, the compiled modules. Knows neither files nor Model.
"""
