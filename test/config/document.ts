import { CLIENT_KEYS, type DocumentedKey, GATEWAY_ENVIRONMENT, GATEWAY_KEYS } from '../../src/config/index.ts'

/** docs/CONFIGURATION.md as the schemas say it. */
export function configurationDocument(): string {
  return `# Configuration

A flag wins over the environment, that over the file, that over the default. Unknown keys are errors that name the nearest
known one and its line. A file that others can write, or that neither root nor you own, is refused.
\`test/config/document.test.ts\` holds this page to the schemas: \`UPDATE_DOCS=1 npx vitest run test/config/document.test.ts\` writes it anew.

## gateway.toml

Read only with \`blindgate gateway -c gateway.toml\`; SIGHUP reads the grants again.

${table(GATEWAY_KEYS)}

Without any \`[grant.NAME]\` the gateway serves one name, which may have the default route, \`http\` and \`tcp\`, and the ports from 1024
less the gateway's own.

## blindgate.toml

Read by \`blindgate up\` (\`-c FILE\` for another), and again on SIGHUP and whenever it changes. Without \`[[gateway]]\` it uses the one
gateway that this machine has joined.

${table(CLIENT_KEYS)}

## Environment

| variable | as |
|-|-|
| \`BLINDGATE_STATE\` | \`--state\`: the folder of keys and enrolments |
| \`BLINDGATE_LOG_LEVEL\` | \`--log-level\` |
${Object.entries(GATEWAY_ENVIRONMENT)
  .map(([setting, variable]) => `| \`${variable}\` | ${SETTINGS[setting as keyof typeof SETTINGS]} |`)
  .join('\n')}
`
}

const SETTINGS: Record<keyof typeof GATEWAY_ENVIRONMENT, string> = {
  http: '`--http` of `gateway`',
  tunnel: '`--tunnel` of `gateway`',
  admin: '`--admin` of `gateway`',
  ports: '`ports` under `[listen]`',
  address: '`--address` of `gateway`',
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
