# Every target sets up all that it needs: a virtual environment of its own, in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo examples test parity bench docs lint clean

demo: $(VENV)/demo.ok
	$(BIN)/python examples/digits.py

# Networks of graphnn.zoo on real data; each ends with status 1 when it does not reach what it should.
examples: $(VENV)/demo.ok
	@for example in $(filter-out examples/digits.py, $(sort $(wildcard examples/*.py))); do \
		echo "== $$example"; $(BIN)/python $$example || exit 1; done

test: $(VENV)/test.ok
	$(BIN)/python -m pytest

parity: $(VENV)/parity.ok
	$(BIN)/python -m parity

docs: $(VENV)/test.ok
	$(BIN)/python docs/make_reference.py

bench: $(VENV)/bench.ok
	$(BIN)/python -m bench

lint: $(VENV)/lint.ok
	$(BIN)/ruff check .
	$(BIN)/pyright

$(VENV)/python.ok:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "graphnn needs Python 3.11 or later; $(PYTHON) is `$(PYTHON) --version`. Try: make PYTHON=python3.12 ..."; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
		{ echo "$(PYTHON) lacks venv: install it (on Debian and Ubuntu: apt install python3-venv), or choose another: make PYTHON=..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	@touch $@

$(VENV)/demo.ok: $(VENV)/python.ok pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[train]' 'scikit-learn>=1.4'
	@touch $@

$(VENV)/test.ok: $(VENV)/python.ok pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test,train]'
	@touch $@

$(VENV)/lint.ok: $(VENV)/test.ok pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[lint]'
	@touch $@

$(VENV)/parity.ok: $(VENV)/test.ok pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[parity]'
	@touch $@

$(VENV)/bench.ok: $(VENV)/demo.ok pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[bench]'
	@touch $@

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache
