PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
RUNS := runs/demo
SEEDS := 0 1 2
CONTESTANTS := adamw_fused ftp ftp_bf16_anchors ftp_bf16_weights published

.PHONY: demo cards test lint bench clean

demo: $(VENV)/demo
	$(RUN) examples/digits/data.py build/digits
	for seed in $(SEEDS); do for method in plain ftp; do \
		$(RUN) examples/image_classification.py --config examples/configs/digits_$$method.yaml \
			--seed $$seed --output_dir $(RUNS)/$$method-seed$$seed || exit 1; \
	done; done
	$(RUN) examples/compare_runs.py $(foreach method,plain ftp,$(foreach seed,$(SEEDS),$(RUNS)/$(method)-seed$(seed)))

cards: demo
	$(RUN) examples/make_card.py model_cards/digits-vit-ftp $(SEEDS:%=$(RUNS)/ftp-seed%) \
		--plain $(SEEDS:%=$(RUNS)/plain-seed%) --before "python examples/digits/data.py build/digits"
	$(RUN) examples/make_card.py model_cards/digits-vit-plain $(SEEDS:%=$(RUNS)/plain-seed%) \
		--before "python examples/digits/data.py build/digits"

test: $(VENV)/dev
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n 2 --dist loadfile

lint: $(VENV)/dev
	$(RUN) -m ruff format --check
	$(RUN) -m ruff check
	$(RUN) -m mypy

bench: $(VENV)/dev
	$(RUN) benchmarks/step.py --models vit_b --contestants $(CONTESTANTS) --repetitions 10 --skip_first \
		--output build/bench/step.json
	$(RUN) benchmarks/memory.py --contestants $(CONTESTANTS) --repetitions 1 --output build/bench/memory.json
	$(RUN) benchmarks/logging_radii.py --models vit_b --repetitions 10 --output build/bench/logging_radii.json
	$(RUN) benchmarks/chart.py --step build/bench/step.json --memory build/bench/memory.json --output build/bench/step.png

$(VENV)/demo $(VENV)/dev: pyproject.toml constraints.txt
	$(RUN) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	$(RUN) -m pip install --quiet --constraint constraints.txt --editable ".[$(@F)]"
	touch $@

clean:
	rm -rf $(VENV) build runs
