# Every command a developer needs; `make help` lists them. CMake and CMakePresets.json do the building, the scripts in
# tools/ the rest, so that nothing here holds logic worth testing.
#
# Variables: PROMPT (make run), FUZZ_SECONDS (make fuzz, for each target), LLAMA_BIN, IK_BIN (make bench: folders with the
# llama-bench of llama.cpp and ik_llama.cpp) and BENCH (make bench: steps of bench/suite), JOBS, CC, CLANG, PREFIX and DESTDIR (make install).
.DEFAULT_GOAL := build
MAKEFLAGS += --no-print-directory

FUZZ_SECONDS ?= 60
PREFIX ?= /usr/local
MODEL := SmolLM2-135M-Instruct.Q4_1
# As typed, whatever it holds: `value` keeps make from expanding it, the environment keeps the shell from it.
DEFAULT_PROMPT := Hello! Who are you, and what can you help me with?
export MLXR_PROMPT := $(or $(value PROMPT),$(DEFAULT_PROMPT))
ifdef JOBS
export JOBS
endif
ifdef CC
ifneq ($(origin CC),default)
export CC
endif
endif

# Evaluated when used: tools/setup may just have installed it.
PYTHON = $(shell test -x /usr/bin/python3 && echo /usr/bin/python3 || command -v python3)
N_JOBS = $(or $(JOBS),$(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2))
CTEST = ctest --output-on-failure --no-tests=error -j $(N_JOBS)
# The kernels for Metal, in the emulator under sanitizers; on a Mac they run on the GPU.
METAL_CHECKS = $(if $(filter Darwin,$(shell uname -s)),,metal_check test_metal_emulator test_metal_vectors)
# Of the daemon's tests those that a sanitizer runs in `make test`; `make soak` runs all of them in two.
API_CHECKS = abuse|isolation|quotas|slow_readers
# Warnings are errors in check and in CI, so that a newer compiler does not break anybody's build.
TEST_PRESET := $(if $(CI),check,dev)
ifdef CI
export WERROR := ON
endif

.PHONY: help build ui run model models setup setup-tests test test-cpp test-cpp-verbose check static-checks oracle soak \
        bench fuzz asan ubsan tsan metal coverage fmt install clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z -]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' Makefile

# ---- using it -----------------------------------------------------------------------------------------------------

run: build model ## build, fetch the default model, answer PROMPT (and chat on, on a terminal)
	@exec build/bin/mlxr run $(MODEL) --serve --chat -- "$$MLXR_PROMPT"

build: setup ui ## install what is missing and build build/bin/mlxr
	@tools/build release

ui: setup ## build the web page; without a network the program is built without it
	@tools/ui build --if-possible

model: setup
	@$(PYTHON) tools/fetch-model

install: build ## install the program, the library and its headers under PREFIX
	@cmake --install build --prefix "$(PREFIX)"

clean: ## remove everything built (not the models)
	rm -rf build app/ui/dist app/ui/node_modules app/ui/lighthouse/node_modules

# ---- testing it ---------------------------------------------------------------------------------------------------

test: setup-tests models static-checks ## install what the tests need and run all of them
	@tools/mlx/install
	@tools/venv api tools/api/requirements.txt
	@tools/ui build
	@tools/ui lighthouse-install --if-possible
	@tools/api/npm
	@tools/mac/link-check --fetch
	@tools/build release # for the test of `make run`
	@tools/build $(TEST_PRESET)
	@tools/build asan fuzz_replays mlxr write_tiny_models $(METAL_CHECKS)
	@cd build/asan && $(CTEST) -L '^(fuzz|metal)$$' && $(CTEST) -R '^api/($(API_CHECKS))$$'
	@[ -z "$(METAL_CHECKS)" ] || { tools/build tsan $(METAL_CHECKS) && cd build/tsan && $(CTEST) -L '^metal$$'; }
	@cd build/$(TEST_PRESET) && $(CTEST)

test-cpp: ## the native tests only
	@tools/build $(TEST_PRESET)
	@cd build/$(TEST_PRESET) && $(CTEST) -LE '^python$$'

test-cpp-verbose: ## the same, with everything they print
	@tools/build $(TEST_PRESET)
	@cd build/$(TEST_PRESET) && $(CTEST) -V -LE '^python$$'

check: ## the fast loop: no downloads, warnings are errors, static checks, unit tests
	@tools/build check
	@$(MAKE) static-checks
	@cd build/check && $(CTEST) -LE '^(python|model|slow)$$'

static-checks:
	@$(PYTHON) tools/check-layers
	@$(PYTHON) tools/check-size
	@$(PYTHON) tools/check-text
	@tools/check-format

oracle: setup-tests models ## regenerate the reference data with transformers (installs torch) and compare
	@tools/venv oracle tools/oracle/requirements.txt
	@tools/build $(TEST_PRESET)
	@tools/oracle/run build/venv-oracle/bin/python

soak: ## the long forms of the tests that have one, and the daemon's under ASan, UBSan and TSan
	@tools/build $(TEST_PRESET)
	@cd build/$(TEST_PRESET) && MLXR_SOAK=1 $(CTEST) -j 1 --timeout 7200 -L '^soak$$'
	@for preset in asan tsan; do tools/build $$preset mlxr write_tiny_models && \
	    (cd build/$$preset && $(CTEST) -j 1 -L '^api$$') || exit 1; done

bench: build models ## measure ourselves (beside LLAMA_BIN, IK_BIN: their folders) into bench/history and docs/performance.md
	@$(PYTHON) bench/suite --docs $(if $(LLAMA_BIN),--peer "llama.cpp=$(LLAMA_BIN)") $(if $(IK_BIN),--peer "ik_llama.cpp=$(IK_BIN)") \
	    $(if $(BENCH),--only $(BENCH))

fuzz: setup-tests ## run every fuzz target for FUZZ_SECONDS
	@tools/build fuzz fuzzers
	@tools/run-fuzzers build/fuzz $(FUZZ_SECONDS)

asan ubsan: setup-tests ## the native tests under this sanitizer
	@tools/build $@
	@cd build/$@ && $(CTEST) -LE '^python$$'

tsan: setup-tests ## the tests with threads under ThreadSanitizer
	@tools/build tsan
	@cd build/tsan && $(CTEST) -LE '^python$$'

metal: ## compile the Metal kernels with Xcode; without it, check them in the emulator
	@tools/metal-compile

coverage: setup-tests ## branch coverage of the parsers by their tests, with its floor
	@tools/venv coverage tools/coverage-requirements.txt
	@tools/build coverage parser_tests
	@find build/coverage -name '*.gcda' -delete
	@cd build/coverage && $(CTEST) -R '^(base|loaders|text|fuzz)/|^convert/test_importance'
	@build/venv-coverage/bin/python tools/check-coverage build/coverage

fmt: ## format the sources with clang-format-19
	@tools/check-format --fix

# ---- what the others need -----------------------------------------------------------------------------------------

setup:
	@tools/setup build

setup-tests:
	@tools/setup test

models: setup-tests
	@$(PYTHON) tools/fetch-model smollm2 gemma3
