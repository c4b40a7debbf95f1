import { CLIENT_KEYS, type DocumentedKey, GATEWAY_ENVIRONMENT, GATEWAY_KEYS } from '../../src/config/index.ts'

/** docs/CONFIGURATION.md as the schemas say it. */
export function configurationDocument(): string {
  return `# Configuration

A flag wins over the environment, that over the file, that over the default. Unknown keys are errors that name the nearest
known one and its line. A file that others can write, or that neither root nor you own, is refused.
\`test/config/document.test.ts\` holds this page to the schemas: \`UPDATE_DOCS=1 npx vitest run test/config/document.test.ts\` writes it anew.

## gateway.toml

Read only with \`blindgate gateway -c gateway.toml\`; SIGHUP reads it again: grants, limits, trusted proxies and what the access
log shows are then in force, and the log names what of the rest needs a restart.

${table(GATEWAY_KEYS.filter(({ table }) => table !== '[route.NAME]'))}

\`[route."app.example.com/api"]\` takes the keys of \`[limits]\`, for that one route; what it leaves out is as in \`[limits]\`. A route
is named as \`status\` writes it: \`default\`, \`default/api\`, \`app.example.com/\`, \`*.example.com/api\`; a host alone is its
route without a path.

Without any \`[grant.NAME]\` the gateway serves one name, which may have the default route, \`http\`, \`https\` and \`tcp\`, and the ports from 1024
less the gateway's own.

## blindgate.toml

Read by \`blindgate up\` (\`-c FILE\` for another), and again on SIGHUP and whenever it changes. Without \`[[gateway]]\` it uses the one
gateway that this machine has joined. Two services that visitors would find at the same place of one gateway are an error.

${table(CLIENT_KEYS)}

## Environment

| variable | as |
|-|-|
| \`BLINDGATE_STATE\` | \`--state\`: the folder of keys and enrolments. When left out \`/var/lib/blindgate\` for root, \`$XDG_STATE_HOME/blindgate\` or \`~/.local/state/blindgate\` for others |
| \`BLINDGATE_LOG_LEVEL\` | \`--log-level\` |
${Object.entries(GATEWAY_ENVIRONMENT)
  .map(([setting, variable]) => `| \`${variable}\` | ${SETTINGS[setting as keyof typeof SETTINGS]} |`)
  .join('\n')}
`
}

const SETTINGS: Record<keyof typeof GATEWAY_ENVIRONMENT, string> = {
  http: '`--http` of `gateway`',
  tls: '`--tls` of `gateway`',
  tunnel: '`--tunnel` of `gateway`',
  admin: '`--admin` of `gateway`',
  ports: '`ports` under `[listen]`',
  address: '`--address` of `gateway`',
  domain: '`--domain` of `gateway`',
  accessLog: '`--access-log` of `gateway`',
  workers: '`--workers` of `gateway`',
  memory: '`memory`',
  drain: '`--drain`, on either side',
  hold: '`hold`',
}

function table(keys: readonly DocumentedKey[]): string {
  const rows = keys.map(
    ({ table, key, description, example }) => `| ${table} | \`${key} = ${example}\` | ${description} |`,
  )
  return ['| table | key | |', '|-|-|-|', ...rows].join('\n')
}
