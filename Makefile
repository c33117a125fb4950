# All that a developer or CI runs. `make` alone lists it.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help run up dist test js check bench centrifuge-bench hostile rolling storm durable return presence api calls topics traces million growth peers sizing instructions instructions-record recovery interest chaos churn stuck chart cluster image-check conformance drain-go examples-go docs-go centrifuge-go centrifuge-java trace-test model fuzz lint-fuzz fmt lint doc deny servers tools

CARGO ?= cargo
# Where cargo builds, asked only by who needs it.
TARGET = $$($(CARGO) metadata --no-deps --format-version 1 | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
# Which cargo-deny is installed where there is none.
CARGO_DENY := ^0.20
# Which cargo-fuzz is installed where there is none.
CARGO_FUZZ := ^0.13
# What is fuzzed, and for how long each.
FUZZ_TARGETS ?= $(basename $(notdir $(wildcard fuzz/fuzz_targets/*.rs)))
FUZZ_SECONDS ?= 20
# Tests at the same time: half as many again as cores, since most of them wait most of the time.
export RUST_TEST_THREADS ?= $(shell echo $$(( ($$(getconf _NPROCESSORS_ONLN) * 3 + 1) / 2 )))

help: ## list what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

run: tools ## build a gateway and run it by itself, with a page to try it on
	$(CARGO) run -- serve --embedded --demo

# UP_NATS_PORT, UP_REDIS_PORT, UP_PUBLIC_PORT_1 and so on choose other ports: examples/up.sh
# lists them.
up: tools ## the real thing on one machine: NATS, Redis and two gateways
	@examples/up.sh check
	tests/servers.sh up
	$(CARGO) build
	@examples/up.sh "$(TARGET)/debug/usher"

dist: tools ## what a release has: program, checksums, SBOM, chart, npm package, into dist/
	@tests/servers.sh release
	image/dist.sh

test: tools servers ## the whole suite, against a real nats-server and a real Redis
	$(CARGO) test

js: tools servers ## lint, type-check, build and test the npm package, against real servers too
	@tests/servers.sh js
	$(CARGO) build
	cd clients/js && PATH="$$PWD/../../.servers/bin:$$PATH" USHER="$(TARGET)/debug/usher" npm run --silent check

check: tools fmt-check lint deny doc test js instructions ## everything that CI wants: format, lints, licences, docs, tests, counted instructions

bench: tools servers ## measure the gateway beside its floors, into benches/results.txt
	$(CARGO) bench --bench gateway | tee benches/results.txt

centrifuge-bench: tools servers ## measure the Centrifuge protocol beside usher.v1, into benches/centrifuge.txt
	$(CARGO) bench --bench gateway -- centrifuge | tee benches/centrifuge.txt

hostile: tools servers ## measure what sessions notice of 2,000 hostile clients, into benches/hostile.txt; fails beyond the bound
	$(CARGO) bench --bench gateway -- hostile | tee benches/hostile.txt

# The same by Python's grpcio is in the suite.
drain-go: tools servers ## drain ten gateways under callers by grpc-go: no push is lost, and none that failed is published
	@command -v go >/dev/null || { echo "Go is missing: install it, https://go.dev/dl" >&2; exit 1; }
	cd tests/clients/go && go build -o "$(TARGET)/drain-go" .
	USHER_DRAIN_GO="$(TARGET)/drain-go" $(CARGO) test --test journeys -- --ignored --nocapture grpc_go

# Those in Python and Node are in the suite.
examples-go: tools servers ## run the publishers' examples in Go against real servers
	@command -v go >/dev/null || { echo "Go is missing: install it, https://go.dev/dl" >&2; exit 1; }
	PYTHONPATH="$$PWD/.servers/python" examples/publishers/go/stubs.sh
	cd examples/publishers/go && go vet ./... && mkdir -p "$(TARGET)/examples-go" && go build -o "$(TARGET)/examples-go/" ./...
	USHER_EXAMPLES_GO="$(TARGET)/examples-go" $(CARGO) test --test journeys -- --ignored --nocapture examples::go

# Those in JavaScript and Python are in "make js".
docs-go: tools servers ## run the ticket endpoint in Go of docs/frontend.md
	@command -v go >/dev/null || { echo "Go is missing: install it, https://go.dev/dl" >&2; exit 1; }
	@tests/servers.sh js
	$(CARGO) build
	cd clients/js && npm run --silent build && USHER="$(TARGET)/debug/usher" USHER_DOCS_GO=yes node --test --test-name-pattern='^Go$$' test/docs.test.mjs

# Those in JavaScript and Python are in the suite.
centrifuge-go: tools servers ## run Centrifuge's SDK for Go against a gateway
	@command -v go >/dev/null || { echo "Go is missing: install it, https://go.dev/dl" >&2; exit 1; }
	cd tests/clients/centrifuge && go vet . && go build -o "$(TARGET)/centrifuge-go" .
	USHER_CENTRIFUGE_GO="$(TARGET)/centrifuge-go" $(CARGO) test --test journeys -- --ignored --nocapture centrifuge::go::

# Maven says only which jars there are.
centrifuge-java: tools servers ## run Centrifuge's SDK for Java against a gateway
	@for program in java javac mvn; do command -v $$program >/dev/null || { \
		echo "$$program is missing: apt-get install openjdk-17-jdk-headless maven (or a newer JDK)" >&2; exit 1; }; done
	@mkdir -p "$(TARGET)/centrifuge-java"
	mvn -q -B -f tests/clients/centrifuge-java/pom.xml dependency:build-classpath -Dmdep.outputFile="$(TARGET)/centrifuge-java/classpath"
	javac -Xlint:all -Werror -d "$(TARGET)/centrifuge-java" -cp "$$(cat "$(TARGET)/centrifuge-java/classpath")" tests/clients/centrifuge-java/App.java
	USHER_CENTRIFUGE_JAVA="$(TARGET)/centrifuge-java:$$(cat "$(TARGET)/centrifuge-java/classpath")" \
		$(CARGO) test --test journeys -- --ignored --nocapture centrifuge::java::

# Each has a small form in the suite. CHAOS_SEED repeats the faults of another run.
chaos: tools servers ## ten minutes of faults, with an auditor who knows what was sent
	CHAOS_SECONDS=$${CHAOS_SECONDS:-600} $(CARGO) test --release --test chaos -- --nocapture

# Half of the seconds and of the messages are for one NATS server, half for three.
# RECOVERY_SEED repeats the faults of another run; RECOVERY_WORLD=three_servers (or one_server)
# runs one of the two.
recovery: tools servers ## 500,000 messages in durable mode while everything goes wrong, into benches/recovery.txt
	{ \
		echo "RECOVERY_SECONDS=$${RECOVERY_SECONDS:-600} RECOVERY_MESSAGES=$${RECOVERY_MESSAGES:-500000} make recovery"; \
		echo "$$(nproc) cores, $$(uname -sr), $$(.servers/bin/nats-server --version)"; \
		RECOVERY_SECONDS=$${RECOVERY_SECONDS:-600} RECOVERY_MESSAGES=$${RECOVERY_MESSAGES:-500000} \
			$(CARGO) test --release --test recovery -- --nocapture --test-threads 1 \
			$${RECOVERY_WORLD:-}$${RECOVERY_WORLD:+_}everybody; \
	} | tee benches/recovery.txt

churn: tools servers ## open and close 200,000 sessions: nothing may be left of them
	CHURN_SESSIONS=$${CHURN_SESSIONS:-200000} $(CARGO) test --release --test load -- churn --nocapture

stuck: tools servers ## 1,000 sessions that do not read: the memory that they cost
	STUCK_SESSIONS=$${STUCK_SESSIONS:-1000} $(CARGO) test --release --test load -- stuck --nocapture --test-threads 1

rolling: tools servers ## restart three gateways behind haproxy under 5,000 clients, into benches/rolling.txt; fails where one notices
	$(CARGO) bench --bench gateway -- rolling | tee benches/rolling.txt

storm: tools servers ## let 15,000 clients connect at once, into benches/storm.txt; fails where one stays out
	$(CARGO) bench --bench gateway -- storm | tee benches/storm.txt

durable: tools servers ## measure durable mode beside live mode, into benches/durable.txt; fails where messages are twice as late, or lost
	$(CARGO) bench --bench gateway -- durable | tee benches/durable.txt

# ROWS='NAME…' measures these rows only, and writes no file.
return: tools servers ## measure what clients cost that come back in durable mode, into benches/return.txt; fails where one loses something
	$(CARGO) bench --bench gateway -- return $(ROWS) $(if $(ROWS),,| tee benches/return.txt)

presence: tools servers ## measure what it costs to ask who of 1,000 users is online, into benches/presence.txt; fails above 150 ms
	$(CARGO) bench --bench gateway -- presence | tee benches/presence.txt

calls: tools servers ## measure clients' calls to a service beside NATS requests, into benches/calls.txt
	$(CARGO) bench --bench gateway -- calls | tee benches/calls.txt

api: tools servers ## measure pushes over a stream, and messages beside a broadcast to 15,000 sessions, into benches/broadcast.txt; fails beyond the bounds
	$(CARGO) bench --bench gateway -- api | tee benches/broadcast.txt

topics: tools servers ## measure what topics cost, and 3,000 follows a second, into benches/topics.txt; fails where a message is lost
	$(CARGO) bench --bench gateway -- topics | tee benches/topics.txt

traces: tools servers ## measure what traces cost the delivery of messages, into benches/traces.txt
	$(CARGO) bench --bench gateway -- traces | tee benches/traces.txt

# MILLION_SESSIONS is a number that the machine's memory and cores allow where nothing else is
# said; MILLION_HOLD is in seconds, 300 by default.
million: tools servers ## open, hold and count a million sessions, or as many as the machine holds, into benches/million.txt
	$(CARGO) bench --bench gateway -- million | tee benches/million.txt

# Its figures go into docs/performance.md by themselves; QUICK=--quick has a tenth of the sessions,
# and GROWTH_DOCS names another folder with such a page.
growth: tools servers ## measure how cost grows with sessions, payloads and sessions a user, into docs/performance.md
	$(CARGO) bench --bench gateway -- growth $(QUICK)

sizing: tools servers ## run usher bench against fresh gateways, into benches/sizing.txt
	$(CARGO) bench --bench gateway -- sizing | tee benches/sizing.txt

# The other gateways are one in Node and, where Go is, Centrifugo, which Go builds once.
peers: tools servers ## measure Usher beside other gateways, into benches/peers.txt
	@tests/servers.sh peers
	$(CARGO) bench --bench gateway -- peers $(QUICK) | tee benches/peers.txt

# Counts compare only under one compiler: under another it says so, and passes.
instructions: tools servers ## count the instructions of four hot paths; fails where one takes a tenth more than is recorded
	@tests/servers.sh valgrind
	$(CARGO) bench --profile dev --bench gateway -- instructions

instructions-record: tools servers ## record these counts in benches/instructions.txt
	@tests/servers.sh valgrind
	INSTRUCTIONS_RECORD=yes $(CARGO) bench --profile dev --bench gateway -- instructions

chart: tools servers ## lint and test the chart alone
	.servers/bin/helm lint --strict helm --set demo.enabled=true
	$(CARGO) test --test chart

# Go's modules are the only place that carries Kubernetes itself.
cluster: tools servers ## run the chart on a real control plane, built with Go; the first time takes minutes more
	@tests/servers.sh cluster
	$(CARGO) test --test chart -- --ignored --nocapture cluster

image-check: tools ## build the image's program twice, and run it in an empty root; needs root, takes long
	@tests/servers.sh
	@image/check.sh twice

interest: servers ## measure what 200,000 users cost NATS, alone and clustered, and Redis, into benches/interest.txt
	python3 benches/interest.py | tee benches/interest.txt

conformance: tools ## have Autobahn judge how sessions keep RFC 6455
	@tests/servers.sh autobahn
	$(CARGO) build --example echo
	@tests/conformance/run.sh "$(TARGET)/debug/examples/echo" "$(TARGET)/conformance"

# Those in which tickets, tokens and passwords travel.
TRACED = admission:: centrifuge::sdks centrifuge::tokens clear_token:: commands::a_ commands::listen \
	commands::push commands::the_ durable::tickets json:: jwt_connect:: log_lines:: logins:: mint push:: redis_check:: redis_sentinel:: redis_single:: \
	refreshing:: refusals:: reloads:: talking:: tickets:: tls::
trace-test: tools servers ## these journeys with every log line on, to see that no secret is in any
	USHER_TEST_LOG=trace $(CARGO) test --test journeys -- $(TRACED)

model: tools ## the model checks of joins and leaves, and of sessions in durable mode
	$(CARGO) test --test registry_model --test durable_model

# What is found goes into fuzz/found, so that a later run begins there. The stable
# compiler has the address sanitizer, but lets nobody ask for it by default.
fuzz: tools ## fuzz all that parses outside bytes, for FUZZ_SECONDS each
	@command -v c++ >/dev/null || { echo "a C++ compiler is missing: apt-get install g++" >&2; exit 1; }
	@$(CARGO) fuzz --version >/dev/null 2>&1 || { \
		echo "cargo-fuzz is missing: installing it"; \
		$(CARGO) install --locked --version '$(CARGO_FUZZ)' cargo-fuzz; \
	}
	RUSTC_BOOTSTRAP=1 $(CARGO) fuzz build
	@for target in $(FUZZ_TARGETS); do \
		echo "=== $$target, for $(FUZZ_SECONDS) s"; \
		mkdir -p fuzz/found/$$target; \
		RUSTC_BOOTSTRAP=1 $(CARGO) fuzz run $$target fuzz/found/$$target fuzz/corpus/$$target -- \
			-max_total_time=$(FUZZ_SECONDS) -timeout=10 -malloc_limit_mb=64 -verbosity=0 \
			-print_final_stats=1 2>&1 | grep -av -e '^"' -e '^######' -e '^INFO:'; \
	done

lint-fuzz: tools ## lint the fuzz targets, which need a build of their own
	RUSTFLAGS="--cfg fuzzing" $(CARGO) clippy --manifest-path fuzz/Cargo.toml -- -D warnings

fmt: ## format the code
	$(CARGO) fmt
	$(CARGO) fmt --manifest-path fuzz/Cargo.toml

.PHONY: fmt-check
fmt-check:
	$(CARGO) fmt --check
	$(CARGO) fmt --check --manifest-path fuzz/Cargo.toml

lint:
	$(CARGO) clippy --all-targets -- -D warnings
	$(CARGO) clippy --lib -- --cfg fuzzing -D warnings

doc:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps

# The advisory database is a git repository on the internet. Where it is out of
# reach that one check is left out, and said so; the others need no network.
deny: tools
	@$(CARGO) deny --version >/dev/null 2>&1 || { \
		echo "cargo-deny is missing: installing it"; \
		$(CARGO) install --locked --version '$(CARGO_DENY)' cargo-deny; \
	}
	$(CARGO) deny check bans licenses sources
	@if timeout 60 $(CARGO) deny fetch db >/dev/null 2>&1; then \
		$(CARGO) deny check advisories; \
	else \
		echo "advisories: NOT checked, since their database is out of reach"; \
	fi

# nats-server and Redis, foreign clients in Python, what judges OpenAPI, a browser, and
# what the chart is tested with.
servers:
	@tests/servers.sh
	@tests/servers.sh python
	@tests/servers.sh openapi
	@tests/servers.sh browser
	@tests/servers.sh faults
	@tests/servers.sh chart
	@tests/servers.sh compose

tools:
	@command -v $(CARGO) >/dev/null || { echo "Rust is missing: install it with rustup, https://rustup.rs" >&2; exit 1; }
	@command -v cc >/dev/null || { echo "a C compiler is missing: apt-get install gcc" >&2; exit 1; }
