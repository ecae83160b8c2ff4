PYTHON ?= python3
LOWEST_PYTHON ?= 3.10
VENV := .venv
RUN := $(VENV)/bin/python
LOWEST := build/lowest
PYTEST := -m pytest -n 2 --dist loadfile
RUNS := runs/demo
SPEECH := ../shared/data/speech
WHISPER := build/models/whisper-tiny-en
HEARING := --config examples/configs/spoken_digits.yaml --num_train_epochs 1 --max_eval_samples 50
SEEDS := 0 1 2
CONTESTANTS := adamw_fused ftp ftp_bf16_anchors ftp_bf16_weights published

.DEFAULT_GOAL := help
.PHONY: help lint docs pages test test-slow test-all test-lowest demo demo-speech demo-digits cards bench gpu clean

help: ## what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

lint: $(VENV)/dev ## format, rules, types, and who may import whom
	$(RUN) -m ruff format --check
	$(RUN) -m ruff check
	$(RUN) -m mypy
	$(VENV)/bin/lint-imports --no-logo

docs: $(VENV)/docs ## the documentation as a site, in build/site
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --strict --quiet

pages: $(VENV)/dev ## what the pages take from the package: keys, options, public names, the table of studies
	$(RUN) docs/generate.py

test: $(VENV)/dev ## the first tier: what launches no processes and trains no more than a few steps
	OMP_NUM_THREADS=1 $(RUN) $(PYTEST) -m "not slow"

test-slow: $(VENV)/dev ## the second tier: the rest
	OMP_NUM_THREADS=1 $(RUN) $(PYTEST) -m slow

test-all: test test-slow ## both tiers

test-lowest: $(LOWEST)/dev ## the first tier on the lowest versions that pyproject.toml allows
	OMP_NUM_THREADS=1 $(LOWEST)/bin/python $(PYTEST) -m "not slow"

demo: $(if $(wildcard $(SPEECH)),demo-speech,demo-digits) ## plain fine-tuning beside FTP: demo-speech where its recordings are, else demo-digits

demo-speech: $(VENV)/demo $(WHISPER) ## Whisper, taught digits at a wrong learning rate: what becomes of its ordinary speech
	$(RUN) examples/speech/data.py $(SPEECH)/spoken_digits build/spoken_digits
	$(RUN) examples/speech_recognition.py $(HEARING) --method plain --output_dir $(RUNS)/speech-plain
	$(RUN) examples/speech_recognition.py $(HEARING) --method ftp --output_dir $(RUNS)/speech-ftp --evaluate_pretrained false
	$(RUN) examples/compare_runs.py $(RUNS)/speech-plain $(RUNS)/speech-ftp
	$(RUN) examples/speech/transcripts.py $(SPEECH)/ljspeech_32/test.parquet $(WHISPER) \
		$(RUNS)/speech-plain $(RUNS)/speech-ftp

$(WHISPER): | $(VENV)/demo
	$(RUN) examples/models.py $(@F) $@

demo-digits: $(VENV)/demo ## a small vision transformer on small digits, three seeds each; needs no data but the package's
	$(RUN) examples/digits/data.py build/digits
	for seed in $(SEEDS); do for method in plain ftp; do \
		$(RUN) examples/image_classification.py --config examples/configs/digits_$$method.yaml \
			--seed $$seed --output_dir $(RUNS)/$$method-seed$$seed || exit 1; \
	done; done
	$(RUN) examples/compare_runs.py $(foreach method,plain ftp,$(foreach seed,$(SEEDS),$(RUNS)/$(method)-seed$(seed)))

cards: demo-digits ## the model cards of the digits' runs
	$(RUN) examples/make_card.py model_cards/digits-vit-ftp $(SEEDS:%=$(RUNS)/ftp-seed%) \
		--plain $(SEEDS:%=$(RUNS)/plain-seed%) --before "python examples/digits/data.py build/digits"
	$(RUN) examples/make_card.py model_cards/digits-vit-plain $(SEEDS:%=$(RUNS)/plain-seed%) \
		--before "python examples/digits/data.py build/digits"

bench: $(VENV)/dev ## the time and memory of a step
	$(RUN) benchmarks/step.py --models vit_b --contestants $(CONTESTANTS) --repetitions 10 --skip_first \
		--output build/bench/step.json
	$(RUN) benchmarks/memory.py --contestants $(CONTESTANTS) --repetitions 1 --output build/bench/memory.json
	$(RUN) benchmarks/logging_radii.py --models vit_b --repetitions 10 --output build/bench/logging_radii.json
	$(RUN) benchmarks/chart.py --step build/bench/step.json --memory build/bench/memory.json --output build/bench/step.png

$(VENV)/demo $(VENV)/dev $(VENV)/docs: pyproject.toml constraints.txt
	$(RUN) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	$(RUN) -m pip install --quiet --constraint constraints.txt --editable ".[$(@F)]"
	touch $@

$(LOWEST)/dev: pyproject.toml $(VENV)/dev
	$(VENV)/bin/uv venv --clear --python $(LOWEST_PYTHON) $(LOWEST)
	$(VENV)/bin/uv pip install --quiet --python $(LOWEST) --resolution lowest-direct --editable ".[dev]"
	touch $@

gpu: ## on a machine with a GPU, with the Python that is there: all tests and benchmarks that need it, to build/gpu/
	$(PYTHON) benchmarks/gpu.py --output build/gpu

clean: ## remove the environments, and what was built and run
	rm -rf $(VENV) build runs
