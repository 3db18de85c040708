# iomapfs. "make" lists the targets. Everything works on a fresh Debian 12 with Go and nothing else, as root; without root
# "make deps" says what to install.

SHELL   := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
GO      ?= go
PREFIX  ?= /usr/local
DESTDIR ?=
FUZZTIME ?= 10s
SOAKTIME ?= 10m

# Every folder with a go.mod, but the linters' own.
MODULES := $(shell find . -name go.mod -not -path './tools/*' -not -path '*/testdata/*' -printf '%h\n' | sort)
PACKAGES := $(addsuffix /...,$(MODULES))
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo development)
LDFLAGS := -s -w -X main.version=$(VERSION)
export GOFLAGS := -buildvcs=false $(GOFLAGS)

.DEFAULT_GOAL := help
.PHONY: help deps build cross demo test test-race bench soak fuzz lint vet tidy cover man clean install uninstall FORCE

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

deps: ## install what tests and demo need (apt, as root), or say what is missing
	@bash scripts/deps.sh

build: bin/iomapfs ## bin/iomapfs, static

bin/iomapfs: FORCE
	@mkdir -p bin
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $@ ./cmd/iomapfs
FORCE:

cross: ## the binary for macOS and Windows: everything but mounting
	@for os in darwin windows; do echo "GOOS=$$os"; (cd cmd && GOWORK=off CGO_ENABLED=0 GOOS=$$os $(GO) build -o /dev/null ./iomapfs); done

demo: deps build ## make an image, mount it, work in it, show its layout, check it
	@bash scripts/demo.sh bin/iomapfs

# Each module alone, where a forbidden import does not compile; then all tests in the workspace.
test: deps vet cross ## vet each module alone, build for other hosts, run all tests
	@$(GO) test -timeout 20m $(PACKAGES)

vet: ## build and vet each module alone and in the workspace
	@for m in $(MODULES); do echo "vet $$m"; (cd $$m && GOWORK=off $(GO) vet ./...); done
	@echo "vet the workspace"; $(GO) vet $(PACKAGES)

test-race: deps ## all tests with the race detector and lock ranks checked
	@CGO_ENABLED=1 $(GO) test -race -timeout 60m $(PACKAGES)

cover: deps ## coverage of all tests, by package, in .build/cover.out
	@mkdir -p .build
	@$(GO) test -timeout 40m -coverprofile=.build/cover.out -coverpkg=$$(echo $(PACKAGES) | tr ' ' ,) $(PACKAGES)
	@$(GO) tool cover -func=.build/cover.out | tail -1

bench: deps build ## compare with fuse2fs and the kernel, fusefat and mtools, side by side; BENCH="-fs fat -rounds 5"
	@bash scripts/deps.sh bench
	@$(GO) build -o bin/bench ./fstests/bench
	@bin/bench -bin bin/iomapfs $(BENCH)
	@$(if $(BENCH),,bin/bench -bin bin/iomapfs -fs fat)
	@$(GO) run ./fstests/compare/bar

soak: deps build ## long random tests: SOAKTIME (10m) for each
	@IOMAPFS_SOAK=$(SOAKTIME) $(GO) test -timeout 24h -v -run 'Soak' $(PACKAGES)

fuzz: ## every fuzz target for FUZZTIME (10s)
	@bash scripts/fuzz.sh $(FUZZTIME) $(MODULES)

lint: vet ## gofumpt, go vet, staticcheck
	@bash scripts/lint.sh $(MODULES)

tidy: ## go mod tidy in each module, one set of versions in the workspace
	@bash scripts/tidy.sh
	@$(GO) work sync

man: build ## manual pages of all commands, in .build/man
	@bin/iomapfs man .build/man && ls .build/man | wc -l

install: build ## binary, mount helpers, manual pages, completions, systemd unit
	install -D -m 755 bin/iomapfs $(DESTDIR)$(PREFIX)/bin/iomapfs
	install -d $(DESTDIR)/sbin $(DESTDIR)$(PREFIX)/share/bash-completion/completions $(DESTDIR)$(PREFIX)/share/zsh/site-functions $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d
	for l in mount.iomapfs mount.fuse.iomapfs umount.iomapfs umount.fuse.iomapfs; do ln -sf $(PREFIX)/bin/iomapfs $(DESTDIR)/sbin/$$l; done
	bin/iomapfs completion bash > $(DESTDIR)$(PREFIX)/share/bash-completion/completions/iomapfs
	bin/iomapfs completion zsh > $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_iomapfs
	bin/iomapfs completion fish > $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/iomapfs.fish
	bin/iomapfs man $(DESTDIR)$(PREFIX)/share/man/man1
	install -D -m 644 scripts/iomapfs@.service $(DESTDIR)$(PREFIX)/lib/systemd/system/iomapfs@.service

uninstall: ## take away what install installed
	rm -f $(DESTDIR)$(PREFIX)/bin/iomapfs $(DESTDIR)/sbin/mount.iomapfs $(DESTDIR)/sbin/mount.fuse.iomapfs $(DESTDIR)/sbin/umount.iomapfs $(DESTDIR)/sbin/umount.fuse.iomapfs
	rm -f $(DESTDIR)$(PREFIX)/share/man/man1/iomapfs.1 $(DESTDIR)$(PREFIX)/share/man/man1/iomapfs-*.1
	rm -f $(DESTDIR)$(PREFIX)/share/bash-completion/completions/iomapfs $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_iomapfs
	rm -f $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/iomapfs.fish $(DESTDIR)$(PREFIX)/lib/systemd/system/iomapfs@.service

clean: ## remove what was built
	rm -rf bin .build
