# Everything a contributor runs goes through here; `make help` lists it.
# Needs Go, git, make, bash and gcc (for the race detector). The rest is fetched or installed on first use.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

GO       ?= go
FUZZTIME ?= 10s
PKG      ?= ./...
RUN      ?=
# Tests wait more than they compute, so more of a package run at once than there are cores.
PARALLEL ?= 4
BIN      := $(CURDIR)/bin
# The modules with Go code. A go.work would join them too, but would let the peers of bench/ choose our versions.
CODE     := . $(patsubst %/go.mod,%,$(wildcard bench/go.mod))
# Modules that have tests only, of what is not Go. Their dependencies would take the linters minutes, and the race detector as
# many; go test compiles and vets them.
CHECKS   := $(patsubst %/go.mod,%,$(wildcard deploy/go.mod examples/app/browser/go.mod))
BROWSER  := examples/app/browser
# tools/ and tools/docs have no code, they only pin versions: each tool in a module of its own, so that none changes another.
MODULES  := $(CODE) $(CHECKS) tools tools/docs
LINTER   := $(BIN)/golangci-lint
DOCS     := $(BIN)/gomarkdoc

.PHONY: help run test browser alerts lint fmt vet fmt-check tidy-check golangci bench fuzz cover generate generate-check docs docs-check build tidy redis ci clean

help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  \033[1m%-15s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  Variables: ARGS (for run and bench), FUZZTIME=$(FUZZTIME), PKG (for test and cover), RUN and PARALLEL (for test), REDIS_URL (for run)"

run: ## Start the example: embedded server, or the one REDIS_URL names (ARGS="-workflows 20")
# Not with go run, which takes every Ctrl-C for a failure.
	@[ -x $(BIN)/app ] || echo "building examples/app and all it needs; the first time takes a minute or two"
	@$(GO) build -o $(BIN)/app ./examples/app
	@exec $(BIN)/app $(ARGS)

test: redis ## Run all tests under the race detector (PKG=./lock RUN=TestName narrows)
	$(GO) test -race -count=1 -parallel $(PARALLEL) $(if $(RUN),-run '$(RUN)') $(PKG)
# What needs libraries that users should not inherit is in a module of its own.
	@[ '$(PKG)' != ./... ] || for m in $(filter-out .,$(CODE)); do echo "go test ./... ($$m)"; \
	  (cd $$m && $(GO) test -race -count=1 -parallel $(PARALLEL) $(if $(RUN),-run '$(RUN)') ./...); done
	@[ '$(PKG)' != ./... ] || for m in $(filter-out $(BROWSER),$(CHECKS)); do echo "go test ./... ($$m)"; \
	  (cd $$m && $(GO) test -count=1 $(if $(RUN),-run '$(RUN)') ./...); done
	@[ '$(PKG)$(RUN)' != ./... ] || $(MAKE) --no-print-directory alerts

alerts: ## Check the alerts of deploy/ and run their tests with promtool
	@tools/promtool.sh check rules deploy/prometheus/alerts.yml
	@tools/promtool.sh test rules deploy/prometheus/alerts_test.yml

lint: fmt-check tidy-check vet golangci docs-check ## Check format, go.mod files, vet and golangci-lint over all modules, and docs/api

fmt: ## Format all Go code
	@gofmt -s -w $$(git ls-files --cached --others --exclude-standard --deduplicate '*.go')

fmt-check: # fails when a file is not gofmt -s clean
	@files=$$(git ls-files --cached --others --exclude-standard --deduplicate '*.go'); \
	dirty=$$(for f in $$files; do [ ! -e "$$f" ] || echo "$$f"; done | xargs -r gofmt -s -l); \
	if [ -n "$$dirty" ]; then echo "not formatted, run make fmt:"; echo "$$dirty"; exit 1; fi

tidy: ## Run go mod tidy in all modules
	@for m in $(MODULES); do (cd $$m && $(GO) mod tidy); done

tidy-check: # fails when go mod tidy would change a go.mod or go.sum
	@for m in $(MODULES); do echo "go mod tidy -diff ($$m)"; (cd $$m && $(GO) mod tidy -diff); done

vet: build # the compiler's and go vet's findings, of every module
	@for m in $(CODE); do echo "go vet ./... ($$m)"; (cd $$m && $(GO) vet ./...); done

golangci: $(LINTER) # the linters and import rules of .golangci.yml
	@for m in $(CODE); do echo "golangci-lint run ($$m)"; (cd $$m && $(LINTER) run --config $(CURDIR)/.golangci.yml ./...); done

# Built from source with the version that tools/go.mod pins: about two minutes on two cores the first time.
$(LINTER): tools/go.mod tools/go.sum
	@echo "building golangci-lint, once per version (a few minutes)"
	@mkdir -p $(BIN)
	@cd tools && $(GO) build -ldflags='-s -w' -o $@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	@touch $@

build: ## Compile every package of every module
# To /dev/null, or a module of one program would leave its binary in the work tree.
	@for m in $(CODE); do echo "go build ($$m)"; (cd $$m && $(GO) build -o /dev/null ./...); done

bench: redis ## Measure against the peers and print one table of ratios (ARGS for its flags)
	@cd bench && $(GO) run . $(ARGS)

fuzz: redis ## Run every fuzz target for FUZZTIME
	@GO='$(GO)' tools/fuzz.sh $(FUZZTIME)

cover: redis ## Write coverage.out and coverage.html
	$(GO) test -count=1 -coverpkg=./... -coverprofile=coverage.out $(PKG)
	@$(GO) tool cover -html=coverage.out -o coverage.html
	@$(GO) tool cover -func=coverage.out | tail -1

generate: ## Rewrite generated files
	@for m in $(CODE); do (cd $$m && $(GO) generate ./...); done

generate-check: # fails when make generate would change a file; leaves the work tree alone
	@GO='$(GO)' tools/generate-check.sh $(CODE)

docs: $(DOCS) ## Rewrite docs/api, the reference as Markdown, from the doc comments
	@tools/docs.sh $(DOCS)

docs-check: $(DOCS) # fails when make docs would change a file; some five seconds
	@tools/docs.sh $(DOCS) check

$(DOCS): tools/docs/go.mod tools/docs/go.sum
	@mkdir -p $(BIN)
	@cd tools/docs && $(GO) build -ldflags='-s -w' -o $@ github.com/princjef/gomarkdoc/cmd/gomarkdoc
	@touch $@

redis: # the tests start real redis-server processes
	@tools/install-redis.sh

# Not part of test: a machine without a Chromium downloads 120 MB, which would take CI over its time.
browser: ## Test the example's page in a Chromium, which is installed when it is missing
	@tools/install-chromium.sh
	cd $(BROWSER) && $(GO) test -count=1 ./...

ci: ## What CI runs: generated files fresh, lint, build, test
	@for t in generate-check lint build test; do \
	  start=$$SECONDS; echo "==> $$t"; $(MAKE) --no-print-directory $$t; echo "==> $$t: $$((SECONDS - start)) s"; done

clean: ## Remove what the other targets built or wrote
	@rm -rf $(BIN) coverage.out coverage.html
