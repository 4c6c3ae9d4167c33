# Every target makes .venv and installs what it needs when that is missing.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

# Without an NVIDIA GPU, PyTorch's CPU wheels: PyPI's own come with several GB of CUDA. TORCH_INDEX= takes PyPI's.
TORCH_INDEX ?= $(if $(shell command -v nvidia-smi),,https://download.pytorch.org/whl/cpu)
export REACH := import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=10)

.PHONY: demo report test test-slow chaos conformance check docs lock serve rivals bench smoke clean

demo: $(VENV)/ready  ## serve, steal, spy, prove; out/report.html
	$(BIN)/python -m experiments demo

report: $(VENV)/ready  ## the same at the papers' sizes
	$(BIN)/python -m experiments demo --full --out out/full

# Processes that share the tests; each loads torch.
JOBS ?= 2
test: $(VENV)/ready
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile

test-slow: $(VENV)/ready
	$(BIN)/python -m pytest -m slow

FAULTS ?= 200
chaos: $(VENV)/ready  ## kills, pauses and clock steps under load, and a checker of what clients saw; make chaos SEED=7
	$(BIN)/python tests/chaos/run.py --faults $(FAULTS) $(if $(SEED),--seed $(SEED))

PEERS := .cache/conformance
conformance: $(VENV)/ready $(PEERS)/mlserver/ready $(PEERS)/kserve/ready $(PEERS)/openai/ready $(PEERS)/garak/ready  ## our parties and other people's, run for real
	$(BIN)/python -m pytest -m conformance

$(PEERS)/%/ready: tests/conformance/%.txt  # they want older Pythons too: make PEER_PYTHON=python3.11 conformance
	$(or $(PEER_PYTHON),$(PYTHON)) -m venv $(@D)
	$(@D)/bin/pip install --quiet --requirement $<
	touch $@

$(PEERS)/garak/ready: tests/conformance/garak.txt
	$(or $(PEER_PYTHON),$(PYTHON)) -m venv $(@D)
	$(@D)/bin/pip install --quiet --requirement $<
	$(@D)/bin/pip install --quiet --no-deps garak==0.17.1
	touch $@

check: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@git ls-files '*.py' '*.lua' '*.html' | xargs wc -l | awk '$$1 > 350 && $$2 != "total" {print $$2 ": " $$1 " lines, more than 350"}'

docs: $(VENV)/ready  ## the pages of docs/, as HTML in out/docs
	$(BIN)/python docs/generate.py
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet docs out/docs

lock:  ## the versions and hashes of what the images install; needs uv
	$(PYTHON) deploy/lock.py

serve: $(VENV)/ready
	$(BIN)/python -m server

rivals: $(VENV)/ready  ## environments of the other model servers that the bench compares with, 3 GB in ~/.cache
	$(BIN)/python -m benchmarks serving --install

bench: $(VENV)/ready  ## how fast the server is; 40 minutes on a quiet machine
	$(BIN)/python -m benchmarks serving --json results/serving.json

smoke:  ## needs a Docker engine
	docker compose up --build --detach --wait
	bash tests/smoke.sh; status=$$?; docker compose down --volumes; exit $$status

$(VENV)/ready: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	@index=$(TORCH_INDEX); if [ -n "$$index" ] && ! $(BIN)/python -c "$$REACH" $$index/torch/ 2>/dev/null; then \
		echo "$$index cannot be reached: taking PyTorch from pip's own index"; index=; fi; \
	set -x; $(BIN)/pip install --quiet --no-deps $${index:+--extra-index-url $$index} 'torch>=2.13,<2.14' 'torchvision>=0.28,<0.29'
	$(BIN)/pip install --quiet --editable '.[server,bench,dev]'
	touch $@

clean:
	rm -rf $(VENV) .cache out state
