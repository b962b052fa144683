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
# Packages without the end-to-end tests, which have the machine to themselves.
UNIT         = $$($(GO) list ./... | grep -v /node_modules/ | grep -v 'hubbub/test')

.PHONY: all build test deps lint unit fuzz web e2e fleet chaos clean

all: build

build:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/hubbub ./cmd/hubbub

test: deps lint web unit fuzz e2e fleet

deps:
	scripts/test-deps.sh

lint:
	@out=$$(git ls-files --cached --others --exclude-standard '*.go' | xargs gofmt -l); \
	  if [ -n "$$out" ]; then echo "not gofmt'd:"; echo "$$out"; exit 1; fi
	$(GO) vet $$($(GO) list ./... | grep -v /node_modules/)
	$(GO) run $(STATICCHECK) $$($(GO) list ./... | grep -v /node_modules/)
	CGO_ENABLED=0 $(GO) build -o /dev/null ./cmd/hubbub

unit:
	$(GO) test -race -timeout 10m $(UNIT)

fuzz:
	FUZZTIME=$(FUZZTIME) scripts/fuzz.sh

web:
	cd web && npm run typecheck && npm test
	scripts/check-dist.sh

e2e:
	$(GO) test -race -count=1 -p 1 -parallel 8 -timeout 15m ./test/...

# The tests of one whole server once more, on nine processes.
fleet:
	$(GO) test -race -count=1 -parallel 8 -timeout 10m ./test -args -fleet

chaos: deps
	$(GO) test -count=1 -v -timeout 40m ./test/chaos -run TestChaos -args -full -seed=$(SEED) -only=$(FAULTS) -out=$(CURDIR)/bin/chaos-$(SEED)

clean:
	rm -rf bin
