# Every target makes .venv and installs what it needs when that is missing.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

# Without an NVIDIA GPU, PyTorch's CPU wheels: PyPI's own come with several GB of CUDA. TORCH_INDEX= takes PyPI's.
TORCH_INDEX ?= $(if $(shell command -v nvidia-smi),,https://download.pytorch.org/whl/cpu)

.PHONY: demo report test test-slow conformance check serve rivals bench smoke clean

demo: $(VENV)/ready  ## serve, steal, spy, prove; out/report.html
	$(BIN)/python -m experiments demo

report: $(VENV)/ready  ## the same at the papers' sizes
	$(BIN)/python -m experiments report --out out/full

test: $(VENV)/ready
	$(BIN)/python -m pytest

test-slow: $(VENV)/ready
	$(BIN)/python -m pytest -m slow

PEERS := .cache/conformance
conformance: $(VENV)/ready $(PEERS)/mlserver/ready $(PEERS)/kserve/ready  ## our parties and other people's, run for real
	$(BIN)/python -m pytest -m conformance

$(PEERS)/%/ready: tests/conformance/%.txt  # they want older Pythons too: make PEER_PYTHON=python3.11 conformance
	$(or $(PEER_PYTHON),$(PYTHON)) -m venv $(@D)
	$(@D)/bin/pip install --quiet --requirement $<
	touch $@

check: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

serve: $(VENV)/ready
	$(BIN)/python -m server

rivals: $(VENV)/ready  ## environments of the other model servers that the bench compares with, some GB in ~/.cache
	TORCH_INDEX=$(TORCH_INDEX) $(BIN)/python -m benchmarks serving --install

bench: $(VENV)/ready  ## how fast the server is; half an hour on a quiet machine
	$(BIN)/python -m benchmarks serving --json results/serving.json

smoke:  ## needs a Docker engine
	docker compose up --build --detach --wait
	bash tests/smoke.sh; status=$$?; docker compose down --volumes; exit $$status

$(VENV)/ready: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --no-deps $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) 'torch>=2.13,<2.14' 'torchvision>=0.28,<0.29'
	$(BIN)/pip install --quiet --editable '.[server,bench,dev]'
	touch $@

clean:
	rm -rf $(VENV) .cache out state
