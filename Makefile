# Two commands matter: `make demo` and `make test`. Each brings all that it needs.

export PATH := $(CURDIR)/node_modules/.bin:$(CURDIR)/.venv/bin:$(PATH)
export DIR

source := node --conditions=@effect-ray/source

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup check test bench chaos demo format build clean

help: ## Lists the targets.
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/^([a-z]+):[^#]*## /make \1	/' | expand -t 14

setup:
	@sh scripts/setup.sh

check: setup ## Format, lint, types, publint and are-the-types-wrong.
	@node scripts/check.ts

test: setup ## Every check and every test, on a real Postgres and a real Ray.
	@node scripts/test.ts

bench: setup ## Measures effect-ray beside its neighbours; results go to bench/results.
	@$(source) bench/src/main.ts

chaos: setup ## Runs for MINUTES (60) under a steady load, and watches memory, logs, files and rows.
	@$(source) chaos/src/main.ts $(MINUTES)

demo: setup ## Runs the main job on the text files of DIR (this repository's by default).
	@if [ -n "$$DIR" ]; then $(source) examples/demo/src/main.ts "$$DIR"; else $(source) examples/demo/src/main.ts; fi

format: setup ## Embeds the SQL files, repairs what the linter can repair, then formats every file.
	@node scripts/embedSql.ts
	@oxlint --type-aware --fix || true
	@dprint fmt

build: setup ## Builds the packages into their dist folders.
	@tsc -b tsconfig.build.json

clean: ## Removes all that was built or installed.
	@rm -rf node_modules .venv .setup build packages/*/dist packages/*/build examples/*/build bench/build
