# `make` on a fresh clone shows the whole thing on this machine; it needs Node >= 20.19 with npm, nothing else.
#   make HTTP=:8000 TUNNEL=:8001 COUNT=5     other ports, and an end after five answers

NODE ?= node
NPM ?= npm

DEMO_FLAGS = $(if $(HTTP),--http $(HTTP)) $(if $(TUNNEL),--tunnel $(TUNNEL)) $(if $(COUNT),--count $(COUNT))

.PHONY: demo build test check audit demo-docker clean node

demo: build
	@$(NODE) dist/cli/main.js demo $(DEMO_FLAGS)

build: node_modules/.package-lock.json
	@$(NPM) run --silent build

# One line per Node found, failures in full, and the sum as the last line.
test: build
	@$(NODE) scripts/test.mjs

# Format, lint, types, and the house rules: what a change must pass before its tests are worth running.
check: node_modules/.package-lock.json
	@$(NPM) run --silent check

audit: node
	@$(NPM) audit

# The same demo as containers on three networks: the producer cannot reach the server but through the tunnel.
demo-docker:
	@docker compose version >/dev/null 2>&1 || { \
	  echo "make: 'docker compose' does not run here: install Docker Engine with its compose plugin, or run 'make' for the demo without containers" >&2; exit 1; }
	@trap : INT; docker compose up --build; code=$$?; docker compose down --volumes; \
	  test $$code -eq 0 -o $$code -eq 130

clean:
	rm -rf dist build coverage node_modules test/lts/node_modules

# Installs only when the lock file is newer than what is installed.
node_modules/.package-lock.json: package-lock.json | node
	@$(NPM) ci --no-fund --no-audit --loglevel=error >/dev/null
	@touch $@

node:
	@command -v $(NODE) >/dev/null 2>&1 || { \
	  echo "make: Node is not installed: install Node 20.19 or newer (Debian 13: apt install nodejs npm; elsewhere: https://nodejs.org)" >&2; exit 1; }
	@$(NODE) -e 'var v = process.versions.node.split("."); if (+v[0] < 20 || (+v[0] === 20 && +v[1] < 19)) { console.error("make: Node " + process.versions.node + " is too old: install 20.19 or newer (https://nodejs.org)"); process.exit(1) }'
	@command -v $(NPM) >/dev/null 2>&1 || { \
	  echo "make: npm is not installed: install it beside Node (Debian: apt install npm)" >&2; exit 1; }
