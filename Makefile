# One door for all commands. Each builds what it needs in .venv, from nothing but Python and pip.

DEMO_OUT ?= demo-output
ARGS ?=

# Shared libraries that torch, SimpleITK and Pillow expect of the system.
SYSTEM_PACKAGES = libgcc-s1 libstdc++6 zlib1g
# What Qt draws windows with.
WINDOW_PACKAGES = libgl1 libgl1-mesa-dri libegl1 libfontconfig1 libfreetype6 \
	libglib2.0-0 libdbus-1-3 libx11-6 libx11-xcb1 libxcb1 libxcb-cursor0 libxcb-glx0 \
	libxcb-icccm4 libxcb-image0 libxcb-keysyms1 libxcb-randr0 libxcb-render0 \
	libxcb-render-util0 libxcb-shape0 libxcb-shm0 libxcb-sync1 libxcb-util1 libxcb-xfixes0 \
	libxcb-xkb1 libxkbcommon0 libxkbcommon-x11-0
# A display without a screen, for tests of windows and for pictures.
SCREEN_PACKAGES = xvfb xauth
SCREEN = env -u QT_QPA_PLATFORM xvfb-run -a -s "-screen 0 1600x1000x24 +extension GLX"
# What judges exported DICOM in the tests, which skip where it is not there.
DICOM_PACKAGES = dicom3tools

# The recipe of the bundled model: a base at 32^3 in two stages, settled at a lower rate, tuned so that its
# heads agree, and refiners to 64^3 and 128^3 (decision 0019), each at a falling rate. Calling it again goes on
# where it was stopped. DEMO_BASE=demo starts from the base that is bundled and tunes that.
# DEVICE=cuda works in a folder of its own, publishes into it, and gives every run its share of five
# minutes (DEMO_SECONDS, of the runs in turn); without them it is as long as on a CPU.
DEVICE ?= auto
ifeq ($(DEVICE),cuda)
DEMO_WORK ?= work/demo-cuda
DEMO_PUBLISHED ?= $(DEMO_WORK)/published
DEMO_SECONDS ?= 20 60 20 20 70 60
endif
DEMO_COUNTS ?= 1500 300 120
DEMO_WORK ?= work/demo
DEMO_SEED ?= 1
DEMO_UNSEEN ?= 40
DEMO_LOCAL ?= 2500
DEMO_GLOBAL ?= 8000
DEMO_SETTLE ?= 2000
DEMO_AGREED ?= 2400
DEMO_REFINED_64 ?= 6000
DEMO_REFINED_128 ?= 1200
PATCH_WORK ?= work/patch
PATCH_ITERATIONS ?= 40000
PATCH_PUBLISHED ?= src/prdit_core/bundled/demo-patch
# Phantoms of each region at 64^3, and of chests at 128^3; iterations of both stages of the autoencoder (and
# that from which its discriminator plays), and of BiFlowNet.
LATENT_WORK ?= work/latent
LATENT_COUNTS ?= 240 60
LATENT_CODEC ?= 8000
LATENT_RIVAL ?= 6000
LATENT_JOINT ?= 1500
LATENT_ITERATIONS ?= 30000
LATENT_PUBLISHED ?= src/prdit_core/bundled/demo-latent
LATENT_TRAIN = --seed 0 --save-every 500 --preview-every 1000 --resume --device $(DEVICE)
CONTROL_WORK ?= work/control
CONTROL_COUNT ?= 600
CONTROL_ITERATIONS ?= 20000
CONTROL_PUBLISHED ?= $(LATENT_PUBLISHED)
DEMO_PUBLISHED ?= src/prdit_core/bundled/demo
DEMO_BASE ?= $(DEMO_WORK)/settled
DEMO_TRAIN = --seed 0 --save-every 500 --resume --device $(DEVICE)
DEMO_NEEDS ?= .venv/.base
DEMO_REFINE = $(DEMO_TRAIN) --batch-size 4 --stage refine --model 6/4/1/192 --sees below --shows averages \
	--heads agree --consistency 0 --lr 1.5e-3 --lr-schedule cosine

PYTHON_HERE = .venv/bin/python
IN_TWO = --numprocesses 2 --dist loadfile --no-loadscope-reorder
PRDIT = .venv/bin/prdit-core
# $(call within,N) PROGRAM || $(on_time): its share of the time for run number N; then it stops, saved.
within = $(if $(DEMO_SECONDS),timeout --signal=INT $(word $(1),$(DEMO_SECONDS)))
on_time = [ $$? -eq 124 ]

# A machine with a GPU and no network: its Python has torch, numpy, scipy and matplotlib, the rest
# comes from the wheels that `make gpu-wheels` collects on another machine.
GPU_DEVICE ?= cuda
GPU_PYTHON ?= python3
GPU_WHEELS ?= work/gpu-wheels
GPU_SITE ?= work/gpu-site
GPU_OUT ?= work/gpu
GPU_BENCH ?=
# Phantoms are cut out around the body by SimpleITK, so they come along, fewer and packed.
GPU_DATA ?= work/gpu-data
GPU_COUNTS ?= 240 16 4
GPU_HERE = env PYTHONPATH=$(CURDIR)/src:$(CURDIR)/$(GPU_SITE) $(GPU_PYTHON)

.DEFAULT_GOAL := help
.PHONY: help demo napari test test-fast check bench screenshots gallery docs demo-model \
	demo-patch demo-latent demo-control gpu gpu-tests gpu-bench gpu-model gpu-wheels gpu-data

help:  ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' Makefile

demo: .venv/.base  ## set up and generate a CT volume; on a display also watch one emerge in napari
	$(PRDIT) generate --checkpoint demo --size 64 --seed 0 --out $(DEMO_OUT)
	@if scripts/has_display.sh; then $(MAKE) --no-print-directory napari; \
	else echo "no display here; on one, make demo goes on as make napari"; fi

napari: .venv/.gui  ## open napari with the three planes, the dock and a chest emerging
	$(PYTHON_HERE) -m napari_prdit

test: .venv/.dev  ## all tests in two processes; ARGS="..." goes to pytest
	@echo "All tests: about 12 minutes on two quick and quiet cores, longer on others."
	$(PYTHON_HERE) -m pytest $(IN_TWO) $(ARGS)

test-fast: .venv/.dev  ## the core's tests without windows and child processes
	@echo "The fast tests: one to three minutes on two quiet cores."
	$(PYTHON_HERE) -m pytest $(IN_TWO) -m "not slow" tests/core tests/test_*.py $(ARGS)

check: .venv/.dev  ## ruff (rules and format) and mypy
	$(PYTHON_HERE) -m ruff check
	$(PYTHON_HERE) -m ruff format --check
	$(PYTHON_HERE) -m mypy

bench: .venv/.dev  ## run all benchmarks; each prints a table
	set -e; for script in benchmarks/*.py; do $(PYTHON_HERE) "$$script"; done

screenshots: .venv/.dev  ## pictures of every dock in light and dark, for docs/images/plugin
	$(SCREEN) $(PYTHON_HERE) scripts/screenshots.py $(ARGS)

gallery: .venv/.dev  ## moving pictures of the plugin at work, for docs/images/plugin
	$(SCREEN) $(PYTHON_HERE) scripts/gallery.py $(ARGS)

docs: .venv/.docs  ## build the site of the documentation into site/, without network
	NO_MKDOCS_2_WARNING=1 $(PYTHON_HERE) -m mkdocs build --strict --quiet
	@echo "open site/index.html; to search in it: python -m http.server --directory site"

demo-model: $(DEMO_NEEDS)  ## train the bundled model (hours; can be stopped and goes on when called again)
	$(PRDIT) phantoms --count $(word 1,$(DEMO_COUNTS)) --size 32 --seed $(DEMO_SEED) --out $(DEMO_WORK)/data-32
ifeq ($(DEMO_BASE),$(DEMO_WORK)/settled)
	$(call within,1) $(PRDIT) train --stage local --run $(DEMO_WORK)/local --data $(DEMO_WORK)/data-32 \
		$(DEMO_TRAIN) --batch-size 4 --iterations $(DEMO_LOCAL) --lr 1e-3 || $(on_time)
	$(call within,2) $(PRDIT) train --stage global --from $(DEMO_WORK)/local --run $(DEMO_WORK)/global \
		--data $(DEMO_WORK)/data-32 $(DEMO_TRAIN) --batch-size 4 --iterations $(DEMO_GLOBAL) --lr 5e-4 || $(on_time)
	$(call within,3) $(PRDIT) train --stage global --from $(DEMO_WORK)/global --run $(DEMO_WORK)/settled \
		--data $(DEMO_WORK)/data-32 $(DEMO_TRAIN) --batch-size 8 --iterations $(DEMO_SETTLE) --lr 2e-4 || $(on_time)
endif
	$(call within,4) $(PRDIT) train --stage finetune --from $(DEMO_BASE) --heads agree --run $(DEMO_WORK)/base \
		--data $(DEMO_WORK)/data-32 $(DEMO_TRAIN) --batch-size 4 --iterations $(DEMO_AGREED) --lr 8e-4 \
		--lr-schedule cosine --ema-decay 0.999 || $(on_time)
	$(PRDIT) phantoms --count $(word 2,$(DEMO_COUNTS)) --size 64 --seed $(DEMO_SEED) --out $(DEMO_WORK)/data-64
	$(call within,5) $(PRDIT) train $(DEMO_REFINE) --from $(DEMO_WORK)/base --run $(DEMO_WORK)/refined-64 --crop 32 \
		--data $(DEMO_WORK)/data-64 --iterations $(DEMO_REFINED_64) || $(on_time)
	$(PRDIT) phantoms --count $(word 3,$(DEMO_COUNTS)) --size 128 --seed $(DEMO_SEED) --out $(DEMO_WORK)/data-128
	$(call within,6) $(PRDIT) train $(DEMO_REFINE) --from $(DEMO_WORK)/refined-64 --run $(DEMO_WORK)/refined-128 --crop 64 \
		--data $(DEMO_WORK)/data-128 --iterations $(DEMO_REFINED_128) || $(on_time)
	$(PYTHON_HERE) -m prdit_core.checkpoints.publish $(DEMO_WORK)/refined-128 $(DEMO_PUBLISHED)
ifneq ($(DEMO_UNSEEN),)
	$(PRDIT) phantoms --count 2 --size 128 --seed $(DEMO_UNSEEN) --out $(DEMO_WORK)/unseen-128
	$(PRDIT) phantoms --count 16 --size 64 --seed $(DEMO_UNSEEN) --out $(DEMO_WORK)/unseen-64
	$(PRDIT) calibrate $(DEMO_PUBLISHED) --data $(DEMO_WORK)/unseen-128 \
		--out $(DEMO_PUBLISHED)/calibration.json
	$(PRDIT) calibrate $(DEMO_PUBLISHED) --data $(DEMO_WORK)/unseen-64 --overwrite \
		--out $(DEMO_PUBLISHED)/calibration.json
endif

gpu: gpu-tests gpu-bench gpu-model  ## prove everything on a GPU, eight minutes; results in work/gpu

gpu-tests: $(GPU_SITE)/.done  ## tests that a GPU must pass
	mkdir -p $(GPU_OUT)
	$(if $(filter cuda,$(GPU_DEVICE)),,PRDIT_TEST_GPU=$(GPU_DEVICE)) $(GPU_HERE) -m pytest -m gpu \
		--junitxml=$(GPU_OUT)/tests.xml tests/core/test_gpu.py

gpu-bench: $(GPU_SITE)/.done  ## speed on a GPU, as a table
	$(GPU_HERE) benchmarks/gpu.py --device $(GPU_DEVICE) --out $(GPU_OUT) $(GPU_BENCH)

gpu-model: $(GPU_SITE)/.done  ## a model trained for five minutes on a GPU, in parts of 14 MB
	mkdir -p $(GPU_DATA)
	tar --extract --skip-old-files --directory $(GPU_DATA) --file $(GPU_DATA).tar.xz
	$(MAKE) --no-print-directory demo-model DEVICE=$(GPU_DEVICE) DEMO_NEEDS= DEMO_UNSEEN= \
		DEMO_WORK=$(GPU_DATA) DEMO_COUNTS="$(GPU_COUNTS)" DEMO_PUBLISHED=$(GPU_DATA)/published \
		PYTHON_HERE="$(GPU_HERE)" PRDIT="$(GPU_HERE) -m prdit_core.cli"
	mkdir -p $(GPU_OUT)
	tar --create --directory $(GPU_DATA) published | split --bytes=14M - $(GPU_OUT)/model.tar.
	$(GPU_HERE) -m prdit_core.cli generate --checkpoint $(GPU_DATA)/published --size 128 --seed 0 \
		--device $(GPU_DEVICE) --out $(GPU_OUT)/volume

gpu-wheels: .venv/.dev  ## collect what such a machine lacks: ARGS="--python 3.12" names its Python
	$(PYTHON_HERE) scripts/gpu_wheels.py --out $(GPU_WHEELS) $(ARGS)

gpu-data: .venv/.dev  ## pack the phantoms for it
	for pair in $(join $(addsuffix :,32 64 128),$(GPU_COUNTS)); do \
		$(PRDIT) phantoms --count $${pair#*:} --size $${pair%:*} --seed $(DEMO_SEED) \
			--out $(GPU_DATA)/data-$${pair%:*} || exit; done
	tar --create --xz --directory $(GPU_DATA) --file $(GPU_DATA).tar.xz data-32 data-64 data-128

$(GPU_SITE)/.done: $(wildcard $(GPU_WHEELS)/*.whl)
	test -n "$^" || (echo "no wheels in $(GPU_WHEELS): make gpu-wheels on a machine with a network"; false)
	$(GPU_PYTHON) -m pip install --quiet --no-index --no-deps --upgrade --target $(GPU_SITE) $^
	$(GPU_HERE) -m pip install --quiet --no-index --no-deps --no-build-isolation --upgrade \
		--target $(GPU_SITE) .
	touch $@

demo-patch: .venv/.base  ## train the bundled patch prior (hours; as demo-model)
	$(PRDIT) phantoms --count 300 --size 64 --seed $(DEMO_SEED) --out $(DEMO_WORK)/data-64
	$(PRDIT) train --stage patch --model demo --run $(PATCH_WORK)/run --data $(DEMO_WORK)/data-64 --seed 0 \
		--batch-size 8 --iterations $(PATCH_ITERATIONS) --lr 1e-3 --lr-schedule cosine \
		--save-every 500 --preview-every 2000 --resume
	$(PYTHON_HERE) -m prdit_core.checkpoints.publish $(PATCH_WORK)/run $(PATCH_PUBLISHED)

# The codec is rounded as it will be published before anything is encoded with it.
demo-latent: .venv/.base  ## train the bundled model in latents (hours; as demo-model)
	for region in chest head legs; do $(PRDIT) phantoms --region $$region --count $(word 1,$(LATENT_COUNTS)) \
		--size 64 --seed $(DEMO_SEED) --out $(LATENT_WORK)/$$region-64 || exit; done
	$(PRDIT) phantoms --region chest --count $(word 2,$(LATENT_COUNTS)) --size 128 --seed 2 \
		--out $(LATENT_WORK)/chest-128
	echo '{"chest": ["chest-64", "chest-128"], "head": ["head-64"], "legs": ["legs-64"]}' \
		> $(LATENT_WORK)/classes.json
	$(PRDIT) train --stage autoencoder --model demo-4x --run $(LATENT_WORK)/patches --data $(LATENT_WORK)/classes.json \
		$(LATENT_TRAIN) --batch-size 4 --iterations $(LATENT_CODEC) --discriminator-from $(LATENT_RIVAL) \
		--lr 1e-3 --lr-schedule cosine
	$(PRDIT) train --stage autoencoder-joint --from $(LATENT_WORK)/patches --run $(LATENT_WORK)/joint \
		--data $(LATENT_WORK)/classes.json $(LATENT_TRAIN) --iterations $(LATENT_JOINT) --lr 1e-4 --lr-schedule cosine
	$(PYTHON_HERE) -m prdit_core.checkpoints.publish $(LATENT_WORK)/joint $(LATENT_WORK)/codec
	$(PRDIT) latents --data $(LATENT_WORK)/classes.json --codec $(LATENT_WORK)/codec --out $(LATENT_WORK)/latents
	$(PRDIT) train --stage latent --model demo --codec $(LATENT_WORK)/codec --run $(LATENT_WORK)/run \
		--data $(LATENT_WORK)/latents/classes.json $(LATENT_TRAIN) --batch-size 8 \
		--iterations $(LATENT_ITERATIONS) --lr 1e-3 --lr-schedule cosine
	$(PYTHON_HERE) -m prdit_core.checkpoints.publish $(LATENT_WORK)/run $(LATENT_PUBLISHED)

# On the published base, whose files it keeps byte for byte.
# One folder holds the base and its control; one that is there is where training begins.
demo-control: .venv/.base  ## train the bundled control: masks of chests at 64^3 (hours; as demo-model)
	$(PRDIT) phantoms --region chest --count $(CONTROL_COUNT) --size 64 --seed $(DEMO_SEED) --out $(CONTROL_WORK)/chest-64
	echo '{"chest": ["chest-64"]}' > $(CONTROL_WORK)/classes.json
	$(PRDIT) latents --labels --data $(CONTROL_WORK)/classes.json --codec $(LATENT_PUBLISHED) --out $(CONTROL_WORK)/latents
	$(PRDIT) train --stage control --from $(LATENT_PUBLISHED) --run $(CONTROL_WORK)/run \
		--data $(CONTROL_WORK)/latents/classes.json $(LATENT_TRAIN) --batch-size 8 \
		--iterations $(CONTROL_ITERATIONS) --lr 5e-4 --lr-schedule cosine
	$(PYTHON_HERE) -m prdit_core.checkpoints.publish $(CONTROL_WORK)/run $(CONTROL_PUBLISHED)

.venv/.base: pyproject.toml constraints.txt scripts/environment.sh scripts/system_packages.sh
	scripts/system_packages.sh $(SYSTEM_PACKAGES)
	scripts/environment.sh --editable .
	touch $@

.venv/.gui: .venv/.base
	scripts/system_packages.sh $(WINDOW_PACKAGES)
	scripts/environment.sh --editable ".[all]"
	touch $@

.venv/.dev: .venv/.base
	scripts/system_packages.sh $(WINDOW_PACKAGES) $(SCREEN_PACKAGES) $(DICOM_PACKAGES)
	scripts/environment.sh --group dev
	touch $@

.venv/.docs: .venv/.base
	scripts/environment.sh --group docs
	touch $@
