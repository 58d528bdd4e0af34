# Everything runs in .venv, made from requirements.lock; nothing is installed outside the checkout.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
# An ONNX file or a name that `afterimage models list` shows; empty: the built-in model.
MODEL ?=
HOST ?= 127.0.0.1
PORT ?= 8000
# Of the tests; 0: all in the process that `make` starts.
PROCESSES ?= 2

.PHONY: setup run test test-aarch64 image-test soak lint format bench scale lock lock-image clean

setup: $(READY)

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "expected Python 3.11 or newer, got " + sys.version.split()[0])'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $(READY)

run: setup
	$(BIN)/afterimage serve $(if $(MODEL),"$(MODEL)") --host $(HOST) --port $(PORT)

# Each file in one process, in the order in which they are found, so that no slow file is left for the end.
test: setup
	$(BIN)/python -m pytest -n $(PROCESSES) --dist loadfile --no-loadscope-reorder

# Kernels and exact streams as aarch64 code, in emulation. Takes about an hour and two packages of the system, see the script.
AARCH64 := tests/emulated/aarch64.sh
AARCH64_TEST := -m pytest -p no:cacheprovider --timeout 3600
AARCH64_BYTES := tests/kernels/test_twins.py tests/kernels/test_emit_int8.py -k "quantised or exact"
AARCH64_MODELS := people $(wildcard ../shared/data/models/yunet_n_320_320.onnx)
test-aarch64: setup
	$(AARCH64) build
	$(AARCH64) cortex-a76 $(AARCH64_TEST) tests/kernels/test_twins.py
	for cpu in cortex-a53 cortex-a76 neoverse-v1; do $(AARCH64) $$cpu $(AARCH64_TEST) $(AARCH64_BYTES) || exit 1; done
	mkdir -p build
	$(BIN)/python -m tests.emulated.streams write build/streams.npz $(AARCH64_MODELS)
	$(AARCH64) cortex-a76 -m tests.emulated.streams compare build/streams.npz

# The image for each architecture, built and run without a Docker engine: docs/image.md. Needs root and packages of the system.
IMAGE_ARCHS ?= amd64 arm64
IMAGE_OPENCV ?= source
image-test: setup
	$(BIN)/python tests/docker/image.py --opencv $(IMAGE_OPENCV) $(IMAGE_ARCHS)

# Bounded loads on servers of their own on loopback, about 25 minutes; SOAK=overload for one of them, SOAK_SCALE=0.1 for less.
# SOAK=small wants root: it makes control groups of one core and 512 MiB. SOAK=small-warm leaves out the compilation.
# Then requests and messages that nobody should send, drawn at random for a minute.
SOAK ?=
SOAK_SCALE ?= 1
soak: setup
	mkdir -p build
	$(BIN)/python -m benchmarks.soak $(SOAK) --scale $(SOAK_SCALE) --json build/soak.json
	AFTERIMAGE_FUZZ_S=60 $(BIN)/python -m pytest tests/service/test_ws_fuzz.py tests/service/test_schema.py

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Writes JSON and HTML into build/bench, and the measured sections of docs/performance.md. Takes about ten minutes.
BENCH := build/bench
BENCH_DATA := ../shared/data
BENCH_MODELS := people synthetic:vgg16 synthetic:resnet18 synthetic:mobilenet $(wildcard $(BENCH_DATA)/models/*.onnx)
BENCH_VIDEO_MODELS := people $(wildcard $(BENCH_DATA)/models/yolox_nano.onnx)
BENCH_CLIP := $(or $(wildcard $(BENCH_DATA)/videos/intel_one-by-one-person-detection.mp4),scene)
bench: setup
	mkdir -p $(BENCH)
	$(BIN)/python -m benchmarks.kernels --json $(BENCH)/kernels.json
	$(BIN)/python -m benchmarks.winograd --json $(BENCH)/winograd.json
	for threads in 1 2; do \
		$(BIN)/afterimage bench dense $(BENCH_MODELS) --threads $$threads \
			--json $(BENCH)/dense-$$threads.json --html $(BENCH)/dense-$$threads.html || exit 1; \
	done
	for model in $(BENCH_VIDEO_MODELS); do \
		name=$(BENCH)/video-$$(basename $$model .onnx); \
		$(BIN)/afterimage bench video $$model $(BENCH_CLIP) --size 640x384 --start 200 --frames 150 \
			--json $$name.json --html $$name.html || exit 1; \
	done
	$(BIN)/python -m service.bench.document docs/performance.md $(BENCH)/dense-*.json $(BENCH)/video-*.json

# Measures this machine as a kind of box, checks `afterimage plan` against cameras that it really serves, lives through the days of
# benchmarks/scale, and writes SCALE_BOX, docs/scale.svg and the measured sections of docs/scale.md. Takes about half an hour
# and both cores; what other programs took meanwhile is told. SCALE_BOX=benchmarks/scale/boxes/NAME.json for another kind of box.
SCALE := build/scale
SCALE_BOX ?= benchmarks/scale/boxes/amd-epyc-25-1-2-cores.json
SCALE_SIZE := 640x384
SCALE_MODELS := people $(wildcard $(BENCH_DATA)/models/yolox_nano.onnx)
SCALE_CLIPS := scene $(wildcard $(foreach clip,intel_one-by-one-person-detection.mp4 intel_bottle-detection.mp4 \
	intel_asl_walk.mkv,$(BENCH_DATA)/videos/$(clip)))
SCALE_FROM = $$(case $$clip in *asl_walk*) echo 0;; *) echo 100;; esac)
scale: setup
	mkdir -p $(SCALE)
	rm -f $(SCALE)/check-*.json
	$(BIN)/afterimage bench box $(SCALE_MODELS) --size $(SCALE_SIZE) --cold --json $(SCALE_BOX)
	for fps in 5 15; do for clip in $(SCALE_CLIPS); do \
		$(BIN)/afterimage bench streams people $$clip --size $(SCALE_SIZE) --start $(SCALE_FROM) --fps $$fps \
			--json $(SCALE)/check-$$fps-$$(basename $$clip).json || exit 1; \
	done; done
	$(BIN)/python -m benchmarks.scale $(SCALE_BOX) --size $(SCALE_SIZE) --json $(SCALE)/days.json \
		--svg docs/scale.svg --doc docs/scale.md $$(for file in $(SCALE)/check-*.json; do echo --check $$file; done)

# Refresh the lock file from pyproject.toml (the only target that resolves versions). Left out is the build of OpenCV that
# `trackers` asks for: it needs a graphical desktop's libraries, and lies where the headless one does.
lock: setup
	$(BIN)/python -m pip install --quiet pip-tools
	$(BIN)/pip-compile --quiet --generate-hashes --unsafe-package opencv-python --strip-extras \
		--extra bench --extra dev --extra tracking --extra telemetry --extra mqtt --extra cluster \
		--extra fft --extra compress \
		--no-emit-index-url --no-emit-find-links --no-emit-trusted-host \
		--output-file requirements.lock pyproject.toml

# What is in the image, and what builds it; after `make lock`, by what is installed.
lock-image: setup
	$(BIN)/python docker/image/lock.py

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
