# make        builds bin/hubbub
# make test   installs what only tests need, then runs every check there is
# make chaos  kills, stops, parts and floods a fleet of nine as SEED says, in four minutes

GO          ?= go
STATICCHECK  = honnef.co/go/tools/cmd/staticcheck@v0.8.2
VERSION     ?= 0.1.0
# Seconds that each fuzz target runs in make test.
FUZZTIME    ?= 3s
# Decides what make chaos does to whom, in which order, and when; FAULTS picks some.
SEED        ?= 1
FAULTS      ?=
# Packages without the end-to-end tests, which have the machine to themselves. Those that
# take longest come first, and last the one that measures.
UNIT         = $$($(GO) list ./sim ./internal/serve/... ./... | grep -v -e hubbub/test -e serve/load) ./internal/serve/load

.PHONY: all build test deps lint unit fuzz web e2e fleet chaos clean

all: build

build:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/hubbub ./cmd/hubbub

# The compilers of one leave room for the others; what is fuzzed or measured is alone.
test:
	$(MAKE) -j3 --output-sync=target unit lint web
	$(MAKE) fuzz
	$(MAKE) e2e

deps:
	scripts/test-deps.sh

lint:
	@out=$$(git ls-files --cached --others --exclude-standard '*.go' | xargs gofmt -l); \
	  if [ -n "$$out" ]; then echo "not gofmt'd:"; echo "$$out"; exit 1; fi
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...
	CGO_ENABLED=0 $(GO) build -o /dev/null ./cmd/hubbub

unit:
	$(GO) test -race -vet=off -timeout 10m $(UNIT)

fuzz:
	FUZZTIME=$(FUZZTIME) scripts/fuzz.sh

web: deps
	cd web && npm run typecheck && npm test
	scripts/check-dist.sh

e2e: deps
	scripts/e2e.sh

# The tests of one whole server once more, on nine processes.
fleet: deps
	scripts/e2e.sh test-fleet

chaos: deps
	$(GO) test -count=1 -v -timeout 40m ./test/chaos -run TestChaos -args -full -seed=$(SEED) -only=$(FAULTS) -out=$(CURDIR)/bin/chaos-$(SEED)

clean:
	rm -rf bin
