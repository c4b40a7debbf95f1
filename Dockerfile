# The program alone: no compiler, no tests, not root. `docker run IMAGE gateway --address HOST:9001`, state in /state.
ARG NODE=node:26.10.0-trixie-slim

FROM ${NODE} AS build
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci --no-fund --no-audit
COPY tsconfig.json tsconfig.build.json ./
COPY src src
RUN npm run --silent build && npm prune --omit=dev --no-fund --no-audit

FROM ${NODE}
WORKDIR /app
COPY --from=build /app/package.json ./
COPY --from=build /app/node_modules node_modules
COPY --from=build /app/dist dist
# A volume mounted on these takes over their owner and mode: a state folder belongs to who uses it, and to nobody else.
RUN ln -s /app/dist/cli/main.js /usr/local/bin/blindgate \
 && install -d -m 0700 -o node -g node /state /invites
USER node
ENV NODE_ENV=production BLINDGATE_STATE=/state
ENTRYPOINT ["blindgate"]
CMD ["--help"]
