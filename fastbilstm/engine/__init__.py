"""What computes: a graph becomes a plan (`plan.compile`), which runs batches of rows.

plan.py              the plan: what runs, on which threads, batch after batch; the choice of a backend
fusion.py            backend "vector": what of the graph is dropped, folded and fused; folding.py: constants in weights
network.py           the network that runs then: steps over layers
vector_layers.py     the steps over the float32 kernels (ext/_kernels.pyx); vector_recurrent.py: the recurrent ones
blas_layers.py       backend "blas": recurrent layers and Dense over SciPy's BLAS (ext/_recurrent.pyx)
threads.py           the pool of threads
streaming.py         sequences that arrive in pieces
summary.py           what was planned, as text; show_config.py: what this installation can do

May import: analysis, inputs, layers, graph, the compiled modules. Knows neither files nor Model.
"""
